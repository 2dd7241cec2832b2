//! The policy's two files in a server's directory: `policy`, signed by the owner key, and `lowered`,
//! what the agent took away. Beside them notes which host has which session, for its hooks. All are
//! replaced whole, by rename.

use crate::policy::{BadPolicy, Levels, Lowered, Policy};
use conclave_proto::id::{Blob, ServerId};
use conclave_proto::key::OwnerKey;
use conclave_proto::limit::RECORD_BYTES_MAX;
use conclave_proto::name::SessionPath;
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

const POLICY: &str = "policy";
const LOWERED: &str = "lowered";
const HOSTS: &str = "hosts";
/// The most notes of hosts that are read.
const HOSTS_MAX: usize = 1_024;

/// Reads what holds on a server. A policy that is absent or not valid counts as none: `notify`; the
/// second value says why, where there is a file.
#[must_use]
pub fn load(dir: &Path, server: &ServerId, owners: &[OwnerKey]) -> (Levels, Option<BadPolicy>) {
    let lowered = read(&dir.join(LOWERED)).unwrap_or_default();
    let lowered = Lowered::parse(&String::from_utf8_lossy(&lowered));
    let (policy, fault) = match read(&dir.join(POLICY)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
        Err(_) => (None, Some(BadPolicy::Malformed)),
        Ok(bytes) => match Policy::open(&Blob::from(bytes), server, owners) {
            Ok(policy) => (Some(policy), None),
            Err(fault) => (None, Some(fault)),
        },
    };
    let policy = policy.unwrap_or_else(|| Policy::absent(*server, UnixMs(0)));
    (Levels::new(policy, lowered), fault)
}

/// Returns whether the policy file names approvers, whoever signed it.
#[must_use]
pub fn names_approvers(dir: &Path) -> bool {
    read(&dir.join(POLICY)).is_ok_and(|bytes| Policy::names_approvers(&Blob::from(bytes)))
}

/// Keeps what the agent lowered.
///
/// # Errors
/// Those of the file system; then nothing changed.
pub fn keep_lowered(dir: &Path, lowered: &Lowered) -> io::Result<()> {
    replace(dir, LOWERED, lowered.to_text().as_bytes())
}

/// Keeps a signed policy, and drops what the agent had lowered: the human has decided anew.
///
/// # Errors
/// Those of the file system.
pub fn keep_policy(dir: &Path, policy: &Record) -> io::Result<()> {
    replace(dir, POLICY, policy.bytes())?;
    replace(dir, LOWERED, b"")
}

/// Which session a host's bridge has on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNote {
    /// How the host names its session.
    pub session_id: String,
    /// The session's address on the server.
    pub path: SessionPath,
}

/// Notes which session a host's bridge has on a server.
///
/// # Errors
/// Those of the file system.
pub fn keep_host(dir: &Path, path: &SessionPath, session_id: &str) -> io::Result<()> {
    let dir = dir.join(HOSTS);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&dir)?;
    let note = json!({"session_id": session_id, "path": path.to_string()});
    replace(&dir, path.handle.as_str(), note.to_string().as_bytes())
}

/// Takes back what [`keep_host`] noted.
pub fn forget_host(dir: &Path, path: &SessionPath) {
    if let Err(error) = fs::remove_file(dir.join(HOSTS).join(path.handle.as_str())) {
        tracing::debug!(%error, "no note of the host's session was taken back");
    }
}

/// Returns what the bridges of a server noted; what cannot be read is left out.
#[must_use]
pub fn hosts(dir: &Path) -> Vec<HostNote> {
    let Ok(files) = fs::read_dir(dir.join(HOSTS)) else {
        return Vec::new();
    };
    let note = |file: fs::DirEntry| {
        let note: Value = serde_json::from_slice(&read(&file.path()).ok()?).ok()?;
        Some(HostNote {
            session_id: note.get("session_id")?.as_str()?.to_owned(),
            path: note.get("path")?.as_str()?.parse().ok()?,
        })
    };
    let files = files.take(HOSTS_MAX).filter_map(Result::ok);
    files.filter_map(note).collect()
}

pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let max = 8 * RECORD_BYTES_MAX as u64;
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces a file, durably.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let next = write_next(dir, name, bytes)?;
    File::open(&next)?.sync_all()?;
    fs::rename(&next, dir.join(name))
}

/// Replaces a file that is worth nothing after a crash: nobody waits for the disk.
pub(crate) fn replace_volatile(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let next = write_next(dir, name, bytes)?;
    fs::rename(&next, dir.join(name))
}

fn write_next(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let next = dir.join(format!(".{name}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&next)?.write_all(bytes)?;
    Ok(next)
}
