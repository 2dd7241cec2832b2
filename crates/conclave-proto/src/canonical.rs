//! Deterministic CBOR (RFC 8949 4.2.1) for signed bodies: one array of plain items, one encoding.
//!
//! Reading is lenient; [`exact`] then encodes what was read again and compares, so that only the
//! one canonical form of a body is ever accepted. No maps, floats or tags.

use crate::body::Head;
use crate::id::{Blob, ChannelId, Hash, InviteId, ServerId, UserId};
use crate::key::{EncryptionKey, InviteKey, MachineKey, OwnerKey, ServerKey, Signature};
use crate::name::{Name, SessionPath};
use crate::time::UnixMs;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use std::collections::BTreeSet;

/// The version that stands first in every signed body.
pub(crate) const VERSION: u64 = 1;

/// Something that is one CBOR item.
pub(crate) trait Item: Sized {
    fn put(&self, w: &mut Writer);
    fn take(r: &mut Reader<'_>) -> Option<Self>;
}

/// Collects the items of one array.
#[derive(Default)]
pub(crate) struct Writer {
    items: u64,
    bytes: Vec<u8>,
}

type Written<'a, 'b> =
    Result<&'a mut Encoder<&'b mut Vec<u8>>, minicbor::encode::Error<std::convert::Infallible>>;

impl Writer {
    /// Returns the array of the items that `fill` puts.
    pub(crate) fn array(fill: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut inner = Self::default();
        fill(&mut inner);
        let mut out = Self::default();
        out.cbor(|e| e.array(inner.items));
        out.bytes.append(&mut inner.bytes);
        out.bytes
    }

    /// Puts a nested array.
    pub(crate) fn nested(&mut self, fill: impl FnOnce(&mut Self)) {
        self.items += 1;
        self.bytes.append(&mut Self::array(fill));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.cbor(|e| e.str(text));
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.cbor(|e| e.bytes(bytes));
    }

    fn cbor(
        &mut self,
        write: impl for<'a, 'b> FnOnce(&'a mut Encoder<&'b mut Vec<u8>>) -> Written<'a, 'b>,
    ) {
        self.items += 1;
        write(&mut Encoder::new(&mut self.bytes)).expect("writing to memory cannot fail");
    }
}

/// Reads items in order; every method returns `None` for anything unexpected.
pub(crate) struct Reader<'a>(Decoder<'a>);

impl<'a> Reader<'a> {
    /// Opens an array. Its length is checked by [`exact`].
    pub(crate) fn array(&mut self) -> Option<u64> {
        self.0.array().ok()?
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        self.0.str().ok()
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        self.0.bytes().ok()
    }

    pub(crate) fn item<T: Item>(&mut self) -> Option<T> {
        T::take(self)
    }
}

/// Reads a body and returns it only if `put` gives the very bytes back.
pub(crate) fn exact<T>(
    bytes: &[u8],
    take: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    put: impl FnOnce(&T) -> Vec<u8>,
) -> Option<T> {
    let value = take(&mut Reader(Decoder::new(bytes)))?;
    (put(&value) == bytes).then_some(value)
}

macro_rules! byte_items {
    ($($name:ident),*) => {$(
        impl Item for $name {
            fn put(&self, w: &mut Writer) {
                w.bytes(self.as_bytes());
            }
            fn take(r: &mut Reader<'_>) -> Option<Self> {
                Self::from_slice(r.bytes()?)
            }
        }
    )*};
}
byte_items!(
    ChannelId,
    Hash,
    InviteId,
    ServerId,
    UserId,
    EncryptionKey,
    InviteKey,
    MachineKey,
    OwnerKey,
    ServerKey,
    Signature
);

macro_rules! text_items {
    ($($name:ident),*) => {$(
        impl Item for $name {
            fn put(&self, w: &mut Writer) {
                w.text(&self.to_string());
            }
            fn take(r: &mut Reader<'_>) -> Option<Self> {
                r.text()?.parse().ok()
            }
        }
    )*};
}
text_items!(Name, SessionPath, String);

impl Item for u64 {
    fn put(&self, w: &mut Writer) {
        w.cbor(|e| e.u64(*self));
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        r.0.u64().ok()
    }
}

impl Item for u32 {
    fn put(&self, w: &mut Writer) {
        w.cbor(|e| e.u32(*self));
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        r.0.u32().ok()
    }
}

impl Item for bool {
    fn put(&self, w: &mut Writer) {
        w.cbor(|e| e.bool(*self));
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        r.0.bool().ok()
    }
}

impl Item for UnixMs {
    fn put(&self, w: &mut Writer) {
        self.0.put(w);
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        r.item().map(Self)
    }
}

impl Item for Blob {
    fn put(&self, w: &mut Writer) {
        w.bytes(self);
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        r.bytes().map(Self::from)
    }
}

impl Item for [u8; 16] {
    fn put(&self, w: &mut Writer) {
        w.bytes(self);
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        r.bytes()?.try_into().ok()
    }
}

impl<T: Item> Item for Option<T> {
    fn put(&self, w: &mut Writer) {
        match self {
            Some(value) => value.put(w),
            None => w.cbor(|e| e.null()),
        }
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        if r.0.datatype().ok()? == Type::Null {
            r.0.null().ok()?;
            return Some(None);
        }
        r.item().map(Some)
    }
}

impl<T: Item> Item for Vec<T> {
    fn put(&self, w: &mut Writer) {
        w.nested(|w| self.iter().for_each(|item| item.put(w)));
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        let len = r.array()?;
        (0..len).map(|_| r.item()).collect()
    }
}

impl<T: Item + Ord> Item for BTreeSet<T> {
    fn put(&self, w: &mut Writer) {
        w.nested(|w| self.iter().for_each(|item| item.put(w)));
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        let len = r.array()?;
        (0..len).map(|_| r.item()).collect()
    }
}

/// Makes a struct one nested array of its fields in the order named.
macro_rules! array_item {
    ($name:ident { $($field:ident),* }) => {
        impl crate::canonical::Item for $name {
            fn put(&self, w: &mut crate::canonical::Writer) {
                w.nested(|w| { $(self.$field.put(w);)* });
            }
            fn take(r: &mut crate::canonical::Reader<'_>) -> Option<Self> {
                r.array()?;
                Some(Self { $($field: r.item()?),* })
            }
        }
    };
}
pub(crate) use array_item;

array_item!(Head { n, hash });

/// Declares an enum of words that people, JSON and signed bodies share.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)* }

        impl $name {
            /// Returns the word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Returns what the word stands for.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl crate::canonical::Item for $name {
            fn put(&self, w: &mut crate::canonical::Writer) {
                w.text(self.as_str());
            }
            fn take(r: &mut crate::canonical::Reader<'_>) -> Option<Self> {
                Self::from_word(r.text()?)
            }
        }
    };
}
pub(crate) use words;

/// Declares the types of one kind of record: each has a word, and fields that stand in the body in
/// the order declared.
macro_rules! acts {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$vmeta:meta])* $variant:ident = $word:literal {
            $($(#[$fmeta:meta])* $field:ident: $ty:ty,)*
        })*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vmeta])* $variant { $($(#[$fmeta])* $field: $ty,)* },)*
        }

        impl $name {
            /// Returns the word that stands for the type in the record.
            #[must_use]
            pub const fn word(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $word,)* }
            }

            fn put(&self, w: &mut crate::canonical::Writer) {
                match self {
                    $(Self::$variant { $($field),* } => { $(crate::canonical::Item::put($field, w);)* })*
                }
                let _ = w;
            }

            fn take(word: &str, r: &mut crate::canonical::Reader<'_>) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant { $($field: r.item()?),* }),)*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use acts;
