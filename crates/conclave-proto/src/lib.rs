//! The Conclave protocol: ids, names, frames, signed records, and the pure machines of both ends.
//!
//! Nothing here does I/O, reads a clock, draws randomness or takes a lock: time and random bytes are
//! arguments. The normative description of everything that crosses a wire is `docs/protocol.md`.

pub mod admin;
pub mod backoff;
pub mod body;
pub mod bytes;
mod canonical;
pub mod channel_log;
pub mod close;
pub mod codec;
pub mod desk;
pub mod encryption_key;
pub mod entry;
pub mod frame;
pub mod handshake;
pub mod id;
pub mod identity_log;
pub mod invite;
pub mod key;
pub mod limit;
pub mod link;
pub mod name;
pub mod origin;
pub mod profile;
pub mod record;
pub mod reject;
pub mod server_connection;
pub mod server_rotation;
pub mod time;
pub mod timer;
