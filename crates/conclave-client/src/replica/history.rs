//! Messages: kept once, found by place or id, unread by handle.

use super::{
    Begun, Replica, ReplicaError, blob, chain, evidence, int, items, uint, unreadable, user,
};
use crate::book::{Unreadable, Verified};
use conclave_proto::body::{Body, Head};
use conclave_proto::entry::Route;
use conclave_proto::id::{Blob, Hash, LogId, MsgId};
use conclave_proto::key::MachineKey;
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

pub(super) const COLUMNS: &str =
    "log, seq, at, id, sender, user, key, sid, ctr, ts, hop, flags, kind, body, hash, route";

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is new.
    New {
        /// How many of its sender's messages before it never came.
        missing: u64,
    },
    /// It stands in this place already: another session of this machine was first.
    Known,
    /// Its id or counter was used in another place.
    Replayed,
    /// Another message was shown in its place before.
    Forked,
}

/// What a stream brought.
#[derive(Clone, Debug)]
pub enum Kept {
    /// A message, to be kept unless its id or counter was used before.
    Message(Box<Verified>),
    /// A control record: its place, its time, its bytes.
    Ctl(u64, UnixMs, Blob),
    /// A state item that this machine cannot read.
    Unreadable(Box<Unreadable>),
    /// An entry that could not be judged because of something that may still come.
    Skipped,
    /// What was held before a hole is no measure any more: from this place on the log is whole.
    Hole(u64),
}

impl Replica {
    /// Keeps what a stream brought up to `cursor`, all of it or nothing. Tells in the end for each message what
    /// became of it, and whether its sender had seen something else than this machine.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn keep(
        &self,
        handle: Name,
        log: LogId,
        kept: Vec<Kept>,
        cursor: u64,
    ) -> Result<Begun<Vec<(Admitted, bool)>>, ReplicaError> {
        self.begin(move |db| {
            let tx = db.transaction()?;
            let mut admitted = Vec::new();
            let before: Option<i64> = tx
                .prepare_cached("SELECT cursor FROM feed WHERE handle = ?1 AND log = ?2")?
                .query_row(params![handle.as_str(), log.to_bytes()], |r| r.get(0))
                .optional()?;
            // What this feed brings follows what is here: nothing was missed in between.
            let mut whole = match before {
                Some(before) => items::is_whole(&tx, log, uint(before))?,
                None => false,
            };
            for what in &kept {
                match what {
                    Kept::Message(m) => admitted.push((admit(&tx, m, whole)?, forks(&tx, m)?)),
                    Kept::Ctl(seq, at, rec) => chain::put(&tx, log, *seq, *at, rec)?,
                    Kept::Unreadable(item) => unreadable::put(&tx, log, item)?,
                    Kept::Skipped => whole = false,
                    Kept::Hole(first) => {
                        tx.prepare_cached("INSERT OR REPLACE INTO held VALUES (?1, ?2)")?
                            .execute(params![log.to_bytes(), int(*first)])?;
                        whole = false;
                    }
                }
            }
            tx.prepare_cached(
                "UPDATE feed SET cursor = max(cursor, ?3) WHERE handle = ?1 AND log = ?2",
            )?
            .execute(params![handle.as_str(), log.to_bytes(), int(cursor)])?;
            if whole {
                items::mark(&tx, log, cursor)?;
            }
            tx.commit()?;
            Ok(admitted)
        })
        .await
    }

    /// Keeps a message of the past; counters cannot be judged where older ones are not held. Returns
    /// whether this message stands in this place now; if not, it was shown in another one before.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn keep_message(&self, m: Verified) -> Result<bool, ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            let kept = keep_past(&tx, &m)?;
            tx.commit()?;
            Ok(kept)
        })
        .await
    }

    /// Keeps many messages of the past, in the order of their places: see [`Replica::keep_message`].
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn keep_messages(&self, many: Vec<Verified>) -> Result<Vec<Verified>, ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            let mut kept = Vec::new();
            for m in many {
                match keep_past(&tx, &m)? {
                    true => kept.push(m),
                    false => tracing::warn!(kind = "replayed", seq = m.seq, "entry refused"),
                }
            }
            tx.commit()?;
            Ok(kept)
        })
        .await
    }

    /// Returns messages of a log with `after < seq`, oldest first, at most `max`.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn messages_after(
        &self,
        log: LogId,
        after: u64,
        max: u32,
    ) -> Result<Vec<Verified>, ReplicaError> {
        self.call(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM message WHERE log = ?1 AND seq > ?2 AND kind <= 2
                 ORDER BY seq LIMIT ?3"
            );
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map(params![log.to_bytes(), int(after), max], read)?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Returns the newest messages of a log, oldest first, at most `max`.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn messages_last(&self, log: LogId, max: u32) -> Result<Vec<Verified>, ReplicaError> {
        self.call(move |db| {
            let sql = format!(
                "SELECT * FROM (SELECT {COLUMNS} FROM message WHERE log = ?1 AND kind <= 2
                 ORDER BY seq DESC LIMIT ?2) ORDER BY seq"
            );
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map(params![log.to_bytes(), max], read)?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Returns the newest whispers between two sessions, oldest first, at most `max`: what `peer` said
    /// into the mailbox `own` of the session `me`, and the other way round.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn whispers(
        &self,
        (me, own): (String, LogId),
        (peer, theirs): (String, LogId),
        max: u32,
    ) -> Result<Vec<Verified>, ReplicaError> {
        self.call(move |db| {
            let mut query = db.prepare_cached(&WHISPERS.replace("{}", COLUMNS))?;
            let (own, theirs) = (own.to_bytes(), theirs.to_bytes());
            let rows = query.query_map(params![own, peer, theirs, me, max], read)?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Returns what peers said to a handle that has no shown mark, oldest first, at most `max`. What one
    /// sender says under one id in several logs is shown once.
    /// Only messages and whispers, and nothing the session said itself.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn unshown(
        &self,
        handle: Name,
        own: String,
        max: u32,
    ) -> Result<Vec<Verified>, ReplicaError> {
        self.call(move |db| {
            let sql = format!(
                "SELECT m.{} FROM message m JOIN feed f ON f.log = m.log AND f.handle = ?1
                 WHERE m.seq > f.start AND m.kind <= 2 AND m.sender <> ?2 AND NOT EXISTS
                   (SELECT 1 FROM passed p WHERE p.handle = ?1 AND p.log = m.log AND p.id = m.id)
                 AND NOT EXISTS
                   (SELECT 1 FROM shown s WHERE s.handle = ?1 AND s.log = m.log AND s.id = m.id)
                 AND NOT EXISTS
                   (SELECT 1 FROM message o CROSS JOIN shown s
                      ON s.handle = ?1 AND s.log = o.log AND s.id = o.id
                    WHERE o.id = m.id AND o.sender = m.sender AND o.log <> m.log)
                 ORDER BY m.at, m.log, m.seq LIMIT ?3",
                COLUMNS.replace(", ", ", m.")
            );
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map(params![handle.as_str(), own, max], read)?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Returns the newest message of a log: its place and hash.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn newest(&self, log: LogId) -> Result<Option<Head>, ReplicaError> {
        self.call(move |db| {
            db.prepare_cached(
                "SELECT seq, hash FROM message WHERE log = ?1 ORDER BY seq DESC LIMIT 1",
            )?
            .query_row([log.to_bytes()], |r| {
                Ok(Head {
                    n: uint(r.get(0)?),
                    hash: Hash::new(r.get(1)?),
                })
            })
            .optional()
        })
        .await
    }
}

fn keep_past(db: &Connection, m: &Verified) -> Result<bool, rusqlite::Error> {
    if !in_order(db, m)? {
        return Ok(false);
    }
    if insert(db, m, false)? {
        return Ok(true);
    }
    db.prepare_cached("SELECT 1 FROM message WHERE log = ?1 AND seq = ?2 AND hash = ?3")?
        .exists(params![m.log.to_bytes(), int(m.seq), m.hash.as_bytes()])
}

/// Inserts a message unless its place or id is taken; returns whether it did. `whole`: no entry before
/// it was missed.
fn insert(db: &Connection, m: &Verified, whole: bool) -> Result<bool, rusqlite::Error> {
    let body = m.body.to_bytes().unwrap_or_default();
    let new = db.prepare_cached(
        "INSERT OR IGNORE INTO message VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)",
    )?
    .execute(params![
        m.log.to_bytes(),
        int(m.seq),
        int(m.at.0),
        m.id.as_bytes(),
        m.sender.to_string(),
        m.user.as_bytes(),
        m.key.as_bytes(),
        m.sid,
        int(m.ctr),
        int(m.ts.0),
        m.hop,
        m.flags,
        m.route.kind().number(),
        body.as_slice(),
        m.hash.as_bytes(),
        m.route.to_bytes(),
    ])
    .map(|rows| rows > 0)?;
    if new {
        evidence::apply(db, m)?;
        items::apply(db, m, whole)?;
    }
    Ok(new)
}

/// Returns whether a message's counter fits between those of its sender's that are held. What is held is
/// in order, so its neighbours tell.
fn in_order(db: &Connection, m: &Verified) -> Result<bool, rusqlite::Error> {
    let beside = |sql| -> Result<Option<u64>, rusqlite::Error> {
        let found: Option<i64> = db
            .prepare_cached(sql)?
            .query_row(
                params![m.log.to_bytes(), m.key.as_bytes(), m.sid, int(m.ctr)],
                |r| r.get(0),
            )
            .optional()?;
        Ok(found.map(uint))
    };
    let next = beside(
        "SELECT seq FROM message INDEXED BY message_ctr
         WHERE log = ?1 AND key = ?2 AND sid = ?3 AND ctr >= ?4 ORDER BY ctr LIMIT 1",
    )?;
    let last = beside(
        "SELECT seq FROM message INDEXED BY message_ctr
         WHERE log = ?1 AND key = ?2 AND sid = ?3 AND ctr <= ?4 ORDER BY ctr DESC LIMIT 1",
    )?;
    Ok(next.is_none_or(|seq| seq >= m.seq) && last.is_none_or(|seq| seq <= m.seq))
}

fn admit(db: &Connection, m: &Verified, whole: bool) -> Result<Admitted, rusqlite::Error> {
    let place: Option<i64> = db
        .prepare_cached("SELECT seq FROM message WHERE log = ?1 AND id = ?2")?
        .query_row(params![m.log.to_bytes(), m.id.as_bytes()], |r| r.get(0))
        .optional()?;
    match place.map(uint) {
        Some(seq) if seq == m.seq => return Ok(Admitted::Known),
        Some(_) => return Ok(Admitted::Replayed),
        None => {}
    }
    // Only where everything since is held can a counter be judged. Counters rise with places: the first
    // one that fits, from the highest down, is the one before.
    let last: Option<i64> = db
        .prepare_cached(
            "SELECT ctr FROM message INDEXED BY message_ctr
             WHERE log = ?1 AND key = ?2 AND sid = ?3 AND +seq < ?4
               AND +seq >= coalesce((SELECT first FROM held WHERE log = ?1), 0)
             ORDER BY ctr DESC LIMIT 1",
        )?
        .query_row(
            params![m.log.to_bytes(), m.key.as_bytes(), m.sid, int(m.seq)],
            |r| r.get(0),
        )
        .optional()?;
    let missing = match last.map(uint) {
        Some(last) if m.ctr <= last => return Ok(Admitted::Replayed),
        Some(last) => m.ctr - last - 1,
        None => 0,
    };
    Ok(match insert(db, m, whole)? {
        true => Admitted::New { missing },
        false => Admitted::Forked,
    })
}

/// Returns whether a message's sender had seen another one in a place than this machine, or one that
/// cannot have been there yet.
fn forks(db: &Connection, m: &Verified) -> Result<bool, rusqlite::Error> {
    let Some(seen) = m.body.last_seen else {
        return Ok(false);
    };
    if seen.n >= m.seq {
        return Ok(true);
    }
    let known: Option<[u8; 32]> = db
        .prepare_cached("SELECT hash FROM message WHERE log = ?1 AND seq = ?2")?
        .query_row(params![m.log.to_bytes(), int(seen.n)], |r| r.get(0))
        .optional()?;
    Ok(known.is_some_and(|hash| hash != *seen.hash.as_bytes()))
}

/// What two sessions whispered to each other, as far as this machine has it.
const WHISPERS: &str = "SELECT * FROM (SELECT {} FROM message
     WHERE kind = 2 AND (log = ?1 AND sender = ?2 OR log = ?3 AND sender = ?4)
     ORDER BY at DESC, seq DESC LIMIT ?5) ORDER BY at, seq";

/// Reads a row; `None` if it is not of this version's form.
pub(super) fn read(r: &Row<'_>) -> Result<Option<Verified>, rusqlite::Error> {
    let Some(log) = LogId::from_slice(r.get_ref(0)?.as_blob()?) else {
        return Ok(None);
    };
    let Ok(sender) = r.get_ref(4)?.as_str()?.parse() else {
        return Ok(None);
    };
    let Ok(body) = Body::parse(&blob(r.get(13)?)) else {
        return Ok(None);
    };
    let Some(route) = Route::parse(r.get(12)?, r.get_ref(15)?.as_blob()?) else {
        return Ok(None);
    };
    Ok(Some(Verified {
        log,
        seq: uint(r.get(1)?),
        at: UnixMs(uint(r.get(2)?)),
        id: MsgId::new(r.get(3)?),
        sender,
        user: user(r.get(5)?),
        key: MachineKey::new(r.get(6)?),
        sid: r.get(7)?,
        ctr: uint(r.get(8)?),
        ts: UnixMs(uint(r.get(9)?)),
        hop: r.get(10)?,
        flags: r.get(11)?,
        route,
        body,
        by_admin: false,
        hash: Hash::new(r.get(14)?),
    }))
}
