//! A hub over a store without threads: commands in, effects out, time as told.

use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{
    Author, Ctl, CtlBody, History, Mode as ChannelMode, Role, Visibility,
};
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Entry, Envelope, Header, Route, Suite};
use conclave_proto::frame::op::{Append, CtlAppend, Nothing, Op, Subscribe};
use conclave_proto::frame::{Event, Hello, Outcome, Ready, Reply, ServerFrame};
use conclave_proto::handshake::Mode;
use conclave_proto::id::{
    ChannelId, HandshakeNonce, Instance, LogId, MailboxId, MsgId, RecipientKeyId, SenderSid,
    ServerId, SessionId, UserId,
};
use conclave_proto::identity_log::{IdentityLog, MachineClaim, build};
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::limit::FRAME_BYTES_MAX;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now, UnixMs};
use conclave_server::hub::{
    Checked, Command, ConnId, Effect, Enter, HubState, Loaded, Outgoing, Recovery, Registration,
    Settings,
};
use conclave_server::store::memory::MemoryStore;
use conclave_server::store::{Store, Write};
use std::collections::BTreeMap;

pub(crate) const SERVER: ServerId = ServerId::new([1; 32]);

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Settings of a test server with open registration.
pub(crate) fn settings() -> Settings {
    Settings {
        registration: Registration::Open,
        ..Settings::new(SERVER, Secret::from_seed(&[1; 32]))
    }
}

pub(crate) struct World {
    pub(crate) state: HubState,
    pub(crate) store: Box<dyn Store>,
    pub(crate) settings: Settings,
    pub(crate) now: Now,
    pub(crate) inboxes: BTreeMap<ConnId, Vec<Outgoing>>,
    pub(crate) loads: u32,
    next: u64,
}

/// A user with one machine.
pub(crate) struct Person {
    pub(crate) owner: Secret,
    pub(crate) machine: Secret,
    pub(crate) log: IdentityLog,
    pub(crate) genesis: conclave_proto::id::Blob,
}

/// A live session, with what a client remembers.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) conn: ConnId,
    pub(crate) ready: Ready,
    pub(crate) machine: Secret,
    ctr: BTreeMap<LogId, u64>,
}

impl Person {
    pub(crate) fn new(username: &str, seed: u8) -> Self {
        let (owner, machine) = (
            Secret::from_seed(&[seed; 32]),
            Secret::from_seed(&[seed + 1; 32]),
        );
        let owners = vec![owner.owner_key()];
        let ek = EncryptionKey::new([seed; 32]);
        let user = name(username);
        let claim = MachineClaim::found(&SERVER, &user, &owners, name("laptop"), ek, &machine);
        let rec = build::genesis(SERVER, user, owners, claim, &owner, UnixMs(1));
        let genesis = rec.bytes().clone();
        let log = IdentityLog::genesis(&genesis, &SERVER).unwrap();
        Self {
            owner,
            machine,
            log,
            genesis,
        }
    }

    pub(crate) fn id(&self) -> UserId {
        *self.log.user_id()
    }

    pub(crate) fn author(&self, peer: &Peer) -> Author {
        Author {
            user: self.id(),
            path: peer.ready.path.clone(),
            ident: self.log.head(),
        }
    }
}

pub(crate) fn hello(machine: &Secret, handle: &str, pinned: bool, instance: u8) -> Hello {
    Hello {
        versions: vec![2],
        nonce: HandshakeNonce::new([0; 32]),
        key: machine.machine_key(),
        handle: name(handle),
        pinned,
        instance: Instance::new([instance; 16]),
        bindings: vec!["none".to_owned()],
        agent: "test/1".to_owned(),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(settings(), Box::new(MemoryStore::new()))
    }

    pub(crate) fn with(settings: Settings, mut store: Box<dyn Store>) -> Self {
        let snapshot = store.load().unwrap();
        Self {
            state: HubState::new(settings.clone(), snapshot).unwrap(),
            store,
            settings,
            now: Now {
                mono: Mono(1_000),
                wall: UnixMs(1_000_000),
            },
            inboxes: BTreeMap::new(),
            loads: 0,
            next: 1,
        }
    }

    /// Builds the hub again from what is durable.
    pub(crate) fn restart(&mut self) {
        let snapshot = self.store.load().unwrap();
        self.state = HubState::new(self.settings.clone(), snapshot).unwrap();
        self.inboxes.clear();
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus(ms);
        self.now.wall = self.now.wall.plus(ms);
        self.step(Command::Tick);
    }

    pub(crate) fn step(&mut self, command: Command) {
        self.batch(vec![command]);
    }

    /// Handles commands as one batch, as the driver does.
    pub(crate) fn batch(&mut self, commands: Vec<Command>) {
        for command in commands {
            if self.state.must_commit_before(&command) {
                self.commit();
            }
            self.state.handle(self.now, command);
        }
        self.commit();
    }

    fn commit(&mut self) {
        loop {
            let writes: Vec<Write> = self.state.take_writes();
            if writes.is_empty() {
                break;
            }
            match self.store.commit(self.now.wall, &writes) {
                Ok(outcomes) => self.state.applied(self.now, writes, &outcomes),
                Err(error) => {
                    let recovery = self.state.refused(&writes, &error);
                    if recovery == Recovery::Restart {
                        self.effects();
                        self.restart();
                    }
                    break;
                }
            }
        }
        self.effects();
    }

    fn effects(&mut self) {
        let mut loads = Vec::new();
        while let Some(effect) = self.state.poll_effect() {
            match effect {
                Effect::Send(conn, outgoing) => {
                    self.inboxes.entry(conn).or_default().push(outgoing);
                }
                Effect::Load(load) => loads.push(load),
            }
        }
        for load in loads {
            self.loads += 1;
            let page = self.store.page(&load.query);
            self.step(Command::Loaded(Box::new(Loaded::new(load, page))));
        }
    }

    pub(crate) fn connect(&mut self) -> ConnId {
        let conn = ConnId(self.next);
        self.next += 1;
        let encoding = Encoding::Cbor;
        self.step(Command::Connect { conn, encoding });
        conn
    }

    pub(crate) fn try_enter(
        &mut self,
        hello: Hello,
        mode: Mode,
    ) -> Result<(ConnId, Ready), Reject> {
        let conn = self.connect();
        self.enter(conn, hello, mode);
        let entered = self.entered(conn).expect("an answer to enter");
        entered.map(|ready| (conn, ready))
    }

    pub(crate) fn enter(&mut self, conn: ConnId, hello: Hello, mode: Mode) {
        let session = SessionId::new([0; 16]);
        let entry = Box::new(Enter {
            hello,
            mode,
            session,
        });
        self.step(Command::Enter { conn, entry });
    }

    pub(crate) fn entered(&mut self, conn: ConnId) -> Option<Result<Ready, Reject>> {
        let inbox = self.inboxes.get_mut(&conn)?;
        let at = inbox
            .iter()
            .position(|o| matches!(o, Outgoing::Entered(_)))?;
        match inbox.remove(at) {
            Outgoing::Entered(result) => Some(result.map(|r| *r).map_err(|r| *r)),
            _ => None,
        }
    }

    /// Makes an account by open registration and returns its first session.
    pub(crate) fn register(&mut self, person: &Person, handle: &str) -> Peer {
        let genesis = person.genesis.clone();
        let hello = hello(&person.machine, handle, false, 1);
        let (conn, ready) = self.try_enter(hello, Mode::Register { genesis }).unwrap();
        self.peer(conn, ready, person)
    }

    pub(crate) fn join_session(&mut self, person: &Person, handle: &str, instance: u8) -> Peer {
        let hello = hello(&person.machine, handle, false, instance);
        let (conn, ready) = self.try_enter(hello, Mode::Auth).unwrap();
        self.peer(conn, ready, person)
    }

    fn peer(&self, conn: ConnId, ready: Ready, person: &Person) -> Peer {
        Peer {
            conn,
            ready,
            machine: person.machine.clone(),
            ctr: BTreeMap::new(),
        }
    }

    pub(crate) fn request(&mut self, conn: ConnId, op: Op) -> Result<Reply, Reject> {
        let op = Checked::new(op)?;
        let id = 77;
        self.step(Command::Request { conn, id, op });
        self.answer(conn, id).expect("an answer")
    }

    pub(crate) fn answer(&mut self, conn: ConnId, id: u64) -> Option<Result<Reply, Reject>> {
        let inbox = self.inboxes.get_mut(&conn)?;
        let is = |o: &Outgoing| matches!(o, Outgoing::Response(r) if r.id == id);
        let at = inbox.iter().position(is)?;
        match inbox.remove(at) {
            Outgoing::Response(response) => match response.result {
                Outcome::Ok(reply) => Some(Ok(reply)),
                Outcome::Err(reject) => Some(Err(reject)),
                Outcome::Unknown(_) => None,
            },
            _ => None,
        }
    }

    /// Takes the events out of an inbox, without reporting them as written.
    pub(crate) fn events(&mut self, conn: ConnId) -> Vec<Event> {
        let inbox = self.inboxes.entry(conn).or_default();
        let (events, rest) = std::mem::take(inbox)
            .into_iter()
            .partition::<Vec<_>, _>(|o| matches!(o, Outgoing::Event(_)));
        *inbox = rest;
        let decode = |o: Outgoing| match o {
            Outgoing::Event(bytes) => match Encoding::Cbor.decode(&bytes, FRAME_BYTES_MAX) {
                Ok(ServerFrame::Event(event)) => Some(event),
                _ => None,
            },
            _ => None,
        };
        events.into_iter().filter_map(decode).collect()
    }

    /// Takes the entries that were pushed to a connection, by seq.
    pub(crate) fn entries(&mut self, conn: ConnId) -> Vec<Entry> {
        let entries = self
            .events(conn)
            .into_iter()
            .filter_map(|event| match event {
                Event::Entries(entries) => Some(entries.entries),
                _ => None,
            });
        entries.flatten().collect()
    }

    pub(crate) fn closed(&self, conn: ConnId) -> Option<Close> {
        self.inboxes.get(&conn)?.iter().find_map(|o| match o {
            Outgoing::Close(close, _) => Some(*close),
            _ => None,
        })
    }

    pub(crate) fn subscribe(
        &mut self,
        peer: &Peer,
        log: LogId,
        after: u64,
    ) -> Result<Reply, Reject> {
        self.request(peer.conn, Op::Subscribe(Subscribe { log, after }))
    }

    /// Makes a channel and returns the head of its control records.
    pub(crate) fn create(
        &mut self,
        person: &Person,
        peer: &Peer,
        channel: ChannelId,
        visibility: Visibility,
        title: &str,
    ) -> Head {
        let body = CtlBody::Create {
            mode: ChannelMode::Signed,
            visibility,
            history: History::Full,
            name: Some(name(title)),
            topic: None,
            limits: None,
        };
        self.ctl(person, peer, channel, None, body).unwrap()
    }

    pub(crate) fn ctl(
        &mut self,
        person: &Person,
        peer: &Peer,
        channel: ChannelId,
        after: Option<Head>,
        body: CtlBody,
    ) -> Result<Head, Reject> {
        let rec = Ctl {
            channel,
            after,
            body,
            author: person.author(peer),
            ts: self.now.wall,
        }
        .sign_machine(&person.machine);
        let op = Op::CtlAppend(CtlAppend {
            channel,
            rec: rec.bytes().clone(),
            wraps: Vec::new(),
            invite_box: None,
        });
        self.request(peer.conn, op)?;
        let n = after.map_or(0, |head| head.n + 1);
        Ok(Head {
            n,
            hash: rec.hash(),
        })
    }

    pub(crate) fn add(
        &mut self,
        owner: (&Person, &Peer),
        channel: ChannelId,
        after: Head,
        new: &Person,
    ) -> Head {
        let body = CtlBody::Add {
            user: new.id(),
            ident: new.log.head(),
            role: Role::Member,
        };
        self.ctl(owner.0, owner.1, channel, Some(after), body)
            .unwrap()
    }

    pub(crate) fn append(
        &mut self,
        peer: &mut Peer,
        log: LogId,
        env: Envelope,
    ) -> Result<Reply, Reject> {
        self.request(peer.conn, Op::Append(Append { log, env }))
    }

    pub(crate) fn say(
        &mut self,
        peer: &mut Peer,
        channel: ChannelId,
        text: &str,
    ) -> Result<Reply, Reject> {
        let env = peer.message(channel, text);
        self.append(peer, LogId::Channel(channel), env)
    }

    pub(crate) fn whisper(
        &mut self,
        peer: &mut Peer,
        user: UserId,
        to: &SessionPath,
    ) -> Result<Reply, Reject> {
        self.post(peer, user, Route::Whisper(to.clone()))
    }

    pub(crate) fn receipt(
        &mut self,
        peer: &mut Peer,
        user: UserId,
        to: &SessionPath,
    ) -> Result<Reply, Reject> {
        self.post(peer, user, Route::Receipt(to.clone()))
    }

    fn post(&mut self, peer: &mut Peer, user: UserId, route: Route) -> Result<Reply, Reject> {
        let log = LogId::Mailbox(MailboxId::of(&user, route.recipient().unwrap()));
        let server = ChannelId::from_slice(&SERVER.as_bytes()[..16]).unwrap();
        let env = peer.envelope(log, server, route, "psst");
        let result = self.append(peer, log, env);
        if result.is_err() {
            *peer.ctr.get_mut(&log).unwrap() -= 1;
        }
        result
    }

    pub(crate) fn channels(&mut self, peer: &Peer) -> Vec<ChannelId> {
        match self.request(peer.conn, Op::Channels(Nothing {})) {
            Ok(Reply::Channels(list)) => list.channels.iter().map(|c| c.channel).collect(),
            other => panic!("{other:?}"),
        }
    }
}

impl Peer {
    pub(crate) fn message(&mut self, channel: ChannelId, text: &str) -> Envelope {
        self.envelope(LogId::Channel(channel), channel, Route::Everyone, text)
    }

    pub(crate) fn envelope(
        &mut self,
        log: LogId,
        channel: ChannelId,
        route: Route,
        text: &str,
    ) -> Envelope {
        let ctr = self.ctr.entry(log).or_default();
        *ctr += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&ctr.to_be_bytes());
        id[8..].copy_from_slice(&log.to_bytes()[1..9]);
        id[15] ^= self.machine.machine_key().as_bytes()[0];
        id[14] ^= u8::try_from(self.conn.0).unwrap();
        let suite = match log {
            LogId::Channel(_) => Suite::Clear,
            LogId::Mailbox(_) => Suite::One,
        };
        let header = Header {
            suite,
            channel,
            epoch: 0,
            sender: self.ready.path.clone(),
            sender_key: self.machine.machine_key(),
            sid: SenderSid::new(self.conn.0.to_be_bytes()),
            ctr: *ctr,
            msg_id: MsgId::new(id),
            ts: UnixMs(0),
            route,
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: 0,
            flags: 0,
        };
        let body = Body::text(text).to_bytes().unwrap();
        Envelope::clear(&header, body, &self.machine)
    }
}

/// Returns the code of a refusal.
pub(crate) fn code(result: Result<Reply, Reject>) -> Code {
    match result {
        Err(reject) => reject.code,
        Ok(reply) => panic!("not refused: {reply:?}"),
    }
}
