//! State items that this machine cannot read, and what lies between those of a claim that it did read.
//!
//! The server goes by the newest entry of a slot, whoever can read it; so who bids for a slot must know of
//! it. Only headers are here.

use super::{Replica, ReplicaError, int, uint};
use crate::book::{Unreadable, Verified};
use crate::claim::rule::CLAIM_PREFIX;
use conclave_proto::entry::Route;
use conclave_proto::id::{LogId, SlotId};
use conclave_proto::time::UnixMs;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashSet;

/// The newest entry of a slot, where this machine cannot read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shut {
    /// Its place.
    pub seq: u64,
    /// When the server stored it.
    pub at: UnixMs,
    /// Which session wrote it.
    pub sender: String,
}

/// Keeps what the header of one says.
pub(super) fn put(db: &Connection, log: LogId, item: &Unreadable) -> Result<(), rusqlite::Error> {
    db.prepare_cached(
        "INSERT INTO unreadable VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET seq = excluded.seq, at = excluded.at, sender = excluded.sender
         WHERE excluded.seq > seq",
    )?
    .execute(params![
        log.to_bytes(),
        item.slot.as_bytes(),
        int(item.seq),
        int(item.at.0),
        item.sender.to_string(),
    ])
    .map(drop)
}

/// Returns what this machine cannot read in a slot, if it is newer than a version.
pub(super) fn above(
    db: &Connection,
    log: LogId,
    slot: &SlotId,
    version: u64,
) -> Result<Option<Shut>, rusqlite::Error> {
    db.prepare_cached(
        "SELECT seq, at, sender FROM unreadable WHERE log = ?1 AND slot = ?2 AND seq > ?3",
    )?
    .query_row(
        params![log.to_bytes(), slot.as_bytes(), int(version)],
        |r| {
            Ok(Shut {
                seq: uint(r.get(0)?),
                at: UnixMs(uint(r.get(1)?)),
                sender: r.get(2)?,
            })
        },
    )
    .optional()
}

impl Replica {
    /// Keeps what the headers of items say that cannot be read.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn keep_unreadable(
        &self,
        log: LogId,
        items: Vec<Unreadable>,
    ) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            for item in &items {
                put(&tx, log, item)?;
            }
            tx.commit()
        })
        .await
    }

    /// Returns the parts of a log that lie between what is known of claims and these entries of their
    /// slots, where the entries build on something else than what is known: exclusive places.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn claim_holes(
        &self,
        log: LogId,
        found: &[Verified],
        unreadable: &[Unreadable],
    ) -> Result<Vec<(u64, u64)>, ReplicaError> {
        let found = found.iter().filter_map(|m| match m.route {
            Route::State(slot, expected) => Some((m.seq, slot, expected)),
            _ => None,
        });
        let closed = unreadable.iter().map(|u| (u.seq, u.slot, u.expected));
        let mut all: Vec<_> = found.chain(closed).collect();
        all.sort_unstable_by_key(|(seq, ..)| *seq);
        let mut slots = HashSet::new();
        all.retain(|(_, slot, _)| slots.insert(*slot));
        if all.is_empty() {
            return Ok(Vec::new());
        }
        self.call(move |db| {
            let mut query = db.prepare_cached(
                "SELECT s.seq FROM state s WHERE s.log = ?1 AND s.slot = ?2 AND s.seq < ?3
                   AND substr(s.key, 1, length(?4)) = ?4 AND NOT EXISTS
                   (SELECT 1 FROM unreadable u WHERE u.log = s.log AND u.slot = s.slot AND u.seq >= ?3)",
            )?;
            let mut holes = Vec::new();
            for (seq, slot, expected) in all {
                let place = params![log.to_bytes(), slot.as_bytes(), int(seq), CLAIM_PREFIX];
                let known: Option<i64> = query.query_row(place, |r| r.get(0)).optional()?;
                let known = known.map(uint);
                holes.extend(known.filter(|known| *known != expected).map(|known| (known, seq)));
            }
            Ok(holes)
        })
        .await
    }
}
