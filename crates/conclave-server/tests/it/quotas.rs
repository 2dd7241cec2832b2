//! What one user, key or channel may use up, each bound at its edge and with its way out.

use crate::world::{Peer, Person, World, hello, settings};
use conclave_proto::body::Head;
use conclave_proto::channel_log::{CtlBody, Role, Visibility};
use conclave_proto::frame::op::{IdentAppend, Op};
use conclave_proto::handshake::Mode;
use conclave_proto::id::{Blob, ChannelId, LogId};
use conclave_proto::identity_log::{Cap, MachineClaim, build};
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use conclave_server::hub::{Command, Settings};
use conclave_server::store::memory::MemoryStore;

const ROOM: ChannelId = ChannelId::new([5; 16]);
const OTHER: ChannelId = ChannelId::new([6; 16]);
const LOG: LogId = LogId::Channel(ROOM);

/// A world with these rules, and ana in it.
fn world(change: impl Fn(&mut Settings)) -> (World, Person, Peer) {
    let mut rules = settings();
    change(&mut rules);
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let at = world.register(&ana, "work");
    (world, ana, at)
}

fn limit<T: std::fmt::Debug>(result: Result<T, Reject>, code: &Code) -> u64 {
    let reject = result.unwrap_err();
    assert_eq!(reject.code, *code, "{reject}");
    reject.retry_after_ms.expect("when to try again")
}

#[test]
fn a_user_appends_so_many_entries_a_minute_to_one_channel_from_all_its_sessions() {
    let (mut world, ana, mut at) = world(|rules| rules.appends_per_channel_minute = 4);
    let bob = Person::new("bob", 20);
    let mut bt = world.register(&bob, "work");
    // Control records count too: this takes two.
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    world.add((&ana, &at), ROOM, head, &bob);
    world.create(&ana, &at, OTHER, Visibility::Private, "other");
    let mut second = world.join_session(&ana, "second", 2);
    world.say(&mut at, ROOM, "3").unwrap();
    world.say(&mut second, ROOM, "4").unwrap();
    let env = at.message(ROOM, "5");
    let wait = limit(world.append(&mut at, LOG, env.clone()), &Code::RateLimited);
    assert_eq!(wait, 15_000);
    world.say(&mut at, OTHER, "elsewhere").unwrap();
    world.say(&mut bt, ROOM, "somebody else").unwrap();
    let path = bt.ready.path.clone();
    world.whisper(&mut at, bob.id(), &path).unwrap();
    world.pass(wait - 1);
    let early = world.append(&mut at, LOG, env.clone());
    assert_eq!(limit(early, &Code::RateLimited), 1);
    world.pass(1);
    world.append(&mut at, LOG, env).unwrap();
}

#[test]
fn a_user_appends_so_many_bytes_a_day_wherever_they_go() {
    const HOUR_MS: u64 = 3_600_000;
    let (mut world, ana, mut at) = world(|rules| rules.bytes_per_day = 2_400);
    let bob = Person::new("bob", 20);
    let mut bt = world.register(&bob, "work");
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    world.add((&ana, &at), ROOM, head, &bob);
    let path = bt.ready.path.clone();
    world.whisper(&mut at, bob.id(), &path).unwrap();
    let text = "x".repeat(1_600);
    world.say(&mut at, ROOM, &text).unwrap();
    let env = at.message(ROOM, &text);
    let wait = limit(world.append(&mut at, LOG, env.clone()), &Code::RateLimited);
    assert!((12 * HOUR_MS..24 * HOUR_MS).contains(&wait), "{wait}");
    world.say(&mut bt, ROOM, &text).unwrap();
    assert_eq!(world.state.stats().rated, 2);
    world.pass(wait);
    world.append(&mut at, LOG, env).unwrap();
    world.pass(24 * HOUR_MS);
    assert_eq!(world.state.stats().rated, 0, "what is over is forgotten");
}

#[test]
fn a_user_tries_to_join_so_often_a_minute_and_a_lost_race_does_not_count() {
    let (mut world, ana, at) = world(|rules| rules.joins_per_minute = 2);
    let head = world.create(&ana, &at, ROOM, Visibility::Public, "square");
    let eve = Person::new("eve", 30);
    let et = world.register(&eve, "work");
    let join = |world: &mut World, channel, after| {
        world.ctl(
            &eve,
            &et,
            channel,
            Some(after),
            CtlBody::Join { ticket: None },
        )
    };
    let n = head.n + 7;
    for _ in 0..5 {
        let stale = join(&mut world, ROOM, Head { n, ..head });
        assert_eq!(stale.unwrap_err().code, Code::CtlConflict);
    }
    for _ in 0..2 {
        let guess = join(&mut world, OTHER, head);
        assert_eq!(guess.unwrap_err().code, Code::NotFound);
    }
    let wait = limit(join(&mut world, ROOM, head), &Code::RateLimited);
    assert_eq!(wait, 30_000);
    world.pass(wait);
    join(&mut world, ROOM, head).unwrap();
}

#[test]
fn a_key_that_fails_to_authenticate_waits_twice_as_long_each_time() {
    let (mut world, ana, _) = world(|rules| rules.key_failures_per_minute = 3);
    let eve = Person::new("eve", 30);
    let knock = |world: &mut World| {
        let hello = hello(&eve.machine, "work", false, 1);
        world.try_enter(hello, Mode::Auth).unwrap_err()
    };
    for _ in 0..3 {
        assert_eq!(knock(&mut world).code, Code::UnknownKey);
    }
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        let refused = knock(&mut world);
        assert_eq!(refused.code, Code::RateLimited);
        assert_eq!(refused.retry_after_ms, Some(minutes * 60_000));
        world.pass(minutes * 60_000);
        assert_eq!(knock(&mut world).code, Code::UnknownKey);
    }
    world.join_session(&ana, "other", 2);
    world.pass(60 * 60_000);
    // Who comes in is forgiven.
    world.register(&eve, "work");
    assert_eq!(world.state.stats().rated, 0);
}

#[test]
fn a_key_that_is_quiet_for_long_enough_starts_afresh() {
    let (mut world, ..) = world(|rules| rules.key_failures_per_minute = 1);
    let eve = Person::new("eve", 30);
    let knock = |world: &mut World| {
        let hello = hello(&eve.machine, "work", false, 1);
        world.try_enter(hello, Mode::Auth).unwrap_err()
    };
    for _ in 0..3 {
        assert_eq!(knock(&mut world).code, Code::UnknownKey);
        assert_eq!(knock(&mut world).retry_after_ms, Some(60_000));
        world.pass(2 * 60_000);
    }
    assert_eq!(world.state.stats().rated, 0);
}

#[test]
fn lesson_21_a_user_has_so_many_connections_and_gets_back_what_it_ends() {
    let (mut world, ana, at) = world(|rules| rules.connections_per_user_max = 2);
    world.join_session(&ana, "two", 2);
    let enter = |world: &mut World, handle, instance| {
        world.try_enter(hello(&ana.machine, handle, false, instance), Mode::Auth)
    };
    assert!(limit(enter(&mut world, "three", 3), &Code::LimitReached) > 0);
    assert!(limit(enter(&mut world, "cli", 4), &Code::LimitReached) > 0);
    // The same session again takes its own place.
    enter(&mut world, "two", 2).unwrap();
    world.register(&Person::new("bob", 20), "work");
    world.step(Command::Disconnected { conn: at.conn });
    enter(&mut world, "cli", 4).unwrap();
    assert!(limit(enter(&mut world, "work", 1), &Code::LimitReached) > 0);
}

/// Another machine for a person, signed by its owner key.
fn machine(person: &Person, seed: u8) -> (Secret, Blob) {
    let (fresh, ek) = (
        Secret::from_seed(&[seed; 32]),
        EncryptionKey::new([seed; 32]),
    );
    let title = crate::world::name(&format!("m{seed}"));
    let claim = MachineClaim::enrol(&person.id(), title, ek, &fresh);
    let caps = Cap::default_set();
    let rec = build::add_machine(&person.log, claim, caps, &person.owner, UnixMs(2));
    (fresh, rec.bytes().clone())
}

#[test]
fn the_machines_of_a_channels_members_are_bounded_together() {
    let (mut world, ana, at) = world(|rules| rules.machines_per_channel_max = 3);
    let (mut bob, eve) = (Person::new("bob", 20), Person::new("eve", 30));
    let (bt, et) = (world.register(&bob, "work"), world.register(&eve, "work"));
    let extend = |world: &mut World, rec: &Blob| {
        let op = Op::IdentAppend(IdentAppend { rec: rec.clone() });
        world.request(bt.conn, op)
    };
    let head = world.create(&ana, &at, ROOM, Visibility::Public, "room");
    let head = world.add((&ana, &at), ROOM, head, &bob);
    let (tower, rec) = machine(&bob, 71);
    extend(&mut world, &rec).unwrap();
    bob.log.append(&rec).unwrap();
    // Three machines are there: no way to a fourth.
    let (_, fourth) = machine(&bob, 72);
    assert!(limit(extend(&mut world, &fourth), &Code::LimitReached) > 0);
    let join = || CtlBody::Join { ticket: None };
    let joined = world.ctl(&eve, &et, ROOM, Some(head), join());
    assert!(limit(joined, &Code::LimitReached) > 0);
    let (user, ident, role) = (eve.id(), eve.log.head(), Role::Member);
    let add = CtlBody::Add { user, ident, role };
    let added = world.ctl(&ana, &at, ROOM, Some(head), add);
    assert!(limit(added, &Code::LimitReached) > 0);
    // A machine that ends makes room.
    let key = tower.machine_key();
    let rec = build::revoke_machine(&bob.log, key, "old", &bob.owner, UnixMs(3));
    extend(&mut world, rec.bytes()).unwrap();
    world.ctl(&eve, &et, ROOM, Some(head), join()).unwrap();
}

#[test]
fn a_limit_of_zero_is_off() {
    let (mut world, ana, mut at) = world(|rules| {
        rules.appends_per_channel_minute = 0;
        rules.bytes_per_day = 0;
        rules.joins_per_minute = 0;
        rules.key_failures_per_minute = 0;
        rules.connections_per_user_max = 0;
        rules.machines_per_channel_max = 0;
    });
    let head = world.create(&ana, &at, ROOM, Visibility::Public, "room");
    let eve = Person::new("eve", 30);
    for n in 0..200 {
        world.say(&mut at, ROOM, "again").unwrap();
        let stranger = world.try_enter(hello(&eve.machine, "work", false, 1), Mode::Auth);
        assert_eq!(stranger.unwrap_err().code, Code::UnknownKey);
        let one_shot = hello(&ana.machine, "cli", false, n);
        world.try_enter(one_shot, Mode::Auth).unwrap();
        let join = CtlBody::Join { ticket: None };
        let guess = world.ctl(&ana, &at, OTHER, Some(head), join);
        assert_eq!(guess.unwrap_err().code, Code::NotFound);
    }
    let (_, rec) = machine(&ana, 71);
    let op = Op::IdentAppend(IdentAppend { rec });
    world.request(at.conn, op).unwrap();
    assert_eq!(world.state.stats().rated, 0);
}
