//! A client of the simulation: the real link, a replica that survives crashes, and an outbox.

use crate::invariant::{Broken, ensure};
use crate::model::Model;
use crate::net::SocketId;
use crate::person::Person;
use crate::server::{ORIGIN, byte};
use conclave_proto::backoff::Jitter;
use conclave_proto::channel_log::{
    Author, ChannelLog, Ctl, CtlBody, History, Mode as ChannelMode, RemoveKind, Role, Visibility,
};
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Entry, EntryBody, Envelope, Route};
use conclave_proto::frame::op::{Append, CtlAppend};
use conclave_proto::frame::{Event, Op, Reply};
use conclave_proto::handshake::{Binding, Mode};
use conclave_proto::id::{ChannelId, HandshakeNonce, Instance, LogId, MsgId, SenderSid};
use conclave_proto::limit::REQUEST_TIMEOUT_MS;
use conclave_proto::link::{DownReason, Input, Link, LinkConfig, Output, Pin};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// How many messages of one log are in flight at a time.
const WINDOW: usize = 4;

/// How many messages come at once, now and then.
const BURST: usize = 60;

/// What a request was for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Post(LogId, MsgId),
    Ctl,
}

#[derive(Debug)]
struct Post {
    msg: MsgId,
    route: Route,
    sealed: Option<(u64, Envelope)>,
    done: bool,
}

/// Messages on their way into one log. The first one has the counter `next`.
#[derive(Debug)]
struct Queue {
    sid: SenderSid,
    posts: VecDeque<Post>,
    in_flight: usize,
    next: u64,
    /// Something was refused: nothing goes out until all that is in flight is answered.
    broken: bool,
    /// It was refused for good.
    hopeless: bool,
}

/// What the world has to do for a session.
pub enum Wish {
    /// Open a socket.
    Dial,
    /// Send a frame.
    Send(Vec<u8>),
    /// Send a ping.
    Ping,
    /// Close the socket.
    HangUp,
}

/// Without bytes: they say nothing in a trace.
impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dial => "dial",
            Self::Send(_) => "send",
            Self::Ping => "ping",
            Self::HangUp => "hang up",
        })
    }
}

/// One client.
#[derive(Debug)]
pub struct Session {
    /// Who it is.
    pub person: Person,
    /// The socket it uses.
    pub socket: Option<SocketId>,
    /// Counts dials, so that an old one's end is not taken for the present one's.
    pub dials: u64,
    /// What the world has to do.
    pub wishes: VecDeque<Wish>,
    /// How its frames are encoded.
    pub encoding: Encoding,
    channels: Vec<ChannelId>,
    own: Option<ChannelId>,
    instance: Instance,
    link: Option<Link>,
    replicas: BTreeMap<LogId, Vec<EntryBody>>,
    following: BTreeSet<LogId>,
    queues: BTreeMap<LogId, Queue>,
    asks: BTreeMap<u64, Ask>,
    view: Option<ChannelLog>,
    next_token: u64,
    sent: u64,
    registered: bool,
}

impl Session {
    /// Makes a session that is not started; it makes the channel `own`.
    #[must_use]
    pub fn new(
        person: Person,
        channels: Vec<ChannelId>,
        own: Option<ChannelId>,
        encoding: Encoding,
        rng: &mut Jitter,
    ) -> Self {
        Self {
            person,
            socket: None,
            dials: 0,
            wishes: VecDeque::new(),
            encoding,
            channels,
            own,
            instance: Instance::new(std::array::from_fn(|_| byte(rng))),
            link: None,
            replicas: BTreeMap::new(),
            following: BTreeSet::new(),
            queues: BTreeMap::new(),
            asks: BTreeMap::new(),
            view: None,
            next_token: 0,
            sent: 0,
            registered: false,
        }
    }

    /// Starts the process; replica and outbox are as they were.
    pub fn start(&mut self, now: Now, rng: &mut Jitter, pin: Pin) {
        let genesis = self.person.genesis.clone();
        let config = LinkConfig {
            secret: Arc::clone(&self.person.machine),
            pin,
            handle: self.person.path.handle.clone(),
            pinned: true,
            instance: self.instance,
            agent: "sim".to_owned(),
            encoding: self.encoding,
            mode: if self.registered {
                Mode::Auth
            } else {
                Mode::Register { genesis }
            },
            seed: rng.up_to(u64::MAX),
        };
        self.link = Some(Link::new(config, now));
    }

    /// The process dies.
    pub fn crash(&mut self) {
        self.link = None;
        self.asks.clear();
        self.following.clear();
        self.wishes.clear();
        for queue in self.queues.values_mut() {
            queue.in_flight = 0;
            queue.broken = false;
        }
    }

    /// Returns whether the process runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.link.is_some()
    }

    /// Returns whether the session is live.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_up)
    }

    /// Returns when the link's timer is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        Some(self.link.as_ref()?.next_timeout()?.0)
    }

    /// Returns how many requests and messages are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        let posts: usize = self.queues.values().map(|q| q.posts.len()).sum();
        self.asks.len() + posts
    }

    /// Returns how many entries of a log it has.
    #[must_use]
    pub fn replica(&self, log: LogId) -> usize {
        self.replicas.get(&log).map_or(0, Vec::len)
    }

    /// Returns whether it should have a log wholly.
    #[must_use]
    pub fn reads(&self, log: LogId, model: &Model) -> bool {
        match log {
            LogId::Channel(_) => model.is_member(log, self.person.user()),
            LogId::Mailbox(_) => log == self.person.mailbox(),
        }
    }

    /// The socket is open.
    pub fn connected(
        &mut self,
        now: Now,
        rng: &mut Jitter,
        model: &mut Model,
    ) -> Result<(), Broken> {
        let input = Input::Connected {
            origin: ORIGIN.to_owned(),
            bindings: vec![Binding::None],
            nonce: HandshakeNonce::new(std::array::from_fn(|_| byte(rng))),
        };
        self.input(now, input, model)
    }

    /// Hands one input to the link and takes what comes of it.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn input(&mut self, now: Now, input: Input, model: &mut Model) -> Result<(), Broken> {
        if let Some(link) = &mut self.link {
            link.handle(now, input);
        }
        self.drain(now, model)
    }

    /// Takes what the link says.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn drain(&mut self, now: Now, model: &mut Model) -> Result<(), Broken> {
        while let Some(output) = self.link.as_mut().and_then(Link::poll_output) {
            match output {
                Output::Dial => self.wishes.push_back(Wish::Dial),
                Output::Send(bytes) => self.wishes.push_back(Wish::Send(bytes)),
                Output::Ping => self.wishes.push_back(Wish::Ping),
                Output::HangUp => self.wishes.push_back(Wish::HangUp),
                Output::Up(ready) => {
                    self.registered = true;
                    let path = &self.person.path;
                    ensure(ready.path == *path, || {
                        format!("{path} came in as {}", ready.path)
                    })?;
                }
                Output::Down {
                    reason,
                    retry_in_ms,
                } => {
                    let fault =
                        matches!(reason, DownReason::Hole { .. } | DownReason::Malformed(_));
                    ensure(retry_in_ms.is_some() && !fault, || {
                        format!("{} went down: {reason}", self.person.path)
                    })?;
                }
                Output::Response { token, result } => self.answered(token, result, model)?,
                Output::Entries { log, entries, gap } => {
                    ensure(gap.is_none(), || {
                        format!("a gap in {log}, and nothing expires")
                    })?;
                    self.entries(now, log, entries, model)?;
                }
                Output::Event(Event::Dropped(dropped)) => {
                    self.following.remove(&dropped.log);
                }
                Output::FirstContact { .. } | Output::Event(_) => {}
            }
        }
        Ok(())
    }

    fn entries(
        &mut self,
        now: Now,
        log: LogId,
        entries: Vec<Entry>,
        model: &mut Model,
    ) -> Result<(), Broken> {
        let replica = self.replicas.entry(log).or_default();
        for entry in entries {
            let expected = u64::try_from(replica.len()).unwrap_or(0) + 1;
            ensure(entry.seq == expected, || {
                format!(
                    "{} got {} of {log} instead of {expected}",
                    self.person.path, entry.seq
                )
            })?;
            model.delivered(self.person.user(), log, entry.seq, &entry.body)?;
            if let (EntryBody::Ctl(rec), true) =
                (&entry.body, self.own.map(LogId::Channel) == Some(log))
            {
                let result = match &mut self.view {
                    Some(view) => view
                        .apply(entry.seq, entry.at, rec, &model.people)
                        .map(drop),
                    None => ChannelLog::create(entry.seq, entry.at, rec, &model.people)
                        .map(|view| self.view = Some(view)),
                };
                result.map_err(|e| Broken(format!("{log} {}: {e}", entry.seq)))?;
            }
            replica.push(entry.body);
        }
        let seq = u64::try_from(replica.len()).unwrap_or(0);
        if let Some(link) = &mut self.link {
            link.handle(now, Input::Stored { log, seq });
        }
        Ok(())
    }

    fn answered(
        &mut self,
        token: u64,
        result: Result<Reply, Reject>,
        model: &mut Model,
    ) -> Result<(), Broken> {
        let ask = self.asks.remove(&token);
        let ask = ask.ok_or_else(|| Broken(format!("request {token} was answered twice")))?;
        let Ask::Post(log, msg) = ask else {
            return Ok(());
        };
        let Some(queue) = self.queues.get_mut(&log) else {
            return Ok(());
        };
        queue.in_flight -= 1;
        match result {
            Ok(Reply::Appended(appended)) => {
                model.acked(msg, log, appended.seq)?;
                for post in queue.posts.iter_mut().filter(|post| post.msg == msg) {
                    post.done = true;
                }
                while queue.posts.pop_front_if(|post| post.done).is_some() {
                    queue.next += 1;
                }
                return Ok(());
            }
            Ok(reply) => return Err(Broken(format!("{} answers an append", reply.word()))),
            Err(reject) => match reject.code {
                Code::Internal | Code::StorageFull | Code::Draining | Code::RateLimited => {}
                Code::CounterGap => queue.next = reject.expected.unwrap_or(queue.next),
                Code::Forbidden | Code::NotFound | Code::IdReuse => queue.hopeless = true,
                code => return Err(Broken(format!("an append got {code}: {}", reject.message))),
            },
        }
        queue.broken = true;
        Ok(())
    }

    /// Does something, if there is something to do: follows, sends, changes members.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn act(
        &mut self,
        now: Now,
        rng: &mut Jitter,
        model: &mut Model,
        quiet: Quiet,
        others: &[Person],
    ) -> Result<(), Broken> {
        if self.link.is_none() {
            return Ok(());
        }
        let mut logs: Vec<LogId> = self.channels.iter().copied().map(LogId::Channel).collect();
        logs.push(self.person.mailbox());
        for log in logs {
            if self.is_up() && self.following.insert(log) {
                let after = u64::try_from(self.replica(log)).unwrap_or(0);
                self.input(now, Input::Follow { log, after }, model)?;
            }
        }
        if quiet == Quiet::No {
            match rng.up_to(9) {
                0 => self.change_members(now, rng, model, others)?,
                1 if rng.up_to(4) == 0 => (0..BURST).for_each(|_| self.write(rng, model, others)),
                1..6 => self.write(rng, model, others),
                _ => {}
            }
        }
        let logs: Vec<LogId> = self.queues.keys().copied().collect();
        for log in logs {
            self.flush(now, log, rng, model)?;
        }
        Ok(())
    }

    fn write(&mut self, rng: &mut Jitter, model: &mut Model, others: &[Person]) {
        let (log, route) = match (pick(rng, &self.channels), pick(rng, others)) {
            (_, Some(other)) if rng.up_to(4) == 0 => {
                (other.mailbox(), Route::Whisper(other.path.clone()))
            }
            (Some(channel), _) => (LogId::Channel(*channel), Route::Everyone),
            _ => return,
        };
        let msg = MsgId::new(std::array::from_fn(|_| byte(rng)));
        self.sent += 1;
        model.sends(msg, log, self.sent);
        let queue = self.queues.entry(log).or_insert_with(|| Queue::new(rng));
        queue.posts.push_back(Post {
            msg,
            route,
            sealed: None,
            done: false,
        });
    }

    fn flush(
        &mut self,
        now: Now,
        log: LogId,
        rng: &mut Jitter,
        model: &mut Model,
    ) -> Result<(), Broken> {
        let Some(queue) = self.queues.get_mut(&log) else {
            return Ok(());
        };
        if queue.broken && queue.in_flight == 0 {
            if queue.hopeless {
                *queue = Queue::new(rng);
            }
            queue.broken = false;
        }
        let mut ops = Vec::new();
        while !queue.broken && queue.in_flight < WINDOW.min(queue.posts.len()) {
            let n = queue.in_flight;
            let ctr = queue.next + u64::try_from(n).unwrap_or(0);
            let sid = queue.sid;
            let Some(post) = queue.posts.get_mut(n) else {
                break;
            };
            if post.sealed.as_ref().is_none_or(|(was, _)| *was != ctr) {
                post.sealed = Some((
                    ctr,
                    self.person
                        .seal(model.server, log, sid, ctr, (post.msg, post.route.clone())),
                ));
            }
            queue.in_flight += 1;
            if let Some((_, env)) = &post.sealed {
                let env = env.clone();
                ops.push((Ask::Post(log, post.msg), Op::Append(Append { log, env })));
            }
        }
        for (ask, op) in ops {
            self.request(now, ask, op, model)?;
        }
        Ok(())
    }

    fn request(&mut self, now: Now, ask: Ask, op: Op, model: &mut Model) -> Result<(), Broken> {
        self.next_token += 1;
        let token = self.next_token;
        self.asks.insert(token, ask);
        let deadline = match ask {
            Ask::Post(..) => None,
            Ask::Ctl => Some(now.mono.plus(REQUEST_TIMEOUT_MS)),
        };
        self.input(
            now,
            Input::Request {
                token,
                op,
                deadline,
            },
            model,
        )
    }

    /// Adds or removes somebody in one's own channel, or makes it.
    fn change_members(
        &mut self,
        now: Now,
        rng: &mut Jitter,
        model: &mut Model,
        others: &[Person],
    ) -> Result<(), Broken> {
        let busy = self.asks.values().any(|ask| matches!(ask, Ask::Ctl));
        let (Some(channel), Some(other), false) = (self.own, pick(rng, others), busy) else {
            return Ok(());
        };
        let user = other.user();
        let (after, body) = match &self.view {
            None => (None, create()),
            Some(_) if user == self.person.user() => return Ok(()),
            Some(view) if view.role(&user).is_none() => {
                let (ident, role) = (other.log.head(), Role::Member);
                (Some(view.head()), CtlBody::Add { user, ident, role })
            }
            // Rather in than out, so that there is something to see.
            Some(_) if rng.up_to(2) > 0 => return Ok(()),
            Some(view) => {
                let kind = RemoveKind::Kick;
                (Some(view.head()), CtlBody::Remove { user, kind })
            }
        };
        let author = Author {
            user: self.person.user(),
            path: self.person.path.clone(),
            ident: self.person.log.head(),
        };
        let ts = now.wall;
        let ctl = Ctl {
            channel,
            after,
            body,
            author,
            ts,
        };
        let op = Op::CtlAppend(CtlAppend {
            channel,
            rec: ctl.sign_machine(&self.person.machine).bytes().clone(),
            wraps: Vec::new(),
            invite_box: None,
        });
        self.request(now, Ask::Ctl, op, model)
    }
}

/// Whether sessions start anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// They do.
    No,
    /// They only finish what they have begun.
    Yes,
}

impl Queue {
    fn new(rng: &mut Jitter) -> Self {
        Self {
            sid: SenderSid::new(std::array::from_fn(|_| byte(rng))),
            posts: VecDeque::new(),
            in_flight: 0,
            next: 1,
            broken: false,
            hopeless: false,
        }
    }
}

fn create() -> CtlBody {
    CtlBody::Create {
        mode: ChannelMode::Signed,
        visibility: Visibility::Private,
        history: History::Full,
        name: None,
        topic: None,
        limits: None,
    }
}

fn pick<'a, T>(rng: &mut Jitter, from: &'a [T]) -> Option<&'a T> {
    let last = from.len().checked_sub(1)?;
    let n = rng.up_to(u64::try_from(last).unwrap_or(0));
    from.get(usize::try_from(n).unwrap_or(0))
}
