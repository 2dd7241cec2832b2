//! The repository around a directory, as far as claims need it: its root, and what its remote is called.
//!
//! Reads files only; runs nothing.

use crate::claim::{BadResource, Resource};
use std::path::{Component, Path, PathBuf};

/// The most of a configuration file that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// How a path is named that is seen from a directory.
const PATH: &str = "path:";

/// A repository on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// Its work tree.
    pub root: PathBuf,
    /// The remote, as it is configured; without one the directory itself.
    pub remote: String,
    /// Where hooks lie.
    pub hooks: PathBuf,
}

impl Repo {
    /// Finds the repository that a directory is in.
    #[must_use]
    pub fn find(dir: &Path) -> Option<Self> {
        let root = tree(dir)?;
        let common = git_dir(&root)?;
        let config = read(&common.join("config")).unwrap_or_default();
        let here = || format!("file://{}", root.display());
        Some(Self {
            remote: remote(&config).unwrap_or_else(here),
            hooks: common.join("hooks"),
            root,
        })
    }

    /// Names a path, or a pattern of paths, of this repository, as seen from `dir`.
    ///
    /// # Errors
    /// [`BadResource::Outside`] if it leaves the repository.
    pub fn resource(&self, dir: &Path, path: &str) -> Result<Resource, BadResource> {
        Resource::path(&self.remote, &self.below(dir, path)?)
    }

    /// Names a file of this repository, as seen from `dir`, to be compared with what is claimed.
    ///
    /// # Errors
    /// [`BadResource::Outside`] if it is not in the repository.
    pub fn file(&self, dir: &Path, path: &str) -> Result<Resource, BadResource> {
        Resource::file(&self.remote, &self.below(dir, path)?)
    }

    /// Returns a path as seen from the repository's root.
    fn below(&self, dir: &Path, path: &str) -> Result<String, BadResource> {
        let dir = dir.canonicalize().map_err(|_| BadResource::Outside)?;
        let mut full = PathBuf::new();
        for part in dir.join(path).components() {
            match part {
                Component::ParentDir => {
                    full.pop();
                }
                Component::CurDir => {}
                part => full.push(part),
            }
        }
        // What exists is named by where it is, whatever links lead there; what does not, by its parent.
        let real = full.ancestors().find_map(|known| {
            let rest = full.strip_prefix(known).ok()?;
            Some(known.canonicalize().ok()?.join(rest))
        });
        let full = real.unwrap_or(full);
        let below = full.strip_prefix(&self.root);
        let below = below.map_err(|_| BadResource::Outside)?;
        Ok(below.to_string_lossy().into_owned())
    }
}

/// Reads a resource as somebody wrote it in `dir`: `path:` and a path or pattern as seen from there is one
/// of the repository.
///
/// # Errors
/// [`BadResource`].
pub fn resource(dir: &Path, text: &str) -> Result<Resource, BadResource> {
    match text.trim().strip_prefix(PATH) {
        None => Resource::parse(text),
        Some(path) => {
            let repo = Repo::find(dir).ok_or(BadResource::NoRepo)?;
            repo.resource(dir, path.trim())
        }
    }
}

/// Finds the work tree that a directory is in.
#[must_use]
pub fn tree(dir: &Path) -> Option<PathBuf> {
    let dir = dir.canonicalize().ok()?;
    let root = dir.ancestors().find(|dir| dir.join(".git").exists())?;
    Some(root.to_owned())
}

/// Finds the main work tree of the repository that a work tree belongs to.
#[must_use]
pub fn main_tree(tree: &Path) -> Option<PathBuf> {
    let common = git_dir(tree)?.canonicalize().ok()?;
    let named = common.file_name()? == ".git";
    named.then(|| common.parent().map(Path::to_owned))?
}

/// Returns the directory that work trees of a repository share.
fn git_dir(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let link = read(&git)?;
    let named = link.trim().strip_prefix("gitdir:")?.trim();
    let own = root.join(named);
    match read(&own.join("commondir")) {
        Some(common) => Some(own.join(common.trim())),
        None => Some(own),
    }
}

/// Returns the URL of `origin`, else of the first remote.
fn remote(config: &str) -> Option<String> {
    let (mut first, mut section) = (None, None);
    for line in config.lines() {
        let line = line.trim();
        if let Some(head) = line.strip_prefix('[') {
            let name = head
                .strip_prefix("remote \"")
                .and_then(|n| n.split('"').next());
            section = name.map(str::to_owned);
        } else if let (Some(name), Some((key, url))) = (&section, line.split_once('='))
            && key.trim().eq_ignore_ascii_case("url")
        {
            let url = url.trim().trim_matches('"').to_owned();
            if name == "origin" {
                return Some(url);
            }
            first.get_or_insert(url);
        }
    }
    first
}

fn read(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok()?.len();
    (size <= CONFIG_BYTES_MAX)
        .then(|| std::fs::read_to_string(path).ok())
        .flatten()
}
