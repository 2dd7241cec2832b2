//! The words in which a channel's settings and roles are said, in records and to people.

use crate::canonical::{array_item, words};

words! {
    /// Who can read a channel's entries. Chosen once.
    pub enum Mode {
        /// The server can read; signatures keep senders unforgeable.
        Signed = "signed",
        /// Only members can read.
        E2e = "e2e",
    }
}

words! {
    /// Who can find and enter a channel, from closed to open.
    pub enum Visibility {
        /// Entry by invite or `add` only.
        Private = "private",
        /// Not listed; anyone who knows the exact name can join.
        Unlisted = "unlisted",
        /// Listed; anyone can join.
        Public = "public",
    }
}

words! {
    /// What a new member can read. Chosen once.
    pub enum History {
        /// Everything that is kept.
        Full = "full",
        /// What comes after it joined.
        SinceJoin = "since_join",
    }
}

words! {
    /// What a member may do; each role includes the ones before it (DECISIONS 17).
    pub enum Role {
        /// Read.
        Reader = "reader",
        /// Append entries, identity heads and epochs.
        Member = "member",
        /// Invite, add, remove, ban, roles up to member, meta, freeze.
        Admin = "admin",
        /// Roles up to admin, close.
        Owner = "owner",
    }
}

words! {
    /// How somebody stops being a member.
    pub enum RemoveKind {
        /// By oneself.
        Leave = "leave",
        /// By an admin; may come back.
        Kick = "kick",
        /// By an admin; may not come back until unbanned.
        Ban = "ban",
    }
}

/// Bounds of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most members.
    pub members_max: u32,
    /// How many days messages are kept; 0: as long as the server keeps any.
    pub retention_days: u32,
}
array_item!(Limits {
    members_max,
    retention_days
});
