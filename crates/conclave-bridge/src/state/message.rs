//! What a session knows of a peer's message and of a server, and the attributes a message is shown with.

use super::State;
use crate::policy::{Levels, Scope};
use crate::render::{Attributes, Key, VALUE_BYTES_MAX};
use crate::senders::Senders;
use crate::trust::Sender;
use conclave_client::address::is_mentioned;
use conclave_proto::body::Priority;
use conclave_proto::id::{ChannelId, LogId, MsgId};
use conclave_proto::name::SessionPath;
use conclave_proto::profile::{Group, Status};
use conclave_proto::time::UnixMs;
use std::collections::BTreeMap;

/// One server this session is connected with, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HomeId(pub usize);

/// Where a message was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To this session alone.
    Whisper,
    /// In a channel.
    Channel(ChannelId, String),
}

impl Place {
    /// Returns the scope whose level counts.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        match self {
            Self::Whisper => Scope::Whisper,
            Self::Channel(id, _) => Scope::Channel(*id),
        }
    }
}

/// A verified message of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// By which server it came.
    pub home: HomeId,
    /// Where it stands.
    pub log: LogId,
    /// Its place in the log.
    pub seq: u64,
    /// Its id.
    pub id: MsgId,
    /// When the server stored it.
    pub at: UnixMs,
    /// The sending session.
    pub from: SessionPath,
    /// What is known of the sender.
    pub sender: Sender,
    /// Where it was said.
    pub place: Place,
    /// The words.
    pub text: String,
    /// What it answers.
    pub reply_to: Option<MsgId>,
    /// The words of what it answers, if this session asked that and waits for answers.
    pub question: Option<String>,
    /// The groups of the channel it is for; none: everybody.
    pub to: Vec<Group>,
    /// How urgent its sender calls it.
    pub priority: Priority,
    /// The handles and sessions it names.
    pub mentions: Vec<String>,
    /// Whether its sender waits for an answer.
    pub expects_reply: bool,
    /// The first message of its conversation.
    pub root: Option<MsgId>,
    /// Its causal depth.
    pub hop: u8,
    /// Whether the sender says that a human typed it.
    pub human: bool,
}

/// Why a message is not unread any more; its sender hears of it, if it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The model has it.
    Shown,
    /// The human muted the sender or the place: the model does not get it.
    Blocked,
    /// It was not for this session; nobody is told.
    Passed,
}

/// What an answer needs of the message it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// By which server it came.
    pub home: HomeId,
    /// Where it stands.
    pub log: LogId,
    /// The sending session.
    pub from: SessionPath,
    /// Its causal depth.
    pub hop: u8,
    /// The first message of the conversation.
    pub root: MsgId,
}

/// Whether a message came as it was said, or was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It came live.
    Live,
    /// It was said while this session was away, or is read again.
    History,
}

/// What a session knows of one of its servers.
#[derive(Clone, Debug)]
pub struct Home {
    /// What to call it; shown when there are several.
    pub name: String,
    /// The levels in force.
    pub levels: Levels,
    /// What the human decided of who writes.
    pub senders: Senders,
    /// The joined channels, and whether the user administers them.
    pub channels: BTreeMap<ChannelId, bool>,
    /// This session there.
    pub me: Option<SessionPath>,
    /// The groups it carries, by channel.
    pub carries: BTreeMap<ChannelId, Vec<Group>>,
    /// What it says it is doing.
    pub status: Option<Status>,
}

impl Home {
    /// Returns whether the user lets this session's agent decide some calls of others.
    pub(super) fn approves(&self) -> bool {
        let agents = &self.levels.policy().agents;
        self.me.as_ref().is_some_and(|me| agents.contains_key(me))
    }
}

impl Home {
    /// Returns whether a message is for this session, by what it carries now.
    fn is_meant(&self, message: &Message) -> bool {
        let Place::Channel(channel, _) = &message.place else {
            return true;
        };
        let carried = self.carries.get(channel);
        let mut carried = carried.into_iter().flatten();
        message.to.is_empty() || carried.any(|label| message.to.iter().any(|to| to.reaches(label)))
    }
}

/// The most senders of one id whose conversations are remembered.
const THREADS_MAX: usize = 8;

impl State {
    /// Remembers where a message stands that is shown.
    pub(super) fn note_thread(&mut self, message: &Message) {
        let threads = self.threads.entry(&message.id, Vec::new);
        let same = |t: &Thread| t.home == message.home && t.from == message.from;
        if threads.len() < THREADS_MAX && !threads.iter().any(same) {
            threads.push(Thread {
                home: message.home,
                log: message.log,
                from: message.from.clone(),
                hop: message.hop,
                root: message.root.unwrap_or(message.id),
            });
        }
    }

    /// Returns whether a message is for this session.
    pub(super) fn is_meant(&self, message: &Message) -> bool {
        let home = self.homes.get(&message.home);
        home.is_none_or(|home| home.is_meant(message))
    }

    /// Returns whether a message names this session.
    pub(super) fn is_mentioned(&self, message: &Message) -> bool {
        let me = self
            .homes
            .get(&message.home)
            .and_then(|home| home.me.as_ref());
        me.is_some_and(|me| is_mentioned(&message.mentions, me))
    }

    /// Returns what is certain of a message, whatever its text says.
    pub(super) fn attributes(&self, message: &Message) -> Attributes {
        let kind = match &message.place {
            Place::Whisper => "whisper",
            Place::Channel(..) => "message",
        };
        let mut attributes = Attributes::default()
            .with(Key::Kind, kind)
            .with(Key::From, &message.from)
            .with(
                Key::FromKind,
                if message.human {
                    "human-claimed"
                } else {
                    "agent"
                },
            )
            .with(Key::Id, message.id)
            .with(Key::Seq, message.seq)
            .with_some(Key::ReplyTo, message.reply_to);
        attributes = self.asked_of(message, attributes);
        if message.question.is_some() {
            attributes = attributes.with_some(Key::Answers, message.reply_to);
        }
        if let Place::Channel(_, name) = &message.place {
            attributes = attributes.with(Key::Channel, name);
        }
        if message.hop > 0 {
            attributes = attributes.with(Key::Hop, message.hop);
        }
        match self.homes.get(&message.home) {
            Some(home) if self.homes.len() > 1 => attributes.with(Key::Server, &home.name),
            _ => attributes,
        }
    }

    /// Adds what the sender wants of whom.
    fn asked_of(&self, message: &Message, attributes: Attributes) -> Attributes {
        let mut attributes = match message.priority {
            Priority::Next => attributes,
            urgent @ (Priority::Now | Priority::Low) => attributes.with(Key::Priority, urgent),
        };
        if self.is_mentioned(message) {
            attributes = attributes.with(Key::Mention, 1);
        }
        if message.expects_reply {
            attributes = attributes.with(Key::ExpectsReply, 1);
        }
        let mut to = String::new();
        for group in &message.to {
            // As many as an attribute has room for.
            if to.len() + group.as_str().len() + 2 <= VALUE_BYTES_MAX {
                to.push_str(if to.is_empty() { "@" } else { "+@" });
                to.push_str(group.as_str());
            }
        }
        match to.is_empty() {
            true => attributes,
            false => attributes.with(Key::To, to),
        }
    }
}
