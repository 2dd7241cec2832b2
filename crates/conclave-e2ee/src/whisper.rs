//! Whispers: bodies sealed to one machine's current encryption key (SECURITY 2.5).
//!
//! The ciphertext is `enc[32] ‖ HPKE ciphertext`, and the envelope's nonce is zero: HPKE has its own.

use crate::encryption_secret::key_id;
use crate::hpke_base;
use crate::pad::{pad, unpad};
use crate::{EncryptionSecret, OpenError, SealError};
use conclave_proto::entry::{Envelope, Header, Kind, Parsed, Suite};
use conclave_proto::id::EnvelopeNonce;
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::limit::CIPHERTEXT_BYTES_MAX;
use zeroize::Zeroizing;

const INFO: &[u8] = b"conclave/v1/whisper";

fn is_whisper(header: &Header) -> bool {
    let kind = matches!(header.route.kind(), Kind::Whisper | Kind::Receipt);
    kind && header.suite == Suite::One && header.epoch == 0
}

/// Seals a whisper or receipt to the key its header names, and signs it. `ephemeral` is 32 fresh random
/// bytes.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    header: &Header,
    body: &[u8],
    to: &EncryptionKey,
    ephemeral: [u8; 32],
    signer: &Secret,
) -> Result<Envelope, SealError> {
    if !is_whisper(header) || header.recipient_key != key_id(to) {
        return Err(SealError::Header);
    }
    let header = header.to_bytes();
    let ct = hpke_base::seal(to, INFO, &header, &pad(body), ephemeral).ok_or(SealError::Key)?;
    if ct.len() > CIPHERTEXT_BYTES_MAX {
        return Err(SealError::TooLarge);
    }
    let nonce = EnvelopeNonce::new([0; EnvelopeNonce::LEN]);
    Ok(Envelope::signed(header, nonce, ct.into(), signer))
}

/// Opens a whisper or receipt. The signature is not looked at: see [`Parsed::verify`].
///
/// # Errors
/// [`OpenError`].
pub fn open(parsed: &Parsed, with: &EncryptionSecret) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let zero = EnvelopeNonce::new([0; EnvelopeNonce::LEN]);
    let header = &parsed.header;
    if !is_whisper(header) || header.recipient_key != with.id() || parsed.envelope.nonce != zero {
        return Err(OpenError::Header);
    }
    let Envelope { header, ct, .. } = &parsed.envelope;
    let padded = hpke_base::open(with, INFO, header, ct).ok_or(OpenError::Broken)?;
    let plain = unpad(&padded).ok_or(OpenError::Padding)?;
    Ok(Zeroizing::new(plain.to_vec()))
}
