//! The world of one seed: clients, server, network, and what happens when.
//!
//! One thread, one clock that only this module moves, one generator: a seed always gives the same
//! run. Rounds of trouble end in quiescence: everything is healed, and everything must agree.

mod fault;

use crate::invariant::{self, Broken, ensure};
use crate::model::Model;
use crate::net::{Item, Net, Origin, SocketId};
use crate::person::Person;
use crate::server::Server;
use crate::session::{Quiet, Session, Wish};
use conclave_proto::backoff::Jitter;
use conclave_proto::codec::Encoding;
use conclave_proto::id::ChannelId;
use conclave_proto::link::{Disconnect, Input as LinkInput, Pin};
use conclave_proto::server_connection::Input as ConnInput;
use conclave_proto::time::{Mono, Now, UnixMs};
use conclave_server::hub::Loaded;
use conclave_server::hub::{Command, ConnId};
use std::collections::{BTreeMap, VecDeque};

/// How long trouble lasts in one round, in milliseconds.
const TROUBLE_MS: u64 = 60_000;
/// How long the world may take to come to rest, in milliseconds.
const REST_MS: u64 = 300_000;
/// How many rounds a seed has.
const ROUNDS: usize = 2;

/// Something that will happen.
#[derive(Debug)]
enum Event {
    Up(SocketId),
    Down(SocketId),
    ServerLost(ConnId),
    ClientLost(usize, u64),
    Dialled(usize, u64),
    Loaded(Box<Loaded>),
    Hub,
    Tick,
    Act(usize),
    Fault,
    ServerStarts,
    ClientStarts(usize),
}

/// What a run did, to show that it did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries committed.
    pub entries: usize,
    /// Appends acknowledged.
    pub acked: usize,
    /// Sockets that were opened.
    pub dials: u64,
    /// Commits that failed or whose outcome was unknown.
    pub failed_commits: u64,
    /// Crashes of server and clients.
    pub crashes: u64,
}

impl Stats {
    /// Adds another run's.
    pub const fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.acked += other.acked;
        self.dials += other.dials;
        self.failed_commits += other.failed_commits;
        self.crashes += other.crashes;
    }
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// The reference.
    pub model: Model,
    /// The server.
    pub server: Server,
    /// The clients.
    pub sessions: Vec<Session>,
    /// What happened so far.
    pub stats: Stats,
    people: Vec<Person>,
    net: Net,
    rng: Jitter,
    now: u64,
    agenda: BTreeMap<(u64, u64), Event>,
    next: u64,
    hub_due: bool,
    quiet: Quiet,
    /// The last steps, if they are wanted.
    trace: Option<VecDeque<String>>,
}

/// How many steps a trace keeps.
const TRACE_STEPS: usize = 400;

impl World {
    /// Makes the world of a seed.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn new(seed: u64) -> Result<Self, Broken> {
        let mut rng = Jitter::new(seed);
        let mut server = Server::new();
        let id = server.secret().server_key().server_id();
        let names = [
            ("alice", "api", 10),
            ("alice", "web", 10),
            ("bob", "api", 20),
            ("carol", "ops", 30),
            ("dave", "doc", 40),
        ];
        let people = names.map(|(user, handle, seed)| Person::new(id, user, handle, seed));
        let people: Vec<Person> = people.into_iter().collect::<Result<_, _>>()?;
        let channels = vec![ChannelId::new([3; 16]), ChannelId::new([4; 16])];
        let sessions = people.iter().enumerate().map(|(n, person)| {
            let own = match n {
                0 => channels.first().copied(),
                2 => channels.last().copied(),
                _ => None,
            };
            let encoding = if n % 2 == 0 {
                Encoding::Cbor
            } else {
                Encoding::Json
            };
            Session::new(person.clone(), channels.clone(), own, encoding, &mut rng)
        });
        let sessions = sessions.collect();
        server.start()?;
        let logs = people.iter().map(|p| (p.user(), p.log.clone())).collect();
        let mut world = Self {
            model: Model::new(id, logs),
            server,
            sessions,
            stats: Stats::default(),
            people,
            net: Net::default(),
            rng,
            now: 0,
            agenda: BTreeMap::new(),
            next: 0,
            hub_due: false,
            quiet: Quiet::No,
            trace: None,
        };
        world.at(0, Event::Tick);
        for n in 0..world.sessions.len() {
            world.at(0, Event::ClientStarts(n));
            world.at(0, Event::Act(n));
        }
        Ok(world)
    }

    /// Runs all rounds.
    ///
    /// # Errors
    /// [`Broken`], with the time of the run.
    pub fn run(&mut self) -> Result<Stats, Broken> {
        let result = self.rounds();
        result.map_err(|Broken(why)| Broken(format!("at {} ms: {why}", self.now)))?;
        self.stats.entries = self.model.logs.values().map(Vec::len).sum();
        self.stats.acked = self.model.acked.len();
        self.stats.failed_commits = self.server.failed;
        Ok(self.stats)
    }

    fn rounds(&mut self) -> Result<(), Broken> {
        for _ in 0..ROUNDS {
            self.quiet = Quiet::No;
            self.net.hostile = true;
            self.server.faults = 4 + self.rng.up_to(60);
            self.at(self.now, Event::Fault);
            self.until(self.now + TROUBLE_MS)?;
            self.heal();
            let end = self.now + REST_MS;
            while self.now < end && invariant::at_rest(self).is_err() {
                self.until(self.now + 1_000)?;
            }
            invariant::at_rest(self)?;
        }
        Ok(())
    }

    fn heal(&mut self) {
        self.quiet = Quiet::Yes;
        self.net.hostile = false;
        self.server.faults = 0;
        for socket in self.net.sockets.values_mut() {
            socket.paused_until = 0;
        }
    }

    fn clock(&self) -> Now {
        Now {
            mono: Mono(self.now),
            wall: UnixMs(1_700_000_000_000 + self.now),
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.agenda.insert((at.max(self.now), self.next), event);
    }

    fn soon(&mut self, event: Event) {
        let delay = self.net.delay(&mut self.rng);
        self.at(self.now + delay, event);
    }

    fn until(&mut self, end: u64) -> Result<(), Broken> {
        loop {
            self.collect()?;
            let event = self
                .agenda
                .first_key_value()
                .map_or(u64::MAX, |((at, _), _)| *at);
            let client = self
                .sessions
                .iter()
                .enumerate()
                .filter_map(|(n, s)| Some((s.next_timeout()?, n)))
                .min();
            let conn = self.server.next_timeout();
            let timer = client
                .map(|(at, _)| at)
                .into_iter()
                .chain(conn.map(|(at, _)| at))
                .min();
            let timer = timer.unwrap_or(u64::MAX);
            if event.min(timer) > end {
                self.now = end;
                return Ok(());
            }
            self.now = self.now.max(event.min(timer));
            let now = self.clock();
            if event <= timer {
                if let Some((_, event)) = self.agenda.pop_first() {
                    self.happen(event)?;
                }
            } else if let Some((_, n)) = client.filter(|(at, _)| *at <= self.now) {
                self.session(n, |session, model| {
                    session.input(now, LinkInput::Timer, model)
                })?;
            } else if let Some((_, id)) = conn {
                self.server.input(now, id, ConnInput::Timer);
            }
        }
    }

    fn session(
        &mut self,
        n: usize,
        act: impl FnOnce(&mut Session, &mut Model) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        match self.sessions.get_mut(n) {
            Some(session) => act(session, &mut self.model),
            None => Ok(()),
        }
    }

    /// Carries out what machines have asked for.
    fn collect(&mut self) -> Result<(), Broken> {
        let now = self.clock();
        for n in 0..self.sessions.len() {
            while let Some(wish) = self.sessions.get_mut(n).and_then(|s| s.wishes.pop_front()) {
                self.grant(n, wish);
            }
        }
        let waiting: Vec<(ConnId, usize)> = self
            .net
            .sockets
            .values()
            .map(|s| (s.conn, s.down.len()))
            .collect();
        for (conn, under_way) in waiting {
            self.server.write(now, conn, under_way);
        }
        for (id, item) in std::mem::take(&mut self.server.wire) {
            let delay = self.net.delay(&mut self.rng);
            if let Some(socket) = self.net.sockets.get_mut(&id) {
                let at = socket.down.put(self.now, delay, item);
                self.at(at, Event::Down(id));
            }
        }
        for loaded in std::mem::take(&mut self.server.loads) {
            self.soon(Event::Loaded(Box::new(loaded)));
        }
        if self.server.has_work() && !self.hub_due {
            self.hub_due = true;
            let delay = self.rng.up_to(10);
            self.at(self.now + delay, Event::Hub);
        }
        Ok(())
    }

    fn grant(&mut self, n: usize, wish: Wish) {
        self.note(|| format!("client {n}: {wish:?}"));
        let Some(session) = self.sessions.get_mut(n) else {
            return;
        };
        let socket = session.socket;
        let item = match wish {
            Wish::Dial => {
                session.dials += 1;
                let dial = session.dials;
                return self.soon(Event::Dialled(n, dial));
            }
            Wish::HangUp => {
                session.dials += 1;
                session.socket = None;
                return socket.into_iter().for_each(|id| self.leave(id));
            }
            Wish::Send(bytes) => Item::Frame(bytes, Origin::Machine),
            Wish::Ping => Item::Ping,
        };
        if let Some(id) = socket {
            self.up(id, item);
        }
    }

    fn up(&mut self, id: SocketId, item: Item) {
        let delay = self.net.delay(&mut self.rng);
        if let Some(socket) = self.net.sockets.get_mut(&id) {
            let at = socket.up.put(self.now, delay, item);
            self.at(at, Event::Up(id));
        }
    }

    /// The client goes; what it has sent still arrives, then the server learns of it.
    fn leave(&mut self, id: SocketId) {
        self.up(id, Item::Close(conclave_proto::close::Close::Normal));
    }

    /// Keeps a trace from now on.
    pub fn watch(&mut self) {
        self.trace = Some(VecDeque::new());
    }

    /// Returns the last steps.
    pub fn trace(&self) -> impl Iterator<Item = &str> {
        self.trace.iter().flatten().map(String::as_str)
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_STEPS {
                trace.pop_front();
            }
            trace.push_back(format!("{:>7} {}", self.now, what()));
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        let now = self.clock();
        if !matches!(event, Event::Act(_) | Event::Tick | Event::Loaded(_)) {
            let text = format!("{event:?}");
            self.note(|| text);
        }
        match event {
            Event::Up(id) => self.arrive_up(id),
            Event::Down(id) => return self.arrive_down(id),
            Event::ServerLost(conn) => self.server.lost(conn),
            Event::ClientLost(n, dial) => return self.client_lost(n, dial, "the socket broke"),
            Event::Dialled(n, dial) => return self.dialled(n, dial),
            Event::Loaded(loaded) => self.server.tell(Command::Loaded(loaded)),
            Event::Hub => {
                self.hub_due = false;
                return self.server.step(now, &mut self.rng, &mut self.model);
            }
            Event::Tick => {
                self.server.tell(Command::Tick);
                self.at(self.now + 1_000, Event::Tick);
            }
            Event::Act(n) => {
                let pause = self.rng.up_to(2_000);
                self.at(self.now + pause, Event::Act(n));
                let Self {
                    sessions,
                    rng,
                    model,
                    quiet,
                    people,
                    ..
                } = self;
                if let Some(session) = sessions.get_mut(n) {
                    return session.act(now, rng, model, *quiet, people);
                }
            }
            Event::Fault => self.fault(),
            Event::ServerStarts => return self.server.start(),
            Event::ClientStarts(n) => {
                let key = self.server.secret().server_key();
                let server_id = key.server_id();
                let Self {
                    sessions,
                    rng,
                    model,
                    ..
                } = self;
                if let Some(session) = sessions.get_mut(n) {
                    session.start(now, rng, Pin::Known { key, server_id });
                    return session.drain(now, model);
                }
            }
        }
        Ok(())
    }

    fn dialled(&mut self, n: usize, dial: u64) -> Result<(), Broken> {
        let now = self.clock();
        let Some(encoding) = self
            .sessions
            .get(n)
            .filter(|s| s.dials == dial && s.is_running())
            .map(|s| s.encoding)
        else {
            return Ok(());
        };
        if !self.server.is_up() || (self.net.hostile && self.rng.up_to(9) == 0) {
            return self.client_lost(n, dial, "refused");
        }
        self.stats.dials += 1;
        let mut made = None;
        let Self {
            net, server, rng, ..
        } = self;
        server.accept(now, encoding, rng, |conn| {
            *made.insert(net.connect(n, conn))
        });
        let Self {
            sessions,
            rng,
            model,
            ..
        } = self;
        match sessions.get_mut(n) {
            Some(session) => {
                session.socket = made;
                session.connected(now, rng, model)
            }
            None => Ok(()),
        }
    }

    fn client_lost(&mut self, n: usize, dial: u64, why: &str) -> Result<(), Broken> {
        let now = self.clock();
        self.session(n, |session, model| {
            if session.dials != dial {
                return Ok(());
            }
            session.socket = None;
            let reason = Disconnect::Failed(why.to_owned());
            session.input(now, LinkInput::Disconnected { reason }, model)
        })
    }

    fn arrive_up(&mut self, id: SocketId) {
        let now = self.clock();
        let Some(socket) = self.net.sockets.get_mut(&id).filter(|s| !s.hole) else {
            return;
        };
        let conn = socket.conn;
        if self.server.conns.contains_key(&conn)
            && !self.server.can_read(conn)
            && !socket.up.is_empty()
        {
            // The server does not read; the frame waits.
            return self.at(self.now + 10, Event::Up(id));
        }
        match socket.up.take(self.now) {
            None => {}
            Some(Item::Frame(bytes, _)) => self.server.input(now, conn, ConnInput::Frame(bytes)),
            Some(Item::Ping) => {
                self.server.input(now, conn, ConnInput::Alive);
                self.server.wire.push((id, Item::Pong));
            }
            Some(Item::Pong) => self.server.input(now, conn, ConnInput::Alive),
            Some(Item::Close(_)) => {
                self.net.sockets.remove(&id);
                self.server.lost(conn);
            }
        }
    }

    fn arrive_down(&mut self, id: SocketId) -> Result<(), Broken> {
        let now = self.clock();
        let Some(socket) = self.net.sockets.get_mut(&id).filter(|s| !s.hole) else {
            return Ok(());
        };
        if socket.paused_until > self.now {
            let at = socket.paused_until;
            self.at(at, Event::Down(id));
            return Ok(());
        }
        let (n, conn) = (socket.client, socket.conn);
        let Some(item) = socket.down.take(self.now) else {
            return Ok(());
        };
        if let Item::Frame(bytes, Origin::Hub) = &item {
            self.server.wrote(conn, bytes.len());
        }
        if let Item::Close(_) = item {
            self.net.sockets.remove(&id);
            self.server.lost(conn);
        }
        if let Item::Ping = item {
            self.up(id, Item::Pong);
        }
        self.session(n, |session, model| {
            if session.socket != Some(id) {
                return Ok(());
            }
            let input = match item {
                Item::Frame(bytes, _) => LinkInput::Frame(bytes),
                Item::Ping | Item::Pong => LinkInput::Alive,
                Item::Close(close) => {
                    session.socket = None;
                    let reason = Disconnect::Closed(close);
                    LinkInput::Disconnected { reason }
                }
            };
            session.input(now, input, model)
        })
    }
}

/// Runs one seed.
///
/// # Errors
/// [`Broken`].
pub fn run(seed: u64) -> Result<Stats, Broken> {
    run_with(&mut World::new(seed)?)
}

/// Runs one seed again, to see what it does.
///
/// # Errors
/// [`Broken`], with the last steps before it.
pub fn replay(seed: u64) -> Result<Stats, Broken> {
    let mut world = World::new(seed)?;
    world.watch();
    run_with(&mut world).map_err(|Broken(why)| {
        let steps: Vec<&str> = world.trace().collect();
        Broken(format!("{}\n{why}", steps.join("\n")))
    })
}

fn run_with(world: &mut World) -> Result<Stats, Broken> {
    let stats = world.run()?;
    ensure(stats.acked > 0, || "nothing was acknowledged".to_owned())?;
    Ok(stats)
}
