//! End-to-end encryption between real clients of a real server: what members read, and nobody else.

use crate::pair::two;
use crate::scene::{heard, noticed, say, since_join, texts};
use crate::talk::{Machine, World, name};
use conclave_client::client::{Client, History as Past, NewChannel, Signer, Target};
use conclave_client::event::{Event, NoticeKind};
use conclave_client::keystore::{Generation, MachineKeys};
use conclave_client::onboard;
use conclave_client::replica::Replica;
use conclave_e2ee::{ChannelKey, Place, wrap};
use conclave_proto::body::Body;
use conclave_proto::channel_log::{Mode, RemoveKind, Role, Visibility};
use conclave_proto::entry::EntryBody;
use conclave_proto::frame::op::Wrap;
use conclave_proto::frame::reply::EpochWrap;
use conclave_proto::id::LogId;
use conclave_proto::key::HolderKey;
use conclave_server::store::sqlite::SqliteStore;
use conclave_server::store::{Page, PageQuery, Read as _, Select};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_private_channel_is_sealed_and_a_joiner_by_link_needs_nobody_online() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap();
    assert_eq!((ops.mode(), ops.name()), (Mode::E2e, Some(&name("ops"))));
    assert!((*ops).name().is_none(), "the server is not told");
    say(&a, *ops.id(), "before bob came").await.unwrap();
    let link = a
        .invite(*ops.id(), Role::Member, 1, 60_000, Signer::Machine)
        .await
        .unwrap();
    a.stop().await;

    let welcome = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test")
        .await
        .unwrap();
    assert_eq!(welcome.channel.unwrap().name(), Some(&name("ops")));
    welcome.client.stop().await;
    let (b, _b_events) = bob.session("web", 2).await;
    assert_eq!(b.resolve("#ops").await.unwrap().channel, *ops.id());
    let past = b.history(*ops.id(), Past::Last, 10).await.unwrap();
    assert_eq!(texts(&past), ["before bob came"]);
    say(&b, *ops.id(), "hello").await.unwrap();

    let (a, mut a_events) = ada.session("api", 1).await;
    a.follow(*ops.id()).await.unwrap();
    say(&b, *ops.id(), "again").await.unwrap();
    assert_eq!(
        heard(&mut a_events).await.body.text.as_deref(),
        Some("again")
    );
}

#[tokio::test]
async fn a_kicked_member_cannot_open_what_follows_with_all_it_kept() {
    let mut world = World::start().await;
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
    for user in ["bob", "eve"] {
        a.add_member(ops, &name(user), Role::Member, Signer::Machine)
            .await
            .unwrap();
    }
    let (e, mut e_events) = eve.session("spy", 3).await;
    e.follow(ops).await.unwrap();
    say(&a, ops, "all of us").await.unwrap();
    assert_eq!(
        heard(&mut e_events).await.body.text.as_deref(),
        Some("all of us")
    );
    a.remove_member(ops, &name("eve"), RemoveKind::Kick)
        .await
        .unwrap();
    say(&a, ops, "without eve").await.unwrap();
    // The kick had its own epoch before anybody spoke.
    let tip = a.channel(ops).await.unwrap();
    assert_eq!(tip.epoch().unwrap().e, 2);
    let (b, _b_events) = bob.session("web", 2).await;
    let past = b.history(ops, Past::Last, 10).await.unwrap();
    assert_eq!(texts(&past), ["all of us", "without eve"]);

    // Eve keeps all she had, and gets the server's whole database: every entry and every wrap.
    let id = eve.home.servers().unwrap().pop().unwrap().id;
    let file = eve.home.server_dir(&id).join("replica.sqlite");
    let replica = Replica::open(&file).await.unwrap();
    let kept = replica.channel_keys(Some(ops)).await.unwrap();
    let own = MachineKeys::load(&eve.home, &id).unwrap().unwrap();
    let everybody = a.channel(ops).await.unwrap();
    world.down().await;
    let mut store = SqliteStore::open(&world.dir().join("data/conclave.db")).unwrap();
    let log = LogId::Channel(ops);
    let (after, limit) = (0, u32::MAX);
    let all = PageQuery::Log {
        log,
        after,
        limit,
        select: Select::All,
    };
    let Page::Entries(page) = store.page(&all).unwrap() else {
        panic!("entries");
    };
    let mut opened = Vec::new();
    for entry in &page.entries {
        if let EntryBody::Env(env) = &entry.body {
            let parsed = env.clone().parse().unwrap();
            let e = parsed.header.epoch;
            let place = Place { channel: ops, e };
            let with = |key: &ChannelKey| ChannelKey::new(place, key.bytes()).open(&parsed).ok();
            opened.push(kept.iter().find_map(with).is_some());
        }
    }
    assert_eq!(opened, [true, false], "what was said before, and no more");
    let mut wraps = 0;
    for (user, member) in everybody.members() {
        let identity = a.known_identity(*user).await.unwrap().unwrap();
        for machine in identity.machines_at(member.ident.n) {
            let holder = HolderKey::from(machine.key);
            let query = PageQuery::Wraps {
                channel: ops,
                holder,
                from: 1,
            };
            let Page::Wraps(found) = store.page(&query).unwrap() else {
                panic!("wraps");
            };
            for EpochWrap {
                e,
                generation,
                sealed,
            } in found
            {
                wraps += 1;
                let stolen = Wrap {
                    to: holder,
                    generation,
                    sealed,
                };
                let commit = everybody.epoch_at(e).unwrap().commit;
                let place = Place { channel: ops, e };
                let with = |key: &Generation| wrap::open(&stolen, place, &commit, &key.secret);
                assert!(own.encryption.iter().find_map(with).is_none());
            }
        }
    }
    assert_eq!(wraps, 4, "two machines, two epochs");
}

#[tokio::test]
async fn who_joins_since_join_cannot_read_the_past_and_the_joiner_rotates() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = *a.create_channel(since_join("ops")).await.unwrap().id();
    say(&a, ops, "long ago").await.unwrap();
    let link = a
        .invite(ops, Role::Member, 1, 60_000, Signer::Machine)
        .await
        .unwrap();
    a.stop().await;
    let welcome = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test")
        .await
        .unwrap();
    let tip = welcome.client.channel(ops).await.unwrap();
    assert_eq!(
        (tip.name(), tip.epoch().unwrap().e),
        (Some(&name("ops")), 2)
    );
    assert!(tip.epoch().unwrap().prev_box.is_none());
    say(&welcome.client, ops, "now").await.unwrap();
    let seen = welcome.client.history(ops, Past::Last, 10).await.unwrap();
    assert_eq!(texts(&seen), ["now"]);
    let (a, _a_events) = ada.session("api", 1).await;
    let seen = a.history(ops, Past::Last, 10).await.unwrap();
    assert_eq!(texts(&seen), ["long ago", "now"]);
}

#[tokio::test]
async fn a_stale_link_leaves_keys_pending_until_a_holder_comes_and_nothing_is_lost() {
    let world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = *a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap()
        .id();
    let link = a
        .invite(ops, Role::Member, 1, 60_000, Signer::Machine)
        .await
        .unwrap();
    assert_eq!(a.rotate(ops).await.unwrap(), 2);
    say(&a, ops, "under the second key").await.unwrap();
    a.stop().await;

    let welcome = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test")
        .await
        .unwrap();
    welcome.client.stop().await;
    let (b, mut b_events) = bob.session("web", 2).await;
    b.follow(ops).await.unwrap();
    let body = Body::text("waiting for the key");
    let waits = b.send(Target::Channel(ops), &body, 0, false);
    let (sent, ()) = tokio::join!(waits, async {
        noticed(&mut b_events, NoticeKind::KeysPending).await;
        let (a, mut a_events) = ada.session("api", 1).await;
        a.follow(ops).await.unwrap();
        let m = heard(&mut a_events).await;
        assert_eq!(m.body.text.as_deref(), Some("waiting for the key"));
        a.stop().await;
    });
    assert!(sent.unwrap().stored.is_some());
    let past = b.history(ops, Past::Last, 10).await.unwrap();
    assert_eq!(
        texts(&past),
        ["under the second key", "waiting for the key"]
    );
}

#[tokio::test]
async fn whispers_are_sealed_and_both_sides_keep_them() {
    let world = World::start().await;
    let ((_ada, a, mut a_events), (_bob, b, mut b_events), _ops) = two(&world).await;
    a.follow_mailbox().await.unwrap();
    b.follow_mailbox().await.unwrap();
    let (to_a, to_b) = (
        a.live().unwrap().path.clone(),
        b.live().unwrap().path.clone(),
    );
    let whisper = |to: &conclave_proto::name::SessionPath| Target::Session(to.clone());
    a.send(whisper(&to_b), &Body::text("psst"), 0, false)
        .await
        .unwrap();
    assert_eq!(
        heard(&mut b_events).await.body.text.as_deref(),
        Some("psst")
    );
    b.send(whisper(&to_a), &Body::text("what?"), 0, false)
        .await
        .unwrap();
    assert_eq!(
        heard(&mut a_events).await.body.text.as_deref(),
        Some("what?")
    );
    for (client, peer) in [(&a, &to_b), (&b, &to_a)] {
        let both = client.whispers(peer, 10).await.unwrap();
        assert_eq!(texts(&both), ["psst", "what?"]);
    }
}

#[tokio::test]
async fn a_sealed_channel_is_renamed_out_of_the_servers_sight() {
    let world = World::start().await;
    let ((_ada, a, _a_events), (_bob, b, _b_events), ops) = two(&world).await;
    assert_eq!(b.resolve("ops").await.unwrap().channel, ops);
    a.rename(ops, Some(name("war-room")), Some("what now".into()))
        .await
        .unwrap();
    b.channel(ops).await.unwrap();
    b.follow(ops).await.unwrap();
    // A member's epoch carries the name on; only an admin's could change it.
    b.rotate(ops).await.unwrap();
    for client in [&a, &b] {
        client.rotate(ops).await.unwrap();
        let found = client.resolve("war-room").await.unwrap();
        assert_eq!(
            (found.channel, found.topic.as_deref()),
            (ops, Some("what now"))
        );
    }
}

#[tokio::test]
async fn fifty_rotations_at_once_have_one_winner_each_and_everybody_reads() {
    let world = World::start().await;
    let ((_ada, a, mut a_events), (_bob, b, mut b_events), ops) = two(&world).await;
    a.follow(ops).await.unwrap();
    b.follow(ops).await.unwrap();
    let rounds = 25;
    let rotate = async |client: &Client| {
        for _ in 0..rounds {
            client.rotate(ops).await.unwrap();
        }
    };
    let talk = async |client: &Client, who: &str| {
        for n in 0..rounds {
            say(client, ops, &format!("{who} {n}")).await.unwrap();
        }
    };
    let listen = async |events: &mut mpsc::Receiver<Event>, who: &str| {
        for n in 0..rounds {
            let m = heard(events).await;
            assert_eq!(m.body.text, Some(format!("{who} {n}")));
        }
    };
    tokio::join!(
        rotate(&a),
        rotate(&b),
        talk(&a, "ada"),
        talk(&b, "bob"),
        listen(&mut a_events, "bob"),
        listen(&mut b_events, "ada"),
    );
    let tip = a.channel(ops).await.unwrap();
    assert!(tip.epoch().unwrap().e > 50);
}

#[tokio::test]
async fn a_new_machine_reads_at_once_and_a_revoked_one_no_more() {
    let world = World::start().await;
    let (box_, desk) = (Machine::new(), Machine::new());
    let made = box_.register(&world, "ada").await;
    let owner = made.owner.unwrap();
    let (a, mut a_events) = box_.session("api", 1).await;
    let ops = *a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap()
        .id();
    say(&a, ops, "on the first machine").await.unwrap();
    let link = a.open_enrolment().await.unwrap();
    let key = link.secret.signing_key().invite_key();
    let sign = async {
        loop {
            if let Event::Enrol(request) = a_events.recv().await.unwrap() {
                return a.enrol(&request, &key, &owner).await.unwrap();
            }
        }
    };
    let (welcome, ()) = tokio::join!(
        onboard::enrol(&desk.home, &link, name("desk"), "test"),
        sign
    );
    welcome.unwrap().client.stop().await;
    let (d, _d_events) = desk.session("web", 2).await;
    // The first machine need not be there: it brought the key when it signed the new one in.
    a.stop().await;
    assert_eq!(d.resolve("ops").await.unwrap().channel, ops);
    let past = d.history(ops, Past::Last, 10).await.unwrap();
    assert_eq!(texts(&past), ["on the first machine"]);
    let first = d.machines().await.unwrap();
    let first = first.iter().find(|m| m.name == name("box")).unwrap().key;
    d.revoke_machine(first, "stolen", &owner).await.unwrap();
    let tip = d.channel(ops).await.unwrap();
    assert_eq!(tip.epoch().unwrap().e, 2);
    say(&d, ops, "not for the thief").await.unwrap();
}

/// Returns every file below a directory.
fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[tokio::test]
async fn the_servers_disk_holds_no_text_no_private_name_and_no_topic() {
    let mut world = World::start().await;
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    drop(bob.register(&world, "bob").await);
    let (a, _a_events) = ada.session("api", 1).await;
    let (b, mut b_events) = bob.session("web", 2).await;
    let ops = *a
        .create_channel(NewChannel {
            topic: Some("canary-topic".into()),
            ..NewChannel::new(name("canary-name"), Visibility::Private)
        })
        .await
        .unwrap()
        .id();
    let open = *a
        .create_channel(NewChannel::new(name("lobby"), Visibility::Public))
        .await
        .unwrap()
        .id();
    a.add_member(ops, &name("bob"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    b.follow(ops).await.unwrap();
    b.follow_mailbox().await.unwrap();
    say(&a, ops, "canary-message").await.unwrap();
    say(&a, open, "parrot-message").await.unwrap();
    let to = Target::Session(b.live().unwrap().path.clone());
    a.send(to, &Body::text("canary-whisper"), 0, false)
        .await
        .unwrap();
    heard(&mut b_events).await;
    heard(&mut b_events).await;
    a.rename(ops, Some(name("canary-again")), None)
        .await
        .unwrap();
    a.invite(ops, Role::Member, 1, 60_000, Signer::Machine)
        .await
        .unwrap();
    a.remove_member(ops, &name("bob"), RemoveKind::Kick)
        .await
        .unwrap();
    world.down().await;
    let mut bytes = Vec::new();
    for file in files(world.dir()) {
        bytes.extend(std::fs::read(file).unwrap());
    }
    let has = |what: &str| {
        bytes
            .windows(what.len())
            .any(|part| part == what.as_bytes())
    };
    assert!(
        has("parrot-message"),
        "the search finds what is in the clear"
    );
    assert!(!has("canary"));
}
