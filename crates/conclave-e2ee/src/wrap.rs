//! Wraps: a channel key sealed to one holder's encryption key (SECURITY 2.4).
//!
//! Not signed, and anybody may bring one: what opens is compared with the commitment in the epoch's
//! signed record, so a wrong key is worth nothing.

use crate::hpke_base;
use crate::{ChannelKey, EncryptionSecret, Place, SealError};
use conclave_proto::bytes::Builder;
use conclave_proto::frame::op::Wrap;
use conclave_proto::id::{Hash, SealedKey};
use conclave_proto::key::{EncryptionKey, HolderKey};

const INFO: &[u8] = b"conclave/v1/epoch-wrap";

/// Seals a channel key to a holder. `ephemeral` is 32 fresh random bytes.
///
/// # Errors
/// [`SealError::Key`].
pub fn seal(
    key: &ChannelKey,
    to: HolderKey,
    generation: u32,
    encryption_key: &EncryptionKey,
    ephemeral: [u8; 32],
) -> Result<Wrap, SealError> {
    let aad = aad(key.place(), &to, generation, &key.commit());
    let sealed = hpke_base::seal(encryption_key, INFO, &aad, key.bytes(), ephemeral);
    let sealed = sealed.and_then(|bytes| SealedKey::from_slice(&bytes));
    Ok(Wrap {
        to,
        generation,
        sealed: sealed.ok_or(SealError::Key)?,
    })
}

/// Opens a wrap; `None` unless it holds the key the epoch's record commits to.
#[must_use]
pub fn open(
    wrap: &Wrap,
    place: Place,
    commit: &Hash,
    with: &EncryptionSecret,
) -> Option<ChannelKey> {
    let aad = aad(place, &wrap.to, wrap.generation, commit);
    let key = hpke_base::open(with, INFO, &aad, wrap.sealed.as_bytes())?;
    ChannelKey::committed(place, key.as_slice().try_into().ok()?, commit)
}

fn aad(place: Place, to: &HolderKey, generation: u32, commit: &Hash) -> Vec<u8> {
    Builder::default()
        .lp(place.channel.as_bytes())
        .u32(place.e)
        .lp(to.as_bytes())
        .u32(generation)
        .lp(commit.as_bytes())
        .into_vec()
}
