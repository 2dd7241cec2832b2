//! What this machine has said and the server has not confirmed yet.
//!
//! A draft is on disk before it is sealed, and the sealed bytes are on disk before they are sent; a
//! retry sends the same bytes. Only an explicit refusal makes it seal again. One draft a log is in
//! flight at a time, so that a refusal never leaves later counters hanging.

use conclave_proto::id::{Blob, LogId, MsgId};
use conclave_proto::name::SessionPath;
use conclave_proto::time::UnixMs;

/// How long a draft may wait, in milliseconds; then its sender is told.
pub(crate) const KEEP_MS: u64 = 24 * 60 * 60 * 1000;

/// Something to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Its number in the outbox, given by the replica.
    pub(crate) n: i64,
    /// Its id, for ever.
    pub(crate) id: MsgId,
    /// To which log.
    pub(crate) log: LogId,
    /// The recipient, if it is a whisper.
    pub(crate) to: Option<SessionPath>,
    /// What it says.
    pub(crate) body: Blob,
    /// Its causal depth.
    pub(crate) hop: u8,
    /// The header's flags.
    pub(crate) flags: u8,
    /// When it was made.
    pub(crate) created: UnixMs,
    /// The exact bytes on the wire, once they exist: a CBOR envelope.
    pub(crate) sealed: Option<Vec<u8>>,
}
