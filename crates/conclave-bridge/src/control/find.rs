//! The side that asks: finds the session's socket by what the host calls its session, and asks. It waits for
//! nobody longer than it is told to: a hook must never hold its host up.

use super::{Answer, Ask, LINE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest path of a socket, in bytes.
pub(super) const PATH_BYTES_MAX: usize = 100;
/// The most notes that are looked at.
const NOTES_MAX: usize = 1_024;
/// The largest note, in bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// Whose socket it is, as noted beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The bridge's process.
    pub pid: u32,
    /// The process that started it.
    pub host_pid: u32,
    /// What the host calls its session now.
    #[serde(default)]
    pub session: Option<String>,
    /// The host's own inbox, which is one a host process.
    #[serde(default)]
    pub inbox: Option<String>,
    /// Where it was started.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// The host did not say at the start what it calls its session: its hooks do.
    #[serde(default)]
    pub nameless: bool,
}

/// What somebody who asks knows of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// What the host calls its session.
    pub session: Option<String>,
    /// The host's own inbox.
    pub inbox: Option<String>,
    /// The host's process.
    pub host_pid: Option<u32>,
}

/// Returns where the sockets of a state directory are made.
#[must_use]
pub fn run_dir(home: &Path) -> PathBuf {
    runtime_dir(home).unwrap_or_else(|| own_dir(home))
}

/// Returns where they can be: some hosts start a bridge with another environment than a hook.
pub(super) fn run_dirs(home: &Path) -> impl Iterator<Item = PathBuf> {
    runtime_dir(home).into_iter().chain([own_dir(home)])
}

/// Returns whether this is a directory of this user's: in another's anybody could pose as a session.
pub(super) fn is_own(meta: &fs::Metadata) -> bool {
    meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw()
}

fn own_dir(home: &Path) -> PathBuf {
    home.join("run")
}

fn runtime_dir(home: &Path) -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    // Two state directories of one user have nothing of each other's.
    let key = conclave_proto::bytes::Builder::labelled("conclave/run")
        .raw(home.as_os_str().as_encoded_bytes())
        .sha256();
    let short: String = key.as_bytes()[..4]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    Some(Path::new(&runtime).join("conclave").join(short))
}

/// Returns every note with its socket's path; what cannot be read is left out.
#[must_use]
pub fn notes(home: &Path) -> Vec<(PathBuf, Note)> {
    let own = |dir: &PathBuf| fs::symlink_metadata(dir).is_ok_and(|meta| is_own(&meta));
    let files = run_dirs(home)
        .filter(own)
        .filter_map(|dir| fs::read_dir(dir).ok());
    let read = |path: PathBuf| {
        let mut text = Vec::new();
        let file = File::open(&path).ok()?;
        file.take(NOTE_BYTES_MAX).read_to_end(&mut text).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        Some((path.with_extension("sock"), note))
    };
    let paths = files.flatten().take(NOTES_MAX).filter_map(Result::ok);
    let paths = paths.map(|file| file.path());
    let notes = paths.filter(|path| path.extension().is_some_and(|e| e == "json"));
    notes.filter_map(read).collect()
}

/// Returns the sockets that may be the one meant, the likeliest first: by the host's session, else by its
/// inbox, else by its process.
#[must_use]
pub fn sockets(home: &Path, mark: &Mark) -> Vec<PathBuf> {
    let rank = |note: &Note| {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        if same(&note.session, &mark.session) {
            Some(0)
        } else if same(&note.inbox, &mark.inbox) {
            Some(1)
        } else if Some(note.host_pid) == mark.host_pid {
            Some(2)
        } else {
            None
        }
    };
    let known = notes(home).into_iter();
    let mut fitting: Vec<_> = known
        .filter_map(|(path, note)| Some((rank(&note)?, note.pid, path)))
        .collect();
    fitting.sort();
    fitting.into_iter().map(|(_, _, path)| path).collect()
}

/// A question under way.
#[derive(Debug)]
pub struct Asked(BufReader<UnixStream>);

/// Asks the session meant; none if there is no such session.
///
/// # Errors
/// Those of the socket.
pub fn ask(home: &Path, mark: &Mark, ask: &Ask, within: Duration) -> io::Result<Option<Asked>> {
    let found = sockets(home, mark);
    let Some(stream) = found.iter().find_map(|path| UnixStream::connect(path).ok()) else {
        return Ok(None);
    };
    ask_on(stream, ask, within).map(Some)
}

/// Asks a session whose socket is connected.
///
/// # Errors
/// Those of the socket.
pub fn ask_on(mut stream: UnixStream, ask: &Ask, within: Duration) -> io::Result<Asked> {
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(Asked(BufReader::new(stream)))
}

impl Asked {
    /// Waits for the next answer; none when the session has no more to say.
    ///
    /// # Errors
    /// Those of the socket; its time is up, or the answer is none.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator of results of options is harder to use"
    )]
    pub fn next(&mut self) -> io::Result<Option<Answer>> {
        let mut line = Vec::new();
        let mut bounded = self.0.by_ref().take(LINE_BYTES_MAX as u64);
        if bounded.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}
