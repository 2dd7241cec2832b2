//! Two machines over a real server and real sockets.

use crate::wire::Wire;
use conclave_client::ClientError;
use conclave_client::client::{Client, History, NewChannel, Session, Signer, Target};
use conclave_client::event::{Age, Event, Scope, VerifiedMessage};
use conclave_client::home::Home;
use conclave_client::onboard::{self, Welcome};
use conclave_client::origin::Origin;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{CtlBody, RemoveKind, Role, Visibility};
use conclave_proto::id::Instance;
use conclave_proto::invite::Link;
use conclave_proto::name::Name;
use conclave_proto::reject::Code;
use conclave_server::Config;
use conclave_server::config::Registration;
use std::net::SocketAddr;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A server whose data outlives it.
pub(crate) struct World {
    dir: TempDir,
    running: Option<conclave_server::Running>,
    addr: SocketAddr,
    /// The port of a wire that leads here.
    wire: Option<u16>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::starting(None).await
    }

    /// Starts one that can be reached by a wire, too.
    pub(crate) async fn start_behind(wire: &Wire) -> Self {
        let world = Self::starting(Some(wire.port())).await;
        wire.lead_to(world.addr);
        world
    }

    async fn starting(wire: Option<u16>) -> Self {
        let dir = TempDir::new().unwrap();
        let mut world = Self {
            dir,
            running: None,
            addr: "127.0.0.1:0".parse().unwrap(),
            wire,
        };
        world.up().await;
        world
    }

    pub(crate) async fn up(&mut self) {
        let mut config = Config::in_dir(self.dir.path().join("data"));
        config.listen = self.addr;
        config.registration = Registration::Open;
        config.limits.registrations_per_hour = 0;
        config.limits.sends_per_second = 0;
        config.limits.sends_per_channel_minute = 0;
        let wire = self.wire.map(|port| format!("http://127.0.0.1:{port}"));
        config.public_urls.extend(wire);
        let server = config.build().await.unwrap();
        self.addr = server.local_addr();
        self.running = Some(server.spawn());
    }

    pub(crate) async fn down(&mut self) {
        self.running.take().unwrap().shutdown().await.unwrap();
    }

    /// Returns the directory of the server's data.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes a link lead over the wire.
    pub(crate) fn over_the_wire(&self, link: &Link) -> Link {
        let port = self.wire.expect("there is a wire");
        Link {
            origin: format!("http://127.0.0.1:{port}"),
            ..link.clone()
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        format!("http://127.0.0.1:{}", self.addr.port())
            .parse()
            .unwrap()
    }
}

/// One machine of one user.
pub(crate) struct Machine {
    _dir: TempDir,
    pub(crate) home: Home,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        Self { _dir: dir, home }
    }

    pub(crate) async fn register(&self, world: &World, user: &str) -> Welcome {
        onboard::register(&self.home, &world.origin(), name(user), name("box"), "test")
            .await
            .unwrap()
    }

    pub(crate) async fn session(
        &self,
        handle: &str,
        instance: u8,
    ) -> (Client, mpsc::Receiver<Event>) {
        let profile = self.home.servers().unwrap().pop().unwrap();
        let session = Session {
            handle: name(handle),
            pinned: true,
            instance: Instance::new([instance; 16]),
            agent: "test".into(),
        };
        let (client, events) = Client::connect(&self.home, &profile, session)
            .await
            .unwrap();
        client.ready(SOON).await.unwrap();
        (client, events)
    }
}

async fn message(events: &mut mpsc::Receiver<Event>) -> VerifiedMessage {
    let next = async {
        loop {
            match events.recv().await.expect("the session goes on") {
                Event::Message(message) => return *message,
                Event::Notice(notice) => panic!("{notice:?}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, next)
        .await
        .expect("a message comes")
}

pub(crate) fn text(message: &VerifiedMessage) -> &str {
    message.body.text.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn two_machines_meet_by_an_invite_link_and_talk_both_ways() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    let (a, mut a_events) = ada.session("api", 1).await;
    let ops = a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap();
    let link = a
        .invite(*ops.id(), Role::Member, 1, 60_000, Signer::Machine)
        .await
        .unwrap();

    let welcome = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test")
        .await
        .unwrap();
    assert_eq!(welcome.channel.as_ref().map(|c| *c.id()), Some(*ops.id()));
    assert!(welcome.owner.is_some());
    let (b, mut b_events) = bob.session("web", 2).await;
    a.follow(*ops.id()).await.unwrap();
    b.follow(*ops.id()).await.unwrap();
    b.follow_mailbox().await.unwrap();

    let sent = a
        .send(
            Target::Channel(*ops.id()),
            &Body::text("hello bob"),
            0,
            true,
        )
        .await
        .unwrap();
    assert!(sent.stored.is_some());
    let heard = message(&mut b_events).await;
    assert_eq!(
        (text(&heard), heard.age, heard.human),
        ("hello bob", Age::Live, true)
    );
    assert_eq!(heard.sender.to_string(), "ada/box/api");
    assert!(heard.facts.vouched && !heard.facts.own);
    assert!(matches!(heard.scope, Scope::Channel { name: Some(n), .. } if n == name("ops")));

    b.send(
        Target::Channel(*ops.id()),
        &Body::text("hello ada"),
        1,
        false,
    )
    .await
    .unwrap();
    assert_eq!(text(&message(&mut a_events).await), "hello ada");

    a.send(
        Target::Session("bob/box/web".parse().unwrap()),
        &Body::text("psst"),
        0,
        false,
    )
    .await
    .unwrap();
    let whisper = message(&mut b_events).await;
    assert_eq!(text(&whisper), "psst");
    assert_eq!(whisper.scope, Scope::Whisper);

    let past = b.history(*ops.id(), History::Last, 10).await.unwrap();
    assert_eq!(
        past.iter().map(text).collect::<Vec<_>>(),
        ["hello bob", "hello ada"]
    );
    let unread = b.unshown(10).await.unwrap();
    assert_eq!(unread.len(), 2, "its own message is not unread");
    b.mark_shown(unread[0].log, unread[0].id).await.unwrap();
    assert_eq!(b.unshown(10).await.unwrap().len(), 1);

    // The link was for one.
    let eve = Machine::new();
    let refused = onboard::redeem(&eve.home, &link, name("eve"), name("box"), "test").await;
    assert_eq!(refused.unwrap_err().code(), Code::InviteInvalid);
}

#[tokio::test]
async fn what_was_missed_comes_once_in_order_after_the_server_was_away() {
    let mut world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    drop(bob.register(&world, "bob").await);
    let (a, _a_events) = ada.session("api", 1).await;
    let hall = a
        .create_channel(NewChannel::new(name("hall"), Visibility::Public))
        .await
        .unwrap();
    let (b, mut b_events) = bob.session("web", 2).await;
    let info = b.resolve("#hall").await.unwrap();
    b.join(info.channel).await.unwrap();
    b.follow(info.channel).await.unwrap();
    a.send(Target::Channel(*hall.id()), &Body::text("one"), 0, false)
        .await
        .unwrap();
    assert_eq!(text(&message(&mut b_events).await), "one");
    b.stop().await;

    a.send(Target::Channel(*hall.id()), &Body::text("two"), 0, false)
        .await
        .unwrap();
    world.down().await;
    let queued = a.clone();
    let id = *hall.id();
    let waiting = tokio::spawn(async move {
        queued
            .send(Target::Channel(id), &Body::text("three"), 0, false)
            .await
    });
    world.up().await;
    assert!(waiting.await.unwrap().is_ok());

    let (b, mut b_events) = bob.session("web", 2).await;
    b.follow(info.channel).await.unwrap();
    assert_eq!(text(&message(&mut b_events).await), "two");
    assert_eq!(text(&message(&mut b_events).await), "three");
    a.send(Target::Channel(id), &Body::text("four"), 0, false)
        .await
        .unwrap();
    assert_eq!(text(&message(&mut b_events).await), "four");
}

#[tokio::test]
async fn lesson_05_a_whisper_waits_for_a_session_that_is_away() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    drop(bob.register(&world, "bob").await);
    let (a, _a_events) = ada.session("api", 1).await;
    a.create_channel(NewChannel::new(name("hall"), Visibility::Public))
        .await
        .unwrap();
    let (b, _b_events) = bob.session("web", 2).await;
    let hall = b.resolve("hall").await.unwrap();
    b.join(hall.channel).await.unwrap();
    b.stop().await;
    let to = Target::Session("bob/box/web".parse().unwrap());
    a.send(to, &Body::text("when you are back"), 0, false)
        .await
        .unwrap();
    let nobody = Target::Session("bob/box/nobody".parse().unwrap());
    let refused = a
        .send(nobody, &Body::text("?"), 0, false)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);

    let (b, mut b_events) = bob.session("web", 2).await;
    b.follow_mailbox().await.unwrap();
    assert_eq!(text(&message(&mut b_events).await), "when you are back");
}

#[tokio::test]
async fn a_removed_member_can_neither_read_on_nor_send() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    drop(bob.register(&world, "bob").await);
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap();
    a.add_member(*ops.id(), &name("bob"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    let (b, mut b_events) = bob.session("web", 2).await;
    b.follow(*ops.id()).await.unwrap();
    a.remove_member(*ops.id(), &name("bob"), RemoveKind::Kick)
        .await
        .unwrap();
    let dropped =
        async { while !matches!(b_events.recv().await, Some(Event::Dropped { .. }) | None) {} };
    tokio::time::timeout(SOON, dropped)
        .await
        .expect("the subscription ends");
    let refused = b
        .send(
            Target::Channel(*ops.id()),
            &Body::text("still here"),
            0,
            false,
        )
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    let hidden = b.history(*ops.id(), History::Last, 10).await;
    assert_eq!(hidden.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn an_account_that_was_made_keeps_its_owner_key_whatever_fails_after() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap();
    let link = a
        .invite(*ops.id(), Role::Member, 1, 60_000, Signer::Machine)
        .await
        .unwrap();
    let freeze = |on| a.control(*ops.id(), CtlBody::Freeze { on }, Signer::Machine);
    freeze(true).await.unwrap();
    let failed = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test").await;
    let Err(ClientError::Unsettled { cause, owner, .. }) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(cause.code(), Code::Frozen);
    freeze(false).await.unwrap();
    let welcome = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test")
        .await
        .unwrap();
    assert!(welcome.owner.is_none() && welcome.channel.is_some());
    let identity = welcome.client.own_identity().await.unwrap();
    assert!(identity.is_owner(&owner.secret().owner_key()));
}

#[tokio::test]
async fn only_an_account_that_was_never_confirmed_is_made_again() {
    let mut world = World::start().await;
    let bob = Machine::new();
    drop(bob.register(&world, "bob").await);
    let settled = bob.home.servers().unwrap().pop().unwrap();
    let account = settled.user.clone().unwrap();
    assert!(!account.unsettled);
    // The server has forgotten everybody and kept its key.
    world.down().await;
    for file in ["conclave.db", "conclave.db-wal", "conclave.db-shm"] {
        std::fs::remove_file(world.dir.path().join("data").join(file)).ok();
    }
    world.up().await;
    let origin = world.origin();
    let again = || onboard::register(&bob.home, &origin, name("bob"), name("box"), "test");
    assert_eq!(again().await.unwrap_err().code(), Code::NameTaken);
    let mut asked = settled.clone();
    asked.user.as_mut().unwrap().unsettled = true;
    bob.home.save(&asked).unwrap();
    let made = again().await.unwrap();
    assert!(made.owner.is_some());
    let now = bob.home.servers().unwrap().pop().unwrap().user.unwrap();
    assert!(!now.unsettled && now.user_id != account.user_id);
}
