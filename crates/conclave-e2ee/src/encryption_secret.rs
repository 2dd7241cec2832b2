//! X25519 keys: what machines and owner keys open sealed things with.

use conclave_proto::bytes::sha256;
use conclave_proto::id::RecipientKeyId;
use conclave_proto::key::{EncryptionKey, Secret};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// The secret half of an X25519 key. Wiped on drop, never printed.
#[derive(Clone)]
pub struct EncryptionSecret {
    secret: x25519_dalek::StaticSecret,
    public: EncryptionKey,
}

impl EncryptionSecret {
    /// Makes the key of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = x25519_dalek::StaticSecret::from(*seed);
        let public = EncryptionKey::new(x25519_dalek::PublicKey::from(&secret).to_bytes());
        Self { secret, public }
    }

    /// Derives the key of an owner key: channel keys are sealed to it where history is `full`, so that
    /// the paper key alone brings old messages back.
    #[must_use]
    pub fn of_owner(owner: &Secret) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &*owner.seed())
            .expand(b"conclave/v1/owner-encryption", seed.as_mut())
            .expect("32 bytes are within HKDF's bound");
        Self::from_seed(&seed)
    }

    /// Returns the 32 bytes, for the keystore.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.to_bytes())
    }

    /// Returns the public half.
    #[must_use]
    pub const fn public(&self) -> EncryptionKey {
        self.public
    }

    /// Returns the id of the public half.
    #[must_use]
    pub fn id(&self) -> RecipientKeyId {
        key_id(&self.public())
    }
}

impl fmt::Debug for EncryptionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionSecret(…)")
    }
}

/// Returns the id by which whispers name the key they are sealed to: the first 8 bytes of SHA-256. It
/// only finds the key; a wrong one does not open.
#[must_use]
pub fn key_id(key: &EncryptionKey) -> RecipientKeyId {
    let hash = sha256(key.as_bytes());
    let mut id = [0; RecipientKeyId::LEN];
    id.copy_from_slice(&hash.as_bytes()[..RecipientKeyId::LEN]);
    RecipientKeyId::new(id)
}
