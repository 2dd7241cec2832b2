//! End-to-end encryption: what members can open and a server cannot (SECURITY 2).
//!
//! Pure: keys and random bytes are arguments, nothing is stored, no clock is read. One channel key a
//! *epoch* ([`ChannelKey`]), committed to in a signed record and sealed to every member's machine
//! ([`wrap`]); envelopes sealed under keys derived from it; whispers and wraps by HPKE. The server does
//! not depend on this crate.

pub mod aead;
pub mod channel_key;
pub mod encryption_secret;
mod hpke_base;
pub mod invite_box;
pub mod number;
pub mod pad;
mod secret_bytes;
pub mod whisper;
pub mod wrap;

pub use channel_key::{Bundle, ChannelKey, IndexKey, OpenError, Place, SealError};
pub use encryption_secret::EncryptionSecret;
