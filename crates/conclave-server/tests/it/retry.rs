//! A retry is answered by what happened: rights that ended since do not undo what was stored.

use crate::rules::{act, administered};
use crate::sealed::{LOG, ROOM, Room, entry, machine, room};
use crate::world::{Peer, Person, World, code};
use conclave_proto::admin::AdminBody;
use conclave_proto::channel_log::{CtlBody, History, RemoveKind, Role, Visibility};
use conclave_proto::entry::Envelope;
use conclave_proto::frame::op::{Append, Op};
use conclave_proto::frame::reply::Reply;
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::reject::Code;

const ELSEWHERE: ChannelId = ChannelId::new([6; 16]);

/// Bob's message was stored as number 1, and his next one was not; then something happened.
fn after(happens: impl FnOnce(&mut Room), expected: &Code) {
    let mut r = room(World::new(), History::Full);
    let bob = r.bob.1.clone();
    r.rotate(&[machine(&r.bob.0)]).unwrap();
    let stored = entry(&bob, 1, 1, "stored");
    let first = r.send(&bob, stored.clone()).unwrap();
    let late = entry(&bob, 1, 2, "never stored");
    happens(&mut r);
    for _ in 0..2 {
        let again = r.send(&bob, stored.clone()).unwrap();
        assert_eq!(
            (again.seq, again.at, again.dup),
            (first.seq, first.at, true)
        );
        assert_eq!(r.send(&bob, late.clone()).unwrap_err().code, *expected);
        let other = entry(&bob, 1, 1, "other bytes, same id");
        assert_eq!(r.send(&bob, other).unwrap_err().code, *expected);
    }
    let stats = r.world.state.stats();
    assert_eq!((stats.duplicates, stats.refused.total()), (2, 4));
}

#[test]
fn after_a_new_epoch() {
    let rotate = |r: &mut Room| assert!(r.rotate(&[]).is_ok());
    after(rotate, &Code::StaleEpoch);
}

#[test]
fn after_a_change_of_the_members_that_needs_an_epoch() {
    let leaves = |r: &mut Room| {
        let eve = Person::new("eve", 30);
        r.world.register(&eve, "work");
        r.add(&eve);
        r.remove(eve.id(), RemoveKind::Kick);
    };
    after(leaves, &Code::StaleEpoch);
}

#[test]
fn after_a_freeze() {
    let freeze = |r: &mut Room| assert!(r.by_ana(CtlBody::Freeze { on: true }).is_ok());
    after(freeze, &Code::Frozen);
}

#[test]
fn after_the_channel_is_closed() {
    let close = |r: &mut Room| assert!(r.by_ana(CtlBody::Close {}).is_ok());
    after(close, &Code::Frozen);
}

#[test]
fn after_one_may_only_read() {
    let demote = |r: &mut Room| {
        let (user, role) = (r.bob.0.id(), Role::Reader);
        r.by_ana(CtlBody::Role { user, role }).unwrap();
    };
    after(demote, &Code::Forbidden);
}

#[test]
fn after_a_kick_and_a_ban() {
    for kind in [RemoveKind::Kick, RemoveKind::Ban] {
        after(|r| r.remove(r.bob.0.id(), kind), &Code::NotFound);
    }
}

#[test]
fn after_the_server_froze_or_deleted_the_log() {
    let (mut world, ana, mut at) = administered();
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let env = at.message(ROOM, "stored");
    world.append(&mut at, LOG, env.clone()).unwrap();
    let freeze = AdminBody::LogFreeze {
        channel: ROOM,
        on: true,
    };
    act(&mut world, &ana, &at, freeze, 1).unwrap();
    let again = world.append(&mut at, LOG, env.clone());
    assert!(matches!(again, Ok(Reply::Appended(a)) if a.dup && a.seq == 2));
    let late = at.message(ROOM, "late");
    assert_eq!(code(world.append(&mut at, LOG, late)), Code::Frozen);
    let delete = AdminBody::LogDelete { channel: ROOM };
    act(&mut world, &ana, &at, delete, 2).unwrap();
    assert_eq!(code(world.append(&mut at, LOG, env)), Code::NotFound);
}

#[test]
fn of_a_whisper_after_the_shared_channel_is_gone() {
    let mut r = room(World::new(), History::Full);
    let (to, bob) = (r.ana.1.ready.path.clone(), r.ana.0.id());
    let mailbox = r.ana.1.ready.mailbox.unwrap();
    let mut bt = r.bob.1.clone();
    let whisper = |world: &mut World, bt: &mut Peer| world.whisper(bt, bob, &to);
    whisper(&mut r.world, &mut bt).unwrap();
    r.world.subscribe(&r.ana.1, mailbox, 0).unwrap();
    let stored = r.world.entries(r.ana.1.conn).remove(0);
    let conclave_proto::entry::EntryBody::Env(stored) = stored.body else {
        panic!("{stored:?}");
    };
    r.remove(r.bob.0.id(), RemoveKind::Kick);
    assert_eq!(code(whisper(&mut r.world, &mut bt)), Code::NotFound);
    let again = r.world.append(&mut bt, mailbox, stored.clone());
    assert!(matches!(again, Ok(Reply::Appended(a)) if a.dup && a.seq == 1));
    assert_eq!(r.world.entries(r.ana.1.conn).len(), 0);
    // In that very log only.
    let other = r.bob.1.ready.mailbox.unwrap();
    assert_eq!(code(r.world.append(&mut bt, other, stored)), Code::NotFound);
}

#[test]
fn nobody_learns_by_it_what_somebody_else_has_sent() {
    let mut r = room(World::new(), History::Full);
    let (bob, ana) = (r.bob.1.clone(), r.ana.1.clone());
    r.rotate(&[]).unwrap();
    let stored = entry(&bob, 1, 1, "stored");
    r.send(&bob, stored.clone()).unwrap();
    r.remove(r.bob.0.id(), RemoveKind::Kick);
    assert_eq!(
        r.send(&ana, stored.clone()).unwrap_err().code,
        Code::Unauthorized
    );
    let eve = r.world.register(&Person::new("eve", 30), "work");
    assert_eq!(
        r.send(&eve, stored.clone()).unwrap_err().code,
        Code::Unauthorized
    );
    // Another log, an unknown one, and one's own entry with a stranger's id: all the same refusal.
    let ask = |r: &mut Room, channel: ChannelId, env: Envelope| {
        let log = LogId::Channel(channel);
        let asked = r.world.request(bob.conn, Op::Append(Append { log, env }));
        asked.unwrap_err()
    };
    let elsewhere = ask(&mut r, ELSEWHERE, stored);
    let here = ask(&mut r, ROOM, entry(&bob, 1, 2, "never stored"));
    assert_eq!(elsewhere, here);
}

#[test]
fn who_repeats_after_a_new_session_gets_the_first_place_too() {
    let mut r = room(World::new(), History::Full);
    let bob = r.bob.1.clone();
    r.rotate(&[]).unwrap();
    let stored = entry(&bob, 1, 1, "stored");
    let first = r.send(&bob, stored.clone()).unwrap();
    r.rotate(&[]).unwrap();
    r.world.restart();
    let back = r.world.join_session(&r.bob.0, "work", 1);
    let again = r.send(&back, stored).unwrap();
    assert_eq!((again.seq, again.dup), (first.seq, true));
}
