//! The server's own key: made once, kept in the data directory, readable by its owner alone.
//!
//! The server id is the hash of the first key and is kept beside it, so that a later key rotation
//! does not change it. Nothing here prints or logs a secret.

use conclave_proto::id::ServerId;
use conclave_proto::key::Secret;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const KEY_FILE: &str = "server.key";
const ID_FILE: &str = "server.id";
const LOCK_FILE: &str = "server.lock";

/// Who this server is.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    /// Signs handshakes and audit checkpoints.
    pub secret: Secret,
    /// Hash of the first key.
    pub server_id: ServerId,
}

/// Why the data directory or the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file or directory could not be read or written.
    #[error("{} cannot be used", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read or write a secret file, or it is no regular file.
    #[error("{} must be a regular file that only its owner can read (chmod 600)", .0.display())]
    Loose(PathBuf),
    /// The content is not what this program wrote.
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    /// Another server runs on the same data.
    #[error("another server is using {}", .0.display())]
    InUse(PathBuf),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

/// An exclusive claim on a data directory, held as long as the server lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory (0700) if need be and claims it.
    pub(crate) fn claim(path: &Path) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(IdentityError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(io(source)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Loads the server's key, or makes it on the first run.
    pub(crate) fn identity(&self) -> Result<ServerIdentity, IdentityError> {
        let key_path = self.path.join(KEY_FILE);
        let id_path = self.path.join(ID_FILE);
        let Some(bytes) = read_secret(&key_path)? else {
            let made = ServerIdentity::random()?;
            write_new(&key_path, &*made.secret.seed())?;
            write_new(&id_path, made.server_id.to_string().as_bytes())?;
            return Ok(made);
        };
        let damaged = || IdentityError::Damaged(key_path.clone());
        let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| damaged())?;
        let secret = Secret::from_seed(&Zeroizing::new(seed));
        let server_id = match read_secret(&id_path)? {
            Some(text) => std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| IdentityError::Damaged(id_path.clone()))?,
            None => {
                // A crash between the two writes of the first run: this is still the first key.
                let id = secret.server_key().server_id();
                write_new(&id_path, id.to_string().as_bytes())?;
                id
            }
        };
        Ok(ServerIdentity { secret, server_id })
    }
}

impl ServerIdentity {
    /// Makes a fresh identity.
    pub(crate) fn random() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|_| IdentityError::Random)?;
        let secret = Secret::from_seed(&seed);
        let server_id = secret.server_key().server_id();
        Ok(Self { secret, server_id })
    }
}

/// Reads a file that only its owner may read; `None` if there is none.
pub(crate) fn read_secret(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
    let io = |source| IdentityError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io(e)),
        Ok(meta) if !meta.is_file() || meta.mode() & 0o077 != 0 => {
            Err(IdentityError::Loose(path.to_owned()))
        }
        Ok(_) => fs::read(path).map(|b| Some(Zeroizing::new(b))).map_err(io),
    }
}

/// Writes a file that must not exist yet, 0600, and syncs it with its directory. It appears under
/// its name only when it is whole.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let partial = path.with_extension("partial");
    let write = || -> io::Result<()> {
        match fs::remove_file(&partial) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A hard link fails where a rename would overwrite: the file must be new.
        fs::hard_link(&partial, path)?;
        fs::remove_file(&partial)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| IdentityError::Io {
        path: path.to_owned(),
        source,
    })
}
