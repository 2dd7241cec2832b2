//! Why something was refused: one table of codes for the wire, the tools and the command line.
//!
//! A reject carries a code to act on, a safe text, and what is needed to try again. The cause of an
//! internal error stays in the server's log.

use crate::limit::TEXT_BYTES_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The longest code, in characters.
const CODE_CHARS_MAX: usize = 64;

macro_rules! codes {
    ($($(#[$meta:meta])* $variant:ident = $text:literal, $hint:literal;)*) => {
        /// What was refused, as a word that programs can act on. Words are only ever added.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$meta])* $variant,)*
            /// A code of a newer version.
            Unknown(Box<str>),
        }

        impl Code {
            /// Every known code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the word on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown(text) => text,
                }
            }

            /// Returns what the caller can do about it.
            #[must_use]
            pub const fn hint(&self) -> &'static str {
                match self {
                    $(Self::$variant => $hint,)*
                    Self::Unknown(_) => "update this program: the other side is newer",
                }
            }
        }

        impl From<&str> for Code {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    other => Self::Unknown(word(other)),
                }
            }
        }
    };
}

codes! {
    /// A frame or record that does not decode, or breaks a rule of its form.
    Malformed = "malformed", "this is a bug in the sending program";
    /// An operation this side does not know.
    UnknownOp = "unknown_op", "update the other side, or do without this operation";
    /// No common protocol version.
    Version = "version", "update the older side";
    /// Something is larger than its bound.
    TooLarge = "too_large", "send less, or in parts";
    /// The server's origin is not the one that was dialled.
    Origin = "origin", "dial one of the server's public URLs, or add this one with --public-url";
    /// A signature, key or proof is not valid.
    Unauthorized = "unauthorized", "check the key with `conclave key`; enrol this machine with `conclave machine add`";
    /// The key is not known here.
    UnknownKey = "unknown_key", "register, join with an invite, or enrol this machine";
    /// Known, but not allowed.
    Forbidden = "forbidden", "ask an admin of the channel or server";
    /// It does not exist, or the caller may not know that it does.
    NotFound = "not_found", "check the name; private channels need an invite";
    /// A name is taken.
    NameTaken = "name_taken", "choose another name";
    /// A name is not well-formed, or reserved.
    NameInvalid = "name_invalid", "use a-z, 0-9, '.', '_' and '-', at most 32 characters";
    /// A pinned handle is live already.
    HandleTaken = "handle_taken", "end the other session, or choose another name with --as";
    /// An invite is unknown, spent, expired or revoked.
    InviteInvalid = "invite_invalid", "ask for a new invite link";
    /// Registration is not open.
    RegistrationClosed = "registration_closed", "ask an admin for an invite link";
    /// The control chain moved on; read it and try again.
    CtlConflict = "ctl_conflict", "read the newer control entries and try again";
    /// The entry's epoch does not cover the membership.
    StaleEpoch = "stale_epoch", "rotate, or adopt the newer epoch, and seal again";
    /// The channel's key is not on this machine yet.
    KeysPending = "keys_pending", "wait: any member's machine that is online brings the key; nothing is sent in the clear";
    /// A message counter is not the next one.
    CounterGap = "counter_gap", "seal again with the expected counter";
    /// The same message id was used for other bytes.
    IdReuse = "id_reuse", "draw a new message id";
    /// A slot has another version than expected.
    VersionMismatch = "version_mismatch", "read the current value and decide again";
    /// Another session holds a claim on it.
    Claimed = "claimed", "wait until the claim lapses, ask its holder, or work on something else";
    /// The channel is frozen or closed.
    Frozen = "frozen", "wait until an admin thaws the channel";
    /// The operation is not possible in the channel's mode.
    Mode = "mode", "create another channel with the mode you need";
    /// Too much, too fast.
    RateLimited = "rate_limited", "wait as long as retry_after_ms says";
    /// Too many of something exist.
    LimitReached = "limit_reached", "remove some, or ask the admin for more";
    /// The recipient's mailbox is full.
    InboxFull = "inbox_full", "wait until the recipient reads";
    /// The causal depth is at its bound.
    HopLimit = "hop_limit", "let a human continue this conversation";
    /// The server has no room left.
    StorageFull = "storage_full", "free disk space on the server; reads still work";
    /// The server is going away.
    Draining = "draining", "reconnect after a moment";
    /// No answer in time; the outcome is unknown, and trying again is safe.
    Timeout = "timeout", "try again: the same message id is never delivered twice";
    /// There is no connection to the server.
    Offline = "offline", "check `conclave status`; queued messages go out on reconnect";
    /// The server failed.
    Internal = "internal", "see the server's log";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Code;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reject code")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Code, E> {
                Ok(Code::from(text))
            }
        }
        d.deserialize_str(Text)
    }
}

/// A refusal, as it crosses the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Reject {
    /// What was refused.
    pub code: Code,
    /// One safe English sentence part: lower case, no full stop, no secret, no internal cause.
    #[serde(deserialize_with = "printable")]
    pub message: String,
    /// When trying again makes sense, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// With `counter_gap`: the counter expected next. With `version_mismatch`: the current version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// Keeps of a peer's code what can be a word, so that it can be shown as it is.
fn word(text: &str) -> Box<str> {
    let fits = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '_');
    let word: String = text.chars().filter(fits).take(CODE_CHARS_MAX).collect();
    if word.is_empty() {
        "unknown".into()
    } else {
        word.into()
    }
}

/// Keeps of a peer's text what can be shown: one short line, without controls or changes of direction.
fn printable<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut kept = String::new();
    for c in text.chars() {
        let c = if hidden(c) { ' ' } else { c };
        if kept.len() + c.len_utf8() > TEXT_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    Ok(kept)
}

impl Reject {
    /// Makes a refusal without further facts.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
            expected: None,
        }
    }

    /// Adds when to try again.
    #[must_use]
    pub const fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Adds the counter or version that would have been right.
    #[must_use]
    pub const fn expected(mut self, value: u64) -> Self {
        self.expected = Some(value);
        self
    }
}
