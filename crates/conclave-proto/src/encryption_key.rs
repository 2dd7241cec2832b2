//! Announcements of encryption keys: which X25519 key opens what is sealed to a machine or owner key.
//!
//! `[1, "encryption_key", server, kind, holder, gen, key, not_after]`, signed by the holder's own
//! Ed25519 key (SECURITY 2.2). A machine's first key stands in its identity record and is generation 0;
//! it announces the next one every week and forgets old ones. An owner key has one for ever, derived
//! from its seed: what is sealed to it is how a paper key brings old messages back.

use crate::canonical::{Item, Reader, VERSION, Writer, exact};
use crate::channel_log::SignerKey;
use crate::id::{Blob, ServerId};
use crate::key::{EncryptionKey, HolderKey, Secret, label};
use crate::record::Record;
use crate::time::UnixMs;

const WORD: &str = "encryption_key";

/// An encryption key, as its holder announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// On which server.
    pub server: ServerId,
    /// Whose it is, and who signs.
    pub holder: SignerKey,
    /// Counts the holder's keys; machines start with 1, owner keys have 0 only.
    pub generation: u32,
    /// The key.
    pub key: EncryptionKey,
    /// Nothing is sealed to it after this time.
    pub not_after: UnixMs,
}

/// A record that announces no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid announcement of an encryption key")]
pub struct BadAnnouncement;

impl Announcement {
    /// Signs with the key of the machine that holds it.
    #[must_use]
    pub fn sign_machine(
        server: ServerId,
        machine: &Secret,
        generation: u32,
        key: EncryptionKey,
        not_after: UnixMs,
    ) -> Record {
        let holder = SignerKey::Machine(machine.machine_key());
        let announcement = Self {
            server,
            holder,
            generation,
            key,
            not_after,
        };
        Record::sign(label::ENCRYPTION_KEY, &announcement.encode(), machine)
    }

    /// Signs with the owner key that holds it; for ever.
    #[must_use]
    pub fn sign_owner(server: ServerId, owner: &Secret, key: EncryptionKey) -> Record {
        let holder = SignerKey::Owner(owner.owner_key());
        let announcement = Self {
            server,
            holder,
            generation: 0,
            key,
            not_after: UnixMs(u64::MAX),
        };
        Record::sign(label::ENCRYPTION_KEY, &announcement.encode(), owner)
    }

    /// Reads an announcement and checks that its holder signed it. Whose machine or owner key that is,
    /// and whether it still counts, is the identity log's to say.
    ///
    /// # Errors
    /// [`BadAnnouncement`].
    pub fn read(rec: &Blob) -> Result<Self, BadAnnouncement> {
        let record = Record::parse(rec).map_err(|_| BadAnnouncement)?;
        let read = exact(record.body(), Self::take, Self::encode).ok_or(BadAnnouncement)?;
        let first = match &read.holder {
            SignerKey::Machine(_) => read.generation > 0,
            SignerKey::Owner(_) => read.generation == 0,
        };
        let signed = match &read.holder {
            SignerKey::Machine(key) => record.verify(label::ENCRYPTION_KEY, key),
            SignerKey::Owner(key) => record.verify(label::ENCRYPTION_KEY, key),
        };
        match (first, signed) {
            (true, Ok(())) => Ok(read),
            _ => Err(BadAnnouncement),
        }
    }

    /// Returns the holder as wraps name it.
    #[must_use]
    pub const fn holder_key(&self) -> HolderKey {
        match &self.holder {
            SignerKey::Machine(key) => HolderKey::new(*key.as_bytes()),
            SignerKey::Owner(key) => HolderKey::new(*key.as_bytes()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        Writer::array(|w| {
            VERSION.put(w);
            w.text(WORD);
            self.server.put(w);
            self.holder.put(w);
            self.generation.put(w);
            self.key.put(w);
            self.not_after.put(w);
        })
    }

    fn take(r: &mut Reader<'_>) -> Option<Self> {
        r.array()?;
        r.item::<u64>().filter(|v| *v == VERSION)?;
        r.text().filter(|word| *word == WORD)?;
        let (server, holder, generation) = (r.item()?, r.item()?, r.item()?);
        let (key, not_after) = (r.item()?, r.item()?);
        Some(Self {
            server,
            holder,
            generation,
            key,
            not_after,
        })
    }
}
