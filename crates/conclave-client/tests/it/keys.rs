//! Keys that come, go and are renewed: who may read reads all of it, whichever process was at work.

use super::scene::{say, since_join, texts};
use crate::talk::{Machine, SOON, World, name};
use conclave_client::ClientError;
use conclave_client::client::{Client, History as Past, NewChannel, Session, Signer, Target};
use conclave_client::event::Event;
use conclave_client::onboard;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{RemoveKind, Role, Visibility};
use conclave_proto::id::ChannelId;
use std::time::Duration;
use tokio::sync::mpsc;

async fn people<const N: usize>(world: &World, names: [&str; N]) -> [Machine; N] {
    let machines = std::array::from_fn(|_| Machine::new());
    for (machine, user) in machines.iter().zip(names) {
        drop(machine.register(world, user).await);
    }
    machines
}

fn private() -> NewChannel {
    NewChannel::new(name("ops"), Visibility::Private)
}

async fn made(by: &Client, new: NewChannel) -> ChannelId {
    *by.create_channel(new).await.unwrap().id()
}

async fn added(by: &Client, channel: ChannelId, user: &str, role: Role) {
    by.add_member(channel, &name(user), role, Signer::Machine)
        .await
        .unwrap();
}

/// The next message's text; no notice may come before it.
async fn heard(events: &mut mpsc::Receiver<Event>) -> String {
    let next = async {
        loop {
            match events.recv().await.expect("the session lives") {
                Event::Message(m) => return m.body.text.unwrap_or_default(),
                Event::Notice(notice) => panic!("{notice:?}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, next)
        .await
        .expect("a message comes")
}

/// A week goes by, and another session of the machine renews its key and ends.
async fn renews(machine: &Machine) {
    let id = machine.home.servers().unwrap().pop().unwrap().id;
    let file = machine.home.server_dir(&id).join("encryption.keys");
    let young = std::fs::read_to_string(&file).unwrap();
    let aged = young.lines().map(|line| match line.starts_with("since") {
        true => "since = 1\n".to_owned(),
        false => format!("{line}\n"),
    });
    std::fs::write(&file, aged.collect::<String>()).unwrap();
    let (other, _events) = machine.session("other", 3).await;
    let told = || {
        let text = std::fs::read_to_string(&file).unwrap();
        let words = text.lines().filter_map(|l| l.strip_prefix("announced = "));
        words.filter(|word| *word != "false").count()
    };
    let wait = async {
        while told() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, wait)
        .await
        .expect("the key is renewed");
    other.stop().await;
}

#[tokio::test]
async fn a_whisper_reaches_a_session_that_began_before_the_machines_key_was_renewed() {
    let world = World::start().await;
    let [ada, bob] = people(&world, ["ada", "bob"]).await;
    let (a, _a_events) = ada.session("api", 1).await;
    let (b, mut b_events) = bob.session("web", 2).await;
    let ops = made(&a, private()).await;
    added(&a, ops, "bob", Role::Member).await;
    b.follow_mailbox().await.unwrap();
    renews(&bob).await;
    // Another process of hers, which has asked nobody yet: one asks again after an hour only.
    a.stop().await;
    let (a, _a_events) = ada.session("api", 1).await;
    let to = Target::Session(b.live().unwrap().path.clone());
    a.send(to, &Body::text("psst"), 0, false).await.unwrap();
    assert_eq!(heard(&mut b_events).await, "psst");
}

#[tokio::test]
async fn a_channels_next_key_reaches_a_session_that_began_before_the_machines_was_renewed() {
    let world = World::start().await;
    let [ada, bob] = people(&world, ["ada", "bob"]).await;
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = made(&a, private()).await;
    added(&a, ops, "bob", Role::Member).await;
    let (b, mut b_events) = bob.session("web", 2).await;
    b.follow(ops).await.unwrap();
    say(&a, ops, "one").await.unwrap();
    assert_eq!(heard(&mut b_events).await, "one");
    renews(&bob).await;
    a.stop().await;
    let (a, _a_events) = ada.session("api", 1).await;
    a.rotate(ops).await.unwrap();
    say(&a, ops, "two").await.unwrap();
    assert_eq!(heard(&mut b_events).await, "two");
}

/// Who makes a new epoch before it has read on still gets the key of the one between.
#[tokio::test]
async fn an_admin_who_rotates_before_it_read_on_has_no_hole_in_its_past() {
    let world = World::start().await;
    let [ada, bob, _eve] = people(&world, ["ada", "bob", "eve"]).await;
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = made(&a, since_join("ops")).await;
    for user in ["bob", "eve"] {
        added(&a, ops, user, Role::Admin).await;
    }
    let (b, mut b_events) = bob.session("web", 2).await;
    b.follow(ops).await.unwrap();
    say(&a, ops, "one").await.unwrap();
    assert_eq!(heard(&mut b_events).await, "one");
    b.stop().await;
    a.remove_member(ops, &name("eve"), RemoveKind::Kick)
        .await
        .unwrap();
    say(&a, ops, "two").await.unwrap();
    let (b, mut b_events) = bob.session("web", 2).await;
    b.rotate(ops).await.unwrap();
    b.follow(ops).await.unwrap();
    say(&a, ops, "three").await.unwrap();
    for text in ["two", "three"] {
        assert_eq!(heard(&mut b_events).await, text);
    }
    let past = b.history(ops, Past::Last, 10).await.unwrap();
    assert_eq!(texts(&past), ["one", "two", "three"]);
}

/// What was said under an epoch that a one-shot of this machine skipped is read all the same.
#[tokio::test]
async fn a_one_shot_that_rotates_does_not_close_what_was_unread() {
    let world = World::start().await;
    let [ada, bob, eve] = people(&world, ["ada", "bob", "eve"]).await;
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = made(&a, since_join("ops")).await;
    added(&a, ops, "bob", Role::Member).await;
    let (b, _b_events) = bob.session("web", 2).await;
    assert_eq!(b.resolve("ops").await.unwrap().channel, ops);
    b.stop().await;
    added(&a, ops, "eve", Role::Member).await;
    say(&a, ops, "for bob").await.unwrap();
    let (e, _e_events) = eve.session("x", 3).await;
    e.leave(ops).await.unwrap();
    let (b, _b_events) = bob.session("web", 2).await;
    say(&b, ops, "from bob").await.unwrap();
    b.stop().await;
    let (b, _b_events) = bob.session("web", 2).await;
    let past = b.history(ops, Past::Last, 10).await.unwrap();
    assert_eq!(texts(&past), ["for bob", "from bob"]);
}

/// An admin whose session has not read a new name does not put the old one back.
#[tokio::test]
async fn a_rotation_by_an_admin_keeps_the_newest_name() {
    let world = World::start().await;
    let [ada, bob, _eve] = people(&world, ["ada", "bob", "eve"]).await;
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = made(&a, private()).await;
    added(&a, ops, "bob", Role::Admin).await;
    added(&a, ops, "eve", Role::Member).await;
    let (b, _b_events) = bob.session("web", 2).await;
    assert_eq!(b.resolve("ops").await.unwrap().channel, ops);
    a.rename(ops, Some(name("war-room")), None).await.unwrap();
    b.remove_member(ops, &name("eve"), RemoveKind::Kick)
        .await
        .unwrap();
    let found = a.resolve("war-room").await.map(|info| info.channel);
    assert_eq!(found.ok(), Some(ops));
}

/// A reader may not rotate, and the keys of its stolen machine are gone all the same.
#[tokio::test]
async fn a_reader_who_revokes_a_machine_takes_its_keys() {
    let world = World::start().await;
    let (ada, bob, desk) = (Machine::new(), Machine::new(), Machine::new());
    drop(ada.register(&world, "ada").await);
    let owner = bob.register(&world, "bob").await.owner.unwrap();
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
    let ops = made(&a, private()).await;
    added(&a, ops, "bob", Role::Reader).await;
    say(&a, ops, "before").await.unwrap();
    let revoked = b.revoke_machine(stolen, "stolen", &owner).await;
    say(&a, ops, "after").await.unwrap();
    let tip = a.channel(ops).await.unwrap();
    assert_eq!(tip.epoch().unwrap().e, 2, "{revoked:?}");
}

async fn one_shot(machine: &Machine) -> (Client, mpsc::Receiver<Event>) {
    let profile = machine.home.servers().unwrap().pop().unwrap();
    let session = Session::one_shot("test").unwrap();
    let (client, events) = Client::connect(&machine.home, &profile, session)
        .await
        .unwrap();
    client.ready(SOON).await.unwrap();
    (client, events)
}

/// Makes all that waits on a machine look as if it had waited for an hour.
fn wait_an_hour(machine: &Machine) {
    let id = machine.home.servers().unwrap().pop().unwrap().id;
    let file = machine.home.server_dir(&id).join("replica.sqlite");
    let db = rusqlite::Connection::open(file).unwrap();
    db.busy_timeout(SOON).unwrap();
    let sql = "UPDATE draft SET created = created - 3600000";
    assert_eq!(db.execute(sql, []).unwrap(), 1);
}

/// Two one-shots of a machine share what waits for a key: whether the other takes it over or leaves it,
/// it is said once.
#[tokio::test]
async fn a_draft_that_one_shots_share_is_sent_once() {
    for taken_over in [false, true] {
        let world = World::start().await;
        let [ada] = people(&world, ["ada"]).await;
        let bob = Machine::new();
        let (a, _a_events) = ada.session("api", 1).await;
        let ops = made(&a, private()).await;
        let link = a
            .invite(ops, Role::Member, 1, 60_000, Signer::Machine)
            .await
            .unwrap();
        // The link's key is an old one now, and who has the new one is away.
        a.rotate(ops).await.unwrap();
        a.stop().await;
        let welcome = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test").await;
        welcome.unwrap().client.stop().await;

        let (one, _one_events) = one_shot(&bob).await;
        let body = Body::text("waiting");
        let rest = async {
            let drafted = async {
                while one.waiting().await.unwrap().is_empty() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(SOON, drafted)
                .await
                .expect("it is drafted");
            if taken_over {
                wait_an_hour(&bob);
            }
            let (two, _two_events) = one_shot(&bob).await;
            let (a, mut a_events) = ada.session("api", 1).await;
            a.follow(ops).await.unwrap();
            assert_eq!(heard(&mut a_events).await, "waiting");
            say(&two, ops, "after").await.unwrap();
            assert_eq!(heard(&mut a_events).await, "after");
            let past = a.history(ops, Past::Last, 10).await.unwrap();
            assert_eq!(texts(&past), ["waiting", "after"]);
        };
        let (sent, ()) = tokio::join!(one.send(Target::Channel(ops), &body, 0, false), rest);
        // Who finds that another one-shot sent it hears no more of it.
        let fine = match &sent {
            Ok(_) => true,
            Err(error) => taken_over && matches!(error, ClientError::Closed),
        };
        assert!(fine, "{sent:?}");
        assert!(one.waiting().await.unwrap().is_empty());
    }
}
