//! The task behind a [`Client`](crate::Client): one session's link, verified state, feeds, outbox.
//!
//! One owner for all of it; callers hand in closures and requests. It reads the network only as fast
//! as its events are taken.

mod delivery;
pub(crate) mod errand;
mod feed;
mod lane;
pub(crate) mod profiles;
mod sealing;
pub(crate) mod sending;

use crate::book::{Book, Need};
use crate::error::ClientError;
use crate::event::{Event, Status};
use crate::link::Driver;
use crate::replica::Replica;
use conclave_proto::body::Head;
use conclave_proto::frame::{Event as Told, Op, Ready, Reply};
use conclave_proto::id::{ChannelId, LogId, SenderSid, ServerId, UserId};
use conclave_proto::key::{Secret, ServerKey};
use conclave_proto::link::{DownReason, Input, Output};
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, UnixMs};
use errand::{Errand, Errands};
use futures_util::FutureExt as _;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// How many commands of callers wait.
pub(crate) const COMMANDS: usize = 64;
/// How many outputs of the link are taken before feeds go on.
const OUTPUTS: usize = 16;
/// How many events wait for their taker before the network is left alone.
pub(crate) const EVENTS: usize = 256;

/// A closure that runs inside the task.
pub(crate) type Act = Box<dyn FnOnce(&mut Core) + Send>;

/// What a caller wants.
pub(crate) enum Command {
    /// Look at the state, or change it, at once.
    With(Act),
    /// Ask the server.
    Request(Op, oneshot::Sender<Result<Reply, Reject>>),
    /// Say something.
    Send(Box<sending::Order>),
    /// Tell what became of messages.
    News,
    /// An errand has ended.
    Done(Errand, Result<(), Reject>),
    /// End.
    Stop(oneshot::Sender<()>),
}

/// Who waits for an answer of the server.
enum Waiting {
    Caller(oneshot::Sender<Result<Reply, Reject>>),
    /// A draft of the outbox.
    Append(LogId),
    /// What the session says of itself in a channel.
    Profile(ChannelId),
    /// Something a feed needs; of an identity, records from this number on.
    Need(Need, u64),
}

/// What woke the task.
enum Turn {
    Command(Command),
    /// Every handle is gone.
    Abandoned,
    Output(Output),
    /// The taker of events has room again.
    Room,
    /// The taker of events is gone.
    Deaf,
    /// A draft has rested long enough.
    Due,
}

/// What a task is started with.
pub(crate) struct Setup {
    pub(crate) driver: Driver,
    pub(crate) replica: Replica,
    pub(crate) book: Book,
    pub(crate) me: UserId,
    /// The name of the account, where it is known.
    pub(crate) user: Option<Name>,
    pub(crate) handle: Name,
    pub(crate) secret: Arc<Secret>,
    pub(crate) server_key: ServerKey,
    pub(crate) sid: SenderSid,
    pub(crate) keeper: mpsc::Sender<errand::Sent>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) pinned: Box<dyn FnMut(ServerId, ServerKey) + Send>,
}

/// See the module.
pub(crate) struct Core {
    driver: Driver,
    pub(crate) replica: Replica,
    pub(crate) book: Book,
    pub(crate) me: UserId,
    user: Option<Name>,
    pub(crate) ready: Option<Arc<Ready>>,
    /// The server's clock when the session became live, and when that was by the clock that nobody sets.
    clocks: Option<(UnixMs, Mono)>,
    /// Why the session cannot be had, found out here and not by the link.
    unfit: Option<DownReason>,
    handle: Name,
    secret: Arc<Secret>,
    server_key: ServerKey,
    sid: SenderSid,
    waiting: HashMap<u64, Waiting>,
    token: u64,
    feeds: HashMap<LogId, feed::Feed>,
    /// The newest message of each followed log.
    newest: HashMap<LogId, Head>,
    outbox: sending::Outbox,
    deliveries: delivery::Deliveries,
    errands: Errands,
    pub(crate) profiles: profiles::Profiles,
    events: Option<mpsc::Sender<Event>>,
    backlog: VecDeque<Event>,
    status: watch::Sender<Status>,
    pinned: Box<dyn FnMut(ServerId, ServerKey) + Send>,
}

impl Core {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            driver: setup.driver,
            replica: setup.replica,
            book: setup.book,
            me: setup.me,
            user: setup.user,
            ready: None,
            clocks: None,
            unfit: None,
            handle: setup.handle,
            secret: setup.secret,
            server_key: setup.server_key,
            sid: setup.sid,
            waiting: HashMap::new(),
            token: 0,
            feeds: HashMap::new(),
            newest: HashMap::new(),
            outbox: sending::Outbox::default(),
            deliveries: delivery::Deliveries::default(),
            errands: Errands::new(setup.keeper),
            profiles: profiles::Profiles::default(),
            events: Some(setup.events),
            backlog: VecDeque::new(),
            status: setup.status,
            pinned: setup.pinned,
        }
    }

    /// Runs until it is told to stop or nobody is left to serve.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        if let Err(error) = self.load_outbox().await {
            tracing::warn!(%error, "the outbox cannot be read");
        }
        loop {
            match self.turn(&mut commands).await {
                Turn::Command(Command::With(act)) => act(&mut self),
                Turn::Command(Command::Request(op, reply)) => {
                    let deadline = self.deadline();
                    self.ask(op, deadline, Waiting::Caller(reply));
                }
                Turn::Command(Command::Send(order)) => self.accept(*order).await,
                Turn::Command(Command::News) => self.tell_deliveries().await,
                Turn::Command(Command::Done(errand, result)) => {
                    self.errand_done(errand, result).await;
                }
                Turn::Command(Command::Stop(done)) => {
                    self.stop().await;
                    done.send(()).ok();
                    return;
                }
                Turn::Abandoned => return self.stop().await,
                Turn::Output(output) => {
                    self.output(output).await;
                    self.take_waiting().await;
                }
                Turn::Room => {
                    if let Some(event) = self.backlog.pop_front() {
                        self.tell_now(event);
                    }
                }
                Turn::Deaf => {
                    // Nobody listens any more: events are for nobody.
                    self.events = None;
                    self.backlog.clear();
                }
                Turn::Due => {
                    self.deliveries_due();
                    self.retry_due().await;
                    self.publish_due();
                }
            }
            self.feed_all().await;
        }
    }

    /// Takes what the link has ready besides, so that entries are judged and kept in larger parts.
    async fn take_waiting(&mut self) {
        for _ in 0..OUTPUTS {
            if !self.backlog.is_empty() {
                return;
            }
            let Some(output) = self.driver.next().now_or_never() else {
                return;
            };
            self.output(output).await;
        }
    }

    /// Waits for one thing to do; decides nothing.
    async fn turn(&mut self, commands: &mut mpsc::Receiver<Command>) -> Turn {
        let due = [
            self.outbox.next_due(),
            self.profiles.next_due(),
            self.deliveries.next_due(),
        ];
        let due = due.into_iter().flatten().min();
        let clock = *self.driver.clock();
        let clear = self.backlog.is_empty();
        tokio::select! {
            command = commands.recv() => command.map_or(Turn::Abandoned, Turn::Command),
            output = self.driver.next(), if clear => Turn::Output(output),
            room = has_room(self.events.as_ref()), if !clear => match room {
                true => Turn::Room,
                false => Turn::Deaf,
            },
            () = clock.sleep_until(due) => Turn::Due,
        }
    }

    async fn output(&mut self, output: Output) {
        match output {
            Output::FirstContact { server_id, key } => {
                self.server_key = key;
                (self.pinned)(server_id, key);
            }
            Output::Up(ready) if !self.is_mine(&ready) => {
                self.unfit = Some(DownReason::Unproven(
                    "it names another account than this machine's",
                ));
                self.driver.input(Input::Stop);
            }
            Output::Up(ready) => {
                let ready: Arc<Ready> = Arc::new(*ready);
                let now = self.driver.now();
                self.clocks = Some((ready.at, now.mono));
                self.note_clock(ready.at, now.wall).await;
                self.ready = Some(Arc::clone(&ready));
                self.status.send_replace(Status::Up(Arc::clone(&ready)));
                self.tell(Event::Up(ready));
                self.errand(Errand::Announce);
                self.look_after_deliveries();
                self.profiles.renew_all(self.driver.now().mono);
                self.send_all().await;
            }
            Output::Down {
                reason,
                retry_in_ms,
            } => {
                let reason = self.unfit.take().unwrap_or(reason);
                self.down(&reason, retry_in_ms);
                self.tell(Event::Down {
                    reason,
                    retry_in_ms,
                });
            }
            Output::Response { token, result } => match self.waiting.remove(&token) {
                Some(Waiting::Caller(reply)) => drop(reply.send(result)),
                Some(Waiting::Append(log)) => self.appended(log, result).await,
                Some(Waiting::Profile(channel)) => self.published(channel, &result),
                Some(Waiting::Need(need, from)) => self.needed(need, from, result).await,
                None => {}
            },
            Output::Entries { log, entries, gap } => self.take(log, entries, gap),
            Output::Event(told) => self.told(told),
            // The driver keeps these to itself.
            Output::Dial | Output::Send(_) | Output::Ping | Output::HangUp => {}
        }
    }

    /// Returns the time as the server sees it: what it stored is judged by its own clock.
    pub(crate) fn server_now(&self) -> UnixMs {
        let now = self.driver.now();
        match self.clocks {
            Some((theirs, ours)) => theirs.plus(now.mono.since(ours)),
            None => now.wall,
        }
    }

    /// Notes how far the server's clock is from this machine's: programs without a connection judge by it.
    async fn note_clock(&mut self, theirs: UnixMs, ours: UnixMs) {
        let int = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let ahead = int(theirs.0).saturating_sub(int(ours.0));
        if let Err(error) = self.replica.set_clock(ahead).await {
            tracing::warn!(%error, "the server's clock cannot be noted");
        }
    }

    /// Returns whether a session is of this account: what the server says of it goes into what is signed.
    fn is_mine(&self, ready: &Ready) -> bool {
        // Who comes back by an owner key alone learns only then which account it is.
        let unknown = self.me == UserId::new([0; 32]);
        (unknown || ready.user_id == self.me)
            && self
                .user
                .as_ref()
                .is_none_or(|name| *name == ready.path.user)
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Presence(presence) => self.tell(Event::Presence(presence)),
            Told::Dropped(dropped) => {
                self.feeds.remove(&dropped.log);
                self.tell(Event::Dropped {
                    log: dropped.log,
                    reason: dropped.reason,
                });
            }
            Told::Standing(standing) => self.tell(Event::Standing {
                admin: standing.admin,
            }),
            Told::Enrol(request) => self.tell(Event::Enrol(request)),
            // Heads are looked up when something by that user comes.
            Told::Keys(of) => self.key_came(of.channel),
            Told::Wanted(of) => self.repair_soon(of.channel),
            Told::Ident(_) | Told::Entries(_) | Told::Unknown(_) => {}
        }
    }

    fn down(&mut self, reason: &DownReason, retry_in_ms: Option<u64>) {
        tracing::info!(%reason, retry_in_ms, "link down");
        let reason = reason.clone();
        self.status.send_replace(Status::Down {
            reason,
            retry_in_ms,
        });
    }

    /// Tells the taker of events, as fast as it takes them.
    pub(crate) fn tell(&mut self, event: Event) {
        if self.backlog.is_empty() {
            self.tell_now(event);
        } else {
            self.backlog.push_back(event);
        }
    }

    fn tell_now(&mut self, event: Event) {
        if let Some(events) = &self.events
            && let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event)
        {
            self.backlog.push_front(event);
        }
    }

    fn deadline(&self) -> Option<Mono> {
        let ms = conclave_proto::limit::REQUEST_TIMEOUT_MS;
        Some(self.driver.now().mono.plus(ms))
    }

    fn ask(&mut self, op: Op, deadline: Option<Mono>, waiting: Waiting) {
        if self.driver.is_ended() {
            if let Waiting::Caller(reply) = waiting {
                let reject = Reject::new(Code::Offline, "the session has ended");
                drop(reply.send(Err(reject)));
            }
            return;
        }
        self.token += 1;
        self.waiting.insert(self.token, waiting);
        self.driver.input(Input::Request {
            token: self.token,
            op,
            deadline,
        });
    }

    async fn stop(&mut self) {
        self.driver.input(Input::Stop);
        // Lets the socket's task say goodbye; bounded, for nothing depends on it.
        let farewell = std::time::Duration::from_millis(50);
        drop(tokio::time::timeout(farewell, self.driver.next()).await);
    }

    /// Keeps a name's first user; a later one raises an alarm.
    pub(crate) async fn pin_name(
        &mut self,
        name: Name,
        user: UserId,
    ) -> Result<UserId, ClientError> {
        if let Some(pin) = self.book.pinned(&name)
            && pin.user == user
        {
            return Ok(user);
        }
        let pinned = self.replica.pin_name(name.clone(), user).await?;
        self.book.shown(name, pinned, user);
        Ok(pinned)
    }

    /// Returns the id of what this session said last in a log, for the header's counters.
    pub(crate) fn is_own(&self, sender: &conclave_proto::name::SessionPath) -> bool {
        // Every one-shot of a machine has the same path: another one said it, not this session.
        sender.handle.as_str() != conclave_proto::name::CLI_HANDLE
            && self
                .ready
                .as_ref()
                .is_some_and(|ready| ready.path == *sender)
    }

    /// Follows a log from here on, unless it is followed already.
    pub(crate) fn follow(&mut self, log: LogId, after: u64, newest: Option<Head>) {
        if let Entry::Vacant(free) = self.feeds.entry(log) {
            free.insert(feed::Feed::new(after));
            self.newest.extend(newest.map(|head| (log, head)));
            self.driver.input(Input::Follow { log, after });
            if let LogId::Channel(channel) = log {
                self.profiles.renew(&channel, self.driver.now().mono);
                self.repair_soon(channel);
            }
        }
    }

    /// Stops following a log.
    pub(crate) fn unfollow(&mut self, log: LogId) {
        self.feeds.remove(&log);
        self.driver.input(Input::Unfollow { log });
    }

    /// Returns whether a log is followed.
    pub(crate) fn follows(&self, log: &LogId) -> bool {
        self.feeds.contains_key(log)
    }

    /// Returns the server's key, as last proven.
    pub(crate) const fn server_key(&self) -> ServerKey {
        self.server_key
    }
}

/// Waits until the taker of events has room; `false` if there is none any more.
async fn has_room(events: Option<&mpsc::Sender<Event>>) -> bool {
    match events {
        Some(events) => events.reserve().await.is_ok(),
        None => false,
    }
}
