//! Entries: what a log is made of, and the signed envelope of everything a session says.
//!
//! The header travels as opaque bytes and signatures cover exactly the bytes received; nothing is
//! encoded again. Types tell how far a received envelope has been checked: [`Envelope`] (decoded
//! from a frame), [`Parsed`] (well-formed), [`Verified`] (signed by the key it names).
//! Layout: SECURITY 2.5; the server reads the header and never the body.

use crate::bytes::{Builder, Reader, sha256};
use crate::frame::wire_enum;
use crate::id::{
    Blob, ChannelId, EnvelopeNonce, Hash, LogId, MailboxId, MsgId, RecipientKeyId, SenderSid,
    SlotId, UserId,
};
use crate::key::{BadSignature, MachineKey, Secret, Signature, Verify as _, label};
use crate::limit::{CIPHERTEXT_BYTES_MAX, HEADER_BYTES_MAX};
use crate::name::SessionPath;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// One record of a log, in the server's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The place in the log, from 1, without holes.
    pub seq: u64,
    /// When the server stored it.
    pub at: UnixMs,
    /// What it is.
    pub body: EntryBody,
}

wire_enum! {
    /// The two kinds of record in a log.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum EntryBody {
        /// Something a session said.
        Env(Envelope) = "env",
        /// A control record of the channel (membership, roles, invites, epochs).
        Ctl(Blob) = "ctl",
    }
}

/// What a session says, as it travels: a header the server reads, and a sealed or clear body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The header's exact bytes.
    pub header: Blob,
    /// 24 random bytes; zero in suite 0.
    pub nonce: EnvelopeNonce,
    /// The body: sealed in suite 1, plain CBOR in suite 0.
    pub ct: Blob,
    /// By the sender's machine key, over header, nonce and body.
    pub sig: Signature,
}

/// The cryptographic suite of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// 0: the body is clear (channels in mode `signed`).
    Clear,
    /// 1: Ed25519, XChaCha20-Poly1305, HKDF-SHA256, HPKE.
    One,
}

/// What an envelope is about; decides how its route is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 1: a message to everybody in the channel.
    Message,
    /// 2: a message to one session's mailbox.
    Whisper,
    /// 3: a state item, written under a slot.
    State,
    /// 4: a memory item.
    Memory,
    /// 5: receipts, to one session's mailbox.
    Receipt,
    /// 6: what a session says of itself in a channel. In no log: the server keeps the newest one.
    Profile,
}

impl Kind {
    /// Returns the number in the header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Whisper => 2,
            Self::State => 3,
            Self::Memory => 4,
            Self::Receipt => 5,
            Self::Profile => 6,
        }
    }
}

/// Where an envelope goes inside its log, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A message: everybody.
    Everyone,
    /// A whisper: the recipient.
    Whisper(SessionPath),
    /// A state item: the slot, and the version it must have now (0: must not exist, `u64::MAX`: any).
    State(SlotId, u64),
    /// A memory item: its id, and 0 to put or 1 to retract.
    Memory(MsgId, u8),
    /// Receipts: the recipient, who sent what they are about.
    Receipt(SessionPath),
    /// A profile: everybody in the channel.
    Profile,
}

impl Route {
    /// Returns the kind that has this route.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Everyone => Kind::Message,
            Self::Whisper(_) => Kind::Whisper,
            Self::State(..) => Kind::State,
            Self::Memory(..) => Kind::Memory,
            Self::Receipt(_) => Kind::Receipt,
            Self::Profile => Kind::Profile,
        }
    }

    /// Returns the recipient of a whisper or receipt.
    #[must_use]
    pub const fn recipient(&self) -> Option<&SessionPath> {
        match self {
            Self::Whisper(path) | Self::Receipt(path) => Some(path),
            Self::Everyone | Self::State(..) | Self::Memory(..) | Self::Profile => None,
        }
    }

    /// Returns the route's bytes in the header.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Everyone | Self::Profile => Vec::new(),
            Self::Whisper(path) | Self::Receipt(path) => path.to_string().into_bytes(),
            Self::State(slot, expected) => Builder::default()
                .raw(slot.as_bytes())
                .u64(*expected)
                .into_vec(),
            Self::Memory(item, op) => Builder::default().raw(item.as_bytes()).u8(*op).into_vec(),
        }
    }

    /// Reads a route's bytes; `kind` is the header's number.
    #[must_use]
    pub fn parse(kind: u8, bytes: &[u8]) -> Option<Self> {
        let path = || std::str::from_utf8(bytes).ok()?.parse().ok();
        let mut reader = Reader::new(bytes);
        let route = match kind {
            1 => Self::Everyone,
            2 => return path().map(Self::Whisper),
            3 => Self::State(SlotId::new(reader.array()?), reader.u64()?),
            4 => Self::Memory(
                MsgId::new(reader.array()?),
                reader.u8().filter(|op| *op <= 1)?,
            ),
            5 => return path().map(Self::Receipt),
            6 => Self::Profile,
            _ => return None,
        };
        reader.is_empty().then_some(route)
    }
}

/// The part of an envelope that the server reads. See SECURITY 2.5 for each field's purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the body is protected.
    pub suite: Suite,
    /// The channel; for whispers and receipts the first 16 bytes of the server id.
    pub channel: ChannelId,
    /// The channel epoch whose key seals the body; 0 in suite 0.
    pub epoch: u32,
    /// Who speaks.
    pub sender: SessionPath,
    /// The machine key that signs.
    pub sender_key: MachineKey,
    /// The sender's process.
    pub sid: SenderSid,
    /// Counts this process's entries in this log, from 1.
    pub ctr: u64,
    /// The idempotency key.
    pub msg_id: MsgId,
    /// The sender's clock; for display only.
    pub ts: UnixMs,
    /// Where it goes.
    pub route: Route,
    /// The recipient's encryption key, for sealed whispers.
    pub recipient_key: RecipientKeyId,
    /// Causal depth: 0 for what a human caused directly.
    pub hop: u8,
    /// Bit 0 reserved; bit 1: the sender says a human typed it (a claim, never authority).
    pub flags: u8,
}

/// The flag by which a sender says that a human typed the message.
pub const FLAG_HUMAN: u8 = 0b10;

const HEADER_LABEL: &[u8] = b"conclave/v1/header";

impl Header {
    /// Returns the exact bytes that are signed and sent.
    #[must_use]
    pub fn to_bytes(&self) -> Blob {
        let suite = match self.suite {
            Suite::Clear => 0,
            Suite::One => 1,
        };
        Builder::default()
            .lp(HEADER_LABEL)
            .u8(suite)
            .u8(self.route.kind().number())
            .raw(self.channel.as_bytes())
            .u32(self.epoch)
            .lp(self.sender.to_string().as_bytes())
            .raw(self.sender_key.as_bytes())
            .raw(self.sid.as_bytes())
            .u64(self.ctr)
            .raw(self.msg_id.as_bytes())
            .u64(self.ts.0)
            .lp(&self.route.to_bytes())
            .raw(self.recipient_key.as_bytes())
            .u8(self.hop)
            .u8(self.flags)
            .into_vec()
            .into()
    }

    /// Reads a header; `None` if any field is not well-formed or bytes are left over.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > HEADER_BYTES_MAX {
            return None;
        }
        let mut r = Reader::new(bytes);
        if r.lp()? != HEADER_LABEL {
            return None;
        }
        let suite = match r.u8()? {
            0 => Suite::Clear,
            1 => Suite::One,
            _ => return None,
        };
        let kind = r.u8()?;
        let header = Self {
            suite,
            channel: ChannelId::new(r.array()?),
            epoch: r.u32()?,
            sender: std::str::from_utf8(r.lp()?).ok()?.parse().ok()?,
            sender_key: MachineKey::new(r.array()?),
            sid: SenderSid::new(r.array()?),
            ctr: r.u64()?,
            msg_id: MsgId::new(r.array()?),
            ts: UnixMs(r.u64()?),
            route: Route::parse(kind, r.lp()?)?,
            recipient_key: RecipientKeyId::new(r.array()?),
            hop: r.u8()?,
            flags: r.u8()?,
        };
        r.is_empty().then_some(header)
    }

    /// Returns the log this entry belongs to, given the user id behind a recipient's name.
    #[must_use]
    pub fn log(&self, user_of: impl Fn(&SessionPath) -> Option<UserId>) -> Option<LogId> {
        match self.route.recipient() {
            None => Some(LogId::Channel(self.channel)),
            Some(path) => Some(LogId::Mailbox(MailboxId::of(&user_of(path)?, path))),
        }
    }
}

/// Why a received envelope is not well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEnvelope {
    /// The header does not parse.
    #[error("the header is not well-formed")]
    Header,
    /// The body is larger than [`CIPHERTEXT_BYTES_MAX`].
    #[error("the body is too large")]
    TooLarge,
    /// Suite 0 with a nonce or an epoch.
    #[error("a clear entry has no nonce and no epoch")]
    ClearFields,
    /// The reserved flag is set, or the counter is zero.
    #[error("a reserved value is used")]
    Reserved,
}

impl Envelope {
    /// Seals nothing and signs: a suite 0 envelope around `body`.
    #[must_use]
    pub fn clear(header: &Header, body: Blob, secret: &Secret) -> Self {
        Self::signed(header.to_bytes(), EnvelopeNonce::new([0; 24]), body, secret)
    }

    /// Signs finished parts.
    #[must_use]
    pub fn signed(header: Blob, nonce: EnvelopeNonce, ct: Blob, secret: &Secret) -> Self {
        let sig = secret.sign(signed_message(&header, &nonce, &ct));
        Self {
            header,
            nonce,
            ct,
            sig,
        }
    }

    /// Returns SHA-256 of all parts: the identity of the bytes, for `last_seen` and `id_reuse`.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Builder::default()
            .lp(&self.header)
            .raw(self.nonce.as_bytes())
            .lp(&self.ct)
            .raw(self.sig.as_bytes())
            .sha256()
    }

    /// Checks the form of every part; no signature yet.
    ///
    /// # Errors
    /// [`BadEnvelope`].
    pub fn parse(self) -> Result<Parsed, BadEnvelope> {
        let header = Header::parse(&self.header).ok_or(BadEnvelope::Header)?;
        if self.ct.len() > CIPHERTEXT_BYTES_MAX {
            return Err(BadEnvelope::TooLarge);
        }
        let zero = EnvelopeNonce::new([0; 24]);
        if header.suite == Suite::Clear && (header.epoch != 0 || self.nonce != zero) {
            return Err(BadEnvelope::ClearFields);
        }
        if header.flags & 1 != 0 || header.ctr == 0 {
            return Err(BadEnvelope::Reserved);
        }
        Ok(Parsed {
            header,
            envelope: self,
        })
    }
}

fn signed_message(header: &[u8], nonce: &EnvelopeNonce, ct: &[u8]) -> Builder {
    let body = sha256(&[nonce.as_bytes(), ct].concat());
    Builder::labelled(label::ENVELOPE)
        .lp(header)
        .lp(body.as_bytes())
}

/// A well-formed envelope whose signature was not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The header's fields.
    pub header: Header,
    /// The parts as received.
    pub envelope: Envelope,
}

impl Parsed {
    /// Checks the signature by the machine key the header names. Whether that key belongs to the
    /// sender, and the sender to the log, is the channel's and the identity log's to say.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(self) -> Result<Verified, BadSignature> {
        self.check()?;
        Ok(Verified(self))
    }

    /// Checks what [`Parsed::verify`] checks, and keeps the type.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn check(&self) -> Result<(), BadSignature> {
        let Envelope {
            header,
            nonce,
            ct,
            sig,
        } = &self.envelope;
        let message = signed_message(header, nonce, ct);
        self.header.sender_key.verify(message, sig)
    }
}

/// An envelope that the machine key in its header signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(Parsed);

impl Verified {
    /// Returns the header's fields.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.0.header
    }

    /// Returns the parts as received.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.0.envelope
    }
}
