//! What reaches the hub: commands of connections, and checked operations.
//!
//! Plain data, so that the simulation can speak it too. Parsing and signature checks that need no
//! state happen in the connection's task ([`Checked::new`]); the hub only decides.

use conclave_proto::admin::VerifiedAct;
use conclave_proto::channel_log::VerifiedCtl;
use conclave_proto::codec::Encoding;
use conclave_proto::encryption_key::Announcement;
use conclave_proto::entry::Parsed;
use conclave_proto::frame::op::Wrap;
use conclave_proto::frame::{Cursor, Hello, Op};
use conclave_proto::handshake::Mode;
use conclave_proto::id::{Blob, ChannelId, LogId, SessionId};
use conclave_proto::identity_log;

/// Names one connection for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One thing that a connection, the driver or the page reader tells the hub.
#[derive(Debug)]
pub enum Command {
    /// A socket was upgraded; it may enter now. Made by [`super::HubHandle::connect`].
    Connect {
        /// Its name.
        conn: ConnId,
        /// How its frames are encoded.
        encoding: Encoding,
    },
    /// The handshake's signatures are fine; who is it, and may it come in?
    /// Answer: [`super::Outgoing::Entered`].
    Enter {
        /// Which connection.
        conn: ConnId,
        /// What it said.
        entry: Box<Enter>,
    },
    /// A request. Answer: [`super::Outgoing::Response`] with the same id.
    Request {
        /// Which connection.
        conn: ConnId,
        /// The request's id.
        id: u64,
        /// What is asked.
        op: Checked,
    },
    /// How far logs were received.
    Ack {
        /// Which connection.
        conn: ConnId,
        /// One cursor a log.
        cursors: Vec<Cursor>,
    },
    /// Events that left the outbox and were written to the socket since the last report. Say so at
    /// [`REPORT_BYTES`] or [`REPORT_FRAMES`], and whenever the outbox ran empty with some unreported.
    Wrote {
        /// Which connection.
        conn: ConnId,
        /// How many [`super::Outgoing::Event`]s.
        frames: u32,
        /// How many bytes they had.
        bytes: u64,
    },
    /// The session says that it is over: it has no lease.
    Left {
        /// Which connection.
        conn: ConnId,
    },
    /// The socket is gone.
    Disconnected {
        /// Which connection.
        conn: ConnId,
    },
    /// A page that was asked for by [`super::Effect::Load`] is here.
    Loaded(Box<super::Loaded>),
    /// Time passes; sent about once a second.
    Tick,
    /// The server goes away: nobody comes in any more, everybody is told to leave.
    Drain,
}

/// Report [`Command::Wrote`] at the latest after so many bytes.
pub const REPORT_BYTES: u64 = 256 * 1024;
/// Report [`Command::Wrote`] at the latest after so many events.
pub const REPORT_FRAMES: u32 = 16;

/// What a connection proved by its handshake.
#[derive(Clone, Debug)]
pub struct Enter {
    /// The opening; its key signed the transcript.
    pub hello: Hello,
    /// What it wants.
    pub mode: Mode,
    /// A fresh random id for the session.
    pub session: SessionId,
}

/// An operation whose parts were taken apart and whose stateless checks passed.
#[derive(Debug)]
pub enum Checked {
    /// An append with a well-formed envelope.
    Append {
        /// The log the client named.
        log: LogId,
        /// The envelope.
        env: Box<Parsed>,
    },
    /// A control record whose signatures are right.
    Ctl {
        /// The channel the client named.
        channel: ChannelId,
        /// The record.
        rec: Box<VerifiedCtl>,
        /// What travels beside it.
        beside: Beside,
    },
    /// An identity record whose signatures are right.
    Ident(Box<identity_log::Verified>),
    /// An admin's act whose signature is right.
    Admin(Box<VerifiedAct>),
    /// An announcement of an encryption key that its holder signed.
    Announcement {
        /// What it says.
        announced: Box<Announcement>,
        /// The signed record.
        rec: Blob,
    },
    /// A profile with a well-formed envelope, within its bounds.
    Profile {
        /// The channel the client named.
        channel: ChannelId,
        /// The envelope.
        env: Box<Parsed>,
    },
    /// Any other operation, within its bounds.
    Other(Box<Op>),
}

/// What travels beside a control record, unsigned.
#[derive(Debug, Default)]
pub struct Beside {
    /// With an epoch: its key, wrapped to holders, each of them once.
    pub wraps: Vec<Wrap>,
    /// With an invite: what the joiner opens with the link's secret.
    pub invite_box: Option<Blob>,
}
