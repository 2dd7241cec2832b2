//! What became of what this machine's handles said, by recipient.
//!
//! Each step is set by evidence only, and never back: the server's word that it has a message, a
//! recipient's confirmed cursor, a recipient's own signed word. See `receipt.rs` for the other side.

use super::evidence::{give_over, judge, open, rows, set, take_over};
pub use super::step::Step;
use super::{Replica, ReplicaError, blob, int, uint};
use conclave_proto::body::Body;
use conclave_proto::frame::reply::{Appended, Cursors};
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::time::UnixMs;
use rusqlite::{OptionalExtension as _, params};
use std::collections::HashMap;

/// How long what was said is followed up, in milliseconds (30 days).
const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// The most whispers that are looked after at once.
const OPEN_MAX: u32 = 65_536;

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
            if next == Step::Stored {
                take_over(&tx, id, log)?;
            }
            for (peer, step) in rows(&tx, id, log)? {
                if step.leads_to(next) {
                    set(&tx, id, &peer, next, at)?;
                }
            }
            if next == Step::Refused {
                give_over(&tx, id, log)?;
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

    /// Returns the whispers of a handle that nobody has confirmed, oldest first.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn open_whispers(&self, handle: Name) -> Result<Vec<Open>, ReplicaError> {
        self.call(move |db| {
            let mut query = db.prepare_cached(
                "SELECT DISTINCT d.log, s.at FROM delivery d JOIN sent s ON s.id = d.id AND s.log = d.log
                 WHERE d.handle = ?1 AND d.step <= 1 AND d.log >= x'02' AND s.seq IS NOT NULL
                 ORDER BY s.at LIMIT ?2",
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
            // From peer to peer, not from message to message.
            let mut query = db.prepare_cached(
                "WITH RECURSIVE p (peer) AS
                   (SELECT min(peer) FROM delivery WHERE step >= 6
                    UNION ALL SELECT (SELECT min(d.peer) FROM delivery d
                      WHERE d.step >= 6 AND d.peer > p.peer) FROM p WHERE p.peer IS NOT NULL)
                 SELECT peer, (SELECT max(d.at) FROM delivery d WHERE d.step >= 6 AND d.peer = p.peer)
                 FROM p WHERE peer IS NOT NULL",
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
            tx.execute(
                "DELETE FROM delivery WHERE id IN (SELECT id FROM sent WHERE created < ?1)
                   AND EXISTS (SELECT 1 FROM sent s
                     WHERE s.id = delivery.id AND s.log = delivery.log AND s.created < ?1)",
                [before],
            )?;
            tx.execute(
                "DELETE FROM delivery_more WHERE id IN (SELECT id FROM sent WHERE created < ?1)",
                [before],
            )?;
            tx.execute("DELETE FROM sent WHERE created < ?1", [before])?;
            tx.commit()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Draft;
    use conclave_proto::entry::Route;
    use conclave_proto::id::{ChannelId, MailboxId};

    const ID: MsgId = MsgId::new([1; 16]);
    const CHANNEL: LogId = LogId::Channel(ChannelId::new([1; 16]));
    const MAILBOX: LogId = LogId::Mailbox(MailboxId::new([2; MailboxId::LEN]));

    async fn drafts(replica: &Replica, log: LogId) -> i64 {
        let peer: SessionPath = "bob/box/web".parse().unwrap();
        let draft = Draft {
            n: 0,
            id: ID,
            log,
            route: match log {
                LogId::Channel(_) => Route::Everyone,
                LogId::Mailbox(_) => Route::Whisper(peer.clone()),
            },
            body: Vec::new().into(),
            hop: 0,
            flags: 0,
            created: UnixMs(1),
            until: UnixMs(2),
            sealed: None,
        };
        let sent = Sent {
            sender: "ada/box/api".into(),
            peers: vec![peer],
        };
        let put = replica.put_draft("api".parse().unwrap(), draft, Some(sent));
        put.await.unwrap()
    }

    #[tokio::test]
    async fn who_is_reached_in_two_ways_has_it_if_one_of_them_went_well() {
        const STORED: Option<Appended> = Some(Appended {
            seq: 7,
            at: UnixMs(5),
            dup: false,
        });
        let table = [
            (None, STORED, Step::Stored),
            (STORED, None, Step::Stored),
            (STORED, STORED, Step::Stored),
            (None, None, Step::Refused),
        ];
        for (first, second, step) in table {
            for logs in [[CHANNEL, MAILBOX], [MAILBOX, CHANNEL]] {
                let dir = tempfile::tempdir().unwrap();
                let replica = Replica::open(&dir.path().join("r.sqlite")).await.unwrap();
                let drafts = [
                    drafts(&replica, logs[0]).await,
                    drafts(&replica, logs[1]).await,
                ];
                for (n, ended) in [(0, first), (1, second)] {
                    let draft = (drafts[n], ID, logs[n]);
                    replica.end_draft(draft, ended, UnixMs(5)).await.unwrap();
                    let news = replica.news("api".parse().unwrap()).await.unwrap();
                    let told: Vec<Step> = news.iter().map(|news| news.step).collect();
                    let is_end = n == 1 && step == Step::Refused;
                    assert_eq!(told, if is_end { vec![step] } else { vec![] });
                }
                let status = replica.status(ID).await.unwrap().unwrap();
                let steps: Vec<Step> = status.rows.iter().map(|row| row.step).collect();
                assert_eq!(steps, [step], "{first:?} {second:?}");
            }
        }
    }
}
