//! A channel that a real client made, and raw peers of the same machine in it.

use crate::peer::Account;
use conclave_client::client::{Client, NewChannel, Session};
use conclave_client::event::Event;
use conclave_client::home::Home;
use conclave_client::keystore::MachineKeys;
use conclave_client::onboard;
use conclave_client::replica::Replica;
use conclave_proto::channel_log::Visibility;
use conclave_proto::id::{ChannelId, Instance, LogId};
use conclave_proto::name::Name;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

const UP: Duration = Duration::from_secs(20);

/// See the module.
pub(crate) struct Room {
    dir: TempDir,
    addr: SocketAddr,
    pub(crate) channel: ChannelId,
}

impl Room {
    /// Registers a user with a real client and makes a channel: private and `e2e`, or public and `signed`.
    pub(crate) async fn make(addr: SocketAddr, user: &str, visibility: Visibility) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = Home::open(&dir.path().join("home")).expect("a home");
        let origin = format!("http://{addr}").parse().expect("an origin");
        let name = |text: &str| text.parse::<Name>().expect("a plain name");
        let made = onboard::register(&home, &origin, name(user), name("box"), "bench").await;
        let welcome = made.expect("the server is open");
        let new = NewChannel::new(name("hall"), visibility);
        let channel = welcome.client.create_channel(new).await;
        let channel = *channel.expect("a new channel").id();
        welcome.client.stop().await;
        Self { dir, addr, channel }
    }

    /// Returns what raw peers of the same machine need.
    pub(crate) async fn account(&self) -> Account {
        let home = self.home("home");
        let id = home
            .servers()
            .expect("a list")
            .pop()
            .expect("one server")
            .id;
        let keys = MachineKeys::load(&home, &id).expect("readable keys");
        let keys = keys.expect("this machine has keys");
        let replica = self.replica("home").await;
        let key = replica.channel_keys(Some(self.channel)).await;
        Account {
            addr: self.addr,
            machine: Arc::new(keys.signing),
            channel: self.channel,
            key: key.expect("readable keys").pop().map(Arc::new),
        }
    }

    /// Copies everything the machine knows now.
    pub(crate) fn copy(&self, to: &str) {
        copy(&self.dir.path().join("home"), &self.dir.path().join(to));
    }

    fn home(&self, at: &str) -> Home {
        Home::open(&self.dir.path().join(at)).expect("a home")
    }

    async fn replica(&self, at: &str) -> Replica {
        let home = self.home(at);
        let id = home
            .servers()
            .expect("a list")
            .pop()
            .expect("one server")
            .id;
        let path = home.server_dir(&id).join("replica.sqlite");
        Replica::open(&path).await.expect("a replica")
    }

    /// Lets a handle of a copy follow the channel from its first entry.
    pub(crate) async fn start_over(&self, at: &str, handle: &str) {
        let (handle, log) = (
            handle.parse().expect("a name"),
            LogId::Channel(self.channel),
        );
        let started = self.replica(at).await.start_feed(handle, log, 0).await;
        started.expect("a feed");
    }

    /// Opens a session with what a copy knows; live when this returns.
    pub(crate) async fn session(
        &self,
        at: &str,
        handle: &str,
        instance: u8,
    ) -> (Client, mpsc::Receiver<Event>) {
        let home = self.home(at);
        let profile = home.servers().expect("a list").pop().expect("one server");
        let session = Session {
            handle: handle.parse().expect("a name"),
            pinned: true,
            instance: Instance::new([instance; 16]),
            agent: "bench".into(),
        };
        let (client, events) = Client::connect(&home, &profile, session)
            .await
            .expect("a session");
        client.ready(UP).await.expect("the server answers");
        (client, events)
    }
}

fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::create_dir_all(to).expect("a directory");
    std::fs::set_permissions(to, private).expect("its owner may");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a readable directory");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a kind of file").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}
