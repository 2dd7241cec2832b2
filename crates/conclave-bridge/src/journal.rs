//! What happened here that a human may want to know later: what the guards stopped, what was asked and decided.
//!
//! One file per server directory, a JSON object a line, bounded: when it is full the older half goes. No body, no
//! secret and no key is ever in it: kinds, names, ids and our own words (SECURITY D.7).

use crate::files;
use conclave_proto::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

const FILE: &str = "journal";
/// The largest journal, in bytes.
const BYTES_MAX: usize = 256 * 1024;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by this machine's clock.
    pub at: UnixMs,
    /// The handle of the session it happened in.
    pub session: String,
    /// What kind of thing: `loop`, `flood`, `worm`, `secret`, `flow`, `path`, `permission`, `verdict`, `sender`, `pause`.
    pub kind: String,
    /// What happened, in our own words.
    pub text: String,
    /// What a human can do about it, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Adds an entry.
///
/// # Errors
/// Those of the file system; then the journal is as before.
pub fn note(server_dir: &Path, entry: &Entry) -> io::Result<()> {
    let path = server_dir.join(FILE);
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let full = std::fs::metadata(&path).is_ok_and(|meta| {
        usize::try_from(meta.len()).map_or(true, |bytes| bytes + line.len() > BYTES_MAX)
    });
    if full {
        let text = std::fs::read(&path)?;
        let half = text.get(text.len() / 2..).unwrap_or_default();
        let from = half.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
        files::replace(server_dir, FILE, half.get(from..).unwrap_or_default())?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // One write: lines of several sessions do not mix.
    options.open(&path)?.write_all(&line)
}

/// Returns the newest entries, oldest first; lines that are none are left out.
#[must_use]
pub fn newest(server_dir: &Path, max: usize) -> Vec<Entry> {
    let text = std::fs::read(server_dir.join(FILE)).unwrap_or_default();
    let lines = text.split(|b| *b == b'\n').rev();
    let entries = lines.filter_map(|line| serde_json::from_slice(line).ok());
    let mut entries: Vec<Entry> = entries.take(max).collect();
    entries.reverse();
    entries
}
