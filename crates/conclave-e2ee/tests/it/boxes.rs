//! Boxes: the key before, the bundle, the name, and what stands beside an invite.

use crate::kit::{CHANNEL, NONCE, OTHER_CHANNEL, bundle, channel_key, key_of, spoilt};
use conclave_e2ee::invite_box::{self, BoxedKey, InviteBox};
use conclave_e2ee::{ChannelKey, IndexKey, Place};
use conclave_proto::id::{Blob, Hash, InviteId};
use conclave_proto::invite::LinkSecret;
use conclave_proto::key::Verify as _;

#[test]
fn the_newest_key_leads_back_to_the_first() {
    let keys: Vec<ChannelKey> = (1..=4u8).map(|e| key_of(e.into(), 40 + e)).collect();
    let boxes: Vec<Blob> = keys
        .windows(2)
        .map(|pair| pair[1].seal_previous(&pair[0], NONCE))
        .collect();
    assert!(boxes.iter().all(|sealed| sealed.len() == 72));
    let mut key = keys[3].clone();
    for (sealed, older) in boxes.iter().zip(&keys).rev() {
        key = key.open_previous(sealed, &older.commit()).unwrap();
        assert_eq!((key.place(), key.bytes()), (older.place(), older.bytes()));
    }
    assert_eq!(key.place().e, 1);
}

#[test]
fn no_box_of_the_key_before_opens_with_a_changed_bit() {
    let (older, newer) = (key_of(1, 41), key_of(2, 42));
    let sealed = newer.seal_previous(&older, NONCE);
    for spoilt in spoilt(&sealed) {
        assert!(newer.open_previous(&spoilt, &older.commit()).is_none());
    }
}

#[test]
fn s13_a_box_with_another_key_than_the_committed_one_is_worth_nothing() {
    let (older, newer, other) = (key_of(1, 41), key_of(2, 42), key_of(1, 66));
    let substituted = newer.seal_previous(&other, NONCE);
    assert!(newer.open_previous(&substituted, &other.commit()).is_some());
    assert!(newer.open_previous(&substituted, &older.commit()).is_none());
}

#[test]
fn a_box_of_the_key_before_belongs_to_one_channel_and_epoch() {
    let (older, newer) = (key_of(1, 41), key_of(2, 42));
    let sealed = newer.seal_previous(&older, NONCE);
    assert!(
        key_of(3, 42)
            .open_previous(&sealed, &older.commit())
            .is_none()
    );
    assert!(
        key_of(0, 42)
            .open_previous(&sealed, &older.commit())
            .is_none()
    );
    let elsewhere = Place {
        channel: OTHER_CHANNEL,
        e: 2,
    };
    let elsewhere = ChannelKey::new(elsewhere, newer.bytes());
    assert!(elsewhere.open_previous(&sealed, &older.commit()).is_none());
}

#[test]
fn bundle_and_name_open_as_they_were_sealed_and_not_for_one_another() {
    let key = channel_key();
    let (in_epoch, in_meta) = (
        key.seal_bundle(&bundle(), NONCE),
        key.seal_name(&bundle(), NONCE),
    );
    assert_eq!(key.open_bundle(&in_epoch), Some(bundle()));
    assert_eq!(key.open_name(&in_meta), Some(bundle()));
    assert_eq!(key.open_bundle(&in_meta), None);
    assert_eq!(key.open_name(&in_epoch), None);
    for other in [key_of(2, 2), key_of(1, 9)] {
        assert_eq!(other.open_bundle(&in_epoch), None);
        assert_eq!(other.open_name(&in_meta), None);
    }
}

#[test]
fn no_bundle_opens_with_a_changed_bit() {
    let key = channel_key();
    for spoilt in spoilt(&key.seal_bundle(&bundle(), NONCE)) {
        assert_eq!(key.open_bundle(&spoilt), None);
    }
}

#[test]
fn the_size_of_a_bundle_does_not_tell_the_length_of_the_name() {
    let named = |name: &str| conclave_e2ee::Bundle {
        name: Some(name.parse().unwrap()),
        ..bundle()
    };
    let len = |name: &str| channel_key().seal_bundle(&named(name), NONCE).len();
    assert_eq!(len("a"), len("a-name-of-thirty-two-characters1"));
}

#[test]
fn a_topic_that_is_too_long_or_would_steer_a_terminal_is_none() {
    for (sealed, read) in [
        ("t".repeat(512), Some("t".repeat(512))),
        ("t".repeat(513), None),
        ("\u{1b}[2Jall is well".into(), None),
        ("two\nlines".into(), None),
    ] {
        let bundle = conclave_e2ee::Bundle {
            topic: Some(sealed.clone()),
            ..bundle()
        };
        let opened = channel_key().open_bundle(&channel_key().seal_bundle(&bundle, NONCE));
        let opened = opened.unwrap();
        assert_eq!(opened.topic, read);
        assert_eq!(
            (opened.name, opened.index_key),
            (bundle.name, bundle.index_key)
        );
        let content = InviteBox {
            topic: Some(sealed),
            ..content()
        };
        let boxed = invite_box::seal(&content, &link(), &CHANNEL, &invite(), NONCE);
        let opened = invite_box::open(&boxed, &link(), &CHANNEL, &invite()).unwrap();
        assert_eq!((opened.topic, opened.genesis), (read, content.genesis));
    }
}

fn link() -> LinkSecret {
    LinkSecret::new([51; 32])
}

fn invite() -> InviteId {
    link().signing_key().invite_key().invite_id()
}

fn content() -> InviteBox {
    InviteBox {
        genesis: Hash::new([52; 32]),
        name: Some("ops".parse().unwrap()),
        topic: None,
        index_key: Some(IndexKey::new([12; 32])),
        key: Some(BoxedKey::new(&channel_key())),
    }
}

#[test]
fn the_link_opens_the_box_of_its_invite() {
    let sealed = invite_box::seal(&content(), &link(), &CHANNEL, &invite(), NONCE);
    let opened = invite_box::open(&sealed, &link(), &CHANNEL, &invite()).unwrap();
    assert_eq!(opened, content());
    let key = opened.key.unwrap();
    let committed = key.committed(CHANNEL, &channel_key().commit()).unwrap();
    assert_eq!(committed.bytes(), channel_key().bytes());
    assert!(key.committed(CHANNEL, &Hash::new([0; 32])).is_none());
    assert!(
        key.committed(OTHER_CHANNEL, &channel_key().commit())
            .is_none()
    );
}

#[test]
fn an_invite_that_gives_no_key_says_so() {
    let signed = InviteBox {
        index_key: None,
        key: None,
        ..content()
    };
    let sealed = invite_box::seal(&signed, &link(), &CHANNEL, &invite(), NONCE);
    let opened = invite_box::open(&sealed, &link(), &CHANNEL, &invite()).unwrap();
    assert_eq!(opened, signed);
}

#[test]
fn no_box_of_an_invite_opens_with_a_changed_bit_or_for_another_invite() {
    let sealed = invite_box::seal(&content(), &link(), &CHANNEL, &invite(), NONCE);
    for spoilt in spoilt(&sealed) {
        assert!(invite_box::open(&spoilt, &link(), &CHANNEL, &invite()).is_none());
    }
    assert!(invite_box::open(&sealed, &link(), &OTHER_CHANNEL, &invite()).is_none());
    let other = InviteId::new([0; 16]);
    assert!(invite_box::open(&sealed, &link(), &CHANNEL, &other).is_none());
}

#[test]
fn s16_what_the_server_knows_of_an_invite_opens_no_box() {
    let sealed = invite_box::seal(&content(), &link(), &CHANNEL, &invite(), NONCE);
    let signing = link().signing_key();
    let mut id_twice = [0; 32];
    id_twice[..16].copy_from_slice(invite().as_bytes());
    id_twice[16..].copy_from_slice(invite().as_bytes());
    let known = [
        *signing.invite_key().public_bytes(),
        *signing.seed(),
        id_twice,
        [0; 32],
    ];
    for secret in known.map(LinkSecret::new) {
        assert!(invite_box::open(&sealed, &secret, &CHANNEL, &invite()).is_none());
    }
    for secret in [*channel_key().bytes(), *link().as_bytes(), [12; 32]] {
        assert!(!sealed.windows(16).any(|window| window == &secret[..16]));
    }
}
