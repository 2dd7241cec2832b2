//! The hub's rules and everything they know: pure, told the time, never waiting.
//!
//! The driver hands in commands with [`HubState::handle`], commits [`HubState::take_writes`] in one
//! transaction, hands the outcomes back with [`HubState::applied`] (or [`HubState::refused`]) and
//! then carries out [`HubState::poll_effect`] until it is empty. Effects of a command leave only
//! after the commit its writes are in, so nobody is told of anything that is not durable.
//!
//! Invariant: a batch holds appends, or changes of who may do what, never both
//! ([`HubState::must_commit_before`]). So every append is judged by durable rights, and the place of
//! a control record is known when it is checked.

use super::directory::Directory;
use super::presence::Roster;
use super::ring::Ring;
use super::subscription::Sub;
use super::{Checked, Command, ConnId, Effect, Enter, Outgoing, Settings, Stats};
use crate::audit::{self, Act, CHECKPOINT_ROWS};
use crate::store::{CommitError, Outcome, ServerInviteRow, Snapshot, StoreError, Write};
use conclave_proto::body::Head;
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Entry, EntryBody};
use conclave_proto::frame::client::Cursor;
use conclave_proto::frame::reply::Appended;
use conclave_proto::frame::{Outcome as Answer, Reply, Response};
use conclave_proto::handshake::Mode;
use conclave_proto::id::{Blob, ChannelId, InviteId, LogId, MailboxId, UserId};
use conclave_proto::key::{InviteKey, MachineKey};
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now, UnixMs};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// How many logs retention looks at per tick, and how many entries of each.
const EXPIRE_LOGS: usize = 8;
const EXPIRE_STEPS: u32 = 256;

/// The hub, without its driver.
#[derive(Debug)]
pub struct HubState {
    pub(super) settings: Settings,
    pub(super) dir: Directory,
    pub(super) logs: BTreeMap<LogId, LogState>,
    pub(super) conns: HashMap<ConnId, Conn>,
    pub(super) roster: Roster,
    pub(super) invites: BTreeMap<InviteId, ServerInviteRow>,
    pub(super) redeemed: BTreeMap<InviteId, u32>,
    pub(super) boxes: BTreeMap<InviteId, Blob>,
    pub(super) enrolments: BTreeMap<InviteId, Enrolment>,
    /// Requests of admin acts that were carried out since the start.
    pub(super) acts: BTreeSet<[u8; 16]>,
    pub(super) stats: Stats,
    pub(super) checkpoint: Option<Blob>,
    audit: Head,
    checkpoint_n: u64,
    cursors: BTreeMap<(LogId, MailboxId), u64>,
    due: BTreeSet<(UnixMs, LogId)>,
    writes: Vec<Write>,
    pending: VecDeque<Pending>,
    effects: VecDeque<Effect>,
    class: Class,
    pub(super) draining: bool,
}

/// What the hub knows of a log.
#[derive(Debug, Default)]
pub(super) struct LogState {
    pub(super) head: u64,
    pub(super) oldest: u64,
    pub(super) frozen: bool,
    pub(super) deleted: bool,
    pub(super) followers: BTreeSet<ConnId>,
    pub(super) ring: Ring,
    /// When retention looks at it next.
    pub(super) due: Option<UnixMs>,
}

impl LogState {
    /// A log without entries.
    pub(super) fn empty() -> Self {
        Self {
            oldest: 1,
            ..Self::default()
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) encoding: Encoding,
    pub(super) session: Option<Session>,
    /// An enrolment that waits for the owner.
    pub(super) waiting: Option<Box<Enter>>,
    pub(super) subs: BTreeMap<LogId, Sub>,
    /// Events in the outbox or on the way to the socket.
    pub(super) frames: usize,
    pub(super) bytes: u64,
    /// Channels whose invite or name this connection has shown to know.
    pub(super) shown: BTreeSet<ChannelId>,
    bucket: (u64, Mono),
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) user: UserId,
    pub(super) key: MachineKey,
    pub(super) path: SessionPath,
    /// Absent for one-shots.
    pub(super) mailbox: Option<MailboxId>,
}

/// A machine enrolment that was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Enrolment {
    pub(super) user: UserId,
    pub(super) key: InviteKey,
    pub(super) expires: UnixMs,
}

/// What a write's outcome is for.
#[derive(Debug)]
enum Pending {
    Quiet,
    Append(ConnId, u64),
    Ctl(ConnId, u64, Option<UserId>),
    Reply(ConnId, u64, Box<Reply>),
    Enter(ConnId, Box<Enter>),
    Expire(LogId),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Class {
    #[default]
    Neutral,
    Appends,
    Changes,
}

/// What the driver must do after a commit that did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing: everybody concerned was told.
    GoOn,
    /// Build the hub again from the store.
    Restart,
}

impl HubState {
    /// Builds the hub from what the store remembers.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for records that do not make sense.
    pub fn new(settings: Settings, snapshot: Snapshot) -> Result<Self, StoreError> {
        let mut dir = Directory::load(&snapshot, &settings.server_id)?;
        let mut logs = BTreeMap::new();
        let mut due = BTreeSet::new();
        for row in snapshot.logs {
            if let (LogId::Channel(channel), true) = (row.log, row.deleted) {
                dir.delete_channel(&channel);
            }
            let expires = row.oldest <= row.head && !row.deleted;
            let state = LogState {
                head: row.head,
                oldest: row.oldest.max(1),
                frozen: row.frozen,
                deleted: row.deleted,
                due: expires.then_some(UnixMs(0)),
                ..LogState::default()
            };
            due.extend(state.due.map(|at| (at, row.log)));
            logs.insert(row.log, state);
        }
        let signed = snapshot.checkpoint.as_ref();
        let key = settings.secret.server_key();
        let signed = signed.and_then(|rec| audit::open_checkpoint(rec, &key));
        let zero = conclave_proto::id::Hash::new([0; 32]);
        Ok(Self {
            dir,
            logs,
            due,
            invites: snapshot
                .invites
                .into_iter()
                .map(|r| (r.invite, r))
                .collect(),
            redeemed: snapshot.redeemed.into_iter().collect(),
            boxes: snapshot.boxes.into_iter().collect(),
            audit: snapshot.audit.unwrap_or(Head { n: 0, hash: zero }),
            checkpoint_n: signed.map_or(0, |(head, _)| head.n),
            checkpoint: snapshot.checkpoint,
            settings,
            conns: HashMap::new(),
            roster: Roster::default(),
            enrolments: BTreeMap::new(),
            acts: BTreeSet::new(),
            stats: Stats::default(),
            cursors: BTreeMap::new(),
            writes: Vec::new(),
            pending: VecDeque::new(),
            effects: VecDeque::new(),
            class: Class::default(),
            draining: false,
        })
    }

    /// Returns whether what was handled so far must be committed before `command` is handled.
    #[must_use]
    pub fn must_commit_before(&self, command: &Command) -> bool {
        let class = classify(command);
        class != Class::Neutral && self.class != Class::Neutral && class != self.class
    }

    /// Decides on one command.
    pub fn handle(&mut self, now: Now, command: Command) {
        let class = classify(&command);
        if class != Class::Neutral {
            self.class = class;
        }
        match command {
            Command::Connect { conn, encoding } => self.connect(conn, encoding),
            Command::Enter { conn, entry } => self.enter(now, conn, entry),
            Command::Request { conn, id, op } => {
                if let Err(reject) = self.request(now, conn, id, op) {
                    self.refuse(conn, id, reject);
                }
            }
            Command::Ack { conn, cursors } => self.ack(conn, cursors),
            Command::Wrote {
                conn,
                frames,
                bytes,
            } => self.wrote(conn, frames, bytes),
            Command::Disconnected { conn } => self.gone(now, conn),
            Command::Loaded(loaded) => self.loaded(*loaded),
            Command::Tick => self.tick(now),
            Command::Drain => self.drain(now),
        }
    }

    /// Takes what has to be committed now, possibly nothing.
    #[must_use]
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// Learns that `writes` are durable, and what came of each.
    pub fn applied(&mut self, now: Now, writes: Vec<Write>, outcomes: &[Outcome]) {
        self.stats.commits += 1;
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
        let mut recovery = Recovery::GoOn;
        for write in writes {
            match (self.pending.pop_front(), write) {
                (Some(Pending::Append(conn, id) | Pending::Reply(conn, id, _)), _)
                | (Some(Pending::Ctl(conn, id, _)), _) => {
                    self.refuse(conn, id, Reject::new(code.clone(), text));
                }
                (Some(Pending::Enter(conn, _)), _) => {
                    let reject = Reject::new(code.clone(), text);
                    self.send(conn, Outgoing::Entered(Err(reject.into())));
                }
                (Some(Pending::Expire(log)), _) => self.expire_at(log, UnixMs(0)),
                (Some(Pending::Quiet) | None, Write::Mailbox { mailbox, .. }) => {
                    self.logs.remove(&LogId::Mailbox(*mailbox));
                }
                (Some(Pending::Quiet) | None, _) => {}
            }
            if is_change(write) {
                recovery = Recovery::Restart;
            }
        }
        recovery
    }

    /// Takes the next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns the numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let subs = |is: fn(&Sub) -> bool| {
            let subs = self.conns.values().flat_map(|c| c.subs.values());
            count(subs.filter(|sub| is(sub)).count())
        };
        Stats {
            connections: count(self.conns.len()),
            sessions: count(self.roster.iter().count()),
            live: subs(Sub::is_live),
            stalled: subs(Sub::is_stalled),
            users: count(
                self.dir
                    .users
                    .iter()
                    .filter(|(_, u)| !u.standing.removed)
                    .count(),
            ),
            admins: count(
                self.dir
                    .users
                    .iter()
                    .filter(|(_, u)| u.standing.admin && !u.standing.removed)
                    .count(),
            ),
            channels: count(
                self.dir
                    .channels()
                    .filter(|(_, c)| !c.log.is_closed())
                    .count(),
            ),
            ..self.stats
        }
    }

    /// Carries the count of restarts over.
    pub(super) fn restarted(&mut self, restarts: u64) {
        self.stats.restarts = restarts;
    }

    fn conclude(&mut self, now: Now, pending: Pending, outcome: &Outcome) {
        if let Outcome::Audited(head) = outcome {
            self.audit = *head;
        }
        match pending {
            Pending::Quiet => {}
            Pending::Append(conn, id) => self.answer_append(now, conn, id, outcome),
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

    fn retention(&self, log: &LogId) -> u64 {
        let ms = match log {
            LogId::Channel(_) => self.settings.message_retention_ms,
            LogId::Mailbox(_) => self.settings.whisper_retention_ms,
        };
        if ms == 0 { u64::MAX } else { ms }
    }

    fn expire_at(&mut self, log: LogId, at: UnixMs) {
        if let Some(state) = self.logs.get_mut(&log) {
            state.due = Some(at);
            self.due.insert((at, log));
        }
    }

    fn tick(&mut self, now: Now) {
        self.end_leases(now);
        self.end_enrolments(now);
        self.flush_cursors();
        self.refill();
        for _ in 0..EXPIRE_LOGS {
            let Some((at, log)) = self.due.first().copied().filter(|(at, _)| *at <= now.wall)
            else {
                break;
            };
            self.due.remove(&(at, log));
            let keep = self.retention(&log);
            let Some(state) = self.logs.get_mut(&log).filter(|state| !state.deleted) else {
                continue;
            };
            state.due = None;
            let write = Write::Expire {
                log,
                before: UnixMs(now.wall.0.saturating_sub(keep)),
                steps: EXPIRE_STEPS,
            };
            self.put(write, Pending::Expire(log));
        }
    }

    fn flush_cursors(&mut self) {
        for ((log, reader), seq) in std::mem::take(&mut self.cursors) {
            self.write(Write::Cursor { log, reader, seq });
        }
    }

    fn ack(&mut self, conn: ConnId, cursors: Vec<Cursor>) {
        let Some((conn, session)) = self
            .conns
            .get(&conn)
            .and_then(|c| Some((c, c.session.as_ref()?)))
        else {
            return;
        };
        let Some(reader) = session.mailbox else {
            return;
        };
        for Cursor { log, seq } in cursors {
            if let (true, Some(state)) = (conn.subs.contains_key(&log), self.logs.get(&log)) {
                let cursor = self.cursors.entry((log, reader)).or_default();
                *cursor = (*cursor).max(seq.min(state.head));
            }
        }
    }

    fn drain(&mut self, now: Now) {
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
            self.checkpoint = Some(rec.clone());
            self.write(Write::Checkpoint { rec });
        }
    }

    fn connect(&mut self, conn: ConnId, encoding: Encoding) {
        let fresh = Conn {
            encoding,
            session: None,
            waiting: None,
            subs: BTreeMap::new(),
            frames: 0,
            bytes: 0,
            shown: BTreeSet::new(),
            bucket: (u64::MAX, Mono(0)),
        };
        self.conns.insert(conn, fresh);
    }

    /// Takes an append from the session's allowance.
    pub(super) fn take_token(&mut self, now: Now, conn: ConnId) -> Result<(), Reject> {
        let rate = u64::from(self.settings.appends_per_s);
        let burst = u64::from(self.settings.append_burst.max(1)) * 1_000;
        let Some(conn) = self.conns.get_mut(&conn).filter(|_| rate > 0) else {
            return Ok(());
        };
        let (left, since) = conn.bucket;
        let left = left.saturating_add(now.mono.since(since).saturating_mul(rate));
        let left = left.min(burst);
        if left < 1_000 {
            let wait = (1_000 - left).div_ceil(rate);
            conn.bucket = (left, now.mono);
            let text = "too many entries from this session";
            return Err(Reject::new(Code::RateLimited, text).retry_after(wait));
        }
        conn.bucket = (left - 1_000, now.mono);
        Ok(())
    }

    /// Returns who a connection is.
    pub(super) fn session(&self, conn: ConnId) -> Result<Session, Reject> {
        let session = self.conns.get(&conn).and_then(|c| c.session.clone());
        session.ok_or_else(|| Reject::new(Code::Unauthorized, "the session is not live"))
    }

    pub(super) fn audit(&mut self, act: &Act) {
        let entry = act.to_json();
        self.write(Write::Audit { entry });
    }

    /// Adds a write whose outcome nobody waits for.
    pub(super) fn write(&mut self, write: Write) {
        self.put(write, Pending::Quiet);
    }

    /// Adds an append, to be answered with its outcome.
    pub(super) fn write_append(&mut self, write: Write, conn: ConnId, id: u64) {
        self.put(write, Pending::Append(conn, id));
    }

    /// Adds a control record, to be answered with its place; then `removed` loses what it follows.
    pub(super) fn write_ctl(
        &mut self,
        write: Write,
        conn: ConnId,
        id: u64,
        removed: Option<UserId>,
    ) {
        self.put(write, Pending::Ctl(conn, id, removed));
    }

    /// Adds a write, to be answered with `reply` once it is durable.
    pub(super) fn write_reply(&mut self, write: Write, conn: ConnId, id: u64, reply: Reply) {
        self.put(write, Pending::Reply(conn, id, Box::new(reply)));
    }

    /// Adds the write of a new account; the connection enters once it is durable.
    pub(super) fn write_enter(&mut self, write: Write, conn: ConnId, entry: Box<Enter>) {
        self.put(write, Pending::Enter(conn, entry));
    }

    fn put(&mut self, write: Write, pending: Pending) {
        self.writes.push(write);
        self.pending.push_back(pending);
    }

    /// Returns how many control records of a channel wait for the commit.
    pub(super) fn waiting_ctl(&self, id: &ChannelId) -> u64 {
        let is = |w: &&Write| matches!(w, Write::Ctl { channel, .. } if channel == id);
        u64::try_from(self.writes.iter().filter(is).count()).unwrap_or(u64::MAX)
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(super) fn send(&mut self, conn: ConnId, outgoing: Outgoing) {
        self.effect(Effect::Send(conn, outgoing));
    }

    pub(super) fn reply(&mut self, conn: ConnId, id: u64, reply: Reply) {
        let result = Answer::Ok(reply);
        self.send(conn, Outgoing::Response(Response { id, result }.into()));
    }

    pub(super) fn refuse(&mut self, conn: ConnId, id: u64, reject: Reject) {
        self.stats.refused += 1;
        let result = Answer::Err(reject);
        self.send(conn, Outgoing::Response(Response { id, result }.into()));
    }
}

fn classify(command: &Command) -> Class {
    match command {
        Command::Request { op, .. } => match op {
            Checked::Append { .. } => Class::Appends,
            Checked::Ctl { .. } | Checked::Ident(_) | Checked::Admin(_) => Class::Changes,
            Checked::Other(_) => Class::Neutral,
        },
        Command::Enter { entry, .. } => match entry.mode {
            Mode::Register { .. } | Mode::Redeem { .. } => Class::Changes,
            Mode::Auth | Mode::Enrol { .. } => Class::Neutral,
        },
        Command::Connect { .. }
        | Command::Ack { .. }
        | Command::Wrote { .. }
        | Command::Disconnected { .. }
        | Command::Loaded(_)
        | Command::Tick
        | Command::Drain => Class::Neutral,
    }
}

/// Returns whether the hub has acted on a write before it was durable.
const fn is_change(write: &Write) -> bool {
    match write {
        Write::Append { .. }
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
