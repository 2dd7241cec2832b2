//! What a client sends.

use super::Op;
use crate::id::{Blob, HandshakeNonce, Instance, LogId};
use crate::key::{MachineKey, Signature};
use crate::name::Name;
use serde::{Deserialize, Serialize};

wire_enum! {
    /// A frame from client to server.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ClientFrame {
        /// First: who wants to connect, and how.
        Hello(Hello) = "hello",
        /// Second: the proof.
        Auth(Auth) = "auth",
        /// Any time after `ready`.
        Request(Request) = "req",
        /// How far logs were received; cumulative, needs no answer.
        Ack(Ack) = "ack",
    }
}

/// The opening of the handshake (SECURITY D.1, DECISIONS 10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions offered, best first; at most 8.
    pub versions: Vec<u16>,
    /// 32 fresh random bytes.
    pub nonce: HandshakeNonce,
    /// This machine's key on this server.
    pub key: MachineKey,
    /// The session's handle. `cli` is a one-shot without mailbox, hidden in rosters.
    pub handle: Name,
    /// Whether the user chose the handle: then a collision is refused instead of numbered.
    pub pinned: bool,
    /// The client's process lineage.
    pub instance: Instance,
    /// Channel bindings the client can make: `tls-exporter`, `none`.
    pub bindings: Vec<String>,
    /// Program and version, for logs and rosters; at most 64 bytes.
    #[serde(default)]
    pub agent: String,
}

/// The client's proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// `auth`, `register`, `redeem` or `enrol`: see [`crate::handshake::Mode`].
    pub mode: String,
    /// What the mode needs, as bytes: see [`crate::handshake::Mode`].
    pub body: Blob,
    /// By the machine key, over the transcript, the mode and the body.
    pub sig: Signature,
}

/// One request. Answers carry the same id; ids are the client's and need only be unique in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Correlates the answer.
    pub id: u64,
    /// What is asked.
    pub op: Op,
}

/// How far this session has received its logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// One cursor a log.
    pub cursors: Vec<Cursor>,
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The log.
    pub log: LogId,
    /// Everything up to and including this is received.
    pub seq: u64,
}
