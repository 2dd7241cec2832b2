//! S13: a ciphertext says nothing in another place, whoever signs the header of that place.

use crate::kit::{CHANNEL, NONCE, OTHER_CHANNEL, channel_key, header, secret, signed};
use conclave_e2ee::{ChannelKey, OpenError, Place};
use conclave_proto::entry::{Envelope, FLAG_HUMAN, Header, Route};
use conclave_proto::id::{MsgId, RecipientKeyId, SenderSid, SlotId};
use conclave_proto::time::UnixMs;

/// Puts the ciphertext of one header under another, with the sender's own signature, and tries to
/// open it with the key bytes of the first place under the second one's name.
fn opens_under(first: &Header, second: &Header) -> Result<(), OpenError> {
    let key = |header: &Header| {
        let place = Place {
            channel: header.channel,
            e: header.epoch,
        };
        ChannelKey::new(place, &[2; 32])
    };
    let env = key(first).seal(first, b"yes", NONCE, &secret(1)).unwrap();
    let moved = Envelope::signed(second.to_bytes(), env.nonce, env.ct, &secret(1));
    let parsed = signed(&moved).expect("the sender signed it");
    key(second).open(&parsed).map(drop)
}

#[test]
fn s13_a_ciphertext_moved_to_another_place_does_not_open() {
    type Change = (&'static str, fn(&mut Header));
    let changes: [Change; 12] = [
        ("channel", |h| h.channel = OTHER_CHANNEL),
        ("epoch", |h| h.epoch = 2),
        ("sender", |h| {
            h.sender = "alice/laptop/web".parse().unwrap();
        }),
        ("sid", |h| h.sid = SenderSid::new([5; 8])),
        ("ctr", |h| h.ctr = 2),
        ("msg_id", |h| h.msg_id = MsgId::new([6; 16])),
        ("ts", |h| h.ts = UnixMs(1)),
        ("rkid", |h| h.recipient_key = RecipientKeyId::new([1; 8])),
        ("hop", |h| h.hop = 1),
        ("flags", |h| h.flags = FLAG_HUMAN),
        ("to state", |h| {
            h.route = Route::State(SlotId::new([9; 16]), 7);
        }),
        ("to memory", |h| {
            h.route = Route::Memory(MsgId::new([9; 16]), 0);
        }),
    ];
    let first = header(Route::Everyone);
    assert_eq!(opens_under(&first, &first), Ok(()));
    for (what, change) in changes {
        let mut second = first.clone();
        change(&mut second);
        assert_eq!(
            opens_under(&first, &second),
            Err(OpenError::Broken),
            "{what}"
        );
    }
}

#[test]
fn s13_a_state_or_memory_item_moved_to_another_slot_does_not_open() {
    let state = |slot, version| header(Route::State(SlotId::new([slot; 16]), version));
    let memory = |item, op| header(Route::Memory(MsgId::new([item; 16]), op));
    let moves = [
        (state(9, 7), state(8, 7)),
        (state(9, 7), state(9, 8)),
        (state(9, 7), memory(9, 0)),
        (state(9, 7), header(Route::Everyone)),
        (memory(9, 0), memory(8, 0)),
        (memory(9, 0), memory(9, 1)),
        (memory(9, 0), state(9, 0)),
        (memory(9, 0), header(Route::Everyone)),
    ];
    for (first, second) in moves {
        assert_eq!(opens_under(&first, &first), Ok(()));
        let route = &second.route;
        assert_eq!(
            opens_under(&first, &second),
            Err(OpenError::Broken),
            "{route:?}"
        );
    }
}

#[test]
fn s13_keys_of_other_kinds_channels_and_epochs_have_nothing_in_common() {
    let place = |channel, e| Place { channel, e };
    let places = [
        place(CHANNEL, 1),
        place(CHANNEL, 2),
        place(OTHER_CHANNEL, 1),
    ];
    let labels = ["msg", "state", "memory", "bundle", "prev", "commit"];
    let mut seen = std::collections::BTreeSet::new();
    for place in places {
        let key = ChannelKey::new(place, &[2; 32]);
        assert_eq!(key.place(), place);
        let commit = crate::published::k(&[2; 32], place, "commit");
        assert_eq!(key.commit().as_bytes(), &commit);
        seen.extend(labels.map(|label| crate::published::k(&[2; 32], place, label)));
    }
    assert_eq!(seen.len(), places.len() * labels.len());
    assert!(!seen.contains(channel_key().bytes()));
}
