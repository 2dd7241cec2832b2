//! Scratch of a review.
#![cfg(test)]
#![allow(dead_code, missing_docs)]

#[path = "it/talk.rs"]
mod talk;

use conclave_client::client::{Client, NewChannel, Session, Signer, Target};
use conclave_client::event::Event;
use conclave_client::onboard;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{Role, Visibility};
use std::time::Duration;
use talk::{Machine, SOON, World, name};
use tokio::sync::mpsc;

async fn one_shot(m: &Machine) -> (Client, mpsc::Receiver<Event>) {
    let profile = m.home.servers().unwrap().pop().unwrap();
    let (c, e) = Client::connect(&m.home, &profile, Session::one_shot("test").unwrap()).await.unwrap();
    c.ready(SOON).await.unwrap();
    (c, e)
}

async fn log(events: &mut mpsc::Receiver<Event>, secs: u64) -> Vec<String> {
    let mut seen = Vec::new();
    let all = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Message(m) => seen.push(format!("say {:?}", m.body.text)),
                Event::Notice(n) => seen.push(format!("{} {}", n.kind.as_str(), n.text)),
                _ => {}
            }
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(secs), all).await);
    seen
}

/// Two one-shots of a machine, one draft that waits for a key.
#[tokio::test]
async fn shared_draft() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    let (a, _ae) = ada.session("api", 1).await;
    let ops = *a.create_channel(NewChannel::new(name("ops"), Visibility::Private)).await.unwrap().id();
    let link = a.invite(ops, Role::Member, 1, 60_000, Signer::Machine).await.unwrap();
    a.rotate(ops).await.unwrap();
    a.stop().await;
    let welcome = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test").await.unwrap();
    welcome.client.stop().await;
    let (one, mut e1) = one_shot(&bob).await;
    let body = Body::text("waiting");
    let sending = async {
        let sent = one.send(Target::Channel(ops), &body, 0, false).await;
        println!("first: {:?}", sent.map(|s| s.stored).map_err(|e| e.to_string()));
    };
    let other = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (_two, mut e2) = one_shot(&bob).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (a, mut ae) = ada.session("api", 1).await;
        a.follow(ops).await.unwrap();
        println!("ada: {:?}", log(&mut ae, 6).await);
        println!("second: {:?}", log(&mut e2, 1).await);
    };
    tokio::join!(sending, other);
    println!("first's events: {:?}", log(&mut e1, 1).await);
}
