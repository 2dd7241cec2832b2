//! What sessions say of themselves: who may, who sees it, for how long, and what it may cost.

use crate::rig::{self, open_config, serve};
use crate::room::{LOG, NOWHERE, ROOM, Scene, square};
use crate::rules::{act, administered};
use crate::sealed;
use crate::world::{Peer, Person, World, code, settings};
use conclave_proto::admin::AdminBody;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{CtlBody, History, RemoveKind, Role, Visibility};
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::frame::op::{
    Append, KickSession, Op, ProfilePut, ProfilesOf, Read, Unsubscribe, Who,
};
use conclave_proto::frame::reply::{ProfileOf, Profiles, Reply, Sessions};
use conclave_proto::frame::{Outcome, Response, ServerFrame};
use conclave_proto::id::{Blob, ChannelId, EnvelopeNonce, LogId};
use conclave_proto::key::Secret;
use conclave_proto::limit::{FRAME_BYTES_MAX, LEASE_MS, PROFILE_BYTES_MAX, PROFILES_MAX};
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_server::hub::Command;
use conclave_server::store::memory::MemoryStore;
use std::collections::BTreeSet;

fn scene() -> Scene {
    Scene::new(World::new())
}

/// A profile of this session; its counter counts nothing.
fn profile(peer: &Peer, channel: ChannelId, text: &str) -> Envelope {
    let log = LogId::Channel(channel);
    peer.clone().envelope(log, channel, Route::Profile, text)
}

fn put(world: &mut World, peer: &Peer, channel: ChannelId, env: Envelope) -> Result<Reply, Reject> {
    world.request(peer.conn, Op::Profile(ProfilePut { channel, env }))
}

fn tell(world: &mut World, peer: &Peer, text: &str) -> Result<Reply, Reject> {
    put(world, peer, ROOM, profile(peer, ROOM, text))
}

fn ask(
    world: &mut World,
    peer: &Peer,
    channel: ChannelId,
    after: Option<SessionPath>,
) -> Result<Profiles, Reject> {
    match world.request(peer.conn, Op::Profiles(ProfilesOf { channel, after }))? {
        Reply::Profiles(profiles) => Ok(profiles),
        other => panic!("{other:?}"),
    }
}

/// What everybody says, as one sees it.
fn seen(world: &mut World, peer: &Peer) -> Vec<(String, String)> {
    let said = ask(world, peer, ROOM, None).unwrap().profiles;
    let text = |p: &ProfileOf| Body::parse(&p.env.ct).unwrap().text.unwrap();
    said.iter().map(|p| (p.path.to_string(), text(p))).collect()
}

fn pair(path: &str, text: &str) -> (String, String) {
    (path.to_owned(), text.to_owned())
}

fn raw(header: &Header, ct: Blob, secret: &Secret) -> Envelope {
    Envelope::signed(header.to_bytes(), EnvelopeNonce::new([0; 24]), ct, secret)
}

fn header(peer: &Peer) -> Header {
    Header::parse(&profile(peer, ROOM, "x").header).unwrap()
}

#[test]
fn members_see_the_newest_word_of_each_session_in_order_and_no_log_has_it() {
    let Scene {
        mut world,
        ana: (_, at),
        bob: (_, bt),
        ..
    } = scene();
    tell(&mut world, &bt, "idle").unwrap();
    tell(&mut world, &at, "working").unwrap();
    tell(&mut world, &bt, "reviewing").unwrap();
    let both = [
        pair("ana/laptop/work", "working"),
        pair("bob/laptop/work", "reviewing"),
    ];
    assert_eq!(seen(&mut world, &at), both);
    assert_eq!(seen(&mut world, &bt), both);
    assert_eq!(world.entries(at.conn), []);
    let read = Op::Read(Read {
        log: LOG,
        after: 0,
        limit: 9,
    });
    let page = world.request(at.conn, read);
    assert!(matches!(page, Ok(Reply::Page(page)) if page.head == 2));
}

#[test]
fn a_stranger_neither_says_nor_sees_anything_and_learns_of_no_private_channel() {
    let Scene { mut world, bob, .. } = scene();
    tell(&mut world, &bob.1, "here").unwrap();
    let eve = world.register(&Person::new("eve", 30), "work");
    let here = tell(&mut world, &eve, "x").unwrap_err();
    let there = put(&mut world, &eve, NOWHERE, profile(&eve, NOWHERE, "x")).unwrap_err();
    assert_eq!((&here.code, &here), (&Code::NotFound, &there));
    let here = ask(&mut world, &eve, ROOM, None).unwrap_err();
    let there = ask(&mut world, &eve, NOWHERE, None).unwrap_err();
    assert_eq!((&here.code, &here), (&Code::NotFound, &there));
    // For a room it may not know, the envelope's own channel tells it nothing either.
    let mixed = put(&mut world, &eve, ROOM, profile(&eve, NOWHERE, "x"));
    assert_eq!(mixed.unwrap_err(), here);
}

#[test]
fn a_removed_member_is_not_listed_any_more_and_sees_nobody() {
    let Scene {
        mut world,
        ana: (ana, at),
        bob: (bob, bt),
        head,
    } = scene();
    tell(&mut world, &bt, "here").unwrap();
    let body = CtlBody::Remove {
        user: bob.id(),
        kind: RemoveKind::Kick,
    };
    world.ctl(&ana, &at, ROOM, Some(head), body).unwrap();
    assert_eq!(seen(&mut world, &at), []);
    assert_eq!(code(tell(&mut world, &bt, "still here")), Code::NotFound);
    let refused = ask(&mut world, &bt, ROOM, None).unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    assert_eq!(seen(&mut world, &at), []);
}

#[test]
fn readers_have_profiles_and_a_frozen_channel_takes_them() {
    let Scene {
        mut world,
        ana: (ana, mut at),
        bob: (bob, mut bt),
        head,
    } = scene();
    let body = CtlBody::Role {
        user: bob.id(),
        role: Role::Reader,
    };
    let head = world.ctl(&ana, &at, ROOM, Some(head), body).unwrap();
    assert_eq!(code(world.say(&mut bt, ROOM, "x")), Code::Forbidden);
    tell(&mut world, &bt, "reading").unwrap();
    let freeze = CtlBody::Freeze { on: true };
    let head = world.ctl(&ana, &at, ROOM, Some(head), freeze).unwrap();
    assert_eq!(code(world.say(&mut at, ROOM, "x")), Code::Frozen);
    tell(&mut world, &at, "waiting").unwrap();
    assert_eq!(
        seen(&mut world, &at),
        [
            pair("ana/laptop/work", "waiting"),
            pair("bob/laptop/work", "reading"),
        ]
    );
    world
        .ctl(&ana, &at, ROOM, Some(head), CtlBody::Close {})
        .unwrap();
    assert_eq!(code(tell(&mut world, &at, "over")), Code::Frozen);
}

#[test]
fn a_profile_lives_through_the_lease_and_ends_with_it() {
    let Scene {
        mut world,
        ana: (ana, at),
        bob: (bob, bt),
        ..
    } = scene();
    let here = [pair("bob/laptop/work", "here")];
    tell(&mut world, &bt, "here").unwrap();
    world.step(Command::Disconnected { conn: bt.conn });
    world.pass(LEASE_MS - 1);
    assert_eq!(seen(&mut world, &at), here);
    let back = world.join_session(&bob, "work", 1);
    world.pass(LEASE_MS);
    assert_eq!(seen(&mut world, &at), here);
    world.step(Command::Disconnected { conn: back.conn });
    world.pass(LEASE_MS);
    assert_eq!(seen(&mut world, &at), []);
    // Who takes the path next has not said anything yet.
    let next = world.join_session(&bob, "work", 2);
    assert_eq!(seen(&mut world, &at), []);
    tell(&mut world, &next, "new").unwrap();
    assert_eq!(seen(&mut world, &at).len(), 1);
    world.restart();
    let at = world.join_session(&ana, "work", 1);
    world.join_session(&bob, "work", 2);
    assert_eq!(seen(&mut world, &at), []);
}

#[test]
fn unfollowing_and_being_kicked_out_of_a_channel_end_the_profile_there() {
    let Scene {
        mut world,
        ana: (_, at),
        bob: (_, bt),
        ..
    } = scene();
    tell(&mut world, &bt, "here").unwrap();
    let path = bt.ready.path.clone();
    let kick = KickSession {
        channel: ROOM,
        path,
    };
    world.request(at.conn, Op::KickSession(kick)).unwrap();
    assert_eq!(seen(&mut world, &at), []);
    world.subscribe(&bt, LOG, 0).unwrap();
    tell(&mut world, &bt, "back").unwrap();
    assert_eq!(seen(&mut world, &at).len(), 1);
    let unsubscribe = Op::Unsubscribe(Unsubscribe { log: LOG });
    world.request(bt.conn, unsubscribe).unwrap();
    assert_eq!(seen(&mut world, &at), []);
}

#[test]
fn a_deleted_channel_keeps_no_profile() {
    let (mut world, ana, at) = administered();
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    tell(&mut world, &at, "here").unwrap();
    assert_eq!(seen(&mut world, &at).len(), 1);
    let delete = AdminBody::LogDelete { channel: ROOM };
    act(&mut world, &ana, &at, delete, 1).unwrap();
    assert_eq!(code(tell(&mut world, &at, "here")), Code::NotFound);
    let gone = ask(&mut world, &at, ROOM, None).unwrap_err();
    assert_eq!(gone.code, Code::NotFound);
}

#[test]
fn only_a_profile_of_this_very_session_for_this_very_channel_is_taken() {
    let Scene {
        mut world,
        ana: (_, mut at),
        bob: (bob, bt),
        ..
    } = scene();
    let ct: Blob = Body::text("x").to_bytes().unwrap();
    let of = |change: fn(&mut Header)| {
        let mut header = header(&bt);
        change(&mut header);
        raw(&header, ct.clone(), &bt.machine)
    };
    let foreign = profile(&at, ROOM, "I am bob");
    let renamed = of(|h| h.sender = "bob/laptop/other".parse().unwrap());
    let elsewhere = of(|h| h.channel = NOWHERE);
    let message = of(|h| h.route = Route::Everyone);
    let sealed = of(|h| h.suite = Suite::One);
    for (env, refusal) in [
        (foreign, Code::Unauthorized),
        (renamed, Code::Unauthorized),
        (elsewhere, Code::Malformed),
        (message, Code::Malformed),
        (sealed, Code::Mode),
    ] {
        assert_eq!(code(put(&mut world, &bt, ROOM, env)), refusal);
    }
    let large = |n| raw(&header(&bt), vec![7; n].into(), &bt.machine);
    let too_large = put(&mut world, &bt, ROOM, large(PROFILE_BYTES_MAX + 1));
    assert_eq!(code(too_large), Code::TooLarge);
    assert_eq!(ask(&mut world, &at, ROOM, None).unwrap().profiles, []);
    put(&mut world, &bt, ROOM, large(PROFILE_BYTES_MAX)).unwrap();

    let shell = world.join_session(&bob, "cli", 3);
    assert_eq!(code(tell(&mut world, &shell, "once")), Code::Forbidden);
    let env = profile(&at, ROOM, "an entry");
    assert_eq!(code(world.append(&mut at, LOG, env)), Code::Malformed);
    assert_eq!(world.entries(bt.conn), []);
}

#[test]
fn in_a_sealed_channel_a_profile_has_the_newest_epoch_while_that_is_not_stale() {
    let mut room = sealed::room(World::new(), History::Full);
    let (bob, at) = (room.bob.0.id(), room.ana.1.clone());
    let under = |epoch| {
        let sealed = sealed::entry(&at, epoch, 1, "sealed");
        let mut header = Header::parse(&sealed.header).unwrap();
        header.route = Route::Profile;
        Envelope::signed(header.to_bytes(), sealed.nonce, sealed.ct, &at.machine)
    };
    let early = put(&mut room.world, &at, ROOM, under(1));
    assert_eq!(code(early), Code::StaleEpoch);
    room.rotate(&[]).unwrap();
    put(&mut room.world, &at, ROOM, under(1)).unwrap();
    let clear = profile(&at, ROOM, "in the clear");
    assert_eq!(code(put(&mut room.world, &at, ROOM, clear)), Code::Mode);
    room.remove(bob, RemoveKind::Kick);
    let stale = put(&mut room.world, &at, ROOM, under(1));
    assert_eq!(code(stale), Code::StaleEpoch);
    room.rotate(&[]).unwrap();
    let older = put(&mut room.world, &at, ROOM, under(1));
    assert_eq!(code(older), Code::StaleEpoch);
    // What was said before stays until it is said anew.
    let said = ask(&mut room.world, &at, ROOM, None).unwrap().profiles;
    assert_eq!(said[0].env, under(1));
    put(&mut room.world, &at, ROOM, under(2)).unwrap();
    let said = ask(&mut room.world, &at, ROOM, None).unwrap().profiles;
    assert!(said.len() == 1 && said[0].env == under(2));
}

#[test]
fn a_profile_takes_a_token_like_an_entry() {
    let mut settings = settings();
    (settings.appends_per_s, settings.append_burst) = (1, 3);
    let mut world = World::with(settings, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let at = world.register(&ana, "work");
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    tell(&mut world, &at, "1").unwrap();
    tell(&mut world, &at, "2").unwrap();
    let limited = tell(&mut world, &at, "3").unwrap_err();
    assert_eq!(limited.code, Code::RateLimited);
    world.pass(limited.retry_after_ms.unwrap());
    tell(&mut world, &at, "3").unwrap();
}

/// A room of Ana's with so many of her sessions in it.
fn crowd(sessions: usize) -> (World, Vec<Peer>) {
    let mut settings = settings();
    settings.sessions_per_machine_max = sessions + 1;
    let mut world = World::with(settings, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let at = world.register(&ana, "s-0");
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let rest = (1..sessions).map(|n| {
        let mut hello = crate::world::hello(&ana.machine, &format!("s-{n}"), true, 0);
        hello.instance =
            conclave_proto::id::Instance::new(u128::try_from(n).unwrap().to_be_bytes());
        hello.agent = "\u{1}".repeat(64);
        let (conn, ready) = world
            .try_enter(hello, conclave_proto::handshake::Mode::Auth)
            .unwrap();
        let machine = ana.machine.clone();
        let mut peer = at.clone();
        (peer.conn, peer.ready, peer.machine) = (conn, ready, machine);
        peer
    });
    let rest: Vec<Peer> = rest.collect();
    let mut all = vec![at];
    all.extend(rest);
    for peer in &all {
        world.subscribe(peer, LOG, 0).unwrap();
        world.inboxes.clear();
    }
    (world, all)
}

/// Fails unless an answer fits a frame in both encodings.
fn fits(reply: &Reply) {
    for encoding in Encoding::ALL {
        let result = Outcome::Ok(reply.clone());
        let frame = ServerFrame::Response(Response { id: 1, result });
        assert!(encoding.encode(&frame, FRAME_BYTES_MAX).is_ok());
    }
}

fn all_pages(world: &mut World, peer: &Peer) -> Vec<Vec<SessionPath>> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = ask(world, peer, ROOM, after).unwrap();
        fits(&Reply::Profiles(page.clone()));
        let paths: Vec<_> = page.profiles.iter().map(|p| p.path.clone()).collect();
        after = paths.last().cloned();
        pages.push(paths);
        if !page.more {
            return pages;
        }
        assert!(after.is_some(), "more, and no place to go on from");
    }
}

#[test]
fn profiles_come_in_pages_that_fit_a_frame_and_leave_nobody_out() {
    let (mut world, all) = crowd(PROFILES_MAX + 12);
    let small = |peer: &Peer| raw(&header(peer), vec![7; 10].into(), &peer.machine);
    let large = |peer: &Peer| {
        raw(
            &header(peer),
            vec![7; PROFILE_BYTES_MAX].into(),
            &peer.machine,
        )
    };
    let everybody: BTreeSet<_> = all.iter().map(|p| p.ready.path.clone()).collect();
    for peer in &all {
        put(&mut world, peer, ROOM, small(peer)).unwrap();
    }
    let pages = all_pages(&mut world, &all[0]);
    let lengths: Vec<usize> = pages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [PROFILES_MAX, 12]);
    assert!(
        pages.concat().iter().eq(&everybody),
        "in the order of paths"
    );
    for peer in &all {
        put(&mut world, peer, ROOM, large(peer)).unwrap();
    }
    let pages = all_pages(&mut world, &all[0]);
    assert!(pages.len() > 4, "bounded by bytes: {}", pages.len());
    assert!(pages.concat().iter().eq(&everybody));
}

#[test]
fn who_says_that_there_are_more_than_a_frame_holds_and_names_the_live_ones_first() {
    let (mut world, all) = crowd(600);
    // One is in its lease, and would be among the first by name.
    world.step(Command::Disconnected { conn: all[1].conn });
    let who = |world: &mut World| {
        let channel = Some(ROOM);
        let reply = world
            .request(all[0].conn, Op::Who(Who { channel }))
            .unwrap();
        fits(&reply);
        match reply {
            Reply::Sessions(sessions) => sessions,
            other => panic!("{other:?}"),
        }
    };
    let Sessions { sessions, more } = who(&mut world);
    assert!(more && sessions.len() > 200, "{}", sessions.len());
    assert!(sessions.iter().all(|session| session.online));
    assert!(sessions.is_sorted_by_key(|session| session.path.clone()));
    for peer in &all[10..] {
        world.step(Command::Disconnected { conn: peer.conn });
    }
    world.pass(LEASE_MS);
    let Sessions { sessions, more } = who(&mut world);
    assert_eq!((sessions.len(), more), (9, false));
}

#[tokio::test]
async fn a_profile_crosses_real_sockets_and_outlives_a_reconnect() {
    let site = serve(open_config()).await;
    let ((_, mut at), (bob, mut bt)) = square(&site).await;
    let op = |raw: &rig::Raw, person: &rig::Person, text: &str| {
        let Op::Append(append) = raw.message(person, ROOM, 1, text) else {
            panic!("no append");
        };
        let mut header = Header::parse(&append.env.header).unwrap();
        header.route = Route::Profile;
        let env = Envelope::clear(&header, append.env.ct, &person.machine);
        Op::Profile(ProfilePut { channel: ROOM, env })
    };
    let put = op(&bt, &bob, "reviewing");
    assert!(matches!(bt.call(put.clone()).await, Ok(Reply::Done(_))));
    let ask = || {
        let (channel, after) = (ROOM, None);
        Op::Profiles(ProfilesOf { channel, after })
    };
    let Op::Profile(said) = &put else {
        panic!("no profile");
    };
    let expected = Profiles {
        profiles: vec![ProfileOf {
            path: "bob/box/main".parse().unwrap(),
            env: said.env.clone(),
        }],
        more: false,
    };
    assert_eq!(at.call(ask()).await, Ok(Reply::Profiles(expected.clone())));
    drop(bt);
    let mut bt = site.login(&bob, Encoding::Cbor).await;
    assert_eq!(bt.call(ask()).await, Ok(Reply::Profiles(expected)));
    // An entry of kind 6 has no place in a log.
    let Op::Profile(ProfilePut { env, .. }) = put else {
        panic!("no profile");
    };
    let refused = bt.call(Op::Append(Append { log: LOG, env })).await;
    assert_eq!(refused.unwrap_err().code, Code::Malformed);
    site.running.shutdown().await.unwrap();
}
