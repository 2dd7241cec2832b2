//! What became of what this machine's handles said, by recipient.
//!
//! Each step is set by evidence only, and never back: the server's word that it has a message, a
//! recipient's confirmed cursor, a recipient's own signed word. See `receipt.rs` for the other side.

pub use super::step::Step;
use super::{Replica, ReplicaError, blob, int, uint};
use crate::book::Verified;
use crate::outbox::Draft;
use conclave_proto::body::{Body, Fate};
use conclave_proto::entry::Route;
use conclave_proto::frame::reply::{Appended, Cursors};
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::time::UnixMs;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashMap;

/// How long what was said is followed up, in milliseconds (30 days).
const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// The most recipients of one message: members that were not named may read it, too.
const PEERS_MAX: i64 = 512;

/// The most whispers that are looked after at once.
const OPEN_MAX: u32 = 256;

/// Who says something to whom.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The sending session's path.
    pub(crate) sender: String,
    /// Who is to get it, without the sender; none: nobody is followed up.
    pub(crate) peers: Vec<SessionPath>,
}

/// What became of a message for one recipient, and since when, by the server's clock where it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The recipient.
    pub peer: SessionPath,
    /// How far it came.
    pub step: Step,
    /// When that was known.
    pub at: UnixMs,
}

/// What a message became in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub log: LogId,
    /// Its place there, once the server has it.
    pub seq: Option<u64>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageStatus {
    /// The message.
    pub id: MsgId,
    /// When it was made.
    pub at: UnixMs,
    /// Where it was said.
    pub parts: Vec<Part>,
    /// What became of it, by recipient, in the order of paths.
    pub rows: Vec<Delivery>,
}

/// A step that the sender's session was not told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) id: MsgId,
    pub(crate) peer: SessionPath,
    pub(crate) step: Step,
    /// When the message was made.
    pub(crate) created: UnixMs,
}

/// A whisper that the server has and its recipient may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) log: LogId,
    /// When the server stored it.
    pub(crate) at: UnixMs,
}

impl Replica {
    /// Takes a draft out of the outbox and notes what the server said of it: its place and time, or a
    /// refusal at `now`.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn end_draft(
        &self,
        (n, id, log): (i64, MsgId, LogId),
        stored: Option<Appended>,
        now: UnixMs,
    ) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            tx.prepare_cached("DELETE FROM draft WHERE n = ?1")?
                .execute([n])?;
            let (next, at) = match stored {
                Some(Appended { seq, at, .. }) => {
                    tx.prepare_cached(
                        "UPDATE sent SET seq = ?3, at = ?4 WHERE id = ?1 AND log = ?2",
                    )?
                    .execute(params![
                        id.as_bytes(),
                        log.to_bytes(),
                        int(seq),
                        int(at.0)
                    ])?;
                    (Step::Stored, at)
                }
                None => (Step::Refused, now),
            };
            for (peer, step) in rows(&tx, id, log)? {
                if step.leads_to(next) {
                    set(&tx, id, &peer, next, at)?;
                }
            }
            if next == Step::Stored {
                // Who said it was told by the answer.
                tx.prepare_cached(
                    "UPDATE delivery SET told = step WHERE id = ?1 AND log = ?2 AND step = 1",
                )?
                .execute(params![id.as_bytes(), log.to_bytes()])?;
            }
            tx.commit()
        })
        .await
    }

    /// Returns what is known of a message that this machine sent.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn status(&self, id: MsgId) -> Result<Option<MessageStatus>, ReplicaError> {
        self.call(move |db| {
            let mut status = None;
            let mut query =
                db.prepare_cached("SELECT log, seq, created FROM sent WHERE id = ?1 ORDER BY log")?;
            let mut found = query.query([id.as_bytes()])?;
            while let Some(r) = found.next()? {
                let Some(log) = LogId::from_slice(r.get_ref(0)?.as_blob()?) else {
                    continue;
                };
                let seq = r.get::<_, Option<i64>>(1)?.map(uint);
                let at = UnixMs(uint(r.get(2)?));
                let status = status.get_or_insert_with(|| MessageStatus {
                    id,
                    at,
                    parts: Vec::new(),
                    rows: Vec::new(),
                });
                status.at = status.at.min(at);
                status.parts.push(Part { log, seq });
            }
            let Some(mut status) = status else {
                return Ok(None);
            };
            let mut query = db.prepare_cached(
                "SELECT peer, step, at FROM delivery WHERE id = ?1 ORDER BY peer",
            )?;
            let mut found = query.query([id.as_bytes()])?;
            while let Some(r) = found.next()? {
                let at = UnixMs(uint(r.get(2)?));
                if let (Ok(peer), Some(step)) =
                    (r.get_ref(0)?.as_str()?.parse(), Step::of(r.get(1)?))
                {
                    status.rows.push(Delivery { peer, step, at });
                }
            }
            Ok(Some(status))
        })
        .await
    }

    /// Returns the logs of a message with recipients that may not have it yet, as far as a cursor can tell.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn open_logs(&self, id: MsgId) -> Result<Vec<LogId>, ReplicaError> {
        self.call(move |db| {
            let mut query = db.prepare_cached(
                "SELECT DISTINCT d.log FROM delivery d JOIN sent s ON s.id = d.id AND s.log = d.log
                 WHERE d.id = ?1 AND d.step <= 1 AND s.seq IS NOT NULL",
            )?;
            let found = query.query_map([id.as_bytes()], |r| {
                Ok(LogId::from_slice(r.get_ref(0)?.as_blob()?))
            })?;
            found.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Returns the whispers of a handle that nobody has confirmed, the oldest of each mailbox, oldest first.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn open_whispers(&self, handle: Name) -> Result<Vec<Open>, ReplicaError> {
        self.call(move |db| {
            let mut query = db.prepare_cached(
                "SELECT d.log, min(s.at) FROM delivery d JOIN sent s ON s.id = d.id AND s.log = d.log
                 WHERE d.handle = ?1 AND d.step <= 1 AND d.log >= x'02' AND s.seq IS NOT NULL
                 GROUP BY d.log ORDER BY 2 LIMIT ?2",
            )?;
            let found = query.query_map(params![handle.as_str(), OPEN_MAX], |r| {
                let at = UnixMs(uint(r.get(1)?));
                let log = LogId::from_slice(r.get_ref(0)?.as_blob()?);
                Ok(log.map(|log| Open { log, at }))
            })?;
            found.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Takes what a server says of how far a log was read, at `now`.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn take_cursors(
        &self,
        log: LogId,
        cursors: Cursors,
        now: UnixMs,
    ) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let readers = cursors.readers.iter();
            let readers: HashMap<String, u64> =
                readers.map(|r| (r.path.to_string(), r.seq)).collect();
            let tx = db.transaction()?;
            for (id, peer, step, seq) in open(&tx, log)? {
                let reached = readers.get(&peer).copied();
                let next = judge(log, seq, reached, cursors.oldest);
                if let Some(next) = next.filter(|next| step.leads_to(*next)) {
                    set(&tx, id, &peer, next, now)?;
                }
            }
            tx.commit()
        })
        .await
    }

    /// Returns what a handle's session was not told of yet, and takes it as told.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn news(&self, handle: Name) -> Result<Vec<News>, ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            let mut news = Vec::new();
            {
                let mut query = tx.prepare_cached(
                    "SELECT d.id, d.peer, d.step, s.created FROM delivery d
                     JOIN sent s ON s.id = d.id AND s.log = d.log
                     WHERE d.handle = ?1 AND d.step <> d.told ORDER BY d.at",
                )?;
                let mut found = query.query([handle.as_str()])?;
                while let Some(r) = found.next()? {
                    if let (Ok(peer), Some(step)) =
                        (r.get_ref(1)?.as_str()?.parse(), Step::of(r.get(2)?))
                    {
                        news.push(News {
                            id: MsgId::new(r.get(0)?),
                            peer,
                            step,
                            created: UnixMs(uint(r.get(3)?)),
                        });
                    }
                }
            }
            if !news.is_empty() {
                tx.prepare_cached(
                    "UPDATE delivery SET told = step WHERE handle = ?1 AND step <> told",
                )?
                .execute([handle.as_str()])?;
            }
            tx.commit()?;
            Ok(news)
        })
        .await
    }

    /// Returns when peers last proved that a message of this machine reached their model.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn proven(&self) -> Result<HashMap<SessionPath, UnixMs>, ReplicaError> {
        self.call(|db| {
            let mut query = db.prepare_cached(
                "SELECT peer, max(at) FROM delivery WHERE step >= 6 GROUP BY peer",
            )?;
            let found = query.query_map([], |r| {
                let peer = r.get_ref(0)?.as_str()?.parse().ok();
                Ok(peer.zip(Some(UnixMs(uint(r.get(1)?)))))
            })?;
            found.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Returns the words of a question that a handle asked.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn question(
        &self,
        handle: Name,
        id: MsgId,
    ) -> Result<Option<String>, ReplicaError> {
        self.call(move |db| {
            let body: Option<Vec<u8>> = db
                .prepare_cached(
                    "SELECT m.body FROM sent s JOIN message m ON m.log = s.log AND m.id = s.id
                     WHERE s.id = ?1 AND s.handle = ?2 LIMIT 1",
                )?
                .query_row(params![id.as_bytes(), handle.as_str()], |r| r.get(0))
                .optional()?;
            let body = body.and_then(|body| Body::parse(&blob(body)).ok());
            Ok(body
                .filter(|body| body.expects_reply)
                .and_then(|body| body.text))
        })
        .await
    }

    /// Forgets what was said too long ago.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn forget_sent(&self, now: UnixMs) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            let before = int(now.0.saturating_sub(KEPT_MS));
            tx.execute("DELETE FROM sent WHERE created < ?1", [before])?;
            tx.execute(
                "DELETE FROM delivery WHERE NOT EXISTS
                   (SELECT 1 FROM sent s WHERE s.id = delivery.id AND s.log = delivery.log)",
                [],
            )?;
            tx.commit()
        })
        .await
    }
}

/// Notes that a draft was made, and for whom.
pub(super) fn begin(
    db: &Connection,
    handle: &Name,
    draft: &Draft,
    sent: &Sent,
) -> Result<(), rusqlite::Error> {
    let (id, log, created) = (draft.id, draft.log.to_bytes(), int(draft.created.0));
    db.prepare_cached(
        "INSERT OR IGNORE INTO sent (id, log, handle, sender, created) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        id.as_bytes(),
        log,
        handle.as_str(),
        sent.sender,
        created
    ])?;
    for peer in &sent.peers {
        // Whom it reaches in two ways, it reaches once.
        db.prepare_cached("INSERT OR IGNORE INTO delivery VALUES (?1, ?2, ?3, ?4, 0, ?5, 0)")?
            .execute(params![
                id.as_bytes(),
                peer.to_string(),
                log,
                handle.as_str(),
                created
            ])?;
    }
    Ok(())
}

/// Takes what a verified entry proves of messages of this machine: receipts, and answers.
pub(super) fn apply(db: &Connection, m: &Verified) -> Result<(), rusqlite::Error> {
    match &m.route {
        Route::Receipt(to) => {
            for receipt in &m.body.receipts {
                let next = match receipt.fate {
                    Some(Fate::InContext) => Step::InContext,
                    Some(Fate::Blocked) => Step::Blocked,
                    None => continue,
                };
                // Only about what the owner of this mailbox said.
                let to = to.to_string();
                prove(db, m, receipt.id, Some(&to), next)?;
            }
            Ok(())
        }
        Route::Everyone | Route::Whisper(_) => match m.body.reply_to {
            Some(id) => prove(db, m, id, None, Step::Answered),
            None => Ok(()),
        },
        Route::State(..) | Route::Memory(..) | Route::Profile => Ok(()),
    }
}

/// Takes the sender of `m` at its word about message `id`, if that is of this machine, by `said_by` where
/// it must be.
fn prove(
    db: &Connection,
    m: &Verified,
    id: MsgId,
    said_by: Option<&str>,
    next: Step,
) -> Result<(), rusqlite::Error> {
    let sent: Option<(String, String)> = db
        .prepare_cached("SELECT handle, sender FROM sent WHERE id = ?1 LIMIT 1")?
        .query_row([id.as_bytes()], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let Some((handle, sender)) = sent else {
        return Ok(());
    };
    let peer = m.sender.to_string();
    if peer == sender || said_by.is_some_and(|path| path != sender) {
        return Ok(());
    }
    let step: Option<u8> = db
        .prepare_cached("SELECT step FROM delivery WHERE id = ?1 AND peer = ?2")?
        .query_row(params![id.as_bytes(), peer], |r| r.get(0))
        .optional()?;
    match step.map(Step::of) {
        Some(Some(step)) if step.leads_to(next) => set(db, id, &peer, next, m.at),
        Some(_) => Ok(()),
        // Nobody but its recipient reads a whisper; in a channel there may be more readers than named.
        None => db
            .prepare_cached(
                "INSERT INTO delivery SELECT id, ?2, log, ?3, ?4, ?5, ?4 + 1 FROM sent
                 WHERE id = ?1 AND log < x'02'
                   AND (SELECT count(*) FROM delivery d WHERE d.id = ?1) < ?6 LIMIT 1",
            )?
            .execute(params![
                id.as_bytes(),
                peer,
                handle,
                next.number(),
                int(m.at.0),
                PEERS_MAX
            ])
            .map(drop),
    }
}

/// Decides what a cursor, and what the server still keeps, say of a message in place `seq`.
fn judge(log: LogId, seq: u64, reached: Option<u64>, oldest: u64) -> Option<Step> {
    let has = reached.unwrap_or(0) >= seq;
    match (log, oldest > seq) {
        (_, false) => has.then_some(Step::Offered),
        (LogId::Mailbox(_), true) => (!has).then_some(Step::Expired),
        // A cursor goes past what is not kept any more: it does not tell whether it was had before.
        (LogId::Channel(_), true) => None,
    }
}

/// Returns the recipients of a message in a log.
fn rows(db: &Connection, id: MsgId, log: LogId) -> Result<Vec<(String, Step)>, rusqlite::Error> {
    let mut query =
        db.prepare_cached("SELECT peer, step FROM delivery WHERE id = ?1 AND log = ?2")?;
    let found = query.query_map(params![id.as_bytes(), log.to_bytes()], |r| {
        Ok((r.get(0)?, Step::of(r.get(1)?)))
    })?;
    let found = found.map(|row| row.map(|(peer, step)| step.map(|step| (peer, step))));
    found.filter_map(Result::transpose).collect()
}

/// A recipient that may not have a message yet: message, path, step, place.
type OpenRow = (MsgId, String, Step, u64);

fn open(db: &Connection, log: LogId) -> Result<Vec<OpenRow>, rusqlite::Error> {
    let mut query = db.prepare_cached(
        "SELECT d.id, d.peer, d.step, s.seq FROM sent s JOIN delivery d
           ON d.id = s.id AND d.log = s.log AND d.step <= 1
         WHERE s.log = ?1 AND s.seq IS NOT NULL",
    )?;
    let found = query.query_map([log.to_bytes()], |r| {
        let id = MsgId::new(r.get(0)?);
        let (peer, seq) = (r.get(1)?, uint(r.get(3)?));
        Ok(Step::of(r.get(2)?).map(|step| (id, peer, step, seq)))
    })?;
    found.filter_map(Result::transpose).collect()
}

fn set(
    db: &Connection,
    id: MsgId,
    peer: &str,
    next: Step,
    at: UnixMs,
) -> Result<(), rusqlite::Error> {
    db.prepare_cached("UPDATE delivery SET step = ?3, at = ?4 WHERE id = ?1 AND peer = ?2")?
        .execute(params![id.as_bytes(), peer, next.number(), int(at.0)])
        .map(drop)
}
