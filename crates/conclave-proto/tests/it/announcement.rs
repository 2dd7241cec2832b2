//! Announcements of encryption keys: signed by the holder, of the right class, in one form.

use crate::people::{SERVER, ek, secret};
use conclave_proto::channel_log::SignerKey;
use conclave_proto::encryption_key::{Announcement, BadAnnouncement};
use conclave_proto::id::Blob;
use conclave_proto::key::label;
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;

const NOT_AFTER: UnixMs = UnixMs(1_702_000_000_000);

fn machine(generation: u32) -> Record {
    Announcement::sign_machine(SERVER, &secret(11), generation, ek(21), NOT_AFTER)
}

fn owner() -> Record {
    Announcement::sign_owner(SERVER, &secret(31), ek(22))
}

fn read(bytes: &[u8]) -> Result<Announcement, BadAnnouncement> {
    Announcement::read(&Blob::from(bytes.to_vec()))
}

/// The same body, signed again under this label by the machine or owner key of this seed.
fn again(record: &Record, label: &str, seed: u8) -> Record {
    Record::sign(label, record.body(), &secret(seed))
}

#[test]
fn an_announcement_says_whose_key_it_is_and_until_when() {
    let read_ = read(machine(3).bytes()).unwrap();
    assert_eq!(read_.holder, SignerKey::Machine(secret(11).machine_key()));
    assert_eq!(read_.holder_key(), secret(11).machine_key().into());
    assert_eq!((read_.server, read_.generation), (SERVER, 3));
    assert_eq!((read_.key, read_.not_after), (ek(21), NOT_AFTER));
    let read_ = read(owner().bytes()).unwrap();
    assert_eq!(read_.holder, SignerKey::Owner(secret(31).owner_key()));
    assert_eq!(read_.holder_key(), secret(31).owner_key().into());
    assert_eq!((read_.generation, read_.key), (0, ek(22)));
}

#[test]
fn machines_announce_from_1_on_and_owner_keys_only_0() {
    assert!(read(machine(1).bytes()).is_ok());
    assert!(read(machine(u32::MAX).bytes()).is_ok());
    assert_eq!(read(machine(0).bytes()), Err(BadAnnouncement));
    let body = owner().body().to_vec();
    // `[1, word, server, "owner", key, 0, key, not after]`: the generation is the byte after the holder.
    let key = secret(31).owner_key();
    let at = body.windows(32).position(|w| w == key.as_bytes()).unwrap() + 32;
    assert_eq!(body[at], 0);
    let mut first = body;
    first[at] = 1;
    let record = Record::sign(label::ENCRYPTION_KEY, &first, &secret(31));
    assert_eq!(read(record.bytes()), Err(BadAnnouncement));
}

#[test]
fn an_announcement_under_another_label_or_by_another_key_is_refused() {
    for (record, seed) in [(machine(3), 11), (owner(), 31)] {
        let same = again(&record, label::ENCRYPTION_KEY, seed);
        assert_eq!(same, record);
        for other in [
            label::IDENTITY,
            label::CONTROL,
            label::ENROLMENT,
            label::ADMIN,
            "",
        ] {
            let relabelled = again(&record, other, seed);
            assert_eq!(read(relabelled.bytes()), Err(BadAnnouncement), "{other}");
        }
        let by_another = again(&record, label::ENCRYPTION_KEY, 66);
        assert_eq!(read(by_another.bytes()), Err(BadAnnouncement));
    }
}

#[test]
fn s13_no_announcement_with_a_changed_bit_is_read() {
    for record in [machine(3), owner()] {
        let bytes = record.bytes().to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&changed), Err(BadAnnouncement), "bit {bit}");
        }
        assert!(read(&bytes[..bytes.len() - 1]).is_err());
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn a_body_in_another_form_or_with_more_fields_is_refused() {
    let body = machine(3).body().to_vec();
    let sign = |body: &[u8]| Record::sign(label::ENCRYPTION_KEY, body, &secret(11));
    assert!(read(sign(&body).bytes()).is_ok());
    let longer = [&body[..], &[0]].concat();
    assert_eq!(read(sign(&longer).bytes()), Err(BadAnnouncement));
    // The version as two bytes instead of one: the same number, another form.
    let wide = [&body[..1], &[0x18, 1], &body[2..]].concat();
    assert_eq!(read(sign(&wide).bytes()), Err(BadAnnouncement));
    let mut next_version = body;
    next_version[1] = 2;
    assert_eq!(read(sign(&next_version).bytes()), Err(BadAnnouncement));
}
