//! What a client tells without being asked: verified messages, notices, the state of the connection.

use crate::client::desk::Paper;
use crate::item::StateItem;
use crate::replica::delivery::Step;
use conclave_proto::body::Body;
use conclave_proto::frame::Ready;
use conclave_proto::frame::event::Presence;
use conclave_proto::frame::op::EnrolRequest;
use conclave_proto::frame::reply::Gap;
use conclave_proto::id::{ChannelId, LogId, MsgId, ServerId, UserId};
use conclave_proto::link::DownReason;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::reject::Reject;
use conclave_proto::time::UnixMs;
use std::sync::Arc;

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The session is live.
    Up(Arc<Ready>),
    /// The session is not live; without `retry_in_ms` it never will be again.
    Down {
        /// Why.
        reason: DownReason,
        /// When the next attempt comes.
        retry_in_ms: Option<u64>,
    },
    /// A message or whisper of somebody, checked in every respect.
    Message(Box<VerifiedMessage>),
    /// Another session wrote a state item, or took, renewed or released a claim.
    State(Box<StateItem>),
    /// Entries that the server does not keep any more.
    Gap {
        /// Of which log.
        log: LogId,
        /// What is missing.
        gap: Gap,
    },
    /// Something that a person should know.
    Notice(Notice),
    /// A session came or went. Lossy: the roster is [`crate::Client::who`].
    Presence(Presence),
    /// A followed channel changed: members, roles, name, topic, visibility.
    ChannelChanged(ChannelId),
    /// Whether the user is a server admin now.
    Standing {
        /// It is so.
        admin: bool,
    },
    /// A log is not followed any more.
    Dropped {
        /// Which.
        log: LogId,
        /// Why.
        reason: Reject,
    },
    /// Something became of a message of this session.
    Delivery {
        /// The message.
        id: MsgId,
        /// For whom.
        peer: SessionPath,
        /// What.
        step: Step,
    },
    /// A whisper of this session lapsed before its recipient came for it; said once.
    Bounced {
        /// The message.
        id: MsgId,
        /// Who did not get it.
        peer: SessionPath,
        /// When it was said.
        at: UnixMs,
    },
    /// A session asks for a verdict, or somebody gives one. Never a message; not even from whom it should be.
    Desk(Box<Paper>),
    /// A new machine asks to be enrolled.
    Enrol(Box<EnrolRequest>),
}

/// The status of a session, as [`crate::Client::status`] shows it.
#[derive(Clone, Debug)]
pub enum Status {
    /// The first attempt is under way.
    Connecting,
    /// The session is live.
    Up(Arc<Ready>),
    /// It is not; without `retry_in_ms` it never will be again.
    Down {
        /// Why.
        reason: DownReason,
        /// When the next attempt comes.
        retry_in_ms: Option<u64>,
    },
}

/// Where a message was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In a channel, which had this name.
    Channel {
        /// Which.
        id: ChannelId,
        /// Its name, where it has one.
        name: Option<Name>,
    },
    /// To this session alone.
    Whisper,
}

/// Whether a message came as it was said, or was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It came live.
    Live,
    /// It was said while this session was away, or is read again.
    History,
}

/// A message that passed every check: signed by a machine of its user, in its place, never seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedMessage {
    /// By which server it came.
    pub server: ServerId,
    /// In which log it stands.
    pub log: LogId,
    /// Where it was said.
    pub scope: Scope,
    /// Its place in the log.
    pub seq: u64,
    /// When the server stored it.
    pub at: UnixMs,
    /// Its id.
    pub id: MsgId,
    /// The sending session.
    pub sender: SessionPath,
    /// The sending user; what counts.
    pub user: UserId,
    /// What is known of the sender.
    pub facts: SenderFacts,
    /// The sender's clock; for display only.
    pub ts: UnixMs,
    /// Its causal depth.
    pub hop: u8,
    /// Whether the sender says that a human typed it.
    pub human: bool,
    /// What was said.
    pub body: Body,
    /// Whether it came live.
    pub age: Age,
}

/// What trust in a sender can rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderFacts {
    /// It is the same user as this session's.
    pub own: bool,
    /// It is this very session (only history shows these).
    pub this_session: bool,
    /// Its name was pinned to another user id before.
    pub key_changed: bool,
    /// When it became a member of the channel; absent for whispers.
    pub member_since: Option<UnixMs>,
    /// It came by an invite or `add` of this user, or this user by one of its, or it made the channel.
    pub vouched: bool,
}

/// Something that a person should know: who is concerned and what was seen, in our own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What kind of thing.
    pub kind: NoticeKind,
    /// In which log, if any.
    pub log: Option<LogId>,
    /// At which place in it, if any.
    pub seq: Option<u64>,
    /// One sentence part in our own words, with names and ids only.
    pub text: String,
}

/// The kinds of notices; the first ones name entries that were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    /// Dropped: not well-formed.
    Malformed,
    /// Dropped: the signature does not fit, or the key is not the sender's.
    BadSignature,
    /// Dropped: the sender may not speak there.
    NotMember,
    /// Dropped: a counter or message id that was used before.
    Replayed,
    /// Dropped: a control or identity record that does not fit its chain.
    ChainBreak,
    /// Messages of a sender are missing without an announced gap.
    Missing,
    /// A name stands for another user, channel or key than before.
    PinChanged,
    /// The server shows different things at different times.
    ServerFork,
    /// A message waited a day and was given up, or was refused later.
    NotSent,
    /// The key of a channel is not here yet: its messages wait.
    KeysPending,
    /// Messages that this machine will never have the key of.
    Unreadable,
    /// Dropped: the seal is broken.
    BadSeal,
    /// Dropped: in the clear where everything is sealed.
    Downgrade,
    /// Dropped, or its word not taken: an epoch that does not cover the membership, or says of the
    /// channel what its signer may not change.
    BadEpoch,
    /// The server asked for a channel key to be sealed to somebody who is no member, or with a key that
    /// its holder has replaced.
    GhostKey,
}

impl NoticeKind {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadSignature => "bad_signature",
            Self::NotMember => "not_member",
            Self::Replayed => "replayed",
            Self::ChainBreak => "chain_break",
            Self::Missing => "missing",
            Self::PinChanged => "pin_changed",
            Self::ServerFork => "server_fork",
            Self::NotSent => "not_sent",
            Self::KeysPending => "keys_pending",
            Self::Unreadable => "unreadable",
            Self::BadSeal => "bad_seal",
            Self::Downgrade => "downgrade",
            Self::BadEpoch => "bad_epoch",
            Self::GhostKey => "ghost_key",
        }
    }
}
