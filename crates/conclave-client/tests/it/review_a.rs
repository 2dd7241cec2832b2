//! Attacks on the sealed client: each test says what should hold.

use super::scene::{CHANNEL, LOG, Scene, said, says, session};
use crate::talk::{Machine, SOON, World, name};
use conclave_client::client::{Client, History as Past, NewChannel, Signer, Target};
use conclave_client::event::Event;
use conclave_client::onboard;
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{CtlBody, History, Mode, RemoveKind, Role, Visibility};
use conclave_proto::entry::{Entry, EntryBody, Header};
use conclave_proto::frame::Outcome;
use conclave_proto::frame::event::{EpochOf, Event as Told};
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{Appended, EntryPage, Reply};
use conclave_proto::id::ChannelId;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::{Person, ctl, env};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn create(by: &Person, mode: Mode) -> conclave_proto::record::Record {
    let body = CtlBody::Create {
        mode,
        visibility: Visibility::Private,
        history: History::Full,
        name: (mode == Mode::Signed).then(|| name("ops")),
        topic: None,
        limits: None,
    };
    by.ctl(CHANNEL, None, body)
}

fn head(n: u64, rec: &conclave_proto::record::Record) -> Head {
    Head {
        n,
        hash: rec.hash(),
    }
}

async fn say(client: &Client, channel: ChannelId, text: &str) -> Option<u64> {
    let body = Body::text(text);
    let sent = client.send(Target::Channel(channel), &body, 0, false).await;
    sent.unwrap().stored.map(|(seq, _)| seq)
}

/// A: the pin of a channel goes when the server shows one record at two places.
#[tokio::test]
async fn a_record_at_two_places_does_not_unpin_the_channel() {
    let mut scene = Scene::new().await;
    let me = scene.bob.account().user_id;
    let ident = scene
        .liar
        .ask(move |s| s.identity(&me))
        .await
        .unwrap()
        .head();
    let first = create(&scene.ada, Mode::E2e);
    let add = scene.ada.ctl(
        CHANNEL,
        Some(head(0, &first)),
        CtlBody::Add {
            user: me,
            ident,
            role: Role::Member,
        },
    );
    let freeze = scene
        .ada
        .ctl(CHANNEL, Some(head(1, &add)), CtlBody::Freeze { on: true });
    let log = vec![ctl(1, &first), ctl(2, &add)];
    scene.liar.tell(|s| *s.channel(CHANNEL) = log).await;
    scene.bob.follow(CHANNEL).await.unwrap();
    scene.liar.followed().await;
    assert_eq!(scene.bob.channel(CHANNEL).await.unwrap().mode(), Mode::E2e);
    // One record, at 4 for who asks and at 3 in the stream.
    let shown = ctl(4, &freeze);
    scene
        .liar
        .tell(move |s| s.channel(CHANNEL).push(shown))
        .await;
    assert!(scene.bob.channel(CHANNEL).await.unwrap().is_frozen());
    scene.liar.push(LOG, vec![ctl(3, &freeze)]).await;
    let changed = async {
        loop {
            match scene.events.recv().await.unwrap() {
                Event::ChannelChanged(_) => return,
                other => eprintln!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), changed)
        .await
        .ok();
    scene.bob.stop().await;
    // Now eve, the server's friend, made the channel, and it is signed.
    let first = create(&scene.eve, Mode::Signed);
    let add = scene.eve.ctl(
        CHANNEL,
        Some(head(0, &first)),
        CtlBody::Add {
            user: me,
            ident,
            role: Role::Member,
        },
    );
    let log = vec![ctl(5, &first), ctl(6, &add)];
    scene.liar.tell(|s| *s.channel(CHANNEL) = log).await;
    let (bob, _events) = session(&scene.home).await;
    bob.ready(SOON).await.unwrap();
    let sent = bob
        .send(
            Target::Channel(CHANNEL),
            &Body::text("canary-secret"),
            0,
            false,
        )
        .await;
    eprintln!("{sent:?}");
    assert!(
        !scene.liar.was_told("canary-secret").await,
        "said in the clear"
    );
}

/// B: a message that the server takes and throws away is missed by the others.
#[tokio::test]
async fn the_server_cannot_make_a_sender_count_again() {
    let scene = Scene::following().await;
    let appended = Arc::new(Mutex::new(0u64));
    let count = Arc::clone(&appended);
    scene
        .liar
        .tell(move |s| {
            s.lie(move |asked| {
                let Op::Append(op) = asked.op else {
                    return None;
                };
                let ctr = Header::parse(&op.env.header).unwrap().ctr;
                let mut n = count.lock().unwrap();
                *n += 1;
                match *n {
                    // The second one is taken and thrown away.
                    1 | 2 => Some(Outcome::Ok(Reply::Appended(Appended {
                        seq: 2 + *n,
                        at: UnixMs(1),
                        dup: false,
                    }))),
                    3 => {
                        assert_eq!(ctr, 3);
                        let mut reject = Reject::new(Code::CounterGap, "no");
                        reject.expected = Some(2);
                        Some(Outcome::Err(reject))
                    }
                    _ => Some(Outcome::Ok(Reply::Appended(Appended {
                        seq: 4,
                        at: UnixMs(1),
                        dup: false,
                    }))),
                }
            });
        })
        .await;
    for text in ["one", "two", "three"] {
        let body = Body::text(text);
        drop(
            scene
                .bob
                .send(Target::Channel(CHANNEL), &body, 0, false)
                .await,
        );
    }
    let ctrs = scene
        .liar
        .ask(|s| {
            s.asked
                .iter()
                .filter_map(|(_, op)| match op {
                    Op::Append(op) => {
                        let body = Body::parse(&op.env.ct).unwrap();
                        Some((
                            Header::parse(&op.env.header).unwrap().ctr,
                            body.text.unwrap(),
                        ))
                    }
                    _ => None,
                })
                .collect::<Vec<_>>()
        })
        .await;
    let two: Vec<&str> = ctrs
        .iter()
        .filter(|(ctr, _)| *ctr == 2)
        .map(|(_, t)| &**t)
        .collect();
    assert_eq!(two, ["two"], "two messages have one number: {ctrs:?}");
}

/// C: a server whose clock is off does not make a sender rotate for ever.
#[tokio::test]
async fn a_wrong_clock_of_the_server_does_not_make_a_sender_rotate_for_ever() {
    let scene = Scene::new().await;
    let me = scene.bob.account().user_id;
    let ident = scene
        .liar
        .ask(move |s| s.identity(&me))
        .await
        .unwrap()
        .head();
    let first = create(&scene.ada, Mode::E2e);
    let add = scene.ada.ctl(
        CHANNEL,
        Some(head(0, &first)),
        CtlBody::Add {
            user: me,
            ident,
            role: Role::Member,
        },
    );
    let ages_ago = |mut entry: Entry| {
        entry.at = UnixMs(1);
        entry
    };
    let log = Arc::new(Mutex::new(vec![
        ages_ago(ctl(1, &first)),
        ages_ago(ctl(2, &add)),
    ]));
    scene
        .liar
        .tell(move |s| {
            s.lie(move |asked| {
                let mut log = log.lock().unwrap();
                match asked.op {
                    Op::CtlFetch(op) => {
                        let entries = log.iter().filter(|e| e.seq > op.after).cloned().collect();
                        let head = log.last().unwrap().seq;
                        Some(Outcome::Ok(Reply::Page(EntryPage {
                            entries,
                            gap: None,
                            next: head,
                            head,
                        })))
                    }
                    Op::CtlAppend(op) => {
                        let seq = log.last().unwrap().seq + 1;
                        let at = UnixMs(1);
                        log.push(Entry {
                            seq,
                            at,
                            body: EntryBody::Ctl(op.rec.clone()),
                        });
                        Some(Outcome::Ok(Reply::Appended(Appended {
                            seq,
                            at,
                            dup: false,
                        })))
                    }
                    _ => None,
                }
            });
        })
        .await;
    let said = scene
        .bob
        .send(Target::Channel(CHANNEL), &Body::text("hi"), 0, false)
        .await;
    let (epochs, sends) = scene
        .liar
        .ask(|s| {
            let ops = || s.asked.iter().map(|(_, op)| op);
            (
                ops().filter(|op| matches!(op, Op::CtlAppend(_))).count(),
                ops().filter(|op| matches!(op, Op::Append(_))).count(),
            )
        })
        .await;
    assert!(
        epochs <= 2 && sends > 0,
        "{epochs} epochs, {sends} sends in ten seconds, {said:?}"
    );
}

/// D: two sessions of one machine, one of which renews its key.
#[tokio::test]
async fn a_whisper_reaches_a_session_that_began_before_the_machines_key_was_renewed() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    drop(bob.register(&world, "bob").await);
    let (a, _a_events) = ada.session("api", 1).await;
    let (b, mut b_events) = bob.session("web", 2).await;
    let ops = *a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap()
        .id();
    a.add_member(ops, &name("bob"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    b.follow_mailbox().await.unwrap();
    // A week goes by; a one-shot of the same machine connects and renews the key.
    let id = bob.home.servers().unwrap().pop().unwrap().id;
    let file = bob.home.server_dir(&id).join("encryption.keys");
    let old = std::fs::read_to_string(&file).unwrap();
    let aged: Vec<String> = old
        .lines()
        .map(|line| match line.starts_with("since") {
            true => "since = 1".to_owned(),
            false => line.to_owned(),
        })
        .collect();
    std::fs::write(&file, aged.join("\n")).unwrap();
    let (other, _o_events) = bob.session("other", 3).await;
    for _ in 0..100 {
        let text = std::fs::read_to_string(&file).unwrap();
        if text.matches("announced = true").count() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    other.stop().await;
    a.stop().await;
    let (a, _a_events) = ada.session("api", 1).await;
    let to = b.live().unwrap().path.clone();
    a.send(Target::Session(to), &Body::text("psst"), 0, false)
        .await
        .unwrap();
    let next = async {
        loop {
            match b_events.recv().await.unwrap() {
                Event::Message(m) => return said(&m).to_owned(),
                Event::Notice(notice) => return format!("{:?}: {}", notice.kind, notice.text),
                _ => {}
            }
        }
    };
    assert_eq!(tokio::time::timeout(SOON, next).await.unwrap(), "psst");
}

/// E: what was said under an epoch that a one-shot of this machine skipped.
#[tokio::test]
async fn a_one_shot_that_rotates_does_not_close_what_was_unread() {
    let world = World::start().await;
    let (ada, bob, eve) = (Machine::new(), Machine::new(), Machine::new());
    for (machine, user) in [(&ada, "ada"), (&bob, "bob"), (&eve, "eve")] {
        drop(machine.register(&world, user).await);
    }
    let (a, _a_events) = ada.session("api", 1).await;
    let new = NewChannel {
        history: History::SinceJoin,
        ..NewChannel::new(name("ops"), Visibility::Private)
    };
    let ops = *a.create_channel(new).await.unwrap().id();
    a.add_member(ops, &name("bob"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    let (b, _b_events) = bob.session("web", 2).await;
    assert_eq!(b.resolve("ops").await.unwrap().channel, ops);
    b.stop().await;
    a.add_member(ops, &name("eve"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    say(&a, ops, "for bob").await.unwrap();
    let (e, _e_events) = eve.session("x", 3).await;
    e.leave(ops).await.unwrap();
    let (b, _b_events) = bob.session("web", 2).await;
    say(&b, ops, "from bob").await.unwrap();
    b.stop().await;
    let (b, _b_events) = bob.session("web", 2).await;
    let past = b.history(ops, Past::Last, 10).await.unwrap();
    let texts: Vec<&str> = past.iter().map(said).collect();
    assert_eq!(texts, ["for bob", "from bob"]);
}

/// F: an admin whose session has not read a new name does not put the old one back.
#[tokio::test]
async fn a_rotation_by_an_admin_keeps_the_newest_name() {
    let world = World::start().await;
    let (ada, bob, eve) = (Machine::new(), Machine::new(), Machine::new());
    for (machine, user) in [(&ada, "ada"), (&bob, "bob"), (&eve, "eve")] {
        drop(machine.register(&world, user).await);
    }
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = *a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap()
        .id();
    a.add_member(ops, &name("bob"), Role::Admin, Signer::Machine)
        .await
        .unwrap();
    a.add_member(ops, &name("eve"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    let (b, _b_events) = bob.session("web", 2).await;
    assert_eq!(b.resolve("ops").await.unwrap().channel, ops);
    a.rename(ops, Some(name("war-room")), None).await.unwrap();
    b.remove_member(ops, &name("eve"), RemoveKind::Kick)
        .await
        .unwrap();
    let found = a.resolve("war-room").await.map(|info| info.channel);
    assert_eq!(found.ok(), Some(ops));
}

/// G: a reader's stolen machine.
#[tokio::test]
async fn a_reader_who_revokes_a_machine_takes_its_keys() {
    let world = World::start().await;
    let (ada, bob, desk) = (Machine::new(), Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    let made = bob.register(&world, "bob").await;
    let owner = made.owner.unwrap();
    let (a, _a_events) = ada.session("api", 1).await;
    let (b, mut b_events) = bob.session("web", 2).await;
    let link = b.open_enrolment().await.unwrap();
    let key = link.secret.signing_key().invite_key();
    let sign = async {
        loop {
            if let Event::Enrol(request) = b_events.recv().await.unwrap() {
                return b.enrol(&request, &key, &owner).await.unwrap();
            }
        }
    };
    let (welcome, ()) = tokio::join!(
        onboard::enrol(&desk.home, &link, name("desk"), "test"),
        sign
    );
    let d = welcome.unwrap().client;
    let stolen = d
        .machines()
        .await
        .unwrap()
        .into_iter()
        .find(|m| m.name == name("desk"))
        .unwrap()
        .key;
    let ops = *a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap()
        .id();
    a.add_member(ops, &name("bob"), Role::Reader, Signer::Machine)
        .await
        .unwrap();
    say(&a, ops, "before").await.unwrap();
    let revoked = b.revoke_machine(stolen, "stolen", &owner).await;
    say(&a, ops, "after").await.unwrap();
    let tip = a.channel(ops).await.unwrap();
    assert_eq!(tip.epoch().unwrap().e, 2, "{revoked:?}");
}

/// H: the stream shows something else in the place of a record that is known.
#[tokio::test]
async fn a_removed_member_is_not_heard_in_the_place_of_its_removal() {
    let mut scene = Scene::new().await;
    let (eve, ada) = (scene.eve.clone(), scene.ada.clone());
    let add = ada.ctl(
        CHANNEL,
        Some(scene.head),
        CtlBody::Add {
            user: eve.user(),
            ident: eve.log.head(),
            role: Role::Member,
        },
    );
    let kick = ada.ctl(
        CHANNEL,
        Some(head(2, &add)),
        CtlBody::Remove {
            user: eve.user(),
            kind: RemoveKind::Kick,
        },
    );
    let entry = ctl(3, &add);
    scene
        .liar
        .tell(move |s| s.channel(CHANNEL).push(entry))
        .await;
    scene.bob.follow(CHANNEL).await.unwrap();
    scene.liar.followed().await;
    let entry = ctl(4, &kick);
    scene
        .liar
        .tell(move |s| s.channel(CHANNEL).push(entry))
        .await;
    assert!(
        scene
            .bob
            .channel(CHANNEL)
            .await
            .unwrap()
            .role(&eve.user())
            .is_none()
    );
    // Bob knows that place 4 is eve's removal. The stream says it is her message.
    scene
        .liar
        .push(LOG, vec![env(4, says(&eve, 1, "pay me"))])
        .await;
    let next = async {
        loop {
            match scene.events.recv().await.unwrap() {
                Event::Message(m) => return format!("shown: {}", said(&m)),
                Event::Notice(notice) => return format!("{:?}", notice.kind),
                _ => {}
            }
        }
    };
    let seen = tokio::time::timeout(SOON, next).await.unwrap();
    assert_ne!(seen, "shown: pay me");
    // The same for the past.
    let forged = env(4, says(&eve, 1, "pay me"));
    scene
        .liar
        .tell(move |s| {
            s.lie(move |asked| match asked.op {
                Op::Read(_) => Some(Outcome::Ok(Reply::Page(EntryPage {
                    entries: vec![forged.clone()],
                    gap: None,
                    next: 4,
                    head: 4,
                }))),
                _ => None,
            })
        })
        .await;
    let past = scene
        .bob
        .history(CHANNEL, Past::After(3), 10)
        .await
        .unwrap();
    assert!(past.is_empty());
}

/// H2: the same in history alone.
#[tokio::test]
async fn a_removed_member_is_not_heard_in_the_past_in_the_place_of_its_removal() {
    let scene = Scene::new().await;
    let (eve, ada) = (scene.eve.clone(), scene.ada.clone());
    let add = ada.ctl(
        CHANNEL,
        Some(scene.head),
        CtlBody::Add {
            user: eve.user(),
            ident: eve.log.head(),
            role: Role::Member,
        },
    );
    let kick = ada.ctl(
        CHANNEL,
        Some(head(2, &add)),
        CtlBody::Remove {
            user: eve.user(),
            kind: RemoveKind::Kick,
        },
    );
    let both = [ctl(3, &add), ctl(4, &kick)];
    scene
        .liar
        .tell(move |s| s.channel(CHANNEL).extend(both))
        .await;
    assert!(
        scene
            .bob
            .channel(CHANNEL)
            .await
            .unwrap()
            .role(&eve.user())
            .is_none()
    );
    let forged = env(4, says(&eve, 1, "pay me"));
    scene
        .liar
        .tell(move |s| {
            s.lie(move |asked| match asked.op {
                Op::Read(_) => Some(Outcome::Ok(Reply::Page(EntryPage {
                    entries: vec![forged.clone()],
                    gap: None,
                    next: 4,
                    head: 4,
                }))),
                _ => None,
            })
        })
        .await;
    let past = scene
        .bob
        .history(CHANNEL, Past::After(3), 10)
        .await
        .unwrap();
    assert!(past.is_empty(), "shown: {}", said(&past[0]));
}

/// H3: a page of the past in another order.
#[tokio::test]
async fn the_past_keeps_a_senders_order() {
    let scene = Scene::new().await;
    let ada = scene.ada.clone();
    let entries = vec![
        env(3, says(&ada, 2, "no")),
        env(4, says(&ada, 1, "deploy?")),
    ];
    scene
        .liar
        .tell(move |s| {
            s.lie(move |asked| match asked.op {
                Op::Read(_) => Some(Outcome::Ok(Reply::Page(EntryPage {
                    entries: entries.clone(),
                    gap: None,
                    next: 4,
                    head: 4,
                }))),
                _ => None,
            })
        })
        .await;
    let past = scene
        .bob
        .history(CHANNEL, Past::After(2), 10)
        .await
        .unwrap();
    let texts: Vec<&str> = past.iter().map(said).collect();
    assert_ne!(texts, ["no", "deploy?"]);
}

/// I: events about channels that nobody here knows.
#[tokio::test]
async fn news_of_unknown_channels_are_nothing() {
    let mut scene = Scene::new().await;
    let before = scene.liar.ask(|s| s.asked.len()).await;
    for n in 0..200u8 {
        let channel = ChannelId::new([n; 16]);
        scene
            .liar
            .event(Told::Keys(EpochOf { channel, e: 1 }))
            .await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = scene.liar.ask(|s| s.asked.len()).await;
    assert!(after - before < 10, "{} questions", after - before);
}

/// J: a machine that is known to be revoked, and the channel was not told.
#[tokio::test]
async fn a_machine_known_to_be_revoked_is_not_talked_to() {
    use conclave_e2ee::EncryptionSecret;
    use conclave_proto::identity_log::build;
    use conclave_proto::key::Secret;
    use conclave_sim::hostile::{Room, Settings};
    let mut scene = Scene::new().await;
    let (me, eve) = (scene.bob.account().user_id, scene.eve.clone());
    let mine = scene.liar.ask(move |s| s.identity(&me)).await.unwrap();
    let settings = Settings {
        mode: Mode::E2e,
        history: History::Full,
        name: "ops",
        topic: None,
    };
    let mut room = Room::new(8, &scene.ada, settings);
    room.add(&scene.ada, &mine, Role::Member);
    room.add(&scene.ada, &eve.log, Role::Member);
    let copy = room.clone();
    scene.liar.tell(move |s| s.keep(&copy)).await;
    scene.bob.follow(room.id).await.unwrap();
    scene.liar.followed().await;
    say(&scene.bob, room.id, "with the laptop").await.unwrap();
    // Eve has a second machine and revokes the first; the server keeps that from the channel only.
    let second = Secret::from_seed(&[77; 32]);
    let ek = EncryptionSecret::from_seed(&[78; 32]);
    let add = eve.adds_machine(&eve.log, &second, "desk", ek.public());
    let mut log = eve.log.clone();
    log.append(add.bytes()).unwrap();
    let revoke = build::revoke_machine(
        &log,
        eve.machine.machine_key(),
        "stolen",
        &eve.owner,
        UnixMs(1),
    );
    log.append(revoke.bytes()).unwrap();
    let recs = [add, revoke].map(|rec| rec.bytes().clone());
    let (user, newest) = (eve.user(), log.head());
    scene
        .liar
        .tell(move |s| s.idents.get_mut(&user).unwrap().extend(recs))
        .await;
    // Ada's message names nothing of eve; bob looks eve up, as `verify` or a whisper do.
    let whisper: conclave_proto::name::SessionPath = "eve/desk/api".parse().unwrap();
    drop(
        scene
            .bob
            .send(Target::Session(whisper), &Body::text("psst"), 0, false)
            .await,
    );
    let known = scene.bob.known_identity(eve.user()).await.unwrap().unwrap();
    assert_eq!(known.head(), newest);
    say(&scene.bob, room.id, "not for the thief").await.unwrap();
    let epochs = scene
        .liar
        .ask(move |s| {
            s.asked
                .iter()
                .filter_map(|(_, op)| match op {
                    Op::Append(op) => Header::parse(&op.env.header).map(|h| h.epoch),
                    _ => None,
                })
                .collect::<Vec<_>>()
        })
        .await;
    assert_eq!(epochs.last(), Some(&2), "{epochs:?}");
    drop(scene.events);
}

/// K: two questions for one identity at once; the second answer is kept without being looked at.
#[tokio::test]
async fn an_identity_learned_twice_at_once_keeps_nothing_unverified() {
    use conclave_proto::frame::reply::Idents;
    let scene = Scene::new().await;
    let (me, ada) = (scene.bob.account().user_id, scene.ada.user());
    let ident = scene
        .liar
        .ask(move |s| s.identity(&me))
        .await
        .unwrap()
        .head();
    let other = ChannelId::new([8; 16]);
    let body = CtlBody::Create {
        mode: Mode::Signed,
        visibility: Visibility::Private,
        history: History::Full,
        name: Some(name("two")),
        topic: None,
        limits: None,
    };
    let first = scene.ada.ctl(other, None, body);
    let add = scene.ada.ctl(
        other,
        Some(head(0, &first)),
        CtlBody::Add {
            user: me,
            ident,
            role: Role::Member,
        },
    );
    let log = vec![ctl(1, &first), ctl(2, &add)];
    let genesis = scene.ada.genesis.clone();
    scene
        .liar
        .tell(move |s| {
            *s.channel(other) = log;
            let mut n = 0;
            s.lie(move |asked| match asked.op {
                Op::IdentFetch(op) if op.user == ada => {
                    n += 1;
                    (n == 2).then(|| {
                        Outcome::Ok(Reply::Idents(Idents {
                            user: ada,
                            records: vec![genesis.clone(), b"rubbish".to_vec().into()],
                            head: 1,
                        }))
                    })
                }
                _ => None,
            });
        })
        .await;
    let (one, two) = tokio::join!(scene.bob.channel(CHANNEL), scene.bob.channel(other));
    drop((one.unwrap(), two.unwrap()));
    scene.bob.stop().await;
    scene.liar.tell(|s| s.be_honest()).await;
    let (bob, _events) = session(&scene.home).await;
    assert_eq!(bob.known_channels().await.unwrap().len(), 2);
}

/// L: a link from nobody replaces what a member knows of a sealed channel.
#[tokio::test]
async fn a_link_that_no_admin_made_changes_nothing_for_a_member() {
    use conclave_e2ee::IndexKey;
    use conclave_e2ee::invite_box::{self, InviteBox};
    use conclave_proto::frame::reply::{ChannelInfo, InviteInfo};
    use conclave_proto::invite::{Link, LinkSecret};
    use conclave_sim::hostile::{Room, Settings};
    let scene = Scene::new().await;
    let me = scene.bob.account().user_id;
    let mine = scene.liar.ask(move |s| s.identity(&me)).await.unwrap();
    let settings = Settings {
        mode: Mode::E2e,
        history: History::SinceJoin,
        name: "ops",
        topic: None,
    };
    let mut room = Room::new(8, &scene.ada, settings);
    room.add(&scene.ada, &scene.eve.log, Role::Member);
    room.add(&scene.ada, &mine, Role::Member);
    room.rotate(&scene.eve);
    let (copy, id) = (room.clone(), room.id);
    scene
        .liar
        .tell(move |s| {
            s.keep(&copy);
            // Sealed to who was there.
            let old: Vec<_> = s
                .wraps
                .keys()
                .filter(|(_, e, _)| *e == 1)
                .copied()
                .collect();
            for place in old {
                s.wraps.remove(&place);
            }
        })
        .await;
    assert_eq!(
        scene
            .bob
            .channels()
            .await
            .unwrap()
            .into_iter()
            .find(|c| c.channel == id)
            .unwrap()
            .name,
        Some(name("ops"))
    );
    let secret = LinkSecret::new([66; 32]);
    let link = Link::invite(
        scene.liar.origin.clone(),
        secret,
        &scene.liar.ask(|s| s.key.server_key()).await,
    );
    let content = InviteBox {
        genesis: *room.log.genesis(),
        name: Some(name("lunch")),
        topic: None,
        index_key: Some(IndexKey::new([5; 32])),
        key: None,
    };
    let sealed = invite_box::seal(&content, &link.secret, &id, &link.id(), [4; 24]);
    let ctl_log = room.entries.clone();
    let tip = room.log.clone();
    scene
        .liar
        .tell(move |s| {
            s.lie(move |asked| match asked.op {
                Op::Invite(_) => Some(Outcome::Ok(Reply::Invite(InviteInfo {
                    channel: Some(ChannelInfo {
                        channel: id,
                        name: None,
                        visibility: "private".into(),
                        mode: "e2e".into(),
                        role: Some("member".into()),
                        members: 3,
                        topic: None,
                        ctl: tip.head(),
                        ctl_seq: tip.seq(),
                        closed: false,
                    }),
                    ctl: ctl_log.clone(),
                    invite_box: Some(sealed.clone()),
                }))),
                _ => None,
            })
        })
        .await;
    scene.bob.stop().await;
    let welcome = onboard::redeem(&scene.home, &link, name("bob"), name("box"), "test").await;
    drop(welcome);
    let (bob, _events) = session(&scene.home).await;
    bob.ready(SOON).await.unwrap();
    let found = bob
        .channels()
        .await
        .unwrap()
        .into_iter()
        .find(|c| c.channel == id)
        .unwrap();
    assert_eq!(found.name, Some(name("ops")));
}
