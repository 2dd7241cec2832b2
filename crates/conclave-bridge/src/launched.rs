//! What `conclave launch` tells the bridge of the agent that it becomes: who the session is to be.
//!
//! It is told on disk and not by the environment, which whatever the agent starts would inherit. A note is
//! named after the process that becomes the agent; one bridge below it takes it, and holds it while it lives.
//! What processes left behind that are gone is swept here, too.

use crate::control::find;
use crate::files;
use conclave_proto::name::Name;
use conclave_proto::profile::Label;
use conclave_proto::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::{Path, PathBuf};

/// Where notes are, in the state directory: a host may start its bridge with few variables, so that nothing
/// but that directory is known to both.
const DIR: &str = "launches";
/// The largest note, in bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;
/// The most files that are looked at in a directory.
const FILES_MAX: usize = 4_096;

/// Who a launched session is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The process that becomes the agent.
    pub pid: u32,
    /// When that process started, by the system's count; a number that is used again is known by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// When it was launched.
    pub at: UnixMs,
    /// The handle, if one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// What the session is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
    /// The groups it carries in its home channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Label>,
    /// The channels it follows, the first is home; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Name>,
}

impl Launch {
    /// Returns whether the process it is about still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match (Process::of(self.pid), self.started) {
            (Some(process), Some(started)) => process.started == started,
            _ => is_alive(self.pid),
        }
    }
}

/// A launch that this bridge took: it is this one's as long as the value lives.
#[derive(Debug)]
pub struct Taken {
    /// Who the session is to be.
    pub launch: Launch,
    _lock: File,
}

/// Returns where notes of launches are.
#[must_use]
pub fn dir(home: &Path) -> PathBuf {
    home.join(DIR)
}

/// Notes who the agent is to be that this process becomes.
///
/// # Errors
/// Those of the file system.
pub fn note(home: &Path, launch: &Launch) -> io::Result<()> {
    let dir = dir(home);
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&dir)?;
    let taken = dir.join(format!("{}.taken", launch.pid));
    match fs::remove_file(&taken) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let text = serde_json::to_vec(launch)?;
    files::replace(&dir, &format!("{}.json", launch.pid), &text)
}

/// Takes a note back: nothing was started.
pub fn forget(home: &Path, pid: u32) {
    for end in ["json", "taken"] {
        if let Err(error) = fs::remove_file(dir(home).join(format!("{pid}.{end}"))) {
            tracing::debug!(%error, "no note of a launch was taken back");
        }
    }
}

/// Returns when this process started, for its own note.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    Process::of(pid).map(|process| process.started)
}

/// Takes what was noted for the agent above this process: its parent, or the parent of a shell or a wrapper
/// between them. A note that another bridge holds, or that belongs to another agent, is left alone.
#[must_use]
pub fn take(home: &Path) -> Option<Taken> {
    let parent = std::os::unix::process::parent_id();
    let above = Process::of(parent).map(|process| process.parent);
    let dir = dir(home);
    let above = [Some(parent), above].into_iter().flatten();
    above
        .filter(|pid| *pid > 1)
        .find_map(|pid| take_of(&dir, pid, parent))
}

fn take_of(dir: &Path, pid: u32, host: u32) -> Option<Taken> {
    let launch = read(&dir.join(format!("{pid}.json")))?;
    if launch.pid != pid || !launch.is_alive() {
        return None;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let path = dir.join(format!("{pid}.taken"));
    let mut lock = options.mode(0o600).open(path).ok()?;
    lock.try_lock().ok()?;
    let mut before = String::new();
    (&lock)
        .take(NOTE_BYTES_MAX)
        .read_to_string(&mut before)
        .ok()?;
    let before = before.trim().parse().ok();
    // An agent that the launched one started is another agent, also when the first one's bridge has gone.
    if before.is_some_and(|before| before != host && is_alive(before)) {
        return None;
    }
    lock.set_len(0).ok()?;
    lock.rewind().ok()?;
    write!(lock, "{host}").ok()?;
    Some(Taken {
        launch,
        _lock: lock,
    })
}

/// Returns the launches whose agents still run.
#[must_use]
pub fn living(home: &Path) -> Vec<Launch> {
    let files = files_of(&dir(home)).into_iter();
    let launches = files.filter_map(|path| read(&path));
    launches.filter(Launch::is_alive).collect()
}

fn read(path: &Path) -> Option<Launch> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(NOTE_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns what processes that are gone left behind: notes of launches, sockets and notes of sessions, and what
/// they had begun to write. Only files of this user's, named as ours are.
#[must_use]
pub fn stale(home: &Path) -> Vec<PathBuf> {
    let mut stale = Vec::new();
    for path in files_of(&dir(home)) {
        let launch = path.extension().is_some_and(|end| end == "json");
        let gone = match (launch, named_pid(&path)) {
            (_, None) => false,
            (true, Some(pid)) => match read(&path) {
                Some(launch) => !launch.is_alive(),
                None => !is_alive(pid),
            },
            (false, Some(pid)) => !is_alive(pid),
        };
        if gone {
            stale.push(path);
        }
    }
    for dir in [find::run_dir(home), home.join("run")] {
        for path in files_of(&dir) {
            if named_pid(&path).is_some_and(|pid| !is_alive(pid)) && !stale.contains(&path) {
                stale.push(path);
            }
        }
    }
    stale
}

/// Removes what [`stale`] finds; returns what was removed.
pub fn sweep(home: &Path) -> Vec<PathBuf> {
    let mut swept = stale(home);
    swept.retain(|path| match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "a left-over stays");
            false
        }
    });
    swept
}

/// Returns the plain files and sockets of a directory that belong to this user.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let own = rustix::process::getuid().as_raw();
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let entries = entries.take(FILES_MAX).filter_map(Result::ok);
    let paths = entries.map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        let meta = fs::symlink_metadata(path);
        meta.is_ok_and(|m| m.uid() == own && (m.is_file() || m.file_type().is_socket()))
    };
    paths.filter(ours).collect()
}

/// Reads whose a file is from its name: `PID.json`, `PID.sock`, `PID.taken`, or `.NAME.PID`, which is a file
/// that was being written.
fn named_pid(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let (first, last) = name.rsplit_once('.')?;
    let pid = match (first.strip_prefix('.'), last) {
        (Some(_), pid) => pid,
        (None, "json" | "sock" | "taken") => first,
        (None, _) => return None,
    };
    let plain = pid.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| pid.parse().ok()).flatten()
}

/// Returns whether a process runs. One that cannot be asked about counts as running.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

/// What the system says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: u32,
    started: u64,
}

impl Process {
    /// Looks a process up; none where the system has no such files.
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name, in parentheses, may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { parent, started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_parent_and_its_start() {
        let own = Process::of(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert!(own.started > 0);
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(0));
    }

    #[test]
    fn only_names_of_ours_name_a_process() {
        for (name, pid) in [
            ("17.json", Some(17)),
            ("17.sock", Some(17)),
            ("17.taken", Some(17)),
            (".17.json.99", Some(99)),
            ("remembered.json", None),
            ("17.txt", None),
            ("+17.json", None),
            ("17", None),
        ] {
            assert_eq!(named_pid(Path::new(name)), pid, "{name}");
        }
    }

    #[test]
    fn a_note_whose_process_is_another_by_now_is_swept() {
        let home = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let mut launch = Launch {
            pid,
            started: started(pid),
            ..Launch::default()
        };
        note(home.path(), &launch).unwrap();
        assert_eq!(living(home.path()), [launch.clone()]);
        assert_eq!(sweep(home.path()), Vec::<PathBuf>::new());
        launch.started = Some(1);
        note(home.path(), &launch).unwrap();
        assert_eq!(living(home.path()), []);
        assert_eq!(sweep(home.path()).len(), 1);
    }
}
