//! What members keep in a channel besides messages: state, claims, memories; and what a search finds.

use crate::claim::{BadResource, Standing};
use crate::error::ClientError;
use crate::event::{SenderFacts, VerifiedMessage};
use conclave_proto::id::{ChannelId, MsgId, UserId};
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;

/// A state item as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateItem {
    /// In which channel.
    pub channel: ChannelId,
    /// Its key.
    pub key: String,
    /// Its value as JSON text; none: it was deleted.
    pub value: Option<String>,
    /// Its version: the place of its entry.
    pub version: u64,
    /// When the server stored it.
    pub at: UnixMs,
    /// Which session wrote it.
    pub sender: SessionPath,
    /// Whose that is.
    pub user: UserId,
    /// What is known of its writer.
    pub facts: SenderFacts,
}

/// What became of something that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its id.
    pub id: MsgId,
    /// Its version; none: it waits in the outbox.
    pub version: Option<u64>,
    /// When the server stored it.
    pub at: Option<UnixMs>,
}

/// A claim that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// In which channel.
    pub channel: ChannelId,
    /// On what.
    pub resource: String,
    /// Which session holds it.
    pub holder: SessionPath,
    /// Whose that is.
    pub user: UserId,
    /// Its fencing token: whoever wins the resource later has a higher one.
    pub token: u64,
    /// The place of its newest entry.
    pub version: u64,
    /// What it is for, in the holder's words.
    pub note: Option<String>,
    /// When it was taken or renewed, by the server's clock.
    pub at: UnixMs,
    /// When it lapses, by the server's clock.
    pub until: UnixMs,
    /// How long that is from now, in milliseconds.
    pub left_ms: u64,
    /// What is known of its holder.
    pub facts: SenderFacts,
}

impl Claim {
    /// Puts one together from what stands; `None` if its holder has no path.
    pub(crate) fn of(
        channel: ChannelId,
        claim: Standing,
        facts: SenderFacts,
        now: UnixMs,
    ) -> Option<Self> {
        let until = claim.until();
        Some(Self {
            channel,
            holder: claim.holder.parse().ok()?,
            resource: claim.resource,
            user: claim.user,
            token: claim.token,
            version: claim.version,
            note: claim.note,
            at: claim.at,
            until,
            left_ms: until.since(now),
            facts,
        })
    }
}

/// Why a claim cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else has it.
    #[error("{} holds it", .0.holder)]
    Held(Box<Claim>),
    /// Somebody may have it: what was written last is not for this machine to read.
    #[error("{}", unreadable(.by.as_ref()))]
    Unreadable {
        /// Who wrote it, if that can be told.
        by: Option<SessionPath>,
        /// How long that can hold, in milliseconds.
        left_ms: u64,
    },
    /// It is not this session's, or not any more.
    #[error("this session does not hold it, or not any more")]
    NotHeld,
    /// It cannot be claimed at all.
    #[error(transparent)]
    Resource(#[from] BadResource),
    /// Something else.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl ClaimError {
    /// Returns the code that tools and the command line show.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Held(_) | Self::Unreadable { .. } => Code::Claimed,
            Self::NotHeld => Code::NotFound,
            Self::Resource(_) => Code::NameInvalid,
            Self::Client(error) => error.code(),
        }
    }

    /// Returns it as a refusal, for a tool's answer.
    #[must_use]
    pub fn to_reject(&self) -> Reject {
        match self {
            Self::Client(error) => error.to_reject(),
            Self::Held(claim) => {
                Reject::new(self.code(), self.to_string()).retry_after(claim.left_ms)
            }
            Self::Unreadable { left_ms, .. } => {
                Reject::new(self.code(), self.to_string()).retry_after(*left_ms)
            }
            Self::NotHeld | Self::Resource(_) => Reject::new(self.code(), self.to_string()),
        }
    }
}

fn unreadable(by: Option<&SessionPath>) -> String {
    match by {
        Some(by) => format!("{by} may hold it: what it wrote cannot be read on this machine"),
        None => "somebody may hold it since before you joined, when you could not read it".into(),
    }
}

/// What to recall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recall {
    /// Words to look for; none: the newest.
    pub query: String,
    /// Tags that it must have, all of them.
    pub tags: Vec<String>,
    /// At most so many.
    pub limit: u32,
}

/// A memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Its id.
    pub id: MsgId,
    /// In which channel.
    pub channel: ChannelId,
    /// What is to be remembered.
    pub text: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its place.
    pub seq: u64,
    /// When the server stored it.
    pub at: UnixMs,
    /// Which session wrote it.
    pub sender: SessionPath,
    /// Whose that is.
    pub user: UserId,
    /// What is known of its writer.
    pub facts: SenderFacts,
}

/// What a search of messages found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundMessages {
    /// The best first.
    pub messages: Vec<VerifiedMessage>,
    /// Whether all that may be read was searched.
    pub complete: bool,
    /// If not: what was stored from here on was.
    pub since: Option<UnixMs>,
}
