//! The driver of one agent session: one task between the host, the pure [`State`] and the servers.
//!
//! It opens and dials nothing before the host is ready or calls a tool. Every call ends: with a result,
//! a typed failure, or a time-out. Rules are in `state`, `policy`, `guard` and `tool`.

mod activity;
mod agent;
mod ask;
mod boundary;
mod brief;
mod changes;
mod control;
mod desk;
mod early;
mod facts;
pub(crate) mod find;
mod held;
mod injected;
mod lapsed;
mod missed;
mod own;
mod release;
mod sender;
pub(crate) mod stand;
mod trip;
mod wake;

use changes::Changes;
pub(crate) use changes::{WATCHES_MAX, line, sender};
use early::Early;
pub(crate) use find::exact_name;
use held::Again;
use lapsed::Lapsed;
pub use stand::MinuteOf;
use trip::Notes;

use crate::control::seat::Seat;
use crate::fabric::{Event, Fabric, Later, ServerView};
use crate::mcp::{Command, Host, Push, Verdict};
use crate::outbound::hold::{Hold, Holds};
use crate::policy::Levels;
use crate::state::{Home, HomeId, Input, Message, Output, State};
use crate::switch::Resume;
use crate::tool::answer::{Answer, Failure};
use crate::tool::args::Object;
use crate::tool::{self, Page, Reply, Sets, Step, Work};
use crate::wake::inbox::FromHost;
use conclave_proto::channel_log::Role;
use conclave_proto::id::MsgId;
use conclave_proto::name::Name;
use conclave_proto::profile::Status;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now, UnixMs};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long any call but a wait may take.
const CALL: Duration = Duration::from_secs(20);

/// How long the end of a session may take: the host kills after 100 ms.
const CLOSING: Duration = Duration::from_millis(80);

/// How many answers say that nothing wakes this session, if its last agent left it so.
const REMINDERS: u8 = 3;

/// How many events of servers may wait for the session task.
pub const EVENTS: usize = 256;

/// Opens the servers, when first needed; again at the next call if that failed. Events carry the place
/// in the list that it returns.
pub type Opener = Box<dyn Fn(mpsc::Sender<(HomeId, Event)>) -> Later<Vec<Box<dyn Fabric>>> + Send>;

/// What a tool call continues with when its slow part is over.
pub(crate) type Finish = Box<dyn FnOnce(&mut Session, Now) -> Result<Step, Failure> + Send>;

/// What the user chose for a session.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The home channel.
    pub channel: Option<Name>,
    /// The toolsets.
    pub sets: Sets,
    /// The state directory, where the session has a socket of its own; none: it has none.
    pub home: Option<PathBuf>,
    /// What the host gave it to be woken by.
    pub from_host: FromHost,
    /// Whether the host is offered to have its permission dialogs answered by the user's approvers.
    pub relays: bool,
    /// Tells the minute of the day, for quiet hours; none: by UTC.
    pub minute: Option<MinuteOf>,
}

/// Runs a session until the host goes.
pub async fn run(host: Host, setup: Setup, opener: Opener, seed: [u8; 32]) {
    let (events_in, mut events) = mpsc::channel(EVENTS);
    let start = Instant::now();
    let given = setup.from_host.given();
    let mut session = Session {
        start,
        home_channel: setup.channel,
        state: State::new(now(start), seed, setup.sets),
        homes: Vec::new(),
        tasks: JoinSet::new(),
        waits: Vec::new(),
        next_wait: 0,
        asks: Vec::new(),
        pushes: host.pushes,
        opener,
        events: events_in,
        opening: Opening::Not,
        early: Early::default(),
        missed: BTreeMap::new(),
        reminders: 0,
        lapsed: Lapsed::default(),
        changes: Changes::default(),
        seat: None,
        home_dir: setup.home.clone(),
        holds: Holds::default(),
        contacts: sender::Contacts::new(now(start)),
        wakers: wake::Wakers::new(setup.from_host, setup.home.as_deref()),
        desk: desk::Desks::new(now(start).mono),
        notes: Notes::default(),
        resumed: None,
        agent: agent::Agent::default(),
    };
    session.state.handle(now(start), Input::Host(given));
    let mut calls = session.take_seat(setup.home.as_deref());
    let ended = CancellationToken::new();
    let mut stands = session.take_stand(setup.home.as_deref(), setup.minute, ended.clone());
    let _looking = ended.drop_guard();
    let (mut commands, closed) = (host.commands, host.closed);
    loop {
        let deadline = session.next_timeout();
        let wake = start + Duration::from_millis(deadline.unwrap_or_default().0);
        // Biased: a session that is to end ends, and the host's calls go before the peers' words.
        tokio::select! {
            biased;
            () = closed.cancelled() => break,
            command = commands.recv() => match command {
                Some(command) => session.command(command),
                None => break,
            },
            Some(done) = session.tasks.join_next() => {
                if let Ok(done) = done {
                    session.done(done);
                }
            }
            Some(call) = calls.recv() => session.controlled(call),
            Some(standing) = stands.recv() => {
                session.stand(standing);
                calls = session.keep_seat().unwrap_or(calls);
            }
            Some((home, event)) = events.recv(), if session.takes_events() => {
                session.told(home, event);
            }
            () = tokio::time::sleep_until(wake), if deadline.is_some() => {
                session.state.handle(now(start), Input::Timeout);
                session.tell_doing();
            }
        }
        session.drain();
    }
    session.close().await;
}

fn now(start: Instant) -> Now {
    let wall = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    Now {
        mono: Mono(millis(start.elapsed())),
        wall: UnixMs(millis(wall)),
    }
}

/// One agent session.
pub struct Session {
    start: Instant,
    home_channel: Option<Name>,
    pub(crate) state: State,
    homes: Vec<Box<dyn Fabric>>,
    tasks: JoinSet<Done>,
    waits: Vec<Wait>,
    next_wait: u64,
    asks: Vec<ask::Pending>,
    pushes: mpsc::Sender<Push>,
    opener: Opener,
    events: mpsc::Sender<(HomeId, Event)>,
    opening: Opening,
    early: Early,
    /// The last message of the last full page of what was missed.
    missed: BTreeMap<HomeId, MsgId>,
    /// How many answers still say that nothing wakes this session.
    reminders: u8,
    pub(crate) lapsed: Lapsed,
    pub(crate) changes: Changes,
    /// The session's own socket.
    seat: Option<Seat>,
    /// The state directory.
    home_dir: Option<PathBuf>,
    /// What waits for a human.
    holds: Holds,
    contacts: sender::Contacts,
    /// What wakes the agent besides the channel.
    wakers: wake::Wakers,
    /// Calls that wait for a verdict, here and of others.
    desk: desk::Desks,
    notes: Notes,
    /// What a human allowed last.
    resumed: Option<Resume>,
    /// What hooks tell of the agent.
    agent: agent::Agent,
}

enum Opening {
    Not,
    Running(Vec<Command>),
    Done,
    Failed,
}

struct Wait {
    id: u64,
    page: Page,
    timer: AbortHandle,
    gone: CancellationToken,
    reply: oneshot::Sender<Reply>,
}

/// What a task of the session came to.
enum Done {
    Opened(Result<Vec<Box<dyn Fabric>>, Reject>),
    Call(CancellationToken, oneshot::Sender<Reply>, Finish),
    WaitOver(u64),
    AskOver(MsgId),
    /// A call was answered.
    Called,
    /// A call stopped at something that a human can allow.
    Held(Box<(Again, Hold, Reply)>),
    Decided(Box<held::Decided>),
    Contact(Box<(sender::Contact, Verdict)>),
    Missed(HomeId, Result<Vec<Message>, Reject>),
    Then(Box<dyn FnOnce(&mut Session) + Send>),
}

/// The most commands that wait for the servers to be opened.
const EARLY_MAX: usize = 64;

impl Session {
    fn command(&mut self, command: Command) {
        match (&mut self.opening, &command) {
            (Opening::Done, _)
            | (Opening::Failed, Command::Ready | Command::Offer(_) | Command::Permit(..)) => {
                self.open_command(command);
            }
            (Opening::Running(early), _) => {
                if early.len() < EARLY_MAX {
                    early.push(command);
                }
            }
            (Opening::Not, _) | (Opening::Failed, Command::Call { .. }) => {
                let opened = (self.opener)(self.events.clone());
                self.tasks.spawn(async move { Done::Opened(opened.await) });
                self.opening = Opening::Running(vec![command]);
            }
        }
    }

    fn open_command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Ready => self.state.handle(now, Input::HostReady),
            Command::Permit(id, call) => self.relayed(now, id, call),
            Command::Offer(reply) => reply.send(self.state.tell_offer()).unwrap_or_default(),
            Command::Call {
                name,
                args,
                gone,
                reply,
            } => {
                if gone.is_cancelled() {
                    return;
                }
                let allowed = Vec::new();
                let call = Again {
                    name,
                    args,
                    gone,
                    reply,
                    allowed,
                };
                self.call(now, call);
            }
        }
    }

    /// Starts a tool, if nothing in its arguments has to stay here.
    fn start(&mut self, now: Now, name: &str, args: Object) -> Result<Step, Failure> {
        let Some(tool) = tool::named(name, self.state.sets()) else {
            let text = "there is no such tool";
            return Err(Failure::new("unknown_tool", text, "list the tools"));
        };
        self.may_run(tool)?;
        self.gate(now, tool.name, &args)?;
        let args = tool.check(args)?;
        tool.start(self, now, &args)
    }

    /// Takes the next step of a call.
    fn go_on(
        &mut self,
        step: Result<Step, Failure>,
        gone: CancellationToken,
        reply: oneshot::Sender<Reply>,
    ) {
        match step {
            Err(failure) => self.answer(reply, Err(failure)),
            Ok(Step::Done(answer)) => self.answer(reply, Ok(answer)),
            Ok(Step::Later(work)) => self.spawn_call(work, gone, reply),
            Ok(Step::Ask(question)) => self.asked(question, gone, reply),
            Ok(Step::Wait(timeout, page)) => self.wait(timeout, page, gone, reply),
        }
    }

    fn spawn_call(&mut self, work: Work, gone: CancellationToken, reply: oneshot::Sender<Reply>) {
        self.tasks.spawn(async move {
            let finish = tokio::time::timeout(CALL, work).await.unwrap_or_else(|_| {
                let reject = Reject::new(Code::Timeout, "there was no answer in 20 s");
                Box::new(move |_: &mut Self, _| Err(reject.into()))
            });
            Done::Call(gone, reply, finish)
        });
    }

    fn wait(
        &mut self,
        timeout: Duration,
        page: Page,
        gone: CancellationToken,
        reply: oneshot::Sender<Reply>,
    ) {
        let id = self.next_wait;
        self.next_wait += 1;
        let cancelled = gone.clone();
        let timer = self.tasks.spawn(async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = tokio::time::sleep(timeout) => {}
            }
            Done::WaitOver(id)
        });
        self.waits.push(Wait {
            id,
            page,
            timer,
            gone,
            reply,
        });
        self.state
            .handle(self.now(), Input::Waits(self.waits.len()));
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Opened(opened) => self.opened(opened),
            Done::Call(gone, reply, finish) => {
                let step = finish(self, now);
                self.go_on(step, gone, reply);
            }
            Done::WaitOver(id) => {
                if let Some(at) = self.waits.iter().position(|wait| wait.id == id) {
                    let wait = self.waits.swap_remove(at);
                    self.state.handle(now, Input::Waits(self.waits.len()));
                    self.answer(wait.reply, Ok(Answer::ok().with("messages", 0)));
                }
            }
            Done::AskOver(id) => self.ask_over(id),
            Done::Called => {}
            Done::Held(held) => {
                let (call, hold, refusal) = *held;
                self.ask_human(call, hold, refusal);
            }
            Done::Contact(told) => self.contact_decided(&told.0, told.1),
            Done::Decided(decided) => self.decided(*decided),
            Done::Then(then) => then(self),
            Done::Missed(home, missed) => match missed {
                Ok(messages) => self.missed(now, home, messages),
                Err(error) => {
                    tracing::warn!(home = home.0, %error, "unread messages were not read");
                }
            },
        }
    }

    fn opened(&mut self, opened: Result<Vec<Box<dyn Fabric>>, Reject>) {
        let Opening::Running(early) = std::mem::replace(&mut self.opening, Opening::Done) else {
            return;
        };
        let failure = match opened {
            Ok(homes) => {
                self.homes = homes;
                self.tell_name();
                for home in (0..self.homes.len()).map(HomeId) {
                    self.refresh(home);
                    self.load_missed(home);
                }
                self.reminders = REMINDERS;
                self.hear_early();
                None
            }
            Err(reject) => {
                tracing::error!(%reject, "no server was opened");
                self.opening = Opening::Failed;
                self.drop_early();
                Some(reject)
            }
        };
        for command in early {
            match (&failure, command) {
                (Some(reject), Command::Call { reply, .. }) => {
                    self.answer(reply, Err(reject.clone().into()));
                }
                (_, command) => self.open_command(command),
            }
        }
    }

    fn event(&mut self, home: HomeId, event: Event) {
        let now = self.now();
        match event {
            Event::Message(message, age) => self.state.handle(now, Input::Arrived(message, age)),
            Event::Changed => self.refresh(home),
            Event::Notice(word, text) => {
                if !self.state.notice(now, word, &text) {
                    tracing::warn!(word, text, "too many notices of this kind");
                }
            }
            Event::State(item) => {
                self.changed(now, home, &item);
                self.wake();
            }
            Event::Bounced { id, peer, at } => self.bounced(now, id, &peer, at),
            Event::Verdict(given) => self.verdict(now, &given),
            Event::Requested(message, request) => self.requested(now, *message, *request),
        }
    }

    /// Looks at a server again: its channels, roles and levels.
    pub(crate) fn refresh(&mut self, home: HomeId) {
        let Some(view) = self.view(home) else { return };
        let joined = view
            .channels
            .iter()
            .filter(|channel| channel.role.is_some());
        let channels = joined
            .map(|c| (c.id, c.role >= Some(Role::Admin)))
            .collect();
        let levels = Levels::new(view.policy, view.lowered);
        let labels = view.labels.groups.into_iter();
        let carries = labels.map(|(id, all)| (id, all.into_iter().map(|l| l.name).collect()));
        let home_view = Home {
            me: view.path,
            carries: carries.collect(),
            status: self.agent.activity.status(view.labels.status),
            name: view.name,
            levels,
            senders: view.senders,
            channels,
        };
        self.state
            .handle(self.now(), Input::Home(home, Box::new(home_view)));
    }

    /// Carries out what the state decided.
    fn drain(&mut self) {
        self.tell_trips();
        while let Some(output) = self.state.poll_output() {
            match output {
                Output::Push(frame) => {
                    self.injected(&frame.content);
                    // A full queue means that the host does not read: the message stays unread.
                    if self.pushes.try_send(Push::Event(frame)).is_err() {
                        tracing::debug!("the host does not take pushes");
                    }
                }
                Output::ToolsChanged => {
                    if self.pushes.try_send(Push::ToolsChanged).is_err() {
                        tracing::warn!("the host was not told that the tools changed");
                    }
                }
                Output::Answered(id) => self.answered(id),
                Output::Mark(home, log, id, why) => {
                    if let Some(fabric) = self.homes.get(home.0) {
                        fabric.mark(log, id, why);
                    }
                }
                Output::NewSender(message) => self.new_sender(&message),
                Output::Wake => self.wake(),
                Output::Point { path, text } => self.point(path, text),
                Output::Look => self.look(),
                Output::Proven(path, at) => self.proven(path, at),
            }
        }
        if self.state.owes_more() {
            (0..self.homes.len()).for_each(|home| self.load_missed(HomeId(home)));
        }
    }

    fn wake(&mut self) {
        if self.state.is_paused() {
            return;
        }
        let now = self.now();
        while (self.state.has_loud() || self.changes.is_due()) && !self.waits.is_empty() {
            let wait = self.waits.remove(0);
            wait.timer.abort();
            // Nobody reads the answer of a wait that was given up: the messages stay unread.
            if wait.gone.is_cancelled() {
                continue;
            }
            let answer = self.unread_answer(now, wait.page);
            self.answer(wait.reply, Ok(answer));
            self.state.waited(now);
        }
        self.state.handle(now, Input::Waits(self.waits.len()));
    }

    fn answer(&mut self, reply: oneshot::Sender<Reply>, result: Result<Answer, Failure>) {
        let result = result.map(|answer| self.remind(answer));
        let unread = self.state.unread();
        if reply.send(Reply::new(result, unread)).is_err() {
            tracing::debug!("a call ended after the host gave it up");
        }
    }

    /// Tells an agent that is new here what an agent before it left behind: that nothing wakes it.
    fn remind(&mut self, answer: Answer) -> Answer {
        if self.reminders == 0 || !self.state.is_dnd() {
            self.reminders = 0;
            return answer;
        }
        self.reminders -= 1;
        answer.with("your_status", Status::Dnd.as_str())
    }

    /// Returns when something is due.
    fn next_timeout(&self) -> Option<Mono> {
        let due = self.state.next_timeout();
        due.into_iter().chain(self.agent_timeout()).min()
    }

    fn now(&self) -> Now {
        now(self.start)
    }

    pub(crate) fn view(&self, home: HomeId) -> Option<ServerView> {
        self.homes.get(home.0).map(|fabric| fabric.view())
    }

    async fn close(self) {
        let mut closing = JoinSet::new();
        for fabric in &self.homes {
            closing.spawn(fabric.close());
        }
        let all = async { while closing.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSING, all).await.is_err() {
            tracing::warn!("a server did not close in time; what was sent is in the outbox");
        }
    }
}
