//! Whispers and receipts: for one machine's key, and for nobody else.

use crate::kit::{channel_key, encryption, flipped, header, secret, signed};
use conclave_e2ee::{OpenError, SealError, encryption_secret::key_id, whisper};
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::id::{ChannelId, EnvelopeNonce, RecipientKeyId};
use conclave_proto::key::EncryptionKey;
use conclave_proto::limit::CIPHERTEXT_BYTES_MAX;
use conclave_proto::name::SessionPath;

fn bob() -> SessionPath {
    "bob/desk/web".parse().unwrap()
}

fn to(route: Route) -> Header {
    Header {
        channel: ChannelId::new([42; 16]),
        epoch: 0,
        recipient_key: encryption(21).id(),
        ..header(route)
    }
}

fn sealed(route: Route) -> Envelope {
    let key = encryption(21).public();
    whisper::seal(&to(route), b"between us", &key, [13; 32], &secret(1)).unwrap()
}

#[test]
fn the_recipient_opens_whispers_and_receipts() {
    for route in [Route::Whisper(bob()), Route::Receipt(bob())] {
        let env = sealed(route);
        assert_eq!(env.nonce, EnvelopeNonce::new([0; 24]));
        assert_eq!(env.ct.len(), 32 + 256 + 16);
        let opened = whisper::open(&signed(&env).unwrap(), &encryption(21)).unwrap();
        assert_eq!(opened.as_slice(), b"between us");
    }
}

#[test]
fn no_whisper_with_a_changed_bit_passes_its_signature() {
    let env = sealed(Route::Whisper(bob()));
    for (part, changed) in flipped(&env) {
        assert!(signed(&changed).is_none(), "{part} {changed:?}");
    }
}

#[test]
fn no_whisper_with_a_changed_bit_opens_even_for_who_ignores_signatures() {
    let env = sealed(Route::Whisper(bob()));
    for (part, changed) in flipped(&env).filter(|(part, _)| *part != "sig") {
        let Ok(parsed) = changed.parse() else {
            continue;
        };
        let opened = whisper::open(&parsed, &encryption(21));
        assert!(opened.is_err(), "{part} {parsed:?}");
    }
}

#[test]
fn s13_a_whisper_moved_to_another_recipient_sender_or_kind_does_not_open() {
    let env = sealed(Route::Whisper(bob()));
    let mallory = secret(66);
    let moved = |change: &dyn Fn(&mut Header)| {
        let mut header = to(Route::Whisper(bob()));
        change(&mut header);
        let signer = match header.sender_key == mallory.machine_key() {
            true => &mallory,
            false => &secret(1),
        };
        let env = Envelope::signed(header.to_bytes(), env.nonce, env.ct.clone(), signer);
        whisper::open(&signed(&env).unwrap(), &encryption(21)).map(drop)
    };
    assert_eq!(moved(&|_| {}), Ok(()));
    let broken = Err(OpenError::Broken);
    assert_eq!(moved(&|h| h.route = Route::Receipt(bob())), broken);
    let other = || "bob/desk/api".parse().unwrap();
    assert_eq!(moved(&|h| h.route = Route::Whisper(other())), broken);
    assert_eq!(moved(&|h| h.sender_key = mallory.machine_key()), broken);
    assert_eq!(moved(&|h| h.channel = ChannelId::new([43; 16])), broken);
    assert_eq!(moved(&|h| h.ctr = 2), broken);
}

#[test]
fn another_key_does_not_open_a_whisper_even_under_the_first_ones_id() {
    let env = sealed(Route::Whisper(bob()));
    let parsed = signed(&env).unwrap();
    assert_eq!(
        whisper::open(&parsed, &encryption(22)),
        Err(OpenError::Header)
    );
    let mut header = to(Route::Whisper(bob()));
    header.recipient_key = encryption(22).id();
    let renamed = Envelope::signed(header.to_bytes(), env.nonce, env.ct, &secret(1));
    let renamed = signed(&renamed).unwrap();
    assert_eq!(
        whisper::open(&renamed, &encryption(22)),
        Err(OpenError::Broken)
    );
}

#[test]
fn a_nonce_of_ones_own_is_refused() {
    let Envelope { header, ct, .. } = sealed(Route::Whisper(bob()));
    let env = Envelope::signed(header, EnvelopeNonce::new([1; 24]), ct, &secret(1));
    let refused = whisper::open(&signed(&env).unwrap(), &encryption(21));
    assert_eq!(refused, Err(OpenError::Header));
}

#[test]
fn a_whisper_is_sealed_to_the_key_its_header_names_or_not_at_all() {
    let key = encryption(21).public();
    let seal = |header: &Header, key: &EncryptionKey| {
        whisper::seal(header, b"hello", key, [13; 32], &secret(1)).map(drop)
    };
    let good = to(Route::Whisper(bob()));
    assert_eq!(seal(&good, &key), Ok(()));
    let refused = Err(SealError::Header);
    assert_eq!(seal(&good, &encryption(22).public()), refused);
    let with = |change: &dyn Fn(&mut Header)| {
        let mut header = good.clone();
        change(&mut header);
        seal(&header, &key)
    };
    assert_eq!(
        with(&|h| h.recipient_key = RecipientKeyId::new([0; 8])),
        refused
    );
    assert_eq!(with(&|h| h.suite = Suite::Clear), refused);
    assert_eq!(with(&|h| h.epoch = 1), refused);
    assert_eq!(with(&|h| h.route = Route::Everyone), refused);
}

#[test]
fn s14_a_clear_whisper_is_never_opened_as_a_sealed_one() {
    let mut header = to(Route::Whisper(bob()));
    header.suite = Suite::Clear;
    let env = Envelope::clear(&header, b"hello".to_vec().into(), &secret(1));
    let parsed = signed(&env).unwrap();
    assert_eq!(
        whisper::open(&parsed, &encryption(21)),
        Err(OpenError::Header)
    );
    assert_eq!(channel_key().open(&parsed), Err(OpenError::Header));
}

#[test]
fn nothing_is_whispered_to_a_point_of_low_order() {
    for point in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let key = EncryptionKey::new(point);
        let mut header = to(Route::Whisper(bob()));
        header.recipient_key = key_id(&key);
        let refused = whisper::seal(&header, b"hello", &key, [13; 32], &secret(1));
        assert_eq!(refused, Err(SealError::Key));
    }
}

#[test]
fn the_largest_whisper_is_sealed_and_the_next_one_is_not() {
    let key = encryption(21).public();
    let largest = 17 * 4096 - 4;
    let header = to(Route::Whisper(bob()));
    let seal = |len| whisper::seal(&header, &vec![7; len], &key, [13; 32], &secret(1));
    let env = seal(largest).unwrap();
    assert!(env.ct.len() <= CIPHERTEXT_BYTES_MAX);
    let opened = whisper::open(&signed(&env).unwrap(), &encryption(21)).unwrap();
    assert_eq!(opened.len(), largest);
    assert_eq!(seal(largest + 1), Err(SealError::TooLarge));
}
