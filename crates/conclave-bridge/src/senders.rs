//! Who may write to this machine's agents, as its human decided once for each user: accepted, muted or blocked.
//!
//! One file a server directory, mode 0600, which the command line edits, too. Beside it an empty file for each
//! user whom the human was asked about, so that several sessions ask once. Nothing here is peer text: ids, and
//! names of the narrow alphabet.

use crate::files;
use conclave_proto::id::UserId;
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "senders";
const ASKED: &str = "asked";
/// The most users remembered; beyond, the oldest of those that are only accepted go.
const SENDERS_MAX: usize = 4_096;

/// What the human decided of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its messages come as the levels say.
    Accepted,
    /// They wake nobody; they can be fetched.
    Muted,
    /// They are not shown; their senders hear so, if they asked.
    Blocked,
}

impl Standing {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Muted => "muted",
            Self::Blocked => "blocked",
        }
    }
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Its name.
    pub name: Name,
    /// What the human decided.
    pub standing: Standing,
    /// When.
    pub at: UnixMs,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Senders(BTreeMap<UserId, Sender>);

impl Senders {
    /// Reads the file of a server directory; none if there is no file yet. One that cannot be read accepts
    /// nobody.
    #[must_use]
    pub fn load(server_dir: &Path) -> Option<Self> {
        let bytes = match files::read(&server_dir.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(_) => return Some(Self::default()),
        };
        Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, "the file of senders cannot be read: nobody is accepted by it");
            Self::default()
        }))
    }

    /// Returns what was decided of a user.
    #[must_use]
    pub fn standing(&self, user: &UserId) -> Option<Standing> {
        self.0.get(user).map(|sender| sender.standing)
    }

    /// Returns everybody.
    pub fn iter(&self) -> impl Iterator<Item = (&UserId, &Sender)> {
        self.0.iter()
    }

    /// Notes what was decided of a user.
    pub fn set(&mut self, user: UserId, sender: Sender) {
        self.0.insert(user, sender);
        while self.0.len() > SENDERS_MAX {
            let accepted = self
                .0
                .iter()
                .filter(|(id, sender)| sender.standing == Standing::Accepted && **id != user);
            let oldest = accepted
                .min_by_key(|(_, sender)| sender.at)
                .map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            self.0.remove(&oldest);
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Those of the file system; then the file is as before.
    pub fn keep(&self, server_dir: &Path) -> io::Result<()> {
        files::replace(server_dir, FILE, &serde_json::to_vec(self)?)
    }

    /// Keeps what was decided of one user, beside what others decided meanwhile.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn decide(server_dir: &Path, user: UserId, sender: Sender) -> io::Result<Self> {
        let mut senders = Self::load(server_dir).unwrap_or_default();
        senders.set(user, sender);
        senders.keep(server_dir)?;
        Ok(senders)
    }
}

/// Which file it is, or none; another one whenever somebody replaced it.
pub(crate) fn stamp(server_dir: &Path) -> Option<(std::time::SystemTime, u64)> {
    let meta = fs::metadata(server_dir.join(FILE)).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// Takes the right to ask about a user, for all sessions of this machine; returns whether it was there to take.
#[must_use]
pub fn ask_once(server_dir: &Path, user: &UserId) -> bool {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    if builder.create(server_dir.join(ASKED)).is_err() {
        return false;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(asked(server_dir, user)).is_ok()
}

/// Gives the right back: nobody could be asked.
pub fn not_asked(server_dir: &Path, user: &UserId) {
    if let Err(error) = fs::remove_file(asked(server_dir, user)) {
        tracing::debug!(%error, "a user counts as asked about");
    }
}

fn asked(server_dir: &Path, user: &UserId) -> PathBuf {
    server_dir.join(ASKED).join(user.to_string())
}
