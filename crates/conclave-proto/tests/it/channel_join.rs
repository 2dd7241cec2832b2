//! Entering a channel: invites and open doors.

use crate::people::With::{Laptop, Owner};
use crate::people::{
    CHANNEL, HOUR, TS, World, invite, meta, nowhere, open_join, remove, secret, ticket,
};
use conclave_proto::channel_log::{
    Admission, Ctl, CtlBody, CtlChange, CtlError, Invite, Mode, RemoveKind, Role, Ticket,
    Visibility,
};
use conclave_proto::id::ChannelId;
use conclave_proto::reject::Code;
use conclave_proto::time::UnixMs;

#[test]
fn only_channels_that_are_not_private_are_joined_without_an_invite() {
    for (visibility, joins) in [
        (Visibility::Public, true),
        (Visibility::Unlisted, true),
        (Visibility::Private, false),
    ] {
        let mut world = World::new(visibility, Mode::Signed);
        let result = world.say("bob", Laptop, open_join());
        assert_eq!(result.is_ok(), joins);
        if let Err(error) = result {
            assert_eq!(error.code(), Code::NotFound);
        }
    }
    // Publicness counts at the record's place, not later.
    let mut world = World::new(Visibility::Public, Mode::Signed);
    world
        .say("alice", Laptop, meta(Some(Visibility::Private), None, None))
        .unwrap();
    assert_eq!(
        world.say("bob", Laptop, open_join()),
        Err(CtlError::Private)
    );
}

#[test]
fn an_invite_admits_as_often_as_it_says_until_it_lapses_or_is_revoked() {
    let link = secret(99);
    let id = link.invite_key().invite_id();
    let mut world = World::new(Visibility::Private, Mode::Signed);
    let early = ticket(&world, "bob", &link);
    assert_eq!(world.say("bob", Laptop, early), Err(CtlError::Invite));
    world.say("alice", Laptop, invite(&link, 2)).unwrap();
    for who in ["bob", "carol"] {
        let join = ticket(&world, who, &link);
        let admission = Admission::Invited {
            invite: id,
            by: world.id("alice"),
        };
        let (user, role) = (world.id(who), Role::Reader);
        let change = CtlChange::MemberAdded {
            user,
            role,
            admission,
        };
        assert_eq!(world.say(who, Laptop, join), Ok(change));
    }
    assert!(!world.channel.invites()[&id].is_live(TS));
    let late = ticket(&world, "dave", &link);
    assert_eq!(world.say("dave", Laptop, late), Err(CtlError::Invite));

    for (wait, revoked, expected) in [
        (HOUR - 1, false, true),
        (HOUR, false, false),
        (0, true, false),
    ] {
        let mut world = World::new(Visibility::Private, Mode::Signed);
        world.say("alice", Laptop, invite(&link, 1)).unwrap();
        if revoked {
            world
                .say("alice", Laptop, CtlBody::InviteRevoke { invite: id })
                .unwrap();
        }
        world.at = TS.plus(wait);
        let join = ticket(&world, "bob", &link);
        let result = world.say("bob", Laptop, join).map(|_| ());
        assert_eq!(
            result,
            if expected {
                Ok(())
            } else {
                Err(CtlError::Invite)
            }
        );
    }
}

#[test]
fn an_invite_that_is_dead_or_unbounded_from_the_start_is_refused() {
    let mut world = World::new(Visibility::Private, Mode::Signed);
    let key = secret(99).invite_key();
    let make = |max_uses, expires| CtlBody::Invite {
        key,
        role: Role::Member,
        max_uses,
        expires,
    };
    for (body, why) in [
        (make(0, TS.plus(1)), CtlError::Limit),
        (make(1001, TS.plus(1)), CtlError::Limit),
        (make(1, TS), CtlError::Invite),
    ] {
        assert_eq!(world.say("alice", Laptop, body), Err(why));
    }
    world.say("alice", Laptop, make(1, TS.plus(1))).unwrap();
    assert_eq!(
        world.say("alice", Laptop, make(1, TS.plus(1))),
        Err(CtlError::NoChange)
    );
}

#[test]
fn a_join_proof_is_good_for_one_user_at_one_place_in_one_channel() {
    let link = secret(99);
    let mut world = World::new(Visibility::Private, Mode::Signed);
    world.say("alice", Laptop, invite(&link, 9)).unwrap();
    let head = world.channel.head();
    let bob = world.people["bob"].author("laptop");
    let mallory = world.people["mallory"].author("laptop");
    let elsewhere = ChannelId::new([8; 16]);
    let forged = Ticket {
        key: link.invite_key(),
        ..Ctl::ticket(&CHANNEL, &head, &bob, &secret(98))
    };
    for stolen in [
        Ctl::ticket(&CHANNEL, &head, &mallory, &link),
        Ctl::ticket(&CHANNEL, &nowhere(), &bob, &link),
        Ctl::ticket(&elsewhere, &head, &bob, &link),
        forged,
    ] {
        let body = CtlBody::Join {
            ticket: Some(stolen),
        };
        assert_eq!(world.say("bob", Laptop, body), Err(CtlError::Ticket));
    }
    let unknown = ticket(&world, "bob", &secret(98));
    assert_eq!(world.say("bob", Laptop, unknown), Err(CtlError::Invite));
}

#[test]
fn an_invite_is_live_until_its_last_moment() {
    let key = secret(99).invite_key();
    let by = conclave_proto::id::UserId::new([0; 32]);
    let expires = UnixMs(10);
    let role = Role::Member;
    let invite = Invite {
        key,
        role,
        max_uses: 1,
        uses: 0,
        expires,
        revoked: false,
        by,
    };
    assert!(invite.is_live(UnixMs(9)));
    assert!(!invite.is_live(UnixMs(10)));
}

#[test]
fn who_is_removed_lets_nobody_in_any_more() {
    let mut world = World::new(Visibility::Private, Mode::Signed);
    let (mine, theirs) = (secret(98), secret(99));
    world.say("alice", Laptop, invite(&mine, 9)).unwrap();
    let add = world.add("bob", Role::Admin);
    world.say("alice", Laptop, add).unwrap();
    world.say("bob", Owner, invite(&theirs, 9)).unwrap();
    let kick = remove(&world, "bob", RemoveKind::Kick);
    world.say("alice", Laptop, kick).unwrap();
    // His own link does not bring him back, nor a friend in.
    for who in ["bob", "carol"] {
        let join = ticket(&world, who, &theirs);
        assert_eq!(world.say(who, Laptop, join), Err(CtlError::Invite));
    }
    let join = ticket(&world, "carol", &mine);
    assert!(world.say("carol", Laptop, join).is_ok());
}

#[test]
fn a_reader_says_which_machines_are_its_own_and_nobody_elses() {
    let mut world = World::new(Visibility::Private, Mode::Signed);
    for who in ["bob", "carol"] {
        let add = world.add(who, Role::Reader);
        world.say("alice", Laptop, add).unwrap();
    }
    let ident = |world: &mut World, who: &str| {
        let person = world.people.get_mut(who).unwrap();
        person.enrol("desktop", &secret(61), Default::default());
        let (user, head) = (person.id(), person.log.head());
        CtlBody::Ident { user, head }
    };
    let carols = ident(&mut world, "carol");
    assert_eq!(
        world.say("bob", Laptop, carols.clone()),
        Err(CtlError::Role(Role::Member))
    );
    assert!(world.say("carol", Laptop, carols).is_ok());
}
