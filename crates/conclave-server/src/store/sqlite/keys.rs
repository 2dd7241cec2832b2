//! Announced encryption keys and wraps: both halves of two small tables.

use super::SqliteStore;
use super::read::{all, blob};
use crate::store::{AnnouncementRow, Outcome, StoreError};
use conclave_proto::frame::op::Wrap;
use conclave_proto::frame::reply::EpochWrap;
use conclave_proto::id::{ChannelId, LogId, SealedKey, UserId};
use conclave_proto::key::HolderKey;
use conclave_proto::limit::WRAPS_MAX;
use rusqlite::{Connection, params};
use std::collections::HashMap;

pub(super) fn announcements(db: &Connection) -> Result<Vec<AnnouncementRow>, StoreError> {
    let rows = "SELECT holder, user, gen, rec FROM ek ORDER BY holder";
    all(db, rows, |r| {
        Ok(AnnouncementRow {
            holder: HolderKey::new(r.get(0)?),
            user: UserId::new(r.get(1)?),
            generation: r.get(2)?,
            rec: blob(r, 3)?,
        })
    })
}

pub(super) fn put_announcement(
    db: &Connection,
    row: &AnnouncementRow,
) -> Result<usize, StoreError> {
    let put = "INSERT INTO ek VALUES (?1, ?2, ?3, ?4) ON CONFLICT (holder) DO UPDATE
               SET user = excluded.user, gen = excluded.gen, rec = excluded.rec
               WHERE excluded.gen > gen";
    let (holder, user) = (row.holder.as_bytes(), row.user.as_bytes());
    let rec = row.rec.as_slice();
    Ok(db
        .prepare_cached(put)?
        .execute(params![holder, user, row.generation, rec])?)
}

pub(super) fn wraps(
    db: &Connection,
    channel: &ChannelId,
    holder: &HolderKey,
    from: u32,
) -> Result<Vec<EpochWrap>, StoreError> {
    let Some(log) = SqliteStore::log_state(db, &LogId::Channel(*channel))? else {
        return Ok(Vec::new());
    };
    let mut query = db.prepare_cached(
        "SELECT e, gen, sealed FROM wrap WHERE log = ?1 AND holder = ?2 AND e >= ?3
         ORDER BY e LIMIT ?4",
    )?;
    let most = i64::try_from(WRAPS_MAX).unwrap_or(i64::MAX);
    let rows = query.query_map(params![log.n, holder.as_bytes(), from, most], |r| {
        Ok(EpochWrap {
            e: r.get(0)?,
            generation: r.get(1)?,
            sealed: SealedKey::new(r.get(2)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns who has a wrap of the newest epoch that there are wraps of, by channel.
pub(super) fn wrapped(
    db: &Connection,
    ids: &HashMap<i64, LogId>,
) -> Result<Vec<(ChannelId, u32, HolderKey)>, StoreError> {
    let newest = "SELECT log, e, holder FROM wrap
                  JOIN (SELECT log AS of, max(e) AS newest FROM wrap GROUP BY log)
                  ON log = of AND e = newest";
    let rows = all(db, newest, |r| {
        Ok((r.get::<_, i64>(0)?, r.get(1)?, HolderKey::new(r.get(2)?)))
    })?;
    let channel = |log: &i64| match ids.get(log) {
        Some(LogId::Channel(channel)) => Some(*channel),
        Some(LogId::Mailbox(_)) | None => None,
    };
    let rows = rows.into_iter();
    let mut out: Vec<_> = rows
        .filter_map(|(log, e, holder)| Some((channel(&log)?, e, holder)))
        .collect();
    out.sort_unstable();
    Ok(out)
}

pub(super) fn put_wraps(
    db: &Connection,
    log: i64,
    e: u32,
    wraps: &[Wrap],
) -> Result<Outcome, StoreError> {
    let mut put = db.prepare_cached("INSERT OR IGNORE INTO wrap VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for wrap in wraps {
        let (to, sealed) = (wrap.to.as_bytes(), wrap.sealed.as_bytes());
        put.execute(params![log, to, e, wrap.generation, sealed])?;
    }
    Ok(Outcome::Done)
}

pub(super) fn drop_wraps(
    db: &Connection,
    log: i64,
    holder: &HolderKey,
    epochs: &[u32],
) -> Result<Outcome, StoreError> {
    let delete = "DELETE FROM wrap WHERE log = ?1 AND holder = ?2 AND e = ?3";
    let mut delete = db.prepare_cached(delete)?;
    for e in epochs {
        delete.execute(params![log, holder.as_bytes(), e])?;
    }
    Ok(Outcome::Done)
}
