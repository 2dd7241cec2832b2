//! A host's configuration file on the disk: read whole, replaced whole or not at all.
//!
//! A link stays a link: what it leads to is replaced. Mode and place stay, too. Files of other users are
//! refused, however they may be writable.

use crate::error::CliError;
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

/// The largest configuration file that is edited, in bytes.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A file as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where it is, behind all links.
    pub(crate) path: PathBuf,
    /// What it says; `None` where there is none yet.
    pub(crate) text: Option<String>,
    mode: Option<u32>,
}

impl Target {
    /// Reads a file, or notes that there is none.
    pub(crate) fn read(named: &Path) -> Result<Self, CliError> {
        let path = behind_links(named).map_err(|e| failed("read", named, &e))?;
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    path,
                    text: None,
                    mode: None,
                });
            }
            other => other.map_err(|e| failed("read", &path, &e))?,
        };
        let meta = file.metadata().map_err(|e| failed("read", &path, &e))?;
        if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
            return Err(refused(&path, "is not a plain file of a sensible size"));
        }
        if meta.uid() != own_uid() {
            return Err(refused(&path, "belongs to another user"));
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|e| failed("read", &path, &e))?;
        Ok(Self {
            path,
            text: Some(text),
            mode: Some(meta.mode() & 0o7777),
        })
    }

    /// Fails early where the file could not be replaced; every file is asked before the first is written.
    pub(crate) fn check_writable(&self) -> Result<(), CliError> {
        let missing = "nothing was written; change its permissions, or choose another --scope";
        if let Some(mode) = self.mode
            && mode & 0o200 == 0
        {
            return Err(refused(&self.path, "is read-only").hint(missing));
        }
        let dir = self.path.ancestors().skip(1).find(|dir| dir.exists());
        let dir = dir.unwrap_or_else(|| Path::new("/"));
        let access = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK);
        access.map_err(|e| failed("write to", dir, &e.into()).hint(missing))
    }

    /// Puts a text in the file's place, unless somebody has changed the file since; returns the directories
    /// that were made for it.
    pub(crate) fn replace(&self, text: &str) -> Result<Vec<PathBuf>, CliError> {
        let dir = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let made = make_dirs(dir, 0o777).map_err(|e| failed("make", dir, &e))?;
        let now = Self::read(&self.path)?;
        if now.text != self.text {
            return Err(CliError::local(format!(
                "{} was changed by somebody else just now",
                self.path.display()
            ))
            .hint("nothing was written to it; run the command again"));
        }
        let written = write_atomic(&self.path, text.as_bytes(), self.mode, 0o666);
        written.map_err(|e| failed("write", &self.path, &e))?;
        Ok(made)
    }

    /// Removes the file.
    pub(crate) fn remove(&self) -> Result<(), CliError> {
        fs::remove_file(&self.path).map_err(|e| failed("remove", &self.path, &e))
    }
}

/// Writes a file whole or not at all: with this mode, else as the process's mask makes of `fresh`.
pub(crate) fn write_atomic(
    path: &Path,
    bytes: &[u8],
    mode: Option<u32>,
    fresh: u32,
) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let name = format!(".conclave-{:016x}", u64::from_le_bytes(seed));
    let temp = dir.join(name);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(fresh)
        .open(&temp)?;
    let moved = (|| {
        file.write_all(bytes)?;
        if let Some(mode) = mode {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        file.sync_all()?;
        fs::rename(&temp, path)?;
        File::open(dir)?.sync_all()
    })();
    if moved.is_err() {
        drop(fs::remove_file(&temp));
    }
    moved
}

/// Makes a directory and those above it; returns those that were not there, the uppermost first.
pub(crate) fn make_dirs(dir: &Path, mode: u32) -> io::Result<Vec<PathBuf>> {
    let missing = dir.ancestors().take_while(|dir| !dir.exists());
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    for dir in &missing {
        DirBuilder::new().mode(mode).create(dir)?;
    }
    Ok(missing)
}

/// Returns the hash that tells whether a file is still as it was left.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Follows links as far as there are any, also to what does not exist yet.
fn behind_links(named: &Path) -> io::Result<PathBuf> {
    const LINKS_MAX: usize = 16;
    let mut path = std::path::absolute(named)?;
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or_else(|| Path::new("/")).join(next),
            Err(_) => break,
        }
    }
    let known = path.ancestors().find_map(|known| {
        let rest = path.strip_prefix(known).ok()?;
        let known = known.canonicalize().ok()?;
        Some(match rest.as_os_str().is_empty() {
            true => known,
            false => known.join(rest),
        })
    });
    Ok(known.unwrap_or(path))
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Says what the system refused.
pub(crate) fn failed(act: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::local(format!("cannot {act} {}: {error}", path.display()))
}

fn refused(path: &Path, why: &str) -> CliError {
    CliError::local(format!("{} {why}", path.display()))
        .hint("nothing was written; check the file's owner and permissions")
}
