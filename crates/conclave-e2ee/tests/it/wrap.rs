//! Wraps: only the holder opens one, and only the key that the epoch's record commits to counts.

use crate::kit::{CHANNEL, OTHER_CHANNEL, PLACE, channel_key, encryption, flips, key_of, secret};
use conclave_e2ee::{ChannelKey, EncryptionSecret, Place, SealError, wrap};
use conclave_proto::bytes::Builder;
use conclave_proto::frame::op::Wrap;
use conclave_proto::id::{Hash, SealedKey};
use conclave_proto::key::{EncryptionKey, HolderKey};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, OpModeS, Serializable as _};

fn bob() -> HolderKey {
    secret(11).machine_key().into()
}

fn sealed(key: &ChannelKey) -> Wrap {
    wrap::seal(key, bob(), 3, &encryption(21).public(), [13; 32]).unwrap()
}

fn opens(wrap: &Wrap, place: Place, commit: &Hash, with: &EncryptionSecret) -> bool {
    wrap::open(wrap, place, commit, with).is_some()
}

/// What an attacker who knows the format seals: any key, under any commitment.
fn forged(key: &[u8; 32], commit: &Hash) -> Wrap {
    let aad = Builder::default()
        .lp(CHANNEL.as_bytes())
        .u32(1)
        .lp(bob().as_bytes())
        .u32(3)
        .lp(commit.as_bytes())
        .into_vec();
    type Public = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
    let to = Public::from_bytes(encryption(21).public().as_bytes()).unwrap();
    let (enc, ct) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        b"conclave/v1/epoch-wrap",
        key,
        &aad,
    )
    .unwrap();
    Wrap {
        to: bob(),
        generation: 3,
        sealed: SealedKey::from_slice(&[&enc.to_bytes()[..], &ct].concat()).unwrap(),
    }
}

#[test]
fn the_holder_of_a_wrap_opens_the_key_of_the_epoch() {
    let key = channel_key();
    let opened = wrap::open(&sealed(&key), PLACE, &key.commit(), &encryption(21)).unwrap();
    assert_eq!(opened.bytes(), key.bytes());
    assert_eq!((opened.place(), opened.commit()), (PLACE, key.commit()));
}

#[test]
fn no_wrap_with_a_changed_bit_opens() {
    let key = channel_key();
    let (wrap, commit, with) = (sealed(&key), key.commit(), encryption(21));
    for sealed in flips(wrap.sealed.as_bytes()) {
        let sealed = SealedKey::from_slice(&sealed).unwrap();
        assert!(!opens(&Wrap { sealed, ..wrap }, PLACE, &commit, &with));
    }
    for to in flips(wrap.to.as_bytes()) {
        let to = HolderKey::from_slice(&to).unwrap();
        assert!(!opens(&Wrap { to, ..wrap }, PLACE, &commit, &with));
    }
    for bit in 0..32 {
        let generation = wrap.generation ^ (1 << bit);
        assert!(!opens(&Wrap { generation, ..wrap }, PLACE, &commit, &with));
    }
}

#[test]
fn s13_a_wrap_counts_only_for_its_commitment_channel_epoch_and_holder() {
    let key = channel_key();
    let (wrap, commit, with) = (sealed(&key), key.commit(), encryption(21));
    assert!(opens(&wrap, PLACE, &commit, &with));
    for commit in flips(commit.as_bytes()) {
        let commit = Hash::from_slice(&commit).unwrap();
        assert!(!opens(&wrap, PLACE, &commit, &with));
    }
    let later = Place { e: 2, ..PLACE };
    let elsewhere = Place {
        channel: OTHER_CHANNEL,
        e: 1,
    };
    for place in [later, elsewhere] {
        assert!(!opens(&wrap, place, &commit, &with), "{place:?}");
        let there = ChannelKey::new(place, key.bytes()).commit();
        assert!(!opens(&wrap, place, &there, &with), "{place:?}");
    }
    assert!(!opens(&wrap, PLACE, &commit, &encryption(22)));
    let renamed = Wrap {
        to: secret(12).machine_key().into(),
        ..wrap
    };
    assert!(!opens(&renamed, PLACE, &commit, &with));
}

#[test]
fn s13_a_substituted_key_under_the_true_commitment_is_worth_nothing() {
    let (key, with) = (channel_key(), encryption(21));
    assert!(opens(
        &forged(key.bytes(), &key.commit()),
        PLACE,
        &key.commit(),
        &with
    ));
    let other = key_of(1, 66);
    assert!(!opens(
        &forged(other.bytes(), &key.commit()),
        PLACE,
        &key.commit(),
        &with
    ));
    assert!(!opens(&sealed(&other), PLACE, &key.commit(), &with));
}

#[test]
fn nothing_is_sealed_to_a_point_of_low_order() {
    let p_minus_1 = {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xec, 0x7f);
        bytes
    };
    let p = {
        let mut bytes = p_minus_1;
        bytes[0] = 0xed;
        bytes
    };
    let p_plus_1 = {
        let mut bytes = p_minus_1;
        bytes[0] = 0xee;
        bytes
    };
    let mut one = [0; 32];
    one[0] = 1;
    let order_8 = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ];
    let order_8_too = [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ];
    for mut point in [[0; 32], one, p_minus_1, p, p_plus_1, order_8, order_8_too] {
        for high in [0, 0x80] {
            point[31] = point[31] & 0x7f | high;
            let to = EncryptionKey::new(point);
            let refused = wrap::seal(&channel_key(), bob(), 3, &to, [13; 32]);
            assert_eq!(refused, Err(SealError::Key), "{to}");
            let mut wrap = sealed(&channel_key());
            let mut bytes = *wrap.sealed.as_bytes();
            bytes[..32].copy_from_slice(&point);
            wrap.sealed = SealedKey::new(bytes);
            assert!(!opens(
                &wrap,
                PLACE,
                &channel_key().commit(),
                &encryption(21)
            ));
        }
    }
}

#[test]
fn two_wraps_of_one_key_have_nothing_in_common_unless_the_random_bytes_repeat() {
    let to = encryption(21).public();
    let seal = |ephemeral| wrap::seal(&channel_key(), bob(), 3, &to, ephemeral).unwrap();
    let (first, second) = (seal([13; 32]), seal([14; 32]));
    assert_eq!(first, seal([13; 32]));
    assert_ne!(
        first.sealed.as_bytes()[..32],
        second.sealed.as_bytes()[..32]
    );
    assert_ne!(
        first.sealed.as_bytes()[32..],
        second.sealed.as_bytes()[32..]
    );
}

#[test]
fn an_owner_key_alone_opens_what_was_sealed_to_it() {
    let owner = secret(31);
    let derived = EncryptionSecret::of_owner(&owner);
    let wrap = wrap::seal(
        &channel_key(),
        owner.owner_key().into(),
        0,
        &derived.public(),
        [13; 32],
    );
    let commit = channel_key().commit();
    let again = EncryptionSecret::of_owner(&secret(31));
    assert!(opens(&wrap.unwrap(), PLACE, &commit, &again));
    assert_ne!(derived.seed(), owner.seed(), "one key for one purpose");
    assert_ne!(
        derived.public(),
        EncryptionSecret::from_seed(&owner.seed()).public()
    );
    assert_ne!(
        derived.public(),
        EncryptionSecret::of_owner(&secret(32)).public()
    );
}
