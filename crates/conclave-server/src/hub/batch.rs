//! Around the commit: what came of each write, who is told, and what time brings.

use super::state::{Class, HubState, Pending, Recovery};
use super::{ConnId, Outgoing};
use crate::audit::{self, CHECKPOINT_MS, CHECKPOINT_ROWS};
use crate::store::{CommitError, Outcome, Write};
use conclave_proto::close::Close;
use conclave_proto::entry::{Entry, EntryBody};
use conclave_proto::frame::Reply;
use conclave_proto::frame::reply::Appended;
use conclave_proto::id::LogId;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Now, UnixMs};

/// How many logs retention looks at per tick, and how many entries of them all.
const EXPIRE_LOGS: usize = 128;
const EXPIRE_STEPS: usize = 4_096;
const DAY_MS: u64 = 86_400_000;

impl HubState {
    /// Takes what has to be committed now, possibly nothing.
    #[must_use]
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// Learns that `writes` are durable, and what came of each.
    pub fn applied(&mut self, now: Now, writes: Vec<Write>, outcomes: &[Outcome]) {
        self.stats.commits += 1;
        self.stats.batches.add(writes.len());
        self.room.committed();
        self.class = Class::Neutral;
        let mut fresh: Vec<(LogId, Vec<Entry>)> = Vec::new();
        for (write, outcome) in writes.into_iter().zip(outcomes) {
            let pending = self.pending.pop_front().unwrap_or(Pending::Quiet);
            if let (Some((log, body)), Outcome::Appended { seq }) = (appended(write), outcome) {
                let (seq, at) = (*seq, now.wall);
                let entry = Entry { seq, at, body };
                match fresh.iter_mut().find(|(id, _)| *id == log) {
                    Some((_, entries)) => entries.push(entry),
                    None => fresh.push((log, vec![entry])),
                }
            }
            if matches!(pending, Pending::Ctl(..)) {
                self.publish(now, std::mem::take(&mut fresh));
            }
            self.conclude(now, pending, outcome);
        }
        self.publish(now, fresh);
        self.sign_checkpoint(now, CHECKPOINT_ROWS);
    }

    /// Learns that the commit did not happen.
    pub fn refused(&mut self, writes: &[Write], error: &CommitError) -> Recovery {
        self.class = Class::Neutral;
        let (code, text) = match error {
            CommitError::Full => (Code::StorageFull, "the server has no room left"),
            CommitError::Failed(_) | CommitError::Unknown(_) => {
                (Code::Internal, "the server could not store it")
            }
        };
        if let CommitError::Full = error {
            self.found_full();
        }
        let mut recovery = Recovery::GoOn;
        for write in writes {
            match (self.pending.pop_front(), write) {
                (Some(Pending::Append(conn, id) | Pending::Reply(conn, id, _)), _)
                | (Some(Pending::Ctl(conn, id, _) | Pending::Recall(conn, id, _)), _)
                | (Some(Pending::Announced(conn, id, _)), _) => {
                    self.refuse(conn, id, Reject::new(code.clone(), text));
                }
                (Some(Pending::Wraps(put)), _) => {
                    if let Some((conn, id)) = put.answer {
                        self.refuse(conn, id, Reject::new(code.clone(), text));
                    }
                }
                (Some(Pending::Enter(conn, _)), _) => {
                    let reject = Reject::new(code.clone(), text);
                    self.send(conn, Outgoing::Entered(Err(reject.into())));
                }
                (Some(Pending::Expire(log)), _) => self.expire_at(log, UnixMs(0)),
                (Some(Pending::Quiet) | None, Write::Mailbox { mailbox, .. }) => {
                    self.logs.remove(&LogId::Mailbox(*mailbox));
                }
                (Some(Pending::Quiet | Pending::Unwrapped(..)) | None, _) => {}
            }
            if is_change(write) {
                recovery = Recovery::Restart;
            }
        }
        recovery
    }

    fn conclude(&mut self, now: Now, pending: Pending, outcome: &Outcome) {
        if let Outcome::Audited(head) = outcome {
            self.audit = *head;
        }
        match pending {
            Pending::Quiet => {}
            Pending::Append(conn, id) => self.answer_append(now, conn, id, outcome),
            Pending::Recall(conn, id, reject) => match outcome {
                Outcome::Duplicate { .. } => self.answer_append(now, conn, id, outcome),
                _ => self.refuse(conn, id, *reject),
            },
            Pending::Announced(conn, id, row) => self.announced_key(conn, id, *row),
            Pending::Wraps(put) => self.wraps_stored(&put, outcome),
            Pending::Unwrapped(channel, holder, e) => self.wraps_dropped(&channel, &holder, &e),
            Pending::Ctl(conn, id, removed) => {
                self.answer_append(now, conn, id, outcome);
                if let Some(user) = removed {
                    self.end_strangers(user);
                }
            }
            Pending::Reply(conn, id, reply) => self.reply(conn, id, *reply),
            Pending::Enter(conn, entry) => self.admit(now, conn, &entry),
            Pending::Expire(log) => {
                if let Outcome::Expired { oldest, at } = outcome {
                    let keep = self.retention(&log);
                    if let Some(state) = self.logs.get_mut(&log) {
                        state.oldest = *oldest;
                    }
                    if let Some(at) = at {
                        self.expire_at(log, at.plus(keep));
                    }
                }
            }
        }
    }

    fn answer_append(&mut self, now: Now, conn: ConnId, id: u64, outcome: &Outcome) {
        let reject = |code, text: &str| Reject::new(code, text);
        let answer = match *outcome {
            Outcome::Appended { seq } => {
                self.stats.appended += 1;
                Ok((seq, now.wall, false))
            }
            Outcome::Duplicate { seq, at } => {
                self.stats.duplicates += 1;
                Ok((seq, at, true))
            }
            Outcome::IdReuse => Err(reject(Code::IdReuse, "the message id has other bytes")),
            Outcome::CounterGap { expected } => {
                let text = "the message counter is not the next one";
                Err(reject(Code::CounterGap, text).expected(expected))
            }
            Outcome::VersionMismatch { current } => {
                let text = "the slot has another version";
                Err(reject(Code::VersionMismatch, text).expected(current))
            }
            Outcome::InboxFull => {
                Err(reject(Code::InboxFull, "the mailbox is full").retry_after(60_000))
            }
            Outcome::NoLog => Err(super::access::not_found("log")),
            Outcome::Done | Outcome::Audited(_) | Outcome::Expired { .. } => {
                Err(reject(Code::Internal, "the server could not store it"))
            }
        };
        match answer {
            Ok((seq, at, dup)) => {
                self.reply(conn, id, Reply::Appended(Appended { seq, at, dup }));
            }
            Err(reject) => self.refuse(conn, id, reject),
        }
    }

    fn publish(&mut self, now: Now, fresh: Vec<(LogId, Vec<Entry>)>) {
        for (log, entries) in fresh {
            let keep = self.retention(&log);
            if self.logs.entry(log).or_default().due.is_none() {
                self.expire_at(log, now.wall.plus(keep));
            }
            self.push(log, entries);
        }
    }

    /// Returns how long entries of a log are kept: the server's bound, or a shorter one of the channel.
    fn retention(&self, log: &LogId) -> u64 {
        let forever = |ms: u64| if ms == 0 { u64::MAX } else { ms };
        match log {
            LogId::Channel(id) => {
                let days = self
                    .dir
                    .channel(id)
                    .map_or(0, |c| c.log.limits().retention_days);
                let own = forever(u64::from(days).saturating_mul(DAY_MS));
                own.min(forever(self.settings.message_retention_ms))
            }
            LogId::Mailbox(_) => forever(self.settings.whisper_retention_ms),
        }
    }

    fn expire_at(&mut self, log: LogId, at: UnixMs) {
        if let Some(state) = self.logs.get_mut(&log) {
            state.due = Some(at);
            self.due.insert((at, log));
        }
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.end_leases(now);
        self.end_enrolments(now);
        self.flush_cursors();
        self.quotas.evict(now.mono);
        self.keys.evict(now.mono);
        self.refill();
        if now.wall >= self.checkpoint_at.plus(CHECKPOINT_MS) {
            self.sign_checkpoint(now, 1);
        }
        self.expire(now);
    }

    /// Lets old entries go, of the logs where some are due.
    fn expire(&mut self, now: Now) {
        let due = self.due.iter().take_while(|(at, _)| *at <= now.wall);
        let due: Vec<(UnixMs, LogId)> = due.take(EXPIRE_LOGS).copied().collect();
        let steps = u32::try_from(EXPIRE_STEPS / due.len().max(1)).unwrap_or(u32::MAX);
        for (at, log) in due {
            self.due.remove(&(at, log));
            let keep = self.retention(&log);
            let Some(state) = self.logs.get_mut(&log).filter(|state| !state.deleted) else {
                continue;
            };
            state.due = None;
            let before = UnixMs(now.wall.0.saturating_sub(keep));
            let write = Write::Expire { log, before, steps };
            self.put(write, Pending::Expire(log));
        }
    }

    pub(super) fn drain(&mut self, now: Now) {
        self.draining = true;
        self.flush_cursors();
        self.sign_checkpoint(now, 1);
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            // Spread the return over five seconds.
            let delay = conn.0.wrapping_mul(2_654_435_761) % 5_000;
            let reason = Reject::new(Code::Draining, "the server is going away");
            self.end(now.mono, conn, Close::Draining, reason.retry_after(delay));
        }
    }

    fn sign_checkpoint(&mut self, now: Now, rows: u64) {
        if self.audit.n >= self.checkpoint_n + rows {
            let rec = audit::checkpoint(&self.audit, now.wall, &self.settings.secret);
            self.checkpoint_n = self.audit.n;
            self.checkpoint_at = now.wall;
            self.checkpoint = Some(rec.clone());
            self.write(Write::Checkpoint { rec });
        }
    }
}

/// Returns whether the hub has acted on a write before it was durable.
const fn is_change(write: &Write) -> bool {
    match write {
        Write::Append { .. }
        | Write::Recall { .. }
        | Write::Announcement(_)
        | Write::Wraps { .. }
        | Write::Unwrap { .. }
        | Write::Mailbox { .. }
        | Write::Cursor { .. }
        | Write::Checkpoint { .. }
        | Write::Expire { .. } => false,
        Write::Ctl { .. }
        | Write::Ident { .. }
        | Write::Standing { .. }
        | Write::ServerInvite(_)
        | Write::Redeemed { .. }
        | Write::InviteBox { .. }
        | Write::Freeze { .. }
        | Write::Delete { .. }
        | Write::Audit { .. } => true,
    }
}

fn appended(write: Write) -> Option<(LogId, EntryBody)> {
    match write {
        Write::Append { log, env, .. } => Some((log, EntryBody::Env(env.envelope))),
        Write::Ctl { channel, rec } => Some((LogId::Channel(channel), EntryBody::Ctl(rec))),
        _ => None,
    }
}
