//! Numbers for people to compare over a phone or side by side (SECURITY 2.10).

use conclave_proto::body::Head;
use conclave_proto::bytes::Builder;
use conclave_proto::id::{ChannelId, ServerId, UserId};
use sha2::{Digest as _, Sha512};

/// Returns the fingerprint of a user: 30 digits in six groups. It covers the genesis of the identity,
/// so that another machine does not change it.
#[must_use]
pub fn fingerprint(server: &ServerId, user: &UserId) -> String {
    let input = Builder::labelled("conclave/v1/fp")
        .raw(server.as_bytes())
        .raw(user.as_bytes());
    digits(input, 6)
}

/// Returns the safety number of two users: their fingerprints, the smaller one first, 60 digits. Two
/// halves, not one hash of both: whoever wants to sit in between must find two second preimages.
#[must_use]
pub fn safety_number(server: &ServerId, a: &UserId, b: &UserId) -> String {
    let (a, b) = (fingerprint(server, a), fingerprint(server, b));
    match a <= b {
        true => format!("{a} {b}"),
        false => format!("{b} {a}"),
    }
}

/// Returns the authenticator of a channel: 45 digits over its newest control record. Members who see
/// the same digits see the same members, roles and keys.
#[must_use]
pub fn authenticator(channel: &ChannelId, head: &Head) -> String {
    let input = Builder::labelled("conclave/v1/channel-fp")
        .raw(channel.as_bytes())
        .u64(head.n)
        .raw(head.hash.as_bytes());
    digits(input, 9)
}

/// Groups of five digits: each 40 bits of SHA-512, modulo 100,000.
fn digits(input: Builder, groups: usize) -> String {
    let hash = Sha512::digest(input.into_vec());
    let group = |bytes: &[u8]| {
        let number = bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        format!("{:05}", number % 100_000)
    };
    let groups: Vec<String> = hash.chunks_exact(5).take(groups).map(group).collect();
    groups.join(" ")
}
