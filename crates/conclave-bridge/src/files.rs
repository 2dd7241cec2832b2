//! The policy's two files in a server's directory: `policy`, signed by the owner key, and `lowered`,
//! what the agent took away. Both are replaced whole, by rename.

use crate::policy::{BadPolicy, Levels, Lowered, Policy};
use conclave_proto::id::{Blob, ServerId};
use conclave_proto::key::OwnerKey;
use conclave_proto::limit::RECORD_BYTES_MAX;
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

const POLICY: &str = "policy";
const LOWERED: &str = "lowered";

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

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let max = 8 * RECORD_BYTES_MAX as u64;
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let next = dir.join(format!(".{name}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&next, dir.join(name))
}
