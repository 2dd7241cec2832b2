//! The files of the state directory: whose they are, and who else may read them.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What of the directory holds keys, messages or sockets.
const PRIVATE: [&str; 3] = ["servers", "launches", "run"];
/// How many files are looked at, and how deep.
const FILES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 6;

/// A file that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Others may read or write it.
    Open(PathBuf, u32),
    /// It is somebody else's.
    Owner(PathBuf, u32),
    /// It is a symbolic link.
    Link(PathBuf),
}

/// Returns what is wrong, files of the directory's own part first.
pub(super) fn faults(dir: &Path) -> Vec<Fault> {
    all(dir)
        .into_iter()
        .filter_map(|(path, meta)| fault(path, &meta))
        .collect()
}

fn fault(path: PathBuf, meta: &Metadata) -> Option<Fault> {
    if meta.is_symlink() {
        return Some(Fault::Link(path));
    }
    if meta.uid() != own() {
        return Some(Fault::Owner(path, meta.uid()));
    }
    let mode = meta.mode() & 0o7777;
    (mode & 0o077 != 0).then_some(Fault::Open(path, mode))
}

/// Takes from others what only this user may do; says what it did.
pub(super) fn close(dir: &Path) -> Vec<String> {
    let close = |fault| match fault {
        Fault::Open(path, mode) => {
            let closed = fs::set_permissions(&path, Permissions::from_mode(mode & 0o700));
            let said = format!(
                "mode of {} ({mode:04o} → {:04o})",
                path.display(),
                mode & 0o700
            );
            closed.is_ok().then_some(said)
        }
        Fault::Owner(..) | Fault::Link(_) => None,
    };
    faults(dir).into_iter().filter_map(close).collect()
}

fn own() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Lists the directory itself and what is below its private parts; follows no links.
fn all(dir: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    add(dir.to_owned(), 0, &mut found);
    for name in PRIVATE {
        add(dir.join(name), 1, &mut found);
    }
    found
}

fn add(path: PathBuf, depth: usize, found: &mut Vec<(PathBuf, Metadata)>) {
    let Ok(meta) = fs::symlink_metadata(&path) else {
        return;
    };
    let is_dir = meta.is_dir();
    found.push((path.clone(), meta));
    if !is_dir || depth == 0 || depth > DEPTH_MAX || found.len() > FILES_MAX {
        return;
    }
    for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
        add(entry.path(), depth + 1, found);
    }
}
