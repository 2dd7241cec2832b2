//! What can be claimed: free text, or paths of a repository. Pure.
//!
//! Two machines name the same repository in different ways; here it gets one name.

use super::glob;
use std::fmt;

/// The longest resource, in bytes.
pub const RESOURCE_BYTES_MAX: usize = 200;

/// How a path of a repository is written: `repo:<remote>//<path or pattern>`.
const REPO: &str = "repo:";

/// Something that can be claimed, in the one form of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Whatever members agree on.
    Free(String),
    /// Paths of a repository.
    Path {
        /// The repository.
        remote: String,
        /// Which paths: see [`glob`].
        glob: String,
    },
}

/// What cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResource {
    /// Nothing is named.
    #[error("a resource has a name")]
    Empty,
    /// It is too long.
    #[error("a resource has at most {RESOURCE_BYTES_MAX} bytes")]
    TooLong,
    /// It has control characters.
    #[error("a resource has no control characters")]
    Control,
    /// The path leaves the repository.
    #[error("a path stays inside its repository, without `..`")]
    Outside,
    /// A path that is in no repository.
    #[error("this directory is in no git repository")]
    NoRepo,
    /// A remote without a path.
    #[error("a repository path is written repo:<remote>//<path>")]
    Form,
}

impl Resource {
    /// Reads a resource as somebody wrote it.
    ///
    /// # Errors
    /// [`BadResource`].
    pub fn parse(text: &str) -> Result<Self, BadResource> {
        let text = text.trim();
        let read = match text.strip_prefix(REPO) {
            None => Self::Free(text.to_owned()),
            Some(path) => {
                // The remote may hold a `//` of its own, behind its scheme.
                let scheme = path.find("://").map_or(0, |n| n + 3);
                let rest = path.get(scheme..).unwrap_or_default();
                let cut = rest.find("//").ok_or(BadResource::Form)? + scheme;
                let remote = path.get(..cut).unwrap_or_default();
                Self::path(remote, path.get(cut + 2..).unwrap_or_default())?
            }
        };
        read.checked()
    }

    /// Names paths of the repository with this remote.
    ///
    /// # Errors
    /// [`BadResource`].
    pub fn path(remote: &str, glob: &str) -> Result<Self, BadResource> {
        let remote = remote_name(remote).ok_or(BadResource::Form)?;
        let glob = tidy_path(glob)?;
        Self::Path { remote, glob }.checked()
    }

    /// Names one file of the repository with this remote, however long its path is: only to be compared
    /// with what is claimed.
    ///
    /// # Errors
    /// [`BadResource`], if it is no path of a repository.
    pub fn file(remote: &str, path: &str) -> Result<Self, BadResource> {
        let remote = remote_name(remote).ok_or(BadResource::Form)?;
        let glob = tidy_path(path)?;
        Ok(Self::Path { remote, glob })
    }

    fn checked(self) -> Result<Self, BadResource> {
        let text = self.to_string();
        match () {
            () if text.is_empty() => Err(BadResource::Empty),
            () if text.len() > RESOURCE_BYTES_MAX => Err(BadResource::TooLong),
            () if text.chars().any(char::is_control) => Err(BadResource::Control),
            () => Ok(self),
        }
    }

    /// Returns whether what is written in its one form may overlap this, without reading it further: most
    /// resources are of other places.
    #[must_use]
    pub fn may_overlap(&self, other: &str) -> bool {
        match self {
            Self::Free(text) => text == other,
            Self::Path { remote, glob } => {
                let rest = other
                    .strip_prefix(REPO)
                    .and_then(|o| o.strip_prefix(remote));
                let rest = rest.and_then(|rest| rest.strip_prefix("//"));
                rest.is_some_and(|other| {
                    let (own, other) = (glob::fixed(glob), glob::fixed(other));
                    own.zip(other).all(|(own, other)| own == other)
                })
            }
        }
    }

    /// Returns whether both cannot be held by two at once.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Free(a), Self::Free(b)) => a == b,
            (Self::Path { remote, glob }, Self::Path { remote: r, glob: g }) => {
                remote == r && glob::overlaps(glob, g)
            }
            (Self::Free(_), Self::Path { .. }) | (Self::Path { .. }, Self::Free(_)) => false,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free(text) => f.write_str(text),
            Self::Path { remote, glob } => write!(f, "{REPO}{remote}//{glob}"),
        }
    }
}

/// Returns the one name of a repository, whatever its remote is written like: host in small letters,
/// path without `.git`; no user, no password, no usual port. `None` if nothing is left.
#[must_use]
pub fn remote_name(remote: &str) -> Option<String> {
    let remote = remote.trim();
    let (scheme, rest) = match remote.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (String::new(), remote),
    };
    let (host, path) = match scheme.as_str() {
        "file" => ("file".to_owned(), rest),
        "" => match scp(rest) {
            Some((host, path)) => (host.to_ascii_lowercase(), path),
            None if rest.starts_with('/') => ("file".to_owned(), rest),
            // It has this form already.
            None => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                (host.to_ascii_lowercase(), path)
            }
        },
        _ => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            (authority(host, &scheme), path)
        }
    };
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let path = parts.join("/");
    let path = path.strip_suffix(".git").unwrap_or(&path);
    let name = [host.as_str(), path.trim_end_matches('/')];
    let name: Vec<&str> = name.into_iter().filter(|part| !part.is_empty()).collect();
    (!host.is_empty() && !name.is_empty()).then(|| name.join("/"))
}

/// Reads `user@host:path`.
fn scp(remote: &str) -> Option<(&str, &str)> {
    let (host, path) = remote.split_once(':')?;
    if host.contains('/') {
        return None;
    }
    // What this function's caller made has its port before the path.
    let port = path.split('/').next().unwrap_or_default();
    if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && path.contains('/') {
        return None;
    }
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    Some((host, path))
}

fn authority(host: &str, scheme: &str) -> String {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let usual = match scheme {
        "ssh" | "git+ssh" => ":22",
        "https" => ":443",
        "http" => ":80",
        "git" => ":9418",
        _ => "",
    };
    let host = host.to_ascii_lowercase();
    match host.strip_suffix(usual) {
        Some(bare) => bare.to_owned(),
        None => host,
    }
}

/// Returns the one form of a path below a repository's root; all of it if nothing is named.
///
/// # Errors
/// [`BadResource::Outside`].
pub fn tidy_path(path: &str) -> Result<String, BadResource> {
    let mut parts = Vec::new();
    for part in path.trim().split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(BadResource::Outside),
            part => parts.push(part),
        }
    }
    match parts.is_empty() {
        true => Ok("**".to_owned()),
        false => Ok(parts.join("/")),
    }
}
