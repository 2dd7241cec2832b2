//! What a server sends.

use super::{Event, Reply};
use crate::body::Head;
use crate::id::{Blob, HandshakeNonce, LogId, ServerId, SessionId, UserId};
use crate::key::{ServerKey, Signature};
use crate::name::SessionPath;
use crate::reject::Reject;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

wire_enum! {
    /// A frame from server to client.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ServerFrame {
        /// Answers `hello`.
        Challenge(Challenge) = "challenge",
        /// Answers `auth`: the session is live.
        Ready(Box<Ready>) = "ready",
        /// Answers one request.
        Response(Response) = "res",
        /// Something happened.
        Event(Event) = "event",
        /// The last frame: why the connection ends.
        Goodbye(Goodbye) = "bye",
    }
}

/// The server's half of the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The version chosen.
    pub version: u16,
    /// The server's key, to be compared with the pin.
    pub key: ServerKey,
    /// The server's id: the hash of its first key.
    pub server_id: ServerId,
    /// Rotation records from the first key to this one, oldest first; empty if it never changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<Blob>,
    /// The origin the server believes was dialled: `https://host:port` or `http://host:port`.
    pub origin: String,
    /// 32 fresh random bytes.
    pub nonce: HandshakeNonce,
    /// The channel binding in use: `tls-exporter` or `none`.
    pub binding: String,
    /// By the server key, over the transcript.
    pub sig: Signature,
}

/// The session is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The account.
    pub user_id: UserId,
    /// The session's address, as the server settled it.
    pub path: SessionPath,
    /// This connection.
    pub session: SessionId,
    /// The session's mailbox; absent for one-shots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<LogId>,
    /// Whether the user is a server admin.
    pub admin: bool,
    /// The newest record of the user's identity log.
    pub ident: Head,
    /// The server's clock.
    pub at: UnixMs,
    /// Bounds the client should know.
    pub limits: Limits,
    /// The newest audit checkpoint, signed by the server; absent until there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Blob>,
}

/// Bounds in force at this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The largest frame in bytes.
    pub frame_bytes: u64,
    /// The most requests in flight.
    pub requests_in_flight: u32,
    /// Ping at least this often, in milliseconds.
    pub heartbeat_ms: u64,
    /// How long messages are kept, in milliseconds.
    pub message_retention_ms: u64,
    /// How long whispers wait, in milliseconds.
    pub whisper_retention_ms: u64,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The request's id.
    pub id: u64,
    /// What came of it.
    pub result: Outcome,
}

wire_enum! {
    /// Success or refusal.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Outcome {
        /// It was done, durably where it changes something.
        Ok(Reply) = "ok",
        /// It was not done.
        Err(Reject) = "err",
    }
}

/// Why the connection ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// The reason; `retry_after_ms` says when to come back.
    pub reason: Reject,
}
