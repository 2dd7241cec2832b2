//! Who learns how far readers are, and that what is told is what they confirmed.

use crate::rig::{self, open_config, serve};
use crate::room::{LOG, NOWHERE, ROOM, Scene, square};
use crate::world::{Peer, Person, World, name, settings};
use conclave_proto::body::Head;
use conclave_proto::channel_log::{CtlBody, RemoveKind, Visibility};
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::frame::client::{Ack, ClientFrame, Cursor};
use conclave_proto::frame::op::{Append, CursorsOf, Op};
use conclave_proto::frame::reply::{Cursors, Reader, Reply};
use conclave_proto::id::{ChannelId, LogId, MailboxId};
use conclave_proto::limit::{CURSORS_MAX, LEASE_MS};
use conclave_proto::reject::{Code, Reject};
use conclave_server::hub::Command;
use conclave_server::store::memory::MemoryStore;
use conclave_server::store::sqlite::SqliteStore;
use conclave_server::store::{Store, Write};

/// Both follow their mailboxes, too.
fn scene(store: Box<dyn Store>) -> Scene {
    let mut scene = Scene::new(World::with(settings(), store));
    for peer in [&scene.ana.1, &scene.bob.1] {
        let mailbox = peer.ready.mailbox.unwrap();
        scene.world.subscribe(peer, mailbox, 0).unwrap();
    }
    scene
}

fn ephemeral() -> Scene {
    scene(Box::new(MemoryStore::new()))
}

fn confirm(world: &mut World, peer: &Peer, log: LogId, seq: u64) {
    let (conn, cursors) = (peer.conn, vec![Cursor { log, seq }]);
    world.step(Command::Ack { conn, cursors });
}

fn ask(world: &mut World, peer: &Peer, log: LogId) -> Result<Cursors, Reject> {
    match world.request(peer.conn, Op::Cursors(CursorsOf { log }))? {
        Reply::Cursors(cursors) => Ok(cursors),
        other => panic!("{other:?}"),
    }
}

fn readers(world: &mut World, peer: &Peer, log: LogId) -> Vec<(String, u64)> {
    let cursors = ask(world, peer, log).unwrap();
    let reader = |reader: &Reader| (reader.path.to_string(), reader.seq);
    cursors.readers.iter().map(reader).collect()
}

fn at(path: &str, seq: u64) -> (String, u64) {
    (path.to_owned(), seq)
}

#[test]
fn members_learn_how_far_each_other_are_before_it_is_written_down_and_after() {
    let Scene {
        mut world,
        ana: (_, mut ana),
        bob: (bob, bt),
        ..
    } = ephemeral();
    assert_eq!(readers(&mut world, &ana, LOG), []);
    world.say(&mut ana, ROOM, "hello").unwrap();
    confirm(&mut world, &bt, LOG, 2);
    assert_eq!(readers(&mut world, &ana, LOG), [at("bob/laptop/work", 2)]);
    world.pass(1_000);
    assert_eq!(readers(&mut world, &ana, LOG), [at("bob/laptop/work", 2)]);
    confirm(&mut world, &bt, LOG, 99);
    confirm(&mut world, &ana, LOG, 1);
    let both = [at("ana/laptop/work", 1), at("bob/laptop/work", 3)];
    assert_eq!(readers(&mut world, &bt, LOG), both);
    // Who is there comes first, and who left stays known.
    world.step(Command::Disconnected { conn: ana.conn });
    let both = [at("bob/laptop/work", 3), at("ana/laptop/work", 1)];
    assert_eq!(readers(&mut world, &bt, LOG), both);
    world.pass(2 * LEASE_MS);
    assert_eq!(readers(&mut world, &bt, LOG), both);
    let cursors = ask(&mut world, &bt, LOG).unwrap();
    assert_eq!((cursors.head, cursors.oldest), (3, 1));
    // A session of one command follows nothing.
    let shell = world.join_session(&bob, "cli", 7);
    world.subscribe(&shell, LOG, 0).unwrap();
    confirm(&mut world, &shell, LOG, 3);
    assert_eq!(readers(&mut world, &shell, LOG), both);
}

#[test]
fn a_cursor_that_is_written_down_while_it_is_asked_for_is_told() {
    let Scene {
        mut world,
        ana: (_, ana),
        bob: (_, bt),
        ..
    } = ephemeral();
    confirm(&mut world, &bt, LOG, 1);
    world.pass(1_000);
    confirm(&mut world, &bt, LOG, 2);
    // The page is read before the tick's commit, and answered after it.
    let op = Op::Cursors(CursorsOf { log: LOG });
    let op = conclave_server::hub::Checked::new(op).unwrap();
    let (conn, id) = (ana.conn, 5);
    world
        .state
        .handle(world.now, Command::Request { conn, id, op });
    let effect = world.state.poll_effect().unwrap();
    let conclave_server::hub::Effect::Load(load) = effect else {
        panic!("{effect:?}");
    };
    let page = world.store.page(&load.query);
    world.pass(1_000);
    let loaded = conclave_server::hub::Loaded::new(load, page);
    world.step(Command::Loaded(Box::new(loaded)));
    let reply = world.answer(conn, id).unwrap().unwrap();
    let Reply::Cursors(cursors) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(cursors.readers[0].seq, 2);
}

#[test]
fn a_stranger_learns_nothing_of_a_private_channel_or_a_mailbox() {
    let Scene {
        mut world,
        ana: (ana, at),
        bob: (bob, bt),
        head,
    } = ephemeral();
    let eve = world.register(&Person::new("eve", 30), "work");
    let mailbox = bt.ready.mailbox.unwrap();
    let nobody = LogId::Mailbox(MailboxId::new([77; 16]));
    for (here, there) in [(LOG, LogId::Channel(NOWHERE)), (mailbox, nobody)] {
        let here = ask(&mut world, &eve, here).unwrap_err();
        let there = ask(&mut world, &eve, there).unwrap_err();
        assert_eq!((&here.code, &here), (&Code::NotFound, &there));
    }
    let kick = CtlBody::Remove {
        user: bob.id(),
        kind: RemoveKind::Kick,
    };
    confirm(&mut world, &bt, LOG, 2);
    world.ctl(&ana, &at, ROOM, Some(head), kick).unwrap();
    assert_eq!(readers(&mut world, &at, LOG), []);
    assert_eq!(ask(&mut world, &bt, LOG).unwrap_err().code, Code::NotFound);
    // They share nothing any more.
    let refused = ask(&mut world, &at, mailbox).unwrap_err();
    assert_eq!(refused, ask(&mut world, &eve, nobody).unwrap_err());
}

#[test]
fn who_may_whisper_to_a_session_knows_how_far_it_has_read() {
    let Scene {
        mut world,
        ana: (ana, mut at),
        bob: (bob, mut bt),
        head,
    } = ephemeral();
    let mailbox = bt.ready.mailbox.unwrap();
    let path = bt.ready.path.clone();
    world.whisper(&mut at, bob.id(), &path).unwrap();
    let before = ask(&mut world, &at, mailbox).unwrap();
    // How much came there is not told to others.
    assert_eq!((before.head, before.oldest, before.readers), (0, 1, vec![]));
    assert_eq!(ask(&mut world, &bt, mailbox).unwrap().head, 1);
    confirm(&mut world, &bt, mailbox, 1);
    // Following somebody else's mailbox is not possible, and what is said of it does not count.
    confirm(&mut world, &at, mailbox, 1);
    let seq = 1;
    let owner = [Reader {
        path: path.clone(),
        seq,
    }];
    world.whisper(&mut at, bob.id(), &path).unwrap();
    let told = ask(&mut world, &at, mailbox).unwrap();
    assert_eq!((told.head, told.readers.as_slice()), (1, owner.as_slice()));
    let own = ask(&mut world, &bt, mailbox).unwrap();
    assert_eq!((own.head, own.readers.as_slice()), (2, owner.as_slice()));
    let mine = at.ready.path.clone();
    world.whisper(&mut bt, ana.id(), &mine).unwrap();
    let leave = CtlBody::Remove {
        user: bob.id(),
        kind: RemoveKind::Kick,
    };
    world.ctl(&ana, &at, ROOM, Some(head), leave).unwrap();
    // Each of the two has an answer to give.
    assert_eq!(ask(&mut world, &at, mailbox).unwrap().readers, owner);
    let theirs = at.ready.mailbox.unwrap();
    assert!(ask(&mut world, &bt, theirs).is_ok());
}

#[test]
fn an_offline_owners_cursor_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    let Scene {
        mut world,
        ana: (ana, mut at),
        bob: (bob, bt),
        ..
    } = scene(Box::new(SqliteStore::open(&file).unwrap()));
    let mailbox = bt.ready.mailbox.unwrap();
    let path = bt.ready.path.clone();
    for _ in 0..3 {
        world.whisper(&mut at, bob.id(), &path).unwrap();
    }
    confirm(&mut world, &bt, mailbox, 2);
    world.step(Command::Disconnected { conn: bt.conn });
    world.pass(1_000);
    world.restart();
    let at = world.join_session(&ana, "work", 1);
    let cursors = ask(&mut world, &at, mailbox).unwrap();
    assert_eq!((cursors.head, cursors.oldest), (2, 1));
    assert_eq!(cursors.readers, [Reader { path, seq: 2 }]);
}

#[test]
fn the_answer_is_bounded_and_names_the_live_ones() {
    let Scene {
        mut world,
        ana: (_, at),
        bob: (bob, bt),
        ..
    } = ephemeral();
    confirm(&mut world, &bt, LOG, 1);
    world.pass(1_000);
    // Sessions of old, which are ahead and come first by path.
    for n in 0..CURSORS_MAX + 10 {
        let mut path = bt.ready.path.clone();
        path.handle = name(&format!("a-{n}"));
        let (user, mailbox) = (bob.id(), MailboxId::of(&bob.id(), &path));
        let writes = [
            Write::Mailbox {
                mailbox,
                user,
                path,
            },
            Write::Cursor {
                log: LOG,
                reader: mailbox,
                seq: 2,
            },
        ];
        world.store.commit(world.now.wall, &writes).unwrap();
    }
    let found = readers(&mut world, &at, LOG);
    assert_eq!(found.len(), CURSORS_MAX);
    assert_eq!(found[0].0, "bob/laptop/work");
    assert!(found[1..].is_sorted());
}

#[test]
fn what_waited_its_time_is_gone_within_two_ticks_in_however_many_mailboxes() {
    let mut short = settings();
    (short.whisper_retention_ms, short.sessions_per_machine_max) = (3_000, 100);
    let mut world = World::with(short, Box::new(MemoryStore::new()));
    let (ana, bob) = (Person::new("ana", 10), Person::new("bob", 20));
    let mut at = world.register(&ana, "work");
    let mut theirs = vec![world.register(&bob, "work")];
    theirs.extend((2..80).map(|n| world.join_session(&bob, "work", n)));
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    world.add((&ana, &at), ROOM, head, &bob);
    for peer in &theirs {
        world.step(Command::Disconnected { conn: peer.conn });
        for _ in 0..2 {
            let path = &peer.ready.path;
            world.whisper(&mut at, bob.id(), path).unwrap();
        }
    }
    let watcher = at.clone();
    let oldest = |world: &mut World| -> Vec<u64> {
        let mailboxes = theirs.iter().map(|peer| peer.ready.mailbox.unwrap());
        mailboxes
            .map(|log| ask(world, &watcher, log).unwrap().oldest)
            .collect()
    };
    for _ in 0..3 {
        assert_eq!(oldest(&mut world), [1; 79]);
        world.pass(1_000);
    }
    world.pass(1_000);
    assert_eq!(oldest(&mut world), [3; 79]);
    // The counters go on where they were.
    let path = theirs[0].ready.path.clone();
    let answer = world.whisper(&mut at, bob.id(), &path);
    assert!(matches!(answer, Ok(Reply::Appended(a)) if a.seq == 3));
    world.pass(1_000);
    assert_eq!(oldest(&mut world)[0], 3);
    for _ in 0..3 {
        world.pass(1_000);
    }
    assert_eq!(oldest(&mut world)[0], 4);
}

#[tokio::test]
async fn a_server_with_a_retention_of_a_second_lets_whispers_go_by_itself() {
    let mut config = open_config();
    config.whisper_retention = "1s".parse().unwrap();
    let site = serve(config).await;
    let (ana, bob) = (rig::Person::new("ana", 1), rig::Person::new("bob", 2));
    let mut at = site.register(&ana, Encoding::Cbor).await;
    let mut bt = site.register(&bob, Encoding::Cbor).await;
    assert_eq!(
        bt.ready.as_ref().unwrap().limits.whisper_retention_ms,
        1_000
    );
    let rec = at.create(&ana, ROOM, "square").await;
    let hash = conclave_proto::record::Record::parse(&rec).unwrap().hash();
    bt.join(&bob, ROOM, Head { n: 0, hash }).await;
    let (path, mailbox) = {
        let ready = bt.ready.as_ref().unwrap();
        (ready.path.clone(), ready.mailbox.unwrap())
    };
    drop(bt);
    let Op::Append(append) = at.message(&ana, ROOM, 1, "psst") else {
        panic!("no append");
    };
    let header = Header {
        suite: Suite::One,
        channel: ChannelId::from_slice(&site.server_id.as_bytes()[..16]).unwrap(),
        route: Route::Whisper(path),
        ..Header::parse(&append.env.header).unwrap()
    };
    let env = Envelope::clear(&header, append.env.ct, &ana.machine);
    let whisper = Op::Append(Append { log: mailbox, env });
    assert!(matches!(at.call(whisper).await, Ok(Reply::Appended(a)) if a.seq == 1));
    rig::soon(async {
        loop {
            let Ok(Reply::Cursors(cursors)) =
                at.call(Op::Cursors(CursorsOf { log: mailbox })).await
            else {
                panic!("no cursors");
            };
            assert_eq!((cursors.head, cursors.readers), (0, vec![]));
            if cursors.oldest == 2 {
                break;
            }
        }
    })
    .await;
    site.running.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_confirmed_whisper_is_seen_by_its_sender_over_real_sockets() {
    let site = serve(open_config()).await;
    let ((ana, mut at), (_, mut bt)) = square(&site).await;
    bt.subscribe(ROOM, 0).await;
    assert_eq!(at.say(&ana, ROOM, 1, "hello").await.seq, 3);
    let cursors = vec![Cursor { log: LOG, seq: 3 }];
    bt.send(&ClientFrame::Ack(Ack { cursors })).await;
    // What follows on the same connection comes after it.
    let op = || Op::Cursors(CursorsOf { log: LOG });
    bt.call(op()).await.unwrap();
    let reply = at.call(op()).await.unwrap();
    let path = "bob/box/main".parse().unwrap();
    let expected = Cursors {
        head: 3,
        oldest: 1,
        readers: vec![Reader { path, seq: 3 }],
    };
    assert_eq!(reply, Reply::Cursors(expected));
    site.running.shutdown().await.unwrap();
}
