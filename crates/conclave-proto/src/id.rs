//! Identifiers: fixed-size byte strings, each its own type.
//!
//! In CBOR an id is a byte string, in JSON and for people it is base64url without padding. Ids are
//! made by whoever has the right to name the thing; this module only holds and prints them.

use crate::bytes::Builder;
use crate::name::SessionPath;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;

/// Encodes bytes as base64url without padding, the text form of every binary field.
#[must_use]
pub fn to_text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding; `None` for anything else.
#[must_use]
pub fn from_text(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A text was not the base64url form of an id of the expected length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected base64url without padding of {expected} bytes")]
pub struct BadId {
    /// How many bytes the id has.
    pub expected: usize,
}

macro_rules! fixed_bytes {
    ($($(#[$meta:meta])* $name:ident[$len:literal];)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// How many bytes it has.
            pub const LEN: usize = $len;

            /// Wraps the bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Wraps a slice of exactly the right length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&crate::id::to_text(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), crate::id::to_text(&self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::id::BadId;
            fn from_str(text: &str) -> Result<Self, crate::id::BadId> {
                crate::id::from_text(text)
                    .and_then(|bytes| Self::from_slice(&bytes))
                    .ok_or(crate::id::BadId { expected: $len })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                crate::id::serialize_bytes(&self.0, s)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                crate::id::deserialize_bytes(d, $len, |bytes| Self::from_slice(bytes))
            }
        }
    )*};
}
pub(crate) use fixed_bytes;

fixed_bytes! {
    /// SHA-256 of something.
    Hash[32];
    /// A user: SHA-256 of the genesis record of the identity log.
    UserId[32];
    /// A server: SHA-256 of its first public key. Key rotation does not change it.
    ServerId[32];
    /// A channel, drawn at random by its creator.
    ChannelId[16];
    /// A mailbox, derived from the session path it belongs to.
    MailboxId[16];
    /// A message, drawn at random by its sender: the idempotency key of `append`.
    MsgId[16];
    /// An invite, derived from its public key.
    InviteId[16];
    /// A permission request, drawn at random by the asking session.
    RequestId[16];
    /// A state item, as the server sees it: a keyed hash of its name.
    SlotId[16];
    /// One live connection, drawn by the server.
    SessionId[16];
    /// One client process lineage: who holds the same instance takes its place over silently.
    Instance[16];
    /// One sender process: the scope of a message counter.
    SenderSid[8];
    /// Names the encryption key of a recipient machine (zero where none applies).
    RecipientKeyId[8];
    /// A handshake nonce.
    HandshakeNonce[32];
    /// The nonce slot of an envelope (zero in suite 0, and where HPKE seals).
    EnvelopeNonce[24];
    /// A channel key sealed to one holder: `enc[32] ‖ ct[48]`.
    SealedKey[80];
}

/// One ordered log: a channel's, or one session's mailbox.
///
/// On the wire it is 17 bytes: a tag (1 channel, 2 mailbox) and the 16-byte id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogId {
    /// The log of a channel.
    Channel(ChannelId),
    /// The mailbox of one session path.
    Mailbox(MailboxId),
}

impl LogId {
    /// Returns the 17-byte form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 17] {
        let (tag, id) = match &self {
            Self::Channel(id) => (1, id.as_bytes()),
            Self::Mailbox(id) => (2, id.as_bytes()),
        };
        let mut out = [tag; 17];
        out[1..].copy_from_slice(id);
        out
    }

    /// Reads the 17-byte form.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (1, id) => ChannelId::from_slice(id).map(Self::Channel),
            (2, id) => MailboxId::from_slice(id).map(Self::Mailbox),
            _ => None,
        }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_text(&self.to_bytes()))
    }
}

impl serde::Serialize for LogId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        serialize_bytes(&self.to_bytes(), s)
    }
}

impl<'de> serde::Deserialize<'de> for LogId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        deserialize_bytes(d, 17, Self::from_slice)
    }
}

impl MailboxId {
    /// Returns the mailbox of `path`, whose user part is `user` (a name alone could be re-issued).
    #[must_use]
    pub fn of(user: &UserId, path: &SessionPath) -> Self {
        let hash = Builder::labelled("conclave/v1/mailbox")
            .lp(user.as_bytes())
            .lp(path.machine.as_str().as_bytes())
            .lp(path.handle.as_str().as_bytes())
            .sha256();
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        Self(id)
    }
}

/// Serialises bytes as a byte string, or as base64url where the format is for people.
pub(crate) fn serialize_bytes<S: serde::Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    if s.is_human_readable() {
        s.serialize_str(&to_text(bytes))
    } else {
        s.serialize_bytes(bytes)
    }
}

/// Deserialises what [`serialize_bytes`] wrote; `len` only words the error.
pub(crate) fn deserialize_bytes<'de, D: serde::Deserializer<'de>, T>(
    d: D,
    len: usize,
    make: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, D::Error> {
    struct Bytes<F> {
        len: usize,
        make: F,
    }
    impl<T, F: Fn(&[u8]) -> Option<T>> serde::de::Visitor<'_> for Bytes<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} bytes", self.len)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            let bytes =
                from_text(text).ok_or_else(|| E::custom("not base64url without padding"))?;
            self.visit_bytes(&bytes)
        }
        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<T, E> {
            (self.make)(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
        }
    }
    let visitor = Bytes { len, make };
    if d.is_human_readable() {
        d.deserialize_str(visitor)
    } else {
        d.deserialize_bytes(visitor)
    }
}

/// A byte string of variable length, opaque to whoever carries it. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blob(::bytes::Bytes);

impl Blob {
    /// Returns the bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Returns how many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(::bytes::Bytes::copy_from_slice(bytes))
    }
}

impl std::ops::Deref for Blob {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Prints the length only: a blob may hold a message body.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} B)", self.0.len())
    }
}

impl serde::Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        serialize_bytes(&self.0, s)
    }
}

impl<'de> serde::Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        deserialize_bytes(d, 0, |bytes| Some(Self::from(bytes)))
    }
}
