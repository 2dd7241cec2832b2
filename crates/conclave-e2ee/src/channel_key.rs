//! The key of one epoch of a channel, and everything that is sealed under it (SECURITY 2.2, 2.4, 2.5).

use crate::aead::{self, NONCE_LEN};
use crate::pad::{pad, unpad};
use crate::secret_bytes::SecretBytes;
use conclave_proto::bytes::Builder;
use conclave_proto::codec;
use conclave_proto::entry::{Envelope, Header, Kind, Parsed, Suite};
use conclave_proto::id::{Blob, ChannelId, EnvelopeNonce, Hash, SlotId};
use conclave_proto::key::Secret;
use conclave_proto::limit::{CIPHERTEXT_BYTES_MAX, TEXT_BYTES_MAX};
use conclave_proto::name::Name;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// An epoch of a channel: what a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The channel.
    pub channel: ChannelId,
    /// The epoch's number, from 1.
    pub e: u32,
}

/// The key of one epoch, with what is derived from it. Wiped on drop, never printed.
#[derive(Clone)]
pub struct ChannelKey {
    place: Place,
    key: Zeroizing<[u8; 32]>,
    message: Zeroizing<[u8; 32]>,
    state: Zeroizing<[u8; 32]>,
    memory: Zeroizing<[u8; 32]>,
    profile: Zeroizing<[u8; 32]>,
    commit: Hash,
}

/// Why something cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The header is for another channel, epoch, suite or kind than this key seals.
    #[error("the header does not fit the key")]
    Header,
    /// With its padding the body is larger than an envelope holds.
    #[error("the body is too large to be sealed")]
    TooLarge,
    /// The recipient's key is no usable point of the curve.
    #[error("the recipient's encryption key is not valid")]
    Key,
}

/// Why something does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It names another channel, epoch, suite or kind than this key opens.
    #[error("the entry is not sealed under this key")]
    Header,
    /// Header, nonce or ciphertext are not what was sealed.
    #[error("the seal is broken")]
    Broken,
    /// It opened, and its padding is not the one form of it.
    #[error("the padding is wrong")]
    Padding,
}

/// What every epoch's record seals for the members: what the server must not know of the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Hides the names of state items.
    pub index_key: IndexKey,
    /// The channel's name, where the server does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// What the channel is about; none if what was sealed breaks the rule for topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "topic")]
    pub topic: Option<String>,
}

/// Reads a topic: nobody else checked what is sealed, and it is shown to people.
pub(crate) fn topic<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let fits =
        |topic: &String| topic.len() <= TEXT_BYTES_MAX && !topic.chars().any(char::is_control);
    Ok(Option::<String>::deserialize(d)?.filter(fits))
}

/// A channel's index key: 32 random bytes. Wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexKey(SecretBytes);

impl IndexKey {
    /// Wraps random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(SecretBytes::new(&bytes))
    }

    /// Returns the index key of a channel in mode `signed`, which everybody can compute (DECISIONS 16).
    #[must_use]
    pub fn public(channel: &ChannelId) -> Self {
        let seed = [&b"conclave/v1/public-index"[..], channel.as_bytes()].concat();
        Self::new(*conclave_proto::bytes::sha256(&seed).as_bytes())
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Returns how the server knows the state item of this name: a keyed hash.
    #[must_use]
    pub fn slot(&self, name: &str) -> SlotId {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(name.as_bytes());
        let hash = mac.finalize().into_bytes();
        let mut id = [0; SlotId::LEN];
        id.copy_from_slice(&hash[..SlotId::LEN]);
        SlotId::new(id)
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey(…)")
    }
}

impl ChannelKey {
    /// Takes 32 bytes as the key of an epoch: fresh random ones, or what a wrap or box gave.
    #[must_use]
    pub fn new(place: Place, key: &[u8; 32]) -> Self {
        Self {
            place,
            key: Zeroizing::new(*key),
            message: derive(key, place, "msg"),
            state: derive(key, place, "state"),
            memory: derive(key, place, "memory"),
            profile: derive(key, place, "profile"),
            commit: Hash::new(*derive(key, place, "commit")),
        }
    }

    /// Takes bytes as the key of an epoch if they are the ones its record commits to (rule 6).
    #[must_use]
    pub fn committed(place: Place, key: &[u8; 32], commit: &Hash) -> Option<Self> {
        let key = Self::new(place, key);
        let same = key.commit.as_bytes().ct_eq(commit.as_bytes());
        bool::from(same).then_some(key)
    }

    /// Returns what it is the key of.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Returns the 32 bytes, for the keystore.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.key
    }

    /// Returns the commitment for the epoch's record.
    #[must_use]
    pub const fn commit(&self) -> Hash {
        self.commit
    }

    /// Derives a key for another purpose than envelopes; `msg`, `state`, `memory`, `profile`, `bundle`,
    /// `prev` and `commit` are taken.
    fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        derive(&self.key, self.place, label)
    }

    fn key_for(&self, kind: Kind) -> Option<&[u8; 32]> {
        match kind {
            Kind::Message => Some(&self.message),
            Kind::State => Some(&self.state),
            Kind::Memory => Some(&self.memory),
            Kind::Profile => Some(&self.profile),
            Kind::Whisper | Kind::Receipt => None,
        }
    }

    fn fits(&self, header: &Header) -> bool {
        let Place { channel, e } = self.place;
        header.suite == Suite::One && header.channel == channel && header.epoch == e
    }

    /// Seals a body under this epoch's key and signs it. `nonce` is 24 fresh random bytes.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        &self,
        header: &Header,
        body: &[u8],
        nonce: [u8; NONCE_LEN],
        signer: &Secret,
    ) -> Result<Envelope, SealError> {
        let key = self.key_for(header.route.kind());
        let key = key.filter(|_| self.fits(header)).ok_or(SealError::Header)?;
        let header = header.to_bytes();
        let ct = aead::seal(key, &nonce, &header, &pad(body));
        if ct.len() > CIPHERTEXT_BYTES_MAX {
            return Err(SealError::TooLarge);
        }
        let nonce = EnvelopeNonce::new(nonce);
        Ok(Envelope::signed(header, nonce, ct.into(), signer))
    }

    /// Opens a body. The signature is not looked at: see [`Parsed::verify`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, parsed: &Parsed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let key = self.key_for(parsed.header.route.kind());
        let key = key
            .filter(|_| self.fits(&parsed.header))
            .ok_or(OpenError::Header)?;
        let Envelope {
            header, nonce, ct, ..
        } = &parsed.envelope;
        let padded = aead::open(key, nonce.as_bytes(), header, ct).ok_or(OpenError::Broken)?;
        let plain = unpad(&padded).ok_or(OpenError::Padding)?;
        Ok(Zeroizing::new(plain.to_vec()))
    }

    /// Seals the key of the epoch before this one: the way back for who joins later.
    #[must_use]
    pub fn seal_previous(&self, previous: &Self, nonce: [u8; NONCE_LEN]) -> Blob {
        let aad = self.previous_aad();
        aead::seal_box(&self.derive("prev"), &nonce, &aad, previous.bytes())
    }

    /// Opens the key of the epoch before, if it is the one that epoch's record commits to.
    #[must_use]
    pub fn open_previous(&self, sealed: &Blob, commit: &Hash) -> Option<Self> {
        let aad = self.previous_aad();
        let bytes = aead::open_box(&self.derive("prev"), &aad, sealed)?;
        let place = Place {
            e: self.place.e.checked_sub(1)?,
            ..self.place
        };
        Self::committed(place, bytes.as_slice().try_into().ok()?, commit)
    }

    fn previous_aad(&self) -> Vec<u8> {
        let Place { channel, e } = self.place;
        Builder::labelled("conclave/v1/prev")
            .raw(channel.as_bytes())
            .u32(e.saturating_sub(1))
            .u32(e)
            .into_vec()
    }

    /// Seals what the epoch's record tells the members.
    #[must_use]
    pub fn seal_bundle(&self, bundle: &Bundle, nonce: [u8; NONCE_LEN]) -> Blob {
        self.seal_facts("conclave/v1/bundle", bundle, nonce)
    }

    /// Opens what the epoch's record tells the members.
    #[must_use]
    pub fn open_bundle(&self, sealed: &Blob) -> Option<Bundle> {
        self.open_facts("conclave/v1/bundle", sealed)
    }

    /// Seals a new name and topic for a `meta` record of this epoch.
    #[must_use]
    pub fn seal_name(&self, bundle: &Bundle, nonce: [u8; NONCE_LEN]) -> Blob {
        self.seal_facts("conclave/v1/name", bundle, nonce)
    }

    /// Opens the box of a `meta` record of this epoch.
    #[must_use]
    pub fn open_name(&self, sealed: &Blob) -> Option<Bundle> {
        self.open_facts("conclave/v1/name", sealed)
    }

    fn seal_facts(&self, label: &str, bundle: &Bundle, nonce: [u8; NONCE_LEN]) -> Blob {
        let plain = codec::to_cbor(bundle).map(Zeroizing::new);
        let plain = pad(&plain.expect("bytes and texts are CBOR"));
        let aad = self.facts_aad(label);
        aead::seal_box(&self.derive("bundle"), &nonce, &aad, &plain)
    }

    fn open_facts(&self, label: &str, sealed: &Blob) -> Option<Bundle> {
        let padded = aead::open_box(&self.derive("bundle"), &self.facts_aad(label), sealed)?;
        codec::from_cbor(unpad(&padded)?).ok()
    }

    fn facts_aad(&self, label: &str) -> Vec<u8> {
        let Place { channel, e } = self.place;
        Builder::labelled(label)
            .raw(channel.as_bytes())
            .u32(e)
            .into_vec()
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ChannelKey({} epoch {})",
            self.place.channel, self.place.e
        )
    }
}

/// `k(label)` of SECURITY 2.2.
fn derive(key: &[u8; 32], place: Place, label: &str) -> Zeroizing<[u8; 32]> {
    let info = Builder::labelled("conclave/v1/epoch")
        .lp(label.as_bytes())
        .lp(place.channel.as_bytes())
        .u32(place.e)
        .into_vec();
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, key)
        .expand(&info, out.as_mut())
        .expect("32 bytes are within HKDF's bound");
    out
}
