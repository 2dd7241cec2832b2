//! The box beside an invite: what the holder of the link needs and the server must not have
//! (SECURITY 2.7).

use crate::aead::{self, NONCE_LEN};
use crate::pad::{pad, unpad};
use crate::secret_bytes::SecretBytes;
use crate::{ChannelKey, IndexKey, Place};
use conclave_proto::bytes::Builder;
use conclave_proto::codec;
use conclave_proto::id::{Blob, ChannelId, Hash, InviteId};
use conclave_proto::invite::LinkSecret;
use conclave_proto::name::Name;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What a joiner learns from the link, whoever the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteBox {
    /// The hash of the channel's first record: no other channel can be shown in its place.
    pub genesis: Hash,
    /// The channel's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// What it is about; none if what was sealed breaks the rule for topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::channel_key::topic")]
    pub topic: Option<String>,
    /// The index key (mode `e2e`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_key: Option<IndexKey>,
    /// The newest epoch when the invite was made, and its key where history is `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<BoxedKey>,
}

/// A channel key inside a box. Wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxedKey {
    /// The epoch.
    pub e: u32,
    key: SecretBytes,
}

impl BoxedKey {
    /// Boxes a channel key.
    #[must_use]
    pub fn new(key: &ChannelKey) -> Self {
        Self {
            e: key.place().e,
            key: SecretBytes::new(key.bytes()),
        }
    }

    /// Returns the key, if it is the one the epoch's record commits to.
    #[must_use]
    pub fn committed(&self, channel: ChannelId, commit: &Hash) -> Option<ChannelKey> {
        let place = Place { channel, e: self.e };
        ChannelKey::committed(place, self.key.as_bytes(), commit)
    }
}

impl std::fmt::Debug for BoxedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BoxedKey(epoch {})", self.e)
    }
}

/// Seals the box of an invite. `nonce` is 24 fresh random bytes.
#[must_use]
pub fn seal(
    content: &InviteBox,
    secret: &LinkSecret,
    channel: &ChannelId,
    invite: &InviteId,
    nonce: [u8; NONCE_LEN],
) -> Blob {
    let plain = codec::to_cbor(content).map(Zeroizing::new);
    let plain = pad(&plain.expect("bytes, texts and numbers are CBOR"));
    aead::seal_box(&box_key(secret), &nonce, &aad(channel, invite), &plain)
}

/// Opens the box of an invite.
#[must_use]
pub fn open(
    sealed: &Blob,
    secret: &LinkSecret,
    channel: &ChannelId,
    invite: &InviteId,
) -> Option<InviteBox> {
    let padded = aead::open_box(&box_key(secret), &aad(channel, invite), sealed)?;
    codec::from_cbor(unpad(&padded)?).ok()
}

fn aad(channel: &ChannelId, invite: &InviteId) -> Vec<u8> {
    Builder::labelled("conclave/v1/invite-box")
        .raw(channel.as_bytes())
        .raw(invite.as_bytes())
        .into_vec()
}

fn box_key(secret: &LinkSecret) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret.as_bytes())
        .expand(b"conclave/v1/invite-box", key.as_mut())
        .expect("32 bytes are within HKDF's bound");
    key
}
