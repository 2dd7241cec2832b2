//! What a channel key seals and opens, and that one changed bit is enough for a refusal.

use crate::kit::{NONCE, channel_key, channel_routes, flipped, header, key_of, secret, signed};
use conclave_e2ee::{OpenError, SealError};
use conclave_proto::body::{Body, Head};
use conclave_proto::entry::{Envelope, Route, Suite};
use conclave_proto::id::{Blob, Hash};
use conclave_proto::limit::{CIPHERTEXT_BYTES_MAX, PROFILE_BYTES_MAX};
use conclave_proto::profile::{GROUPS_MAX, Label, Profile, SUMMARY_BYTES_MAX, Status};

fn sealed(route: Route) -> Envelope {
    channel_key()
        .seal(&header(route), b"so it is", NONCE, &secret(1))
        .unwrap()
}

#[test]
fn every_kind_that_a_channel_has_opens_as_it_was_sealed() {
    for route in channel_routes() {
        let parsed = signed(&sealed(route)).unwrap();
        assert_eq!(channel_key().open(&parsed).unwrap().as_slice(), b"so it is");
    }
}

#[test]
fn no_envelope_with_a_changed_bit_passes_its_signature() {
    let env = sealed(Route::Everyone);
    let mut tried = 0;
    for (part, changed) in flipped(&env) {
        assert!(signed(&changed).is_none(), "{part} {changed:?}");
        tried += 1;
    }
    assert_eq!(tried, (150 + 24 + 272 + 64) * 8);
}

#[test]
fn no_envelope_with_a_changed_bit_opens_even_for_who_ignores_signatures() {
    for route in channel_routes() {
        let env = sealed(route);
        for (part, changed) in flipped(&env).filter(|(part, _)| *part != "sig") {
            let Ok(parsed) = changed.parse() else {
                continue;
            };
            assert!(channel_key().open(&parsed).is_err(), "{part} {parsed:?}");
        }
    }
}

#[test]
fn s13_an_envelope_that_another_key_holder_signs_again_does_not_open() {
    let (alice, mallory) = (sealed(Route::Everyone), secret(66));
    let again = |change: &dyn Fn(&mut conclave_proto::entry::Header)| {
        let mut header = header(Route::Everyone);
        change(&mut header);
        Envelope::signed(header.to_bytes(), alice.nonce, alice.ct.clone(), &mallory)
    };
    let as_herself = again(&|h| {
        h.sender = "mallory/laptop/api".parse().unwrap();
        h.sender_key = mallory.machine_key();
    });
    let only_key = again(&|h| h.sender_key = mallory.machine_key());
    for env in [as_herself, only_key] {
        let parsed = signed(&env).expect("she signed it with the key it names");
        assert_eq!(channel_key().open(&parsed), Err(OpenError::Broken));
    }
    assert!(signed(&again(&|_| {})).is_none(), "in alice's name");
}

#[test]
fn s13_a_member_who_holds_the_key_forges_no_other_sender() {
    let mallory = secret(66);
    let forged = channel_key()
        .seal(&header(Route::Everyone), b"I am alice", NONCE, &mallory)
        .unwrap();
    assert!(signed(&forged).is_none());
}

#[test]
fn s14_a_clear_body_is_neither_opened_nor_made_in_place_of_a_sealed_one() {
    let mut clear = header(Route::Everyone);
    (clear.suite, clear.epoch) = (Suite::Clear, 0);
    let env = Envelope::clear(&clear, b"hello".to_vec().into(), &secret(1));
    let parsed = signed(&env).unwrap();
    for key in [channel_key(), key_of(0, 2)] {
        assert_eq!(key.open(&parsed), Err(OpenError::Header));
        let refused = key.seal(&clear, b"hello", NONCE, &secret(1));
        assert_eq!(refused, Err(SealError::Header));
    }
    let claims = Envelope::clear(
        &header(Route::Everyone),
        b"hello".to_vec().into(),
        &secret(1),
    );
    let parsed = signed(&claims).unwrap();
    assert_eq!(channel_key().open(&parsed), Err(OpenError::Broken));
}

#[test]
fn a_key_seals_only_what_belongs_to_its_channel_and_epoch() {
    for key in [key_of(2, 2), key_of(0, 2)] {
        for route in channel_routes() {
            let refused = key.seal(&header(route), b"hello", NONCE, &secret(1));
            assert_eq!(refused, Err(SealError::Header));
        }
    }
    let path = || "bob/desk/api".parse().unwrap();
    for route in [Route::Whisper(path()), Route::Receipt(path())] {
        let refused = channel_key().seal(&header(route), b"hello", NONCE, &secret(1));
        assert_eq!(refused, Err(SealError::Header));
    }
}

#[test]
fn another_key_of_the_same_place_opens_nothing() {
    let parsed = signed(&sealed(Route::Everyone)).unwrap();
    assert_eq!(key_of(1, 99).open(&parsed), Err(OpenError::Broken));
    assert_eq!(key_of(2, 2).open(&parsed), Err(OpenError::Header));
}

#[test]
fn the_largest_body_is_sealed_and_the_next_one_is_not() {
    let largest = 17 * 4096 - 4;
    let seal = |len| channel_key().seal(&header(Route::Everyone), &vec![7; len], NONCE, &secret(1));
    let env = seal(largest).unwrap();
    assert!(env.ct.len() <= CIPHERTEXT_BYTES_MAX);
    let opened = channel_key().open(&signed(&env).unwrap()).unwrap();
    assert_eq!(*opened, vec![7; largest]);
    assert_eq!(seal(largest + 1), Err(SealError::TooLarge));
}

#[test]
fn a_holder_of_the_key_who_pads_otherwise_is_refused() {
    use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};
    let (bytes, key) = (
        header(Route::Everyone).to_bytes(),
        crate::published::k(&[2; 32], crate::kit::PLACE, "msg"),
    );
    let mut padded = vec![0; 512];
    padded[3] = 5;
    let with = |plain: &[u8]| {
        let payload = Payload {
            msg: plain,
            aad: &bytes,
        };
        let ct = XChaCha20Poly1305::new(&key.into())
            .encrypt(&XNonce::from(NONCE), payload)
            .unwrap();
        let nonce = conclave_proto::id::EnvelopeNonce::new(NONCE);
        let env = Envelope::signed(bytes.clone(), nonce, Blob::from(ct), &secret(1));
        channel_key().open(&signed(&env).unwrap())
    };
    assert_eq!(with(&padded), Err(OpenError::Padding));
    assert_eq!(with(b""), Err(OpenError::Padding));
    assert_eq!(with(&padded[..256]).unwrap().as_slice(), [0; 5]);
}

#[test]
fn the_largest_profile_fits_its_bound_when_it_is_sealed() {
    let longest = "n".repeat(32);
    let group = [longest.as_str(); 4].join("/");
    let label = Label {
        name: group.parse().unwrap(),
        role: Some(longest.parse().unwrap()),
    };
    let profile = Profile {
        role: Some(longest.parse().unwrap()),
        groups: vec![label; GROUPS_MAX],
        status: Some(Status::Working),
        summary: Some("s".repeat(SUMMARY_BYTES_MAX)),
        wake: None,
    };
    let head = Some(Head {
        n: u64::MAX,
        hash: Hash::new([1; 32]),
    });
    let body = Body {
        profile: Some(profile),
        ctl_head: head,
        ident_head: head,
        last_seen: head,
        ..Body::default()
    };
    let bytes = body.to_bytes().unwrap();
    let header = header(Route::Profile);
    let sealed = channel_key().seal(&header, &bytes, NONCE, &secret(1));
    assert_eq!(sealed.unwrap().ct.len(), PROFILE_BYTES_MAX);
}
