//! Ed25519 keys and signatures, one type per role, strict verification, one label per purpose.
//!
//! A secret never prints. A label is part of everything that is signed, so that a signature made for
//! one purpose is worthless for another.

use crate::bytes::Builder;
use crate::id::{Hash, InviteId, ServerId, fixed_bytes};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use std::fmt;
use zeroize::Zeroizing;

/// The labels of everything that is signed. "v1" is the cryptographic suite, not the wire version.
pub mod label {
    /// The server's half of the handshake.
    pub const HANDSHAKE_SERVER: &str = "conclave/v1/hs-server";
    /// The client's half of the handshake.
    pub const HANDSHAKE_CLIENT: &str = "conclave/v1/hs-client";
    /// An entry's envelope.
    pub const ENVELOPE: &str = "conclave/v1/envelope-sig";
    /// A record of an identity log.
    pub const IDENTITY: &str = "conclave/v1/identity";
    /// A new machine's consent to its enrolment.
    pub const ENROLMENT: &str = "conclave/v1/enrolment";
    /// A control record of a channel.
    pub const CONTROL: &str = "conclave/v1/control";
    /// A join by invite into a channel.
    pub const JOIN: &str = "conclave/v1/join";
    /// A new account by invite.
    pub const REDEEM: &str = "conclave/v1/redeem";
    /// The way back into an account whose machines are all lost.
    pub const RECOVER: &str = "conclave/v1/recover";
    /// An act of a server admin.
    pub const ADMIN: &str = "conclave/v1/admin";
    /// A checkpoint of the server's audit log.
    pub const CHECKPOINT: &str = "conclave/v1/checkpoint";
    /// A user's local policy file.
    pub const POLICY: &str = "conclave/v1/policy";
    /// The announcement of a machine's encryption key.
    pub const ENCRYPTION_KEY: &str = "conclave/v1/encryption-key";
    /// The announcement of a new server key by the old one.
    pub const SERVER_ROTATE: &str = "conclave/v1/server-rotate";
    /// A permission verdict.
    pub const VERDICT: &str = "conclave/v1/perm";
    /// What is hashed of a tool call that waits for a verdict.
    pub const REQUEST: &str = "conclave/v1/perm-request";
    /// A human's word that something that was held back may be sent once.
    pub const HOLD: &str = "conclave/v1/hold";
}

fixed_bytes! {
    /// A machine's signing key (`MK`), one per machine and server.
    MachineKey[32];
    /// A user's owner key (`OWN`).
    OwnerKey[32];
    /// A server's key (`SRV`).
    ServerKey[32];
    /// The public half of an invite.
    InviteKey[32];
    /// A machine's X25519 encryption key (`EK`).
    EncryptionKey[32];
    /// Who holds an encryption key: the bytes of a [`MachineKey`] or [`OwnerKey`].
    HolderKey[32];
    /// An Ed25519 signature.
    Signature[64];
}

/// A public key that can check signatures.
pub trait Verify {
    /// Returns the Ed25519 public key bytes.
    fn public_bytes(&self) -> &[u8; 32];

    /// Checks `signature` over `message` strictly (RFC 8032 with canonical, full-order points).
    ///
    /// # Errors
    /// [`BadSignature`] if the key or the signature is not valid.
    fn verify(&self, message: Builder, signature: &Signature) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(self.public_bytes()).map_err(|_| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
        key.verify_strict(&message.into_vec(), &signature)
            .map_err(|_| BadSignature)
    }
}

/// A signature does not fit its key and message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not valid")]
pub struct BadSignature;

impl Verify for MachineKey {
    fn public_bytes(&self) -> &[u8; 32] {
        self.as_bytes()
    }
}

impl Verify for OwnerKey {
    fn public_bytes(&self) -> &[u8; 32] {
        self.as_bytes()
    }
}

impl Verify for ServerKey {
    fn public_bytes(&self) -> &[u8; 32] {
        self.as_bytes()
    }
}

impl Verify for InviteKey {
    fn public_bytes(&self) -> &[u8; 32] {
        self.as_bytes()
    }
}

impl ServerKey {
    /// Returns the id of a server whose first key this is.
    #[must_use]
    pub fn server_id(&self) -> ServerId {
        ServerId::new(*crate::bytes::sha256(self.as_bytes()).as_bytes())
    }

    /// Returns the fingerprint that invite links carry: the first 16 bytes of SHA-256, as text.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        crate::id::to_text(&crate::bytes::sha256(self.as_bytes()).as_bytes()[..16])
    }
}

impl From<MachineKey> for HolderKey {
    fn from(key: MachineKey) -> Self {
        Self::new(*key.as_bytes())
    }
}

impl From<OwnerKey> for HolderKey {
    fn from(key: OwnerKey) -> Self {
        Self::new(*key.as_bytes())
    }
}

impl InviteKey {
    /// Returns the id of the invite whose public key this is.
    #[must_use]
    pub fn invite_id(&self) -> InviteId {
        let hash = Builder::labelled("conclave/v1/invite-id")
            .raw(self.as_bytes())
            .sha256();
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        InviteId::new(id)
    }
}

/// The secret half of any Ed25519 key. Wiped on drop, never printed.
#[derive(Clone)]
pub struct Secret(SigningKey);

impl Secret {
    /// Makes the key of a 32-byte seed; fresh keys take the seed from the system generator.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Returns the seed, for the keystore.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Signs `message`.
    #[must_use]
    pub fn sign(&self, message: Builder) -> Signature {
        Signature::new(self.0.sign(&message.into_vec()).to_bytes())
    }

    fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Returns the public half, as a machine key.
    #[must_use]
    pub fn machine_key(&self) -> MachineKey {
        MachineKey::new(self.public())
    }

    /// Returns the public half, as an owner key.
    #[must_use]
    pub fn owner_key(&self) -> OwnerKey {
        OwnerKey::new(self.public())
    }

    /// Returns the public half, as a server key.
    #[must_use]
    pub fn server_key(&self) -> ServerKey {
        ServerKey::new(self.public())
    }

    /// Returns the public half, as an invite key.
    #[must_use]
    pub fn invite_key(&self) -> InviteKey {
        InviteKey::new(self.public())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Returns the message an Ed25519 key signs for a hash under a label: `lp(label) ‖ hash`.
#[must_use]
pub fn labelled_hash(label: &str, hash: &Hash) -> Builder {
    Builder::labelled(label).raw(hash.as_bytes())
}
