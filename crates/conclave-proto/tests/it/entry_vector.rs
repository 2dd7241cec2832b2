//! The header of SECURITY 7's test vector, byte for byte.

use conclave_proto::bytes::sha256;
use conclave_proto::entry::{Header, Route, Suite};
use conclave_proto::id::{ChannelId, MsgId, RecipientKeyId, SenderSid};
use conclave_proto::key::Secret;
use conclave_proto::time::UnixMs;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn header_bytes_match_the_published_vector() {
    let header = Header {
        suite: Suite::One,
        channel: ChannelId::new([3; 16]),
        epoch: 1,
        sender: "alice/laptop/api".parse().unwrap(),
        sender_key: Secret::from_seed(&[1; 32]).machine_key(),
        sid: SenderSid::new([4; 8]),
        ctr: 1,
        msg_id: MsgId::new([5; 16]),
        ts: UnixMs(1_700_000_000_000),
        route: Route::Everyone,
        recipient_key: RecipientKeyId::new([0; 8]),
        hop: 0,
        flags: 0,
    };
    let bytes = header.to_bytes();
    assert_eq!(bytes.len(), 150);
    assert_eq!(
        hex(sha256(&bytes).as_bytes()),
        "e6ea0ce71021c79a3e2fda27d421bc386eadc0ab59b4a6d906603bf4e0489dae"
    );
    assert_eq!(Header::parse(&bytes), Some(header));
}
