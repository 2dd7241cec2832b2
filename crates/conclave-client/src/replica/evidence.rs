//! What proves that a message came further: each step in the tables has its evidence here.

use super::delivery::Sent;
use super::step::Step;
use super::{int, uint};
use crate::book::Verified;
use crate::outbox::Draft;
use conclave_proto::body::Fate;
use conclave_proto::entry::Route;
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;
use rusqlite::{Connection, OptionalExtension as _, params};

/// The most recipients of one message: members that were not named may read it, too.
const PEERS_MAX: i64 = 512;

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
        let new = db
            .prepare_cached("INSERT OR IGNORE INTO delivery VALUES (?1, ?2, ?3, ?4, 0, ?5, 0)")?
            .execute(params![
                id.as_bytes(),
                peer.to_string(),
                log,
                handle.as_str(),
                created
            ])?;
        if new == 0 {
            db.prepare_cached("INSERT OR IGNORE INTO delivery_more VALUES (?1, ?2, ?3)")?
                .execute(params![id.as_bytes(), peer.to_string(), log])?;
        }
    }
    Ok(())
}

/// A log has a message: those whom another way to them failed, or is yet to be gone, have it by this one.
pub(super) fn take_over(db: &Connection, id: MsgId, log: LogId) -> Result<(), rusqlite::Error> {
    // The way that is left may be the one that is gone in the end.
    db.prepare_cached(
        "INSERT OR IGNORE INTO delivery_more SELECT d.id, d.peer, d.log FROM delivery d
           JOIN delivery_more m ON m.id = d.id AND m.peer = d.peer AND m.log = ?2
         WHERE d.id = ?1 AND d.log <> ?2 AND d.step IN (0, 4)",
    )?
    .execute(params![id.as_bytes(), log.to_bytes()])?;
    db.prepare_cached(
        "UPDATE delivery SET log = ?2, step = 0 WHERE id = ?1 AND log <> ?2 AND step IN (0, 4)
           AND EXISTS (SELECT 1 FROM delivery_more m
                       WHERE m.id = ?1 AND m.peer = delivery.peer AND m.log = ?2)",
    )?
    .execute(params![id.as_bytes(), log.to_bytes()])
    .map(drop)
}

/// A log refused a message: those who are reached in another way, too, wait for what becomes of that.
pub(super) fn give_over(db: &Connection, id: MsgId, log: LogId) -> Result<(), rusqlite::Error> {
    db.prepare_cached(
        "UPDATE delivery SET step = 0, log = (SELECT m.log FROM delivery_more m
             JOIN draft d ON d.id = m.id AND d.log = m.log
             WHERE m.id = ?1 AND m.peer = delivery.peer AND m.log <> ?2 LIMIT 1)
         WHERE id = ?1 AND log = ?2 AND step = 4 AND EXISTS (SELECT 1 FROM delivery_more m
             JOIN draft d ON d.id = m.id AND d.log = m.log
             WHERE m.id = ?1 AND m.peer = delivery.peer AND m.log <> ?2)",
    )?
    .execute(params![id.as_bytes(), log.to_bytes()])
    .map(drop)
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
pub(super) fn judge(log: LogId, seq: u64, reached: Option<u64>, oldest: u64) -> Option<Step> {
    let has = reached.unwrap_or(0) >= seq;
    match (log, oldest > seq) {
        (_, false) => has.then_some(Step::Offered),
        (LogId::Mailbox(_), true) => (!has).then_some(Step::Expired),
        // A cursor goes past what is not kept any more: it does not tell whether it was had before.
        (LogId::Channel(_), true) => None,
    }
}

/// Returns the recipients of a message in a log.
pub(super) fn rows(
    db: &Connection,
    id: MsgId,
    log: LogId,
) -> Result<Vec<(String, Step)>, rusqlite::Error> {
    let mut query =
        db.prepare_cached("SELECT peer, step FROM delivery WHERE id = ?1 AND log = ?2")?;
    let found = query.query_map(params![id.as_bytes(), log.to_bytes()], |r| {
        Ok((r.get(0)?, Step::of(r.get(1)?)))
    })?;
    let found = found.map(|row| row.map(|(peer, step)| step.map(|step| (peer, step))));
    found.filter_map(Result::transpose).collect()
}

/// A recipient that may not have a message yet: message, path, step, place.
pub(super) type OpenRow = (MsgId, String, Step, u64);

pub(super) fn open(db: &Connection, log: LogId) -> Result<Vec<OpenRow>, rusqlite::Error> {
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

pub(super) fn set(
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
