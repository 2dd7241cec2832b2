//! Opens what a session needs, when it first needs it: the state directory, and a session on each
//! server. One server under two URLs is one server: its key says so.

use crate::fabric::{Event, Fabric};
use crate::remote::{Parts, Remote};
use crate::session::Opener;
use crate::state::HomeId;
use conclave_client::client::{Client, SessionSpec};
use conclave_client::error::ClientError;
use conclave_client::home::{Home, ServerEntry};
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tokio::sync::mpsc;

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
}

impl BridgeConfig {
    /// Returns what opens the servers when the host is ready.
    #[must_use]
    pub fn opener(self) -> Opener {
        Box::new(move |events| {
            Box::pin(async move { self.open(events).await.map_err(|error| error.to_reject()) })
        })
    }

    async fn open(
        self,
        sender: mpsc::Sender<(HomeId, Event)>,
    ) -> Result<Vec<Box<dyn Fabric>>, ClientError> {
        let home = Home::open(&self.home)?;
        let mut fabrics: Vec<Box<dyn Fabric>> = Vec::new();
        let mut failure = None;
        for entry in self.entries(&home)? {
            let spec = SessionSpec {
                handle: self.handle.clone(),
                pinned: self.pinned,
                agent: self.agent.clone(),
            };
            match Client::connect(&home, &entry, spec).await {
                Ok((client, events)) => {
                    let parts = Parts {
                        home: HomeId(fabrics.len()),
                        client,
                        events,
                        name: entry.name(),
                        url: entry.urls.first().cloned().unwrap_or_default(),
                        dir: entry.dir.path().to_owned(),
                        channels: self.channels.clone(),
                    };
                    fabrics.push(Box::new(Remote::start(parts, sender.clone()).await));
                }
                Err(error) => {
                    tracing::error!(server = %entry.server_id, %error, "no session on this server");
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if fabrics.is_empty() => Err(error),
            _ => Ok(fabrics),
        }
    }

    /// Returns the servers meant, each once.
    fn entries(&self, home: &Home) -> Result<Vec<ServerEntry>, ClientError> {
        let mut entries = Vec::new();
        if self.servers.is_empty() {
            entries.extend(
                home.servers()?
                    .into_iter()
                    .filter(|entry| entry.account.is_some()),
            );
        }
        for text in &self.servers {
            let found = home.find(Some(text))?;
            if found.is_empty() {
                return Err(ClientError::NotFound {
                    what: "server",
                    name: text.clone(),
                });
            }
            entries.extend(found);
        }
        let mut seen = BTreeSet::new();
        entries.retain(|entry| seen.insert(entry.server_id));
        if entries.is_empty() {
            let text =
                "this machine has no account on any server: run `conclave up` or `conclave join`";
            return Err(Reject::new(Code::UnknownKey, text).into());
        }
        Ok(entries)
    }
}
