//! The bridge's side of its socket: binds it, notes whose it is, reads questions and writes answers.

use super::find::{Note, PATH_BYTES_MAX, run_dirs};
use super::{ANSWERS, Answer, Ask, Call, LINE_BYTES_MAX};
use crate::files;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many questions may wait for the session task.
const CALLS: usize = 64;
/// How long who connects has to ask.
const ASKING: Duration = Duration::from_secs(2);
/// How many connections there may be at once.
const CONNECTIONS_MAX: usize = 64;

/// By which the host names its session, and its inbox, to what it starts.
const SESSION_VAR: &str = "CLAUDE_CODE_SESSION_ID";
const INBOX_VAR: &str = "CLAUDE_CODE_MESSAGING_SOCKET";

/// A bound socket with its note. Both go with it.
#[derive(Debug)]
pub struct Seat {
    dir: PathBuf,
    note: Note,
    _tasks: DropGuard,
}

/// Binds a socket for this process.
///
/// # Errors
/// Those of the file system; the path is too long for a socket.
pub fn take(home: &Path) -> io::Result<(Seat, mpsc::Receiver<Call>)> {
    take_first(run_dirs(home))
}

/// Binds it in the first directory that can be used: that of the user's login goes when the user logs out.
fn take_first(dirs: impl Iterator<Item = PathBuf>) -> io::Result<(Seat, mpsc::Receiver<Call>)> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for dir in dirs {
        match take_in(dir) {
            Ok(taken) => return Ok(taken),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn take_in(dir: PathBuf) -> io::Result<(Seat, mpsc::Receiver<Call>)> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&dir)?;
    let meta = fs::symlink_metadata(&dir)?;
    if !super::find::is_own(&meta) || meta.mode() & 0o077 != 0 {
        let text = format!(
            "{} is open to other users, or no directory of this one",
            dir.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let session = var(SESSION_VAR);
    let note = Note {
        pid: std::process::id(),
        host_pid: std::os::unix::process::parent_id(),
        nameless: session.is_none(),
        session,
        inbox: var(INBOX_VAR),
        cwd: std::env::current_dir().ok(),
    };
    let path = socket(&dir, note.pid);
    if path.as_os_str().len() > PATH_BYTES_MAX {
        let text = format!("{} is too long for a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, text));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let (calls, called) = mpsc::channel(CALLS);
    let ended = CancellationToken::new();
    let work = accept(listener, meta.uid(), calls);
    tokio::spawn(ended.clone().run_until_cancelled_owned(work));
    let seat = Seat {
        dir,
        note,
        _tasks: ended.drop_guard(),
    };
    seat.keep_note()?;
    Ok((seat, called))
}

fn socket(dir: &Path, pid: u32) -> PathBuf {
    dir.join(format!("{pid}.sock"))
}

impl Seat {
    /// Returns what is noted.
    #[must_use]
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// Returns whether it can be found.
    #[must_use]
    pub fn is_there(&self) -> bool {
        socket(&self.dir, self.note.pid).exists()
    }

    /// Notes that the host calls its session by another name now.
    ///
    /// # Errors
    /// Those of the file system; then it is found by the name before.
    pub fn rename(&mut self, session: String) -> io::Result<()> {
        self.note.session = Some(session);
        self.keep_note()
    }

    fn keep_note(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.note)?;
        files::replace_volatile(&self.dir, &format!("{}.json", self.note.pid), &text)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        for end in ["json", "sock"] {
            let path = self.dir.join(format!("{}.{end}", self.note.pid));
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(%error, "a trace of the session's socket was left");
            }
        }
    }
}

async fn accept(listener: UnixListener, uid: u32, calls: mpsc::Sender<Call>) {
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = std::sync::Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) if is_own(&stream, uid) => {
                let calls = calls.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, calls).await {
                        tracing::debug!(%error, "a question was not answered");
                    }
                    drop(permit);
                });
            }
            Ok(_) => tracing::warn!("another user knocked at the session's socket"),
            Err(error) => {
                tracing::warn!(%error, "the session's socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_own(stream: &UnixStream, uid: u32) -> bool {
    stream.peer_cred().is_ok_and(|cred| cred.uid() == uid)
}

async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    let mut bounded = (&mut read).take(LINE_BYTES_MAX as u64);
    let asking = bounded.read_until(b'\n', &mut line);
    tokio::time::timeout(ASKING, asking).await??;
    let ask: Ask = match serde_json::from_slice(&line) {
        Ok(ask) => ask,
        Err(error) => {
            let message = error.to_string();
            return tell(&mut write, &Answer::Error { message }).await;
        }
    };
    let (answers, mut answered) = mpsc::channel(ANSWERS);
    if calls.send(Call { ask, answers }).await.is_err() {
        return Ok(());
    }
    let mut rest = [0; 64];
    loop {
        tokio::select! {
            answer = answered.recv() => match answer {
                Some(answer) => tell(&mut write, &answer).await?,
                None => return Ok(()),
            },
            // Who asked says nothing more: it has gone.
            read = read.read(&mut rest) => if read? == 0 {
                return Ok(());
            },
        }
    }
}

async fn tell(write: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_that_cannot_be_used_is_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let (gone, own) = (file.join("conclave"), home.path().join("run"));
        let (seat, _calls) = take_first([gone, own.clone()].into_iter()).unwrap();
        let path = socket(&own, seat.note().pid);
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(seat);
        assert!(!path.exists());
    }
}
