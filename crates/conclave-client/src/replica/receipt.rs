//! Shown marks, and which senders are due a receipt for them.
//!
//! A receipt is due from the same moment as the mark is on disk, and until it was handed to the outbox:
//! what ends a process between loses none, and what is told twice says the same.

use super::{Replica, ReplicaError, blob, int, uint};
use conclave_proto::body::{Body, Fate, Receipt};
use conclave_proto::entry::Kind;
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::limit::RECEIPTS_MAX;
use conclave_proto::name::{CLI_HANDLE, Name, SessionPath};
use conclave_proto::time::UnixMs;
use rusqlite::{OptionalExtension as _, Transaction, params};
use std::collections::BTreeMap;

/// The most receipts that are looked up at once.
const DUE_MAX: u32 = 4_096;

impl Replica {
    /// Notes that the model has messages, or that it never gets them; without a fate only that they are not
    /// unread. All of them or none; returns whether a sender is due a receipt.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn mark(
        &self,
        handle: Name,
        marks: Vec<(LogId, MsgId, Option<Fate>)>,
        at: UnixMs,
    ) -> Result<bool, ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            let mut due = false;
            for (log, id, fate) in marks {
                let put = match fate {
                    Some(Fate::InContext) => "INSERT OR IGNORE INTO shown VALUES (?1, ?2, ?3)",
                    Some(Fate::Blocked) | None => {
                        "INSERT OR IGNORE INTO passed VALUES (?1, ?2, ?3)"
                    }
                };
                let place = params![handle.as_str(), log.to_bytes(), id.as_bytes()];
                let new = tx.prepare_cached(put)?.execute(place)?;
                if let Some(fate) = fate.filter(|_| new > 0) {
                    due |= owe(&tx, &handle, (log, id), fate, at)?;
                }
            }
            tx.commit()?;
            Ok(due)
        })
        .await
    }

    /// Returns which receipts a handle owes, by whom they are for, oldest first.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn receipts_due(
        &self,
        handle: Name,
    ) -> Result<Vec<(SessionPath, Vec<Receipt>)>, ReplicaError> {
        self.call(move |db| {
            let mut query = db.prepare_cached(
                "SELECT sender, id, fate, at FROM receipt WHERE handle = ?1 ORDER BY at LIMIT ?2",
            )?;
            let mut found = query.query(params![handle.as_str(), DUE_MAX])?;
            let mut due: BTreeMap<SessionPath, Vec<Receipt>> = BTreeMap::new();
            while let Some(r) = found.next()? {
                let Ok(sender) = r.get_ref(0)?.as_str()?.parse() else {
                    continue;
                };
                let receipts = due.entry(sender).or_default();
                if receipts.len() < RECEIPTS_MAX {
                    receipts.push(Receipt {
                        id: MsgId::new(r.get(1)?),
                        fate: Fate::from_word(r.get_ref(2)?.as_str()?),
                        at: UnixMs(uint(r.get(3)?)),
                    });
                }
            }
            let mut due: Vec<_> = due.into_iter().collect();
            due.sort_by_key(|(_, receipts)| receipts.first().map(|receipt| receipt.at));
            Ok(due)
        })
        .await
    }

    /// Takes receipts as told.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub(crate) async fn receipts_told(
        &self,
        handle: Name,
        sender: SessionPath,
        ids: Vec<MsgId>,
    ) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            for id in ids {
                tx.prepare_cached(
                    "DELETE FROM receipt WHERE handle = ?1 AND sender = ?2 AND id = ?3",
                )?
                .execute(params![
                    handle.as_str(),
                    sender.to_string(),
                    id.as_bytes()
                ])?;
            }
            tx.commit()
        })
        .await
    }
}

/// Notes a receipt for a message that asks for one.
fn owe(
    db: &Transaction<'_>,
    handle: &Name,
    (log, id): (LogId, MsgId),
    fate: Fate,
    at: UnixMs,
) -> Result<bool, rusqlite::Error> {
    let said: Option<(String, u8, Vec<u8>)> = db
        .prepare_cached("SELECT sender, kind, body FROM message WHERE log = ?1 AND id = ?2")?
        .query_row(params![log.to_bytes(), id.as_bytes()], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?))
        })
        .optional()?;
    let Some((sender, kind, body)) = said else {
        return Ok(false);
    };
    let asks = Body::parse(&blob(body)).is_ok_and(|body| body.receipt);
    let message = kind == Kind::Message.number() || kind == Kind::Whisper.number();
    let mailbox = sender
        .parse::<SessionPath>()
        .is_ok_and(|path| path.handle.as_str() != CLI_HANDLE);
    if !(asks && message && mailbox) {
        return Ok(false);
    }
    // The same words may be muted in one log and shown in another: the model has them then.
    db.prepare_cached(
        "INSERT INTO receipt VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE
           SET fate = excluded.fate, at = excluded.at WHERE excluded.fate = ?6",
    )?
    .execute(params![
        handle.as_str(),
        sender,
        id.as_bytes(),
        fate.as_str(),
        int(at.0),
        Fate::InContext.as_str()
    ])?;
    Ok(true)
}
