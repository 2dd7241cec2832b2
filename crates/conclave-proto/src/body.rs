//! The body of an envelope: what members read and the server, in mode `e2e`, does not.
//!
//! CBOR with text keys; unknown keys are ignored, so that later versions can add some. In suite 0
//! it is the envelope's `ct` as it stands, in suite 1 it is padded and sealed first.

use crate::codec;
use crate::id::{Blob, Hash, MsgId};
use crate::limit::BODY_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// What is inside an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The words of a message or whisper, at most [`BODY_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The value of a state or memory item, as JSON text, at most [`BODY_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The message this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MsgId>,
    /// The first message of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<MsgId>,
    /// Session paths, names or groups the message names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
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
        if fits(&self.text) && fits(&self.data) {
            Ok(())
        } else {
            Err(BadBody::TooLarge)
        }
    }
}
