//! The human's switch: two small files in the state directory that every bridge of the machine looks at each
//! second. `paused` stops them all; `resumed` says that a human looked, and how much more is allowed.
//!
//! A `paused` that cannot be read pauses, too: an empty file made by hand is enough. Whoever may write in that
//! directory can remove it again; that it takes a human is the command line's doing.

use crate::files;
use conclave_proto::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

const PAUSED: &str = "paused";
const RESUMED: &str = "resumed";

/// That every agent of this machine says nothing, and nothing wakes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when.
    pub at: UnixMs,
    /// Until when; none: until a human ends it.
    #[serde(default)]
    pub until: Option<UnixMs>,
}

/// That a human looked and lets it go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// When.
    pub at: UnixMs,
    /// So many messages beyond the budgets.
    #[serde(default)]
    pub more: u64,
    /// Which session, by its handle; none: every one.
    #[serde(default)]
    pub session: Option<String>,
}

/// Pauses every bridge of this machine.
///
/// # Errors
/// Those of the file system.
pub fn pause(home: &Path, pause: Pause) -> io::Result<()> {
    files::replace(home, PAUSED, &serde_json::to_vec(&pause)?)
}

/// Returns the pause that holds now.
#[must_use]
pub fn paused(home: &Path, now: UnixMs) -> Option<Pause> {
    let bytes = match files::read(&home.join(PAUSED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        // What is no directory has no pause.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return None,
        read => read.unwrap_or_default(),
    };
    let pause: Pause = serde_json::from_slice(&bytes).unwrap_or_default();
    Some(pause).filter(|pause| pause.until.is_none_or(|until| now < until))
}

/// Ends a pause, and tells the bridges what is allowed now.
///
/// # Errors
/// Those of the file system.
pub fn resume(home: &Path, resume: &Resume) -> io::Result<()> {
    files::replace(home, RESUMED, &serde_json::to_vec(resume)?)?;
    match std::fs::remove_file(home.join(PAUSED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns what a human allowed last.
#[must_use]
pub fn resumed(home: &Path) -> Option<Resume> {
    let bytes = files::read(&home.join(RESUMED)).ok()?;
    serde_json::from_slice(&bytes).ok()
}
