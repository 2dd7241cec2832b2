//! How an entry is written into one blob, as small as it can be.
//!
//! `0 ‖ record`, or `flags ‖ u16 header length ‖ header ‖ [nonce] ‖ sig ‖ body`, where the constant
//! label in front of every header and an all-zero nonce are left out.

use conclave_proto::bytes::{Builder, Reader};
use conclave_proto::entry::{EntryBody, Envelope, Header, Route};
use conclave_proto::id::{Blob, EnvelopeNonce};
use conclave_proto::key::Signature;

const CTL: u8 = 0;
const ENV: u8 = 1;
const NONCE: u8 = 2;
const PLAIN_HEADER: u8 = 4;
const ZERO_NONCE: EnvelopeNonce = EnvelopeNonce::new([0; EnvelopeNonce::LEN]);

fn label() -> Vec<u8> {
    Builder::labelled("conclave/v1/header").into_vec()
}

/// Returns the bytes of `body` in a page, before framing.
#[must_use]
pub fn size(body: &EntryBody) -> usize {
    match body {
        EntryBody::Env(env) => {
            env.header.len() + EnvelopeNonce::LEN + Signature::LEN + env.ct.len()
        }
        EntryBody::Ctl(rec) => rec.len(),
        EntryBody::Unknown(word) => word.len(),
    }
}

/// Whether and when retention may remove an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Keep {
    /// Never.
    Always,
    /// Once a newer entry was written under this key. State: the slot. Memory: the item and who wrote
    /// it, so that nobody's retraction removes another user's item.
    Newest(Vec<u8>),
    /// As soon as it is old.
    Young,
}

impl Keep {
    /// Returns what holds for an entry.
    #[must_use]
    pub fn of(body: &EntryBody) -> Self {
        let EntryBody::Env(env) = body else {
            return Self::Always;
        };
        let header = Header::parse(&env.header);
        header
            .and_then(|h| key(&h))
            .map_or(Self::Young, Self::Newest)
    }
}

/// Returns the key that a state or memory item is written under; the two have different lengths.
#[must_use]
pub fn key(header: &Header) -> Option<Vec<u8>> {
    match &header.route {
        Route::State(slot, _) => Some(slot.as_bytes().to_vec()),
        Route::Memory(item, _) => {
            let user = header.sender.user.as_str().as_bytes();
            Some([item.as_bytes(), &b":"[..], user].concat())
        }
        Route::Everyone | Route::Whisper(_) | Route::Receipt(_) | Route::Profile => None,
    }
}

/// Writes an envelope.
#[must_use]
pub fn env_to_bytes(env: &Envelope) -> Vec<u8> {
    let label = label();
    let mut flags = ENV;
    let header = env
        .header
        .strip_prefix(label.as_slice())
        .unwrap_or_else(|| {
            flags |= PLAIN_HEADER;
            &env.header
        });
    if env.nonce != ZERO_NONCE {
        flags |= NONCE;
    }
    let len = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let mut out = Builder::default().u8(flags).u16(len).raw(header);
    if env.nonce != ZERO_NONCE {
        out = out.raw(env.nonce.as_bytes());
    }
    out.raw(env.sig.as_bytes()).raw(&env.ct).into_vec()
}

/// Writes a control record.
#[must_use]
pub fn ctl_to_bytes(rec: &Blob) -> Vec<u8> {
    Builder::default().u8(CTL).raw(rec).into_vec()
}

/// Reads either.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<EntryBody> {
    let mut r = Reader::new(bytes);
    let flags = r.u8()?;
    if flags == CTL {
        return Some(EntryBody::Ctl(r.rest().into()));
    }
    let len = usize::from(u16::from_be_bytes(r.array()?));
    let mut header = if flags & PLAIN_HEADER == 0 {
        label()
    } else {
        Vec::new()
    };
    header.extend_from_slice(r.take(len)?);
    let nonce = if flags & NONCE == 0 {
        ZERO_NONCE
    } else {
        EnvelopeNonce::new(r.array()?)
    };
    Some(EntryBody::Env(Envelope {
        header: header.into(),
        nonce,
        sig: Signature::new(r.array()?),
        ct: r.rest().into(),
    }))
}
