//! What goes into a [`Link`](super::Link) and what comes out.

use crate::close::Close;
use crate::codec::Encoding;
use crate::entry::Entry;
use crate::frame::reply::Gap;
use crate::frame::{Event, Op, Ready, Reply};
use crate::handshake::{Binding, Mode};
use crate::id::{HandshakeNonce, Instance, LogId, ServerId};
use crate::key::{Secret, ServerKey};
use crate::name::Name;
use crate::reject::Reject;
use crate::time::Mono;
use std::sync::Arc;

/// What is known of the server before the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// This server with this key, or a key that rotation records lead to from it.
    Known {
        /// The key last seen.
        key: ServerKey,
        /// The server's id.
        server_id: ServerId,
    },
    /// A key with this fingerprint ([`ServerKey::fingerprint`]), from a link, or its successor.
    Fingerprint(String),
    /// Anything: the transport vouches for the server.
    FirstContact,
}

/// What a link is made with.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// This machine's key on this server.
    pub secret: Arc<Secret>,
    /// Who the server must be.
    pub pin: Pin,
    /// The session's handle.
    pub handle: Name,
    /// Whether the user chose the handle.
    pub pinned: bool,
    /// The client's process lineage.
    pub instance: Instance,
    /// Program and version.
    pub agent: String,
    /// The encoding that the driver asks for as subprotocol.
    pub encoding: Encoding,
    /// What the first handshake asks for; later ones are [`Mode::Auth`].
    pub mode: Mode,
    /// Seeds the jitter of heartbeat and back-off.
    pub seed: u64,
}

/// What happens to a link.
#[derive(Debug)]
pub enum Input {
    /// The socket that [`Output::Dial`] asked for is open.
    Connected {
        /// The origin that was dialled: `https://host:port` or `http://host:port`.
        origin: String,
        /// Bindings this socket can make and the driver accepts, best first.
        bindings: Vec<Binding>,
        /// 32 fresh random bytes.
        nonce: HandshakeNonce,
    },
    /// The dial failed or the socket ended. Not for sockets that [`Output::HangUp`] gave up.
    Disconnected {
        /// Why.
        reason: Disconnect,
    },
    /// One WebSocket message, whole.
    Frame(Vec<u8>),
    /// A WebSocket ping or pong came in.
    Alive,
    /// A command from above; answered once, by [`Output::Response`] with the same token.
    Request {
        /// Goes into the response; unique among requests without one.
        token: u64,
        /// What to ask; must be idempotent, for it is sent again after a reconnect.
        op: Op,
        /// When to give up; `None` waits for as long as the link lives.
        deadline: Option<Mono>,
    },
    /// Deliver what comes after `after` in this log, also across reconnects.
    Follow {
        /// The log.
        log: LogId,
        /// What the replica has already.
        after: u64,
    },
    /// Stop delivering a log.
    Unfollow {
        /// The log.
        log: LogId,
    },
    /// The replica has a log up to here; the server is told soon.
    Stored {
        /// The log.
        log: LogId,
        /// The last seq stored.
        seq: u64,
    },
    /// The time of [`next_timeout`](super::Link::next_timeout) has come.
    Timer,
    /// End the link.
    Stop,
}

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The server closed it with this code.
    Closed(Close),
    /// The dial failed or the transport broke; the text is for people.
    Failed(String),
}

/// What the driver has to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a socket and answer with [`Input::Connected`] or [`Input::Disconnected`].
    Dial,
    /// Write this encoded frame.
    Send(Vec<u8>),
    /// Write a WebSocket ping.
    Ping,
    /// Close the socket (or give up the dial) and report nothing of it any more.
    HangUp,
    /// The server has proven to be this one, with this key: keep it as the pin. Comes at first contact
    /// and when the key has changed by rotation records, before anything is signed.
    FirstContact {
        /// The server's id.
        server_id: ServerId,
        /// Its key.
        key: ServerKey,
    },
    /// The session is live.
    Up(Box<Ready>),
    /// The session is not live, or an attempt failed.
    Down {
        /// Why.
        reason: DownReason,
        /// When the next attempt comes; `None`: never, the link has ended.
        retry_in_ms: Option<u64>,
    },
    /// The answer to [`Input::Request`].
    Response {
        /// The request's token.
        token: u64,
        /// What came of it.
        result: Result<Reply, Reject>,
    },
    /// New entries of a followed log, without holes but for the gap, each once and in order.
    Entries {
        /// The log.
        log: LogId,
        /// The entries, ascending; empty only with a gap.
        entries: Vec<Entry>,
        /// What is not kept any more.
        gap: Option<Gap>,
    },
    /// Anything else the server told. [`Event::Dropped`] also comes when a log cannot be followed.
    Event(Event),
}

/// Why a link is down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// The server's key is not the pinned one. Final.
    #[error("the server's key is {presented}, but {pinned} is pinned")]
    PinMismatch {
        /// The fingerprint expected.
        pinned: String,
        /// The fingerprint of the key that was presented.
        presented: String,
    },
    /// The server names another origin than the one that was dialled. Final.
    #[error("dialled {dialled}, but the server says it is {named}")]
    Origin {
        /// What was dialled.
        dialled: String,
        /// What the server named.
        named: String,
    },
    /// The server chose a version that was not offered. Final.
    #[error("the server chose version {0}, which was not offered")]
    Version(u16),
    /// The server's proof or channel binding is not valid. Final.
    #[error("the server did not prove its identity: {0}")]
    Unproven(&'static str),
    /// The server refused the session, or ended it with a reason.
    #[error("the server refused: {0}")]
    Refused(Reject),
    /// Another socket with the same instance took over. Final, unless it may have been a late one of our own.
    #[error("the same session connected from elsewhere")]
    Superseded,
    /// The machine or user was revoked. Final.
    #[error("this machine was revoked")]
    Revoked,
    /// The socket ended.
    #[error("the connection ended: {0}")]
    Lost(String),
    /// No sign of life for too long.
    #[error("the server was silent for too long")]
    Silent,
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Malformed(String),
    /// A followed log has a hole that the server did not name.
    #[error("log {log} continues at {got} instead of {expected}")]
    Hole {
        /// The log.
        log: LogId,
        /// The seq that was due.
        expected: u64,
        /// The seq that came.
        got: u64,
    },
    /// [`Input::Stop`]. Final.
    #[error("stopped")]
    Stopped,
}
