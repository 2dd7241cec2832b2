//! The store that forgets: plain maps, for `--ephemeral`, tests and the simulation.

use super::{
    ACT_ROWS, AnnouncementRow, Bound, COUNTER_MS, CURSOR_ROWS_MAX, CommitError, CursorRow, LogRow,
    Outcome, Page, PageBuilder, PageQuery, Read, Select, ServerInviteRow, Snapshot, Standing,
    Store, StoreError, Write, row,
};
use crate::audit;
use conclave_proto::body::Head;
use conclave_proto::entry::{Entry, EntryBody, Header, Parsed, Route};
use conclave_proto::frame::op::Wrap;
use conclave_proto::frame::reply::{AuditPage, AuditRow, EntryPage, EpochWrap};
use conclave_proto::id::{
    Blob, ChannelId, Hash, InviteId, LogId, MailboxId, MsgId, SealedKey, SenderSid, UserId,
};
use conclave_proto::key::{HolderKey, MachineKey};
use conclave_proto::limit::WRAPS_MAX;
use conclave_proto::name::SessionPath;
use conclave_proto::time::UnixMs;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Everything, in maps.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    logs: BTreeMap<LogId, Log>,
    idents: BTreeMap<UserId, Vec<Blob>>,
    standings: BTreeMap<UserId, Standing>,
    invites: BTreeMap<InviteId, ServerInviteRow>,
    redeemed: BTreeMap<InviteId, u32>,
    boxes: BTreeMap<InviteId, Blob>,
    announcements: BTreeMap<HolderKey, AnnouncementRow>,
    audit: Vec<AuditRow>,
    checkpoint: Option<Blob>,
    at: UnixMs,
}

#[derive(Clone, Debug, Default)]
struct Log {
    path: Option<(UserId, SessionPath)>,
    entries: BTreeMap<u64, Entry>,
    ids: BTreeMap<MsgId, u64>,
    counters: BTreeMap<(MachineKey, SenderSid), (u64, UnixMs)>,
    /// The newest entry of each slot and memory item.
    newest: BTreeMap<Vec<u8>, u64>,
    /// Where those are.
    current: BTreeSet<u64>,
    cursors: BTreeMap<MailboxId, u64>,
    /// Wraps by holder and epoch, with the generation of the holder's key.
    wraps: BTreeMap<(HolderKey, u32), (u32, SealedKey)>,
    head: u64,
    oldest: u64,
    lapsed: u64,
    frozen: bool,
    deleted: bool,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn write(&mut self, at: UnixMs, write: &Write) -> Outcome {
        match write {
            Write::Append { log, env, bound } => match self.logs.get_mut(log) {
                Some(log) => log.append(at, env, *bound),
                None => Outcome::NoLog,
            },
            Write::Recall { log, env } => {
                let first = self.logs.get(log).and_then(|log| log.first(env));
                let same = first.filter(|first| matches!(first, Outcome::Duplicate { .. }));
                same.unwrap_or(Outcome::Done)
            }
            Write::Wraps { channel, e, wraps } => {
                self.on(&LogId::Channel(*channel), |log| log.wrap(*e, wraps))
            }
            Write::Unwrap {
                channel,
                holder,
                epochs,
            } => self.on(&LogId::Channel(*channel), |log| {
                for e in epochs {
                    log.wraps.remove(&(*holder, *e));
                }
            }),
            Write::Ctl { channel, rec } => {
                let log = self.logs.entry(LogId::Channel(*channel)).or_default();
                log.push(at, EntryBody::Ctl(rec.clone()))
            }
            Write::Mailbox {
                mailbox,
                user,
                path,
            } => {
                let log = self.logs.entry(LogId::Mailbox(*mailbox)).or_default();
                log.path = Some((*user, path.clone()));
                log.oldest = log.oldest.max(1);
                Outcome::Done
            }
            Write::Freeze { log, frozen } => self.on(log, |log| log.frozen = *frozen),
            Write::Delete { log } => self.on(log, Log::delete),
            Write::Cursor { log, reader, seq } => self.on(log, |log| {
                let cursor = log.cursors.entry(*reader).or_default();
                *cursor = (*cursor).max(*seq);
            }),
            Write::Expire { log, before, steps } => match self.logs.get_mut(log) {
                Some(log) => log.expire(at, *before, *steps),
                None => Outcome::NoLog,
            },
            Write::Audit { entry } => {
                let prev = self.audit.last().map_or(Hash::new([0; 32]), |r| r.hash);
                let n = self.audit.last().map_or(0, |r| r.n) + 1;
                let hash = audit::hash(&prev, entry);
                let entry = entry.clone();
                self.audit.push(AuditRow {
                    n,
                    prev,
                    entry,
                    hash,
                });
                Outcome::Audited(Head { n, hash })
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

    fn put(&mut self, write: &Write) -> Outcome {
        match write {
            Write::Ident { user, rec, .. } => {
                self.idents.entry(*user).or_default().push(rec.clone());
            }
            Write::Standing { user, standing } => {
                self.standings.insert(*user, *standing);
            }
            Write::ServerInvite(row) if row.uses_left == 0 => {
                self.invites.remove(&row.invite);
            }
            Write::ServerInvite(row) => {
                self.invites.insert(row.invite, *row);
            }
            Write::Redeemed { invite, accounts } => {
                self.redeemed.insert(*invite, *accounts);
            }
            Write::InviteBox { invite, sealed } => match sealed {
                Some(sealed) => drop(self.boxes.insert(*invite, sealed.clone())),
                None => drop(self.boxes.remove(invite)),
            },
            Write::Announcement(row) => {
                let known = self.announcements.get(&row.holder);
                if known.is_none_or(|known| known.generation < row.generation) {
                    self.announcements.insert(row.holder, row.clone());
                }
            }
            Write::Checkpoint { rec } => self.checkpoint = Some(rec.clone()),
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
            | Write::Expire { .. } => {}
        }
        Outcome::Done
    }

    fn wrapped(&self) -> Vec<(ChannelId, u32, HolderKey)> {
        let channels = self.logs.iter().filter_map(|(id, log)| match id {
            LogId::Channel(channel) => Some((*channel, log)),
            LogId::Mailbox(_) => None,
        });
        channels
            .flat_map(|(channel, log)| log.wrapped().map(move |(e, holder)| (channel, e, holder)))
            .collect()
    }

    fn cursors(&self, log: &LogId) -> Vec<CursorRow> {
        let cursors = self.logs.get(log).into_iter().flat_map(|log| &log.cursors);
        let mut rows: Vec<CursorRow> = cursors
            .filter_map(|(reader, seq)| {
                let mailbox = self.logs.get(&LogId::Mailbox(*reader))?;
                let (user, path) = mailbox.path.clone()?;
                let seq = *seq;
                Some(CursorRow { user, path, seq })
            })
            .collect();
        rows.sort_by_cached_key(|row| (Reverse(row.seq), row.path.to_string()));
        rows.truncate(CURSOR_ROWS_MAX);
        rows
    }

    fn on(&mut self, log: &LogId, change: impl FnOnce(&mut Log)) -> Outcome {
        match self.logs.get_mut(log) {
            Some(log) => {
                change(log);
                Outcome::Done
            }
            None => Outcome::NoLog,
        }
    }
}

impl Log {
    fn append(&mut self, at: UnixMs, env: &Parsed, bound: Option<Bound>) -> Outcome {
        let header = &env.header;
        if let Some(first) = self.first(env) {
            return first;
        }
        let sender = (header.sender_key, header.sid);
        let expected = self.counters.get(&sender).map_or(0, |(ctr, _)| *ctr) + 1;
        if header.ctr != expected {
            return Outcome::CounterGap { expected };
        }
        let key = row::key(header);
        if let (Route::State(_, version), Some(slot)) = (&header.route, &key) {
            let current = self.newest.get(slot).copied().unwrap_or(0);
            if *version != u64::MAX && *version != current {
                return Outcome::VersionMismatch { current };
            }
        }
        if bound.is_some_and(|b| self.is_full(b)) {
            return Outcome::InboxFull;
        }
        let outcome = self.push(at, EntryBody::Env(env.envelope.clone()));
        self.counters.insert(sender, (header.ctr, at));
        self.ids.insert(header.msg_id, self.head);
        if let Some(key) = key {
            let old = self.newest.insert(key, self.head);
            self.current.insert(self.head);
            if let Some(old) = old {
                self.current.remove(&old);
                if old < self.oldest {
                    self.remove(old);
                }
            }
        }
        outcome
    }

    /// Looks for an entry with the same message id.
    fn first(&self, env: &Parsed) -> Option<Outcome> {
        let first = self.entries.get(self.ids.get(&env.header.msg_id)?)?;
        let same = first.body == EntryBody::Env(env.envelope.clone());
        let (seq, at) = (first.seq, first.at);
        Some(match same {
            true => Outcome::Duplicate { seq, at },
            false => Outcome::IdReuse,
        })
    }

    fn wrap(&mut self, e: u32, wraps: &[Wrap]) {
        for wrap in wraps {
            let sealed = (wrap.generation, wrap.sealed);
            self.wraps.entry((wrap.to, e)).or_insert(sealed);
        }
    }

    fn wraps(&self, holder: HolderKey, from: u32) -> Vec<EpochWrap> {
        let theirs = self.wraps.range((holder, from)..=(holder, u32::MAX));
        let wraps = theirs.map(|((_, e), (generation, sealed))| EpochWrap {
            e: *e,
            generation: *generation,
            sealed: *sealed,
        });
        wraps.take(WRAPS_MAX).collect()
    }

    /// Returns who has a wrap of the newest epoch that there are wraps of.
    fn wrapped(&self) -> impl Iterator<Item = (u32, HolderKey)> {
        let newest = self.wraps.keys().map(|(_, e)| *e).max();
        let theirs = self.wraps.keys().filter(move |(_, e)| Some(*e) == newest);
        theirs.map(|(holder, e)| (*e, *holder))
    }

    fn push(&mut self, at: UnixMs, body: EntryBody) -> Outcome {
        self.oldest = self.oldest.max(1);
        self.head += 1;
        let seq = self.head;
        self.entries.insert(seq, Entry { seq, at, body });
        Outcome::Appended { seq }
    }

    fn is_full(&self, bound: Bound) -> bool {
        let after = self.cursors.get(&bound.reader).copied().unwrap_or(0);
        let unread = self.entries.range(after + 1..);
        let (mut items, mut bytes) = (0_u32, 0_u64);
        for (_, entry) in unread {
            items += 1;
            bytes += u64::try_from(stored(&entry.body)).unwrap_or(u64::MAX);
        }
        items >= bound.items || bytes >= bound.bytes
    }

    fn expire(&mut self, now: UnixMs, before: UnixMs, steps: u32) -> Outcome {
        let silent = before.min(UnixMs(now.0.saturating_sub(COUNTER_MS)));
        self.counters.retain(|_, (_, at)| *at >= silent);
        for _ in 0..steps {
            let Some((&seq, entry)) = self.entries.range(self.oldest..).next() else {
                self.oldest = self.head + 1;
                break;
            };
            if entry.at >= before {
                break;
            }
            self.oldest = seq + 1;
            match row::Keep::of(&entry.body) {
                row::Keep::Young => {
                    self.lapsed = seq;
                    self.remove(seq);
                }
                row::Keep::Newest(key) if self.newest.get(&key) != Some(&seq) => self.remove(seq),
                row::Keep::Newest(_) | row::Keep::Always => {}
            }
        }
        let next = self.entries.range(self.oldest..).next();
        Outcome::Expired {
            oldest: next.map_or(self.head + 1, |(seq, _)| *seq),
            at: next.map(|(_, entry)| entry.at),
        }
    }

    fn remove(&mut self, seq: u64) {
        let Some(entry) = self.entries.remove(&seq) else {
            return;
        };
        if let EntryBody::Env(env) = entry.body
            && let Some(header) = Header::parse(&env.header)
        {
            self.ids.remove(&header.msg_id);
        }
    }

    fn delete(&mut self) {
        self.deleted = true;
        self.entries.clear();
        self.ids.clear();
        self.newest.clear();
        self.current.clear();
        self.wraps.clear();
        self.lapsed = self.head;
        self.oldest = self.head + 1;
    }

    fn page(&self, after: u64, limit: u32, select: Select) -> EntryPage {
        let mut page = PageBuilder::new(limit).lapsed(self.lapsed);
        let from = after.saturating_add(1);
        let mut all = self.entries.range(from..).map(|(_, entry)| entry);
        let mut items = self.current.range(from..);
        let mut next = || match select {
            Select::All => all.next(),
            Select::Ctl => all.find(|entry| matches!(entry.body, EntryBody::Ctl(_))),
            Select::Items => items.find_map(|seq| self.entries.get(seq)),
        };
        while next().is_some_and(|entry| page.push(entry.clone())) {}
        page.finish(after, self.head, select)
    }
}

/// Returns the bytes an entry has in a store.
fn stored(body: &EntryBody) -> usize {
    match body {
        EntryBody::Env(env) => row::env_to_bytes(env).len(),
        EntryBody::Ctl(rec) => rec.len() + 1,
        EntryBody::Unknown(_) => 0,
    }
}

impl Read for MemoryStore {
    fn page(&mut self, query: &PageQuery) -> Result<Page, StoreError> {
        Ok(match query {
            PageQuery::Log {
                log,
                after,
                limit,
                select,
            } => Page::Entries(match self.logs.get(log) {
                Some(log) => log.page(*after, *limit, *select),
                None => PageBuilder::new(*limit).finish(*after, 0, *select),
            }),
            PageQuery::Audit { after, limit } => {
                let rows = self.audit.iter().filter(|r| r.n > *after);
                let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
                Page::Audit(AuditPage {
                    rows: rows.take(limit).cloned().collect(),
                    head: self.audit.last().map_or(0, |r| r.n),
                    checkpoint: self.checkpoint.clone(),
                })
            }
            PageQuery::Wraps {
                channel,
                holder,
                from,
            } => {
                let log = self.logs.get(&LogId::Channel(*channel));
                Page::Wraps(log.map_or_else(Vec::new, |log| log.wraps(*holder, *from)))
            }
            PageQuery::Cursors { log } => Page::Cursors(self.cursors(log)),
        })
    }
}

impl Store for MemoryStore {
    fn commit(&mut self, at: UnixMs, writes: &[Write]) -> Result<Vec<Outcome>, CommitError> {
        self.at = self.at.max(at);
        Ok(writes.iter().map(|w| self.write(at, w)).collect())
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        let ctl = self.logs.iter().flat_map(|(id, log)| {
            log.entries
                .values()
                .filter_map(move |e| match (&e.body, id) {
                    (EntryBody::Ctl(rec), LogId::Channel(id)) => {
                        Some((*id, e.seq, e.at, rec.clone()))
                    }
                    _ => None,
                })
        });
        Ok(Snapshot {
            idents: self.idents.clone().into_iter().collect(),
            standings: self.standings.clone().into_iter().collect(),
            ctl: ctl.collect(),
            logs: self.logs.iter().map(|(id, log)| log.row(*id)).collect(),
            invites: self.invites.values().copied().collect(),
            redeemed: self.redeemed.clone().into_iter().collect(),
            boxes: self.boxes.clone().into_iter().collect(),
            announcements: self.announcements.values().cloned().collect(),
            wrapped: self.wrapped(),
            audit: self.audit.last().map(|r| Head {
                n: r.n,
                hash: r.hash,
            }),
            acts: {
                let newest = self.audit.iter().rev().take(ACT_ROWS);
                newest.filter_map(|r| audit::request_of(&r.entry)).collect()
            },
            checkpoint: self.checkpoint.clone(),
            at: self.at,
        })
    }

    fn reader(&self) -> Result<Option<Box<dyn Read>>, StoreError> {
        Ok(None)
    }
}

impl Log {
    fn row(&self, log: LogId) -> LogRow {
        LogRow {
            log,
            path: self.path.clone(),
            head: self.head,
            oldest: self.oldest,
            frozen: self.frozen,
            deleted: self.deleted,
        }
    }
}
