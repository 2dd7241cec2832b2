//! The control chain: who may do what, and what a refused record leaves alone.

use crate::people::With::{Laptop, Owner};
use crate::people::{
    CHANNEL, TS, World, bit_flips, create, invite, meta, name, nowhere, open_join, remove, secret,
    ticket,
};
use conclave_proto::body::Head;
use conclave_proto::channel_log::{
    ChannelLog, Ctl, CtlBody, CtlChange, CtlError, Mode, ParsedCtl, RemoveKind, Role, Visibility,
};
use conclave_proto::id::{Blob, ChannelId, Hash, InviteId};
use conclave_proto::identity_log::{Cap, MachineClaim, build};
use conclave_proto::key::Secret;
use conclave_proto::record::Record;
use conclave_proto::reject::Code;
use proptest::prelude::*;

#[test]
fn the_creator_owns_the_channel() {
    let world = World::new(Visibility::Public, Mode::Signed);
    let channel = &world.channel;
    assert_eq!(channel.role(&world.id("alice")), Some(Role::Owner));
    assert_eq!(channel.members().len(), 1);
    assert_eq!((channel.head().n, channel.seq()), (0, 1));
    assert_eq!(channel.name(), Some(&name("general")));
    assert_eq!(channel.genesis(), &channel.head().hash);
}

#[test]
fn a_channel_that_cannot_be_is_not_created() {
    let world = World::new(Visibility::Private, Mode::Signed);
    let alice = &world.people["alice"];
    let start = |body: CtlBody| {
        let author = alice.author("laptop");
        let ctl = Ctl {
            channel: CHANNEL,
            after: None,
            body,
            author,
            ts: TS,
        };
        let rec = ctl.sign_machine(&alice.laptop);
        ChannelLog::create(1, TS, rec.bytes(), &world.ids())
            .map(|_| ())
            .unwrap_err()
    };
    let with = |visibility, channel_name: Option<&str>| {
        let CtlBody::Create {
            mode,
            history,
            topic,
            limits,
            ..
        } = create(visibility, Mode::Signed)
        else {
            panic!("create makes a create")
        };
        let name = channel_name.map(name);
        CtlBody::Create {
            mode,
            visibility,
            history,
            name,
            topic,
            limits,
        }
    };
    assert_eq!(
        start(create(Visibility::Public, Mode::E2e)),
        CtlError::ModeIsE2e
    );
    assert_eq!(start(with(Visibility::Public, None)), CtlError::Name);
    assert_eq!(
        start(with(Visibility::Private, Some("admin"))),
        CtlError::Name
    );
    assert_eq!(start(with(Visibility::Unlisted, None)), CtlError::Name);
}

/// Who may do what without the owner key: creator's laptop, admin, member, reader, stranger.
#[test]
fn the_role_table_holds_for_every_type_of_record() {
    let allowed = [
        ("alice", Role::Owner),
        ("bob", Role::Admin),
        ("carol", Role::Member),
    ];
    let cases: Vec<(CtlBody, Option<Role>)> = {
        let world = World::staffed();
        vec![
            (remove(&world, "carol", RemoveKind::Kick), Some(Role::Admin)),
            (
                remove(&world, "mallory", RemoveKind::Ban),
                Some(Role::Admin),
            ),
            (CtlBody::Freeze { on: true }, Some(Role::Admin)),
            (CtlBody::Confidential { on: true }, Some(Role::Admin)),
            (meta(None, Some("ops"), Some("all")), Some(Role::Admin)),
            (CtlBody::Close {}, Some(Role::Owner)),
            (
                CtlBody::InviteRevoke {
                    invite: secret(99).invite_key().invite_id(),
                },
                None,
            ),
        ]
    };
    for (body, needs) in cases {
        for who in ["alice", "bob", "carol", "dave", "mallory"] {
            let mut world = World::staffed();
            let own = allowed
                .iter()
                .find(|(name, _)| *name == who)
                .map(|(_, role)| *role);
            let may = needs.is_some_and(|needs| own.is_some_and(|own| own >= needs));
            let result = world.say(who, Laptop, body.clone());
            assert_eq!(
                result.is_ok(),
                may,
                "{who}: {} gave {result:?}",
                body.word()
            );
            if let (Err(error), Some(_)) = (result, needs) {
                assert_eq!(error.code(), Code::Forbidden, "{who}: {}", body.word());
            }
        }
    }
}

#[test]
fn widening_needs_the_owner_key_or_the_machine_that_created_the_channel() {
    let link = secret(99);
    let bodies = |w: &World| {
        vec![
            w.add("mallory", Role::Member),
            invite(&link, 1),
            CtlBody::Role {
                user: w.id("carol"),
                role: Role::Reader,
            },
            meta(Some(Visibility::Unlisted), Some("ops"), None),
            meta(Some(Visibility::Public), Some("ops"), None),
        ]
    };
    for i in 0..5 {
        for (who, with, expected) in [
            ("alice", Laptop, Ok(())),
            ("bob", Owner, Ok(())),
            ("bob", Laptop, Err(CtlError::NeedsOwnerKey)),
            ("carol", Owner, Err(CtlError::Role(Role::Admin))),
        ] {
            let mut world = World::staffed();
            let body = bodies(&world).remove(i);
            assert_eq!(
                world.say(who, with, body).map(|_| ()),
                expected,
                "{who}, body {i}"
            );
        }
    }
}

#[test]
fn a_steward_of_the_channel_may_widen_and_another_machine_of_the_creator_may_not() {
    let mut world = World::staffed();
    let (plain, steward) = (secret(60), secret(61));
    let alice = world.people.get_mut("alice").unwrap();
    alice.enrol("desktop", &plain, Cap::default_set());
    alice.enrol("tower", &steward, [Cap::Steward(CHANNEL)].into());
    let (user, head) = (alice.id(), alice.log.head());
    world
        .say("alice", Laptop, CtlBody::Ident { user, head })
        .unwrap();
    let add = world.add("mallory", Role::Member);
    let by = |machine: &str, key: &Secret| {
        let author = world.people["alice"].author(machine);
        Ctl {
            author,
            ..world.ctl("alice", add.clone())
        }
        .sign_machine(key)
    };
    let (by_plain, by_steward) = (by("desktop", &plain), by("tower", &steward));
    assert_eq!(world.apply(&by_plain), Err(CtlError::NeedsOwnerKey));
    assert!(world.apply(&by_steward).is_ok());
}

#[test]
fn nobody_acts_on_or_grants_a_role_that_is_not_below_his_own() {
    let mut world = World::staffed();
    let cases = [
        (
            "bob",
            world.add("mallory", Role::Admin),
            Err(CtlError::Rank),
        ),
        (
            "alice",
            world.add("mallory", Role::Owner),
            Err(CtlError::Rank),
        ),
        (
            "bob",
            remove(&world, "alice", RemoveKind::Kick),
            Err(CtlError::Rank),
        ),
        (
            "bob",
            remove(&world, "bob", RemoveKind::Ban),
            Err(CtlError::Rank),
        ),
        (
            "carol",
            remove(&world, "dave", RemoveKind::Leave),
            Err(CtlError::Rank),
        ),
        (
            "bob",
            CtlBody::Role {
                user: world.id("alice"),
                role: Role::Reader,
            },
            Err(CtlError::Rank),
        ),
        (
            "bob",
            CtlBody::Role {
                user: world.id("carol"),
                role: Role::Admin,
            },
            Err(CtlError::Rank),
        ),
        (
            "alice",
            CtlBody::Role {
                user: world.id("carol"),
                role: Role::Admin,
            },
            Ok(()),
        ),
        (
            "bob",
            remove(&world, "carol", RemoveKind::Kick),
            Err(CtlError::Rank),
        ),
    ];
    for (who, body, expected) in cases {
        assert_eq!(world.say(who, Owner, body).map(|_| ()), expected);
    }
}

#[test]
fn members_leave_by_themselves_and_the_banned_stay_out() {
    let mut world = World::new(Visibility::Public, Mode::Signed);
    for who in ["bob", "carol"] {
        world.say(who, Laptop, open_join()).unwrap();
    }
    let leave = remove(&world, "bob", RemoveKind::Leave);
    world.say("bob", Laptop, leave.clone()).unwrap();
    assert_eq!(world.say("bob", Laptop, leave), Err(CtlError::NotMember));
    world.say("bob", Laptop, open_join()).unwrap();
    let ban = remove(&world, "bob", RemoveKind::Ban);
    world.say("alice", Laptop, ban).unwrap();
    assert!(world.channel.is_banned(&world.id("bob")));
    assert_eq!(world.say("bob", Laptop, open_join()), Err(CtlError::Banned));
    let add = world.add("bob", Role::Member);
    assert_eq!(world.say("alice", Laptop, add), Err(CtlError::Banned));
    let user = world.id("bob");
    assert_eq!(
        world.say("carol", Owner, CtlBody::Unban { user }),
        Err(CtlError::Role(Role::Admin))
    );
    world.say("alice", Laptop, CtlBody::Unban { user }).unwrap();
    assert!(world.say("bob", Laptop, open_join()).is_ok());
    assert_eq!(
        world.say("bob", Laptop, open_join()),
        Err(CtlError::NoChange)
    );
}

#[test]
fn ghosts_are_refused() {
    let mut world = World::staffed();
    let bob = &world.people["bob"];
    let foreign = world.people["mallory"].laptop.clone();
    let freeze = || world.ctl("bob", CtlBody::Freeze { on: true });
    let as_bob = |change: fn(&mut Ctl)| {
        let mut ctl = freeze();
        change(&mut ctl);
        ctl.sign_machine(&bob.laptop)
    };
    let fork = CtlError::IdentityFork {
        user: bob.id(),
        n: 0,
    };
    let cases = vec![
        (
            "another's machine",
            freeze().sign_machine(&foreign),
            CtlError::Key,
        ),
        (
            "another's owner key",
            freeze().sign_owner(&foreign),
            CtlError::Key,
        ),
        (
            "another machine's name",
            as_bob(|c| c.author.path = "bob/desktop/api".parse().unwrap()),
            CtlError::Key,
        ),
        (
            "another user's name",
            as_bob(|c| c.author.path = "alice/laptop/api".parse().unwrap()),
            CtlError::Key,
        ),
        (
            "another identity log",
            as_bob(|c| c.author.ident = nowhere()),
            fork,
        ),
        (
            "another channel",
            as_bob(|c| c.channel = ChannelId::new([8; 16])),
            CtlError::Channel,
        ),
        (
            "a stale record",
            as_bob(|c| c.after.as_mut().unwrap().n -= 1),
            CtlError::Chain(3),
        ),
        (
            "a fork",
            as_bob(|c| c.after.as_mut().unwrap().hash = nowhere().hash),
            CtlError::Chain(3),
        ),
        (
            "an unknown identity record",
            as_bob(|c| {
                c.author.ident = Head {
                    n: 7,
                    hash: Hash::new([0; 32]),
                }
            }),
            CtlError::NeedIdentity {
                user: bob.id(),
                n: 7,
            },
        ),
    ];
    for (what, rec, why) in cases {
        assert_eq!(world.apply(&rec), Err(why), "{what}");
    }
    let add = CtlBody::Add {
        user: world.id("mallory"),
        ident: nowhere(),
        role: Role::Member,
    };
    let user = world.id("mallory");
    assert_eq!(
        world.say("alice", Laptop, add),
        Err(CtlError::IdentityFork { user, n: 0 })
    );
}

#[test]
fn the_channel_goes_by_the_identity_heads_it_was_told() {
    let mut world = World::staffed();
    let (desk, user) = (secret(60), world.id("carol"));
    let carol = world.people.get_mut("carol").unwrap();
    carol.enrol("desktop", &desk, Cap::default_set());
    let (laptop, head) = (carol.laptop.clone(), carol.log.head());
    let author = carol.author("desktop");
    let leave = CtlBody::Remove {
        user,
        kind: RemoveKind::Leave,
    };
    let by_desk = |world: &World, body: CtlBody| {
        Ctl {
            author: author.clone(),
            ..world.ctl("carol", body)
        }
        .sign_machine(&desk)
    };
    // The new machine is unknown to the channel, until it says so itself.
    let rec = by_desk(&world, leave.clone());
    assert_eq!(world.apply(&rec), Err(CtlError::Key));
    let rec = by_desk(&world, CtlBody::Ident { user, head });
    let change = CtlChange::IdentAdvanced {
        user,
        head,
        shrunk: false,
    };
    assert_eq!(world.apply(&rec), Ok(change));
    assert_eq!(
        world.say("bob", Laptop, CtlBody::Ident { user, head }),
        Err(CtlError::NoChange)
    );

    // The laptop is revoked: by the newer head it cannot speak, by the older it may not.
    let old = world.people["carol"].author("laptop");
    world
        .people
        .get_mut("carol")
        .unwrap()
        .revoke(laptop.machine_key());
    assert_eq!(
        world.say("carol", Laptop, leave.clone()),
        Err(CtlError::Key)
    );
    let head = world.people["carol"].log.head();
    let change = CtlChange::IdentAdvanced {
        user,
        head,
        shrunk: true,
    };
    assert_eq!(
        world.say("bob", Laptop, CtlBody::Ident { user, head }),
        Ok(change)
    );
    let rec = Ctl {
        author: old,
        ..world.ctl("carol", leave)
    }
    .sign_machine(&laptop);
    assert_eq!(world.apply(&rec), Err(CtlError::OldIdentity));
}

#[test]
fn nobody_comes_back_with_an_older_identity() {
    let mut world = World::new(Visibility::Public, Mode::Signed);
    world.say("bob", Laptop, open_join()).unwrap();
    let (user, spare, stolen) = (
        world.id("bob"),
        secret(60),
        world.people["bob"].laptop.clone(),
    );
    let old = world.people["bob"].author("laptop");
    let bob = world.people.get_mut("bob").unwrap();
    bob.enrol("spare", &spare, Cap::default_set());
    bob.revoke(stolen.machine_key());
    let head = bob.log.head();
    world
        .say("bob", Owner, CtlBody::Ident { user, head })
        .unwrap();
    let leave = remove(&world, "bob", RemoveKind::Leave);
    world.say("bob", Owner, leave).unwrap();
    let rec = Ctl {
        author: old,
        ..world.ctl("bob", open_join())
    }
    .sign_machine(&stolen);
    assert_eq!(world.apply(&rec), Err(CtlError::OldIdentity));
    assert!(world.say("bob", Owner, open_join()).is_ok());
}

#[test]
fn a_channel_is_confidential_until_an_owner_key_says_otherwise() {
    let mut world = World::staffed();
    let say = |world: &mut World, who, with, on| world.say(who, with, CtlBody::Confidential { on });
    assert_eq!(
        say(&mut world, "carol", Laptop, true),
        Err(CtlError::Role(Role::Admin))
    );
    assert_eq!(
        say(&mut world, "bob", Laptop, true),
        Ok(CtlChange::Confidential(true))
    );
    assert!(world.channel.is_confidential());
    assert_eq!(
        say(&mut world, "bob", Laptop, true),
        Err(CtlError::NoChange)
    );
    // An agent of an admin has the machine's key, not the owner's.
    assert_eq!(
        say(&mut world, "bob", Laptop, false),
        Err(CtlError::NeedsOwnerKey)
    );
    assert!(world.channel.is_confidential());
    say(&mut world, "bob", Owner, false).unwrap();
    assert!(!world.channel.is_confidential());
}

#[test]
fn frozen_channels_take_admin_records_and_closed_ones_nothing() {
    let mut world = World::new(Visibility::Public, Mode::Signed);
    world
        .say("alice", Laptop, CtlBody::Freeze { on: true })
        .unwrap();
    assert_eq!(world.say("bob", Laptop, open_join()), Err(CtlError::Frozen));
    assert_eq!(
        world.say("alice", Laptop, CtlBody::Freeze { on: true }),
        Err(CtlError::NoChange)
    );
    world
        .say("alice", Laptop, CtlBody::Freeze { on: false })
        .unwrap();
    world.say("bob", Laptop, open_join()).unwrap();
    world.say("alice", Laptop, CtlBody::Close {}).unwrap();
    let leave = remove(&world, "bob", RemoveKind::Leave);
    assert_eq!(world.say("bob", Laptop, leave), Err(CtlError::Closed));
}

#[test]
fn settings_change_but_an_e2e_channel_never_becomes_public() {
    let mut world = World::new(Visibility::Private, Mode::Signed);
    let public = Some(Visibility::Public);
    assert_eq!(
        world.say("alice", Laptop, meta(public, None, None)),
        Err(CtlError::Name)
    );
    world
        .say(
            "alice",
            Laptop,
            meta(public, Some("ops"), Some("all of it")),
        )
        .unwrap();
    assert_eq!(world.channel.topic(), Some("all of it"));
    world
        .say("alice", Laptop, meta(None, None, Some("")))
        .unwrap();
    let channel = &world.channel;
    assert_eq!(
        (channel.topic(), channel.name()),
        (None, Some(&name("ops")))
    );
    assert_eq!(channel.visibility(), Visibility::Public);
    for (body, why) in [
        (meta(None, None, None), CtlError::NoChange),
        (meta(None, None, Some("two\nlines")), CtlError::Topic),
        (meta(None, None, Some(&"x".repeat(513))), CtlError::Topic),
        (meta(None, Some("everyone"), None), CtlError::Name),
    ] {
        assert_eq!(world.say("alice", Laptop, body), Err(why));
    }
    let mut world = World::new(Visibility::Private, Mode::E2e);
    let error = world
        .say("alice", Laptop, meta(public, Some("ops"), None))
        .unwrap_err();
    assert_eq!((&error, error.code()), (&CtlError::ModeIsE2e, Code::Mode));
}

#[test]
fn a_rotated_machine_keeps_its_stewardship() {
    let mut world = World::new(Visibility::Private, Mode::Signed);
    let new = secret(60);
    let alice = world.people.get_mut("alice").unwrap();
    let claim = MachineClaim::enrol(&alice.id(), name("laptop"), crate::people::ek(9), &new);
    let old = alice.laptop.machine_key();
    alice.append(&build::rotate_machine(
        &alice.log,
        old,
        claim,
        &alice.owner,
        TS,
    ));
    alice.laptop = new;
    let (user, head) = (world.id("alice"), world.people["alice"].log.head());
    world
        .say("alice", Laptop, CtlBody::Ident { user, head })
        .unwrap();
    let add = world.add("bob", Role::Member);
    assert!(world.say("alice", Laptop, add).is_ok());
}

#[test]
fn a_second_member_of_the_same_name_is_refused() {
    let mut world = World::staffed();
    let twin = crate::people::Person::new("bob", 70);
    world.people.insert("twin", twin);
    let add = world.add("twin", Role::Member);
    assert_eq!(world.say("alice", Laptop, add), Err(CtlError::NameTaken));
}

#[test]
fn every_flipped_bit_of_every_record_is_refused() {
    let link = secret(99);
    let mut world = World::new(Visibility::Private, Mode::Signed);
    world.say("alice", Laptop, invite(&link, 2)).unwrap();
    let before = world.channel.clone();
    let join = ticket(&world, "bob", &link);
    let rec = world.sign("bob", Laptop, join);
    let ids = world.ids();
    for flipped in bit_flips(rec.bytes()) {
        assert!(before.clone().apply(3, TS, &flipped, &ids).is_err());
    }
    for flipped in bit_flips(&world.records[0]) {
        assert!(ChannelLog::create(1, TS, &flipped, &ids).is_err());
    }
    let places = [2, 1, 0].map(|seq| before.clone().apply(seq, TS, rec.bytes(), &ids));
    assert!(places.iter().all(|result| *result == Err(CtlError::Order)));
}

#[test]
fn a_channel_read_from_ones_own_store_is_the_same() {
    let world = World::staffed();
    let read = |rec: &Blob| ParsedCtl::parse(rec).unwrap().trust();
    let ids = world.ids();
    let mut channel = ChannelLog::start(1, TS, &read(&world.records[0]), &ids).unwrap();
    for (seq, rec) in (2..).zip(&world.records[1..]) {
        let rec = read(rec);
        let expected = channel.check(seq, TS, &rec, &ids);
        assert_eq!(channel.extend(seq, TS, &rec, &ids), expected);
    }
    assert_eq!(channel, world.channel);
    assert_eq!(channel.head().n, 3);
}

fn any_body(ids: &[conclave_proto::id::UserId], n: usize, user: usize, word: usize) -> CtlBody {
    let user = ids[user % ids.len()];
    let roles = [Role::Reader, Role::Member, Role::Admin, Role::Owner];
    let kinds = [RemoveKind::Leave, RemoveKind::Kick, RemoveKind::Ban];
    match n % 8 {
        0 => CtlBody::Remove {
            user,
            kind: kinds[word % 3],
        },
        1 => CtlBody::Unban { user },
        2 => CtlBody::Role {
            user,
            role: roles[word % 4],
        },
        3 => CtlBody::Freeze {
            on: word.is_multiple_of(2),
        },
        4 => open_join(),
        6 => CtlBody::Confidential {
            on: word.is_multiple_of(2),
        },
        5 => CtlBody::InviteRevoke {
            invite: InviteId::new([1; 16]),
        },
        _ => meta(None, None, Some("t")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_said_there_is_an_owner_or_he_left_himself(
        steps in proptest::collection::vec((0_usize..5, any::<bool>(), 0_usize..7, 0_usize..5, 0_usize..12), 1..20)
    ) {
        let names = ["alice", "bob", "carol", "dave", "mallory"];
        let mut world = World::new(Visibility::Public, Mode::Signed);
        let ids = names.map(|who| world.id(who));
        for (who, owner, n, user, word) in steps {
            let alice_was = world.channel.role(&ids[0]);
            let with = if owner { Owner } else { Laptop };
            let result = world.say(names[who], with, any_body(&ids, n, user, word));
            let owners = world.channel.members().values().filter(|m| m.role == Role::Owner).count();
            prop_assert!(owners <= 1);
            if alice_was == Some(Role::Owner) && owners == 0 {
                let user = ids[0];
                let left = CtlChange::MemberRemoved { user, kind: RemoveKind::Leave };
                prop_assert_eq!((who, result), (0, Ok(left)));
            }
            prop_assert!(world.channel.banned().iter().all(|user| world.channel.member(user).is_none()));
        }
    }

    #[test]
    fn a_signed_body_of_any_bytes_never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let rec = Record::sign(conclave_proto::key::label::CONTROL, &body, &secret(11));
        prop_assert!(ParsedCtl::parse(rec.bytes()).is_err());
    }
}
