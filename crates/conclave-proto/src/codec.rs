//! The two encodings of frames, chosen by WebSocket subprotocol: CBOR and JSON of one schema.
//!
//! Structs are maps with text keys, in both; binary fields are byte strings in CBOR and base64url
//! without padding in JSON. Unknown keys are ignored. Decoding is bounded by the frame size, checked
//! before anything is parsed, and refuses trailing bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How frames of one connection are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `conclave.v2.cbor`, binary messages.
    Cbor,
    /// `conclave.v2.json`, text messages.
    Json,
}

impl Encoding {
    /// Every encoding, in the order a server prefers them.
    pub const ALL: [Self; 2] = [Self::Cbor, Self::Json];

    /// Returns the WebSocket subprotocol that selects it.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Cbor => "conclave.v2.cbor",
            Self::Json => "conclave.v2.json",
        }
    }

    /// Returns the encoding of a subprotocol.
    #[must_use]
    pub fn from_subprotocol(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.subprotocol() == text)
    }

    /// Encodes a frame.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] above `max` bytes.
    pub fn encode<T: Serialize>(self, frame: &T, max: usize) -> Result<Vec<u8>, CodecError> {
        let bytes = match self {
            Self::Cbor => to_cbor(frame)?,
            Self::Json => {
                serde_json::to_vec(frame).map_err(|e| CodecError::Malformed(e.to_string()))?
            }
        };
        if bytes.len() > max {
            Err(CodecError::TooLarge { max })
        } else {
            Ok(bytes)
        }
    }

    /// Decodes a frame of at most `max` bytes.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8], max: usize) -> Result<T, CodecError> {
        if bytes.len() > max {
            return Err(CodecError::TooLarge { max });
        }
        match self {
            Self::Cbor => from_cbor(bytes),
            Self::Json => {
                serde_json::from_slice(bytes).map_err(|e| CodecError::Malformed(e.to_string()))
            }
        }
    }
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than allowed.
    #[error("the frame is larger than {max} bytes")]
    TooLarge {
        /// The bound.
        max: usize,
    },
    /// Not of the expected shape. The text names positions and field names, never contents of a body.
    #[error("the frame does not decode: {0}")]
    Malformed(String),
}

/// Encodes as CBOR.
///
/// # Errors
/// [`CodecError::Malformed`] for values CBOR cannot hold.
pub fn to_cbor<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    minicbor_serde::to_vec(value).map_err(|e| CodecError::Malformed(e.to_string()))
}

/// Decodes CBOR and refuses trailing bytes.
///
/// # Errors
/// [`CodecError::Malformed`].
pub fn from_cbor<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut decoder = minicbor_serde::Deserializer::new(bytes);
    let value = T::deserialize(&mut decoder).map_err(|e| CodecError::Malformed(e.to_string()))?;
    if decoder.decoder().position() == bytes.len() {
        Ok(value)
    } else {
        Err(CodecError::Malformed("bytes after the end".into()))
    }
}
