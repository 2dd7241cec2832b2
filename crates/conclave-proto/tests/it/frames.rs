//! Frames in both encodings: round trips, unknown words, hostile bytes.

use conclave_proto::codec::Encoding;
use conclave_proto::frame::op::{Nothing, Subscribe};
use conclave_proto::frame::{ClientFrame, Event, Op, Request, ServerFrame};
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::limit::FRAME_BYTES_MAX;
use proptest::prelude::*;

fn subscribe() -> ClientFrame {
    ClientFrame::Request(Request {
        id: 7,
        op: Op::Subscribe(Subscribe {
            log: LogId::Channel(ChannelId::new([3; 16])),
            after: 41,
        }),
    })
}

#[test]
fn a_request_reads_the_same_in_both_encodings() {
    for encoding in Encoding::ALL {
        let bytes = encoding.encode(&subscribe(), FRAME_BYTES_MAX).unwrap();
        let back: ClientFrame = encoding.decode(&bytes, FRAME_BYTES_MAX).unwrap();
        assert_eq!(back, subscribe());
    }
    let json = Encoding::Json
        .encode(&subscribe(), FRAME_BYTES_MAX)
        .unwrap();
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"req":{"id":7,"op":{"subscribe":{"log":"AQMDAwMDAwMDAwMDAwMDAwM","after":41}}}}"#
    );
}

#[test]
fn unknown_words_and_fields_are_kept_apart_not_refused() {
    let json = br#"{"req":{"id":1,"new":[{}],"op":{"teleport":{"to":[1,{"x":null}]}}}}"#;
    let frame: ClientFrame = Encoding::Json.decode(json, FRAME_BYTES_MAX).unwrap();
    assert_eq!(
        frame,
        ClientFrame::Request(Request {
            id: 1,
            op: Op::Unknown("teleport".into())
        })
    );
    let event: ServerFrame = Encoding::Json
        .decode(br#"{"event":{"sparkle":1}}"#, 64)
        .unwrap();
    assert_eq!(event, ServerFrame::Event(Event::Unknown("sparkle".into())));
}

#[test]
fn two_words_no_word_and_trailing_bytes_are_refused() {
    for json in [
        &br#"{"hello":{},"req":{}}"#[..],
        b"{}",
        b"[]",
        b"{\"ack\":{\"cursors\":[]}} x",
    ] {
        assert!(Encoding::Json.decode::<ClientFrame>(json, 1024).is_err());
    }
    let mut cbor = Encoding::Cbor.encode(&subscribe(), 1024).unwrap();
    cbor.push(0);
    assert!(Encoding::Cbor.decode::<ClientFrame>(&cbor, 1024).is_err());
}

#[test]
fn a_frame_above_the_bound_is_refused_before_it_is_parsed() {
    let op = ClientFrame::Request(Request {
        id: 1,
        op: Op::Channels(Nothing {}),
    });
    let bytes = Encoding::Json.encode(&op, 1024).unwrap();
    assert!(
        Encoding::Json
            .decode::<ClientFrame>(&bytes, bytes.len() - 1)
            .is_err()
    );
    assert!(Encoding::Json.encode(&op, bytes.len() - 1).is_err());
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    // {"ack": {"cursors": [array of 2^32 - 1 …
    let mut cbor = vec![0xa1, 0x63];
    cbor.extend(b"ack");
    cbor.extend([0xa1, 0x67]);
    cbor.extend(b"cursors");
    cbor.extend([0x9a, 0xff, 0xff, 0xff, 0xff]);
    assert!(Encoding::Cbor.decode::<ClientFrame>(&cbor, 1024).is_err());
}

#[test]
fn deep_nesting_in_unknown_fields_does_not_exhaust_the_stack() {
    let mut cbor = vec![0xa1, 0x61, b'x'];
    cbor.extend(std::iter::repeat_n(0x81, 200_000));
    cbor.push(0);
    let decoded = Encoding::Cbor.decode::<ClientFrame>(&cbor, FRAME_BYTES_MAX);
    assert!(decoded.is_err() || matches!(decoded, Ok(ClientFrame::Unknown(_))));
    let json = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let decoded = Encoding::Json.decode::<ClientFrame>(json.as_bytes(), FRAME_BYTES_MAX);
    assert!(decoded.is_err() || matches!(decoded, Ok(ClientFrame::Unknown(_))));
}

proptest! {
    #[test]
    fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for encoding in Encoding::ALL {
            let _client = encoding.decode::<ClientFrame>(&bytes, 512);
            let _server = encoding.decode::<ServerFrame>(&bytes, 512);
        }
        let _header = conclave_proto::entry::Header::parse(&bytes);
        let _record = conclave_proto::record::Record::parse(&bytes.into());
    }
}
