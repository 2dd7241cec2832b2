//! What client and server write into their logs at the most talkative level: never a body or secret.

use super::talk::{Machine, World, name, text};
use conclave_client::client::{NewChannel, Signer, Target};
use conclave_client::event::Event;
use conclave_client::keystore::MachineKeys;
use conclave_client::onboard;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::id::Blob;
use std::fmt::Write as _;
use std::sync::mpsc::{Sender, channel};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

/// Takes everything at every level.
struct Everything(Sender<String>);

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line::default();
        span.record(&mut line);
        self.0.send(line.0).ok();
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line::default();
        values.record(&mut line);
        self.0.send(line.0).ok();
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.send(line.0).ok();
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn no_log_line_has_a_body_a_link_or_a_key() {
    let (tell, told) = channel();
    tracing::subscriber::set_global_default(Everything(tell)).expect("the only one here");
    let mut world = World::start().await;
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
    let welcome = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test");
    let owner = welcome.await.unwrap().owner.unwrap();
    let (b, mut b_events) = bob.session("web", 2).await;
    b.follow(*ops.id()).await.unwrap();
    b.follow_mailbox().await.unwrap();
    let say = |to, what: &'static str| {
        let a = a.clone();
        async move { a.send(to, &Body::text(what), 0, false).await }
    };
    let to = Target::Channel(*ops.id());
    say(to.clone(), "the-canary sings in the channel")
        .await
        .unwrap();
    let whisper = Target::Session("bob/box/web".parse().unwrap());
    say(whisper, "the-canary whispers").await.unwrap();
    let nobody = Target::Session("bob/box/none".parse().unwrap());
    assert!(say(nobody, "the-canary to nobody").await.is_err());
    let mut heard = 0;
    while heard < 2 {
        if let Event::Message(message) = b_events.recv().await.unwrap() {
            assert!(text(&message).contains("the-canary"));
            heard += 1;
        }
    }
    // A link that is spent, and a server that goes away: errors are logged, too.
    let eve = Machine::new();
    let again = onboard::redeem(&eve.home, &link, name("eve"), name("box"), "test");
    assert!(again.await.is_err());
    world.down().await;
    b.stop().await;

    let log: Vec<String> = told.try_iter().collect();
    assert!(log.len() > 10, "it is logged at all: {log:?}");
    let mut secrets = vec!["canary".to_owned()];
    let seeds = [&ada, &bob].map(|machine| {
        let id = machine.home.servers().unwrap().pop().unwrap().id;
        MachineKeys::load(&machine.home, &id)
            .unwrap()
            .unwrap()
            .signing
            .seed()
            .to_vec()
    });
    let all = seeds.into_iter().chain([
        link.secret.as_bytes().to_vec(),
        link.secret.signing_key().seed().to_vec(),
        owner.secret().seed().to_vec(),
    ]);
    for seed in all {
        let hex: String = seed.iter().map(|b| format!("{b:02x}")).collect();
        let base64 = serde_json::to_string(&Blob::from(seed.clone())).unwrap();
        let debug = format!("{seed:?}");
        secrets.extend([hex, base64.trim_matches('"').to_owned(), debug]);
    }
    for secret in &secrets {
        let found = log.iter().find(|line| line.contains(secret.as_str()));
        assert!(found.is_none(), "{found:?}");
    }
}
