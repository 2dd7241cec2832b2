//! HPKE base mode (RFC 9180), ids 0x0020/0x0001/0x0003, in one shot: `enc[32] ‖ ciphertext`.

use crate::EncryptionSecret;
use conclave_proto::bytes::sha256;
use conclave_proto::key::EncryptionKey;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use std::convert::Infallible;
use zeroize::{Zeroize as _, Zeroizing};

type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Encapped = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Bytes of the encapsulated key in front.
pub(crate) const ENC_LEN: usize = 32;

/// Seals to a key; `ephemeral` is 32 fresh random bytes. `None` for a key that is no good point.
pub(crate) fn seal(
    to: &EncryptionKey,
    info: &[u8],
    aad: &[u8],
    plain: &[u8],
    ephemeral: [u8; 32],
) -> Option<Vec<u8>> {
    let to = Public::from_bytes(to.as_bytes()).ok()?;
    let mut rng = Drawn(ephemeral);
    let sealed = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        info,
        plain,
        aad,
        &mut rng,
    );
    let (enc, ct) = sealed.ok()?;
    Some([&enc.to_bytes()[..], &ct].concat())
}

/// Opens what [`seal`] made.
pub(crate) fn open(
    with: &EncryptionSecret,
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (enc, ct) = sealed.split_first_chunk::<ENC_LEN>()?;
    let with = Private::from_bytes(&*with.seed()).ok()?;
    let enc = Encapped::from_bytes(enc).ok()?;
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &with,
        &enc,
        info,
        ct,
        aad,
    )
    .ok()
    .map(Zeroizing::new)
}

/// Random bytes that the caller has drawn. HPKE takes exactly 32 of them for its ephemeral key; were
/// it to take more, they would go on with hashes of the first ones.
struct Drawn([u8; 32]);

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        hpke::rand_core::utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        hpke::rand_core::utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(self.0.len()) {
            for (to, from) in chunk.iter_mut().zip(&self.0) {
                *to = *from;
            }
            self.0 = *sha256(&self.0).as_bytes();
        }
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
