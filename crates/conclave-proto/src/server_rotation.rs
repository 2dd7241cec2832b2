//! The announcement of a new server key, signed by the old one (SECURITY D.4).
//!
//! `[1, "server_rotate", server, old, new, ts]`. The server id stays that of the first key, so a
//! client follows a chain of these from the key it pinned; it never takes a new key otherwise.

use crate::canonical::{Item, Reader, VERSION, Writer, exact};
use crate::id::{Blob, ServerId};
use crate::key::{Secret, ServerKey, label};
use crate::record::Record;
use crate::time::UnixMs;

const WORD: &str = "server_rotate";

/// A verified change of a server's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerRotation {
    /// Which server.
    pub server: ServerId,
    /// The key that ends, and signs.
    pub old: ServerKey,
    /// The key that counts from now on.
    pub new: ServerKey,
    /// When, by the server's clock.
    pub ts: UnixMs,
}

/// A record that is no rotation of the pinned key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid rotation of the known server key")]
pub struct BadRotation;

impl ServerRotation {
    /// Signs a rotation with the old key.
    #[must_use]
    pub fn sign(server: ServerId, old: &Secret, new: ServerKey, ts: UnixMs) -> Record {
        let rotation = Self {
            server,
            old: old.server_key(),
            new,
            ts,
        };
        Record::sign(label::SERVER_ROTATE, &rotation.encode(), old)
    }

    /// Reads a rotation of `server` away from `pinned`.
    ///
    /// # Errors
    /// [`BadRotation`].
    pub fn verify(rec: &Blob, server: &ServerId, pinned: &ServerKey) -> Result<Self, BadRotation> {
        let rotation = Self::read(rec)?;
        let known = rotation.server == *server && rotation.old == *pinned;
        known.then_some(rotation).ok_or(BadRotation)
    }

    /// Reads a rotation that the key it ends has signed, whosever key that is.
    ///
    /// # Errors
    /// [`BadRotation`].
    pub fn read(rec: &Blob) -> Result<Self, BadRotation> {
        let record = Record::parse(rec).map_err(|_| BadRotation)?;
        let rotation = exact(record.body(), Self::take, Self::encode).ok_or(BadRotation)?;
        if rotation.new == rotation.old {
            return Err(BadRotation);
        }
        record
            .verify(label::SERVER_ROTATE, &rotation.old)
            .map_err(|_| BadRotation)?;
        Ok(rotation)
    }

    fn encode(&self) -> Vec<u8> {
        Writer::array(|w| {
            VERSION.put(w);
            w.text(WORD);
            self.server.put(w);
            self.old.put(w);
            self.new.put(w);
            self.ts.put(w);
        })
    }

    fn take(r: &mut Reader<'_>) -> Option<Self> {
        r.array()?;
        r.item::<u64>().filter(|v| *v == VERSION)?;
        r.text().filter(|word| *word == WORD)?;
        let (server, old, new, ts) = (r.item()?, r.item()?, r.item()?, r.item()?);
        Some(Self {
            server,
            old,
            new,
            ts,
        })
    }
}
