//! Attacks on what things are called, and what the server learns of a whole session.

use super::stage::{CANARY, SEALED, Stage, Victim, said};
use conclave_client::client::channel::NewChannel;
use conclave_client::client::{Client, History as Past, Signer, Target};
use conclave_client::event::NoticeKind;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{History, Mode, Role, Visibility};
use conclave_proto::entry::{EntryBody, Envelope, Suite};
use conclave_proto::frame::Outcome;
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{Channels, Reply, UserInfo};
use conclave_proto::id::{ChannelId, LogId, MailboxId};
use conclave_proto::key::HolderKey;
use conclave_sim::hostile::{Person, Room, SOON, Script, Settings, env, name};

/// Lets the channel list show one channel only, under a name of the server's choice.
async fn list_only(stage: &Stage, channel: ChannelId, called: &'static str) {
    let bob = stage.bob.me;
    stage
        .liar
        .tell(move |script| {
            let mut list = script.channels_of(&bob);
            list.channels.retain(|info| info.channel == channel);
            for info in &mut list.channels {
                info.name = Some(name(called));
            }
            assert!(!list.channels.is_empty());
            script.lie(move |asked| match asked.op {
                Op::Channels(_) | Op::FindChannel(_) => {
                    let Channels { channels } = list.clone();
                    Some(Outcome::Ok(Reply::Channels(Channels { channels })))
                }
                _ => None,
            });
        })
        .await;
}

/// Says something by a channel's name, as people do; returns what the server got of it.
async fn says_by_name(stage: &Stage, client: &Client) -> Vec<Envelope> {
    let text = format!("#{}", SEALED.name);
    if let Ok(found) = client.resolve(&text).await {
        let (to, body) = (
            Target::Channel(found.channel),
            Body::text(format!("{CANARY} for the room")),
        );
        let sent = client.send(to, &body, 0, false);
        drop(tokio::time::timeout(SOON, sent).await.expect("it ends"));
    }
    let all = stage.asked(|op| match op {
        Op::Append(op) => Some(op.env.clone()),
        _ => None,
    });
    all.await
}

pub(crate) async fn s14_name_leads_to_a_signed_channel() -> &'static str {
    let mut stage = Stage::new().await;
    // Eve, who is the server's friend, made a channel that is not sealed and added bob to it.
    let settings = Settings {
        mode: Mode::Signed,
        ..SEALED
    };
    let mut trap = Room::new(9, &stage.eve, settings);
    let log = stage.identity(stage.bob.me).await;
    trap.add(&stage.eve, &log, Role::Member);
    let (id, copy) = (trap.id, trap.clone());
    stage.liar.tell(move |script| script.keep(&copy)).await;
    list_only(&stage, id, SEALED.name).await;
    for restart in [false, true] {
        if restart {
            stage.bob.restart().await;
        }
        for said in says_by_name(&stage, &stage.bob.client).await {
            let suite = said.parse().unwrap().header.suite;
            assert_eq!(suite, Suite::One, "ATTACK SUCCEEDED: said in the clear");
        }
    }
    stage.sealed_lips().await;
    "not followed: the name is the sealed channel's"
}

pub(crate) async fn names_of_two_channels_swapped() -> &'static str {
    let stage = Stage::new().await;
    // Eve's channel is sealed, too, but eve is in it; the server says that it has the room's name.
    let settings = Settings {
        name: "other",
        ..SEALED
    };
    let mut trap = Room::new(9, &stage.eve, settings);
    let log = stage.identity(stage.bob.me).await;
    trap.add(&stage.eve, &log, Role::Member);
    let (id, copy) = (trap.id, trap.clone());
    stage.liar.tell(move |script| script.keep(&copy)).await;
    list_only(&stage, id, SEALED.name).await;
    for said in says_by_name(&stage, &stage.bob.client).await {
        let opened = trap.key().open(&said.parse().unwrap());
        assert!(opened.is_err(), "ATTACK SUCCEEDED: eve reads it");
    }
    "not believed: names are the members' to say"
}

pub(crate) async fn s14_signed_channel_called_sealed() -> &'static str {
    let settings = Settings {
        mode: Mode::Signed,
        name: "lobby",
        topic: None,
        ..SEALED
    };
    let stage = Stage::with(settings).await;
    let bob = stage.bob.me;
    stage
        .liar
        .tell(move |script| {
            let mut list = script.channels_of(&bob);
            for info in &mut list.channels {
                "e2e".clone_into(&mut info.mode);
            }
            script.lie(move |asked| match asked.op {
                Op::Channels(_) => Some(Outcome::Ok(Reply::Channels(list.clone()))),
                _ => None,
            });
        })
        .await;
    let told = stage.bob.client.channels().await.unwrap();
    let modes: Vec<&str> = told.iter().map(|info| &*info.mode).collect();
    assert_eq!(modes, ["signed"], "ATTACK SUCCEEDED: shown as sealed");
    "not believed: the mode is the first record's"
}

pub(crate) async fn name_of_another_user() -> &'static str {
    let mut stage = Stage::new().await;
    stage.bob.client.follow_mailbox().await.unwrap();
    // The server has another ada, with keys of its own.
    let other = Person::new(stage.liar.id, "ada", 120);
    let (genesis, user_id, ident) = (other.genesis.clone(), other.user(), other.log.head());
    stage
        .liar
        .tell(move |script| {
            script.learn(genesis);
            script.lie(move |asked| match asked.op {
                Op::FindUser(op) if op.name == name("ada") => {
                    Some(Outcome::Ok(Reply::User(UserInfo {
                        name: op.name.clone(),
                        user_id,
                        ident,
                        admin: false,
                    })))
                }
                _ => None,
            });
        })
        .await;
    stage.bob.restart().await;
    let (to, body) = (
        Target::Session(stage.ada.path.clone()),
        Body::text(format!("{CANARY} for ada")),
    );
    let sent = stage.bob.client.send(to, &body, 0, false);
    drop(tokio::time::timeout(SOON, sent).await.expect("it ends"));
    let said = stage.asked(|op| match op {
        Op::Append(op) => Some(op.env.clone()),
        _ => None,
    });
    for env in said.await {
        let opened = conclave_e2ee::whisper::open(&env.parse().unwrap(), &other.encryption);
        assert!(opened.is_err(), "ATTACK SUCCEEDED: the other ada reads it");
    }
    // And the other ada whispers to bob.
    stage.bob.client.follow_mailbox().await.unwrap();
    let ready = stage.bob.client.live().unwrap();
    let mailbox = LogId::Mailbox(MailboxId::of(&stage.bob.me, &ready.path));
    let machine = stage.identity(stage.bob.me).await;
    let holder = HolderKey::from(machine.machines().next().unwrap().key);
    let (_, key) = stage
        .liar
        .ask(move |script| script.encryption_key(&holder))
        .await
        .unwrap();
    let false_one = other.whispers(ready.path.clone(), &key, 1, "it is me, ada", |_| {});
    let true_one = stage
        .ada
        .whispers(ready.path.clone(), &key, 1, "good", |_| {});
    let entries = vec![env(1, false_one), env(2, true_one)];
    let kept = entries.clone();
    stage
        .liar
        .tell(move |script| script.logs.entry(mailbox).or_default().extend(kept))
        .await;
    stage.liar.push(mailbox, entries).await;
    stage.bob.hears("good").await;
    assert_eq!(stage.bob.kinds(), [NoticeKind::BadSignature]);
    stage.sealed_lips().await;
    "not followed: the name stays with whom it was first seen"
}

pub(crate) async fn past_before_the_join() -> &'static str {
    let settings = Settings {
        history: History::SinceJoin,
        ..SEALED
    };
    let mut stage = Stage::before(settings).await;
    // What ada said in epoch 1, before bob came: the server shows it, with every wrap it has.
    let first = stage.room.keys[0].clone();
    let secret = stage.room.seal(
        &stage.ada,
        &first,
        1,
        &Body::text("before you came"),
        |_| {},
    );
    stage.room.keep(secret.clone());
    stage.keep().await;
    let (room, bob) = (stage.room.id, stage.bob.me);
    let machine = HolderKey::from(stage.identity(bob).await.machines().next().unwrap().key);
    stage
        .liar
        .tell(move |script| {
            // Honest members never sealed epoch 1 to bob.
            script.wraps.remove(&(room, 1, machine));
        })
        .await;
    stage.bob.follow(room).await;
    stage.say_with_wraps_of_others("welcome", machine).await;
    stage.bob.hears("welcome").await;
    let past = stage.bob.client.history(room, Past::After(0), 100);
    let past = tokio::time::timeout(SOON, past).await.expect("it ends");
    let texts: Vec<String> = past.unwrap().iter().map(|m| said(m).to_owned()).collect();
    assert_eq!(texts, ["welcome"]);
    // Nor does bob bring it to anybody: his own epoch has no way back.
    stage.bob_can_talk().await;
    stage.bob.client.rotate(room).await.unwrap();
    stage.sync().await;
    let epochs = stage.room.log.epochs();
    assert!(epochs.iter().all(|epoch| epoch.prev_box.is_none()));
    "closed to who joins later"
}

/// Everything a person does in a day, and then a look at every byte that the server was sent.
pub(crate) async fn s12_nothing_in_the_clear() -> &'static str {
    let mut stage = Stage::new().await;
    let (bob, ada) = (stage.bob.client.clone(), stage.ada.path.clone());
    let new = NewChannel {
        topic: Some(format!("{CANARY} topic")),
        ..NewChannel::new(name("canary-room"), Visibility::Private)
    };
    let room = *bob.create_channel(new).await.unwrap().id();
    let mut carol = Victim::new(&stage.liar, "dan").await;
    bob.add_member(room, &name("dan"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    carol.follow(room).await;
    let text = format!("{CANARY} one");
    bob.send(Target::Channel(room), &Body::text(&text), 0, true)
        .await
        .unwrap();
    carol.hears(&text).await;
    let topic = Some(format!("{CANARY} again"));
    bob.rename(room, Some(name("canary-renamed")), topic)
        .await
        .unwrap();
    let link = bob
        .invite(room, Role::Member, 1, 1_000_000, Signer::Machine)
        .await
        .unwrap();
    bob.rotate(room).await.unwrap();
    let whisper = Body::text(format!("{CANARY} whispered"));
    let to = Target::Session(ada);
    bob.send(to, &whisper, 0, false).await.unwrap();
    let kick = conclave_proto::channel_log::RemoveKind::Kick;
    bob.remove_member(room, &name("dan"), kick).await.unwrap();
    let last = Body::text(format!("{CANARY} without dan"));
    let sent = bob.send(Target::Channel(room), &last, 0, false).await;
    assert!(sent.unwrap().stored.is_some());
    assert!(bob.resolve("#canary-renamed").await.is_ok());
    stage.bob.restart().await;
    let known = stage.bob.client.resolve("#canary-renamed").await.unwrap();
    assert_eq!(known.channel, room);

    stage.sealed_lips().await;
    let secret = *link.secret.as_bytes();
    let heard = move |script: &mut Script| script.heard(&secret);
    assert!(!stage.liar.ask(heard).await, "the link's secret");
    // Suite 1 everywhere; and no envelope opens with a key of another channel.
    let strange = stage.room.key().clone();
    let said = stage.asked(|op| match op {
        Op::Append(op) => Some(op.env.clone()),
        _ => None,
    });
    let said = said.await;
    assert_eq!(said.len(), 3);
    for env in said {
        let parsed = env.parse().unwrap();
        assert_eq!(parsed.header.suite, Suite::One);
        assert!(strange.open(&parsed).is_err());
    }
    let all = stage.liar.ask(move |script| {
        let log = LogId::Channel(room);
        script.logs.get(&log).cloned().unwrap_or_default()
    });
    let epochs: Vec<u32> = all
        .await
        .iter()
        .filter_map(|entry| match &entry.body {
            EntryBody::Env(env) => Some(env.clone().parse().unwrap().header.epoch),
            EntryBody::Ctl(_) | EntryBody::Unknown(_) => None,
        })
        .collect();
    assert_eq!(epochs, [1, 3], "a new key after the removal");
    "not one body, name, topic or secret in all it heard"
}
