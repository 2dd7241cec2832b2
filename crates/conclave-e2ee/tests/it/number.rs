//! Numbers for people: stable, symmetric, and different where they must be.

use conclave_e2ee::number::{authenticator, fingerprint, safety_number};
use conclave_proto::body::Head;
use conclave_proto::bytes::Builder;
use conclave_proto::id::{ChannelId, Hash, ServerId, UserId};
use sha2::{Digest as _, Sha512};
use std::collections::BTreeSet;

const SERVER: ServerId = ServerId::new([42; 32]);

fn user(byte: u8) -> UserId {
    UserId::new([byte; 32])
}

fn is_number(text: &str, groups: usize) -> bool {
    let parts: Vec<&str> = text.split(' ').collect();
    let digits = |part: &&str| part.len() == 5 && part.bytes().all(|b| b.is_ascii_digit());
    parts.len() == groups && parts.iter().all(digits)
}

#[test]
fn a_fingerprint_is_the_documented_digits() {
    let input = Builder::labelled("conclave/v1/fp")
        .raw(&[42; 32])
        .raw(&[7; 32])
        .into_vec();
    let hash = Sha512::digest(input);
    let group = |at: usize| {
        let mut eight = [0; 8];
        eight[3..].copy_from_slice(&hash[at * 5..at * 5 + 5]);
        format!("{:05}", u64::from_be_bytes(eight) % 100_000)
    };
    let expected: Vec<String> = (0..6).map(group).collect();
    assert_eq!(fingerprint(&SERVER, &user(7)), expected.join(" "));
}

#[test]
fn fingerprints_differ_by_every_bit_of_user_and_server() {
    let mut seen = BTreeSet::from([fingerprint(&SERVER, &user(7))]);
    for bytes in crate::kit::flips(&[7; 32]) {
        let id = UserId::from_slice(&bytes).unwrap();
        let number = fingerprint(&SERVER, &id);
        assert!(is_number(&number, 6), "{number}");
        assert!(seen.insert(number));
    }
    for bytes in crate::kit::flips(&[42; 32]) {
        let server = ServerId::from_slice(&bytes).unwrap();
        assert!(seen.insert(fingerprint(&server, &user(7))));
    }
}

#[test]
fn a_safety_number_is_the_same_from_both_sides_and_holds_both_fingerprints() {
    for (a, b) in [(1, 2), (2, 1), (200, 3)] {
        let (a, b) = (user(a), user(b));
        let number = safety_number(&SERVER, &a, &b);
        assert!(is_number(&number, 12), "{number}");
        assert_eq!(number, safety_number(&SERVER, &b, &a));
        assert!(number.contains(&fingerprint(&SERVER, &a)));
        assert!(number.contains(&fingerprint(&SERVER, &b)));
        assert_ne!(number, safety_number(&SERVER, &a, &user(99)));
    }
}

#[test]
fn an_authenticator_differs_by_channel_record_and_number() {
    let head = |n, byte| Head {
        n,
        hash: Hash::new([byte; 32]),
    };
    let channel = ChannelId::new([3; 16]);
    let number = authenticator(&channel, &head(4, 5));
    assert!(is_number(&number, 9), "{number}");
    assert_eq!(number, authenticator(&channel, &head(4, 5)));
    let others = [
        authenticator(&ChannelId::new([4; 16]), &head(4, 5)),
        authenticator(&channel, &head(5, 5)),
        authenticator(&channel, &head(4, 6)),
    ];
    for other in &others {
        assert_ne!(*other, number);
    }
}
