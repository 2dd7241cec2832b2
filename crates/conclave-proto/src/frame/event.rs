//! What a server tells without being asked.

use super::op::EnrolRequest;
use super::reply::Gap;
use crate::body::Head;
use crate::entry::Entry;
use crate::id::{ChannelId, LogId, UserId};
use crate::name::SessionPath;
use crate::reject::Reject;
use serde::{Deserialize, Serialize};

wire_enum! {
    /// Something happened.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Event {
        /// The next entries of a followed log.
        Entries(Entries) = "entries",
        /// A session came or went.
        Presence(Presence) = "presence",
        /// A subscription ended without being asked to.
        Dropped(Dropped) = "dropped",
        /// A user's identity log grew.
        Ident(IdentHead) = "ident",
        /// A wrap for this machine has come.
        Keys(EpochOf) = "keys",
        /// A member's machine lacks the channel's newest key: see [`super::Op::WrapMissing`].
        Wanted(EpochOf) = "wanted",
        /// A new machine asks to be enrolled; to who opened the enrolment.
        Enrol(Box<EnrolRequest>) = "enrol",
        /// The caller's own standing changed.
        Standing(Standing) = "standing",
    }
}

/// Entries of one log, ascending and without holes but for the gap. A receiver ignores what it has:
/// a batch may start before its cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// The log.
    pub log: LogId,
    /// At least one, unless there is a gap.
    pub entries: Vec<Entry>,
    /// What is not kept any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// A session came or went. Lossy by contract: the roster is `who`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// In which channel.
    pub channel: ChannelId,
    /// Whose.
    pub user_id: UserId,
    /// Which.
    pub path: SessionPath,
    /// Came, or went for longer than the lease.
    pub online: bool,
}

/// A subscription ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The log.
    pub log: LogId,
    /// Why.
    pub reason: Reject,
}

/// The newest record of a user's identity log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentHead {
    /// Whose.
    pub user: UserId,
    /// Its number and hash.
    pub head: Head,
}

/// An epoch of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochOf {
    /// The channel.
    pub channel: ChannelId,
    /// The epoch's number.
    pub e: u32,
}

/// The caller's standing on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether the user is a server admin now.
    pub admin: bool,
}
