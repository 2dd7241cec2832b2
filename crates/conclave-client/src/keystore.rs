//! A machine's own keys on one server: what signs its messages, and what opens what is sealed to it.
//!
//! One pair per machine and server, random and never derived from each other, so that no server sees
//! a signature that another one could use. The keys that outlive a machine are in [`crate::owner`].

use crate::home::{Home, HomeError};
use conclave_proto::id::ServerId;
use conclave_proto::key::{EncryptionKey, Secret};
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

const SIGNING_FILE: &str = "machine.key";
const ENCRYPTION_FILE: &str = "encryption.key";

/// The secret half of a machine's X25519 key. Wiped on drop, never printed.
#[derive(Clone)]
pub struct EncryptionSecret(x25519_dalek::StaticSecret);

impl EncryptionSecret {
    /// Makes the key of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(x25519_dalek::StaticSecret::from(*seed))
    }

    /// Returns the public half.
    #[must_use]
    pub fn public(&self) -> EncryptionKey {
        EncryptionKey::new(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }
}

impl fmt::Debug for EncryptionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionSecret(…)")
    }
}

/// The keys of this machine on one server.
#[derive(Clone, Debug)]
pub struct MachineKeys {
    /// Signs handshakes, envelopes and control records.
    pub signing: Secret,
    /// Opens what is sealed to this machine.
    pub encryption: EncryptionSecret,
}

impl MachineKeys {
    /// Draws fresh keys, which are nowhere yet but in memory.
    ///
    /// # Errors
    /// [`HomeError::Random`].
    pub fn generate() -> Result<Self, HomeError> {
        Ok(Self {
            signing: Secret::from_seed(&*random_seed()?),
            encryption: EncryptionSecret::from_seed(&*random_seed()?),
        })
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
        let encryption = Zeroizing::new(self.encryption.0.to_bytes());
        home.write_private(&dir.join(ENCRYPTION_FILE), &*encryption)?;
        home.write_private(&dir.join(SIGNING_FILE), &*self.signing.seed())
    }

    /// Reads the keys; `None` if this machine has none on the server.
    ///
    /// # Errors
    /// [`HomeError`], also if there is only one of the two.
    pub fn load(home: &Home, server: &ServerId) -> Result<Option<Self>, HomeError> {
        let dir = home.server_dir(server);
        let path = dir.join(SIGNING_FILE);
        let Some(signing) = read_seed(home, &path)? else {
            return Ok(None);
        };
        let path = dir.join(ENCRYPTION_FILE);
        let Some(encryption) = read_seed(home, &path)? else {
            let why = "it is missing beside machine.key".to_owned();
            return Err(HomeError::Damaged { path, why });
        };
        Ok(Some(Self {
            signing: Secret::from_seed(&signing),
            encryption: EncryptionSecret::from_seed(&encryption),
        }))
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
