//! Per handle: how far logs were received, what is unread, and what waits to be sent.

use super::delivery::Sent;
use super::history::{COLUMNS, read};
use super::{Replica, ReplicaError, blob, evidence, int, uint};
use crate::book::Verified;
use crate::outbox::Draft;
use conclave_proto::entry::Route;
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;
use rusqlite::{OptionalExtension as _, params};

/// The most entries of one id that are looked at.
const SAME_ID_MAX: u32 = 64;

/// How far a handle has got with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedInfo {
    /// The handle.
    pub handle: String,
    /// The log.
    pub log: LogId,
    /// Up to where it was received.
    pub cursor: u64,
    /// How much of that its agent has not seen.
    pub unread: u64,
}

impl Replica {
    /// Returns every feed of this machine, whose sessions have paths below `machine`.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn feeds(&self, machine: String) -> Result<Vec<FeedInfo>, ReplicaError> {
        self.call(move |db| {
            let sql = "SELECT f.handle, f.log, f.cursor,
                   (SELECT count(*) FROM message m WHERE m.log = f.log AND m.seq > f.start
                      AND m.kind <= 2 AND m.sender <> ?1 || '/' || f.handle AND NOT EXISTS
                        (SELECT 1 FROM shown s
                         WHERE s.handle = f.handle AND s.log = m.log AND s.id = m.id)
                      AND NOT EXISTS
                        (SELECT 1 FROM passed p
                         WHERE p.handle = f.handle AND p.log = m.log AND p.id = m.id))
                 FROM feed f ORDER BY f.handle, f.log";
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map([machine], |r| {
                let log = LogId::from_slice(r.get_ref(1)?.as_blob()?);
                let (handle, cursor, unread) = (r.get(0)?, uint(r.get(2)?), uint(r.get(3)?));
                Ok(log.map(|log| FeedInfo {
                    handle,
                    log,
                    cursor,
                    unread,
                }))
            })?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Finds what was said under an id, one of each sender, in the order it came: what a handle has a shown
    /// mark of, if it has one of any.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn said_under(&self, handle: Name, id: MsgId) -> Result<Vec<Verified>, ReplicaError> {
        self.call(move |db| {
            let sql = format!(
                "SELECT {COLUMNS}, EXISTS (SELECT 1 FROM shown s
                   WHERE s.handle = ?2 AND s.log = message.log AND s.id = message.id) AS was
                 FROM message WHERE id = ?1 ORDER BY was DESC, at, log, seq LIMIT ?3"
            );
            let mut query = db.prepare_cached(&sql)?;
            let given = params![id.as_bytes(), handle.as_str(), SAME_ID_MAX];
            let mut rows = query.query(given)?;
            let (mut found, mut any_shown): (Vec<Verified>, bool) = (Vec::new(), false);
            while let Some(r) = rows.next()? {
                let shown: bool = r.get("was")?;
                any_shown |= shown;
                if any_shown && !shown {
                    break;
                }
                if let Some(m) = read(r)?
                    && found.iter().all(|other| other.sender != m.sender)
                {
                    found.push(m);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Returns up to where a handle has received a log; `None` if it never followed it.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn cursor(&self, handle: Name, log: LogId) -> Result<Option<u64>, ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("SELECT cursor FROM feed WHERE handle = ?1 AND log = ?2")?
                .query_row(params![handle.as_str(), log.to_bytes()], |r| r.get(0))
                .optional()
                .map(|found| found.map(uint))
        })
        .await
    }

    /// Starts a feed at `start`: what comes after it will count as unread. What lies between the log's
    /// other feeds and `start` is not held, so counters cannot be judged by what was before.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn start_feed(
        &self,
        handle: Name,
        log: LogId,
        start: u64,
    ) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            let new = tx
                .prepare_cached("INSERT OR IGNORE INTO feed VALUES (?1, ?2, ?3, ?3)")?
                .execute(params![handle.as_str(), log.to_bytes(), int(start)])?;
            if new > 0 {
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO held SELECT ?2, ?3 + 1 WHERE NOT EXISTS
                       (SELECT 1 FROM feed WHERE log = ?2 AND handle <> ?1 AND cursor >= ?3)",
                )?
                .execute(params![handle.as_str(), log.to_bytes(), int(start)])?;
            }
            tx.commit()
        })
        .await
    }

    /// Puts a draft into the outbox, and notes to whom it is said; it is on disk when this returns.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn put_draft(
        &self,
        handle: Name,
        draft: Draft,
        sent: Option<Sent>,
    ) -> Result<i64, ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            tx.prepare_cached(
                "INSERT INTO draft (handle, id, log, kind, route, body, hop, flags, created, until)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                handle.as_str(),
                draft.id.as_bytes(),
                draft.log.to_bytes(),
                draft.route.kind().number(),
                draft.route.to_bytes(),
                draft.body.as_slice(),
                draft.hop,
                draft.flags,
                int(draft.created.0),
                int(draft.until.0),
            ])?;
            let n = tx.last_insert_rowid();
            if let Some(sent) = sent {
                evidence::begin(&tx, &handle, &draft, &sent)?;
            }
            tx.commit()?;
            Ok(n)
        })
        .await
    }

    /// Forgets the bytes of a draft that were refused: it must be sealed again.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn unseal(&self, n: i64, refused: Vec<u8>) -> Result<(), ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("UPDATE draft SET sealed = NULL WHERE n = ?1 AND sealed = ?2")?
                .execute(params![n, refused])
                .map(drop)
        })
        .await
    }

    /// Keeps the exact bytes that are sent, before they are. Returns those that count: another process
    /// of the same handle may have been first. `None` if that one has sent the draft already.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn keep_sealed(
        &self,
        n: i64,
        sealed: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            tx.prepare_cached("UPDATE draft SET sealed = ?2 WHERE n = ?1 AND sealed IS NULL")?
                .execute(params![n, sealed])?;
            let kept = tx
                .prepare_cached("SELECT sealed FROM draft WHERE n = ?1")?
                .query_row([n], |r| r.get(0))
                .optional()?;
            tx.commit()?;
            Ok(kept)
        })
        .await
    }

    /// Returns whether a message waits in the outbox.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn is_drafted(&self, id: MsgId, log: LogId) -> Result<bool, ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("SELECT 1 FROM draft WHERE id = ?1 AND log = ?2")?
                .exists(params![id.as_bytes(), log.to_bytes()])
        })
        .await
    }

    /// Returns what a handle has still to send, oldest first.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn drafts(&self, handle: Name) -> Result<Vec<Draft>, ReplicaError> {
        self.call(move |db| {
            let mut query = db.prepare_cached(
                "SELECT n, id, log, kind, route, body, hop, flags, created, until, sealed FROM draft
                 WHERE handle = ?1 ORDER BY n",
            )?;
            let mut rows = query.query([handle.as_str()])?;
            let mut drafts = Vec::new();
            while let Some(r) = rows.next()? {
                let Some(log) = LogId::from_slice(r.get_ref(2)?.as_blob()?) else {
                    continue;
                };
                let Some(route) = Route::parse(r.get(3)?, r.get_ref(4)?.as_blob()?) else {
                    continue;
                };
                drafts.push(Draft {
                    n: r.get(0)?,
                    id: MsgId::new(r.get(1)?),
                    log,
                    route,
                    body: blob(r.get(5)?),
                    hop: r.get(6)?,
                    flags: r.get(7)?,
                    created: UnixMs(uint(r.get(8)?)),
                    until: UnixMs(uint(r.get(9)?)),
                    sealed: r.get::<_, Option<Vec<u8>>>(10)?,
                });
            }
            Ok(drafts)
        })
        .await
    }

    /// Returns which handles have something left to send, and how much.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn waiting(&self) -> Result<Vec<(String, u64)>, ReplicaError> {
        self.call(|db| {
            let sql = "SELECT handle, count(*) FROM draft GROUP BY handle ORDER BY handle";
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map([], |r| Ok((r.get(0)?, uint(r.get(1)?))))?;
            rows.collect()
        })
        .await
    }
}
