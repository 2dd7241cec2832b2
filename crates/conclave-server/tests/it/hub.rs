//! The hub's rules: access, handles, the lease, subscriptions, appends, and the driver over threads.

use crate::world::{Peer, Person, SERVER, World, code, hello, name, settings};
use conclave_proto::channel_log::{CtlBody, RemoveKind, Visibility};
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::op::{
    Append, CtlFetch, EnrolOpen, FindName, IdentAppend, IdentFetch, Nothing, Op, Read, Subscribe,
    Who,
};
use conclave_proto::frame::{Event, Reply};
use conclave_proto::handshake::{
    Mode, enrol_open_message, enrolment_message, recover_message, redeem_message,
};
use conclave_proto::id::{ChannelId, LogId, SessionId};
use conclave_proto::identity_log::{Cap, IdentityLog, MachineClaim, build};
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::limit::LEASE_MS;
use conclave_proto::reject::Code;
use conclave_proto::time::UnixMs;
use conclave_server::clock::Clock;
use conclave_server::hub::{self, Bootstrap, Checked, Command, Enter, Outgoing, Registration};
use conclave_server::store::Store;
use conclave_server::store::memory::MemoryStore;
use conclave_server::store::sqlite::SqliteStore;

const ROOM: ChannelId = ChannelId::new([5; 16]);
const NOWHERE: ChannelId = ChannelId::new([6; 16]);
const LOG: LogId = LogId::Channel(ROOM);

/// Ana owns a private room that Bob is a member of; both follow it.
fn room() -> (
    World,
    (Person, Peer),
    (Person, Peer),
    conclave_proto::body::Head,
) {
    let mut world = World::new();
    let (ana, bob) = (Person::new("ana", 10), Person::new("bob", 20));
    let (at, bt) = (world.register(&ana, "work"), world.register(&bob, "work"));
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let head = world.add((&ana, &at), ROOM, head, &bob);
    world.subscribe(&at, LOG, 0).unwrap();
    world.subscribe(&bt, LOG, 0).unwrap();
    world.events(at.conn);
    world.events(bt.conn);
    (world, (ana, at), (bob, bt), head)
}

fn seqs(world: &mut World, peer: &Peer) -> Vec<u64> {
    world.entries(peer.conn).iter().map(|e| e.seq).collect()
}

#[test]
fn a_message_is_answered_and_pushed_once_to_every_follower() {
    let (mut world, (_, mut ana), (_, bob), _) = room();
    let answer = world.say(&mut ana, ROOM, "hello");
    assert!(matches!(answer, Ok(Reply::Appended(a)) if a.seq == 3 && !a.dup));
    assert_eq!(seqs(&mut world, &bob), [3]);
    assert_eq!(seqs(&mut world, &ana), [3]);
}

#[test]
fn a_private_channel_looks_to_strangers_like_none() {
    let (mut world, _, _, head) = room();
    let eve = Person::new("eve", 30);
    let mut peer = world.register(&eve, "work");
    for (here, there) in [
        (
            world.say(&mut peer, ROOM, "x"),
            world.say(&mut peer, NOWHERE, "x"),
        ),
        (
            world.subscribe(&peer, LOG, 0),
            world.subscribe(&peer, LogId::Channel(NOWHERE), 0),
        ),
        (
            read(&mut world, &peer, ROOM),
            read(&mut world, &peer, NOWHERE),
        ),
        (
            fetch(&mut world, &peer, ROOM),
            fetch(&mut world, &peer, NOWHERE),
        ),
        (
            who(&mut world, &peer, ROOM),
            who(&mut world, &peer, NOWHERE),
        ),
        (
            find(&mut world, &peer, "room"),
            find(&mut world, &peer, "nowhere"),
        ),
    ] {
        let (here, there) = (here.unwrap_err(), there.unwrap_err());
        assert_eq!(here.code, Code::NotFound);
        assert_eq!(here, there);
    }
    let join = || CtlBody::Join { ticket: None };
    let here = world
        .ctl(&eve, &peer, ROOM, Some(head), join())
        .unwrap_err();
    let there = world
        .ctl(&eve, &peer, NOWHERE, Some(head), join())
        .unwrap_err();
    assert_eq!(here, there);
    assert!(world.channels(&peer).is_empty());
}

fn read(
    world: &mut World,
    peer: &Peer,
    channel: ChannelId,
) -> Result<Reply, conclave_proto::reject::Reject> {
    let (log, after, limit) = (LogId::Channel(channel), 0, 9);
    world.request(peer.conn, Op::Read(Read { log, after, limit }))
}

fn fetch(
    world: &mut World,
    peer: &Peer,
    channel: ChannelId,
) -> Result<Reply, conclave_proto::reject::Reject> {
    world.request(peer.conn, Op::CtlFetch(CtlFetch { channel, after: 0 }))
}

fn who(
    world: &mut World,
    peer: &Peer,
    channel: ChannelId,
) -> Result<Reply, conclave_proto::reject::Reject> {
    let channel = Some(channel);
    world.request(peer.conn, Op::Who(Who { channel }))
}

fn find(
    world: &mut World,
    peer: &Peer,
    channel: &str,
) -> Result<Reply, conclave_proto::reject::Reject> {
    let name = name(channel);
    world.request(peer.conn, Op::FindChannel(FindName { name }))
}

#[test]
fn a_public_channel_is_found_and_joined_by_anybody() {
    let mut world = World::new();
    let (ana, eve) = (Person::new("ana", 10), Person::new("eve", 30));
    let (at, mut et) = (world.register(&ana, "work"), world.register(&eve, "work"));
    let head = world.create(&ana, &at, ROOM, Visibility::Public, "square");
    assert_eq!(world.channels(&et), [ROOM]);
    assert_eq!(code(world.say(&mut et, ROOM, "too early")), Code::Forbidden);
    let join = CtlBody::Join { ticket: None };
    world.ctl(&eve, &et, ROOM, Some(head), join).unwrap();
    let mut et = world.join_session(&eve, "work", 1);
    assert!(world.say(&mut et, ROOM, "hello").is_ok());
}

#[test]
fn an_entry_must_name_the_session_that_sends_it() {
    let (mut world, (_, mut ana), (_, mut bob), _) = room();
    let env = ana.message(ROOM, "forged");
    assert_eq!(code(world.append(&mut bob, LOG, env)), Code::Unauthorized);
}

#[test]
fn lesson_03_a_repeated_append_gets_its_first_place_and_is_not_pushed_again() {
    let (mut world, (_, mut ana), (_, bob), _) = room();
    let env = ana.message(ROOM, "once");
    world.append(&mut ana, LOG, env.clone()).unwrap();
    let again = world.append(&mut ana, LOG, env);
    assert!(matches!(again, Ok(Reply::Appended(a)) if a.seq == 3 && a.dup));
    assert_eq!(seqs(&mut world, &bob), [3]);
}

#[test]
fn a_hole_in_a_pipelined_window_refuses_the_rest_with_the_expected_counter() {
    let (mut world, (_, mut ana), (_, bob), _) = room();
    let envs: Vec<_> = ["a", "b", "c"].map(|t| ana.message(ROOM, t)).into();
    let commands = [0, 2].map(|i| {
        let env = envs[i].clone();
        let op = Checked::new(Op::Append(Append { log: LOG, env })).unwrap();
        let (conn, id) = (ana.conn, i as u64);
        Command::Request { conn, id, op }
    });
    world.batch(commands.into());
    assert!(world.answer(ana.conn, 0).unwrap().is_ok());
    let gap = world.answer(ana.conn, 2).unwrap().unwrap_err();
    assert_eq!((gap.code, gap.expected), (Code::CounterGap, Some(2)));
    assert_eq!(seqs(&mut world, &bob), [3]);
}

#[test]
fn a_removed_member_gets_the_record_and_nothing_after_it() {
    let (mut world, (ana, mut at), (bob, mut bt), head) = room();
    let body = CtlBody::Remove {
        user: bob.id(),
        kind: RemoveKind::Kick,
    };
    world.ctl(&ana, &at, ROOM, Some(head), body).unwrap();
    world.say(&mut at, ROOM, "among us").unwrap();
    let events = world.events(bt.conn);
    assert!(matches!(&events[0], Event::Entries(e) if e.entries.len() == 1));
    assert!(
        events
            .iter()
            .any(|e| matches!(e, Event::Dropped(d) if d.log == LOG))
    );
    let entries = events.iter().filter(|e| matches!(e, Event::Entries(_)));
    assert_eq!(entries.count(), 1);
    assert_eq!(
        code(world.say(&mut bt, ROOM, "still here?")),
        Code::NotFound
    );
}

#[test]
fn a_removed_member_that_does_not_read_is_closed() {
    let (mut world, (ana, mut at), (bob, bt), head) = room();
    let text = "x".repeat(20_000);
    while world.state.stats().stalled == 0 {
        world.say(&mut at, ROOM, &text).unwrap();
        let conn = at.conn;
        world.step(Command::Wrote {
            conn,
            frames: 1,
            bytes: 30_000,
        });
    }
    let body = CtlBody::Remove {
        user: bob.id(),
        kind: RemoveKind::Kick,
    };
    world.ctl(&ana, &at, ROOM, Some(head), body).unwrap();
    assert_eq!(world.closed(bt.conn), Some(Close::Slow));
}

#[test]
fn lesson_14_a_defaulted_handle_is_numbered_and_a_pinned_one_refused() {
    let mut world = World::new();
    let ana = Person::new("ana", 10);
    assert_eq!(world.register(&ana, "work").ready.path.handle, name("work"));
    let second = world.join_session(&ana, "work", 2);
    assert_eq!(second.ready.path.handle, name("work-2"));
    let pinned = world.try_enter(hello(&ana.machine, "work", true, 3), Mode::Auth);
    assert_eq!(pinned.unwrap_err().code, Code::HandleTaken);
    let shell = world.join_session(&ana, "cli", 4);
    assert_eq!(shell.ready.mailbox, None);
    // The same instance gets its number back, and ends the connection it had.
    let again = world.join_session(&ana, "work", 2);
    assert_eq!(again.ready.path.handle, name("work-2"));
    assert_eq!(world.closed(second.conn), Some(Close::Superseded));
}

#[test]
fn a_session_that_returns_within_the_lease_was_never_gone() {
    let (mut world, (_, ana), (bob, bt), _) = room();
    world.step(Command::Disconnected { conn: bt.conn });
    world.pass(LEASE_MS - 1);
    let back = world.join_session(&bob, "work", 1);
    world.subscribe(&back, LOG, 2).unwrap();
    world.pass(LEASE_MS);
    assert_eq!(world.events(ana.conn), []);
    world.step(Command::Disconnected { conn: back.conn });
    world.pass(LEASE_MS);
    let events = world.events(ana.conn);
    assert!(matches!(&events[..], [Event::Presence(p)] if !p.online && p.user_id == bob.id()));
}

#[test]
fn a_stalled_reader_catches_up_from_the_log() {
    let (mut world, (_, mut ana), (_, bob), _) = room();
    let text = "x".repeat(20_000);
    for _ in 0..150 {
        world.say(&mut ana, ROOM, &text).unwrap();
        let conn = ana.conn;
        world.step(Command::Wrote {
            conn,
            frames: 1,
            bytes: 30_000,
        });
    }
    assert_eq!(world.state.stats().stalled, 1);
    let mut seen = Vec::new();
    let before = world.loads;
    for _ in 0..100 {
        let entries = world.entries(bob.conn);
        seen.extend(entries.iter().map(|e| e.seq));
        world.step(Command::Wrote {
            conn: bob.conn,
            frames: 64,
            bytes: 2_000_000,
        });
        if seen.len() == 150 {
            break;
        }
    }
    assert_eq!(seen, (3..153).collect::<Vec<u64>>());
    // The tail in memory does not reach back over all of it.
    assert!(world.loads > before);
    assert_eq!(world.state.stats().stalled, 0);
    world.say(&mut ana, ROOM, "live again").unwrap();
    assert_eq!(seqs(&mut world, &bob), [153]);
}

#[test]
fn a_subscription_starts_at_its_cursor() {
    let (mut world, (_, mut ana), (bob, bt), _) = room();
    world.step(Command::Disconnected { conn: bt.conn });
    for text in ["a", "b", "c"] {
        world.say(&mut ana, ROOM, text).unwrap();
    }
    let back = world.join_session(&bob, "work", 1);
    let reply = world.subscribe(&back, LOG, 4).unwrap();
    assert!(matches!(reply, Reply::Subscribed(s) if s.head == 5));
    assert_eq!(seqs(&mut world, &back), [5]);
}

#[test]
fn a_whisper_waits_and_strangers_cannot_send_one() {
    let (mut world, (_, mut ana), (bob, bt), _) = room();
    world.step(Command::Disconnected { conn: bt.conn });
    let path = bt.ready.path;
    world.whisper(&mut ana, bob.id(), &path).unwrap();
    let mut elsewhere = path.clone();
    elsewhere.handle = name("home");
    let missing = world.whisper(&mut ana, bob.id(), &elsewhere).unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
    assert!(missing.message.contains("bob/laptop/work"), "{missing}");
    let mut eve = world.register(&Person::new("eve", 30), "work");
    let stranger = world.whisper(&mut eve, bob.id(), &path).unwrap_err();
    let mut nobody = path.clone();
    nobody.user = name("nobody");
    assert_eq!(
        stranger,
        world.whisper(&mut eve, bob.id(), &nobody).unwrap_err()
    );
    let back = world.join_session(&bob, "work", 1);
    let mailbox = back.ready.mailbox.unwrap();
    world.subscribe(&back, mailbox, 0).unwrap();
    assert_eq!(seqs(&mut world, &back), [1]);
}

#[test]
fn everything_is_there_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("store.db")).unwrap();
    let mut world = World::with(settings(), Box::new(store));
    let ana = Person::new("ana", 10);
    let mut at = world.register(&ana, "work");
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let env = at.message(ROOM, "kept");
    world.append(&mut at, LOG, env.clone()).unwrap();
    world.restart();
    let mut back = world.join_session(&ana, "work", 1);
    assert_eq!(world.channels(&back), [ROOM]);
    assert!(matches!(world.append(&mut back, LOG, env), Ok(Reply::Appended(a)) if a.dup));
    world.subscribe(&back, LOG, 0).unwrap();
    assert_eq!(seqs(&mut world, &back), [1, 2]);
}

#[test]
fn the_bootstrap_link_makes_one_admin_and_no_second() {
    let link = Secret::from_seed(&[99; 32]);
    let mut rules = settings();
    rules.registration = Registration::Invite;
    let (key, expires) = (link.invite_key(), UnixMs(u64::MAX));
    rules.bootstrap = Some(Bootstrap { key, expires });
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let redeem = |person: &Person| Mode::Redeem {
        invite: key,
        sig: link.sign(redeem_message(&SERVER, &key, &person.id())),
        genesis: person.genesis.clone(),
    };
    let (ana, eve) = (Person::new("ana", 10), Person::new("eve", 30));
    let register = Mode::Register {
        genesis: ana.genesis.clone(),
    };
    let open = world.try_enter(hello(&ana.machine, "work", false, 1), register);
    assert_eq!(open.unwrap_err().code, Code::RegistrationClosed);
    let (_, ready) = world
        .try_enter(hello(&ana.machine, "work", false, 1), redeem(&ana))
        .unwrap();
    assert!(ready.admin);
    let second = world.try_enter(hello(&eve.machine, "work", false, 1), redeem(&eve));
    assert_eq!(second.unwrap_err().code, Code::InviteInvalid);
}

#[test]
fn a_new_machine_waits_for_the_owner_and_a_revoked_one_is_closed_at_once() {
    let mut world = World::new();
    let ana = Person::new("ana", 10);
    let old = world.register(&ana, "work");
    let (link, fresh) = (Secret::from_seed(&[70; 32]), Secret::from_seed(&[71; 32]));
    let open = Op::EnrolOpen(EnrolOpen {
        key: link.invite_key(),
        sig: link.sign(enrol_open_message(&ana.id())),
        expires: world.now.wall.plus(60_000),
    });
    world.request(old.conn, open).unwrap();
    let ek = EncryptionKey::new([8; 32]);
    let claim = MachineClaim::enrol(&ana.id(), name("tower"), ek, &fresh);
    let message = enrolment_message(&ana.id(), &name("tower"), &fresh.machine_key(), &ek);
    let mode = Mode::Enrol {
        enrolment: link.invite_key().invite_id(),
        name: name("tower"),
        encryption_key: ek,
        consent: claim.consent,
        proof: link.sign(message),
    };
    let conn = world.connect();
    world.enter(conn, hello(&fresh, "work", false, 9), mode);
    assert_eq!(world.entered(conn), None);
    assert!(matches!(&world.events(old.conn)[..], [Event::Enrol(r)] if r.name == name("tower")));
    let mut log: IdentityLog = ana.log.clone();
    let rec = build::add_machine(&log, claim, Cap::default_set(), &ana.owner, UnixMs(2));
    let rec = rec.bytes().clone();
    log.append(&rec).unwrap();
    world
        .request(old.conn, Op::IdentAppend(IdentAppend { rec }))
        .unwrap();
    let ready = world.entered(conn).unwrap().unwrap();
    assert_eq!(ready.path.to_string(), "ana/tower/work");
    let rec = build::revoke_machine(&log, fresh.machine_key(), "lost", &ana.owner, UnixMs(3));
    let rec = rec.bytes().clone();
    world
        .request(old.conn, Op::IdentAppend(IdentAppend { rec }))
        .unwrap();
    assert_eq!(world.closed(conn), Some(Close::Revoked));
    let refused = world.try_enter(hello(&fresh, "work", false, 9), Mode::Auth);
    assert_eq!(refused.unwrap_err().code, Code::UnknownKey);
}

#[test]
fn an_owner_key_alone_may_add_a_machine_and_nothing_else() {
    let (mut world, (ana, _), (bob, _), _) = room();
    let fresh = Secret::from_seed(&[71; 32]);
    let mode = |user: &str, owner: &Secret| {
        let (username, machine) = (name(user), name("tower"));
        let message = recover_message(&SERVER, &fresh.machine_key(), &username, &machine);
        let sig = owner.sign(message);
        let owner = owner.owner_key();
        Mode::Recover {
            username,
            machine,
            owner,
            sig,
        }
    };
    let hello = || hello(&fresh, "work", false, 9);
    let wrong = world.try_enter(hello(), mode("ana", &bob.owner));
    let nobody = world.try_enter(hello(), mode("nobody", &bob.owner));
    let (wrong, nobody) = (wrong.unwrap_err(), nobody.unwrap_err());
    assert_eq!(wrong.code, Code::Unauthorized);
    assert_eq!(wrong, nobody, "it does not tell which names exist");

    let (conn, ready) = world.try_enter(hello(), mode("ana", &ana.owner)).unwrap();
    assert_eq!((ready.user_id, ready.mailbox), (ana.id(), None));
    let fetch = |user| Op::IdentFetch(IdentFetch { user, from: 0 });
    for op in [
        Op::Channels(Nothing {}),
        Op::Who(Who { channel: None }),
        Op::Subscribe(Subscribe { log: LOG, after: 0 }),
        fetch(bob.id()),
    ] {
        assert_eq!(code(world.request(conn, op)), Code::Forbidden);
    }
    let sessions = world.state.stats().sessions;
    assert_eq!(sessions, 2, "it is in no roster");
    assert!(world.request(conn, fetch(ana.id())).is_ok());
    let claim = |person: &Person| {
        MachineClaim::enrol(
            &person.id(),
            name("tower"),
            EncryptionKey::new([8; 32]),
            &fresh,
        )
    };
    let add = |person: &Person| {
        let caps = Cap::default_set();
        let rec = build::add_machine(&person.log, claim(person), caps, &person.owner, UnixMs(2));
        let rec = rec.bytes().clone();
        Op::IdentAppend(IdentAppend { rec })
    };
    assert_eq!(code(world.request(conn, add(&bob))), Code::Unauthorized);
    assert!(world.request(conn, add(&ana)).is_ok());
    let (_, ready) = world.try_enter(hello(), Mode::Auth).unwrap();
    assert_eq!(ready.path.to_string(), "ana/tower/work");
}

#[test]
fn retention_leaves_a_named_gap_for_late_readers() {
    let (mut world, (_, mut ana), (_, bob), _) = room();
    world.say(&mut ana, ROOM, "old").unwrap();
    world.pass(31 * 86_400_000);
    // Counters as old as the messages are forgotten too, and the client seals again from 1.
    let gap = world.say(&mut ana, ROOM, "new").unwrap_err();
    assert_eq!((gap.code, gap.expected), (Code::CounterGap, Some(1)));
    let ana = Person::new("ana", 10);
    let back = world.join_session(&ana, "work", 1);
    world.step(Command::Disconnected { conn: bob.conn });
    let (log, after, limit) = (LOG, 0, 9);
    let page = world.request(back.conn, Op::Read(Read { log, after, limit }));
    let Ok(Reply::Page(page)) = page else {
        panic!("{page:?}");
    };
    let gap = page.gap.unwrap();
    assert_eq!((gap.from, gap.to, gap.missing), (3, 3, 1));
    assert_eq!(page.next, 3);
}

#[tokio::test]
async fn the_driver_answers_over_real_threads_and_drains() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    let open = Box::new(move || Ok(Box::new(SqliteStore::open(&file)?) as Box<dyn Store>));
    let tasks = tokio_util::task::TaskTracker::new();
    let hub = hub::start(settings(), open, Clock::start(), &tasks)
        .await
        .unwrap();
    let mut line = hub.connect(Encoding::Cbor).await.unwrap();
    let ana = Person::new("ana", 10);
    let entry = Box::new(Enter {
        hello: hello(&ana.machine, "work", false, 1),
        mode: Mode::Register {
            genesis: ana.genesis.clone(),
        },
        session: SessionId::new([4; 16]),
    });
    let conn = line.conn;
    hub.send(Command::Enter { conn, entry }).await.unwrap();
    assert!(matches!(
        line.outbox.recv().await,
        Some(Outgoing::Entered(Ok(_)))
    ));
    let log = LogId::Mailbox(conclave_proto::id::MailboxId::of(
        &ana.id(),
        &"ana/laptop/work".parse().unwrap(),
    ));
    let read = Op::Read(Read {
        log,
        after: 0,
        limit: 1,
    });
    let (id, op) = (1, Checked::new(read).unwrap());
    hub.send(Command::Request { conn, id, op }).await.unwrap();
    assert!(matches!(line.outbox.recv().await, Some(Outgoing::Response(r)) if r.id == 1));
    assert_eq!(hub.stats().await.unwrap().users, 1);
    hub.drain().await.unwrap();
    assert!(matches!(
        line.outbox.recv().await,
        Some(Outgoing::Close(Close::Draining, _))
    ));
    drop(hub);
    tasks.close();
    tasks.wait().await;
}
