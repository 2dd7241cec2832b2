//! Attacks on who said what, and where: forged, moved, replayed, kept back, in the clear.

use super::stage::{CANARY, SEALED, Stage};
use conclave_client::event::NoticeKind;
use conclave_e2ee::{ChannelKey, Place};
use conclave_proto::body::Body;
use conclave_proto::channel_log::{CtlBody, Mode, Visibility};
use conclave_proto::entry::{EntryBody, Envelope, Header, Route};
use conclave_proto::frame::Outcome;
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{EntryPage, Reply};
use conclave_proto::id::{EnvelopeNonce, MsgId, SlotId};
use conclave_proto::key::Signature;
use conclave_sim::hostile::{Room, SOON, ctl};

pub(crate) async fn s13_forged_sender() -> &'static str {
    let mut stage = Stage::new().await;
    let ctr = stage.next_ctr(&stage.ada);
    let honest = stage.room.envelope(&stage.ada, ctr, "forged");
    let mut unsigned = honest.clone();
    unsigned.sig = Signature::new([0; 64]);
    // The server signs ada's header and ciphertext with a key of its own.
    let Envelope {
        header, nonce, ct, ..
    } = honest.clone();
    let re_signed = Envelope::signed(header, nonce, ct, &stage.eve.machine);
    let mut changed = honest;
    let mut ct = changed.ct.to_vec();
    ct[0] ^= 1;
    changed.ct = ct.into();
    let lies = [unsigned, re_signed, changed].map(EntryBody::Env);
    let seen = stage.lies(lies.into()).await;
    assert_eq!(seen, [NoticeKind::BadSignature; 3]);
    stage.bob_can_talk().await;
    stage.sealed_lips().await;
    "dropped: bad_signature"
}

pub(crate) async fn s13_key_of_another_user() -> &'static str {
    let mut stage = Stage::new().await;
    // Carol has the channel key and a good machine key of her own; the name is ada's.
    let (ada, body) = (stage.ada.path.clone(), Body::text("as ada"));
    let key = stage.room.key().clone();
    let forged = stage
        .room
        .seal(&stage.carol, &key, 1, &body, |h| h.sender = ada);
    stage.refused(forged, NoticeKind::BadSignature).await;
    stage.bob_can_talk().await;
    "dropped: bad_signature"
}

pub(crate) async fn s13_strip_and_re_sign() -> &'static str {
    let mut stage = Stage::new().await;
    let ctr = stage.next_ctr(&stage.ada);
    let honest = stage.room.envelope(&stage.ada, ctr, "ada's idea");
    let mut header = Header::parse(&honest.header).unwrap();
    header.sender = stage.carol.path.clone();
    header.sender_key = stage.carol.machine.machine_key();
    let Envelope { nonce, ct, .. } = honest;
    let stolen = Envelope::signed(header.to_bytes(), nonce, ct, &stage.carol.machine);
    stage.refused(stolen, NoticeKind::BadSeal).await;
    stage.bob_can_talk().await;
    "dropped: bad_seal"
}

/// Puts what carol once said under a header that she signs anew.
fn moved(stage: &Stage, said: &Envelope, change: impl FnOnce(&mut Header)) -> Envelope {
    let mut header = Header::parse(&said.header).unwrap();
    change(&mut header);
    let (nonce, ct) = (said.nonce, said.ct.clone());
    Envelope::signed(header.to_bytes(), nonce, ct, &stage.carol.machine)
}

pub(crate) async fn s13_ciphertext_of_another_channel() -> &'static str {
    let mut stage = Stage::new().await;
    let other = Room::new(8, &stage.ada, SEALED);
    let said = other.envelope(&stage.carol, 1, "elsewhere");
    // By the server, as it stands; by the member, under a header that she signs.
    let room = stage.room.id;
    let re_signed = moved(&stage, &said, |h| h.channel = room);
    let lies = [said, re_signed].map(EntryBody::Env);
    let seen = stage.lies(lies.into()).await;
    assert_eq!(seen, [NoticeKind::Malformed, NoticeKind::BadSeal]);
    stage.bob_can_talk().await;
    "dropped: malformed; re-signed: bad_seal"
}

pub(crate) async fn s13_ciphertext_of_another_epoch() -> &'static str {
    let mut stage = Stage::new().await;
    let old = stage.room.envelope(&stage.carol, 1, "of epoch 1");
    stage.room.rotate(&stage.ada);
    stage.update().await;
    let moved = moved(&stage, &old, |h| h.epoch = 2);
    let unknown = moved_to_unknown_epoch(&stage);
    let lies = [old, moved, unknown].map(EntryBody::Env);
    let seen = stage.lies(lies.into()).await;
    let stale = NoticeKind::BadEpoch;
    assert_eq!(seen, [stale, NoticeKind::BadSeal, stale]);
    stage.bob_can_talk().await;
    "dropped: bad_epoch; re-signed: bad_seal"
}

/// Sealed by carol under a key of an epoch that there is no record of.
fn moved_to_unknown_epoch(stage: &Stage) -> Envelope {
    let (channel, e) = (stage.room.id, 9);
    let key = ChannelKey::new(Place { channel, e }, &[9; 32]);
    stage
        .room
        .seal(&stage.carol, &key, 2, &Body::text("epoch 9"), |_| {})
}

pub(crate) async fn s13_ciphertext_of_another_kind() -> &'static str {
    let mut stage = Stage::new().await;
    let said = stage.room.envelope(&stage.carol, 1, "a message");
    let state = Route::State(SlotId::new([1; 16]), u64::MAX);
    let memory = Route::Memory(MsgId::new([1; 16]), 0);
    let as_state = moved(&stage, &said, |h| h.route = state.clone());
    let as_memory = moved(&stage, &said, |h| h.route = memory);
    // The other way round, a state item that is shown as a message.
    let (key, body) = (stage.room.key().clone(), Body::text("state"));
    let item = stage
        .room
        .seal(&stage.carol, &key, 1, &body, |h| h.route = state);
    let as_message = moved(&stage, &item, |h| h.route = Route::Everyone);
    let lies = [as_state, as_memory, as_message].map(EntryBody::Env);
    let seen = stage.lies(lies.into()).await;
    assert_eq!(seen, [NoticeKind::BadSeal; 3]);
    stage.bob_can_talk().await;
    "dropped: bad_seal"
}

pub(crate) async fn s13_every_header_bit() -> &'static str {
    let mut stage = Stage::new().await;
    let ctr = stage.next_ctr(&stage.ada);
    let honest = stage.room.envelope(&stage.ada, ctr, "forged");
    let flip = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    let mut lies = Vec::new();
    for bit in 0..honest.header.len() * 8 {
        let header = flip(&honest.header, bit).into();
        lies.push(Envelope {
            header,
            ..honest.clone()
        });
    }
    for bit in 0..EnvelopeNonce::LEN * 8 {
        let bytes = flip(honest.nonce.as_bytes(), bit);
        let nonce = EnvelopeNonce::from_slice(&bytes).unwrap();
        lies.push(Envelope {
            nonce,
            ..honest.clone()
        });
    }
    for bit in 0..64 * 8 {
        let sig = Signature::from_slice(&flip(honest.sig.as_bytes(), bit)).unwrap();
        lies.push(Envelope {
            sig,
            ..honest.clone()
        });
    }
    let (count, lies) = (lies.len(), lies.into_iter().map(EntryBody::Env));
    let seen = stage.lies(lies.collect()).await;
    assert_eq!(seen.len(), count, "each is refused and named");
    assert!(!seen.contains(&NoticeKind::ServerFork));
    stage.bob_can_talk().await;
    "dropped, each one"
}

pub(crate) async fn replay_under_a_new_seq() -> &'static str {
    let mut stage = Stage::new().await;
    stage.say_good("pay 10").await;
    stage.bob.hears("pay 10").await;
    let EntryBody::Env(again) = stage.room.entries.last().unwrap().body.clone() else {
        unreachable!("ada said it")
    };
    let seen = stage.lies(vec![EntryBody::Env(again)]).await;
    assert_eq!(seen[0], NoticeKind::Replayed);
    stage.bob_can_talk().await;
    "dropped: replayed"
}

pub(crate) async fn message_id_used_again() -> &'static str {
    let mut stage = Stage::new().await;
    let first = stage.room.says(&stage.carol, 1, "one");
    stage.update().await;
    stage.bob.hears("one").await;
    let EntryBody::Env(env) = first.body else {
        unreachable!("carol said it")
    };
    let id = Header::parse(&env.header).unwrap().msg_id;
    let (key, body) = (stage.room.key().clone(), Body::text("instead of one"));
    let same_id = stage
        .room
        .seal(&stage.carol, &key, 2, &body, |h| h.msg_id = id);
    stage.refused(same_id, NoticeKind::Replayed).await;
    stage.bob_can_talk().await;
    "dropped: replayed"
}

pub(crate) async fn reordered_messages() -> &'static str {
    let mut stage = Stage::new().await;
    let one = stage.room.envelope(&stage.carol, 1, "one");
    let two = stage.room.envelope(&stage.carol, 2, "two");
    let three = stage.room.envelope(&stage.carol, 3, "three");
    for said in [one, three, two] {
        stage.room.keep(said);
    }
    stage.update().await;
    for text in ["one", "three"] {
        stage.bob.hears(text).await;
    }
    stage.bob.notices(NoticeKind::Missing).await;
    stage.bob.notices(NoticeKind::Replayed).await;
    stage.say_good("good").await;
    stage.bob.hears("good").await;
    stage.bob_can_talk().await;
    "told: missing; the late one dropped: replayed"
}

pub(crate) async fn dropped_message() -> &'static str {
    let mut stage = Stage::new().await;
    let ctr = stage.next_ctr(&stage.ada);
    for (place, text) in [(ctr, "one"), (ctr + 2, "three")] {
        let said = stage.room.envelope(&stage.ada, place, text);
        stage.room.keep(said);
        stage.update().await;
        stage.bob.hears(text).await;
    }
    stage.bob.notices(NoticeKind::Missing).await;
    stage.bob_can_talk().await;
    "told: missing"
}

pub(crate) async fn s14_clear_entry_in_a_sealed_channel() -> &'static str {
    let mut stage = Stage::new().await;
    let id = stage.room.id;
    let clear = stage
        .carol
        .clear(id, Route::Everyone, 1, "in the clear", |_| {});
    stage.refused(clear, NoticeKind::Downgrade).await;
    stage.bob_can_talk().await;
    stage.sealed_lips().await;
    "dropped: downgrade"
}

pub(crate) async fn s14_channel_called_signed() -> &'static str {
    let mut stage = Stage::new().await;
    let bob = stage.bob.me;
    stage
        .liar
        .tell(move |script| {
            let mut told = script.channels_of(&bob);
            script.lie(move |asked| match asked.op {
                Op::Channels(_) | Op::FindChannel(_) => {
                    for info in &mut told.channels {
                        "signed".clone_into(&mut info.mode);
                        info.role = Some("owner".to_owned());
                    }
                    Some(Outcome::Ok(Reply::Channels(told.clone())))
                }
                _ => None,
            });
        })
        .await;
    stage.bob.client.channels().await.unwrap();
    stage.bob_can_talk().await;
    stage.bob.restart().await;
    stage.bob.client.channels().await.unwrap();
    stage.bob_can_talk().await;
    stage.sealed_lips().await;
    "sealed all the same"
}

pub(crate) async fn s14_another_first_record() -> &'static str {
    let mut stage = Stage::new().await;
    // The same id, made by the server's friend, with bob in it and nothing sealed.
    let body = CtlBody::Create {
        mode: Mode::Signed,
        visibility: Visibility::Private,
        history: SEALED.history,
        name: Some("ops".parse().unwrap()),
        topic: None,
        limits: None,
    };
    let create = stage.eve.ctl(stage.room.id, None, body);
    let entries = vec![ctl(1, &create)];
    let fake = move |op: &Op| match op {
        Op::CtlFetch(_) | Op::Read(_) => Some(Outcome::Ok(Reply::Page(EntryPage {
            entries: entries.clone(),
            gap: None,
            next: 1,
            head: 1,
        }))),
        _ => None,
    };
    stage
        .liar
        .tell(move |script| script.lie(move |asked| fake(asked.op)))
        .await;
    stage.bob.restart().await;
    let text = format!("{CANARY} after the switch");
    let sent = tokio::time::timeout(SOON, stage.bob.says(stage.room.id, &text)).await;
    sent.expect("it ends").unwrap();
    let known = stage.bob.client.known_channels().await.unwrap();
    assert!(known.iter().all(|channel| channel.mode() == Mode::E2e));
    stage.sealed_lips().await;
    "not believed; nothing said in the clear"
}
