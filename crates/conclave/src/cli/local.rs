//! What commands need that a host runs: what it says on standard input, and which session it means.

use conclave_bridge::control::above::{above, host_among};
use conclave_bridge::control::find::{self, Mark};
use serde_json::Value;
use std::io::Read as _;
use std::path::Path;

/// The most of a question that is read, in bytes: edits carry whole files.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// By which the host names its session, its inbox and its process to what it starts.
const SESSION_VAR: &str = "CLAUDE_CODE_SESSION_ID";
const INBOX_VAR: &str = "CLAUDE_CODE_MESSAGING_SOCKET";
const PID_VAR: &str = "CLAUDE_PID";

/// Reads the one object on standard input.
pub(crate) fn input() -> Option<Value> {
    let mut text = Vec::new();
    let mut stdin = std::io::stdin().lock().take(INPUT_BYTES_MAX);
    stdin.read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns what is known of the host. What it says of its session counts before what its environment says.
pub(crate) fn mark(session: Option<String>) -> Mark {
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Mark {
        session: session.or_else(|| var(SESSION_VAR)),
        inbox: var(INBOX_VAR),
        host_pid: var(PID_VAR).and_then(|pid| pid.parse().ok()),
    }
}

/// Returns the mark of a session that is named, and of no other: what runs below an agent knows its host, too.
pub(crate) fn named(session: Option<String>) -> Mark {
    let mark = mark(session);
    match mark.session {
        Some(_) => Mark {
            session: mark.session,
            ..Mark::default()
        },
        None => mark,
    }
}

/// Returns the host's process by the process table, for hosts that do not say.
pub(crate) fn host_above(home: &Path) -> Option<u32> {
    host_among(&above(), &find::notes(home))
}
