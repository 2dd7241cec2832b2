//! Current state and memory over the wire: who reads them, who wins a slot, and what a repeat is told.

use crate::rig::{self, Raw, open_config, serve};
use crate::world::{Peer, Person, World};
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{CtlBody, History, Mode, RemoveKind, Role, Visibility};
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Entry, EntryBody, Envelope, Header, Route};
use conclave_proto::frame::op::{Append, Op, Read};
use conclave_proto::frame::reply::{Appended, EntryPage, Reply};
use conclave_proto::id::{ChannelId, Instance, LogId, MailboxId, MsgId, SenderSid, SlotId};
use conclave_proto::record::Record;
use conclave_proto::reject::{Code, Reject};
use futures_util::future::join_all;

const ROOM: ChannelId = ChannelId::new([5; 16]);
const NOWHERE: ChannelId = ChannelId::new([6; 16]);
const LOG: LogId = LogId::Channel(ROOM);
const SLOT: SlotId = SlotId::new([1; 16]);

fn items(world: &mut World, peer: &Peer, log: LogId, after: u64) -> Result<EntryPage, Reject> {
    let limit = 256;
    match world.request(peer.conn, Op::Items(Read { log, after, limit }))? {
        Reply::Page(page) => Ok(page),
        other => panic!("{other:?}"),
    }
}

fn seqs(page: &EntryPage) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.seq).collect()
}

/// Appends an item with this route.
fn write(world: &mut World, peer: &mut Peer, route: Route) -> u64 {
    let env = peer.envelope(LOG, ROOM, route, "item");
    match world.append(peer, LOG, env) {
        Ok(Reply::Appended(appended)) => appended.seq,
        other => panic!("{other:?}"),
    }
}

/// Ana makes a private room and writes an item; then Bob is added.
fn late(history: History) -> (World, (Person, Peer), (Person, Peer), Head) {
    let mut world = World::new();
    let (ana, bob) = (Person::new("ana", 10), Person::new("bob", 20));
    let (mut at, bt) = (world.register(&ana, "work"), world.register(&bob, "work"));
    let create = CtlBody::Create {
        mode: Mode::Signed,
        visibility: Visibility::Private,
        history,
        name: Some("room".parse().unwrap()),
        topic: None,
        limits: None,
    };
    let head = world.ctl(&ana, &at, ROOM, None, create).unwrap();
    assert_eq!(write(&mut world, &mut at, Route::State(SLOT, 0)), 2);
    let head = world.add((&ana, &at), ROOM, head, &bob);
    (world, (ana, at), (bob, bt), head)
}

#[test]
fn items_are_for_members_and_private_channels_look_like_none() {
    let (mut world, (ana, at), (bob, bt), head) = late(History::Full);
    assert_eq!(seqs(&items(&mut world, &bt, LOG, 0).unwrap()), [2]);
    let eve = world.register(&Person::new("eve", 30), "work");
    let here = items(&mut world, &eve, LOG, 0).unwrap_err();
    let there = items(&mut world, &eve, LogId::Channel(NOWHERE), 0).unwrap_err();
    assert_eq!((&here.code, &here), (&Code::NotFound, &there));
    let own = items(&mut world, &bt, bt.ready.mailbox.unwrap(), 0).unwrap_err();
    let nobody = LogId::Mailbox(MailboxId::new([9; 16]));
    let other = items(&mut world, &bt, nobody, 0).unwrap_err();
    assert_eq!((&own.code, &own), (&Code::Malformed, &other));
    let body = CtlBody::Remove {
        user: bob.id(),
        kind: RemoveKind::Kick,
    };
    world.ctl(&ana, &at, ROOM, Some(head), body).unwrap();
    assert_eq!(items(&mut world, &bt, LOG, 0).unwrap_err(), here);
}

#[test]
fn with_history_since_join_older_items_are_not_shown() {
    let (mut world, (_, mut at), (_, bt), _) = late(History::SinceJoin);
    let first = items(&mut world, &bt, LOG, 0).unwrap();
    assert_eq!((seqs(&first), first.next, first.head), (vec![], 3, 3));
    assert_eq!(seqs(&items(&mut world, &at, LOG, 0).unwrap()), [2]);
    write(&mut world, &mut at, Route::State(SLOT, 2));
    assert_eq!(seqs(&items(&mut world, &bt, LOG, 0).unwrap()), [4]);
}

#[test]
fn readers_read_items_and_write_none() {
    let (mut world, (ana, mut at), (bob, mut bt), head) = late(History::Full);
    let (user, role) = (bob.id(), Role::Reader);
    let body = CtlBody::Role { user, role };
    world.ctl(&ana, &at, ROOM, Some(head), body).unwrap();
    let env = bt.envelope(LOG, ROOM, Route::State(SLOT, u64::MAX), "x");
    let refused = world.append(&mut bt, LOG, env).unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    let memory = Route::Memory(MsgId::new([3; 16]), 0);
    assert_eq!(write(&mut world, &mut at, memory), 5);
    assert_eq!(seqs(&items(&mut world, &bt, LOG, 0).unwrap()), [2, 5]);
}

/// The append of an item by process `n` as its entry `ctr`.
fn item(raw: &Raw, person: &rig::Person, n: u8, ctr: u64, route: Route) -> Op {
    let Op::Append(append) = raw.message(person, ROOM, ctr, "x") else {
        panic!("no append");
    };
    let mut id = [n; 16];
    id[..8].copy_from_slice(&ctr.to_be_bytes());
    let header = Header {
        sid: SenderSid::new([n; 8]),
        msg_id: MsgId::new(id),
        route,
        ..Header::parse(&append.env.header).unwrap()
    };
    let body = Body {
        key: Some("leader".into()),
        data: Some(format!("{n}")),
        ..Body::default()
    };
    let env = Envelope::clear(&header, body.to_bytes().unwrap(), &person.machine);
    Op::Append(Append { log: LOG, env })
}

/// Everybody writes the slot at once, as of `version`; returns who won, where, and the others.
async fn race(racers: &mut [(Raw, rig::Person, u8)], version: u64) -> (u8, Appended) {
    let writes = racers.iter_mut().map(async |(raw, person, n)| {
        let op = item(raw, person, *n, 1, Route::State(SLOT, version));
        (*n, raw.call(op).await)
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(writes)
        .await
        .into_iter()
        .partition(|(_, result)| result.is_ok());
    assert_eq!(won.len(), 1, "{won:?}");
    let (winner, Ok(Reply::Appended(place))) = &won[0] else {
        panic!("{won:?}");
    };
    for (_, result) in &lost {
        let reject = result.as_ref().unwrap_err();
        assert_eq!(reject.code, Code::VersionMismatch);
        assert_eq!(reject.expected, Some(place.seq), "the current version");
    }
    (*winner, *place)
}

#[tokio::test]
async fn of_fifty_sessions_that_write_one_slot_at_once_exactly_one_wins() {
    let mut config = open_config();
    config.limits.sessions_per_machine = 64;
    let site = serve(config).await;
    let mut racers = Vec::new();
    let mut head = None;
    for n in 0..50_u8 {
        let user = n % 2;
        let mut person = rig::Person::new(["ana", "bob"][usize::from(user)], user + 1);
        person.handle = format!("s-{n}").parse().unwrap();
        person.instance = Instance::new([n; 16]);
        let encoding = if n % 3 == 0 {
            Encoding::Json
        } else {
            Encoding::Cbor
        };
        let mut raw = match n {
            0 | 1 => site.register(&person, encoding).await,
            _ => site.login(&person, encoding).await,
        };
        if n == 0 {
            let rec = raw.create(&person, ROOM, "square").await;
            let hash = Record::parse(&rec).unwrap().hash();
            head = Some(Head { n: 0, hash });
        }
        if n == 1 {
            raw.join(&person, ROOM, head.unwrap()).await;
        }
        racers.push((raw, person, n));
    }
    let (first, place) = race(&mut racers, 0).await;
    assert!(!place.dup);
    let winner = racers.remove(racers.iter().position(|(_, _, n)| *n == first).unwrap());
    let (_, second) = race(&mut racers, place.seq).await;

    // Who did not hear the answer repeats the write, and is told of it although the slot moved on.
    let (mut raw, person, n) = winner;
    let again = raw
        .call(item(&raw, &person, n, 1, Route::State(SLOT, 0)))
        .await;
    let dup = Appended { dup: true, ..place };
    assert_eq!(again, Ok(Reply::Appended(dup)));
    let stale = raw.call(item(&raw, &person, n, 2, Route::State(SLOT, place.seq)));
    assert_eq!(stale.await.unwrap_err().expected, Some(second.seq));
    let absent = SlotId::new([2; 16]);
    let nothing = raw.call(item(&raw, &person, n, 2, Route::State(absent, 7)));
    assert_eq!(nothing.await.unwrap_err().expected, Some(0));
    // A refused write has used no counter.
    let forced = raw.call(item(&raw, &person, n, 2, Route::State(SLOT, u64::MAX)));
    let Ok(Reply::Appended(last)) = forced.await else {
        panic!("not written");
    };
    let (after, limit) = (0, 256);
    let read = Op::Items(Read {
        log: LOG,
        after,
        limit,
    });
    let Ok(Reply::Page(page)) = raw.call(read).await else {
        panic!("no page");
    };
    let data = |entry: &Entry| match &entry.body {
        EntryBody::Env(env) => Body::parse(&env.ct).unwrap().data.unwrap(),
        other => panic!("{other:?}"),
    };
    let found: Vec<_> = page.entries.iter().map(|e| (e.seq, data(e))).collect();
    assert_eq!(found, [(last.seq, n.to_string())]);
    site.running.shutdown().await.unwrap();
}
