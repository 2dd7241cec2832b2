//! Encryption keys and wraps at the server: who may bring which, who gets which, who is asked.

use crate::rules::{act, administered};
use crate::sealed::{ROOM, Room, entry, machine, owner, room, wraps};
use crate::world::{Peer, Person, SERVER, World, code, hello, name, settings};
use conclave_proto::admin::AdminBody;
use conclave_proto::channel_log::{CtlBody, History, RemoveKind, Role, Visibility};
use conclave_proto::encryption_key::Announcement;
use conclave_proto::frame::Event;
use conclave_proto::frame::op::{EkFetch, EkPublish, IdentAppend, Op, WrapMissing};
use conclave_proto::frame::reply::{Missing, Reply};
use conclave_proto::handshake::{Mode, recover_message};
use conclave_proto::id::{Blob, ServerId};
use conclave_proto::identity_log::{Cap, MachineClaim, build};
use conclave_proto::key::{EncryptionKey, HolderKey, Secret};
use conclave_proto::limit::{ENCRYPTION_KEY_MS_MAX, HOLDERS_MAX, WRAPS_MAX};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use conclave_server::hub::{Checked, Command};
use conclave_server::store::Write;
use conclave_server::store::memory::MemoryStore;
use conclave_server::store::sqlite::SqliteStore;

fn full() -> Room {
    room(World::new(), History::Full)
}

fn refused<T: std::fmt::Debug>(result: Result<T, Reject>) -> Code {
    result.unwrap_err().code
}

#[test]
fn only_what_is_sealed_under_the_newest_epoch_of_the_members_as_they_are_is_taken() {
    let mut r = full();
    let (ana, bob) = (r.ana.1.clone(), r.bob.1.clone());
    assert_eq!(
        refused(r.send(&ana, entry(&ana, 1, 1, "x"))),
        Code::StaleEpoch
    );
    r.rotate(&[]).unwrap();
    let mut clear = r.ana.1.clone();
    let clear = clear.message(ROOM, "to be read by the server");
    assert_eq!(refused(r.send(&ana, clear)), Code::Mode);
    for epoch in [0, 2] {
        let other = entry(&ana, epoch, 1, "x");
        assert_eq!(refused(r.send(&ana, other)), Code::StaleEpoch);
    }
    r.send(&ana, entry(&ana, 1, 1, "x")).unwrap();
    r.remove(r.bob.0.id(), RemoveKind::Kick);
    assert_eq!(
        refused(r.send(&ana, entry(&ana, 1, 2, "x"))),
        Code::StaleEpoch
    );
    assert_eq!(
        refused(r.send(&bob, entry(&bob, 1, 1, "x"))),
        Code::NotFound
    );
    r.rotate(&[]).unwrap();
    assert_eq!(
        refused(r.send(&ana, entry(&ana, 1, 2, "x"))),
        Code::StaleEpoch
    );
    r.send(&ana, entry(&ana, 2, 2, "x")).unwrap();
}

#[test]
fn an_epoch_and_its_wraps_are_one_commit() {
    let mut r = full();
    let to = [machine(&r.ana.0), machine(&r.bob.0)];
    let op = r.op((&r.ana.0, &r.ana.1), r.epoch(), wraps(1, &to));
    let op = Checked::new(op).unwrap();
    let (conn, id) = (r.ana.1.conn, 7);
    r.world
        .state
        .handle(r.world.now, Command::Request { conn, id, op });
    let writes = r.world.state.take_writes();
    assert!(
        matches!(&writes[..], [Write::Ctl { .. }, Write::Wraps { e: 1, wraps, .. }] if wraps.len() == 2),
        "{writes:?}"
    );
}

#[test]
fn wraps_come_with_an_epoch_once_for_each_holder_and_for_nobody_else() {
    let mut r = full();
    let (ana, bob) = (machine(&r.ana.0), machine(&r.bob.0));
    let eve = Person::new("eve", 30);
    let freeze = CtlBody::Freeze { on: true };
    let beside = r.by_ana_with(freeze, wraps(1, &[ana]));
    assert_eq!(refused(beside), Code::Malformed);
    assert_eq!(refused(r.rotate(&[ana, bob, ana])), Code::Malformed);
    let many: Vec<HolderKey> = (0..=WRAPS_MAX)
        .map(|n| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            HolderKey::new(key)
        })
        .collect();
    assert_eq!(refused(r.rotate(&many)), Code::TooLarge);
    assert_eq!(refused(r.rotate(&[ana, machine(&eve)])), Code::Forbidden);
    let (at, bt) = (r.ana.1.clone(), r.bob.1.clone());
    assert_eq!(
        r.missing(&at).unwrap(),
        (0, Vec::new()),
        "no epoch came of it"
    );
    r.rotate(&[ana, bob, owner(&r.bob.0)]).unwrap();
    assert_eq!(r.fetch(&at, ana), [(1, 1)]);
    assert_eq!(r.fetch(&bt, bob), [(1, 1)]);
    assert_eq!(r.fetch(&bt, owner(&r.bob.0)), [(1, 1)]);
    let mut since = room(World::new(), History::SinceJoin);
    let bobs = owner(&since.bob.0);
    assert_eq!(refused(since.rotate(&[bobs])), Code::Forbidden);
    assert!(since.rotate(&[bob]).is_ok());
}

#[test]
fn who_rotated_too_late_is_told_so_even_with_wraps_to_a_member_that_is_gone() {
    let mut r = full();
    let late = r.op(
        (&r.ana.0, &r.ana.1),
        r.epoch(),
        wraps(1, &[machine(&r.bob.0)]),
    );
    r.remove(r.bob.0.id(), RemoveKind::Kick);
    let conn = r.ana.1.conn;
    assert_eq!(code(r.world.request(conn, late)), Code::CtlConflict);
}

fn announce(person: &Person, generation: u32, seed: u8) -> Blob {
    let (key, until) = (EncryptionKey::new([seed; 32]), UnixMs(9_000_000));
    let rec = Announcement::sign_machine(SERVER, &person.machine, generation, key, until);
    rec.bytes().clone()
}

fn announce_owner(person: &Person) -> Blob {
    let key = EncryptionKey::new([3; 32]);
    let rec = Announcement::sign_owner(SERVER, &person.owner, key);
    rec.bytes().clone()
}

fn publish(world: &mut World, peer: &Peer, rec: &Blob) -> Result<Reply, Reject> {
    let op = Op::EkPublish(EkPublish { rec: rec.clone() });
    world.request(peer.conn, op)
}

fn announced(world: &mut World, peer: &Peer, holders: &[HolderKey]) -> Vec<Blob> {
    let holders = holders.to_vec();
    match world.request(peer.conn, Op::EkFetch(EkFetch { holders })) {
        Ok(Reply::Eks(eks)) => eks.recs,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_later_key_replaces_an_earlier_one_and_never_the_other_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("store.db")).unwrap();
    let mut r = room(World::with(settings(), Box::new(store)), History::Full);
    let (at, key) = (r.ana.1.clone(), machine(&r.ana.0));
    let (first, third) = (announce(&r.ana.0, 1, 1), announce(&r.ana.0, 3, 1));
    publish(&mut r.world, &at, &first).unwrap();
    publish(&mut r.world, &at, &first).expect("done is done");
    publish(&mut r.world, &at, &third).unwrap();
    for (generation, seed) in [(1, 1), (2, 1), (3, 9)] {
        let rec = announce(&r.ana.0, generation, seed);
        let late = publish(&mut r.world, &at, &rec).unwrap_err();
        assert_eq!((late.code, late.expected), (Code::VersionMismatch, Some(3)));
    }
    publish(&mut r.world, &at, &third).unwrap();
    let bob = r.bob.1.clone();
    let newest = [third];
    assert_eq!(announced(&mut r.world, &bob, &[key]), newest);
    r.world.restart();
    let bob = r.world.join_session(&r.bob.0, "work", 1);
    assert_eq!(announced(&mut r.world, &bob, &[key]), newest);
}

#[test]
fn of_two_keys_of_one_generation_in_one_commit_the_first_is_kept_and_the_second_refused() {
    let mut r = full();
    let at = r.ana.1.clone();
    let recs = [announce(&r.ana.0, 1, 1), announce(&r.ana.0, 1, 2)];
    let commands = [0, 1].map(|id| {
        let rec = recs[id].clone();
        let op = Checked::new(Op::EkPublish(EkPublish { rec })).unwrap();
        let (conn, id) = (at.conn, id as u64);
        Command::Request { conn, id, op }
    });
    r.world.batch(commands.into());
    assert!(r.world.answer(at.conn, 0).unwrap().is_ok());
    assert_eq!(
        code(r.world.answer(at.conn, 1).unwrap()),
        Code::VersionMismatch
    );
    let stored = r.world.store.load().unwrap().announcements;
    assert_eq!(stored[0].rec, recs[0]);
    assert_eq!(
        announced(&mut r.world, &at, &[machine(&r.ana.0)]),
        [recs[0].clone()]
    );
}

#[test]
fn nobody_announces_a_key_of_somebody_else_or_for_too_long() {
    let mut r = full();
    let (at, bt) = (r.ana.1.clone(), r.bob.1.clone());
    let (mine, owners) = (announce(&r.ana.0, 1, 1), announce_owner(&r.ana.0));
    for rec in [&mine, &owners] {
        assert_eq!(code(publish(&mut r.world, &bt, rec)), Code::Unauthorized);
    }
    let mut forged = mine.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(
        refused(publish(&mut r.world, &at, &forged.into())),
        Code::Unauthorized
    );
    let key = EncryptionKey::new([1; 32]);
    let until = |ms| UnixMs(r.world.now.wall.0 + ENCRYPTION_KEY_MS_MAX + ms);
    let sign = |server, until| {
        let rec = Announcement::sign_machine(server, &r.ana.0.machine, 1, key, until);
        rec.bytes().clone()
    };
    let (late, latest) = (
        sign(SERVER, until(86_400_001)),
        sign(SERVER, until(86_400_000)),
    );
    let elsewhere = sign(ServerId::new([2; 32]), until(0));
    assert_eq!(code(publish(&mut r.world, &at, &late)), Code::LimitReached);
    assert_eq!(
        code(publish(&mut r.world, &at, &elsewhere)),
        Code::Malformed
    );
    publish(&mut r.world, &at, &latest).unwrap();
    publish(&mut r.world, &at, &owners).unwrap();
}

#[test]
fn a_machine_announces_for_itself_and_not_for_another_one_of_its_user() {
    let mut r = full();
    let at = r.ana.1.clone();
    let fresh = Secret::from_seed(&[71; 32]);
    let ek = EncryptionKey::new([8; 32]);
    let claim = MachineClaim::enrol(&r.ana.0.id(), name("tower"), ek, &fresh);
    let (caps, owner) = (Cap::default_set(), &r.ana.0.owner);
    let rec = build::add_machine(&r.ana.0.log, claim, caps, owner, UnixMs(2));
    let rec = rec.bytes().clone();
    let op = Op::IdentAppend(IdentAppend { rec });
    r.world.request(at.conn, op).unwrap();
    let rec = Announcement::sign_machine(SERVER, &fresh, 1, ek, UnixMs(9_000_000));
    let rec = rec.bytes().clone();
    assert_eq!(code(publish(&mut r.world, &at, &rec)), Code::Unauthorized);
}

#[test]
fn below_the_disk_floor_no_keys_are_taken_and_those_there_are_still_given() {
    let mut rules = settings();
    rules.disk_floor_bytes = 1_000;
    let world = World::with(rules, Box::new(MemoryStore::new()));
    let mut r = room(world, History::Full);
    let (at, ana, bob) = (r.ana.1.clone(), machine(&r.ana.0), machine(&r.bob.0));
    r.rotate(&[ana]).unwrap();
    r.world.state.has_free(Some(999));
    assert_eq!(refused(r.put(&at, 1, 1, &[bob])), Code::StorageFull);
    let rec = announce(&r.ana.0, 1, 1);
    assert_eq!(code(publish(&mut r.world, &at, &rec)), Code::StorageFull);
    assert_eq!(r.fetch(&at, ana), [(1, 1)]);
    r.world.state.has_free(Some(1_000));
    r.put(&at, 1, 1, &[bob]).unwrap();
    publish(&mut r.world, &at, &rec).unwrap();
}

#[test]
fn announced_keys_are_told_in_the_order_asked_for_to_who_may_know_their_holders() {
    let mut r = full();
    let (at, bt) = (r.ana.1.clone(), r.bob.1.clone());
    let (mine, owners) = (announce(&r.ana.0, 1, 1), announce_owner(&r.ana.0));
    publish(&mut r.world, &at, &mine).unwrap();
    publish(&mut r.world, &at, &owners).unwrap();
    let keys = [owner(&r.ana.0), machine(&r.bob.0), machine(&r.ana.0)];
    assert_eq!(announced(&mut r.world, &bt, &keys), [owners, mine]);
    let eve = r.world.register(&Person::new("eve", 30), "work");
    assert!(announced(&mut r.world, &eve, &keys).is_empty());
    let holders = vec![keys[0]; HOLDERS_MAX + 1];
    let many = r.world.request(bt.conn, Op::EkFetch(EkFetch { holders }));
    assert_eq!(code(many), Code::TooLarge);
}

#[test]
fn who_recovers_announces_the_owners_key_and_no_machines() {
    let mut r = full();
    let (username, title) = (name("ana"), name("tower"));
    let fresh = Secret::from_seed(&[71; 32]);
    let message = recover_message(&SERVER, &fresh.machine_key(), &username, &title);
    let mode = Mode::Recover {
        username,
        machine: title,
        owner: r.ana.0.owner.owner_key(),
        sig: r.ana.0.owner.sign(message),
    };
    let (conn, _) = r
        .world
        .try_enter(hello(&fresh, "work", false, 9), mode)
        .unwrap();
    let mut publish = |rec: Blob| r.world.request(conn, Op::EkPublish(EkPublish { rec }));
    assert!(publish(announce_owner(&r.ana.0)).is_ok());
    assert_eq!(code(publish(announce_owner(&r.bob.0))), Code::Unauthorized);
    assert_eq!(code(publish(announce(&r.ana.0, 1, 1))), Code::Forbidden);
}

#[test]
fn a_member_brings_what_is_missing_and_what_is_there_stays() {
    let mut r = full();
    let (at, bt) = (r.ana.1.clone(), r.bob.1.clone());
    let (ana, bob) = (machine(&r.ana.0), machine(&r.bob.0));
    assert_eq!(refused(r.put(&at, 0, 1, &[bob])), Code::StaleEpoch);
    r.rotate(&[ana]).unwrap();
    assert_eq!(r.missing(&at).unwrap(), (1, vec![bob]));
    let second = r.world.join_session(&r.bob.0, "second", 2);
    assert_eq!(refused(r.put(&at, 2, 1, &[bob])), Code::StaleEpoch);
    let eve = Person::new("eve", 30);
    let both = r.put(&at, 1, 1, &[bob, machine(&eve)]);
    assert_eq!(refused(both), Code::Forbidden);
    assert_eq!(refused(r.put(&at, 1, 1, &[bob, bob])), Code::Malformed);
    assert!(r.fetch(&bt, bob).is_empty(), "all of it or nothing");
    r.put(&at, 1, 2, &[bob, ana]).unwrap();
    assert_eq!(r.fetch(&bt, bob), [(1, 2)]);
    assert_eq!(
        r.fetch(&at, ana),
        [(1, 1)],
        "the one of the epoch's record stays"
    );
    assert_eq!(r.keys(&bt), [1]);
    assert_eq!(r.keys(&second), [1], "every session of the machine");
    assert!(r.keys(&at).is_empty(), "nothing new for this one");
    r.put(&at, 1, 3, &[bob]).unwrap();
    assert_eq!(r.fetch(&bt, bob), [(1, 2)]);
    assert!(r.keys(&bt).is_empty());
    assert_eq!(r.missing(&at).unwrap(), (1, Vec::new()));
    assert_eq!(r.world.state.stats().wraps, 2);
}

#[test]
fn a_reader_brings_wraps_too() {
    let mut r = full();
    let role = CtlBody::Role {
        user: r.bob.0.id(),
        role: Role::Reader,
    };
    r.by_ana(role).unwrap();
    r.rotate(&[machine(&r.bob.0)]).unwrap();
    let (at, bt, ana) = (r.ana.1.clone(), r.bob.1.clone(), machine(&r.ana.0));
    r.put(&bt, 1, 2, &[ana]).unwrap();
    assert_eq!(r.fetch(&at, ana), [(1, 2)]);
}

#[test]
fn the_owner_key_is_missing_only_once_it_announced_a_key_and_only_with_full_history() {
    for (history, expected) in [(History::Full, 1), (History::SinceJoin, 0)] {
        let mut r = room(World::new(), history);
        let at = r.ana.1.clone();
        r.rotate(&[machine(&r.ana.0), machine(&r.bob.0)]).unwrap();
        assert_eq!(r.missing(&at).unwrap(), (1, Vec::new()));
        publish(&mut r.world, &at, &announce_owner(&r.ana.0)).unwrap();
        let (_, lack) = r.missing(&at).unwrap();
        assert_eq!(lack.len(), expected, "{history:?}");
        assert!(lack.iter().all(|holder| *holder == owner(&r.ana.0)));
    }
}

#[test]
fn a_channel_without_epochs_lacks_nothing() {
    let mut world = World::new();
    let ana = Person::new("ana", 10);
    let at = world.register(&ana, "work");
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let missing = world.request(at.conn, Op::WrapMissing(WrapMissing { channel: ROOM }));
    let (e, holders) = (0, Vec::new());
    assert_eq!(missing, Ok(Reply::Missing(Missing { e, holders })));
}

#[test]
fn who_joined_after_an_epoch_gets_no_wrap_of_it_where_history_starts_with_the_join() {
    for (history, may) in [(History::Full, true), (History::SinceJoin, false)] {
        let mut r = room(World::new(), history);
        let (at, eve) = (r.ana.1.clone(), Person::new("eve", 30));
        let et = r.world.register(&eve, "work");
        r.rotate(&[machine(&r.ana.0), machine(&r.bob.0)]).unwrap();
        r.add(&eve);
        r.follow(&at);
        assert_eq!(r.missing(&at).unwrap().1.contains(&machine(&eve)), may);
        assert!(r.fetch(&et, machine(&eve)).is_empty());
        assert_eq!(r.wanted(&at), usize::from(may), "{history:?}");
        assert_eq!(r.put(&at, 1, 1, &[machine(&eve)]).is_ok(), may);
        r.rotate(&[machine(&eve)]).unwrap();
        assert_eq!(r.fetch(&et, machine(&eve)).len(), 1 + usize::from(may));
    }
}

#[test]
fn a_wrap_that_does_not_open_is_thrown_away_and_others_are_asked_for_another() {
    let mut r = full();
    let (at, bt) = (r.ana.1.clone(), r.bob.1.clone());
    let (ana, bob) = (machine(&r.ana.0), machine(&r.bob.0));
    r.rotate(&[ana, bob]).unwrap();
    r.rotate(&[ana, bob]).unwrap();
    r.follow(&at);
    r.follow(&bt);
    assert_eq!(r.fetch(&bt, bob), [(1, 1), (2, 1)]);
    assert_eq!((r.wanted(&at), r.wanted(&bt)), (0, 0), "nothing is missing");
    let left = r.try_fetch(&bt, bob, &[2]).unwrap();
    assert_eq!(left.iter().map(|w| w.e).collect::<Vec<u32>>(), [1]);
    assert_eq!(
        (r.wanted(&at), r.wanted(&bt)),
        (1, 0),
        "the others, not oneself"
    );
    assert_eq!(r.missing(&at).unwrap(), (2, vec![bob]));
    r.put(&at, 2, 7, &[bob]).unwrap();
    assert_eq!(r.keys(&bt), [2]);
    assert_eq!(r.fetch(&bt, bob), [(1, 1), (2, 7)]);
    assert_eq!(r.fetch(&at, ana), [(1, 1), (2, 1)], "only one's own");
    r.world.pass(5_000);
    r.try_fetch(&bt, bob, &[1]).unwrap();
    assert_eq!(r.wanted(&at), 0, "nobody can bring an older one");
    let unusable = vec![1; WRAPS_MAX + 1];
    assert_eq!(refused(r.try_fetch(&bt, bob, &unusable)), Code::TooLarge);
}

#[test]
fn at_most_eight_sessions_are_asked_once_a_second_and_others_the_next_time() {
    let mut r = full();
    let (bt, bob) = (r.bob.1.clone(), machine(&r.bob.0));
    r.rotate(&[machine(&r.ana.0)]).unwrap();
    let helpers: Vec<Peer> = (0..12)
        .map(|n| r.world.join_session(&r.ana.0, "more", 50 + n))
        .collect();
    helpers.iter().for_each(|peer| r.follow(peer));
    let again = r.world.join_session(&r.bob.0, "again", 2);
    r.follow(&again);
    let ask = |r: &mut Room| -> Vec<usize> {
        assert!(r.fetch(&bt, bob).is_empty());
        assert_eq!(r.wanted(&again), 0, "a machine does not ask itself");
        helpers.iter().map(|peer| r.wanted(peer)).collect()
    };
    let first = ask(&mut r);
    assert_eq!(first.iter().sum::<usize>(), 8);
    assert_eq!(ask(&mut r), [0; 12], "within the same second");
    r.world.pass(1_000);
    let second = ask(&mut r);
    assert_eq!(second.iter().sum::<usize>(), 8);
    let asked = first.iter().zip(&second).filter(|(a, b)| **a + **b > 0);
    assert_eq!(asked.count(), 12, "everybody had a turn");
}

#[test]
fn those_are_asked_who_have_the_key_if_anybody_has() {
    let mut r = full();
    let eve = Person::new("eve", 30);
    let et = r.world.register(&eve, "work");
    r.add(&eve);
    let (at, bt, bob) = (r.ana.1.clone(), r.bob.1.clone(), machine(&r.bob.0));
    r.rotate(&[]).unwrap();
    r.follow(&at);
    r.follow(&et);
    let second = r.world.join_session(&r.bob.0, "second", 2);
    r.follow(&second);
    r.fetch(&bt, bob);
    assert_eq!(r.wanted(&second), 0, "it is of the same machine");
    assert_eq!((r.wanted(&at), r.wanted(&et)), (1, 1), "nobody is known to");
    r.put(&at, 1, 1, &[machine(&r.ana.0)]).unwrap();
    r.world.pass(1_000);
    r.fetch(&bt, bob);
    assert_eq!((r.wanted(&at), r.wanted(&et)), (1, 0));
}

#[test]
fn wraps_are_fetched_by_who_holds_the_key_alone() {
    let mut r = full();
    let (ana, bob) = (machine(&r.ana.0), machine(&r.bob.0));
    let (at, bt) = (r.ana.1.clone(), r.bob.1.clone());
    publish(&mut r.world, &at, &announce_owner(&r.ana.0)).unwrap();
    let anas = owner(&r.ana.0);
    r.rotate(&[ana, bob, anas]).unwrap();
    for holder in [ana, anas] {
        assert_eq!(refused(r.try_fetch(&bt, holder, &[1])), Code::Unauthorized);
    }
    // Anybody can write any key into one's own identity log.
    let mut log = r.bob.0.log.clone();
    let stolen = [
        r.ana.0.owner.owner_key(),
        conclave_proto::key::OwnerKey::new(*ana.as_bytes()),
    ];
    for (n, key) in stolen.into_iter().enumerate() {
        let rec = build::add_owner(&log, key, &r.bob.0.owner, UnixMs(n as u64));
        let rec = rec.bytes().clone();
        log.append(&rec).unwrap();
        let op = Op::IdentAppend(IdentAppend { rec });
        r.world.request(bt.conn, op).unwrap();
    }
    for holder in [ana, anas] {
        assert_eq!(refused(r.try_fetch(&bt, holder, &[1])), Code::Unauthorized);
    }
    assert_eq!(r.fetch(&at, ana), [(1, 1)]);
    assert_eq!(r.fetch(&at, anas), [(1, 1)]);
}

#[test]
fn strangers_learn_nothing_of_a_sealed_channels_keys() {
    let mut r = full();
    let to = machine(&r.ana.0);
    r.rotate(&[to]).unwrap();
    let eve = Person::new("eve", 30);
    let et = r.world.register(&eve, "work");
    assert_eq!(refused(r.missing(&et)), Code::NotFound);
    assert_eq!(refused(r.put(&et, 1, 1, &[to])), Code::NotFound);
    assert_eq!(
        refused(r.try_fetch(&et, machine(&eve), &[])),
        Code::NotFound
    );
    assert_eq!(refused(r.try_fetch(&et, to, &[1])), Code::NotFound);
    let at = r.ana.1.clone();
    assert_eq!(r.fetch(&at, to), [(1, 1)]);
}

#[test]
fn a_removed_member_gets_no_further_entry_and_no_wrap_at_once() {
    let mut r = full();
    let (ana, bob) = (machine(&r.ana.0), machine(&r.bob.0));
    let (at, bt) = (r.ana.1.clone(), r.bob.1.clone());
    r.rotate(&[ana, bob]).unwrap();
    r.follow(&bt);
    r.remove(r.bob.0.id(), RemoveKind::Kick);
    assert_eq!(refused(r.try_fetch(&bt, bob, &[])), Code::NotFound);
    assert_eq!(refused(r.rotate(&[ana, bob])), Code::Forbidden);
    r.rotate(&[ana]).unwrap();
    assert_eq!(refused(r.put(&at, 2, 1, &[bob])), Code::Forbidden);
    r.send(&at, entry(&at, 2, 1, "among us")).unwrap();
    let events = r.world.events(bt.conn);
    let seqs: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Entries(batch) => Some(batch.entries.iter().map(|e| e.seq)),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(seqs, [4], "the record that removes is the last one");
    assert!(
        !events
            .iter()
            .any(|e| matches!(e, Event::Keys(_) | Event::Wanted(_)))
    );
}

/// A machine that is not yet in the channel's view of its user.
#[test]
fn a_new_machine_is_a_holder_from_the_record_on_that_tells_the_channel() {
    let mut r = full();
    let (at, fresh) = (r.ana.1.clone(), Secret::from_seed(&[71; 32]));
    let to: HolderKey = fresh.machine_key().into();
    r.rotate(&[machine(&r.ana.0), machine(&r.bob.0)]).unwrap();
    let ek = EncryptionKey::new([8; 32]);
    let claim = MachineClaim::enrol(&r.bob.0.id(), name("tower"), ek, &fresh);
    let (caps, owner) = (Cap::default_set(), r.bob.0.owner.clone());
    let rec = build::add_machine(&r.bob.0.log, claim, caps, &owner, UnixMs(2));
    let rec = rec.bytes().clone();
    let mut log = r.bob.0.log.clone();
    log.append(&rec).unwrap();
    let (user, head) = (r.bob.0.id(), log.head());
    r.ids.insert(user, log);
    let op = Op::IdentAppend(IdentAppend { rec });
    r.world.request(r.bob.1.conn, op).unwrap();
    assert_eq!(r.missing(&at).unwrap(), (1, Vec::new()));
    assert_eq!(refused(r.put(&at, 1, 1, &[to])), Code::Forbidden);
    r.by_ana(CtlBody::Ident { user, head }).unwrap();
    assert_eq!(r.missing(&at).unwrap(), (1, vec![to]));
    r.put(&at, 1, 1, &[to]).unwrap();
    let entered = r
        .world
        .try_enter(hello(&fresh, "work", false, 9), Mode::Auth);
    let (conn, ready) = entered.unwrap();
    let mut tower = r.bob.1.clone();
    (tower.conn, tower.ready) = (conn, ready);
    assert_eq!(r.fetch(&tower, to), [(1, 1)]);
}

#[test]
fn wraps_and_who_lacks_one_are_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("store.db")).unwrap();
    let mut r = room(World::with(settings(), Box::new(store)), History::Full);
    let (ana, bob) = (machine(&r.ana.0), machine(&r.bob.0));
    r.rotate(&[ana, bob]).unwrap();
    r.rotate(&[ana]).unwrap();
    for lacks in [vec![bob], Vec::new()] {
        r.world.restart();
        let at = r.world.join_session(&r.ana.0, "work", 1);
        let bt = r.world.join_session(&r.bob.0, "work", 1);
        assert_eq!(r.missing(&at).unwrap(), (2, lacks));
        r.put(&at, 2, 2, &[bob]).unwrap();
        assert_eq!(r.fetch(&bt, bob), [(1, 1), (2, 2)]);
    }
    // An epoch that nobody has a wrap of yet.
    r.ana.1 = r.world.join_session(&r.ana.0, "work", 1);
    r.rotate(&[]).unwrap();
    r.world.restart();
    let at = r.world.join_session(&r.ana.0, "work", 1);
    let (e, mut lack) = r.missing(&at).unwrap();
    lack.sort_unstable();
    let mut everybody = vec![ana, bob];
    everybody.sort_unstable();
    assert_eq!((e, lack), (3, everybody));
}

#[test]
fn a_deleted_channels_wraps_are_gone() {
    let (world, admin, peer) = administered();
    let mut r = deletable(world, admin, peer);
    let ana = machine(&r.ana.0);
    r.rotate(&[ana]).unwrap();
    assert_eq!(r.world.store.load().unwrap().wrapped.len(), 1);
    let delete = AdminBody::LogDelete { channel: ROOM };
    act(&mut r.world, &r.ana.0, &r.ana.1, delete, 1).unwrap();
    assert!(r.world.store.load().unwrap().wrapped.is_empty());
    let at = r.ana.1.clone();
    assert_eq!(refused(r.try_fetch(&at, ana, &[])), Code::NotFound);
    assert_eq!(refused(r.put(&at, 1, 1, &[ana])), Code::NotFound);
}

/// A sealed channel of a server admin's.
fn deletable(world: World, admin: Person, peer: Peer) -> Room {
    let bystander = room(World::new(), History::Full).bob;
    let ids = [(admin.id(), admin.log.clone())].into();
    let mut r = Room {
        world,
        ids,
        log: None,
        ana: (admin, peer),
        bob: bystander,
    };
    let create = CtlBody::Create {
        mode: conclave_proto::channel_log::Mode::E2e,
        visibility: Visibility::Private,
        history: History::Full,
        name: None,
        topic: None,
        limits: None,
    };
    r.by_ana(create).unwrap();
    r
}

#[test]
fn wraps_and_announcements_count_as_what_a_session_sends() {
    let mut rules = settings();
    (rules.appends_per_s, rules.append_burst) = (1, 4);
    let world = World::with(rules, Box::new(MemoryStore::new()));
    let mut r = room(world, History::Full);
    r.world.pass(60_000);
    let (at, bob) = (r.ana.1.clone(), machine(&r.bob.0));
    r.rotate(&[]).unwrap();
    r.put(&at, 1, 1, &[bob]).unwrap();
    r.put(&at, 1, 1, &[bob]).unwrap();
    let rec = announce(&r.ana.0, 1, 1);
    publish(&mut r.world, &at, &rec).unwrap();
    assert_eq!(refused(r.put(&at, 1, 1, &[bob])), Code::RateLimited);
    let rec = announce(&r.ana.0, 2, 1);
    assert_eq!(refused(publish(&mut r.world, &at, &rec)), Code::RateLimited);
    assert!(r.missing(&at).is_ok(), "questions do not");
}

#[test]
fn wraps_count_towards_the_days_bytes() {
    let mut rules = settings();
    rules.bytes_per_day = 3 * 112;
    let world = World::with(rules, Box::new(MemoryStore::new()));
    let mut r = room(world, History::Full);
    let (at, ana, bob) = (r.ana.1.clone(), machine(&r.ana.0), machine(&r.bob.0));
    r.rotate(&[ana]).unwrap();
    r.put(&at, 1, 1, &[ana, bob]).unwrap();
    assert_eq!(refused(r.put(&at, 1, 1, &[bob])), Code::RateLimited);
}
