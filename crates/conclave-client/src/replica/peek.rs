//! Looking at a replica for a moment, from a program that must be quick and change nothing.

use super::items::{CLAIM, standing};
use crate::claim::Standing;
use conclave_proto::id::LogId;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use std::path::Path;
use std::time::Duration;

/// How long it waits for who is writing.
const BUSY: Duration = Duration::from_millis(200);

/// What a replica knows of claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// The claims that stand, lapsed ones included.
    pub claims: Vec<(LogId, Standing)>,
    /// How far the server's clock is ahead of this machine's, in milliseconds.
    pub clock_ahead: i64,
}

/// Reads the claims that a replica knows; opens it read-only and makes nothing.
///
/// # Errors
/// SQLite's, also where the replica is of an older form or does not exist.
pub fn claims(path: &Path) -> Result<Peek, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    let sql = format!("SELECT {CLAIM}, log FROM claim ORDER BY log, resource");
    let mut query = db.prepare(&sql)?;
    let mut rows = query.query([])?;
    let mut claims = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(log) = LogId::from_slice(row.get_ref(8)?.as_blob()?) {
            claims.push((log, standing(row)?));
        }
    }
    let ahead = db
        .query_row("SELECT ahead FROM clock WHERE n = 1", [], |r| r.get(0))
        .optional()?;
    Ok(Peek {
        claims,
        clock_ahead: ahead.unwrap_or_default(),
    })
}
