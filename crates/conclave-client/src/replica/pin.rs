//! Pins that a person changes: a name was compared, or its new user is accepted.

use super::{Replica, ReplicaError};
use conclave_proto::id::UserId;
use conclave_proto::name::Name;
use rusqlite::params;

impl Replica {
    /// Marks a name as compared, if it is still pinned to `id`; an alarm ends with that. Returns
    /// whether it was.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn set_verified(&self, name: Name, id: UserId) -> Result<bool, ReplicaError> {
        self.call(move |db| {
            db.prepare_cached(
                "UPDATE name SET verified = 1, changed = 0 WHERE name = ?1 AND user = ?2",
            )?
            .execute(params![name.as_str(), id.as_bytes()])
            .map(|rows| rows > 0)
        })
        .await
    }

    /// Takes the mark back: somebody compared and the numbers were not the same.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn unset_verified(&self, name: Name) -> Result<(), ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("UPDATE name SET verified = 0 WHERE name = ?1")?
                .execute([name.as_str()])
                .map(drop)
        })
        .await
    }

    /// Pins a name to another user, who nobody compared yet.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn replace_pin(&self, name: Name, id: UserId) -> Result<(), ReplicaError> {
        self.call(move |db| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO name (name, user, verified, changed) VALUES (?1, ?2, 0, 0)",
            )?
            .execute(params![name.as_str(), id.as_bytes()])
            .map(drop)
        })
        .await
    }
}
