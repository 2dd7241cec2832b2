//! A server that lies about counters, clocks, keys and news: it gains nothing, and stops nobody.

use super::scene::{CHANNEL, LOG, Scene, adds, creates, head, kinds, say, says, texts};
use crate::talk::name;
use conclave_client::client::{History as Past, NewChannel, Target};
use conclave_client::event::NoticeKind;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{History, Mode, Role, Visibility};
use conclave_proto::entry::{Entry, EntryBody, Header};
use conclave_proto::frame::Outcome;
use conclave_proto::frame::event::{EpochOf, Event as Told};
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{Appended, EntryPage, Reply};
use conclave_proto::id::ChannelId;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::{Asked, Room, Script, Settings, ctl, env, now};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const fn taken(seq: u64, at: UnixMs) -> Outcome {
    let dup = false;
    Outcome::Ok(Reply::Appended(Appended { seq, at, dup }))
}

/// A message that the server takes and throws away keeps its number: the others miss it.
#[tokio::test]
async fn the_server_cannot_make_a_sender_count_again() {
    let mut scene = Scene::following().await;
    let mut asked_for = 0;
    let lie = move |asked: Asked<'_>| match asked.op {
        Op::Append(_) => {
            asked_for += 1;
            match asked_for {
                // The second one is taken and thrown away.
                1 | 2 => Some(taken(2 + asked_for, UnixMs(1))),
                3 => {
                    let mut reject = Reject::new(Code::CounterGap, "no");
                    reject.expected = Some(2);
                    Some(Outcome::Err(reject))
                }
                _ => Some(taken(4, UnixMs(1))),
            }
        }
        _ => None,
    };
    scene.liar.tell(move |s| s.lie(lie)).await;
    for text in ["one", "two"] {
        assert!(say(&scene.bob, CHANNEL, text).await.is_some());
    }
    // Whether it is refused or said by a new count does not matter here.
    let body = Body::text("three");
    let third = scene.bob.send(Target::Channel(CHANNEL), &body, 0, false);
    drop(third.await);
    scene.refused(NoticeKind::ServerFork).await;
    assert!(say(&scene.bob, CHANNEL, "four").await.is_some());
    let said = |s: &mut Script| -> Vec<_> {
        let envs = s.asked.iter().filter_map(|(_, op)| match op {
            Op::Append(op) => Some(&op.env),
            _ => None,
        });
        envs.map(|env| {
            let header = Header::parse(&env.header).unwrap();
            let text = Body::parse(&env.ct).unwrap().text.unwrap();
            ((*header.sid.as_bytes(), header.ctr), text)
        })
        .collect()
    };
    let mut numbers = HashMap::new();
    for (number, text) in scene.liar.ask(said).await {
        let other = numbers.insert(number, text.clone());
        assert!(
            other.as_ref().is_none_or(|other| *other == text),
            "{other:?} and {text} have one number"
        );
    }
}

/// Keeps a channel's control records as a server does whose clock shows `clock`.
fn keeps(mut log: Vec<Entry>, clock: fn() -> UnixMs) -> impl FnMut(Asked<'_>) -> Option<Outcome> {
    for entry in &mut log {
        entry.at = clock();
    }
    move |asked| match asked.op {
        Op::CtlFetch(op) => {
            let head = log.last().map_or(0, |entry| entry.seq);
            let entries = log.iter().filter(|e| e.seq > op.after).cloned().collect();
            Some(Outcome::Ok(Reply::Page(EntryPage {
                entries,
                gap: None,
                next: head,
                head,
            })))
        }
        Op::CtlAppend(op) => {
            let seq = log.last().map_or(0, |entry| entry.seq) + 1;
            let (at, body) = (clock(), EntryBody::Ctl(op.rec.clone()));
            log.push(Entry { seq, at, body });
            Some(taken(seq, at))
        }
        _ => None,
    }
}

/// Returns how many control records and messages were sent.
async fn sent(scene: &Scene) -> (usize, usize) {
    let count = |s: &mut Script| {
        let of = |is: fn(&Op) -> bool| s.asked.iter().filter(|(_, op)| is(op)).count();
        (
            of(|op| matches!(op, Op::CtlAppend(_))),
            of(|op| matches!(op, Op::Append(_))),
        )
    };
    scene.liar.ask(count).await
}

/// Where no epoch is ever young, by the server's clock, one is made for what is said, and not for ever.
#[tokio::test]
async fn a_wrong_clock_of_the_server_does_not_make_a_sender_rotate_for_ever() {
    let scene = Scene::new().await;
    let mine = scene.mine().await;
    let first = creates(&scene.ada, CHANNEL, Mode::E2e);
    let add = adds(&scene.ada, CHANNEL, head(0, &first), &mine, Role::Member);
    let lie = keeps(vec![ctl(1, &first), ctl(2, &add)], || UnixMs(1));
    scene.liar.tell(move |s| s.lie(lie)).await;
    assert!(say(&scene.bob, CHANNEL, "hi").await.is_some());
    let (epochs, messages) = sent(&scene).await;
    assert!((1..=2).contains(&epochs), "{epochs} epochs");
    assert_eq!(messages, 1);
}

/// A channel made at a server whose clock is right, and at one that is days behind.
#[tokio::test]
async fn clocks_apart_hinder_nobody_from_talking() {
    let clocks: [fn() -> UnixMs; 2] = [now, || UnixMs(now().0 - 8 * 24 * 60 * 60 * 1000)];
    for (clock, most) in clocks.into_iter().zip([0, 1]) {
        let scene = Scene::new().await;
        let lie = keeps(Vec::new(), clock);
        scene.liar.tell(move |s| s.lie(lie)).await;
        let new = NewChannel::new(name("hall"), Visibility::Private);
        let made = *scene.bob.create_channel(new).await.unwrap().id();
        let (before, _) = sent(&scene).await;
        assert!(say(&scene.bob, made, "hi").await.is_some());
        let (epochs, messages) = sent(&scene).await;
        assert!(epochs - before <= most, "{} epochs more", epochs - before);
        assert_eq!(messages, 1);
    }
}

/// A page of the past in another order is not shown as it is.
#[tokio::test]
async fn the_past_keeps_a_senders_order() {
    let scene = Scene::new().await;
    let ada = scene.ada.clone();
    let entries = vec![
        env(3, says(&ada, 2, "no")),
        env(4, says(&ada, 1, "deploy?")),
    ];
    scene.shows_past(entries).await;
    let past = scene
        .bob
        .history(CHANNEL, Past::After(2), 10)
        .await
        .unwrap();
    assert_ne!(texts(&past), ["no", "deploy?"]);
}

/// Events about channels that nobody here knows are no reason to ask anything.
#[tokio::test]
async fn news_of_unknown_channels_are_nothing() {
    let mut scene = Scene::following().await;
    let before = scene.liar.ask(|s| s.asked.len()).await;
    for n in 100..250u8 {
        let channel = ChannelId::new([n; 16]);
        let news = Told::Keys(EpochOf { channel, e: 1 });
        scene.liar.event(news).await;
    }
    let good = env(3, says(&scene.ada, 1, "good"));
    scene.liar.push(LOG, vec![good]).await;
    assert!(scene.until("good").await.is_empty());
    // What an errand for them would ask comes before the answer to a later question.
    scene.bob.channel(CHANNEL).await.unwrap();
    let words = move |s: &mut Script| -> Vec<String> {
        let after = s.asked.iter().skip(before);
        after.map(|(_, op)| op.word().to_owned()).collect()
    };
    assert_eq!(scene.liar.ask(words).await, ["ctl_fetch"]);
}

/// One question for a key that fails does not stop a feed, and what came meanwhile is not lost.
#[tokio::test]
async fn a_feed_whose_key_could_not_be_fetched_once_goes_on() {
    let mut scene = Scene::new().await;
    let mine = scene.mine().await;
    let settings = Settings {
        mode: Mode::E2e,
        history: History::SinceJoin,
        name: "ops",
        topic: None,
    };
    let ada = scene.ada.clone();
    let mut room = Room::new(8, &ada, settings);
    room.add(&ada, &mine, Role::Member);
    room.rotate(&ada);
    let copy = room.clone();
    scene.liar.tell(move |s| s.keep(&copy)).await;
    scene.bob.follow(room.id).await.unwrap();
    scene.liar.followed().await;
    room.says(&ada, 1, "one");
    let copy = room.clone();
    scene.liar.tell(move |s| s.update(&copy)).await;
    assert!(scene.until("one").await.is_empty());

    let failed = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failed);
    let lie = move |asked: Asked<'_>| match asked.op {
        Op::WrapFetch(_) if !fails.swap(true, Ordering::SeqCst) => {
            let reject = Reject::new(Code::Internal, "the disk is slow");
            Some(Outcome::Err(reject))
        }
        _ => None,
    };
    scene.liar.tell(move |s| s.lie(lie)).await;
    room.rotate(&ada);
    room.says(&ada, 2, "two");
    room.rotate(&ada);
    room.says(&ada, 3, "three");
    let copy = room.clone();
    scene.liar.tell(move |s| s.update(&copy)).await;
    let asked = Arc::clone(&failed);
    let what = "it asks for the key";
    scene
        .liar
        .until(what, move |_| asked.load(Ordering::SeqCst))
        .await;
    room.says(&ada, 4, "four");
    let copy = room.clone();
    scene.liar.tell(move |s| s.update(&copy)).await;
    // It may be told to wait; nothing is unreadable, and nothing is missing.
    for text in ["two", "three", "four"] {
        let seen = kinds(&scene.until(text).await);
        let pending = |kind: &NoticeKind| *kind == NoticeKind::KeysPending;
        assert!(seen.iter().all(pending), "{text}: {seen:?}");
    }
}
