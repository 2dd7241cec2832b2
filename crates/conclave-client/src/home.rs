//! The state directory: known servers and private files, on a disk other users may reach too.
//!
//! Everything in it is the owner's alone: directories 0700, files 0600, no symbolic links. What is
//! not so is refused with the command that repairs it, never repaired silently (SECURITY D.6).

use conclave_proto::id::{ServerId, UserId, to_text};
use conclave_proto::key::ServerKey;
use conclave_proto::name::Name;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The largest private file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The most servers that are listed.
const SERVERS_MAX: usize = 256;
const SERVERS_DIR: &str = "servers";
const PROFILE_FILE: &str = "server.toml";

/// The state directory of one user on one machine.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    uid: u32,
}

/// What is known of one server: its pin, where it is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The server.
    pub id: ServerId,
    /// Its key, as last proven: the pin.
    pub key: ServerKey,
    /// Origins it was reached by, the preferred one first.
    pub urls: Vec<String>,
    /// Who we are there, once that is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Account>,
}

/// Who we are on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user's name.
    pub user: Name,
    /// The user's id.
    pub user_id: UserId,
    /// The server was asked to make the account and has not been heard to say that it did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsettled: bool,
    /// This machine's name.
    pub machine: Name,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Others may read or write it.
    #[error("{path} is open to other users (mode {mode:04o}); run: chmod {want:o} {path}")]
    Mode {
        /// What.
        path: PathBuf,
        /// The mode it has.
        mode: u32,
        /// The mode it must have.
        want: u32,
    },
    /// It belongs to somebody else.
    #[error(
        "{path} belongs to uid {owner}, not to you (uid {uid}); remove it or run: chown {uid} {path}"
    )]
    Owner {
        /// What.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        uid: u32,
    },
    /// A symbolic link, a device, or a directory where a file should be.
    #[error("{path} is {found}, but must be {want}; remove it or choose another directory")]
    FileType {
        /// What.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it should be.
        want: &'static str,
    },
    /// Larger than any file of ours.
    #[error("{0} is too large to be a file of this program")]
    TooLarge(PathBuf),
    /// More servers than are ever listed.
    #[error("{0} has more than {SERVERS_MAX} entries")]
    TooMany(PathBuf),
    /// A file that does not say what it should.
    #[error("{path} is damaged: {why}; restore it from a backup or remove it")]
    Damaged {
        /// What.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    #[error("cannot {act} {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system has no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

impl Home {
    /// Opens the state directory, making it if it is missing.
    ///
    /// # Errors
    /// [`HomeError`], also if it is open to others.
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        make_dir(root)?;
        let home = Self {
            root: root.to_owned(),
            uid: own_uid(root)?,
        };
        home.check_dir(root)?;
        home.dir(&home.root.join(SERVERS_DIR))?;
        Ok(home)
    }

    /// Returns the directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory of a server, which may not exist yet.
    #[must_use]
    pub fn server_dir(&self, id: &ServerId) -> PathBuf {
        self.root.join(SERVERS_DIR).join(id.to_string())
    }

    /// Returns every known server.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn servers(&self) -> Result<Vec<Profile>, HomeError> {
        let dir = self.root.join(SERVERS_DIR);
        let entries = fs::read_dir(&dir).map_err(|e| io_error("list", &dir, e))?;
        let mut profiles = Vec::new();
        for (n, entry) in entries.enumerate() {
            let entry = entry.map_err(|e| io_error("list", &dir, e))?;
            if n >= SERVERS_MAX {
                return Err(HomeError::TooMany(dir));
            }
            let id = entry.file_name().to_str().and_then(|s| s.parse().ok());
            if let Some(id) = id {
                profiles.extend(self.server(&id)?);
            }
        }
        profiles.sort_by_key(|profile| profile.id);
        Ok(profiles)
    }

    /// Returns what is known of a server.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn server(&self, id: &ServerId) -> Result<Option<Profile>, HomeError> {
        let path = self.server_dir(id).join(PROFILE_FILE);
        let Some(bytes) = self.read_private(&path)? else {
            return Ok(None);
        };
        let damaged = |why: String| HomeError::Damaged {
            path: path.clone(),
            why,
        };
        let text = std::str::from_utf8(&bytes).map_err(|e| damaged(e.to_string()))?;
        let profile: Profile = toml::from_str(text).map_err(|e| damaged(e.message().to_owned()))?;
        if profile.id != *id {
            return Err(damaged("it names another server".to_owned()));
        }
        Ok(Some(profile))
    }

    /// Remembers a server, in place of what was known of it.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn save(&self, profile: &Profile) -> Result<(), HomeError> {
        let path = self.server_dir(&profile.id).join(PROFILE_FILE);
        let text = toml::to_string(profile).map_err(|e| HomeError::Damaged {
            path: path.clone(),
            why: e.to_string(),
        })?;
        self.write_private(&path, text.as_bytes())
    }

    /// Removes everything of a server: pin, keys and replica.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn forget(&self, id: &ServerId) -> Result<(), HomeError> {
        let dir = self.server_dir(id);
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &dir, e)),
            _ => Ok(()),
        }
    }

    /// Makes a directory (0700, with its parents) unless it is there, and checks it.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn dir(&self, path: &Path) -> Result<(), HomeError> {
        make_dir(path)?;
        self.check_dir(path)
    }

    /// Reads a private file and the directory it is in; `None` if it does not exist.
    ///
    /// # Errors
    /// [`HomeError`], also if it is open to others.
    pub fn read_private(&self, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, HomeError> {
        let named = match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| io_error("read", path, e))?,
        };
        self.check_file(path, &named)?;
        if let Some(dir) = path.parent() {
            self.check_dir(dir)?;
        }
        let file = File::open(path).map_err(|e| io_error("open", path, e))?;
        let opened = file.metadata().map_err(|e| io_error("read", path, e))?;
        // What was checked must be what was opened: no link may be slipped in between.
        if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
            self.check_file(path, &opened)?;
            let (found, want) = ("changing under our hands", "a file of yours alone");
            return Err(type_error(path, found, want));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        let _len = file
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| io_error("read", path, e))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(HomeError::TooLarge(path.to_owned()));
        }
        Ok(Some(bytes))
    }

    /// Writes a private file whole or not at all, and not before it is on the disk.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn write_private(&self, path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
        let dir = path.parent().unwrap_or(&self.root);
        self.dir(dir)?;
        if let Ok(old) = fs::symlink_metadata(path) {
            self.check_file(path, &old)?;
        }
        let (temp, mut file) = create_temp(dir)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temp, path))
            .and_then(|()| File::open(dir)?.sync_all());
        written.map_err(|e| {
            drop(fs::remove_file(&temp));
            io_error("write", path, e)
        })
    }

    /// Waits for the right to change what several processes share; it ends with the returned file.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn lock(&self, path: &Path) -> Result<File, HomeError> {
        self.dir(path.parent().unwrap_or(&self.root))?;
        if let Ok(old) = fs::symlink_metadata(path) {
            self.check_file(path, &old)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options
            .open(path)
            .and_then(|file| file.lock().map(|()| file));
        file.map_err(|e| io_error("lock", path, e))
    }

    fn check_dir(&self, path: &Path) -> Result<(), HomeError> {
        let meta = fs::symlink_metadata(path).map_err(|e| io_error("read", path, e))?;
        if !meta.is_dir() {
            return Err(type_error(path, kind(&meta), "a directory"));
        }
        self.check_private(path, &meta, 0o700)
    }

    /// Checks that a file is plain and ours alone.
    fn check_file(&self, path: &Path, meta: &Metadata) -> Result<(), HomeError> {
        if !meta.is_file() {
            return Err(type_error(path, kind(meta), "a plain file"));
        }
        self.check_private(path, meta, 0o600)
    }

    fn check_private(&self, path: &Path, meta: &Metadata, want: u32) -> Result<(), HomeError> {
        if meta.uid() != self.uid {
            return Err(HomeError::Owner {
                path: path.to_owned(),
                owner: meta.uid(),
                uid: self.uid,
            });
        }
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(HomeError::Mode {
                path: path.to_owned(),
                mode,
                want,
            });
        }
        Ok(())
    }
}

fn make_dir(path: &Path) -> Result<(), HomeError> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|e| io_error("create", path, e))
}

/// Returns who owns what this process creates.
fn own_uid(dir: &Path) -> Result<u32, HomeError> {
    let (path, file) = create_temp(dir)?;
    let uid = file.metadata().map(|meta| meta.uid());
    fs::remove_file(&path).map_err(|e| io_error("remove", &path, e))?;
    uid.map_err(|e| io_error("read", &path, e))
}

fn create_temp(dir: &Path) -> Result<(PathBuf, File), HomeError> {
    let mut random = [0; 12];
    getrandom::fill(&mut random)?;
    let path = dir.join(format!(".new-{}", to_text(&random)));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| io_error("create", &path, e))?;
    Ok((path, file))
}

fn kind(meta: &Metadata) -> &'static str {
    match meta {
        meta if meta.is_symlink() => "a symbolic link",
        meta if meta.is_dir() => "a directory",
        meta if meta.is_file() => "a plain file",
        _ => "a special file",
    }
}

fn type_error(path: &Path, found: &'static str, want: &'static str) -> HomeError {
    HomeError::FileType {
        path: path.to_owned(),
        found,
        want,
    }
}

fn io_error(act: &'static str, path: &Path, source: io::Error) -> HomeError {
    HomeError::Io {
        act,
        path: path.to_owned(),
        source,
    }
}
