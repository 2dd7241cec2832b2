//! The body of an envelope: what members read and the server, in mode `e2e`, does not.
//!
//! CBOR with text keys; unknown keys are ignored, so that later versions can add some. In suite 0
//! it is the envelope's `ct` as it stands, in suite 1 it is padded and sealed first.

use crate::canonical::words;
use crate::codec;
use crate::desk::{Request, Verdict};
use crate::id::{Blob, Hash, MsgId};
use crate::limit::{BODY_BYTES_MAX, RECEIPTS_MAX, STATE_KEY_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX};
use crate::profile::{GROUPS_MAX, Group, Profile};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// What is inside an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The words of a message, whisper or memory item, at most [`BODY_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The value of a state item, as JSON text, at most [`BODY_BYTES_MAX`] bytes; absent: it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The message this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MsgId>,
    /// The first message of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<MsgId>,
    /// Handles the message names with an `@`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// The groups a channel message is for; none: everybody. Receivers decide by what they carry then
    /// (DECISIONS 23).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Group>,
    /// How urgent it is; a word of a newer version is taken as none, which is `next`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "word")]
    pub priority: Option<Priority>,
    /// The sender waits for an answer that names this message in `reply_to`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expects_reply: bool,
    /// The sender wants to know what becomes of it: see [`Receipt`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub receipt: bool,
    /// A state item's key, at most [`STATE_KEY_BYTES_MAX`] bytes. The slot in the header is made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A memory item's tags, at most [`TAGS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What became of messages of the recipient, at most [`RECEIPTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<Receipt>,
    /// A tool call that waits for a verdict; only in an entry of kind 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<Request>>,
    /// A verdict on one; only in an entry of kind 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Box<Verdict>>,
    /// What the sender says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// The newest control record the sender knew: its counter and hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctl_head: Option<Head>,
    /// The newest record of the sender's own identity log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ident_head: Option<Head>,
    /// The newest entry of the log the sender had seen: its seq and hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Head>,
}

words! {
    /// How urgent a message is; the recipient decides what that does to it.
    pub enum Priority {
        /// It interrupts.
        Now = "now",
        /// It waits for the end of the turn.
        Next = "next",
        /// It waits to be fetched.
        Low = "low",
    }
}

words! {
    /// What a recipient says became of a message.
    pub enum Fate {
        /// A tool call returned it, or an answer named it: the model has it.
        InContext = "in_context",
        /// The recipient's human muted the sender or the place: the model does not get it.
        Blocked = "blocked",
    }
}

/// What became of one message, in an entry of kind 5 to its sender's mailbox. Who says it is the
/// entry's sender, and it speaks for itself alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The message.
    pub id: MsgId,
    /// What became of it; a word of a newer version says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "word")]
    pub fate: Option<Fate>,
    /// When, by the recipient's clock.
    pub at: UnixMs,
}

/// The newest element of a chain: its number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// Its number in the chain.
    pub n: u64,
    /// Its hash.
    pub hash: Hash,
}

/// A body that is no body, or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Not CBOR of the right shape.
    #[error("the body does not decode")]
    Malformed,
    /// Text or data above [`BODY_BYTES_MAX`].
    #[error("a message has at most 65536 bytes")]
    TooLarge,
    /// Another part beyond its bound.
    #[error("a part of the body is beyond its bound: {0}")]
    Bound(&'static str),
}

impl Body {
    /// Makes the body of a plain message.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: Some(text.into()),
            ..Self::default()
        }
    }

    /// Returns the bytes to seal, or to send in suite 0.
    ///
    /// # Errors
    /// [`BadBody::TooLarge`].
    pub fn to_bytes(&self) -> Result<Blob, BadBody> {
        self.check()?;
        codec::to_cbor(self)
            .map(Into::into)
            .map_err(|_| BadBody::Malformed)
    }

    /// Reads an opened body.
    ///
    /// # Errors
    /// [`BadBody`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadBody> {
        let body: Self = codec::from_cbor(bytes).map_err(|_| BadBody::Malformed)?;
        body.check()?;
        Ok(body)
    }

    fn check(&self) -> Result<(), BadBody> {
        let fits = |s: &Option<String>| s.as_ref().is_none_or(|s| s.len() <= BODY_BYTES_MAX);
        if !fits(&self.text) || !fits(&self.data) {
            return Err(BadBody::TooLarge);
        }
        let key = self.key.as_ref().map_or(0, String::len);
        let tags = self.tags.iter().all(|tag| tag.len() <= TAG_BYTES_MAX);
        let bounds = [
            (key <= STATE_KEY_BYTES_MAX, "key"),
            (self.tags.len() <= TAGS_MAX && tags, "tags"),
            (self.to.len() <= GROUPS_MAX, "to"),
            (self.receipts.len() <= RECEIPTS_MAX, "receipts"),
            (self.profile.as_ref().is_none_or(Profile::fits), "profile"),
            (self.request.as_ref().is_none_or(|r| r.fits()), "request"),
        ];
        match bounds.iter().find(|(fits, _)| !fits) {
            Some((_, what)) => Err(BadBody::Bound(what)),
            None => Ok(()),
        }
    }
}

/// An optional word of a closed list; one that is not in this version's list is read as none.
pub(crate) mod word {
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// A closed list of words.
    pub(crate) trait Word: Copy {
        fn word(self) -> &'static str;
        fn find(word: &str) -> Option<Self>;
    }

    macro_rules! word {
        ($($name:ty),*) => {$(
            impl Word for $name {
                fn word(self) -> &'static str {
                    self.as_str()
                }
                fn find(word: &str) -> Option<Self> {
                    Self::from_word(word)
                }
            }
        )*};
    }
    word!(
        super::Priority,
        super::Fate,
        crate::profile::Status,
        crate::profile::WakePath
    );

    #[expect(clippy::ref_option, reason = "serde hands the field over like this")]
    pub(crate) fn serialize<T: Word, S: Serializer>(
        word: &Option<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match word {
            Some(word) => s.serialize_str(word.word()),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T: Word, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<T>, D::Error> {
        let word = Option::<String>::deserialize(d)?;
        Ok(word.and_then(|word| T::find(&word)))
    }
}
