//! What broke in other systems of this kind, between two real processes' worth of sockets. The number
//! is the lesson's; the others are in the crates whose rule they are (`grep -rn "fn lesson_"`).

use crate::talk::{Machine, SOON, World, name, text};
use crate::wire::Wire;
use conclave_client::client::{Client, History, NewChannel, Signer, Target};
use conclave_client::event::{Event, VerifiedMessage};
use conclave_client::onboard;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::id::ChannelId;
use conclave_proto::name::SessionPath;
use std::time::Duration;
use tokio::sync::mpsc;

/// Ada and bob in a private channel; bob's packets take the wire.
struct Pair {
    world: World,
    wire: Wire,
    a: Client,
    a_events: mpsc::Receiver<Event>,
    bob: Machine,
    ops: ChannelId,
    ada: Machine,
}

impl Pair {
    async fn new() -> Self {
        let wire = Wire::new().await;
        let world = World::start_behind(&wire).await;
        let (ada, bob) = (Machine::new(), Machine::new());
        drop(ada.register(&world, "ada").await);
        let (a, a_events) = ada.session("api", 1).await;
        let ops = NewChannel::new(name("ops"), Visibility::Private);
        let ops = *a.create_channel(ops).await.unwrap().id();
        a.follow(ops).await.unwrap();
        let link = a
            .invite(ops, Role::Member, 1, 600_000, Signer::Machine)
            .await
            .unwrap();
        // The link leads over the wire; ada's own session does not.
        let link = world.over_the_wire(&link);
        let welcome = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test").await;
        welcome.unwrap().client.stop().await;
        Self {
            world,
            wire,
            a,
            a_events,
            bob,
            ops,
            ada,
        }
    }

    async fn bob(&self) -> (Client, mpsc::Receiver<Event>) {
        let (b, events) = self.bob.session("web", 2).await;
        b.follow(self.ops).await.unwrap();
        b.follow_mailbox().await.unwrap();
        (b, events)
    }

    async fn say(&self, words: &str) {
        let said = Target::Channel(self.ops);
        let sent = self.a.send(said, &Body::text(words), 0, false).await;
        assert!(sent.unwrap().stored.is_some());
    }

    async fn whisper(&self, words: &str) {
        let to: SessionPath = "bob/box/web".parse().unwrap();
        let sent = self
            .a
            .send(Target::Session(to), &Body::text(words), 0, false)
            .await;
        assert!(sent.unwrap().stored.is_some());
    }
}

/// Waits for so many messages; anything that says that something went wrong fails.
async fn take(events: &mut mpsc::Receiver<Event>, many: usize) -> Vec<VerifiedMessage> {
    let mut taken = Vec::new();
    let all = async {
        while taken.len() < many {
            match events.recv().await.expect("the session goes on") {
                Event::Message(message) => taken.push(*message),
                Event::Notice(notice) => panic!("{notice:?}"),
                _ => {}
            }
        }
    };
    let came = tokio::time::timeout(SOON, all).await;
    assert!(came.is_ok(), "{} of {many} came", taken.len());
    taken
}

async fn wait_down(events: &mut mpsc::Receiver<Event>) {
    let down = async {
        loop {
            if let Event::Down { .. } = events.recv().await.expect("the session goes on") {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, down).await.expect("it is down");
}

#[tokio::test]
async fn lesson_01_what_is_said_to_a_session_in_its_grace_is_not_lost() {
    let mut pair = Pair::new().await;
    let (b, mut events) = pair.bob().await;
    pair.wire.cut();
    wait_down(&mut events).await;
    pair.whisper("in the mailbox").await;
    pair.say("in the channel").await;
    pair.wire.mend();
    let came = take(&mut events, 2).await;
    let mut words: Vec<_> = came.iter().map(text).collect();
    words.sort_unstable();
    assert_eq!(words, ["in the channel", "in the mailbox"]);
    // Nobody saw it go, and nothing comes a second time.
    pair.say("after").await;
    assert_eq!(text(&take(&mut events, 1).await[0]), "after");
    let who = pair.a.who(Some(pair.ops)).await.unwrap();
    assert_eq!(who.len(), 2);
    while let Ok(event) = pair.a_events.try_recv() {
        assert!(
            !matches!(&event, Event::Presence(p) if !p.online),
            "{event:?}"
        );
    }
    b.stop().await;
}

#[tokio::test]
async fn lesson_02_what_was_not_confirmed_comes_again_by_itself() {
    let pair = Pair::new().await;
    let (b, mut events) = pair.bob().await;
    // The server pushes into a connection that swallows it: written, never received.
    pair.wire.silence();
    pair.whisper("into the void").await;
    pair.say("and this").await;
    pair.wire.cut();
    wait_down(&mut events).await;
    pair.wire.mend();
    // Nobody says anything more.
    let came = take(&mut events, 2).await;
    let mut words: Vec<_> = came.iter().map(text).collect();
    words.sort_unstable();
    assert_eq!(words, ["and this", "into the void"]);
    b.stop().await;
}

#[tokio::test]
async fn lesson_04_a_hundred_sends_at_once_keep_their_order() {
    let pair = Pair::new().await;
    let (b, mut events) = pair.bob().await;
    let sends: Vec<_> = (0..100)
        .map(|n| {
            let (a, ops) = (pair.a.clone(), pair.ops);
            async move {
                let body = Body::text(n.to_string());
                let sent = a.send(Target::Channel(ops), &body, 0, false).await;
                (sent.unwrap().stored.unwrap().0, n.to_string())
            }
        })
        .collect();
    // What the sender was told of each one's place is the order in which everybody gets them.
    let mut told = futures_util::future::join_all(sends).await;
    told.sort_unstable();
    let came = take(&mut events, 100).await;
    let came: Vec<_> = came.iter().map(|m| (m.seq, text(m).to_owned())).collect();
    assert_eq!(came, told);
    b.stop().await;
}

#[tokio::test]
async fn lesson_11_messages_of_one_millisecond_are_all_read() {
    let pair = Pair::new().await;
    // Several sessions at once: what they say shares the server's commits, and so its stamps.
    let mut sessions = Vec::new();
    for n in 0..8 {
        sessions.push(pair.ada.session(&format!("s{n}"), n + 10).await);
    }
    let sends = sessions.iter().enumerate().map(|(n, (session, _))| {
        let (session, ops) = (session.clone(), pair.ops);
        async move {
            for m in 0..15 {
                let body = Body::text((n * 15 + m).to_string());
                let sent = session.send(Target::Channel(ops), &body, 0, false).await;
                assert!(sent.unwrap().stored.is_some());
            }
        }
    });
    futures_util::future::join_all(sends).await;
    let (b, _events) = pair.bob().await;
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let page = b.history(pair.ops, History::After(after), 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        read.extend(page);
    }
    let mut words: Vec<u32> = read.iter().map(|m| text(m).parse().unwrap()).collect();
    words.sort_unstable();
    assert_eq!(words, (0..120).collect::<Vec<u32>>());
    let stamps: std::collections::BTreeSet<_> = read.iter().map(|m| m.at).collect();
    assert!(
        stamps.len() < read.len(),
        "some were stored in the same millisecond, else this shows nothing"
    );
    b.stop().await;
}

#[tokio::test]
async fn lesson_18_after_a_redeploy_every_session_comes_back_by_a_new_proof() {
    let mut pair = Pair::new().await;
    let mut sessions = Vec::new();
    for n in 0..10 {
        let (b, events) = pair.bob.session(&format!("s{n}"), n + 10).await;
        b.follow(pair.ops).await.unwrap();
        sessions.push((b, events));
    }
    pair.world.down().await;
    pair.world.up().await;
    pair.wire.lead_to(pair.world.addr());
    pair.a.ready(SOON).await.unwrap();
    pair.say("welcome back").await;
    for (b, events) in &mut sessions {
        assert_eq!(text(&take(events, 1).await[0]), "welcome back");
        b.stop().await;
    }
}

#[tokio::test]
async fn lesson_20_the_roster_says_who_is_cut_off_and_forgets_who_said_goodbye() {
    let pair = Pair::new().await;
    let (b, mut events) = pair.bob().await;
    pair.wire.cut();
    wait_down(&mut events).await;
    let until = |wanted: Option<bool>| {
        let (a, ops) = (pair.a.clone(), pair.ops);
        let seen = async move {
            loop {
                let who = a.who(Some(ops)).await.unwrap();
                let bob = who.into_iter().find(|s| s.path.user == name("bob"));
                if bob.map(|session| session.online) == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, seen)
    };
    until(Some(false)).await.expect("it is in its grace");
    pair.wire.mend();
    b.ready(SOON).await.unwrap();
    until(Some(true)).await.expect("it is back");
    b.stop().await;
    until(None).await.expect("it said goodbye: no grace");
}
