//! Opens what a session needs, when it first needs it: the state directory, and a session on each
//! server. One server under two URLs is one server: its key says so.

use crate::fabric::{Event, Fabric};
use crate::files;
use crate::remote::{Given, Parts, Remote};
use crate::session::{MinuteOf, Opener, Setup};
use crate::state::HomeId;
use crate::tool::Sets;
use crate::wake::inbox::FromHost;
use conclave_client::client::{Client, Session};
use conclave_client::error::ClientError;
use conclave_client::home::{Home, Profile};
use conclave_client::instance::Claim;
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Where the claims on handles are, in a server's directory.
pub const SESSIONS: &str = "sessions";

/// What a bridge is started with.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// The state directory.
    pub home: PathBuf,
    /// The servers to connect with, by URL, name or id; empty: all that this machine has an account on.
    pub servers: Vec<String>,
    /// The channels to follow, the first is home; empty: every one the user is a member of.
    pub channels: Vec<Name>,
    /// The session's handle.
    pub handle: Name,
    /// Whether the user chose the handle: then a collision is refused instead of numbered.
    pub pinned: bool,
    /// Program and version.
    pub agent: String,
    /// The toolsets on offer.
    pub sets: Sets,
    /// What the session is, and the groups it carries in its home channel.
    pub given: Given,
    /// Tells the minute of the day, for quiet hours; none: by UTC.
    pub minute: Option<MinuteOf>,
}

impl BridgeConfig {
    /// Returns what the user chose for the session itself.
    #[must_use]
    pub fn setup(&self) -> Setup {
        Setup {
            channel: self.channels.first().cloned(),
            sets: self.sets,
            home: Some(self.home.clone()),
            from_host: FromHost::of_this_process(),
            relays: self.names_approvers(),
            minute: self.minute,
        }
    }

    /// Returns whether a policy here names approvers, signed or not: the host must be told before anything is
    /// opened, and a policy without a valid signature lets nobody decide all the same.
    fn names_approvers(&self) -> bool {
        let Ok(servers) = Home::open(&self.home).and_then(|home| Ok((home.servers()?, home)))
        else {
            return false;
        };
        let (servers, home) = servers;
        let named = |server: &Profile| files::names_approvers(&home.server_dir(&server.id));
        servers.iter().any(named)
    }

    /// Returns what opens the servers when the host is ready.
    #[must_use]
    pub fn opener(self) -> Opener {
        let config = Arc::new(self);
        Box::new(move |events| {
            let config = Arc::clone(&config);
            Box::pin(async move { config.open(events).await.map_err(|error| error.to_reject()) })
        })
    }

    async fn open(
        &self,
        sender: mpsc::Sender<(HomeId, Event)>,
    ) -> Result<Vec<Box<dyn Fabric>>, ClientError> {
        let home = Home::open(&self.home)?;
        let mut parts = Vec::new();
        let mut failure = None;
        for profile in self.profiles(&home)? {
            match self.connect(&home, &profile, HomeId(parts.len())).await {
                Ok(connected) => parts.push(connected),
                Err(error) => {
                    tracing::error!(server = %profile.id, %error, "no session on this server");
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if parts.is_empty() => return Err(error),
            _ => {}
        }
        // All at once: each waits a moment for its connection.
        let starting: Vec<_> = parts
            .into_iter()
            .map(|parts| tokio::spawn(Remote::start(parts, sender.clone())))
            .collect();
        let mut fabrics: Vec<Box<dyn Fabric>> = Vec::new();
        for started in starting {
            let ended = |_| Reject::new(Code::Internal, "a server's task ended");
            fabrics.push(Box::new(started.await.map_err(ended)?));
        }
        Ok(fabrics)
    }

    async fn connect(
        &self,
        home: &Home,
        profile: &Profile,
        place: HomeId,
    ) -> Result<Parts, ClientError> {
        let dir = home.server_dir(&profile.id).join(SESSIONS);
        let claim = Claim::take(&dir, &self.handle, self.pinned)
            .map_err(|error| Reject::new(Code::Internal, error.to_string()))?;
        let session = Session {
            handle: claim.handle.clone(),
            pinned: self.pinned,
            instance: claim.instance,
            agent: self.agent.clone(),
        };
        let (client, events) = Client::connect(home, profile, session).await?;
        Ok(Parts {
            home: place,
            client,
            events,
            claim,
            name: name(profile),
            files: home.clone(),
            channels: self.channels.clone(),
            given: self.given.clone(),
        })
    }

    /// Returns the servers meant, each once.
    fn profiles(&self, home: &Home) -> Result<Vec<Profile>, ClientError> {
        let known = home.servers()?;
        let mut meant: Vec<Profile> = Vec::new();
        if self.servers.is_empty() {
            meant.extend(known.into_iter().filter(|profile| profile.user.is_some()));
        } else {
            for text in &self.servers {
                let before = meant.len();
                meant.extend(
                    known
                        .iter()
                        .filter(|profile| is_meant(profile, text))
                        .cloned(),
                );
                if meant.len() == before {
                    let name = text.clone();
                    return Err(ClientError::NotFound {
                        what: "server",
                        name,
                    });
                }
            }
        }
        let mut seen = BTreeSet::new();
        meant.retain(|profile| seen.insert(profile.id));
        if meant.is_empty() {
            let text =
                "this machine has no account on any server: run `conclave up` or `conclave join`";
            return Err(Reject::new(Code::UnknownKey, text).into());
        }
        Ok(meant)
    }
}

/// What to call a server: the URL it is reached by, without its scheme.
fn name(profile: &Profile) -> String {
    let url = profile.urls.first().map_or("", String::as_str);
    let name = url.split_once("://").map_or(url, |(_, host)| host);
    match name.is_empty() {
        true => profile.id.to_string(),
        false => name.to_owned(),
    }
}

fn is_meant(profile: &Profile, text: &str) -> bool {
    let text = text.trim_end_matches('/');
    profile.id.to_string() == text
        || name(profile) == text
        || profile
            .urls
            .iter()
            .any(|url| url.trim_end_matches('/') == text)
}
