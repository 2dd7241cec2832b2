//! What this machine has said and the server has not confirmed yet.
//!
//! A draft is on disk before it is sealed, and the sealed bytes are on disk before they are sent; a
//! retry sends the same bytes. Only an explicit refusal makes it seal again. One draft a log is in
//! flight at a time, so that a refusal never leaves later counters hanging.

use conclave_proto::entry::Route;
use conclave_proto::id::{Blob, LogId, MsgId};
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
    /// Where in it.
    pub(crate) route: Route,
    /// What it says.
    pub(crate) body: Blob,
    /// Its causal depth.
    pub(crate) hop: u8,
    /// The header's flags.
    pub(crate) flags: u8,
    /// When it was made.
    pub(crate) created: UnixMs,
    /// When it is given up, and its sender told.
    pub(crate) until: UnixMs,
    /// The exact bytes on the wire, once they exist: a CBOR envelope.
    pub(crate) sealed: Option<Vec<u8>>,
}

impl Draft {
    /// Returns whether it is worth nothing later: what waits for a day may also come a day late, but a
    /// claim may not.
    pub(crate) const fn is_brief(&self) -> bool {
        self.until.since(self.created) < KEEP_MS
    }
}
