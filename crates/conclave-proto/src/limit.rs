//! Every bound of the protocol, in one place. What a server may tune is in its configuration.

/// The largest frame, in bytes, after base64 where the encoding is JSON.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// The largest frame before authentication, in bytes.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 8 * 1024;
/// The largest message body or state value, in bytes of UTF-8 or JSON.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest ciphertext (body, padding, tag), in bytes.
pub const CIPHERTEXT_BYTES_MAX: usize = 72 * 1024;
/// The largest envelope header, in bytes.
pub const HEADER_BYTES_MAX: usize = 512;
/// The largest signed record, in bytes.
pub const RECORD_BYTES_MAX: usize = 8 * 1024;
/// The largest box that travels beside a control record, in bytes.
pub const BOX_BYTES_MAX: usize = 4 * 1024;
/// The most wraps in one request or answer.
pub const WRAPS_MAX: usize = 1000;
/// The most holders whose encryption keys one request asks for.
pub const HOLDERS_MAX: usize = 500;
/// How long an announced encryption key may be sealed to at most, in milliseconds (30 days).
pub const ENCRYPTION_KEY_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// The longest key of a state item, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 256;
/// The most tags of a memory item.
pub const TAGS_MAX: usize = 16;
/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;
/// The most receipts in one entry.
pub const RECEIPTS_MAX: usize = 256;
/// The largest sealed profile (its ciphertext: 4096 padded bytes and the tag), in bytes.
pub const PROFILE_BYTES_MAX: usize = 4 * 1024 + 16;
/// The most profiles in one answer.
pub const PROFILES_MAX: usize = 128;
/// The most readers in one answer to `cursors`.
pub const CURSORS_MAX: usize = 512;
/// The most entries in one page or batch.
pub const PAGE_ENTRIES_MAX: usize = 256;
/// The most bytes of entries in one page or batch (encoded envelopes, before framing).
pub const PAGE_BYTES_MAX: usize = 128 * 1024;
/// The most requests of one connection that are answered at any time; the next waits in the socket.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;
/// The most logs one connection can follow.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// The causal depth at which the server refuses an entry.
pub const HOP_MAX: u8 = 64;
/// How often each side pings, in milliseconds (each side adds up to a tenth of jitter).
pub const HEARTBEAT_MS: u64 = 20_000;
/// How long a silent connection lives, in milliseconds.
pub const SILENCE_MS: u64 = 45_000;
/// How long a dropped session keeps its presence, in milliseconds.
pub const LEASE_MS: u64 = 90_000;
/// How long a connection may take from the upgrade to `ready`, in milliseconds.
pub const HANDSHAKE_MS: u64 = 10_000;
/// Acknowledge at least every so many entries…
pub const ACK_ENTRIES: u64 = 32;
/// …or after so many milliseconds.
pub const ACK_MS: u64 = 1_000;
/// The first reconnect delay, in milliseconds (full jitter).
pub const BACKOFF_FIRST_MS: u64 = 500;
/// The longest reconnect delay, in milliseconds.
pub const BACKOFF_MAX_MS: u64 = 30_000;
/// How long a connection must last before the delay starts over, in milliseconds.
pub const BACKOFF_RESET_MS: u64 = 60_000;
/// How long a request may stay without an answer, in milliseconds.
pub const REQUEST_TIMEOUT_MS: u64 = 10_000;
/// How long a machine enrolment link is good for, in milliseconds.
pub const ENROLMENT_MS: u64 = 600_000;
/// The longest free text in a record or frame (topic, reason, agent), in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
