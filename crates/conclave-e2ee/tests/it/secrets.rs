//! No secret prints: neither as bytes, nor as hex, nor as text, nor in pieces.

use crate::kit::{CHANNEL, channel_key, encryption, hex};
use conclave_e2ee::invite_box::{BoxedKey, InviteBox};
use conclave_e2ee::{Bundle, ChannelKey, EncryptionSecret, IndexKey, Place};
use conclave_proto::id::{Hash, to_text};

/// Bytes whose decimal, hexadecimal and base64url forms are all rare.
fn rare() -> [u8; 32] {
    std::array::from_fn(|i| 0xc7u8.wrapping_add(u8::try_from(i * 5).unwrap()))
}

fn prints(debug: &str, secret: &[u8]) -> bool {
    let list: Vec<String> = secret[..4].iter().map(u8::to_string).collect();
    let forms = [
        hex(&secret[..4]),
        hex(&secret[..4]).to_uppercase(),
        to_text(&secret[..3]),
        list.join(", "),
    ];
    forms.iter().any(|form| debug.contains(form.as_str()))
}

#[test]
fn the_test_would_find_a_secret_that_prints() {
    let secret = rare();
    for shown in [
        format!("{secret:?}"),
        format!("{:?}", Hash::new(secret)),
        hex(&secret),
    ] {
        assert!(prints(&shown, &secret), "{shown}");
    }
}

#[test]
fn debug_of_every_secret_type_prints_no_bytes() {
    let secret = rare();
    let place = Place {
        channel: CHANNEL,
        e: 7,
    };
    let key = ChannelKey::new(place, &secret);
    let index_key = IndexKey::new(secret);
    let bundle = Bundle {
        index_key: index_key.clone(),
        name: None,
        topic: None,
    };
    let boxed = BoxedKey::new(&key);
    let invite = InviteBox {
        genesis: Hash::new([1; 32]),
        name: None,
        topic: None,
        index_key: Some(index_key.clone()),
        key: Some(boxed.clone()),
    };
    let encryption = EncryptionSecret::from_seed(&secret);
    let shown = [
        format!("{key:?} {key:#?}"),
        format!("{index_key:?} {index_key:#?}"),
        format!("{bundle:?} {bundle:#?}"),
        format!("{boxed:?} {boxed:#?}"),
        format!("{invite:?} {invite:#?}"),
        format!("{encryption:?} {encryption:#?}"),
    ];
    for debug in shown {
        assert!(!prints(&debug, &secret), "{debug}");
        let derived = ["msg", "state", "memory", "bundle", "prev"];
        for label in derived {
            let derived = crate::published::k(&secret, place, label);
            assert!(!prints(&debug, &derived), "{debug}");
        }
    }
}

#[test]
fn index_keys_are_public_only_where_the_channel_is() {
    assert_eq!(IndexKey::public(&CHANNEL), IndexKey::public(&CHANNEL));
    let (public, sealed) = (IndexKey::public(&CHANNEL), IndexKey::new([12; 32]));
    assert_ne!(public, sealed);
    assert_ne!(public.slot("claims/api"), sealed.slot("claims/api"));
    assert_ne!(sealed.slot("claims/api"), sealed.slot("claims/web"));
}

#[test]
fn a_key_and_its_id_have_nothing_in_common_with_another_ones() {
    let ids: Vec<_> = (1..5).map(|seed| encryption(seed).id()).collect();
    for (i, id) in ids.iter().enumerate() {
        assert!(!ids[..i].contains(id));
    }
    let other = Place {
        channel: CHANNEL,
        e: 2,
    };
    assert_ne!(
        ChannelKey::new(other, channel_key().bytes()).commit(),
        channel_key().commit()
    );
}
