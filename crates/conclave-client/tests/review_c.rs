//! Scratch of a review.
#![cfg(test)]
#![allow(dead_code, missing_docs)]

use conclave_client::client::{Client, NewChannel, Session, Target};
use conclave_client::event::Event;
use conclave_client::home::Home;
use conclave_client::onboard;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{History, Mode, Role, Visibility};
use conclave_proto::entry::{Entry, EntryBody};
use conclave_proto::frame::reply::{Appended, EntryPage, Reply};
use conclave_proto::frame::{Op, Outcome};
use conclave_proto::id::Instance;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

async fn session(home: &Home) -> (Client, mpsc::Receiver<Event>) {
    let profile = home.servers().unwrap().pop().unwrap();
    let session = Session { handle: name("web"), pinned: true, instance: Instance::new([2; 16]), agent: "test".into() };
    let (c, e) = Client::connect(home, &profile, session).await.unwrap();
    c.ready(SOON).await.unwrap();
    (c, e)
}

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

#[tokio::test]
async fn clocks_apart() {
    for back in [0, 8] {
        let liar = Liar::start().await;
        let dir = tempfile::TempDir::new().unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        let welcome = onboard::register(&home, &liar.origin.parse().unwrap(), name("bob"), name("box"), "test").await.unwrap();
        welcome.client.stop().await;
        let ctls: Arc<Mutex<Vec<Entry>>> = Arc::default();
        let mine = Arc::clone(&ctls);
        let clock = move || UnixMs(now().0 - back * 86_400_000);
        liar.tell(move |script| script.lie(move |asked| {
            let mut all = mine.lock().unwrap();
            match asked.op {
                Op::CtlAppend(op) => {
                    let seq = all.len() as u64 + 1;
                    let at = clock();
                    all.push(Entry { seq, at, body: EntryBody::Ctl(op.rec.clone()) });
                    Some(Outcome::Ok(Reply::Appended(Appended { seq, at, dup: false })))
                }
                Op::CtlFetch(op) => {
                    let head = all.len() as u64;
                    let entries = all.iter().filter(|e| e.seq > op.after).cloned().collect();
                    Some(Outcome::Ok(Reply::Page(EntryPage { entries, gap: None, next: head, head })))
                }
                _ => None,
            }
        })).await;
        let (bob, _events) = session(&home).await;
        let ops = *bob.create_channel(NewChannel::new(name("ops"), Visibility::Private)).await.unwrap().id();
        let before = ctls.lock().unwrap().len();
        let sent = bob.send(Target::Channel(ops), &Body::text("hi"), 0, false).await;
        println!("server {back} days behind: sent {:?}, records {before} -> {}", sent.map(|s| s.stored), ctls.lock().unwrap().len());
        bob.stop().await;
    }
}

#[tokio::test]
async fn stuck_feed() {
    for lie in [false, true] {
        let mut liar = Liar::start().await;
        let ada = Person::new(liar.id, "ada", 10);
        let genesis = ada.genesis.clone();
        liar.tell(move |s| drop(s.learn(genesis))).await;
        let dir = tempfile::TempDir::new().unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        let welcome = onboard::register(&home, &liar.origin.parse().unwrap(), name("bob"), name("box"), "test").await.unwrap();
        let me = welcome.client.account().user_id;
        welcome.client.stop().await;
        let bob_log = liar.ask(move |s| s.identity(&me)).await.unwrap();
        let mut room = Room::new(7, &ada, Settings { mode: Mode::E2e, history: History::SinceJoin, name: "ops", topic: None });
        room.add(&ada, &bob_log, Role::Member);
        room.rotate(&ada);
        let copy = room.clone();
        liar.tell(move |s| s.keep(&copy)).await;
        let (bob, mut events) = session(&home).await;
        bob.follow(room.id).await.unwrap();
        liar.followed().await;
        room.says(&ada, 1, "one");
        let copy = room.clone();
        liar.tell(move |s| s.update(&copy)).await;
        println!("{:?}", log(&mut events, 5, "one").await);
        if lie {
            liar.tell(|s| {
                let mut once = false;
                s.lie(move |asked| match asked.op {
                    Op::WrapFetch(op) if op.from == 1 && !once => {
                        once = true;
                        Some(Outcome::Err(Reject::new(Code::Internal, "the disk is slow")))
                    }
                    _ => None,
                })
            }).await;
        }
        room.rotate(&ada);
        room.says(&ada, 2, "two");
        room.rotate(&ada);
        room.says(&ada, 3, "three");
        let copy = room.clone();
        liar.tell(move |s| s.update(&copy)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        room.says(&ada, 4, "four");
        let copy = room.clone();
        liar.tell(move |s| s.update(&copy)).await;
        // A reconnect does not help.
        if lie { liar.hang_up().await; }
        println!("lie {lie}: {:#?}", log(&mut events, 20, "four").await);
        bob.stop().await;
    }
}
