//! The identity log: who is who, since when, and who may say so.

use crate::people::{Person, SERVER, TS, bit_flips, ek, genesis, name, secret};
use conclave_proto::id::{Blob, ServerId};
use conclave_proto::identity_log::{
    BadIdentity, Cap, IdentityChange, IdentityLog, MachineClaim, OWNERS_MAX, Parsed, build,
};
use conclave_proto::key::{Secret, label};
use conclave_proto::record::Record;
use proptest::prelude::*;

fn claim(alice: &Person, machine: &str, key: &Secret) -> MachineClaim {
    MachineClaim::enrol(&alice.id(), name(machine), ek(9), key)
}

fn add(alice: &Person, machine: &str, key: &Secret, owner: &Secret) -> Record {
    build::add_machine(
        &alice.log,
        claim(alice, machine, key),
        Cap::default_set(),
        owner,
        TS,
    )
}

#[test]
fn a_genesis_makes_an_identity_named_by_its_hash() {
    let alice = Person::new("alice", 10);
    let rec = genesis("alice", &alice.owner, &alice.laptop);
    assert_eq!(alice.id().as_bytes(), rec.hash().as_bytes());
    assert_eq!(alice.log.head().n, 0);
    assert_eq!(alice.log.hash_at(0), Some(&rec.hash()));
    assert_eq!(alice.log.hash_at(1), None);
    let machine = alice.log.machine(&alice.laptop.machine_key()).unwrap();
    assert_eq!(machine.name, name("laptop"));
    assert_eq!(machine.caps, Cap::default_set());
    assert!(alice.log.is_owner(&alice.owner.owner_key()));
    assert!(!alice.log.is_owner(&alice.laptop.owner_key()));
}

#[test]
fn a_genesis_is_refused_for_another_server_a_reserved_name_or_a_foreign_signer() {
    let (owner, laptop, other) = (secret(10), secret(11), secret(12));
    let rec = genesis("alice", &owner, &laptop);
    let elsewhere = ServerId::new([1; 32]);
    let refused = |rec: &Record| IdentityLog::genesis(rec.bytes(), &SERVER).unwrap_err();
    assert_eq!(
        IdentityLog::genesis(rec.bytes(), &elsewhere),
        Err(BadIdentity::Server)
    );
    assert_eq!(
        refused(&genesis("admin", &owner, &laptop)),
        BadIdentity::Reserved
    );

    let make = |claimed: &[_], owners: Vec<_>, signer: &Secret| {
        let user = name("alice");
        let claim = MachineClaim::found(&SERVER, &user, claimed, name("laptop"), ek(9), &laptop);
        build::genesis(SERVER, user, owners, claim, signer, TS)
    };
    let owners = vec![owner.owner_key()];
    assert_eq!(
        refused(&make(&owners, owners.clone(), &other)),
        BadIdentity::NotOwner
    );
    let twice = vec![owner.owner_key(); 2];
    assert_eq!(
        refused(&make(&twice, twice.clone(), &owner)),
        BadIdentity::KeyUsed
    );
    let many: Vec<_> = (10..=10 + OWNERS_MAX)
        .map(|s| secret(u8::try_from(s).unwrap()))
        .collect();
    let many: Vec<_> = many.iter().map(Secret::owner_key).collect();
    assert_eq!(
        refused(&make(&many, many.clone(), &owner)),
        BadIdentity::Limit
    );
    // Mallory cannot found an identity with alice's machine: its consent names alice's owners.
    let mallory = vec![other.owner_key()];
    assert_eq!(
        refused(&make(&owners, mallory, &other)),
        BadIdentity::Consent
    );
}

#[test]
fn a_machine_counts_from_its_record_until_its_revocation() {
    let mut alice = Person::new("alice", 10);
    let (desk, spare) = (secret(13), secret(14));
    alice.enrol("desktop", &desk, [Cap::Send].into());
    assert_eq!(
        alice.log.machine_named(&name("desktop")).unwrap().caps,
        [Cap::Send].into()
    );
    alice.revoke(desk.machine_key());
    alice.enrol("desktop", &spare, Cap::default_set());
    let key = desk.machine_key();
    let active: Vec<bool> = (0..=3)
        .map(|n| alice.log.machine_at(n, &key).is_some())
        .collect();
    assert_eq!(active, [false, true, false, false]);
    assert!(alice.log.machine(&key).is_none());
    assert_eq!(alice.log.machines().count(), 2);
    assert_eq!(alice.log.head().n, 3);
}

#[test]
fn rotation_keeps_name_rights_and_lineage_and_ends_the_old_key() {
    let mut alice = Person::new("alice", 10);
    let (old, new) = (alice.laptop.machine_key(), secret(13));
    let wrong = claim(&alice, "desktop", &new);
    let rec = build::rotate_machine(&alice.log, old, wrong, &alice.owner, TS);
    assert_eq!(alice.log.append(rec.bytes()), Err(BadIdentity::MachineName));
    let right = claim(&alice, "laptop", &new);
    let rec = build::rotate_machine(&alice.log, old, right, &alice.owner, TS);
    let change = IdentityChange::MachineRotated {
        old,
        new: new.machine_key(),
    };
    assert_eq!(alice.log.append(rec.bytes()), Ok(change));
    assert!(alice.log.machine(&old).is_none());
    assert!(alice.log.machine_at(0, &old).is_some());
    let machine = alice.log.machine(&new.machine_key()).unwrap();
    assert_eq!((&machine.name, machine.lineage), (&name("laptop"), old));
}

#[test]
fn owners_come_and_go_but_never_the_last() {
    let mut alice = Person::new("alice", 10);
    let (first, second) = (alice.owner.clone(), secret(13));
    let revoke = |a: &Person, key: &Secret, by: &Secret| {
        build::revoke_owner(&a.log, key.owner_key(), by, TS)
    };
    let rec = revoke(&alice, &first, &first);
    assert_eq!(alice.log.append(rec.bytes()), Err(BadIdentity::LastOwner));
    alice.append(&build::add_owner(
        &alice.log,
        second.owner_key(),
        &first,
        TS,
    ));
    let again = build::add_owner(&alice.log, second.owner_key(), &first, TS);
    assert_eq!(alice.log.append(again.bytes()), Err(BadIdentity::KeyUsed));
    alice.append(&revoke(&alice, &first, &second));
    assert!(alice.log.is_owner_at(1, &first.owner_key()));
    assert!(!alice.log.is_owner(&first.owner_key()));
    let rec = add(&alice, "desktop", &secret(14), &first);
    assert_eq!(alice.log.append(rec.bytes()), Err(BadIdentity::NotOwner));
    let back = build::add_owner(&alice.log, first.owner_key(), &second, TS);
    assert_eq!(alice.log.append(back.bytes()), Err(BadIdentity::KeyUsed));
}

#[test]
fn records_that_break_a_rule_are_refused_and_change_nothing() {
    let mut alice = Person::new("alice", 10);
    let bob = Person::new("bob", 20);
    let desk = secret(13);
    alice.enrol("desktop", &desk, Cap::default_set());
    let mut longer = Person::new("alice", 10);
    longer.enrol("tablet", &secret(15), Cap::default_set());
    let mut foreign = claim(&alice, "phone", &secret(14));
    foreign.consent = claim(&bob, "phone", &secret(14)).consent;
    let owner = &alice.owner;
    let caps = Cap::default_set;
    let ended = "x".repeat(600);
    let cases: Vec<(&str, Record, BadIdentity)> = vec![
        (
            "name taken",
            add(&alice, "desktop", &secret(14), owner),
            BadIdentity::MachineName,
        ),
        (
            "key in use",
            add(&alice, "phone", &desk, owner),
            BadIdentity::KeyUsed,
        ),
        (
            "not an owner",
            add(&alice, "phone", &secret(14), &desk),
            BadIdentity::NotOwner,
        ),
        (
            "another owner",
            add(&alice, "phone", &secret(14), &bob.owner),
            BadIdentity::NotOwner,
        ),
        (
            "another fork",
            add(&longer, "phone", &secret(14), owner),
            BadIdentity::Chain(1),
        ),
        (
            "another user",
            add(&bob, "phone", &secret(14), owner),
            BadIdentity::User,
        ),
        (
            "no consent",
            build::add_machine(&alice.log, foreign, caps(), owner, TS),
            BadIdentity::Consent,
        ),
        (
            "unknown machine",
            build::revoke_machine(&alice.log, secret(14).machine_key(), "", owner, TS),
            BadIdentity::NoSuchKey,
        ),
        (
            "long reason",
            build::revoke_machine(&alice.log, desk.machine_key(), &ended, owner, TS),
            BadIdentity::Malformed,
        ),
        (
            "a second genesis",
            genesis("alice", owner, &alice.laptop),
            BadIdentity::User,
        ),
    ];
    let before = alice.log.clone();
    for (what, rec, why) in cases {
        assert_eq!(alice.log.append(rec.bytes()), Err(why), "{what}");
        assert_eq!(alice.log, before, "{what}");
    }
    // The same record twice: the chain has moved on.
    let rec = add(&alice, "phone", &secret(14), &alice.owner);
    assert!(alice.log.append(rec.bytes()).is_ok());
    assert_eq!(alice.log.append(rec.bytes()), Err(BadIdentity::Chain(2)));
}

#[test]
fn a_revoked_key_never_comes_back() {
    let mut alice = Person::new("alice", 10);
    let desk = secret(13);
    alice.enrol("desktop", &desk, Cap::default_set());
    alice.revoke(desk.machine_key());
    let rec = add(&alice, "desktop", &desk, &alice.owner);
    assert_eq!(alice.log.append(rec.bytes()), Err(BadIdentity::KeyUsed));
}

#[test]
fn a_body_signed_under_another_label_or_encoded_otherwise_is_refused() {
    let (owner, laptop) = (secret(10), secret(11));
    let rec = genesis("alice", &owner, &laptop);
    let refused = |rec: Record| IdentityLog::genesis(rec.bytes(), &SERVER).unwrap_err();
    let other = Record::sign(label::CONTROL, rec.body(), &owner);
    assert_eq!(refused(other), BadIdentity::Signature);
    let signed = |body: &[u8]| refused(Record::sign(label::IDENTITY, body, &owner));
    let body = rec.body();
    let trailing = [body, &[0]].concat();
    // Version 1 in two bytes, and the array with an indefinite length: the same values.
    let long_one = [&body[..1], &[0x18, 0x01], &body[2..]].concat();
    let indefinite = [&[0x9f], &body[1..], &[0xff]].concat();
    let mut version = body.to_vec();
    version[1] = 2;
    for bytes in [&trailing, &long_one, &indefinite, &version] {
        assert_eq!(signed(bytes), BadIdentity::Malformed);
    }
}

#[test]
fn a_single_flipped_bit_anywhere_is_refused() {
    let mut alice = Person::new("alice", 10);
    let start = alice.log.clone();
    alice.enrol("desktop", &secret(13), Cap::default_set());
    for flipped in bit_flips(&alice.records[0]) {
        assert!(IdentityLog::genesis(&flipped, &SERVER).is_err());
    }
    for flipped in bit_flips(&alice.records[1]) {
        assert!(start.clone().append(&flipped).is_err());
    }
}

#[test]
fn a_log_read_from_ones_own_store_is_the_same() {
    let mut alice = Person::new("alice", 10);
    alice.enrol(
        "desktop",
        &secret(13),
        [Cap::Steward(crate::people::CHANNEL)].into(),
    );
    alice.revoke(secret(13).machine_key());
    let read = |rec: &Blob| Parsed::parse(rec).unwrap().trust();
    let mut log = IdentityLog::start(&read(&alice.records[0]), &SERVER).unwrap();
    for rec in &alice.records[1..] {
        log.extend(&read(rec)).unwrap();
    }
    assert_eq!(log, alice.log);
}

proptest! {
    #[test]
    fn reading_any_bytes_never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let blob = Blob::from(body.clone());
        let _ = IdentityLog::genesis(&blob, &SERVER).is_err();
        let signed = Record::sign(label::IDENTITY, &body, &secret(10));
        prop_assert!(IdentityLog::genesis(signed.bytes(), &SERVER).is_err());
        prop_assert!(conclave_proto::channel_log::ParsedCtl::parse(signed.bytes()).is_err());
        prop_assert!(conclave_proto::admin::ParsedAct::parse(signed.bytes()).is_err());
    }

    #[test]
    fn changing_any_byte_of_a_body_is_refused_or_another_value(at in 0_usize..280, byte: u8) {
        let rec = genesis("alice", &secret(10), &secret(11));
        let mut body = rec.body().to_vec();
        let at = at % body.len();
        prop_assume!(body[at] != byte);
        body[at] = byte;
        // Signed again: what still reads must not be the same statement.
        let signed = Record::sign(label::IDENTITY, &body, &secret(10));
        if let Ok(log) = IdentityLog::genesis(signed.bytes(), &SERVER) {
            prop_assert_ne!(log.hash_at(0), Some(&rec.hash()));
        }
    }
}
