//! The writing half: each [`Write`] inside the batch's transaction.

use super::{COUNTERS_MAX, Cache, LogState, SqliteStore, int, keys, place, seq_of, uint};
use crate::audit;
use crate::store::{Bound, COUNTER_MS, Outcome, StoreError, Write, row};
use conclave_proto::body::Head;
use conclave_proto::bytes::Builder;
use conclave_proto::entry::{EntryBody, Header, Parsed, Route};
use conclave_proto::id::{Hash, LogId, MsgId};
use conclave_proto::time::UnixMs;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashMap;

/// One transaction under way.
pub(super) struct Batch<'a> {
    db: &'a Connection,
    salt: &'a [u8],
    at: UnixMs,
    cache: &'a mut Cache,
    logs: HashMap<LogId, LogState>,
    counters: HashMap<(i64, [u8; 40]), u64>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        db: &'a Connection,
        salt: &'a [u8],
        at: UnixMs,
        cache: &'a mut Cache,
    ) -> Self {
        Self {
            db,
            salt,
            at,
            cache,
            logs: HashMap::new(),
            counters: HashMap::new(),
        }
    }

    pub(super) fn write(&mut self, write: &Write) -> Result<Outcome, StoreError> {
        match write {
            Write::Append { log, env, bound } => self.append(log, env, *bound),
            Write::Recall { log, env } => self.recall(log, env),
            Write::Wraps { channel, e, wraps } => {
                let Some(log) = self.log(&LogId::Channel(*channel))? else {
                    return Ok(Outcome::NoLog);
                };
                keys::put_wraps(self.db, log.n, *e, wraps)
            }
            Write::Unwrap {
                channel,
                holder,
                epochs,
            } => {
                let Some(log) = self.log(&LogId::Channel(*channel))? else {
                    return Ok(Outcome::NoLog);
                };
                keys::drop_wraps(self.db, log.n, holder, epochs)
            }
            Write::Ctl { channel, rec } => {
                let id = LogId::Channel(*channel);
                self.make(&id, None)?;
                let mut log = self.existing(&id)?;
                self.push(&id, &mut log, None, &row::ctl_to_bytes(rec))
            }
            Write::Mailbox {
                mailbox,
                user,
                path,
            } => {
                let path = path.to_string();
                self.make(&LogId::Mailbox(*mailbox), Some((user.as_bytes(), &path)))?;
                Ok(Outcome::Done)
            }
            Write::Audit { entry } => self.audit(entry),
            Write::Expire { log, before, steps } => self.expire(log, *before, *steps),
            Write::Freeze { log, frozen } => {
                let sql = "UPDATE log SET frozen = ?2 WHERE id = ?1";
                let n = self.run(sql, params![log.to_bytes(), frozen])?;
                Ok(if n == 0 {
                    Outcome::NoLog
                } else {
                    Outcome::Done
                })
            }
            Write::Delete { log } => self.delete(log),
            Write::Cursor { log, reader, seq } => {
                let Some(state) = self.log(log)? else {
                    return Ok(Outcome::NoLog);
                };
                self.run(
                    "INSERT INTO cursor VALUES (?1, ?2, ?3) ON CONFLICT (log, reader)
                     DO UPDATE SET seq = max(seq, excluded.seq)",
                    params![state.n, reader.as_bytes(), int(*seq)],
                )?;
                Ok(Outcome::Done)
            }
            Write::Ident { .. }
            | Write::Standing { .. }
            | Write::ServerInvite(_)
            | Write::Redeemed { .. }
            | Write::InviteBox { .. }
            | Write::Announcement(_)
            | Write::Checkpoint { .. } => self.put(write),
        }
    }

    /// Writes back what changed for many entries at once.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let log = "UPDATE log SET head = ?2, oldest = ?3, lapsed = ?4 WHERE n = ?1";
        for state in self.logs.values() {
            let (head, oldest) = (int(state.head), int(state.oldest));
            self.run(log, params![state.n, head, oldest, int(state.lapsed)])?;
        }
        let counter = "INSERT OR REPLACE INTO counter VALUES (?1, ?2, ?3, ?4)";
        for ((log, sender), ctr) in &self.counters {
            self.run(counter, params![log, sender, int(*ctr), int(self.at.0)])?;
        }
        if self.cache.counters.len() > COUNTERS_MAX {
            self.cache.counters.clear();
        }
        Ok(())
    }

    fn put(&self, write: &Write) -> Result<Outcome, StoreError> {
        match write {
            Write::Ident { user, n, rec } => self.run(
                "INSERT INTO ident VALUES (?1, ?2, ?3)",
                params![user.as_bytes(), int(*n), rec.as_slice()],
            )?,
            Write::Standing { user, standing } => self.run(
                "INSERT OR REPLACE INTO standing VALUES (?1, ?2, ?3)",
                params![user.as_bytes(), standing.admin, standing.removed],
            )?,
            Write::ServerInvite(row) if row.uses_left == 0 => self.run(
                "DELETE FROM server_invite WHERE invite = ?1",
                [row.invite.as_bytes()],
            )?,
            Write::ServerInvite(row) => self.run(
                "INSERT OR REPLACE INTO server_invite VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    row.invite.as_bytes(),
                    row.key.as_bytes(),
                    row.minter.as_bytes(),
                    row.uses_left,
                    int(row.expires.0)
                ],
            )?,
            Write::Redeemed { invite, accounts } => self.run(
                "INSERT OR REPLACE INTO redeemed VALUES (?1, ?2)",
                params![invite.as_bytes(), accounts],
            )?,
            Write::InviteBox {
                invite,
                sealed: Some(sealed),
            } => self.run(
                "INSERT OR REPLACE INTO invite_box VALUES (?1, ?2)",
                params![invite.as_bytes(), sealed.as_slice()],
            )?,
            Write::InviteBox {
                invite,
                sealed: None,
            } => self.run(
                "DELETE FROM invite_box WHERE invite = ?1",
                [invite.as_bytes()],
            )?,
            Write::Announcement(row) => keys::put_announcement(self.db, row)?,
            Write::Checkpoint { rec } => self.run(
                "INSERT OR REPLACE INTO meta VALUES ('checkpoint', ?1)",
                [rec.as_slice()],
            )?,
            Write::Append { .. }
            | Write::Recall { .. }
            | Write::Wraps { .. }
            | Write::Unwrap { .. }
            | Write::Ctl { .. }
            | Write::Mailbox { .. }
            | Write::Freeze { .. }
            | Write::Delete { .. }
            | Write::Cursor { .. }
            | Write::Audit { .. }
            | Write::Expire { .. } => 0,
        };
        Ok(Outcome::Done)
    }

    fn append(
        &mut self,
        id: &LogId,
        env: &Parsed,
        bound: Option<Bound>,
    ) -> Result<Outcome, StoreError> {
        let Some(mut log) = self.log(id)? else {
            return Ok(Outcome::NoLog);
        };
        let header = &env.header;
        let mid = self.mid(id, &header.msg_id);
        let data = row::env_to_bytes(&env.envelope);
        if let Some(outcome) = self.first(log.n, mid, &header.msg_id, &data)? {
            return Ok(outcome);
        }
        let sender = sender(header);
        let expected = self.counter(log.n, sender)? + 1;
        if header.ctr != expected {
            return Ok(Outcome::CounterGap { expected });
        }
        let mut old = None;
        let key = row::key(header);
        if let Some(key) = &key {
            let current = self.newest(log.n, key)?;
            if let Route::State(_, version) = &header.route
                && *version != u64::MAX
                && *version != current
            {
                return Ok(Outcome::VersionMismatch { current });
            }
            old = Some(current).filter(|seq| (1..log.oldest).contains(seq));
        }
        if let Some(bound) = bound
            && self.is_full(&log, bound)?
        {
            return Ok(Outcome::InboxFull);
        }
        let outcome = self.push(id, &mut log, Some(mid), &data)?;
        self.cache.counters.insert((log.n, sender), header.ctr);
        self.counters.insert((log.n, sender), header.ctr);
        if let Some(key) = key {
            self.run(
                "INSERT OR REPLACE INTO slot VALUES (?1, ?2, ?3)",
                params![log.n, key, int(log.head)],
            )?;
        }
        if let Some(seq) = old {
            self.run("DELETE FROM entry WHERE place = ?1", [place(log.n, seq)])?;
        }
        Ok(outcome)
    }

    fn recall(&mut self, id: &LogId, env: &Parsed) -> Result<Outcome, StoreError> {
        let Some(log) = self.log(id)? else {
            return Ok(Outcome::Done);
        };
        let msg_id = &env.header.msg_id;
        let data = row::env_to_bytes(&env.envelope);
        let first = self.first(log.n, self.mid(id, msg_id), msg_id, &data)?;
        let same = first.filter(|first| matches!(first, Outcome::Duplicate { .. }));
        Ok(same.unwrap_or(Outcome::Done))
    }

    fn push(
        &mut self,
        id: &LogId,
        log: &mut LogState,
        mid: Option<i64>,
        data: &[u8],
    ) -> Result<Outcome, StoreError> {
        log.head += 1;
        let seq = log.head;
        self.run(
            "INSERT INTO entry (place, mid, at, data) VALUES (?1, ?2, ?3, ?4)",
            params![place(log.n, seq), mid, int(self.at.0), data],
        )?;
        self.touch(id, *log);
        Ok(Outcome::Appended { seq })
    }

    /// Looks for an entry with the same message id.
    fn first(
        &self,
        log: i64,
        mid: i64,
        msg_id: &MsgId,
        data: &[u8],
    ) -> Result<Option<Outcome>, StoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT place, at, data FROM entry WHERE mid = ?1")?;
        let mut rows = query.query([mid])?;
        while let Some(found) = rows.next()? {
            let at_place: i64 = found.get(0)?;
            let first = found.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            let seq = seq_of(at_place);
            if place(log, seq) != at_place {
                continue;
            }
            if first == data {
                let at = UnixMs(uint(found.get(1)?));
                return Ok(Some(Outcome::Duplicate { seq, at }));
            }
            let EntryBody::Env(env) = parse(first)? else {
                continue;
            };
            if Header::parse(&env.header).is_some_and(|h| h.msg_id == *msg_id) {
                return Ok(Some(Outcome::IdReuse));
            }
        }
        Ok(None)
    }

    fn counter(&mut self, log: i64, sender: [u8; 40]) -> Result<u64, StoreError> {
        if let Some(ctr) = self.cache.counters.get(&(log, sender)) {
            return Ok(*ctr);
        }
        let mut query = self
            .db
            .prepare_cached("SELECT ctr FROM counter WHERE log = ?1 AND sender = ?2")?;
        let ctr = query.query_row(params![log, sender], |r| r.get(0));
        let ctr = ctr.optional()?.map_or(0, uint);
        self.cache.counters.insert((log, sender), ctr);
        Ok(ctr)
    }

    /// Returns the newest entry of a slot or memory item.
    fn newest(&self, log: i64, key: &[u8]) -> Result<u64, StoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT seq FROM slot WHERE log = ?1 AND slot = ?2")?;
        let seq = query.query_row(params![log, key], |r| r.get(0));
        Ok(seq.optional()?.map_or(0, uint))
    }

    fn is_full(&self, log: &LogState, bound: Bound) -> Result<bool, StoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT seq FROM cursor WHERE log = ?1 AND reader = ?2")?;
        let after = query.query_row(params![log.n, bound.reader.as_bytes()], |r| r.get(0));
        let after = place(log.n, after.optional()?.map_or(0, uint));
        let mut query = self.db.prepare_cached(
            "SELECT count(*), coalesce(sum(length(data)), 0) FROM entry
             WHERE place > ?1 AND place <= ?2",
        )?;
        let (items, bytes): (i64, i64) = query.query_row([after, place(log.n, log.head)], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })?;
        Ok(uint(items) >= u64::from(bound.items) || uint(bytes) >= bound.bytes)
    }

    fn expire(&mut self, id: &LogId, before: UnixMs, steps: u32) -> Result<Outcome, StoreError> {
        let Some(mut log) = self.log(id)? else {
            return Ok(Outcome::NoLog);
        };
        let silent = UnixMs(self.at.0.saturating_sub(COUNTER_MS));
        self.forget_counters(log.n, before.min(silent))?;
        let end = place(log.n, log.head);
        let mut gone = Vec::new();
        {
            let mut query = self.db.prepare_cached(
                "SELECT place, at, data FROM entry WHERE place BETWEEN ?1 AND ?2
                 ORDER BY place LIMIT ?3",
            )?;
            let mut rows = query.query(params![place(log.n, log.oldest), end, steps])?;
            while let Some(found) = rows.next()? {
                if uint(found.get(1)?) >= before.0 {
                    break;
                }
                let at_place: i64 = found.get(0)?;
                let seq = seq_of(at_place);
                log.oldest = seq + 1;
                let data = found.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
                match row::Keep::of(&parse(data)?) {
                    row::Keep::Young => {
                        log.lapsed = seq;
                        gone.push(at_place);
                    }
                    row::Keep::Newest(key) if self.newest(log.n, &key)? != seq => {
                        gone.push(at_place);
                    }
                    row::Keep::Newest(_) | row::Keep::Always => {}
                }
            }
        }
        for at_place in gone {
            self.run("DELETE FROM entry WHERE place = ?1", [at_place])?;
        }
        let next = "SELECT at FROM entry WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT 1";
        let at = self
            .db
            .prepare_cached(next)?
            .query_row([place(log.n, log.oldest), end], |r| r.get(0))
            .optional()?
            .map(|at| UnixMs(uint(at)));
        if at.is_none() {
            log.oldest = log.head + 1;
        }
        self.touch(id, log);
        Ok(Outcome::Expired {
            oldest: log.oldest,
            at,
        })
    }

    fn forget_counters(&mut self, log: i64, before: UnixMs) -> Result<(), StoreError> {
        // Counters of this batch are not in the table yet.
        let stale = "DELETE FROM counter WHERE log = ?1 AND at < ?2 RETURNING sender";
        let mut query = self.db.prepare_cached(stale)?;
        let mut rows = query.query(params![log, int(before.0)])?;
        while let Some(found) = rows.next()? {
            let sender: [u8; 40] = found.get(0)?;
            if !self.counters.contains_key(&(log, sender)) {
                self.cache.counters.remove(&(log, sender));
            }
        }
        Ok(())
    }

    fn delete(&mut self, id: &LogId) -> Result<Outcome, StoreError> {
        let Some(mut log) = self.log(id)? else {
            return Ok(Outcome::NoLog);
        };
        self.run(
            "DELETE FROM entry WHERE place BETWEEN ?1 AND ?2",
            [place(log.n, 0), place(log.n, log.head)],
        )?;
        self.run("DELETE FROM slot WHERE log = ?1", [log.n])?;
        self.run("DELETE FROM wrap WHERE log = ?1", [log.n])?;
        self.run("UPDATE log SET deleted = 1 WHERE n = ?1", [log.n])?;
        log.oldest = log.head + 1;
        log.lapsed = log.head;
        self.touch(id, log);
        Ok(Outcome::Done)
    }

    fn audit(&self, entry: &str) -> Result<Outcome, StoreError> {
        let last: Option<(i64, [u8; 32])> = self
            .db
            .prepare_cached("SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1")?
            .query_row([], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        let (n, prev) = last.unwrap_or((0, [0; 32]));
        let hash = audit::hash(&Hash::new(prev), entry);
        self.run(
            "INSERT INTO audit VALUES (?1, ?2, ?3)",
            params![n + 1, entry, hash.as_bytes()],
        )?;
        let n = uint(n + 1);
        Ok(Outcome::Audited(Head { n, hash }))
    }

    fn make(&mut self, id: &LogId, path: Option<(&[u8; 32], &str)>) -> Result<(), StoreError> {
        if self.log(id)?.is_none() {
            let (user, path) = path.unzip();
            self.run(
                "INSERT INTO log (id, user, path) VALUES (?1, ?2, ?3)",
                params![id.to_bytes(), user, path],
            )?;
        }
        Ok(())
    }

    fn existing(&mut self, id: &LogId) -> Result<LogState, StoreError> {
        self.log(id)?.ok_or(StoreError::Corrupt("a log"))
    }

    fn log(&mut self, id: &LogId) -> Result<Option<LogState>, StoreError> {
        if let Some(state) = self.cache.logs.get(id) {
            return Ok(Some(*state));
        }
        let found = SqliteStore::log_state(self.db, id)?;
        if let Some(state) = found {
            self.cache.logs.insert(*id, state);
        }
        Ok(found)
    }

    fn touch(&mut self, id: &LogId, log: LogState) {
        self.cache.logs.insert(*id, log);
        self.logs.insert(*id, log);
    }

    fn mid(&self, log: &LogId, msg_id: &MsgId) -> i64 {
        let hash = Builder::default()
            .raw(self.salt)
            .raw(&log.to_bytes())
            .raw(msg_id.as_bytes())
            .sha256();
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        i64::from_be_bytes(first)
    }

    fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        Ok(self.db.prepare_cached(sql)?.execute(params)?)
    }
}

fn sender(header: &Header) -> [u8; 40] {
    let mut sender = [0; 40];
    let (key, sid) = sender.split_at_mut(32);
    key.copy_from_slice(header.sender_key.as_bytes());
    sid.copy_from_slice(header.sid.as_bytes());
    sender
}

fn parse(data: &[u8]) -> Result<EntryBody, StoreError> {
    row::parse(data).ok_or(StoreError::Corrupt("an entry"))
}
