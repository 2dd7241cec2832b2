//! State, claims and memories as they are now, made of the entries that were verified.
//!
//! Of a slot the highest place counts, in whatever order entries come. Everything here is derived: the
//! entries themselves lie among the messages.

use super::unreadable::{self, Shut};
use super::{Replica, ReplicaError, blob, int, uint, user};
use crate::book::Verified;
use crate::claim::rule::{Bid, CLAIM_PREFIX, ClaimValue, TTL_MS_MIN, succeed};
use crate::claim::{Resource, Standing};
use conclave_proto::channel_log::{CtlBody, ParsedCtl};
use conclave_proto::entry::Route;
use conclave_proto::id::{LogId, MsgId, SlotId, UserId};
use conclave_proto::time::UnixMs;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

/// The newest entry of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotEntry {
    /// Its place, which is the slot's version.
    pub seq: u64,
    /// When the server stored it.
    pub at: UnixMs,
    /// Which session wrote it.
    pub sender: String,
    /// Whose that is.
    pub user: UserId,
    /// The key.
    pub key: String,
    /// The value; none: deleted.
    pub value: Option<String>,
}

/// What is known of a log's claims at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Those that stand, by resource.
    pub standing: Vec<Standing>,
    /// The version of the slot that was asked for, as far as it was read.
    pub version: u64,
    /// What is newer there and cannot be read.
    pub shut: Option<Shut>,
}

/// Takes what an entry that was just inserted does to state, claims and memories. `whole`: every entry
/// before it was seen.
pub(super) fn apply(db: &Connection, m: &Verified, whole: bool) -> Result<(), rusqlite::Error> {
    match &m.route {
        Route::State(slot, expected) => apply_state(db, m, slot, *expected, whole),
        Route::Memory(item, 0) => put_memory(db, m, item),
        Route::Memory(item, _) => retract(db, m, item),
        Route::Everyone | Route::Whisper(_) | Route::Receipt(_) | Route::Profile => Ok(()),
    }
}

fn apply_state(
    db: &Connection,
    m: &Verified,
    slot: &SlotId,
    expected: u64,
    whole: bool,
) -> Result<(), rusqlite::Error> {
    let (log, slot) = (m.log.to_bytes(), slot.as_bytes());
    let known: Option<i64> = db
        .prepare_cached("SELECT seq FROM state WHERE log = ?1 AND slot = ?2")?
        .query_row(params![log, slot], |r| r.get(0))
        .optional()?;
    let known = known.map_or(0, uint);
    let key = m.body.key.as_deref().unwrap_or_default();
    if known >= m.seq {
        return Ok(());
    }
    db.prepare_cached("INSERT OR REPLACE INTO state VALUES (?1,?2,?3,?4,?5,?6,?7,?8)")?
        .execute(params![
            log,
            slot,
            int(m.seq),
            int(m.at.0),
            m.sender.to_string(),
            m.user.as_bytes(),
            key,
            m.body.data,
        ])?;
    let Some(resource) = key.strip_prefix(CLAIM_PREFIX) else {
        return Ok(());
    };
    let before = db
        .prepare_cached(&format!(
            "SELECT {CLAIM} FROM claim WHERE log = ?1 AND slot = ?2"
        ))?
        .query_row(params![log, slot], standing)
        .optional()?;
    let value: Option<ClaimValue> = match &m.body.data {
        None => None,
        // What is no claim changes nothing.
        Some(data) => match serde_json::from_str(data) {
            Ok(value) if is_fit(resource, &value) => Some(value),
            Ok(_) | Err(_) => return Ok(()),
        },
    };
    let sender = m.sender.to_string();
    let left = match &before {
        Some(claim) => has_left(db, m.log, &claim.user, (claim.version, m.seq))?,
        None => false,
    };
    let bid = Bid {
        resource,
        seq: m.seq,
        at: m.at,
        // Where nothing before it was missed it cannot build on something else.
        expected: if whole && expected != u64::MAX {
            known
        } else {
            expected
        },
        sender: &sender,
        user: m.user,
        value: value.as_ref(),
        left,
    };
    match succeed(before, known, bid) {
        None => db
            .prepare_cached("DELETE FROM claim WHERE log = ?1 AND slot = ?2")?
            .execute(params![log, slot]),
        Some(claim) => db
            .prepare_cached("INSERT OR REPLACE INTO claim VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)")?
            .execute(params![
                log,
                slot,
                claim.resource,
                claim.holder,
                claim.user.as_bytes(),
                int(claim.token),
                int(claim.version),
                int(claim.at.0),
                int(claim.ttl_ms),
                claim.note,
            ]),
    }
    .map(drop)
}

/// Only the one form of a resource is a claim on it: else there would be two slots for one thing.
fn is_fit(resource: &str, value: &ClaimValue) -> bool {
    value.ttl_ms >= TTL_MS_MIN
        && Resource::parse(resource).is_ok_and(|parsed| parsed.to_string() == resource)
}

fn put_memory(db: &Connection, m: &Verified, item: &MsgId) -> Result<(), rusqlite::Error> {
    let (log, text) = (m.log.to_bytes(), m.body.text.as_deref().unwrap_or_default());
    let gone = db
        .prepare_cached(
            "SELECT 1 FROM memory_gone WHERE log = ?1 AND item = ?2 AND (user = ?3 OR by_admin)",
        )?
        .exists(params![log, item.as_bytes(), m.user.as_bytes()])?;
    if gone {
        return blank(db, m.log, item);
    }
    let tags = serde_json::to_string(&m.body.tags).unwrap_or_else(|_| "[]".into());
    db.prepare_cached(
        "INSERT OR IGNORE INTO memory (log, item, seq, at, sender, user, text, tags)
         VALUES (?1,?2,?3,?4,?5,?6,?7,?8)",
    )?
    .execute(params![
        log,
        item.as_bytes(),
        int(m.seq),
        int(m.at.0),
        m.sender.to_string(),
        m.user.as_bytes(),
        text,
        tags,
    ])
    .map(drop)
}

/// Takes a memory back, whenever it comes: by its author, or by who was an admin of the channel then.
fn retract(db: &Connection, m: &Verified, item: &MsgId) -> Result<(), rusqlite::Error> {
    let (log, id) = (m.log.to_bytes(), item.as_bytes());
    db.prepare_cached(
        "INSERT INTO memory_gone VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET by_admin = max(by_admin, excluded.by_admin)",
    )?
    .execute(params![log, id, m.user.as_bytes(), m.by_admin])?;
    let gone = db
        .prepare_cached("DELETE FROM memory WHERE log = ?1 AND item = ?2 AND (user = ?3 OR ?4)")?
        .execute(params![log, id, m.user.as_bytes(), m.by_admin])?;
    match gone {
        0 => Ok(()),
        _ => blank(db, m.log, item),
    }
}

/// Takes the words of a memory off the disk; its place and hash stay.
fn blank(db: &Connection, log: LogId, item: &MsgId) -> Result<(), rusqlite::Error> {
    db.prepare_cached("UPDATE message SET body = x'A0' WHERE log = ?1 AND id = ?2")?
        .execute(params![log.to_bytes(), item.as_bytes()])
        .map(drop)
}

/// Returns whether a user stopped being a member between two places, as far as the control records here
/// tell: whichever way they came, and however often the user came back.
fn has_left(
    db: &Connection,
    log: LogId,
    who: &UserId,
    (after, before): (u64, u64),
) -> Result<bool, rusqlite::Error> {
    let mut query =
        db.prepare_cached("SELECT rec FROM ctl WHERE log = ?1 AND seq > ?2 AND seq < ?3")?;
    let mut rows = query.query(params![log.to_bytes(), int(after), int(before)])?;
    while let Some(row) = rows.next()? {
        let rec = ParsedCtl::parse(&blob(row.get(0)?));
        if rec.is_ok_and(|rec| matches!(&rec.body, CtlBody::Remove { user, .. } if user == who)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether all items of a log up to a place are here.
pub(super) fn is_whole(db: &Connection, log: LogId, upto: u64) -> Result<bool, rusqlite::Error> {
    db.prepare_cached("SELECT 1 FROM items_held WHERE log = ?1 AND seq >= ?2")?
        .exists(params![log.to_bytes(), int(upto)])
}

/// Moves the mark on up to which all items are here.
pub(super) fn mark(db: &Connection, log: LogId, seq: u64) -> Result<(), rusqlite::Error> {
    db.prepare_cached(
        "INSERT INTO items_held VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
    )?
    .execute(params![log.to_bytes(), int(seq)])
    .map(drop)
}

pub(super) const CLAIM: &str = "resource, holder, user, token, version, at, ttl_ms, note";
const STATE: &str = "seq, at, sender, user, key, value";

pub(super) fn standing(r: &Row<'_>) -> Result<Standing, rusqlite::Error> {
    Ok(Standing {
        resource: r.get(0)?,
        holder: r.get(1)?,
        user: user(r.get(2)?),
        token: uint(r.get(3)?),
        version: uint(r.get(4)?),
        at: UnixMs(uint(r.get(5)?)),
        ttl_ms: uint(r.get(6)?),
        note: r.get(7)?,
    })
}

fn slot_entry(r: &Row<'_>) -> Result<SlotEntry, rusqlite::Error> {
    Ok(SlotEntry {
        seq: uint(r.get(0)?),
        at: UnixMs(uint(r.get(1)?)),
        sender: r.get(2)?,
        user: user(r.get(3)?),
        key: r.get(4)?,
        value: r.get(5)?,
    })
}

impl Replica {
    /// Returns up to where all items of a log are here; `None`: nobody looked yet.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn items_held(&self, log: LogId) -> Result<Option<u64>, ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("SELECT seq FROM items_held WHERE log = ?1")?
                .query_row([log.to_bytes()], |r| r.get(0))
                .optional()
                .map(|seq| seq.map(uint))
        })
        .await
    }

    /// Notes that all items of a log up to a place are here.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn mark_items(&self, log: LogId, seq: u64) -> Result<(), ReplicaError> {
        self.call(move |db| mark(db, log, seq)).await
    }

    /// Returns the newest entry of a slot, deleted or not.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn slot(&self, log: LogId, slot: SlotId) -> Result<Option<SlotEntry>, ReplicaError> {
        self.call(move |db| {
            db.prepare_cached(&format!(
                "SELECT {STATE} FROM state WHERE log = ?1 AND slot = ?2"
            ))?
            .query_row(params![log.to_bytes(), slot.as_bytes()], slot_entry)
            .optional()
        })
        .await
    }

    /// Returns the state items whose keys begin with `prefix`, by key; no deleted ones, no claims.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn states(&self, log: LogId, prefix: String) -> Result<Vec<SlotEntry>, ReplicaError> {
        self.call(move |db| {
            let mut query = db.prepare_cached(&format!(
                "SELECT {STATE} FROM state WHERE log = ?1 AND value IS NOT NULL
                   AND substr(key, 1, length(?2)) = ?2
                   AND substr(key, 1, length(?3)) <> ?3 ORDER BY key"
            ))?;
            let rows =
                query.query_map(params![log.to_bytes(), prefix, CLAIM_PREFIX], slot_entry)?;
            rows.collect()
        })
        .await
    }

    /// Returns the claims that stand in a log; and what is known of one slot at the same moment, for other
    /// sessions of this machine write here, too. Claims that have lapsed by `now` are left out, but for
    /// that slot's.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn claims(
        &self,
        log: LogId,
        slot: Option<SlotId>,
        now: UnixMs,
    ) -> Result<Claims, ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let bytes = slot.as_ref().map(SlotId::as_bytes);
            let version: Option<i64> = tx
                .prepare_cached("SELECT seq FROM state WHERE log = ?1 AND slot = ?2")?
                .query_row(params![log.to_bytes(), bytes], |r| r.get(0))
                .optional()?;
            let version = version.map_or(0, uint);
            let shut = match &slot {
                Some(slot) => unreadable::above(&tx, log, slot, version)?,
                None => None,
            };
            let mut query = tx.prepare_cached(&format!(
                "SELECT {CLAIM} FROM claim
                 WHERE log = ?1 AND (at + ttl_ms > ?3 OR slot = ?2) ORDER BY resource"
            ))?;
            let rows = query.query_map(params![log.to_bytes(), bytes, int(now.0)], standing)?;
            Ok(Claims {
                standing: rows.collect::<Result<_, _>>()?,
                version,
                shut,
            })
        })
        .await
    }

    /// Returns every claim that stands on this machine's replica, with its log.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn all_claims(&self) -> Result<Vec<(LogId, Standing)>, ReplicaError> {
        self.call(|db| {
            let sql = format!("SELECT {CLAIM}, log FROM claim ORDER BY log, resource");
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map([], |r| {
                let log = LogId::from_slice(r.get_ref(8)?.as_blob()?);
                Ok(log.map(|log| (log, standing(r).ok())))
            })?;
            let mut claims = Vec::new();
            for row in rows {
                if let Some((log, Some(claim))) = row? {
                    claims.push((log, claim));
                }
            }
            Ok(claims)
        })
        .await
    }

    /// Notes how far the server's clock is ahead of this machine's, in milliseconds.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn set_clock(&self, ahead: i64) -> Result<(), ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("INSERT OR REPLACE INTO clock VALUES (1, ?1)")?
                .execute([ahead])
                .map(drop)
        })
        .await
    }

    /// Returns how far the server's clock was ahead of this machine's when they last met.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn clock(&self) -> Result<i64, ReplicaError> {
        self.call(|db| {
            db.prepare_cached("SELECT ahead FROM clock WHERE n = 1")?
                .query_row([], |r| r.get(0))
                .optional()
                .map(Option::unwrap_or_default)
        })
        .await
    }
}
