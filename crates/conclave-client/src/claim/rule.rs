//! Who holds a resource: what an entry in a claim's slot does to the claim before it. Pure.
//!
//! Time is the server's, of the entries themselves. The log's order decides, so everybody who has read
//! the same entries comes to the same end.

use super::Resource;
use conclave_proto::id::UserId;
use conclave_proto::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What the key of a state item that is a claim begins with.
pub const CLAIM_PREFIX: &str = "claim:";
/// The shortest claim, in milliseconds.
pub const TTL_MS_MIN: u64 = 1_000;
/// The longest claim without a renewal, in milliseconds.
pub const TTL_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// How many claims of one user count at one time.
pub const CLAIMS_MAX: usize = 256;
/// The longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 512;

/// The value of a claim's state item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimValue {
    /// How long it holds from the server's receipt on, in milliseconds.
    pub ttl_ms: u64,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// With a renewal: the token that it had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
}

/// A claim that stands, though it may have lapsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// On what.
    pub resource: String,
    /// Whose it is: a session's path.
    pub holder: String,
    /// The holder's user.
    pub user: UserId,
    /// The place of the entry by which it was won: rises with every holder.
    pub token: u64,
    /// The place of its newest entry.
    pub version: u64,
    /// When the server received that.
    pub at: UnixMs,
    /// How long it holds from then on, in milliseconds.
    pub ttl_ms: u64,
    /// What it is for, in the holder's words.
    pub note: Option<String>,
}

impl Standing {
    /// Returns when it lapses, by the server's clock.
    #[must_use]
    pub const fn until(&self) -> UnixMs {
        self.at.plus(self.ttl_ms)
    }

    /// Returns whether it has lapsed at a time of the server's clock.
    #[must_use]
    pub const fn is_lapsed(&self, now: UnixMs) -> bool {
        now.0 >= self.until().0
    }
}

/// An entry in a claim's slot.
#[derive(Clone, Copy, Debug)]
pub struct Bid<'a> {
    /// On what.
    pub resource: &'a str,
    /// Its place.
    pub seq: u64,
    /// When the server received it.
    pub at: UnixMs,
    /// Which version of the slot it was to replace.
    pub expected: u64,
    /// By which session.
    pub sender: &'a str,
    /// By which user.
    pub user: UserId,
    /// Its value; none to release.
    pub value: Option<&'a ClaimValue>,
    /// Whether the holder before it left the channel in between: its claim ended with that.
    pub left: bool,
}

/// Returns the claim that stands after an entry in its slot, `known` being the version of the slot that
/// was seen before it. Whoever names no version did not ask who holds it, and wins nothing. What was not
/// seen here frees no claim that was; only where none was seen is a claim believed to be a renewal, of
/// something that began after what was seen.
#[must_use]
pub fn succeed(before: Option<Standing>, known: u64, bid: Bid<'_>) -> Option<Standing> {
    if bid.expected == u64::MAX {
        return before;
    }
    let current = before
        .as_ref()
        .filter(|c| !bid.left && !c.is_lapsed(bid.at));
    if current.is_some_and(|c| c.user != bid.user) {
        return before;
    }
    let value = bid.value?;
    let unseen = before.is_none() && bid.expected != known;
    let token = value.token.filter(|token| match current {
        Some(c) => c.holder == bid.sender && c.token == *token,
        None => unseen && known < *token && *token < bid.seq,
    });
    let note = value.note.clone();
    Some(Standing {
        resource: bid.resource.to_owned(),
        holder: bid.sender.to_owned(),
        user: bid.user,
        token: token.unwrap_or(bid.seq),
        version: bid.seq,
        at: bid.at,
        ttl_ms: value.ttl_ms.min(TTL_MS_MAX),
        note: note.filter(|note| note.len() <= NOTE_BYTES_MAX),
    })
}

/// Returns which of the claims that stand keeps `holder` from having `resource` at a time of the
/// server's clock: another session's that can mean the same and was won first.
#[must_use]
pub fn in_the_way<'a>(
    claims: &'a [Standing],
    resource: &Resource,
    holder: &str,
    before: u64,
    now: UnixMs,
) -> Option<&'a Standing> {
    claims.iter().find(|claim| {
        claim.holder != holder
            && claim.token < before
            && !claim.is_lapsed(now)
            && resource.may_overlap(&claim.resource)
            && Resource::parse(&claim.resource).is_ok_and(|other| other.overlaps(resource))
    })
}

/// Leaves those claims that count at a time of the server's clock: of one user the oldest, and at most
/// [`CLAIMS_MAX`]. Lapsed ones count for nothing.
pub fn count(claims: &mut Vec<Standing>, now: UnixMs) {
    let mut live: Vec<(u64, UserId)> = claims
        .iter()
        .filter(|claim| !claim.is_lapsed(now))
        .map(|claim| (claim.token, claim.user))
        .collect();
    live.sort_unstable_by_key(|(token, _)| *token);
    let (mut held, mut newest) = (HashMap::<UserId, usize>::new(), HashMap::new());
    for (token, user) in live {
        let count = held.entry(user).or_default();
        *count += 1;
        if *count <= CLAIMS_MAX {
            newest.insert(user, token);
        }
    }
    let counts = |claim: &Standing| newest.get(&claim.user).is_some_and(|n| claim.token <= *n);
    claims.retain(|claim| claim.is_lapsed(now) || counts(claim));
}
