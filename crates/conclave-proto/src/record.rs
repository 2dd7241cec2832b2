//! Signed records: opaque bytes that carry a body and one signature.
//!
//! `rec = lp(body) ‖ sig[64]`, where the body is deterministic CBOR (RFC 8949 4.2.1), an array with
//! version and type first. A record is hashed, stored and sent as it came and never encoded again.

use crate::bytes::{Builder, Reader, sha256};
use crate::id::{Blob, Hash};
use crate::key::{BadSignature, Secret, Signature, Verify};
use crate::limit::RECORD_BYTES_MAX;

/// A record that was taken apart but not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    bytes: Blob,
    body_len: usize,
    signature: Signature,
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signed record")]
pub struct BadRecord;

impl Record {
    /// Signs `body` under `label`.
    #[must_use]
    pub fn sign(label: &str, body: &[u8], secret: &Secret) -> Self {
        let signature = secret.sign(Builder::labelled(label).lp(body));
        let bytes = Builder::default()
            .lp(body)
            .raw(signature.as_bytes())
            .into_vec();
        Self {
            bytes: bytes.into(),
            body_len: body.len(),
            signature,
        }
    }

    /// Takes a received record apart: exact length, within [`RECORD_BYTES_MAX`].
    ///
    /// # Errors
    /// [`BadRecord`].
    pub fn parse(bytes: &Blob) -> Result<Self, BadRecord> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(BadRecord);
        }
        let mut reader = Reader::new(bytes);
        let body_len = reader.lp().ok_or(BadRecord)?.len();
        let signature = reader.array().map(Signature::new).ok_or(BadRecord)?;
        if !reader.is_empty() {
            return Err(BadRecord);
        }
        Ok(Self {
            bytes: bytes.clone(),
            body_len,
            signature,
        })
    }

    /// Checks the signature over the body.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, label: &str, key: &impl Verify) -> Result<(), BadSignature> {
        key.verify(Builder::labelled(label).lp(self.body()), &self.signature)
    }

    /// Returns the signed body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(4..4 + self.body_len).unwrap_or_default()
    }

    /// Returns the whole record as it travels.
    #[must_use]
    pub const fn bytes(&self) -> &Blob {
        &self.bytes
    }

    /// Returns SHA-256 of the whole record: what the next record links to.
    #[must_use]
    pub fn hash(&self) -> Hash {
        sha256(&self.bytes)
    }
}
