//! The reading half: pages, and the snapshot the hub starts from.

use super::{SqliteStore, int, keys, place, seq_of, uint};
use crate::audit::{self, RequestId};
use crate::store::{
    ACT_ROWS, CURSOR_ROWS_MAX, CursorRow, LogRow, Page, PageBuilder, PageQuery, Select,
    ServerInviteRow, Snapshot, Standing, StoreError, row,
};
use conclave_proto::body::Head;
use conclave_proto::entry::{Entry, EntryBody};
use conclave_proto::frame::reply::{AuditPage, AuditRow, EntryPage};
use conclave_proto::id::{Blob, ChannelId, Hash, InviteId, LogId, UserId};
use conclave_proto::key::InviteKey;
use conclave_proto::time::UnixMs;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::HashMap;

pub(super) fn page(db: &Connection, query: &PageQuery) -> Result<Page, StoreError> {
    match query {
        PageQuery::Log {
            log,
            after,
            limit,
            select,
        } => entries(db, log, *after, *limit, *select).map(Page::Entries),
        PageQuery::Audit { after, limit } => audit(db, *after, *limit).map(Page::Audit),
        PageQuery::Wraps {
            channel,
            holder,
            from,
        } => keys::wraps(db, channel, holder, *from).map(Page::Wraps),
        PageQuery::Cursors { log } => cursors(db, log).map(Page::Cursors),
    }
}

fn entries(
    db: &Connection,
    log: &LogId,
    after: u64,
    limit: u32,
    select: Select,
) -> Result<EntryPage, StoreError> {
    let page = PageBuilder::new(limit);
    let Some(log) = SqliteStore::log_state(db, log)? else {
        return Ok(page.finish(after, 0, select));
    };
    let mut page = page.lapsed(log.lapsed);
    let mut query = db.prepare_cached(match select {
        Select::All => {
            "SELECT place, at, data FROM entry WHERE place > ?1 AND place <= ?2 ORDER BY place"
        }
        Select::Ctl => {
            "SELECT place, at, data FROM entry WHERE mid IS NULL AND place > ?1 AND place <= ?2
             ORDER BY place"
        }
        Select::Items => {
            "SELECT place, at, data FROM slot INDEXED BY slot_seq
             CROSS JOIN entry ON place = (log << 40 | seq)
             WHERE log = ?1 >> 40 AND seq > (?1 & 0xFFFFFFFFFF) AND seq <= (?2 & 0xFFFFFFFFFF)
             ORDER BY seq"
        }
    })?;
    let mut rows = query.query([place(log.n, after), place(log.n, log.head)])?;
    while let Some(row) = rows.next()? {
        if !page.push(entry(row)?) {
            break;
        }
    }
    Ok(page.finish(after, log.head, select))
}

fn cursors(db: &Connection, log: &LogId) -> Result<Vec<CursorRow>, StoreError> {
    let Some(log) = SqliteStore::log_state(db, log)? else {
        return Ok(Vec::new());
    };
    // A reader is the id of its mailbox, whose log has a tag in front of it.
    let mut query = db.prepare_cached(
        "SELECT of.user, of.path, cursor.seq FROM cursor
         JOIN log AS of ON of.id = CAST(x'02' || cursor.reader AS BLOB)
         WHERE cursor.log = ?1 AND of.path IS NOT NULL
         ORDER BY cursor.seq DESC, of.path LIMIT ?2",
    )?;
    let most = i64::try_from(CURSOR_ROWS_MAX).unwrap_or(i64::MAX);
    let mut rows = query.query([log.n, most])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let path: String = row.get(1)?;
        found.push(CursorRow {
            user: UserId::new(row.get(0)?),
            path: path.parse().map_err(|_| StoreError::Corrupt("a path"))?,
            seq: uint(row.get(2)?),
        });
    }
    Ok(found)
}

fn entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    let data = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
    Ok(Entry {
        seq: seq_of(row.get(0)?),
        at: UnixMs(uint(row.get(1)?)),
        body: row::parse(data).ok_or(StoreError::Corrupt("an entry"))?,
    })
}

fn audit(db: &Connection, after: u64, limit: u32) -> Result<AuditPage, StoreError> {
    let mut query =
        db.prepare_cached("SELECT n, entry, hash FROM audit WHERE n >= ?1 ORDER BY n LIMIT ?2")?;
    // One row more, for the hash before the first.
    let mut rows = query.query(params![int(after), i64::from(limit) + i64::from(after > 0)])?;
    let mut prev = Hash::new([0; 32]);
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        let (n, hash) = (uint(row.get(0)?), Hash::new(row.get(2)?));
        if n > after {
            let entry = row.get(1)?;
            page.push(AuditRow {
                n,
                prev,
                entry,
                hash,
            });
        }
        prev = hash;
    }
    Ok(AuditPage {
        rows: page,
        head: audit_head(db)?.map_or(0, |h| h.n),
        checkpoint: checkpoint(db)?,
    })
}

fn audit_head(db: &Connection) -> Result<Option<Head>, StoreError> {
    let newest = "SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1";
    let head = db.prepare_cached(newest)?.query_row([], |r| {
        Ok(Head {
            n: uint(r.get(0)?),
            hash: Hash::new(r.get(1)?),
        })
    });
    Ok(head.optional()?)
}

fn checkpoint(db: &Connection) -> Result<Option<Blob>, StoreError> {
    let newest = "SELECT value FROM meta WHERE key = 'checkpoint'";
    let rec = db.prepare_cached(newest)?.query_row([], |r| blob(r, 0));
    Ok(rec.optional()?)
}

pub(super) fn snapshot(db: &Connection) -> Result<Snapshot, StoreError> {
    let newest = "SELECT at FROM entry ORDER BY pos DESC LIMIT 1";
    let at = db.query_row(newest, [], |r| r.get(0)).optional()?;
    let (logs, ids) = logs(db)?;
    Ok(Snapshot {
        idents: idents(db)?,
        standings: all(db, "SELECT user, admin, removed FROM standing", |r| {
            let standing = Standing {
                admin: r.get(1)?,
                removed: r.get(2)?,
            };
            Ok((UserId::new(r.get(0)?), standing))
        })?,
        logs,
        ctl: ctl(db, &ids)?,
        invites: all(
            db,
            "SELECT invite, key, minter, uses_left, expires FROM server_invite",
            |r| {
                Ok(ServerInviteRow {
                    invite: InviteId::new(r.get(0)?),
                    key: InviteKey::new(r.get(1)?),
                    minter: UserId::new(r.get(2)?),
                    uses_left: r.get(3)?,
                    expires: UnixMs(uint(r.get(4)?)),
                })
            },
        )?,
        redeemed: all(db, "SELECT invite, accounts FROM redeemed", |r| {
            Ok((InviteId::new(r.get(0)?), r.get(1)?))
        })?,
        boxes: all(db, "SELECT invite, sealed FROM invite_box", |r| {
            Ok((InviteId::new(r.get(0)?), blob(r, 1)?))
        })?,
        announcements: keys::announcements(db)?,
        wrapped: keys::wrapped(db, &ids)?,
        audit: audit_head(db)?,
        acts: acts(db)?,
        checkpoint: checkpoint(db)?,
        at: UnixMs(at.map_or(0, uint)),
    })
}

fn acts(db: &Connection) -> Result<Vec<(RequestId, UnixMs)>, StoreError> {
    let mut query = db.prepare("SELECT entry FROM audit ORDER BY n DESC LIMIT ?1")?;
    let mut rows = query.query([i64::try_from(ACT_ROWS).unwrap_or(i64::MAX)])?;
    let mut acts = Vec::new();
    while let Some(row) = rows.next()? {
        let entry = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        acts.extend(audit::request_of(entry));
    }
    Ok(acts)
}

fn idents(db: &Connection) -> Result<Vec<(UserId, Vec<Blob>)>, StoreError> {
    let rows = all(db, "SELECT user, rec FROM ident ORDER BY user, n", |r| {
        Ok((UserId::new(r.get(0)?), blob(r, 1)?))
    })?;
    let mut out: Vec<(UserId, Vec<Blob>)> = Vec::new();
    for (user, rec) in rows {
        match out.last_mut() {
            Some((last, records)) if *last == user => records.push(rec),
            _ => out.push((user, vec![rec])),
        }
    }
    Ok(out)
}

fn logs(db: &Connection) -> Result<(Vec<LogRow>, HashMap<i64, LogId>), StoreError> {
    let mut query =
        db.prepare("SELECT n, id, user, path, head, oldest, frozen, deleted FROM log ORDER BY id")?;
    let mut rows = query.query([])?;
    let (mut logs, mut ids) = (Vec::new(), HashMap::new());
    while let Some(row) = rows.next()? {
        let id = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let log = LogId::from_slice(id).ok_or(StoreError::Corrupt("a log id"))?;
        let user: Option<[u8; 32]> = row.get(2)?;
        let path: Option<String> = row.get(3)?;
        let path = path
            .map(|text| text.parse().map_err(|_| StoreError::Corrupt("a path")))
            .transpose()?;
        ids.insert(row.get(0)?, log);
        logs.push(LogRow {
            log,
            path: user.map(UserId::new).zip(path),
            head: uint(row.get(4)?),
            oldest: uint(row.get(5)?),
            frozen: row.get(6)?,
            deleted: row.get(7)?,
        });
    }
    Ok((logs, ids))
}

type CtlRows = Vec<(ChannelId, u64, UnixMs, Blob)>;

fn ctl(db: &Connection, ids: &HashMap<i64, LogId>) -> Result<CtlRows, StoreError> {
    let mut query = db.prepare(
        "SELECT place, at, data FROM entry INDEXED BY entry_ctl WHERE mid IS NULL ORDER BY place",
    )?;
    let mut rows = query.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let log = row.get::<_, i64>(0)? >> super::SEQ_BITS;
        let entry = entry(row)?;
        if let (Some(LogId::Channel(channel)), EntryBody::Ctl(rec)) = (ids.get(&log), entry.body) {
            out.push((*channel, entry.seq, entry.at, rec));
        }
    }
    out.sort_by_key(|(channel, seq, ..)| (*channel, *seq));
    Ok(out)
}

pub(super) fn all<T>(
    db: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut query = db.prepare(sql)?;
    let rows = query.query_map([], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Blob> {
    Ok(row.get_ref(column)?.as_blob()?.into())
}
