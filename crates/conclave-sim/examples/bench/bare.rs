//! The bare primitives: what sealing, opening and wrapping cost with nothing around them.
//!
//! No padding, no header to make or read, keys of signatures decompressed ahead: a floor, not a protocol.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use conclave_proto::key::EncryptionKey;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS};
use sha2::{Digest as _, Sha256};

type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Encapped = <X25519HkdfSha256 as Kem>::EncappedKey;

/// One cipher key and one signing key.
pub(crate) struct Bare {
    cipher: XChaCha20Poly1305,
    signing: SigningKey,
    verifying: VerifyingKey,
}

/// What [`Bare::seal`] made.
pub(crate) struct Sealed {
    nonce: [u8; 24],
    ct: Vec<u8>,
    sig: Signature,
}

impl Bare {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        Self {
            cipher: XChaCha20Poly1305::new(seed.into()),
            verifying: signing.verifying_key(),
            signing,
        }
    }

    /// Signs the hash of something beside its header.
    fn sign(&self, header: &[u8], nonce: &[u8; 24], ct: &[u8]) -> Signature {
        self.signing.sign(&message(header, nonce, ct))
    }

    /// XChaCha20-Poly1305, SHA-256, Ed25519.
    pub(crate) fn seal(&self, header: &[u8], plain: &[u8], nonce: [u8; 24]) -> Sealed {
        let payload = Payload {
            msg: plain,
            aad: header,
        };
        let ct = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("small bodies are sealed");
        let sig = self.sign(header, &nonce, &ct);
        Sealed { nonce, ct, sig }
    }

    /// Strict verification, SHA-256, XChaCha20-Poly1305.
    pub(crate) fn open(&self, header: &[u8], sealed: &Sealed) -> Vec<u8> {
        let Sealed { nonce, ct, sig } = sealed;
        self.verifying
            .verify_strict(&message(header, nonce, ct), sig)
            .expect("it was signed");
        let payload = Payload {
            msg: ct,
            aad: header,
        };
        self.cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .expect("it was sealed")
    }

    /// HPKE, SHA-256, Ed25519: what a sealed and signed whisper cannot do without.
    pub(crate) fn whisper(&self, to: &EncryptionKey, header: &[u8], plain: &[u8]) -> Sealed {
        let (_, ct) = hpke_seal(to, header, plain);
        let nonce = [0; 24];
        let sig = self.sign(header, &nonce, &ct);
        Sealed { nonce, ct, sig }
    }

    /// Strict verification of what [`Self::whisper`] signed.
    pub(crate) fn check(&self, header: &[u8], sealed: &Sealed) {
        let Sealed { nonce, ct, sig } = sealed;
        self.verifying
            .verify_strict(&message(header, nonce, ct), sig)
            .expect("it was signed");
    }
}

fn message(header: &[u8], nonce: &[u8; 24], ct: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(nonce);
    hash.update(ct);
    let mut out = Vec::with_capacity(header.len() + 32);
    out.extend_from_slice(header);
    out.extend_from_slice(&hash.finalize());
    out
}

/// Bare HPKE to one key; returns the encapsulated key and the ciphertext.
pub(crate) fn hpke_seal(to: &EncryptionKey, aad: &[u8], plain: &[u8]) -> (Encapped, Vec<u8>) {
    let to = Public::from_bytes(to.as_bytes()).expect("a good point");
    hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        b"bench",
        plain,
        aad,
    )
    .expect("small bodies are sealed")
}

/// Opens what [`hpke_seal`] made.
pub(crate) fn hpke_open(with: &[u8; 32], aad: &[u8], sealed: &(Encapped, Vec<u8>)) -> Vec<u8> {
    let with = Private::from_bytes(with).expect("32 bytes are a secret");
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &with,
        &sealed.0,
        b"bench",
        &sealed.1,
        aad,
    )
    .expect("it was sealed")
}

/// How many cores there are.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` on every item, on so many threads.
pub(crate) fn on_all<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) + Sync) {
    let share = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for part in items.chunks(share) {
            scope.spawn(|| part.iter().for_each(&work));
        }
    });
}

/// Seconds that `work` takes.
pub(crate) fn seconds(work: impl FnOnce()) -> f64 {
    let start = std::time::Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// The middle one.
pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// The ratio in words, with the target beside it.
pub(crate) fn verdict(ratio: f64, target: f64) -> String {
    let met = if ratio <= target { "met" } else { "MISSED" };
    format!("ratio {ratio:.2}, target <= {target}: {met}")
}
