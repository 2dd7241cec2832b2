//! How far a message of one sender may carry: tiers (SECURITY B.3, DECISIONS 3) and the level of a
//! frame. Whether the agent may send is the scope's level alone, never a sender's cap.

use crate::policy::{Level, Levels, Scope};
use conclave_proto::id::UserId;

/// Nothing older than this asks for work, in milliseconds.
pub const ACT_AGE_MS_MAX: u64 = 10 * 60 * 1000;

/// A member younger than this is new, in milliseconds.
pub const NEW_MEMBER_MS: u64 = 24 * 60 * 60 * 1000;

/// From this causal depth on a message is only shown.
pub const HOP_MAX: u8 = 12;

/// How well a sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The user's own machines.
    T0,
    /// Verified by a human, and named in the policy.
    T1,
    /// A member whose key is pinned.
    T2,
    /// A changed key, or a new member nobody here vouches for.
    T3,
}

impl Tier {
    /// Returns the tier's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::T0 => "own",
            Self::T1 => "verified",
            Self::T2 => "member",
            Self::T3 => "new",
        }
    }
}

/// What is known of a message's sender and way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The sending user.
    pub user: UserId,
    /// Whether it is this account.
    pub own: bool,
    /// Whether a pinned key of the user changed without the user's identity log saying so.
    pub key_changed: bool,
    /// For how long it has been a member, where that is known.
    pub member_ms: Option<u64>,
    /// Whether it came by an invite of this user, or this user came by an invite of its.
    pub vouched: bool,
}

/// Returns a sender's tier and the level of a frame: the scope's level under the tier's cap, less
/// for what is old or deep in a chain of answers.
#[must_use]
pub fn assess(
    levels: &Levels,
    scope: Scope,
    sender: &Sender,
    age_ms: u64,
    hop: u8,
) -> (Tier, Level) {
    let policy = levels.policy();
    let named = policy.may_ask(sender.user, scope);
    let new = sender.member_ms.is_some_and(|ms| ms < NEW_MEMBER_MS) && !sender.vouched;
    let tier = if sender.key_changed {
        Tier::T3
    } else if sender.own {
        Tier::T0
    } else if policy.verified.contains(&sender.user) && named {
        Tier::T1
    } else if new {
        Tier::T3
    } else {
        Tier::T2
    };
    let cap = match tier {
        Tier::T0 | Tier::T1 if named => Level::Act,
        Tier::T0 | Tier::T1 | Tier::T2 => Level::Converse,
        Tier::T3 => Level::Notify,
    };
    let by_age = if age_ms > ACT_AGE_MS_MAX {
        Level::Converse
    } else {
        Level::Act
    };
    let by_hop = if hop >= HOP_MAX {
        Level::Notify
    } else {
        Level::Act
    };
    (tier, levels.level(scope).min(cap).min(by_age).min(by_hop))
}
