//! Why a channel refuses a control record or an entry.

use super::word::Role;
use crate::id::UserId;
use crate::reject::Code;

/// Why a control record is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CtlError {
    /// Not the canonical form of a control record this version knows.
    #[error("the control record is not well-formed")]
    Malformed,
    /// The author's signature is not valid.
    #[error("the control record's signature is not valid")]
    Signature,
    /// The invite's signature in a join is not valid.
    #[error("the invite's signature is not valid")]
    Ticket,
    /// Made for another channel, or a `create` where none can be.
    #[error("the record is not for this channel")]
    Channel,
    /// Not the next record.
    #[error("the record does not follow control record {0}")]
    Chain(u64),
    /// An entry with this or a higher seq was applied before.
    #[error("the record's place lies before the newest control record")]
    Order,
    /// The identity log of a user is needed up to record `n`.
    #[error("identity record {n} of {user} is not known")]
    NeedIdentity {
        /// Whose.
        user: UserId,
        /// Up to which record.
        n: u64,
    },
    /// The record names another identity log than the one known: somebody shows two.
    #[error("identity record {n} of {user} has another hash")]
    IdentityFork {
        /// Whose.
        user: UserId,
        /// Which record.
        n: u64,
    },
    /// The channel knows a newer identity head of that user.
    #[error("the channel knows a newer identity head")]
    OldIdentity,
    /// The signing key is not active, or not of the user and machine the path names.
    #[error("the signing key is not active for this path")]
    Key,
    /// The machine may not create channels.
    #[error("this machine may not create channels")]
    NoCreate,
    /// The author is no member.
    #[error("only members can do this")]
    NotMember,
    /// The author's role is too low.
    #[error("this needs the role {0} or higher")]
    Role(Role),
    /// The target's role, or the role to grant, is not below the author's.
    #[error("the role concerned is not below one's own")]
    Rank,
    /// Widening by a machine that is no steward of this channel.
    #[error("this needs the owner key, or a machine that created the channel")]
    NeedsOwnerKey,
    /// The user concerned is no member.
    #[error("no such member")]
    NoSuchMember,
    /// The record changes nothing: somebody else was first.
    #[error("this is so already")]
    NoChange,
    /// Another member has the same username.
    #[error("another member has this name")]
    NameTaken,
    /// The user is banned.
    #[error("the user is banned from the channel")]
    Banned,
    /// The channel is private, and there is no invite.
    #[error("no such channel")]
    Private,
    /// The invite is unknown, spent, expired or revoked.
    #[error("the invite is not valid any more")]
    Invite,
    /// The channel is frozen.
    #[error("the channel is frozen")]
    Frozen,
    /// The channel is closed.
    #[error("the channel is closed")]
    Closed,
    /// A channel in mode `e2e` cannot become public (`mode_is_e2e`).
    #[error("a channel in mode e2e cannot be public")]
    ModeIsE2e,
    /// Not possible in the channel's mode.
    #[error("not possible in this channel's mode")]
    Mode,
    /// The name is missing or reserved.
    #[error("the channel needs a name that is not reserved")]
    Name,
    /// The topic is too long or has control characters.
    #[error("the topic has at most 512 bytes and no control characters")]
    Topic,
    /// An epoch that is not the next, or not of the membership as it is.
    #[error("the epoch does not fit the membership")]
    Epoch,
    /// Too many members or invites.
    #[error("too many members or invites")]
    Limit,
}

impl CtlError {
    /// Returns the code to refuse the record with.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed | Self::Channel | Self::Order => Code::Malformed,
            Self::Signature | Self::IdentityFork { .. } | Self::Key => Code::Unauthorized,
            Self::Chain(_) | Self::OldIdentity | Self::NoChange => Code::CtlConflict,
            Self::NeedIdentity { .. } | Self::NoSuchMember | Self::Private => Code::NotFound,
            Self::NoCreate
            | Self::NotMember
            | Self::Role(_)
            | Self::Rank
            | Self::NeedsOwnerKey
            | Self::Banned => Code::Forbidden,
            Self::Ticket | Self::Invite => Code::InviteInvalid,
            Self::Frozen | Self::Closed => Code::Frozen,
            Self::ModeIsE2e | Self::Mode => Code::Mode,
            Self::NameTaken => Code::NameTaken,
            Self::Name => Code::NameInvalid,
            Self::Topic => Code::TooLarge,
            Self::Epoch => Code::StaleEpoch,
            Self::Limit => Code::LimitReached,
        }
    }
}

/// Why an entry does not belong into a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// For another channel, or a whisper.
    #[error("the entry is not for this channel")]
    Channel,
    /// Clear in an `e2e` channel, or sealed in a `signed` one.
    #[error("the entry's suite is not the channel's")]
    Mode,
    /// Sealed with an epoch that does not cover the membership.
    #[error("the entry's epoch does not cover the membership")]
    StaleEpoch,
    /// The channel is frozen.
    #[error("the channel is frozen")]
    Frozen,
    /// The channel is closed.
    #[error("the channel is closed")]
    Closed,
    /// The sender is no member.
    #[error("only members can send")]
    NotMember,
    /// The sender may only read.
    #[error("readers cannot send")]
    Reader,
    /// The sender's identity log is needed.
    #[error("identity record {n} of {user} is not known")]
    NeedIdentity {
        /// Whose.
        user: UserId,
        /// Up to which record.
        n: u64,
    },
    /// The key is not of the user and machine the path names, at the channel's head.
    #[error("the sender's key is not active for this path")]
    Key,
    /// The machine may not send.
    #[error("this machine may not send")]
    NoSend,
}

impl EnvError {
    /// Returns the code to refuse the entry with.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Channel => Code::Malformed,
            Self::Mode => Code::Mode,
            Self::StaleEpoch => Code::StaleEpoch,
            Self::Frozen | Self::Closed => Code::Frozen,
            Self::NotMember | Self::Reader | Self::NoSend => Code::Forbidden,
            Self::NeedIdentity { .. } => Code::NotFound,
            Self::Key => Code::Unauthorized,
        }
    }
}
