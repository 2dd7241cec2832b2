//! A machine's own keys on one server: what signs its messages, and what opens what is sealed to it.
//!
//! Random and never derived from each other, one set per machine and server, so that no server sees a
//! signature that another one could use. The signing key stays; encryption keys come in generations, a
//! new one every week, and old ones are forgotten (SECURITY 2.2). The keys that outlive a machine are in
//! [`crate::owner`].

use crate::home::{Home, HomeError};
pub use conclave_e2ee::EncryptionSecret;
use conclave_proto::id::{ServerId, from_text, to_text};
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::Zeroizing;

const SIGNING_FILE: &str = "machine.key";
const ENCRYPTION_FILE: &str = "encryption.keys";
const LOCK_FILE: &str = "encryption.lock";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How old an encryption key gets before the next one is made.
pub const RENEW_MS: u64 = 7 * DAY_MS;
/// How long a key is kept after the next one was announced: what was sealed to it must have come.
pub const KEEP_MS: u64 = 14 * DAY_MS;
/// For how long a key may be sealed to, once announced.
pub const VALID_MS: u64 = 30 * DAY_MS;

/// One encryption key of this machine.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Its number; 0 stands in the identity record, later ones are announced.
    pub number: u32,
    /// The key.
    pub secret: EncryptionSecret,
    /// When it was made.
    pub since: UnixMs,
    /// Since when the server has it; `None` if it was not told yet.
    pub announced: Option<UnixMs>,
}

/// The keys of this machine on one server.
#[derive(Clone, Debug)]
pub struct MachineKeys {
    /// Signs handshakes, envelopes and control records.
    pub signing: Secret,
    /// Open what is sealed to this machine; ascending, at least one.
    pub encryption: Vec<Generation>,
}

impl MachineKeys {
    /// Draws fresh keys, which are nowhere yet but in memory.
    ///
    /// # Errors
    /// [`HomeError::Random`].
    pub fn generate() -> Result<Self, HomeError> {
        let now = crate::link::wall();
        Ok(Self {
            signing: Secret::from_seed(&*random_seed()?),
            encryption: vec![Generation {
                number: 0,
                secret: EncryptionSecret::from_seed(&*random_seed()?),
                since: now,
                announced: Some(now),
            }],
        })
    }

    /// Returns the newest encryption key's public half.
    #[must_use]
    pub fn encryption_key(&self) -> EncryptionKey {
        let newest = self.encryption.last().map(|key| key.secret.public());
        newest.unwrap_or(EncryptionKey::new([0; 32]))
    }

    /// Draws fresh keys and stores them.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn create(home: &Home, server: &ServerId) -> Result<Self, HomeError> {
        let keys = Self::generate()?;
        keys.store(home, server)?;
        Ok(keys)
    }

    /// Stores the keys, in place of any older ones.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn store(&self, home: &Home, server: &ServerId) -> Result<(), HomeError> {
        let dir = home.server_dir(server);
        write_generations(home, &dir.join(ENCRYPTION_FILE), &self.encryption)?;
        home.write_private(&dir.join(SIGNING_FILE), &*self.signing.seed())
    }

    /// Reads the keys; `None` if this machine has none on the server.
    ///
    /// # Errors
    /// [`HomeError`], also if there is only one of the two files.
    pub fn load(home: &Home, server: &ServerId) -> Result<Option<Self>, HomeError> {
        let dir = home.server_dir(server);
        let path = dir.join(SIGNING_FILE);
        let Some(signing) = read_seed(home, &path)? else {
            return Ok(None);
        };
        let path = dir.join(ENCRYPTION_FILE);
        let Some(encryption) = read_generations(home, &path)? else {
            let why = "it is missing beside machine.key".to_owned();
            return Err(HomeError::Damaged { path, why });
        };
        Ok(Some(Self {
            signing: Secret::from_seed(&signing),
            encryption,
        }))
    }

    /// Reads the encryption keys, makes the next one if it is time, and forgets those that nothing is
    /// sealed to any more. Processes of the machine take turns.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn renew(
        home: &Home,
        server: &ServerId,
        now: UnixMs,
    ) -> Result<Vec<Generation>, HomeError> {
        change(home, server, |keys| {
            let newest = keys
                .last()
                .map(|key| (key.number, key.since, key.announced));
            let mut changed = false;
            if let Some((number, since, Some(_))) = newest
                && now >= since.plus(RENEW_MS)
            {
                keys.push(Generation {
                    number: number + 1,
                    secret: EncryptionSecret::from_seed(&*random_seed()?),
                    since: now,
                    announced: None,
                });
                changed = true;
            }
            let over = |next: &Generation| {
                let announced = next.announced;
                announced.is_some_and(|at| now >= at.plus(KEEP_MS))
            };
            while keys.get(1).is_some_and(over) {
                keys.remove(0);
                changed = true;
            }
            Ok(changed)
        })
    }

    /// Notes that the server has a generation.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn announced(
        home: &Home,
        server: &ServerId,
        number: u32,
        now: UnixMs,
    ) -> Result<(), HomeError> {
        change(home, server, |keys| {
            let found = keys.iter_mut().find(|key| key.number == number);
            let fresh = found.filter(|key| key.announced.is_none());
            Ok(fresh.map(|key| key.announced = Some(now)).is_some())
        })
        .map(drop)
    }
}

/// Changes the encryption keys under a lock that other processes of this machine respect.
fn change(
    home: &Home,
    server: &ServerId,
    edit: impl FnOnce(&mut Vec<Generation>) -> Result<bool, HomeError>,
) -> Result<Vec<Generation>, HomeError> {
    let dir = home.server_dir(server);
    let _lock = home.lock(&dir.join(LOCK_FILE))?;
    let path = dir.join(ENCRYPTION_FILE);
    let mut keys = read_generations(home, &path)?.ok_or_else(|| HomeError::Damaged {
        path: path.clone(),
        why: "it is missing beside machine.key".to_owned(),
    })?;
    if edit(&mut keys)? {
        write_generations(home, &path, &keys)?;
    }
    Ok(keys)
}

#[derive(Serialize, Deserialize)]
struct File {
    key: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    generation: u32,
    secret: String,
    since: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    announced: Option<u64>,
}

impl Drop for Row {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

fn write_generations(home: &Home, path: &Path, keys: &[Generation]) -> Result<(), HomeError> {
    let row = |key: &Generation| Row {
        generation: key.number,
        secret: to_text(&*key.secret.seed()),
        since: key.since.0,
        announced: key.announced.map(|at| at.0),
    };
    let file = File {
        key: keys.iter().map(row).collect(),
    };
    let text = toml::to_string(&file).map_err(|e| damaged(path, e.to_string()))?;
    home.write_private(path, Zeroizing::new(text).as_bytes())
}

fn read_generations(home: &Home, path: &Path) -> Result<Option<Vec<Generation>>, HomeError> {
    let Some(bytes) = home.read_private(path)? else {
        return Ok(None);
    };
    let bad = || damaged(path, "it holds no encryption keys".to_owned());
    let text = std::str::from_utf8(&bytes).map_err(|_| bad())?;
    let file: File = toml::from_str(text).map_err(|_| bad())?;
    let mut keys = Vec::new();
    for row in &file.key {
        let seed = from_text(&row.secret).map(Zeroizing::new).ok_or_else(bad)?;
        let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| bad())?;
        keys.push(Generation {
            number: row.generation,
            secret: EncryptionSecret::from_seed(seed),
            since: UnixMs(row.since),
            announced: row.announced.map(UnixMs),
        });
    }
    let ascending = keys.is_sorted_by(|a: &Generation, b| a.number < b.number);
    if keys.is_empty() || !ascending {
        return Err(bad());
    }
    Ok(Some(keys))
}

fn damaged(path: &Path, why: String) -> HomeError {
    HomeError::Damaged {
        path: path.to_owned(),
        why,
    }
}

/// Draws 32 bytes from the system generator.
pub(crate) fn random_seed() -> Result<Zeroizing<[u8; 32]>, HomeError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)?;
    Ok(seed)
}

fn read_seed(home: &Home, path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, HomeError> {
    let Some(bytes) = home.read_private(path)? else {
        return Ok(None);
    };
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(seed) => Ok(Some(Zeroizing::new(seed))),
        Err(_) => Err(HomeError::Damaged {
            path: path.to_owned(),
            why: format!("a key has 32 bytes, this file has {}", bytes.len()),
        }),
    }
}
