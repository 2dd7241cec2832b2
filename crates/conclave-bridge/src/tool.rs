//! The tools: tables of names, constant descriptions, arguments and what runs, one a file.
//!
//! What is on offer follows from the sets the user chose and from what the agent may do: without a scope
//! at `converse` nothing can be sent; moderation is for admins. No tool raises a level, approves a tool call, or takes a sender,
//! an owner key or an enrolment: those are the human's, at the command line.

mod address;
mod admin;
pub mod answer;
pub mod args;
mod ask;
pub mod budget;
mod channels;
mod claims;
mod delivery;
mod desk;
mod memory;
mod messages;
mod peers;
mod read;
mod say;
mod state;

use crate::fabric::Later;
use crate::outbound::hold::Hold;
use crate::session::{Finish, Session};
use answer::{Answer, Failure};
use args::{Arg, Args, Kind, Object, may, need};
pub(crate) use ask::Question;
use conclave_proto::time::Now;
pub(crate) use read::Page;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

/// What a tool is about; a user chooses which sets a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Saying, asking and hearing things.
    Core,
    /// Groups and roles.
    Groups,
    /// Shared facts.
    State,
    /// Shared knowledge, and search.
    Memory,
    /// Who works on what.
    Claims,
    /// The narrow forms of the older program.
    Seed,
    /// Moderation.
    Admin,
}

impl Set {
    /// Every set, in the order of the tables.
    pub const ALL: &[Self] = &[
        Self::Core,
        Self::Groups,
        Self::State,
        Self::Memory,
        Self::Claims,
        Self::Seed,
        Self::Admin,
    ];

    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Groups => "groups",
            Self::State => "state",
            Self::Memory => "memory",
            Self::Claims => "claims",
            Self::Seed => "seed",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some of the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sets(u8);

impl Sets {
    /// Returns whether a set is among them.
    #[must_use]
    pub const fn has(self, set: Set) -> bool {
        self.0 & set.bit() != 0
    }
}

impl Default for Sets {
    /// Every set.
    fn default() -> Self {
        Set::ALL.iter().copied().collect()
    }
}

impl FromIterator<Set> for Sets {
    fn from_iter<I: IntoIterator<Item = Set>>(sets: I) -> Self {
        Self(sets.into_iter().fold(0, |bits, set| bits | set.bit()))
    }
}

/// A word that names no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no toolset; known are core, groups, state, memory, claims, seed, admin")]
pub struct BadSet(String);

impl FromStr for Sets {
    type Err = BadSet;

    /// Reads words with commas between them, or `all`. `core` is always among them.
    fn from_str(text: &str) -> Result<Self, BadSet> {
        if text == "all" {
            return Ok(Self::default());
        }
        let named = |word: &str| {
            let found = Set::ALL.iter().find(|set| set.as_str() == word).copied();
            found.ok_or_else(|| BadSet(word.to_owned()))
        };
        let sets = text.split(',').map(|word| named(word.trim()));
        let sets = sets.chain([Ok(Set::Core)]);
        sets.collect()
    }
}

/// When a tool is on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// While some scope lets the agent send.
    Emit,
    /// While the user administers a joined channel.
    Admin,
    /// While the user lets this session's agent decide some calls of others.
    Approver,
}

/// Which tools are on offer now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The user's choice.
    pub sets: Sets,
    /// [`When::Emit`].
    pub emit: bool,
    /// [`When::Admin`].
    pub admin: bool,
    /// [`When::Approver`].
    pub approver: bool,
    /// Whether there are several servers to name.
    pub servers: bool,
}

/// How a tool starts.
type Run = fn(&mut Session, Now, &Args) -> Result<Step, Failure>;

/// One tool.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// What it does, for the model.
    pub about: &'static str,
    /// What it is about.
    pub set: Set,
    /// When it is on offer.
    pub when: When,
    /// Whether the host should load it from the start.
    pub eager: bool,
    args: &'static [Arg],
    run: Run,
}

impl Tool {
    /// A row of a table: always on offer, loaded when the host likes.
    const fn new(
        name: &'static str,
        set: Set,
        about: &'static str,
        args: &'static [Arg],
        run: Run,
    ) -> Self {
        Self {
            name,
            about,
            set,
            when: When::Always,
            eager: false,
            args,
            run,
        }
    }

    /// On offer only while something may be sent.
    const fn emits(mut self) -> Self {
        self.when = When::Emit;
        self
    }

    /// On offer only while the user administers a channel.
    const fn moderates(mut self) -> Self {
        self.when = When::Admin;
        self
    }

    /// On offer only while the user lets this session's agent decide calls.
    const fn approves(mut self) -> Self {
        self.when = When::Approver;
        self
    }

    /// To be loaded from the start.
    const fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    /// Returns the JSON schema of its arguments; with several servers it can name one.
    #[must_use]
    pub fn schema(&self, servers: bool) -> Object {
        args::schema(self.args, servers)
    }

    /// Checks arguments against the schema.
    ///
    /// # Errors
    /// A [`Failure`] that names the argument and what was expected.
    pub fn check(&self, given: Object) -> Result<Args, Failure> {
        Args::check(self.args, given)
    }

    /// Starts a call.
    pub(crate) fn start(
        &self,
        session: &mut Session,
        now: Now,
        args: &Args,
    ) -> Result<Step, Failure> {
        (self.run)(session, now, args)
    }
}

/// The tables, one a file.
const TABLES: &[&[Tool]] = &[
    peers::SENDING,
    messages::TOOLS,
    peers::TOOLS,
    read::TOOLS,
    ask::TOOLS,
    delivery::TOOLS,
    desk::TOOLS,
    state::TOOLS,
    claims::TOOLS,
    memory::TOOLS,
    channels::TOOLS,
    admin::TOOLS,
];

/// Returns every tool.
pub fn all() -> impl Iterator<Item = &'static Tool> {
    TABLES.iter().copied().flatten()
}

/// Returns the tools on offer.
pub fn offered(offer: Offer) -> impl Iterator<Item = &'static Tool> {
    all().filter(move |tool| {
        let now = match tool.when {
            When::Always => true,
            When::Emit => offer.emit,
            When::Admin => offer.admin,
            When::Approver => offer.approver,
        };
        now && offer.sets.has(tool.set)
    })
}

/// Returns a tool by name, if the user chose its set.
#[must_use]
pub fn named(name: &str, sets: Sets) -> Option<&'static Tool> {
    all().find(|tool| tool.name == name && sets.has(tool.set))
}

/// What a tool call came to, as the host gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The one text block.
    pub text: String,
    /// Whether the call failed.
    pub is_error: bool,
    /// What the call stopped at until a human allows it.
    pub held: Option<Box<Hold>>,
}

impl Reply {
    /// Makes the reply of a finished call; every reply says how much is unread.
    #[must_use]
    pub fn new(result: Result<Answer, Failure>, unread: usize) -> Self {
        match result {
            Ok(answer) => Self {
                text: answer.with("unread", unread).to_text(),
                is_error: false,
                held: None,
            },
            Err(failure) => Self {
                text: failure.to_text(unread),
                is_error: true,
                held: failure.into_held(),
            },
        }
    }

    /// Makes the reply to a call that the end of the session cut off.
    #[must_use]
    pub fn ended() -> Self {
        let failure = Failure::new("ended", "this session is ending", "start the bridge again");
        Self::new(Err(failure), 0)
    }
}

/// The slow part of a call.
pub(crate) type Work = Pin<Box<dyn Future<Output = Finish> + Send>>;

/// How a tool call goes on.
pub(crate) enum Step {
    /// It is over.
    Done(Answer),
    /// It waits for a server.
    Later(Work),
    /// It waits for the answers of a question.
    Ask(Question),
    /// It waits for messages: so long, then for at most so much.
    Wait(Duration, Page),
}

impl Step {
    /// Goes on with what a server answers.
    fn later<T: Send + 'static>(
        work: Later<T>,
        then: impl FnOnce(&mut Session, Now, T) -> Answer + Send + 'static,
    ) -> Self {
        Self::later_or(work, |session, now, value| Ok(then(session, now, value)))
    }

    /// Goes on with what a server answers, and may still fail.
    fn later_or<T: Send + 'static>(
        work: Later<T>,
        then: impl FnOnce(&mut Session, Now, T) -> Result<Answer, Failure> + Send + 'static,
    ) -> Self {
        Self::chain(work, |session, now, value| {
            then(session, now, value).map(Self::Done)
        })
    }

    /// Goes on with what a server answers, which may be another wait.
    fn chain<T: Send + 'static>(
        work: Later<T>,
        then: impl FnOnce(&mut Session, Now, T) -> Result<Self, Failure> + Send + 'static,
    ) -> Self {
        Self::Later(Box::pin(async move {
            let result = work.await;
            let finish: Finish = Box::new(move |session, now| then(session, now, result?));
            finish
        }))
    }
}

/// From which byte on a long text is shown; a value is a little longer with its key.
const OFFSET: Arg = may(
    "offset",
    Kind::Number(131_072),
    "next_offset of the part before",
);
/// The channel a call means.
const CHANNEL: Arg = need("channel", Kind::Text, "channel name");
/// The channel a call means, if not the home channel.
const IN_CHANNEL: Arg = may(
    "channel",
    Kind::Text,
    "channel name; default: the home channel",
);
/// The longest wait, in seconds: below the host's idle limit.
pub const WAIT_S_MAX: u64 = 1_500;
/// The most messages of one page.
pub const PAGE_MAX: u64 = 100;
