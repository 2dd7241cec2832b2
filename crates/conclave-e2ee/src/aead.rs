//! XChaCha20-Poly1305 with the nonce in front, the one form of every box here.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use conclave_proto::id::Blob;
use zeroize::Zeroizing;

/// Bytes of a nonce: random, never a counter (XChaCha20 exists for that).
pub const NONCE_LEN: usize = 24;
/// Bytes that sealing adds, without the nonce.
pub const TAG_LEN: usize = 16;

/// Seals under a key; without the nonce in front.
pub(crate) fn seal(key: &[u8; 32], nonce: &[u8; NONCE_LEN], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    XChaCha20Poly1305::new(key.into())
        .encrypt(&XNonce::from(*nonce), Payload { msg: plain, aad })
        .expect("bodies are far below 2^38 bytes, the cipher's only bound")
}

/// Opens what [`seal`] made.
pub(crate) fn open(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    XChaCha20Poly1305::new(key.into())
        .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad })
        .ok()
        .map(Zeroizing::new)
}

/// Seals into a box: `nonce ‖ ciphertext`.
pub(crate) fn seal_box(key: &[u8; 32], nonce: &[u8; NONCE_LEN], aad: &[u8], plain: &[u8]) -> Blob {
    [&nonce[..], &seal(key, nonce, aad, plain)].concat().into()
}

/// Opens a box.
pub(crate) fn open_box(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ct) = sealed.split_first_chunk::<NONCE_LEN>()?;
    open(key, nonce, aad, ct)
}
