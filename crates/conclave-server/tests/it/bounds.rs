//! Bounds, kicks and JSON: what the hub refuses by count, and what it does to one session.

use crate::world::{Person, World, code, settings};
use conclave_proto::channel_log::{CtlBody, Visibility};
use conclave_proto::codec::Encoding;
use conclave_proto::frame::op::{KickSession, Op};
use conclave_proto::frame::{Event, ServerFrame};
use conclave_proto::handshake::Mode;
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::limit::{FRAME_BYTES_MAX, SUBSCRIPTIONS_MAX};
use conclave_proto::reject::Code;
use conclave_server::hub::{Command, Outgoing};
use conclave_server::store::memory::MemoryStore;

const ROOM: ChannelId = ChannelId::new([5; 16]);
const LOG: LogId = LogId::Channel(ROOM);

fn channel(n: usize) -> ChannelId {
    let mut id = [9; 16];
    id[..8].copy_from_slice(&u64::try_from(n).unwrap().to_be_bytes());
    ChannelId::new(id)
}

#[test]
fn an_admin_kicks_a_session_and_not_its_user() {
    let mut world = World::new();
    let (ana, bob) = (Person::new("ana", 10), Person::new("bob", 20));
    let mut at = world.register(&ana, "work");
    let (one, two) = (
        world.register(&bob, "one"),
        world.join_session(&bob, "two", 2),
    );
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    world.add((&ana, &at), ROOM, head, &bob);
    for peer in [&at, &one, &two] {
        world.subscribe(peer, LOG, 0).unwrap();
        world.events(peer.conn);
    }
    let kick = |path: &conclave_proto::name::SessionPath| {
        let (channel, path) = (ROOM, path.clone());
        Op::KickSession(KickSession { channel, path })
    };
    let refused = world.request(one.conn, kick(&two.ready.path));
    assert_eq!(code(refused), Code::Forbidden, "members do not kick");
    world.request(at.conn, kick(&one.ready.path)).unwrap();
    let told = world.events(one.conn);
    assert!(
        told.iter()
            .any(|e| matches!(e, Event::Dropped(d) if d.log == LOG)),
        "{told:?}"
    );
    world.say(&mut at, ROOM, "without one").unwrap();
    assert!(world.entries(one.conn).is_empty());
    assert_eq!(world.entries(two.conn).len(), 1);
    let again = world.request(at.conn, kick(&one.ready.path));
    assert_eq!(code(again), Code::NotFound);
    assert!(
        world.subscribe(&one, LOG, 0).is_ok(),
        "the user is a member still"
    );
}

#[test]
fn a_push_to_a_json_client_is_json_and_says_the_same() {
    let mut world = World::new();
    let ana = Person::new("ana", 10);
    let mut at = world.register(&ana, "work");
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let conn = world.connect();
    let encoding = Encoding::Json;
    world.step(Command::Connect { conn, encoding });
    world.enter(
        conn,
        crate::world::hello(&ana.machine, "web", false, 2),
        Mode::Auth,
    );
    world.entered(conn).unwrap().unwrap();
    world.subscribe(&at, LOG, 1).unwrap();
    let subscribe = Op::Subscribe(conclave_proto::frame::op::Subscribe { log: LOG, after: 1 });
    world.request(conn, subscribe).unwrap();
    world.events(at.conn);
    world.inboxes.get_mut(&conn).unwrap().clear();
    world.say(&mut at, ROOM, "hello").unwrap();
    let frames = world.inboxes.get(&conn).unwrap();
    let [Outgoing::Event(frame)] = frames.as_slice() else {
        panic!("{frames:?}");
    };
    assert_eq!(frame.first(), Some(&b'{'));
    let frame: ServerFrame = Encoding::Json.decode(frame, FRAME_BYTES_MAX).unwrap();
    let ServerFrame::Event(Event::Entries(batch)) = frame else {
        panic!("{frame:?}");
    };
    assert_eq!(batch.entries, world.entries(at.conn));
    assert_eq!(batch.entries.len(), 1);
}

#[test]
fn a_mailbox_is_bounded_by_bytes_too() {
    let mut rules = settings();
    rules.mailbox_bytes_max = 600;
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let (ana, bob) = (Person::new("ana", 10), Person::new("bob", 20));
    let mut at = world.register(&ana, "work");
    let bt = world.register(&bob, "work");
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    world.add((&ana, &at), ROOM, head, &bob);
    let to = bt.ready.path.clone();
    let mut stored = 0;
    let refused = loop {
        match world.whisper(&mut at, bob.id(), &to) {
            Ok(_) => stored += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code, Code::InboxFull);
    assert!(
        (2..=4).contains(&stored),
        "{stored} whispers of about 200 bytes"
    );
    // What was received makes room.
    let mailbox = bt.ready.mailbox.unwrap();
    world.subscribe(&bt, mailbox, 0).unwrap();
    let cursor = conclave_proto::frame::Cursor {
        log: mailbox,
        seq: stored,
    };
    let (conn, cursors) = (bt.conn, vec![cursor]);
    world.step(Command::Ack { conn, cursors });
    world.pass(1_000);
    assert!(world.whisper(&mut at, bob.id(), &to).is_ok());
}

#[test]
fn receipts_fill_half_a_mailbox_and_never_keep_a_whisper_out() {
    for (items, bytes) in [(10, u64::MAX), (u32::MAX, 2_000)] {
        let mut rules = settings();
        (rules.mailbox_items_max, rules.mailbox_bytes_max) = (items, bytes);
        let mut world = World::with(rules, Box::new(MemoryStore::new()));
        let (ana, bob) = (Person::new("ana", 10), Person::new("bob", 20));
        let mut at = world.register(&ana, "work");
        let bt = world.register(&bob, "work");
        let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
        world.add((&ana, &at), ROOM, head, &bob);
        let to = bt.ready.path.clone();
        let fill = |refused: &mut dyn FnMut() -> Option<Code>| {
            let mut stored = 0_u64;
            loop {
                match refused() {
                    None => stored += 1,
                    Some(code) => {
                        assert_eq!(code, Code::InboxFull);
                        break stored;
                    }
                }
            }
        };
        let receipts = fill(&mut || world.receipt(&mut at, bob.id(), &to).err().map(|r| r.code));
        let whispers = fill(&mut || world.whisper(&mut at, bob.id(), &to).err().map(|r| r.code));
        assert!(
            receipts > 1 && whispers >= receipts,
            "{receipts} and {whispers}"
        );
        assert_eq!(code(world.receipt(&mut at, bob.id(), &to)), Code::InboxFull);
        // What was received makes room for both again.
        let log = bt.ready.mailbox.unwrap();
        world.subscribe(&bt, log, 0).unwrap();
        let seq = receipts + whispers;
        let cursors = vec![conclave_proto::frame::Cursor { log, seq }];
        let conn = bt.conn;
        world.step(Command::Ack { conn, cursors });
        world.pass(1_000);
        world.receipt(&mut at, bob.id(), &to).unwrap();
        world.whisper(&mut at, bob.id(), &to).unwrap();
    }
}

#[test]
fn a_connection_follows_so_many_logs_and_no_more() {
    let mut rules = settings();
    rules.channels_per_user_max = SUBSCRIPTIONS_MAX + 1;
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let at = world.register(&ana, "work");
    for n in 0..=SUBSCRIPTIONS_MAX {
        world.create(&ana, &at, channel(n), Visibility::Private, &format!("c{n}"));
        let result = world.subscribe(&at, LogId::Channel(channel(n)), 0);
        match n < SUBSCRIPTIONS_MAX {
            true => assert!(result.is_ok(), "{n}"),
            false => assert_eq!(code(result), Code::LimitReached),
        }
    }
    assert!(
        world.subscribe(&at, LogId::Channel(channel(0)), 0).is_ok(),
        "one that is followed can be followed again"
    );
}

#[test]
fn a_user_is_in_so_many_channels_and_no_more() {
    let mut rules = settings();
    rules.channels_per_user_max = 2;
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let at = world.register(&ana, "work");
    let create = |n| CtlBody::Create {
        mode: conclave_proto::channel_log::Mode::Signed,
        visibility: Visibility::Private,
        history: conclave_proto::channel_log::History::Full,
        name: Some(format!("c{n}").parse().unwrap()),
        topic: None,
        limits: None,
    };
    let head = world.ctl(&ana, &at, channel(1), None, create(1)).unwrap();
    world.ctl(&ana, &at, channel(2), None, create(2)).unwrap();
    let third = world.ctl(&ana, &at, channel(3), None, create(3));
    assert_eq!(third.unwrap_err().code, Code::LimitReached);
    let close = world.ctl(&ana, &at, channel(1), Some(head), CtlBody::Close {});
    assert!(close.is_ok(), "leaving is never refused");
}

#[test]
fn a_machine_has_so_many_sessions_and_no_more() {
    let mut rules = settings();
    rules.sessions_per_machine_max = 2;
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    world.register(&ana, "one");
    world.join_session(&ana, "two", 2);
    let enter = |world: &mut World, handle, instance| {
        let hello = crate::world::hello(&ana.machine, handle, false, instance);
        world.try_enter(hello, Mode::Auth)
    };
    let third = enter(&mut world, "three", 3);
    assert_eq!(third.unwrap_err().code, Code::LimitReached);
    assert!(
        enter(&mut world, "two", 2).is_ok(),
        "the same session again"
    );
    assert!(
        enter(&mut world, "cli", 4).is_ok(),
        "one-shots are not counted"
    );
}
