//! The pure machine of one agent session: what is unread, what wakes the agent, what it may send.
//!
//! A message that came is unread until a tool call returned it or an answer named it: a push to the host
//! proves nothing (DECISIONS 25). Each message takes one path: a pending wait, else the host's channel,
//! within a budget; what does not fit is announced once and waits. No I/O, no clock.

mod ask;
mod boundary;
mod item;
mod message;
mod owed;
mod push;
pub mod sender;
mod stand;
mod unread;
pub mod urgency;

use crate::guard::{Bucket, Budget, Guard, Recent};
use crate::outbound::flow::Read;
use crate::policy::{Level, Scope};
use crate::render::{Frame, Key, Seed, frame};
use crate::tool::{Offer, Sets};
use crate::trust::{Tier, assess};
use crate::wake::{Given, WakePath, Ways};
pub use ask::Audience;
pub use boundary::{Seen, Trial};
use conclave_proto::bytes::Builder;
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::name::SessionPath;
use conclave_proto::profile::Status;
use conclave_proto::time::{Mono, Now, UnixMs};
pub use item::Kept;
pub use message::{Age, Home, HomeId, Message, Place, Thread, Why};
pub use owed::Owed;
use stand::Sound;
pub use stand::Stand;
use std::collections::{BTreeMap, VecDeque};
pub use unread::UNREAD_MAX;
use unread::{Carrier, Item, Put, Unread};

/// Pushes into the agent's context, in number and bytes (SECURITY B.6).
const PUSHES: Budget = Budget::new(20, 60_000);
/// So that no minute has more than 60 kB, whatever went before and however large the last one is.
const PUSH_BYTES: Budget = Budget::new(15_000, 30_000);

/// What is older than this says so.
const AGE_MS: u64 = 60_000;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The host takes notifications from now on.
    HostReady,
    /// A message came.
    Arrived(Box<Message>, Age),
    /// So many calls wait for messages now.
    Waits(usize),
    /// The replica has more than was brought.
    More,
    /// This is what the host gave the session.
    Host(Given),
    /// Something takes lines that wake the agent.
    Attached(WakePath),
    /// Nothing takes them any more, and why.
    Detached(WakePath, &'static str),
    /// What took a line takes no other; the line may be on its way.
    Spent(WakePath),
    /// The transcript was looked at, or there is none to look at.
    Looked {
        /// There is none.
        none: bool,
    },
    /// A server's levels or channels are these now.
    Home(HomeId, Box<Home>),
    /// The machine stands like this now.
    Stand(Stand),
    /// A timer ran out.
    Timeout,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Push this to the host.
    Push(Frame),
    /// Wake the host by a line of our own words.
    Point {
        /// By which way.
        path: WakePath,
        /// The line.
        text: String,
    },
    /// Look whether the host's transcript has what was sent.
    Look,
    /// There is evidence that the agent heard by this way, now.
    Proven(WakePath, UnixMs),
    /// Finish the pending waits.
    Wake,
    /// Somebody wrote for the first time: ask the human.
    NewSender(Box<Message>),
    /// Remember that this message is not unread any more, and why.
    Mark(HomeId, LogId, MsgId, Why),
    /// A question that a call waits for was answered.
    Answered(MsgId),
    /// Tell the host that other tools are on offer.
    ToolsChanged,
}

/// The machine.
#[derive(Debug)]
pub struct State {
    seed: [u8; 32],
    drawn: u64,
    ready: bool,
    waits: usize,
    homes: BTreeMap<HomeId, Home>,
    offer: Offer,
    told: bool,
    unread: Unread,
    /// What was shown lately: the replica may not know it yet when it is asked for what was not.
    seen: Recent<(HomeId, SessionPath, MsgId), LogId>,
    /// An id is its sender's alone: others may use it, too.
    threads: Recent<MsgId, Vec<Thread>>,
    /// The questions that the agent has not answered.
    owed: owed::Debts,
    /// The questions that calls wait for.
    asked: BTreeMap<MsgId, ask::Asked>,
    guard: Guard,
    stand: Stand,
    pushes: Bucket,
    push_bytes: Bucket,
    notices: BTreeMap<&'static str, Bucket>,
    announce_at: Option<Mono>,
    /// Since when something that is watched waits untold, and where.
    watched: Option<(HomeId, Mono)>,
    /// When something that is held back is due.
    held_until: Option<Mono>,
    announced_until: Mono,
    /// Where the words in the agent's context came from.
    read: Read,
    asked_about: sender::Asked,
    /// By which ways the agent hears.
    ways: Ways,
    /// Notices that wait for a boundary or a call.
    notes: VecDeque<Frame>,
    /// Whether the transcript is being looked at; and when it is to be because of a hook.
    looking: bool,
    look_at: Option<Mono>,
    /// What a trial of waking is known by.
    trial: Option<(WakePath, String)>,
    outputs: VecDeque<Output>,
}

impl State {
    /// Starts with nothing unread. `seed` feeds the gutters and must be fresh and secret; `sets` are the
    /// toolsets the user chose.
    #[must_use]
    pub fn new(now: Now, seed: [u8; 32], sets: Sets) -> Self {
        Self {
            seed,
            drawn: 0,
            ready: false,
            waits: 0,
            homes: BTreeMap::new(),
            offer: Offer {
                sets,
                ..Offer::default()
            },
            told: false,
            unread: Unread::default(),
            seen: Recent::default(),
            threads: Recent::default(),
            owed: owed::Debts::default(),
            asked: BTreeMap::new(),
            guard: Guard::new(now.mono),
            stand: Stand::default(),
            pushes: Bucket::full(PUSHES, now.mono),
            push_bytes: Bucket::full(PUSH_BYTES, now.mono),
            notices: BTreeMap::new(),
            announce_at: None,
            watched: None,
            held_until: None,
            announced_until: now.mono,
            read: Read::default(),
            asked_about: sender::Asked::default(),
            ways: Ways::new(now.mono, Given::default()),
            notes: VecDeque::new(),
            looking: false,
            look_at: None,
            trial: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::HostReady => {
                self.ready = true;
                self.offer_pushes(now);
            }
            Input::Arrived(message, age) => self.arrived(now, *message, age),
            Input::Host(given) => self.ways.give(given),
            Input::Attached(path) => {
                self.ways.attached(path);
                self.reopen_void();
                self.offer_pushes(now);
            }
            Input::Detached(path, why) => self.detached(now, path, why),
            Input::Spent(path) => self.ways.spent(path),
            Input::Looked { none } => self.looked(now, none),
            Input::Waits(count) => {
                self.waits = count;
                self.waiting(count);
                match (count, self.has_loud()) {
                    (_, false) => {}
                    (0, true) => self.offer_pushes(now),
                    (_, true) => self.outputs.push_back(Output::Wake),
                }
            }
            Input::More => self.unread.set_overflowed(),
            Input::Home(id, home) => {
                self.homes.insert(id, *home);
                self.drop_blocked();
                self.refresh_offer();
                // Another status holds back less.
                self.offer_pushes(now);
            }
            Input::Stand(stand) => self.stand(now, stand),
            Input::Timeout => {
                if self.announce_at.is_some_and(|at| at <= now.mono) {
                    self.announce_at = None;
                    self.announce(now);
                }
                self.offer_pushes(now);
            }
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        self.announce_at.into_iter().chain(self.held_until).min()
    }

    /// Returns which tools are on offer; from now on the host is told when that changes.
    #[must_use]
    pub const fn tell_offer(&mut self) -> Offer {
        self.told = true;
        self.offer
    }

    /// Returns whether the user lets this session's agent decide some calls of others.
    pub(crate) const fn approves(&self) -> bool {
        self.offer.approver
    }

    /// Returns the toolsets the user chose.
    #[must_use]
    pub const fn sets(&self) -> Sets {
        self.offer.sets
    }

    /// Returns how much is unread.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Returns, once, whether what is held was read while more found no room: then the driver brings
    /// the rest from the replica.
    pub fn owes_more(&mut self) -> bool {
        self.unread.is_empty() && self.unread.take_overflowed()
    }

    /// Returns a server's view.
    #[must_use]
    pub fn home(&self, id: HomeId) -> Option<&Home> {
        self.homes.get(&id)
    }

    /// Returns the level in force for a scope; without the server's policy `notify`.
    #[must_use]
    pub fn level(&self, home: HomeId, scope: Scope) -> Level {
        self.homes
            .get(&home)
            .map_or(Level::Notify, |home| home.levels.level(scope))
    }

    /// Returns whether nothing but what interrupts wakes this session, somewhere.
    #[must_use]
    pub fn is_dnd(&self) -> bool {
        let mut homes = self.homes.values();
        homes.any(|home| home.status == Some(Status::Dnd))
    }

    /// Returns what this session read, to decide where it may speak.
    pub const fn read(&mut self) -> &mut Read {
        &mut self.read
    }

    /// Forgets where the agent's words came from: its context was cleared.
    pub fn flow_cleared(&mut self) {
        self.read.clear();
    }

    /// Returns the guard, to charge a send.
    pub const fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Returns where the messages of an id stand in their conversations, one of each sender, as far as this
    /// session showed them lately.
    #[must_use]
    pub fn threads(&self, id: MsgId) -> &[Thread] {
        self.threads.find(&id).map_or(&[], Vec::as_slice)
    }

    /// Returns where the message stands that an answer means: the one it fits, else the only one of that id.
    #[must_use]
    pub fn thread(&self, id: MsgId, fits: impl Fn(&Thread) -> bool) -> Option<Thread> {
        match self.threads(id) {
            [one] => Some(one.clone()),
            several => several.iter().find(|thread| fits(thread)).cloned(),
        }
    }

    /// Returns what is unread under an id.
    #[must_use]
    pub fn find(&self, id: MsgId) -> Vec<Message> {
        self.unread.find(id)
    }

    /// Notes that the agent has a message: an answer named it. If it was pushed, it came.
    pub fn named(&mut self, now: Now, thread: &Thread, id: MsgId) {
        let item = self.unread.place(thread.home, &thread.from, id);
        if let Some(Carrier::Frame(path, ..)) = item.and_then(|item| item.carrier.clone()) {
            self.prove(now, path);
        }
        self.shown(thread.home, thread.log, &thread.from, id);
    }

    /// Notes that the agent has a message: a tool returned it.
    pub fn shown(&mut self, home: HomeId, log: LogId, from: &SessionPath, id: MsgId) {
        let item = self.unread.remove(home, from, id);
        self.mark(home, log, from, id, Why::Shown);
        if let Some(item) = item {
            self.note_owed(&item.message);
            self.pass_copies(&item, log);
        }
    }

    /// Has the copies of a message, but the one that is shown, not come again.
    fn pass_copies(&mut self, item: &Item, shown: LogId) {
        let Message { home, log, id, .. } = item.message;
        for log in item.copies.iter().copied().chain([log]) {
            if log != shown {
                self.outputs
                    .push_back(Output::Mark(home, log, id, Why::Passed));
            }
        }
    }

    fn mark(&mut self, home: HomeId, log: LogId, from: &SessionPath, id: MsgId, why: Why) {
        if why == Why::Shown {
            self.seen.entry(&(home, from.clone(), id), || log);
        }
        self.outputs.push_back(Output::Mark(home, log, id, why));
    }

    fn mark_message(&mut self, message: &Message, why: Why) {
        let Message { home, log, id, .. } = *message;
        self.mark(home, log, &message.from, id, why);
    }

    /// Returns what is unread, oldest first, at most `max` messages and about `bytes_max` bytes, and
    /// takes it as shown.
    pub fn take_unread(&mut self, now: Now, max: usize, bytes_max: usize) -> Vec<Frame> {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while frames.len() < max && bytes < bytes_max {
            let Some(next) = self.unread.pop() else { break };
            let message = &next.message;
            self.note_owed(message);
            self.mark_message(message, Why::Shown);
            self.pass_copies(&next, message.log);
            let mut frame = self.show(now, message, next.age, 0);
            if next.pushed {
                frame.attributes = frame.attributes.with(Key::Redelivered, 1);
            }
            bytes += frame.content.len();
            frames.push(frame);
        }
        if self.unread.is_empty() {
            self.announce_at = None;
        }
        frames
    }

    /// Returns the newest that is unread, oldest first and what interrupts last, with its frame; it stays
    /// unread.
    pub fn newest_unread(&mut self, now: Now, max: usize) -> Vec<(Message, String)> {
        let items = self.unread.newest(max);
        let shown = items.into_iter().map(|item| {
            let mut frame = self.show(now, &item.message, item.age, 0);
            if item.pushed {
                frame.attributes = frame.attributes.with(Key::Redelivered, 1);
            }
            (item.message, frame.standalone())
        });
        shown.collect()
    }

    /// Renders a message: the one way to the agent, live or not.
    pub fn show(&mut self, now: Now, message: &Message, age: Age, offset: usize) -> Frame {
        self.note_thread(message);
        self.read.note_message(message);
        if let Some(withheld) = self.withheld(message) {
            return withheld;
        }
        let age_ms = now.wall.since(message.at);
        let scope = message.place.scope();
        let (tier, level) = match self.homes.get(&message.home) {
            Some(home) => assess(&home.levels, scope, &message.sender, age_ms, message.hop),
            None => (Tier::T3, Level::Notify),
        };
        let level = if age == Age::History {
            level.min(Level::Converse)
        } else {
            level
        };
        let attributes = self.attributes(message).with(Key::Trust, tier.as_str());
        let attributes = match age {
            Age::Live => attributes,
            Age::History => attributes.with(Key::History, 1),
        };
        let attributes = match age_ms >= AGE_MS {
            true => attributes.with(Key::AgeS, age_ms / 1000),
            false => attributes,
        };
        let framed = frame(&message.text, offset, level, attributes, self.draw());
        match &message.question {
            Some(question) => framed.answering(question),
            None => framed,
        }
    }

    fn arrived(&mut self, now: Now, message: Message, age: Age) {
        let key = (message.home, message.from.clone(), message.id);
        if let Some(shown) = self.seen.find(&key) {
            if *shown != message.log {
                self.mark_message(&message, Why::Passed);
            }
            return;
        }
        let scope = message.place.scope();
        if self.level(message.home, scope) == Level::Mute {
            return self.mark_message(&message, Why::Blocked);
        }
        if !self.is_meant(&message) {
            return self.mark_message(&message, Why::Passed);
        }
        if self.is_blocked(now, &message) {
            return self.mark_message(&message, Why::Blocked);
        }
        let sound = self.guarded(now, &message, age);
        if let Some((message, age)) = self.answers(message, age) {
            self.keep(now, message, age, sound);
        }
    }

    fn keep_unread(&mut self, now: Now, message: Message, age: Age) {
        self.keep(now, message, age, Sound::Heard);
    }

    fn keep(&mut self, now: Now, message: Message, age: Age, sound: Sound) {
        let may_wake = self.may_wake(now, &message);
        let item = Item {
            hushed: sound == Sound::Hushed,
            ..Item::new(now.mono, message, age)
        };
        let held = self.is_held(&item);
        match self.unread.insert(item) {
            Put::Known => return,
            // The agent hears at least that there is something.
            Put::NoRoom(item) if self.due(&item).is_some_and(|at| at <= now.mono) => {
                return self.announce(now);
            }
            Put::NoRoom(_) => return,
            Put::New if held => return,
            Put::New => {}
        }
        if self.waits > 0 && may_wake {
            self.outputs.push_back(Output::Wake);
        } else {
            self.offer_pushes(now);
        }
    }

    fn refresh_offer(&mut self) {
        let emits = |home: &Home| {
            let channels = home.channels.keys().map(|id| Scope::Channel(*id));
            let mut scopes = channels.chain([Scope::Whisper]);
            scopes.any(|scope| home.levels.level(scope).may_emit())
        };
        let offer = Offer {
            sets: self.offer.sets,
            emit: self.homes.values().any(emits),
            admin: self
                .homes
                .values()
                .any(|home| home.channels.values().any(|admin| *admin)),
            approver: self.homes.values().any(Home::approves),
            servers: self.homes.len() > 1,
        };
        if offer != self.offer {
            self.offer = offer;
            if self.told {
                self.outputs.push_back(Output::ToolsChanged);
            }
        }
    }

    fn draw(&mut self) -> Seed {
        self.drawn += 1;
        let hash = Builder::default().raw(&self.seed).u64(self.drawn).sha256();
        let mut seed = [0; 16];
        seed.copy_from_slice(&hash.as_bytes()[..16]);
        seed
    }
}
