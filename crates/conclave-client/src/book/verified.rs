//! An entry that passed every check: what it says, who said it, where it stands.

use conclave_proto::body::Body;
use conclave_proto::entry::{Entry, Header, Kind, Route};
use conclave_proto::id::{Hash, LogId, MsgId, UserId};
use conclave_proto::key::MachineKey;
use conclave_proto::name::SessionPath;
use conclave_proto::time::UnixMs;

/// A message, state item or receipt that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// In which log it stands.
    pub log: LogId,
    /// Its place.
    pub seq: u64,
    /// When the server stored it.
    pub at: UnixMs,
    /// Its id.
    pub id: MsgId,
    /// The sending session.
    pub sender: SessionPath,
    /// The sending user.
    pub user: UserId,
    /// The machine key that signed.
    pub key: MachineKey,
    /// The sending process.
    pub sid: [u8; 8],
    /// Its number among what that process said in this log.
    pub ctr: u64,
    /// The sender's clock.
    pub ts: UnixMs,
    /// Its causal depth.
    pub hop: u8,
    /// The header's flags.
    pub flags: u8,
    /// Where it goes inside its log; says what it is.
    pub route: Route,
    /// What it says.
    pub body: Body,
    /// Whether its sender was an admin of the channel when it came; of items only, when they are judged.
    pub by_admin: bool,
    /// The hash of the envelope.
    pub hash: Hash,
}

impl Verified {
    /// Returns whether somebody says something in it, to a channel or a session.
    #[must_use]
    pub const fn is_message(&self) -> bool {
        matches!(self.route.kind(), Kind::Message | Kind::Whisper)
    }

    /// Returns whether it may tell what became of another message: receipts and answers do.
    #[must_use]
    pub const fn proves(&self) -> bool {
        matches!(self.route.kind(), Kind::Receipt) || self.body.reply_to.is_some()
    }

    /// Puts a message together.
    #[must_use]
    pub fn new(
        log: LogId,
        user: UserId,
        entry: &Entry,
        header: &Header,
        body: Body,
        hash: Hash,
    ) -> Self {
        Self {
            log,
            seq: entry.seq,
            at: entry.at,
            id: header.msg_id,
            sender: header.sender.clone(),
            user,
            key: header.sender_key,
            sid: *header.sid.as_bytes(),
            ctr: header.ctr,
            ts: header.ts,
            hop: header.hop,
            flags: header.flags,
            route: header.route.clone(),
            body,
            by_admin: false,
            hash,
        }
    }
}
