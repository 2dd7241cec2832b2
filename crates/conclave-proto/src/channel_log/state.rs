//! What a channel consists of, and how a record changes it.

use super::word::{RemoveKind, Role};
use crate::body::Head;
use crate::id::{Blob, Hash, InviteId, UserId};
use crate::key::InviteKey;
use crate::name::Name;
use crate::time::UnixMs;

/// A member of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user's name.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// The identity head the channel goes by.
    pub ident: Head,
    /// The seq of the record it entered by.
    pub since: u64,
    /// When that was, by the server's time.
    pub at: UnixMs,
    /// How it entered.
    pub admission: Admission,
}

/// How a member entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Made the channel.
    Created,
    /// Was added.
    Added {
        /// By whom.
        by: UserId,
    },
    /// Joined by an invite.
    Invited {
        /// Which.
        invite: InviteId,
        /// Made by whom.
        by: UserId,
    },
    /// Joined a channel that is not private.
    Open,
}

/// An invite into a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Its public key.
    pub key: InviteKey,
    /// The role it gives.
    pub role: Role,
    /// How many users it is for.
    pub max_uses: u32,
    /// How many used it.
    pub uses: u32,
    /// Until when it is good.
    pub expires: UnixMs,
    /// Whether it was ended early.
    pub revoked: bool,
    /// Who made it.
    pub by: UserId,
}

impl Invite {
    /// Returns whether it can be used at this time.
    #[must_use]
    pub fn is_live(&self, at: UnixMs) -> bool {
        !self.revoked && self.uses < self.max_uses && at < self.expires
    }
}

/// One epoch of a channel in mode `e2e`: what its record says of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number, from 1.
    pub e: u32,
    /// The seq of its record.
    pub seq: u64,
    /// When it was stored, by the server's time.
    pub at: UnixMs,
    /// The key's commitment.
    pub commit: Hash,
    /// The key before, sealed under this one.
    pub prev_box: Option<Blob>,
    /// Index key, name and topic, sealed under this one.
    pub bundle_box: Blob,
    /// Whether an admin made it: only such may change index key, name and topic (DECISIONS 18).
    pub by_admin: bool,
}

/// What a record changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CtlChange {
    /// The channel came into being.
    Created,
    /// A user became a member.
    MemberAdded {
        /// Who.
        user: UserId,
        /// As what.
        role: Role,
        /// How.
        admission: Admission,
    },
    /// A user is no member any more, or was banned without being one.
    MemberRemoved {
        /// Who.
        user: UserId,
        /// How.
        kind: RemoveKind,
    },
    /// A user may come back.
    Unbanned(UserId),
    /// A member has another role.
    RoleChanged {
        /// Who.
        user: UserId,
        /// Which.
        role: Role,
    },
    /// There is a new invite.
    InviteAdded(InviteId),
    /// An invite ended early.
    InviteRevoked(InviteId),
    /// A member's machines are those of a newer identity head.
    IdentAdvanced {
        /// Whose.
        user: UserId,
        /// The head.
        head: Head,
        /// Whether a machine is gone by it.
        shrunk: bool,
    },
    /// There is a new epoch.
    EpochStarted(u32),
    /// Sending stopped or started again.
    Frozen(bool),
    /// What is said is to stay here, or no more.
    Confidential(bool),
    /// Visibility, name or topic changed.
    Meta,
    /// The channel is over.
    Closed,
}
