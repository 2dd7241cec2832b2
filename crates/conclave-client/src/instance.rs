//! Which process lineage this is: instance ids that outlive a process, one holder at a time.
//!
//! Whoever locks a handle's file has the id in it, and with it the session's cursor and mailbox. A
//! second session takes the next numbered file, so that it is the same second session next time too.

use conclave_proto::id::Instance;
use conclave_proto::name::Name;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The most sessions of one handle at the same time.
pub const CLAIMS_MAX: u32 = 64;

/// The right to be a session, for as long as it lives.
#[derive(Debug)]
pub struct Claim {
    /// The handle to say hello with.
    pub handle: Name,
    /// The instance to say hello with.
    pub instance: Instance,
    /// Whether no other process of this machine holds the same handle.
    pub sole: bool,
    _lock: File,
}

/// Why there is no claim.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Too many processes.
    #[error("{CLAIMS_MAX} sessions of {0} run already; end one, or choose another name")]
    TooMany(Name),
    /// Something else stands where the file should be.
    #[error("{0} is not a plain file; remove it")]
    NotAFile(PathBuf),
    /// The system refused.
    #[error("cannot use {path}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system has no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

impl Claim {
    /// Takes the first free claim of `handle` in `dir`. Only a handle that the user did not choose
    /// (not `pinned`) gets a number when it is held already.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn take(dir: &Path, handle: &Name, pinned: bool) -> Result<Self, ClaimError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ClaimError::Io { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io(dir))?;
        for n in 1..=CLAIMS_MAX {
            let path = dir.join(file_name(handle, n));
            if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
                return Err(ClaimError::NotAFile(path));
            }
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(io(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(e)) => return Err(io(&path)(e)),
            }
            let instance = match stored(&mut file).map_err(io(&path))? {
                Some(instance) => instance,
                None => renew(&mut file, &path)?,
            };
            let numbered = n > 1 && !pinned;
            return Ok(Self {
                handle: if numbered {
                    handle.numbered(n)
                } else {
                    handle.clone()
                },
                instance,
                sole: n == 1,
                _lock: file,
            });
        }
        Err(ClaimError::TooMany(handle.clone()))
    }
}

/// `/` is in no name, and `~` neither: numbered files never meet the file of another handle.
fn file_name(handle: &Name, n: u32) -> String {
    match n {
        1 => handle.to_string(),
        n => format!("{handle}~{n}"),
    }
}

fn stored(file: &mut File) -> io::Result<Option<Instance>> {
    let mut bytes = Vec::new();
    let _len = file
        .take(Instance::LEN as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(Instance::from_slice(&bytes))
}

/// Writes a fresh instance into a file that has none, or a torn one.
fn renew(file: &mut File, path: &Path) -> Result<Instance, ClaimError> {
    let mut bytes = [0; Instance::LEN];
    getrandom::fill(&mut bytes)?;
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(&bytes))
        .and_then(|()| file.sync_all());
    written.map_err(|source| ClaimError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(Instance::new(bytes))
}
