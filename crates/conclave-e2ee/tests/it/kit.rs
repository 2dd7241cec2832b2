//! Keys, headers and envelopes made of fixed bytes, and every way to change one bit.

use conclave_e2ee::{Bundle, ChannelKey, EncryptionSecret, IndexKey, Place};
use conclave_proto::entry::{Envelope, Header, Parsed, Route, Suite};
use conclave_proto::id::{
    Blob, ChannelId, EnvelopeNonce, MsgId, RecipientKeyId, SenderSid, SlotId,
};
use conclave_proto::key::{Secret, Signature};
use conclave_proto::time::UnixMs;

pub(crate) const CHANNEL: ChannelId = ChannelId::new([3; 16]);
pub(crate) const OTHER_CHANNEL: ChannelId = ChannelId::new([4; 16]);
pub(crate) const NONCE: [u8; 24] = [6; 24];
pub(crate) const PLACE: Place = Place {
    channel: CHANNEL,
    e: 1,
};

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn secret(seed: u8) -> Secret {
    Secret::from_seed(&[seed; 32])
}

pub(crate) fn encryption(seed: u8) -> EncryptionSecret {
    EncryptionSecret::from_seed(&[seed; 32])
}

/// The channel key of SECURITY 7.
pub(crate) fn channel_key() -> ChannelKey {
    ChannelKey::new(PLACE, &[2; 32])
}

/// The key of epoch `e` of the same channel, of other bytes.
pub(crate) fn key_of(e: u32, byte: u8) -> ChannelKey {
    ChannelKey::new(Place { e, ..PLACE }, &[byte; 32])
}

/// The header of SECURITY 7, with another route.
pub(crate) fn header(route: Route) -> Header {
    Header {
        suite: Suite::One,
        channel: CHANNEL,
        epoch: 1,
        sender: "alice/laptop/api".parse().unwrap(),
        sender_key: secret(1).machine_key(),
        sid: SenderSid::new([4; 8]),
        ctr: 1,
        msg_id: MsgId::new([5; 16]),
        ts: UnixMs(1_700_000_000_000),
        route,
        recipient_key: RecipientKeyId::new([0; 8]),
        hop: 0,
        flags: 0,
    }
}

/// One route of each kind that a channel key seals.
pub(crate) fn channel_routes() -> [Route; 4] {
    [
        Route::Everyone,
        Route::State(SlotId::new([9; 16]), 7),
        Route::Memory(MsgId::new([8; 16]), 1),
        Route::Profile,
    ]
}

pub(crate) fn bundle() -> Bundle {
    Bundle {
        index_key: IndexKey::new([12; 32]),
        name: Some("ops".parse().unwrap()),
        topic: Some("what is burning".into()),
    }
}

/// Returns every copy of these bytes in which exactly one bit is another one.
pub(crate) fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(move |bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

/// Returns every envelope that differs from this one in one bit, and the part that does.
pub(crate) fn flipped(env: &Envelope) -> impl Iterator<Item = (&'static str, Envelope)> {
    let with = move |part, change: &dyn Fn(&mut Envelope)| {
        let mut changed = env.clone();
        change(&mut changed);
        (part, changed)
    };
    let headers = flips(&env.header).map(move |b| with("header", &|e| e.header = b.clone().into()));
    let nonces = flips(env.nonce.as_bytes()).map(move |b| {
        with("nonce", &|e| {
            e.nonce = EnvelopeNonce::from_slice(&b).unwrap();
        })
    });
    let bodies = flips(&env.ct).map(move |b| with("ct", &|e| e.ct = b.clone().into()));
    let sigs = flips(env.sig.as_bytes())
        .map(move |b| with("sig", &|e| e.sig = Signature::from_slice(&b).unwrap()));
    headers.chain(nonces).chain(bodies).chain(sigs)
}

/// Returns every box that differs from this one in one bit, or has a byte more or less.
pub(crate) fn spoilt(sealed: &Blob) -> Vec<Blob> {
    let longer = [&sealed[..], &[0]].concat();
    let shorter = sealed[..sealed.len() - 1].to_vec();
    let all = flips(sealed).chain([longer, shorter, Vec::new(), sealed[..23].to_vec()]);
    all.map(Blob::from).collect()
}

/// Reads an envelope and checks its signature.
pub(crate) fn signed(env: &Envelope) -> Option<Parsed> {
    let parsed = env.clone().parse().ok()?;
    parsed.clone().verify().ok().map(|_| parsed)
}
