//! Permission requests that came to a mailbox, whoever of this machine received them.

use super::history::{COLUMNS, read};
use super::{Replica, ReplicaError, int};
use crate::book::Verified;
use conclave_proto::entry::Kind;
use conclave_proto::id::LogId;
use conclave_proto::time::UnixMs;
use rusqlite::params;

/// The most entries that are looked at.
const LOOK_MAX: u32 = 512;

impl Replica {
    /// Returns what came to a mailbox since `since` and is no message, newest first.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn papers(
        &self,
        log: LogId,
        since: UnixMs,
    ) -> Result<Vec<Verified>, ReplicaError> {
        self.call(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM message WHERE log = ?1 AND kind = ?2 AND at >= ?3
                 ORDER BY seq DESC LIMIT ?4"
            );
            let mut query = db.prepare_cached(&sql)?;
            let kind = Kind::Receipt.number();
            let given = params![log.to_bytes(), kind, int(since.0), LOOK_MAX];
            let rows = query.query_map(given, read)?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }
}
