//! The test vector that SECURITY 7 publishes, byte for byte.

use crate::kit::{NONCE, PLACE, channel_key, header, hex, secret, signed};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use conclave_proto::bytes::{Builder, sha256};
use conclave_proto::entry::Route;
use hkdf::Hkdf;
use sha2::Sha256;

/// `k(label)`, written down a second time.
pub(crate) fn k(key: &[u8; 32], place: conclave_e2ee::Place, label: &str) -> [u8; 32] {
    let info = Builder::labelled("conclave/v1/epoch")
        .lp(label.as_bytes())
        .lp(place.channel.as_bytes())
        .u32(place.e)
        .into_vec();
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(None, key)
        .expand(&info, &mut out)
        .unwrap();
    out
}

#[test]
fn an_envelope_is_sealed_to_the_published_bytes() {
    let header = header(Route::Everyone);
    let env = channel_key()
        .seal(&header, b"hello", NONCE, &secret(1))
        .unwrap();
    assert_eq!(
        hex(sha256(&env.header).as_bytes()),
        "e6ea0ce71021c79a3e2fda27d421bc386eadc0ab59b4a6d906603bf4e0489dae"
    );
    assert_eq!(env.ct.len(), 272);
    assert_eq!(
        hex(sha256(&env.ct).as_bytes()),
        "a726871a85a516ac7454afbf738a39ed9b2d2a032577d569e393b7f89d1d741b"
    );
    assert_eq!(
        hex(env.sig.as_bytes()),
        "87ba2df9c8b999ad5deba150042705b258ce7cd6c6d1ba268e7dae7f2d1cc101\
         fdd1884a63f850de46b4351fed5f728d33cfa287b3ecd82fda170257bfb5540d"
    );
    assert_eq!(env.nonce.as_bytes(), &NONCE);
    let opened = channel_key().open(&signed(&env).unwrap()).unwrap();
    assert_eq!(opened.as_slice(), b"hello");
}

#[test]
fn the_keys_of_an_epoch_are_the_published_ones() {
    let message = k(&[2; 32], PLACE, "msg");
    assert_eq!(
        hex(&message),
        "a6f5c12d36776ed39d487cc5510577b6797169e79318a791338b2b2ff4b3dd7c"
    );
    assert_eq!(
        hex(channel_key().commit().as_bytes()),
        "13922ef9923245b9147398a35ba7d809cabade1b97635caa84db259734ed53c6"
    );
    let env = channel_key()
        .seal(&header(Route::Everyone), b"hello", NONCE, &secret(1))
        .unwrap();
    let payload = Payload {
        msg: &env.ct,
        aad: &env.header,
    };
    let padded = XChaCha20Poly1305::new(&message.into())
        .decrypt(&XNonce::from(NONCE), payload)
        .unwrap();
    assert_eq!(padded.len(), 256);
    assert_eq!(padded[..9], *b"\0\0\0\x05hello");
    assert!(padded[9..].iter().all(|byte| *byte == 0));
}
