//! Everything that the checks look at, gathered once: disk, servers, running sessions.

use super::clients::{self, Client};
use super::files::{self, Fault};
use crate::cli::live::{self, Live};
use crate::error::CliError;
use crate::text;
use conclave_bridge::files as policy;
use conclave_bridge::journal::{self, Entry};
use conclave_bridge::launched;
use conclave_bridge::policy::{BadPolicy, Levels};
use conclave_bridge::switch;
use conclave_client::checkup::{self, Greeting, Kept};
use conclave_client::error::ClientError;
use conclave_client::home::{Home, HomeError, Profile};
use conclave_proto::key::OwnerKey;
use conclave_proto::time::UnixMs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take.
const GREETING: Duration = Duration::from_secs(8);
/// How many entries of a journal are looked at.
const ENTRIES: usize = 100;

/// What there is.
pub(super) struct Scene {
    /// The state directory.
    pub(super) dir: PathBuf,
    /// Whether there is one.
    pub(super) exists: bool,
    /// What is wrong with its files.
    pub(super) faults: Vec<Fault>,
    /// Why the servers could not be listed.
    pub(super) broken: Option<HomeError>,
    /// The accounts of this machine.
    pub(super) servers: Vec<Server>,
    /// The sessions that run here.
    pub(super) sessions: Vec<Live>,
    /// What crashed sessions left behind.
    pub(super) stale: Vec<PathBuf>,
    /// Whether this machine's sessions are paused.
    pub(super) paused: bool,
    /// The agents' own configurations.
    pub(super) clients: Vec<Client>,
    /// This machine's clock.
    pub(super) now: UnixMs,
}

/// One server with an account.
pub(super) struct Server {
    /// What is known of it.
    pub(super) profile: Profile,
    /// How it answered.
    pub(super) greeting: Result<Greeting, ClientError>,
    /// What the replica says.
    pub(super) kept: Result<Kept, String>,
    /// What holds, and why a policy does not.
    pub(super) levels: Levels,
    /// Why the policy that is there does not count.
    pub(super) bad_policy: Option<BadPolicy>,
    /// The newest entries of the journal.
    pub(super) journal: Vec<Entry>,
}

impl Scene {
    /// Looks around. Nothing is written.
    pub(super) async fn look(dir: PathBuf) -> Result<Self, CliError> {
        let exists = dir.exists();
        let faults = files::faults(&dir);
        let mut scene = Self {
            exists,
            faults,
            broken: None,
            servers: Vec::new(),
            sessions: live::all(&dir),
            stale: launched::stale(&dir),
            paused: switch::paused(&dir, text::now()).is_some(),
            clients: clients::all(),
            now: text::now(),
            dir,
        };
        // Opening makes what is missing: only what is there is opened.
        if scene.dir.join("servers").exists() {
            match Home::open(&scene.dir).and_then(|home| Ok((home.servers()?, home))) {
                Ok((profiles, home)) => {
                    for profile in profiles.into_iter().filter(|p| p.user.is_some()) {
                        scene.servers.push(Server::look(&home, profile).await);
                    }
                }
                Err(error) => scene.broken = Some(error),
            }
        }
        Ok(scene)
    }
}

impl Server {
    async fn look(home: &Home, profile: Profile) -> Self {
        let dir = home.server_dir(&profile.id);
        let kept = keep(&dir, &profile);
        let identity = kept.as_ref().ok().and_then(|kept| kept.identity.as_ref());
        let owners: Vec<OwnerKey> =
            identity.map_or_else(Vec::new, |i| i.owners().copied().collect());
        let (levels, bad_policy) = policy::load(&dir, &profile.id, &owners);
        Self {
            greeting: checkup::greet(home, &profile, GREETING).await,
            journal: journal::newest(&dir, ENTRIES),
            profile,
            kept,
            levels,
            bad_policy,
        }
    }

    /// Returns the number of drafts of handles that no running session has.
    pub(super) fn orphans(&self, sessions: &[Live]) -> Vec<(&str, u64)> {
        let waiting = self.kept.as_ref().map_or(&[][..], |kept| &kept.waiting);
        let mut orphans: Vec<_> = waiting.iter().map(|(h, n)| (h.as_str(), *n)).collect();
        orphans.retain(|(handle, _)| !sessions.iter().any(|s| s.handle() == Some(handle)));
        orphans
    }
}

fn keep(dir: &Path, profile: &Profile) -> Result<Kept, String> {
    let Some(account) = &profile.user else {
        return Ok(Kept::default());
    };
    let path = dir.join("replica.sqlite");
    checkup::kept(&path, &profile.id, &account.user_id).map_err(|e| e.to_string())
}
