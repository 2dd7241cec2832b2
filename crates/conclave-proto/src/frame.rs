//! Frames: two enums, one per direction, with request ids and room for what is not known yet.
//!
//! Every union is written as a map with one key, the variant's word: `{"req":{"id":1,"op":{…}}}`.
//! A word this version does not know becomes `Unknown`, which requests answer with `unknown_op` and
//! everything else ignores. Words and fields are only ever added. `docs/protocol.md` is normative.

/// Declares a union that travels as a one-entry map, with an `Unknown` arm for other words.
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$vmeta:meta])* $variant:ident($ty:ty) = $word:literal,)*
    }) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$vmeta])* $variant($ty),)*
            /// A word of a newer version; its value was skipped.
            Unknown(Box<str>),
        }

        impl $name {
            /// Every word this version knows.
            pub const WORDS: &[&str] = &[$($word,)*];

            /// Returns the word that names the variant on the wire.
            #[must_use]
            pub fn word(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $word,)*
                    Self::Unknown(word) => word,
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = s.serialize_map(Some(1))?;
                match self {
                    $(Self::$variant(value) => map.serialize_entry($word, value)?,)*
                    Self::Unknown(word) => map.serialize_entry(word, &())?,
                }
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Union;
                impl<'de> serde::de::Visitor<'de> for Union {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("a ", stringify!($name), ": a map with one key"))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$name, A::Error> {
                        use serde::de::Error as _;
                        let word: crate::frame::Word<'_> = map
                            .next_key()?
                            .ok_or_else(|| A::Error::invalid_length(0, &self))?;
                        let value = match word.0.as_ref() {
                            $($word => $name::$variant(map.next_value()?),)*
                            other => {
                                map.next_value::<serde::de::IgnoredAny>()?;
                                $name::Unknown(other.chars().take(64).collect::<String>().into())
                            }
                        };
                        match map.next_key::<serde::de::IgnoredAny>()? {
                            None => Ok(value),
                            Some(_) => Err(A::Error::invalid_length(2, &self)),
                        }
                    }
                }
                d.deserialize_map(Union)
            }
        }
    };
}
pub(crate) use wire_enum;

pub mod client;
pub mod event;
pub mod op;
pub mod reply;
pub mod server;

pub use client::{Ack, Auth, ClientFrame, Cursor, Hello, Request};
pub use event::Event;
pub use op::Op;
pub use reply::Reply;
pub use server::{Challenge, Goodbye, Limits, Outcome, Ready, Response, ServerFrame};

/// The protocol versions this build speaks, best first.
pub const VERSIONS: [u16; 1] = [2];

/// The key of a union, borrowed where the input allows it.
pub(crate) struct Word<'a>(pub(crate) std::borrow::Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Word<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> serde::de::Visitor<'de> for Text {
            type Value = Word<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a word")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Word<'de>, E> {
                Ok(Word(text.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Word<'de>, E> {
                Ok(Word(text.to_owned().into()))
            }
        }
        d.deserialize_str(Text)
    }
}
