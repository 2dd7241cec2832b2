//! Acts of admins are carried out once, and the audit log is signed in time.

use crate::rules::{act, administered};
use crate::world::{Peer, Person, SERVER, World, code};
use conclave_proto::admin::{Act, AdminBody};
use conclave_proto::channel_log::Visibility;
use conclave_proto::frame::op::{AdminAct, Nothing, Op};
use conclave_proto::frame::reply::Reply;
use conclave_proto::id::{Blob, ChannelId};
use conclave_proto::key::Secret;
use conclave_proto::reject::Code;
use conclave_proto::time::UnixMs;
use conclave_server::audit::{self, CHECKPOINT_MS};

const ROOM: ChannelId = ChannelId::new([5; 16]);
const MINUTE_MS: u64 = 60_000;

fn invites(world: &mut World, at: &Peer) -> usize {
    match world.request(at.conn, Op::ServerInvites(Nothing {})) {
        Ok(Reply::ServerInvites(list)) => list.invites.len(),
        other => panic!("{other:?}"),
    }
}

fn freeze(ana: &Person, request: u8, ts: UnixMs, on: bool) -> Blob {
    let act = Act {
        server: SERVER,
        request: [request; 16],
        body: AdminBody::LogFreeze { channel: ROOM, on },
        user: ana.id(),
        ts,
    };
    act.sign_machine(&ana.machine).bytes().clone()
}

#[test]
fn a_repeated_act_is_not_carried_out_again_even_after_a_restart() {
    let (mut world, ana, mut at) = administered();
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let act = |rec: &Blob| Op::Admin(AdminAct { rec: rec.clone() });
    let on = freeze(&ana, 1, world.now.wall, true);
    let off = freeze(&ana, 2, world.now.wall, false);
    world.request(at.conn, act(&on)).unwrap();
    world.request(at.conn, act(&off)).unwrap();
    for _ in 0..2 {
        assert!(world.request(at.conn, act(&on)).is_ok(), "done is done");
        assert!(world.say(&mut at, ROOM, "not frozen").is_ok());
        world.restart();
        at = world.join_session(&ana, "work", 1);
    }
}

#[test]
fn an_act_signed_far_from_the_servers_time_is_refused() {
    let (mut world, ana, at) = administered();
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let signed = world.now.wall;
    let early = freeze(&ana, 1, signed.plus(11 * MINUTE_MS), true);
    let late = freeze(&ana, 2, signed, true);
    let refused = world.request(at.conn, Op::Admin(AdminAct { rec: early }));
    assert_eq!(code(refused), Code::Forbidden);
    world.pass(10 * MINUTE_MS + 1);
    let refused = world
        .request(at.conn, Op::Admin(AdminAct { rec: late }))
        .unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    assert!(refused.message.contains("10 minutes"), "{refused}");
}

#[test]
fn new_audit_rows_are_signed_within_ten_minutes_and_shown_at_entry() {
    let (mut world, ana, at) = administered();
    let key = Secret::from_seed(&[1; 32]).server_key();
    let body = AdminBody::ServerInvite {
        key: Secret::from_seed(&[50; 32]).invite_key(),
        max_uses: 1,
        expires: UnixMs(u64::MAX),
    };
    act(&mut world, &ana, &at, body, 1).unwrap();
    assert_eq!(invites(&mut world, &at), 1);
    world.pass(CHECKPOINT_MS);
    let shown = |world: &mut World, instance| {
        let ready = world.join_session(&ana, "more", instance).ready;
        audit::open_checkpoint(&ready.checkpoint.unwrap(), &key).unwrap()
    };
    let (head, signed) = shown(&mut world, 2);
    assert_eq!(head.n, 2, "the account and the invite");
    world.pass(2 * CHECKPOINT_MS);
    assert_eq!(shown(&mut world, 3), (head, signed), "nothing new to sign");
    world.restart();
    assert_eq!(shown(&mut world, 4).0, head);
}
