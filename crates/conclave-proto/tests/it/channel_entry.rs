//! What may be sent into a channel, and the membership an epoch covers.

use crate::people::With::Laptop;
use crate::people::{CHANNEL, TS, World, remove, secret};
use conclave_proto::bytes::Builder;
use conclave_proto::channel_log::{
    CtlBody, CtlError, EnvError, Mode, RemoveKind, Role, Visibility,
};
use conclave_proto::entry::{Header, Route, Suite};
use conclave_proto::id::{ChannelId, Hash, MsgId, RecipientKeyId, SenderSid};
use conclave_proto::identity_log::Cap;
use std::collections::BTreeSet;

fn epoch(e: u32, covers_c: u64, members_root: Hash) -> CtlBody {
    let bundle_box = vec![1; 40].into();
    let commit = Hash::new([5; 32]);
    CtlBody::Epoch {
        e,
        covers_c,
        members_root,
        commit,
        prev_box: None,
        bundle_box,
    }
}

#[test]
fn epochs_belong_to_e2e_channels_and_cover_the_membership() {
    let mut world = World::new(Visibility::Private, Mode::Signed);
    let root = world.channel.members_root(&world.ids()).unwrap();
    assert_eq!(
        world.say("alice", Laptop, epoch(1, 0, root)),
        Err(CtlError::Mode)
    );
    let mut world = World::new(Visibility::Private, Mode::E2e);
    let root = world.channel.members_root(&world.ids()).unwrap();
    for wrong in [
        epoch(2, 0, root),
        epoch(1, 1, root),
        epoch(1, 0, Hash::new([0; 32])),
    ] {
        assert_eq!(world.say("alice", Laptop, wrong), Err(CtlError::Epoch));
    }
    world.say("alice", Laptop, epoch(1, 0, root)).unwrap();
    let add = world.add("bob", Role::Member);
    world.say("alice", Laptop, add).unwrap();
    assert!(!world.channel.needs_epoch());
    let kick = remove(&world, "bob", RemoveKind::Kick);
    world.say("alice", Laptop, kick).unwrap();
    assert!(world.channel.needs_epoch());
}

#[test]
fn the_members_root_is_over_users_heads_and_machines_in_byte_order() {
    let mut world = World::staffed();
    let mut expected = Builder::default();
    let users: BTreeSet<_> = ["alice", "bob", "carol", "dave"]
        .iter()
        .map(|who| (world.id(who), *who))
        .collect();
    for (user, who) in &users {
        let person = &world.people[who];
        let part = Builder::default()
            .raw(user.as_bytes())
            .u32(0)
            .raw(person.log.head().hash.as_bytes())
            .u32(1)
            .raw(person.laptop.machine_key().as_bytes());
        expected = expected.lp(&part.into_vec());
    }
    assert_eq!(
        world.channel.members_root(&world.ids()),
        Some(expected.clone().sha256())
    );
    // A machine the channel was not told of does not count.
    let carol = world.people.get_mut("carol").unwrap();
    carol.enrol("desktop", &secret(60), Cap::default_set());
    assert_eq!(
        world.channel.members_root(&world.ids()),
        Some(expected.sha256())
    );
}

fn header(world: &World, who: &str) -> Header {
    Header {
        suite: Suite::Clear,
        channel: CHANNEL,
        epoch: 0,
        sender: format!("{who}/laptop/api").parse().unwrap(),
        sender_key: world.people[who].laptop.machine_key(),
        sid: SenderSid::new([4; 8]),
        ctr: 1,
        msg_id: MsgId::new([5; 16]),
        ts: TS,
        route: Route::Everyone,
        recipient_key: RecipientKeyId::new([0; 8]),
        hop: 0,
        flags: 0,
    }
}

#[test]
fn only_members_send_and_only_with_their_own_machine() {
    let mut world = World::staffed();
    let check = |world: &World, header: &Header| world.channel.check_env(header, &world.ids());
    for (who, expected) in [
        ("alice", Ok(())),
        ("carol", Ok(())),
        ("dave", Err(EnvError::Reader)),
        ("mallory", Err(EnvError::NotMember)),
    ] {
        assert_eq!(check(&world, &header(&world, who)), expected, "{who}");
    }
    let changed = |change: fn(&mut Header)| {
        let mut header = header(&world, "carol");
        change(&mut header);
        check(&world, &header)
    };
    assert_eq!(changed(|h| h.suite = Suite::One), Err(EnvError::Mode));
    assert_eq!(
        changed(|h| h.channel = ChannelId::new([8; 16])),
        Err(EnvError::Channel)
    );
    let whisper = |h: &mut Header| h.route = Route::Whisper("bob/laptop/api".parse().unwrap());
    assert_eq!(changed(whisper), Err(EnvError::Channel));
    assert_eq!(
        changed(|h| h.sender = "bob/laptop/api".parse().unwrap()),
        Err(EnvError::Key)
    );
    assert_eq!(
        changed(|h| h.sender = "carol/tower/api".parse().unwrap()),
        Err(EnvError::Key)
    );

    let carol = world.people.get_mut("carol").unwrap();
    let mute = secret(60);
    carol.enrol("tower", &mute, BTreeSet::new());
    carol.revoke(carol.laptop.machine_key());
    assert_eq!(
        check(&world, &header(&world, "carol")),
        Ok(()),
        "the channel was not told yet"
    );
    let (user, head) = (world.id("carol"), world.people["carol"].log.head());
    world
        .say("bob", Laptop, CtlBody::Ident { user, head })
        .unwrap();
    assert_eq!(check(&world, &header(&world, "carol")), Err(EnvError::Key));
    let mut by_tower = header(&world, "carol");
    by_tower.sender = "carol/tower/api".parse().unwrap();
    by_tower.sender_key = mute.machine_key();
    assert_eq!(check(&world, &by_tower), Err(EnvError::NoSend));
    let mut unknown = world.ids();
    unknown.remove(&user);
    let need = EnvError::NeedIdentity { user, n: head.n };
    assert_eq!(world.channel.check_env(&by_tower, &unknown), Err(need));

    world
        .say("alice", Laptop, CtlBody::Freeze { on: true })
        .unwrap();
    assert_eq!(
        check(&world, &header(&world, "alice")),
        Err(EnvError::Frozen)
    );
    world.say("alice", Laptop, CtlBody::Close {}).unwrap();
    assert_eq!(
        check(&world, &header(&world, "alice")),
        Err(EnvError::Closed)
    );
}

#[test]
fn profiles_are_of_every_member_and_no_entries() {
    let mut world = World::staffed();
    let profile = |world: &World, who: &str| Header {
        route: Route::Profile,
        ..header(world, who)
    };
    let check = |world: &World, header: &Header| world.channel.check_profile(header, &world.ids());
    for (who, expected) in [
        ("alice", Ok(())),
        ("dave", Ok(())),
        ("mallory", Err(EnvError::NotMember)),
    ] {
        assert_eq!(check(&world, &profile(&world, who)), expected, "{who}");
        let entry = world.channel.check_env(&profile(&world, who), &world.ids());
        assert_eq!(entry, Err(EnvError::Channel));
    }
    let changed = |change: fn(&mut Header)| {
        let mut header = profile(&world, "carol");
        change(&mut header);
        check(&world, &header)
    };
    assert_eq!(
        changed(|h| h.route = Route::Everyone),
        Err(EnvError::Channel)
    );
    assert_eq!(changed(|h| h.suite = Suite::One), Err(EnvError::Mode));
    assert_eq!(
        changed(|h| h.sender = "bob/laptop/api".parse().unwrap()),
        Err(EnvError::Key)
    );
    let freeze = CtlBody::Freeze { on: true };
    world.say("alice", Laptop, freeze).unwrap();
    assert_eq!(check(&world, &profile(&world, "dave")), Ok(()));
    world.say("alice", Laptop, CtlBody::Close {}).unwrap();
    let closed = check(&world, &profile(&world, "dave"));
    assert_eq!(closed, Err(EnvError::Closed));
}
