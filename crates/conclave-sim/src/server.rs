//! The server of the simulation: the real hub and the real connections over a memory store that fails.

use crate::invariant::{Broken, ensure};
use crate::model::Model;
use crate::net::{Item, Origin, SocketId};
use conclave_proto::backoff::Jitter;
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::Outcome as Answer;
use conclave_proto::handshake::Binding;
use conclave_proto::id::{HandshakeNonce, SessionId};
use conclave_proto::key::Secret;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::server_connection::{ConnectionConfig, Input, Output, ServerConnection};
use conclave_proto::time::Now;
use conclave_server::hub::command::{REPORT_BYTES, REPORT_FRAMES};
use conclave_server::hub::handle::OUTBOX;
use conclave_server::hub::{
    Checked, Command, ConnId, Effect, Enter, HubState, Load, Loaded, Outgoing, Recovery,
    Registration, Settings,
};
use conclave_server::store::memory::MemoryStore;
use conclave_server::store::{
    CommitError, Page, PageQuery, Read as _, Store as _, StoreError, Write,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The origin that everybody dials.
pub const ORIGIN: &str = "https://sim.example:443";
/// How many items a socket takes before the outbox has to wait.
const SOCKET_ITEMS: usize = 8;

/// One accepted socket.
#[derive(Debug)]
pub struct Conn {
    /// The socket.
    pub socket: SocketId,
    machine: ServerConnection,
    outbox: VecDeque<Outgoing>,
    session: SessionId,
    frames: u32,
    bytes: u64,
    /// The hub has closed it; nothing more is said.
    closing: bool,
}

/// The server, up or down.
#[derive(Debug)]
pub struct Server {
    secret: Arc<Secret>,
    /// What survives.
    pub disk: MemoryStore,
    hub: Option<HubState>,
    /// Accepted sockets.
    pub conns: BTreeMap<ConnId, Conn>,
    mailbox: VecDeque<Command>,
    /// Pages on their way back to the hub.
    pub loads: Vec<Loaded>,
    /// What goes to sockets, to be collected by the world.
    pub wire: Vec<(SocketId, Item)>,
    next: u64,
    /// One in so many commits fails; 0: none.
    pub faults: u64,
    /// Commits that failed, or whose outcome was not known.
    pub failed: u64,
}

impl Server {
    /// Makes a server that is down.
    #[must_use]
    pub fn new() -> Self {
        Self {
            secret: Arc::new(Secret::from_seed(&[1; 32])),
            disk: MemoryStore::new(),
            hub: None,
            conns: BTreeMap::new(),
            mailbox: VecDeque::new(),
            loads: Vec::new(),
            wire: Vec::new(),
            next: 0,
            faults: 0,
            failed: 0,
        }
    }

    /// Returns the server's key.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns whether it runs.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.hub.is_some()
    }

    /// Returns whether commands wait for the hub.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.hub.is_some() && !self.mailbox.is_empty()
    }

    /// Starts from what the disk has.
    ///
    /// # Errors
    /// [`Broken`] if the hub cannot be built.
    pub fn start(&mut self) -> Result<(), Broken> {
        let server_id = self.secret.server_key().server_id();
        let mut settings = Settings::new(server_id, (*self.secret).clone());
        settings.registration = Registration::Open;
        let snapshot = self.disk.load().map_err(|e| Broken(e.to_string()))?;
        self.hub = Some(HubState::new(settings, snapshot).map_err(|e| Broken(e.to_string()))?);
        Ok(())
    }

    /// Loses everything that is not on the disk. The sockets die with it.
    pub fn crash(&mut self) {
        self.hub = None;
        self.conns.clear();
        self.mailbox.clear();
        self.loads.clear();
        self.wire.clear();
    }

    /// Accepts a socket.
    pub fn accept(
        &mut self,
        now: Now,
        encoding: Encoding,
        rng: &mut Jitter,
        named: impl FnOnce(ConnId) -> SocketId,
    ) {
        self.next += 1;
        let conn = ConnId(self.next);
        let socket = named(conn);
        let config = ConnectionConfig {
            secret: Arc::clone(&self.secret),
            server_id: self.secret.server_key().server_id(),
            rotations: Vec::new(),
            origin: ORIGIN.to_owned(),
            binding: Binding::None,
            encoding,
            nonce: HandshakeNonce::new(std::array::from_fn(|_| byte(rng))),
            seed: rng.up_to(u64::MAX),
        };
        let accepted = Conn {
            socket,
            machine: ServerConnection::new(config, now),
            outbox: VecDeque::new(),
            session: SessionId::new(std::array::from_fn(|_| byte(rng))),
            frames: 0,
            bytes: 0,
            closing: false,
        };
        self.conns.insert(conn, accepted);
        self.mailbox.push_back(Command::Connect { conn, encoding });
    }

    /// A socket ended.
    pub fn lost(&mut self, conn: ConnId) {
        if self.conns.remove(&conn).is_some() {
            self.mailbox.push_back(Command::Disconnected { conn });
        }
    }

    /// Tells the hub something that comes from no connection.
    pub fn tell(&mut self, command: Command) {
        if self.is_up() {
            self.mailbox.push_back(command);
        }
    }

    /// Hands one input to a connection and does what it says.
    pub fn input(&mut self, now: Now, id: ConnId, input: Input) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.machine.handle(now, input);
        while let Some(output) = conn.machine.poll_output() {
            match output {
                Output::Send(bytes) => self
                    .wire
                    .push((conn.socket, Item::Frame(bytes, Origin::Machine))),
                Output::Ping => self.wire.push((conn.socket, Item::Ping)),
                Output::Enter { hello, mode } => {
                    let entry = Enter {
                        hello: *hello,
                        mode,
                        session: conn.session,
                    };
                    let entry = Box::new(entry);
                    self.mailbox.push_back(Command::Enter { conn: id, entry });
                }
                Output::Request { id: request, op } => match Checked::new(op) {
                    Ok(op) => self.mailbox.push_back(Command::Request {
                        conn: id,
                        id: request,
                        op,
                    }),
                    Err(reject) => {
                        let outcome = Answer::Err(reject);
                        conn.machine.handle(
                            now,
                            Input::Reply {
                                id: request,
                                outcome,
                            },
                        );
                    }
                },
                Output::Ack(cursors) => self.mailbox.push_back(Command::Ack { conn: id, cursors }),
                Output::Close(close, _) => {
                    conn.closing = true;
                    self.wire.push((conn.socket, Item::Close(close)));
                }
            }
        }
    }

    /// Returns whether the connection may read; else its client waits.
    #[must_use]
    pub fn can_read(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|c| c.machine.can_read())
    }

    /// Returns when a connection's timer is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<(u64, ConnId)> {
        let due = |(id, c): (&ConnId, &Conn)| Some((c.machine.next_timeout()?.0, *id));
        self.conns.iter().filter_map(due).min()
    }

    /// Writes what a connection's outbox has, as far as the socket takes it.
    pub fn write(&mut self, now: Now, id: ConnId, under_way: usize) {
        for _ in under_way..SOCKET_ITEMS {
            let Some(conn) = self.conns.get_mut(&id).filter(|c| !c.closing) else {
                return;
            };
            match conn.outbox.pop_front() {
                None => return self.report(id),
                Some(Outgoing::Event(frame)) => {
                    let item = Item::Frame(frame.to_vec(), Origin::Hub);
                    self.wire.push((conn.socket, item));
                }
                Some(Outgoing::Response(response)) => {
                    let (id_, outcome) = (response.id, response.result);
                    self.input(now, id, Input::Reply { id: id_, outcome });
                }
                Some(Outgoing::Entered(Ok(ready))) => {
                    self.input(now, id, Input::Entered(Ok(ready)));
                }
                Some(Outgoing::Entered(Err(no))) => self.input(now, id, Input::Entered(Err(*no))),
                Some(Outgoing::Close(close, reject)) => {
                    self.input(now, id, Input::Close(close, Some(*reject)));
                }
            }
        }
    }

    /// The socket has taken an event of the hub.
    pub fn wrote(&mut self, id: ConnId, bytes: usize) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.frames += 1;
        conn.bytes += u64::try_from(bytes).unwrap_or(0);
        self.report(id);
    }

    /// Tells the hub what was written, if enough was or nothing more waits.
    fn report(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id).filter(|c| c.frames > 0) else {
            return;
        };
        if conn.outbox.is_empty() || conn.frames >= REPORT_FRAMES || conn.bytes >= REPORT_BYTES {
            let (frames, bytes) = (
                std::mem::take(&mut conn.frames),
                std::mem::take(&mut conn.bytes),
            );
            let conn = id;
            self.mailbox.push_back(Command::Wrote {
                conn,
                frames,
                bytes,
            });
        }
    }

    /// The hub takes a batch, commits it, and lets the effects out.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn step(&mut self, now: Now, rng: &mut Jitter, model: &mut Model) -> Result<(), Broken> {
        for _ in 0..=rng.up_to(63) {
            let Some(command) = self.mailbox.pop_front() else {
                break;
            };
            if self
                .hub
                .as_ref()
                .is_some_and(|hub| hub.must_commit_before(&command))
            {
                self.commit(now, rng, model)?;
            }
            if let Some(hub) = &mut self.hub {
                hub.handle(now, command);
            }
        }
        self.commit(now, rng, model)
    }

    fn commit(&mut self, now: Now, rng: &mut Jitter, model: &mut Model) -> Result<(), Broken> {
        while let Some(hub) = &mut self.hub {
            let writes = hub.take_writes();
            if writes.is_empty() {
                break;
            }
            let fault = (self.faults > 0 && rng.up_to(self.faults - 1) == 0).then(|| rng.up_to(3));
            let result = match fault {
                Some(0) => Err(CommitError::Full),
                Some(1) => Err(CommitError::Failed(StoreError::Injected)),
                Some(2) => Err(CommitError::Unknown(StoreError::Injected)),
                _ => self.disk.commit(now.wall, &writes),
            };
            if let Ok(outcomes) = &result {
                model.committed(&writes, outcomes)?;
            }
            match result {
                Ok(_) if fault.is_some() => return self.restart(now),
                Ok(outcomes) => hub.applied(now, writes, &outcomes),
                Err(CommitError::Unknown(_)) => return self.restart(now),
                Err(error) => {
                    self.failed += 1;
                    if self.refused(&writes, &error) == Recovery::Restart {
                        return self.restart(now);
                    }
                    break;
                }
            }
        }
        self.effects(rng)
    }

    fn refused(&mut self, writes: &[Write], error: &CommitError) -> Recovery {
        match &mut self.hub {
            Some(hub) => hub.refused(writes, error),
            None => Recovery::GoOn,
        }
    }

    /// The hub starts again from the disk; everybody it knows has to come back. What is in the
    /// mailbox stays there.
    fn restart(&mut self, now: Now) -> Result<(), Broken> {
        self.failed += 1;
        let new = |id: &ConnId| {
            let connects = |c: &Command| matches!(c, Command::Connect { conn, .. } if conn == id);
            self.mailbox.iter().any(connects)
        };
        let known: Vec<ConnId> = self.conns.keys().copied().filter(|id| !new(id)).collect();
        for id in known {
            let reject = Reject::new(Code::Internal, "the server had to start again");
            self.input(now, id, Input::Close(Close::Restarted, Some(reject)));
            self.conns.remove(&id);
        }
        self.loads.clear();
        self.start()
    }

    fn effects(&mut self, rng: &mut Jitter) -> Result<(), Broken> {
        while let Some(effect) = self.hub.as_mut().and_then(HubState::poll_effect) {
            match effect {
                Effect::Send(id, outgoing) => {
                    if let Some(conn) = self.conns.get_mut(&id) {
                        conn.outbox.push_back(outgoing);
                        let waiting = conn.outbox.len();
                        ensure(waiting <= OUTBOX, || {
                            format!("an outbox has {waiting} items")
                        })?;
                    }
                }
                Effect::Load(load) => self.load(load, rng),
            }
        }
        Ok(())
    }

    /// Reads now, as the reading thread may, or what it would have seen a moment ago; the page comes
    /// to the hub when more has happened.
    fn load(&mut self, load: Load, rng: &mut Jitter) {
        let mut page = self.disk.page(&load.query);
        if self.faults > 0
            && let (Ok(Page::Entries(page)), PageQuery::Log { after, .. }) = (&mut page, load.query)
            && page.gap.is_none()
            && rng.up_to(2) == 0
        {
            let keep = rng.up_to(u64::try_from(page.entries.len()).unwrap_or(0));
            page.entries.truncate(usize::try_from(keep).unwrap_or(0));
            page.next = page.entries.last().map_or(after, |e| e.seq);
            page.head = page.next;
        }
        self.loads.push(Loaded::new(load, page));
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// Draws a byte.
pub fn byte(rng: &mut Jitter) -> u8 {
    u8::try_from(rng.up_to(255)).unwrap_or(0)
}
