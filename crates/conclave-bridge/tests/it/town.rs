//! A real server, people with machines, and whole bridges driven as the host does.

use crate::wire::{TIMEOUT, Wire};
use conclave_bridge::policy::Policy;
use conclave_bridge::remote::Given;
use conclave_bridge::tool::Sets;
use conclave_bridge::{BridgeConfig, StartError, files, run_with};
use conclave_client::client::{Client, Session};
use conclave_client::home::Home;
use conclave_client::onboard::{self, Welcome};
use conclave_client::origin::Origin;
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;
use conclave_server::Config;
use conclave_server::config::{Registration, Span};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A server whose data outlives it.
pub(crate) struct Town {
    dir: TempDir,
    running: Option<conclave_server::Running>,
    pub(crate) addr: SocketAddr,
    /// How long whispers wait.
    kept: Span,
}

impl Town {
    pub(crate) async fn new() -> Self {
        Self::keeping(Config::in_dir(PathBuf::new()).whisper_retention).await
    }

    /// A server that keeps whispers so long.
    pub(crate) async fn keeping(kept: Span) -> Self {
        let dir = TempDir::new().unwrap();
        let addr = "127.0.0.1:0".parse().unwrap();
        let mut town = Self {
            dir,
            running: None,
            addr,
            kept,
        };
        town.up().await;
        town
    }

    pub(crate) async fn up(&mut self) {
        let mut config = Config::in_dir(self.dir.path().join("data"));
        config.listen = self.addr;
        config.whisper_retention = self.kept;
        config.registration = Registration::Open;
        config.limits.registrations_per_hour = 0;
        config.limits.sends_per_second = 0;
        config.limits.sends_per_channel_minute = 0;
        let server = config.build().await.unwrap();
        self.addr = server.local_addr();
        self.running = Some(server.spawn());
    }

    pub(crate) async fn down(&mut self) {
        let running = self.running.take().unwrap();
        running.shutdown().await.unwrap();
    }

    /// Returns whether any file of the server holds a text.
    pub(crate) fn stores(&self, text: &str) -> bool {
        let files = std::fs::read_dir(self.dir.path().join("data")).unwrap();
        let holds = |path: PathBuf| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        files.map(|file| file.unwrap().path()).any(holds)
    }

    pub(crate) fn origin(&self) -> Origin {
        format!("http://{}", self.addr).parse().unwrap()
    }

    /// A machine with an account, and the policy that a human signs first.
    pub(crate) async fn person(&self, user: &str) -> Person {
        let person = Person::nobody();
        person.register(self, user).await;
        person
    }

    /// Alice and bob, both in #ops, each with a bridge.
    pub(crate) async fn pair(&self) -> (Person, Person, Bridge, Bridge) {
        let (alice, bob) = (self.person("alice").await, self.person("bob").await);
        let (mut a, mut b) = (alice.bridge("api").await, bob.bridge("web").await);
        let ops = json!({"name": "ops", "visibility": "public"});
        a.done("create_channel", ops).await;
        b.done("join_channel", json!({"channel": "#ops"})).await;
        (alice, bob, a, b)
    }
}

/// One machine of one user.
pub(crate) struct Person {
    dir: TempDir,
    pub(crate) home: Home,
}

impl Person {
    pub(crate) fn nobody() -> Self {
        let dir = TempDir::new().unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        Self { dir, home }
    }

    pub(crate) async fn register(&self, town: &Town, user: &str) {
        let origin = town.origin();
        let made = onboard::register(&self.home, &origin, name(user), name("box"), "test").await;
        self.settle(made.unwrap()).await;
    }

    pub(crate) async fn settle(&self, welcome: Welcome) {
        let id = welcome.profile.id;
        let policy = Policy::first(id, UnixMs(1));
        let signed = policy.sign(welcome.owner.unwrap().secret()).unwrap();
        files::keep_policy(&self.home.server_dir(&id), &signed).unwrap();
        welcome.client.stop().await;
    }

    /// A session of the command line.
    pub(crate) async fn one_shot(&self) -> Client {
        let profile = self.home.servers().unwrap().pop().unwrap();
        let session = Session::one_shot("test").unwrap();
        let (client, _events) = Client::connect(&self.home, &profile, session)
            .await
            .unwrap();
        client.ready(TIMEOUT).await.unwrap();
        client
    }

    pub(crate) async fn bridge(&self, handle: &str) -> Bridge {
        self.bridge_at(handle, &[]).await
    }

    pub(crate) async fn bridge_at(&self, handle: &str, servers: &[String]) -> Bridge {
        self.bridge_given(handle, servers, Given::default()).await
    }

    /// A bridge that was given a role and groups.
    pub(crate) async fn bridge_given(
        &self,
        handle: &str,
        servers: &[String],
        given: Given,
    ) -> Bridge {
        let config = BridgeConfig {
            home: self.dir.path().join("home"),
            servers: servers.to_vec(),
            channels: Vec::new(),
            handle: name(handle),
            pinned: false,
            agent: "test".into(),
            sets: Sets::default(),
            given,
            minute: None,
        };
        let (mut wire, input, output) = Wire::new();
        let closed = CancellationToken::new();
        let task = tokio::spawn(run_with(
            config.setup(),
            config.opener(),
            input,
            output,
            closed,
        ));
        wire.greet().await;
        Bridge { wire, task }
    }
}

/// A running bridge, and its host.
pub(crate) struct Bridge {
    wire: Wire,
    pub(crate) task: JoinHandle<Result<(), StartError>>,
}

impl Deref for Bridge {
    type Target = Wire;
    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Bridge {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Bridge {
    /// Calls a tool that must succeed.
    pub(crate) async fn done(&mut self, tool: &str, args: Value) -> (Value, String) {
        let (facts, text, failed) = self.call(tool, args).await;
        assert!(!failed, "{tool}: {facts}");
        (facts, text)
    }

    /// Says something in #ops; it must be stored.
    pub(crate) async fn say(&mut self, text: &str) {
        let args = json!({"channel": "ops", "text": text});
        let (facts, _) = self.done("send_channel", args).await;
        assert_eq!(facts["status"], "stored", "{facts}");
    }

    /// Waits for the next message that is pushed: its attributes and its content.
    pub(crate) async fn hear(&mut self) -> (Value, String) {
        loop {
            let push = self.push().await;
            let params = &push["params"];
            if push["method"] == "notifications/claude/channel"
                && params["meta"]["kind"] != "system"
            {
                let content = params["content"].as_str().unwrap().to_owned();
                return (params["meta"].clone(), content);
            }
        }
    }

    /// Asks until the facts fit.
    pub(crate) async fn until(&mut self, tool: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let asked = async {
            loop {
                let (facts, ..) = self.call(tool, json!({})).await;
                if fits(&facts) {
                    return facts;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, asked).await.unwrap()
    }

    pub(crate) async fn you(&mut self) -> String {
        let (facts, _) = self.done("list_channels", json!({})).await;
        facts["servers"][0]["you"].as_str().unwrap().to_owned()
    }

    /// The host goes.
    pub(crate) async fn end(mut self) {
        self.hang_up().await;
        let ended = tokio::time::timeout(TIMEOUT, self.task).await;
        ended.unwrap().unwrap().unwrap();
    }
}
