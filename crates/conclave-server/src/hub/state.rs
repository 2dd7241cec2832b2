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
use super::keys::{Keys, PutWraps};
use super::presence::Roster;
use super::quota::Quotas;
use super::ring::Ring;
use super::room::Room;
use super::subscription::Sub;
use super::{Checked, Command, ConnId, Effect, Enter, Outgoing, Settings, Stats};
use crate::audit::{self, Act, RequestId};
use crate::store::{AnnouncementRow, ServerInviteRow, Snapshot, StoreError, Write};
use conclave_proto::body::Head;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::{Outcome as Answer, Reply, Response};
use conclave_proto::handshake::Mode;
use conclave_proto::id::{Blob, ChannelId, InviteId, LogId, MailboxId, UserId};
use conclave_proto::key::{HolderKey, InviteKey, MachineKey};
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now, UnixMs};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};

/// The hub, without its driver.
#[derive(Debug)]
pub struct HubState {
    pub(super) settings: Settings,
    pub(super) dir: Directory,
    pub(super) logs: BTreeMap<LogId, LogState>,
    /// Without a random seed, so that a run of the simulation can be repeated; the server numbers them.
    pub(super) conns: HashMap<ConnId, Conn, BuildHasherDefault<DefaultHasher>>,
    pub(super) roster: Roster,
    pub(super) quotas: Quotas,
    pub(super) invites: BTreeMap<InviteId, ServerInviteRow>,
    pub(super) redeemed: BTreeMap<InviteId, u32>,
    pub(super) boxes: BTreeMap<InviteId, Blob>,
    pub(super) keys: Keys,
    pub(super) enrolments: BTreeMap<InviteId, Enrolment>,
    /// Requests of admin acts that were carried out of late, and when.
    pub(super) acts: BTreeMap<RequestId, UnixMs>,
    pub(super) stats: Stats,
    pub(super) checkpoint: Option<Blob>,
    pub(super) audit: Head,
    pub(super) checkpoint_n: u64,
    pub(super) checkpoint_at: UnixMs,
    pub(super) cursors: BTreeMap<(LogId, MailboxId), u64>,
    pub(super) due: BTreeSet<(UnixMs, LogId)>,
    pub(super) writes: Vec<Write>,
    pub(super) pending: VecDeque<Pending>,
    pub(super) effects: VecDeque<Effect>,
    pub(super) class: Class,
    pub(super) draining: bool,
    pub(super) room: Room,
    /// The time of the newest command.
    pub(super) last: Mono,
}

/// What outlives a restart of the hub.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    restarts: u64,
    room: Room,
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
    /// Whose mailbox it is, and of which session.
    pub(super) owner: Option<(UserId, SessionPath)>,
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
    /// Came in by an owner key, without a machine: it may only extend its own identity log.
    pub(super) recovers: bool,
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
pub(super) enum Pending {
    Quiet,
    Append(ConnId, u64),
    /// An entry that is refused so, unless it was stored before.
    Recall(ConnId, u64, Box<Reject>),
    Ctl(ConnId, u64, Option<UserId>),
    Reply(ConnId, u64, Box<Reply>),
    Enter(ConnId, Box<Enter>),
    Expire(LogId),
    Announced(ConnId, u64, Box<AnnouncementRow>),
    Wraps(PutWraps),
    Unwrapped(ChannelId, HolderKey, Vec<u32>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Class {
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
                owner: row.path,
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
            keys: Keys::load(snapshot.announcements, snapshot.wrapped),
            audit: snapshot.audit.unwrap_or(Head { n: 0, hash: zero }),
            checkpoint_n: signed.map_or(0, |(head, _)| head.n),
            checkpoint_at: signed.map_or(UnixMs(0), |(_, at)| at),
            checkpoint: snapshot.checkpoint,
            quotas: Quotas::new(&settings),
            settings,
            conns: HashMap::default(),
            roster: Roster::default(),
            enrolments: BTreeMap::new(),
            acts: snapshot.acts.into_iter().collect(),
            stats: Stats::default(),
            cursors: BTreeMap::new(),
            writes: Vec::new(),
            pending: VecDeque::new(),
            effects: VecDeque::new(),
            class: Class::default(),
            draining: false,
            room: Room::default(),
            last: Mono(0),
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
        self.last = now.mono;
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
            Command::Left { conn } => self.leave(now, conn),
            Command::Disconnected { conn } => self.gone(now, conn),
            Command::Loaded(loaded) => self.loaded(*loaded),
            Command::Tick => self.tick(now),
            Command::Drain => self.drain(now),
        }
    }

    /// Returns what a restart of the hub must not forget.
    pub(super) const fn kept(&self) -> Kept {
        Kept {
            restarts: self.stats.restarts,
            room: self.room,
        }
    }

    /// Goes on after a restart, where `before` had stopped.
    pub(super) const fn restarted(&mut self, before: Kept) {
        self.stats.restarts = before.restarts + 1;
        self.room = before.room;
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
            rated: count(self.quotas.len()),
            free_bytes: self.room.free(),
            ..self.stats
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

    pub(super) fn put(&mut self, write: Write, pending: Pending) {
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
        self.stats.refused.add(&reject.code);
        let result = Answer::Err(reject);
        self.send(conn, Outgoing::Response(Response { id, result }.into()));
    }
}

fn classify(command: &Command) -> Class {
    match command {
        Command::Request { op, .. } => match op {
            Checked::Append { .. } => Class::Appends,
            Checked::Ctl { .. } | Checked::Ident(_) | Checked::Admin(_) => Class::Changes,
            Checked::Announcement { .. } | Checked::Profile { .. } | Checked::Other(_) => {
                Class::Neutral
            }
        },
        Command::Enter { entry, .. } => match entry.mode {
            Mode::Register { .. } | Mode::Redeem { .. } => Class::Changes,
            Mode::Auth | Mode::Enrol { .. } | Mode::Recover { .. } => Class::Neutral,
        },
        Command::Connect { .. }
        | Command::Ack { .. }
        | Command::Wrote { .. }
        | Command::Left { .. }
        | Command::Disconnected { .. }
        | Command::Loaded(_)
        | Command::Tick
        | Command::Drain => Class::Neutral,
    }
}
