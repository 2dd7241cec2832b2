//! Scratch of a review.
#![cfg(test)]
#![allow(dead_code, missing_docs)]

#[path = "it/talk.rs"]
mod talk;

use conclave_client::client::{Client, History as Past, NewChannel, Signer, Target};
use conclave_client::event::Event;
use conclave_client::keystore::MachineKeys;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{History, RemoveKind, Role, Visibility};
use conclave_proto::id::ChannelId;
use std::time::Duration;
use talk::{Machine, World, name};
use tokio::sync::mpsc;

async fn say(client: &Client, channel: ChannelId, text: &str) {
    let sent = client.send(Target::Channel(channel), &Body::text(text), 0, false).await.unwrap();
    assert!(sent.stored.is_some(), "{text}");
}

/// Everything of interest for `secs`, or until `end` is heard.
async fn log(events: &mut mpsc::Receiver<Event>, secs: u64, end: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let all = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Message(m) => {
                    let text = m.body.text.clone().unwrap_or_default();
                    let over = text == end;
                    seen.push(format!("say {text}"));
                    if over { return; }
                }
                Event::Notice(n) => seen.push(format!("{} {:?} {}", n.kind.as_str(), n.seq, n.text)),
                Event::Dropped { reason, .. } => seen.push(format!("dropped {reason}")),
                _ => {}
            }
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(secs), all).await);
    seen
}

fn age(machine: &Machine) {
    let id = machine.home.servers().unwrap().pop().unwrap().id;
    let file = machine.home.server_dir(&id).join("encryption.keys");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<String> = text.lines().map(|l| match l.strip_prefix("since = ") {
        Some(n) => format!("since = {}", n.parse::<u64>().unwrap() - 8 * 86_400_000),
        None => l.to_owned(),
    }).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
}

async fn renewed(machine: &Machine) {
    let id = machine.home.servers().unwrap().pop().unwrap().id;
    loop {
        let keys = MachineKeys::load(&machine.home, &id).unwrap().unwrap().encryption;
        if keys.len() == 2 && keys.last().unwrap().announced { return; }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn whisper_after_another_session_renewed() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    drop(bob.register(&world, "bob").await);
    let (a, _ae) = ada.session("api", 1).await;
    let ops = *a.create_channel(NewChannel::new(name("ops"), Visibility::Private)).await.unwrap().id();
    a.add_member(ops, &name("bob"), Role::Member, Signer::Machine).await.unwrap();
    let (b, mut be) = bob.session("web", 2).await;
    b.follow_mailbox().await.unwrap();
    let to = b.live().unwrap().path.clone();
    tokio::time::sleep(Duration::from_millis(500)).await;
    age(&bob);
    let (other, _oe) = bob.session("two", 3).await;
    renewed(&bob).await;
    other.stop().await;
    // Ada's next process has asked nobody yet; hers asks again after an hour.
    a.stop().await;
    let (a, _ae) = ada.session("api", 1).await;
    let sent = a.send(Target::Session(to), &Body::text("psst"), 0, false).await;
    println!("sent {sent:?}");
    let seen = log(&mut be, 5, "psst").await;
    println!("{seen:#?}");
    assert_eq!(seen.last().map(String::as_str), Some("say psst"));
}

#[tokio::test]
async fn channel_after_another_session_renewed() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    drop(bob.register(&world, "bob").await);
    let (a, _ae) = ada.session("api", 1).await;
    let ops = *a.create_channel(NewChannel::new(name("ops"), Visibility::Private)).await.unwrap().id();
    a.add_member(ops, &name("bob"), Role::Member, Signer::Machine).await.unwrap();
    a.follow(ops).await.unwrap();
    let (b, mut be) = bob.session("web", 2).await;
    b.follow(ops).await.unwrap();
    say(&a, ops, "one").await;
    println!("{:?}", log(&mut be, 5, "one").await);
    age(&bob);
    let (other, _oe) = bob.session("two", 3).await;
    renewed(&bob).await;
    other.stop().await;
    a.rotate(ops).await.unwrap();
    say(&a, ops, "two").await;
    let seen = log(&mut be, 12, "two").await;
    println!("{seen:#?}");
    assert_eq!(seen.last().map(String::as_str), Some("say two"));
}

#[tokio::test]
async fn channel_control_another_session_renewed() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    drop(bob.register(&world, "bob").await);
    let (a, _ae) = ada.session("api", 1).await;
    let ops = *a.create_channel(NewChannel::new(name("ops"), Visibility::Private)).await.unwrap().id();
    a.add_member(ops, &name("bob"), Role::Member, Signer::Machine).await.unwrap();
    a.follow(ops).await.unwrap();
    let (b, mut be) = bob.session("web", 2).await;
    b.follow(ops).await.unwrap();
    say(&a, ops, "one").await;
    println!("{:?}", log(&mut be, 5, "one").await);
    let (other, _oe) = bob.session("two", 3).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    other.stop().await;
    a.rotate(ops).await.unwrap();
    say(&a, ops, "two").await;
    let seen = log(&mut be, 12, "two").await;
    println!("{seen:#?}");
    assert_eq!(seen.last().map(String::as_str), Some("say two"));
}

#[tokio::test]
async fn since_join_hole() {
    let world = World::start().await;
    let (ada, bob, eve, carol) = (Machine::new(), Machine::new(), Machine::new(), Machine::new());
    for (m, u) in [(&ada, "ada"), (&bob, "bob"), (&eve, "eve"), (&carol, "carol")] {
        drop(m.register(&world, u).await);
    }
    let (a, _ae) = ada.session("api", 1).await;
    let new = NewChannel { history: History::SinceJoin, ..NewChannel::new(name("ops"), Visibility::Private) };
    let ops = *a.create_channel(new).await.unwrap().id();
    for u in ["bob", "eve"] {
        a.add_member(ops, &name(u), Role::Admin, Signer::Machine).await.unwrap();
    }
    let (b, mut be) = bob.session("web", 2).await;
    b.follow(ops).await.unwrap();
    say(&a, ops, "one").await;
    println!("{:?}", log(&mut be, 5, "one").await);
    b.stop().await;
    a.remove_member(ops, &name("eve"), RemoveKind::Kick).await.unwrap();
    say(&a, ops, "two").await;
    let (b, mut be) = bob.session("web", 2).await;
    // Bob changes the membership before it reads on, as `conclave channel add` does.
    b.rotate(ops).await.unwrap();
    b.follow(ops).await.unwrap();
    say(&a, ops, "three").await;
    let seen = log(&mut be, 8, "three").await;
    println!("{seen:#?}");
    let past = b.history(ops, Past::Last, 10).await.unwrap();
    println!("history {:?}", past.iter().map(|m| m.body.text.clone()).collect::<Vec<_>>());
    assert!(seen.iter().any(|s| s == "say two"));
}

#[tokio::test]
async fn since_join_control() {
    let world = World::start().await;
    let (ada, bob, eve, carol) = (Machine::new(), Machine::new(), Machine::new(), Machine::new());
    for (m, u) in [(&ada, "ada"), (&bob, "bob"), (&eve, "eve"), (&carol, "carol")] {
        drop(m.register(&world, u).await);
    }
    let (a, _ae) = ada.session("api", 1).await;
    let new = NewChannel { history: History::SinceJoin, ..NewChannel::new(name("ops"), Visibility::Private) };
    let ops = *a.create_channel(new).await.unwrap().id();
    for u in ["bob", "eve"] {
        a.add_member(ops, &name(u), Role::Admin, Signer::Machine).await.unwrap();
    }
    let (b, mut be) = bob.session("web", 2).await;
    b.follow(ops).await.unwrap();
    say(&a, ops, "one").await;
    println!("{:?}", log(&mut be, 5, "one").await);
    b.stop().await;
    a.remove_member(ops, &name("eve"), RemoveKind::Kick).await.unwrap();
    say(&a, ops, "two").await;
    let (b, mut be) = bob.session("web", 2).await;
    // Bob changes the membership before it reads on, as `conclave channel add` does.
    b.follow(ops).await.unwrap();
    say(&a, ops, "three").await;
    let seen = log(&mut be, 8, "three").await;
    println!("{seen:#?}");
    let past = b.history(ops, Past::Last, 10).await.unwrap();
    println!("history {:?}", past.iter().map(|m| m.body.text.clone()).collect::<Vec<_>>());
    assert!(seen.iter().any(|s| s == "say two"));
}
