//! Attacks on keys: substituted, withheld, garbled, out of date.

use super::stage::{CANARY, SEALED, Stage};
use conclave_client::event::NoticeKind;
use conclave_e2ee::{ChannelKey, EncryptionSecret, wrap};
use conclave_proto::body::Body;
use conclave_proto::bytes::Builder;
use conclave_proto::channel_log::CtlBody;
use conclave_proto::entry::EntryBody;
use conclave_proto::frame::Outcome;
use conclave_proto::frame::op::{Op, Wrap};
use conclave_proto::frame::reply::{EpochWrap, Reply, Wraps};
use conclave_proto::id::{Hash, LogId, SealedKey};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::key::HolderKey;
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::{Person, SOON, Script, draw, now};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _};

fn later() -> UnixMs {
    UnixMs(now().0 + 1_000_000_000)
}

fn machine_of(log: &IdentityLog) -> HolderKey {
    log.machines().next().expect("a machine").key.into()
}

/// Seals a key to a holder under a commitment that is another key's: the format is no secret, so a liar
/// takes the one that is looked for.
fn forge(script: &Script, key: &ChannelKey, commit: &Hash, to: HolderKey) -> Option<Wrap> {
    type Public = <X25519HkdfSha256 as Kem>::PublicKey;
    let (generation, ek) = script.encryption_key(&to)?;
    let aad = Builder::default()
        .lp(key.place().channel.as_bytes())
        .u32(key.place().e)
        .lp(to.as_bytes())
        .u32(generation)
        .lp(commit.as_bytes())
        .into_vec();
    let (enc, ct) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &Public::from_bytes(ek.as_bytes()).ok()?,
        b"conclave/v1/epoch-wrap",
        key.bytes(),
        &aad,
    )
    .ok()?;
    let sealed = SealedKey::from_slice(&[&enc.to_bytes()[..], &ct].concat())?;
    Some(Wrap {
        to,
        generation,
        sealed,
    })
}

/// A key that the server made, sealed to a holder as the room's newest.
fn forged_wrap(script: &Script, room: &ChannelKey, to: HolderKey) -> (Wrap, ChannelKey) {
    let key = ChannelKey::new(room.place(), &draw());
    let wrap = forge(script, &key, &room.commit(), to);
    (wrap.expect("an encryption key"), key)
}

/// Lets bob into a room of which the server gives him wrong wraps only, and returns the wrong key.
async fn wrong_wraps(stage: &mut Stage) -> ChannelKey {
    stage.keep().await;
    let bob = machine_of(&stage.identity(stage.bob.me).await);
    let room = stage.room.key().clone();
    stage
        .liar
        .ask(move |script| {
            let (forged, key) = forged_wrap(script, &room, bob);
            script.lie(move |asked| match asked.op {
                Op::WrapFetch(op) if op.holder == bob => {
                    let wraps = vec![EpochWrap {
                        e: 1,
                        generation: forged.generation,
                        sealed: forged.sealed,
                    }];
                    Some(Outcome::Ok(Reply::Wraps(Wraps { wraps })))
                }
                _ => None,
            });
            key
        })
        .await
}

/// What honest members do is let through again: bob reads and speaks, and nothing was lost.
async fn recovers(stage: &mut Stage) {
    stage.liar.tell(Script::be_honest).await;
    stage.keys_came().await;
}

pub(crate) async fn s12_the_server_makes_the_key() -> &'static str {
    let mut stage = Stage::before(SEALED).await;
    let forged = wrong_wraps(&mut stage).await;
    stage.bob.follow(stage.room.id).await;
    // The server speaks for ada under its own key: it has no signature of hers to put on it.
    let said = stage.room.seal(
        &stage.eve,
        &forged,
        1,
        &Body::text("from the server"),
        |h| {
            h.sender = "ada/box/api".parse().unwrap();
        },
    );
    stage.room.keep(said);
    let text = format!("{CANARY} only for members");
    let sent = stage.bob.says(stage.room.id, &text);
    stage.update().await;
    stage.bob.notices(NoticeKind::KeysPending).await;
    assert!(stage.sent_by_bob().await.is_empty(), "said without a key");
    recovers(&mut stage).await;
    assert!(
        tokio::time::timeout(SOON, sent)
            .await
            .expect("it ends")
            .unwrap()
    );
    let said = stage.sent_by_bob().await.pop().unwrap();
    assert!(forged.open(&said.clone().parse().unwrap()).is_err());
    assert_eq!(stage.opened(&said).as_deref(), Some(&*text));
    stage.sealed_lips().await;
    "not taken: keys_pending until the real one comes"
}

pub(crate) async fn s13_substituted_key() -> &'static str {
    let mut stage = Stage::before(SEALED).await;
    let forged = wrong_wraps(&mut stage).await;
    stage.bob.follow(stage.room.id).await;
    // Ada, who holds the real key, says something; a colluding member says something under the forged.
    let collusion = Body::text("under the forged key");
    let said = stage
        .room
        .seal(&stage.carol, &forged, 1, &collusion, |_| {});
    stage.room.keep(said);
    stage.update().await;
    stage.bob.notices(NoticeKind::KeysPending).await;
    let bob = machine_of(&stage.identity(stage.bob.me).await);
    let thrown = move |op: &Op| match op {
        Op::WrapFetch(op) if op.holder == bob => !op.unusable.is_empty(),
        _ => false,
    };
    stage
        .bob_asks("throws the wrong wrap away", 0, thrown)
        .await;
    recovers(&mut stage).await;
    stage.say_good("good").await;
    stage.bob.hears("good").await;
    stage.bob.notices(NoticeKind::BadSeal).await;
    stage.bob_can_talk().await;
    stage.sealed_lips().await;
    "not taken: commitment; another is asked for"
}

pub(crate) async fn s13_wrong_wrap_by_a_member() -> &'static str {
    let mut stage = Stage::before(SEALED).await;
    stage.keep().await;
    let bob = machine_of(&stage.identity(stage.bob.me).await);
    let (room, key) = (stage.room.id, stage.room.key().clone());
    // Whoever is first with a wrap wins at the server: carol was, with garbage.
    stage
        .liar
        .tell(move |script| {
            let (forged, _) = forged_wrap(script, &key, bob);
            script.wraps.insert((room, 1, bob), forged);
        })
        .await;
    stage.bob.follow(room).await;
    stage.say_with_wraps_of_others("welcome", bob).await;
    let gone = move |script: &Script| !script.wraps.contains_key(&(room, 1, bob));
    stage.liar.until("HANGS: the wrong wrap stays", gone).await;
    // An honest holder brings another one.
    stage.keep().await;
    stage.keys_came().await;
    stage.bob.hears("welcome").await;
    stage.bob_can_talk().await;
    "not taken: thrown away, another one brought"
}

pub(crate) async fn s14_wraps_stripped() -> &'static str {
    let mut stage = Stage::before(SEALED).await;
    stage.keep().await;
    stage
        .liar
        .tell(|script| {
            script.lie(|asked| match asked.op {
                Op::WrapFetch(_) => {
                    let wraps = Vec::new();
                    Some(Outcome::Ok(Reply::Wraps(Wraps { wraps })))
                }
                _ => None,
            });
        })
        .await;
    stage.bob.follow(stage.room.id).await;
    let text = format!("{CANARY} waits for the key");
    let sent = stage.bob.says(stage.room.id, &text);
    stage.bob.notices(NoticeKind::KeysPending).await;
    // A new session of the same machine has the draft, and does no better.
    stage.bob.restart().await;
    stage.bob.follow(stage.room.id).await;
    stage.bob.notices.clear();
    stage.bob.notices(NoticeKind::KeysPending).await;
    drop(sent.await);
    assert!(stage.sent_by_bob().await.is_empty(), "said without a key");
    assert!(!stage.liar.was_told(CANARY).await);
    recovers(&mut stage).await;
    let log = stage.log();
    let came = move |script: &Script| {
        let said = |entry: &conclave_proto::entry::Entry| match &entry.body {
            EntryBody::Env(env) => env.clone().parse().is_ok(),
            EntryBody::Ctl(_) | EntryBody::Unknown(_) => false,
        };
        script
            .logs
            .get(&log)
            .is_some_and(|all| all.iter().any(said))
    };
    stage
        .liar
        .until("HANGS: what waited is not sent", came)
        .await;
    let said = stage.sent_by_bob().await.pop().unwrap();
    assert_eq!(stage.opened(&said).as_deref(), Some(&*text));
    stage.sealed_lips().await;
    "nothing in the clear: keys_pending, sent sealed later"
}

/// Carol lacks the newest key; bob, in a new session, brings it. Returns the wraps he ever made for her.
async fn bob_brings_carol_a_key(stage: &mut Stage) -> Vec<Wrap> {
    let (room, carol) = (stage.room.id, machine_of(&stage.carol.log));
    stage.bob.restart().await;
    stage.bob.follow(room).await;
    let before = stage.questions().await;
    stage
        .liar
        .tell(move |script| script.wraps.retain(|(_, _, to), _| *to != carol))
        .await;
    stage.wanted().await;
    let brings = move |op: &Op| match op {
        Op::WrapPut(op) => op.channel == room && op.wraps.iter().any(|wrap| wrap.to == carol),
        _ => false,
    };
    stage.bob_asks("brings no key", before, brings).await;
    let wraps = stage.wraps_by_bob().await;
    wraps.into_iter().filter(|wrap| wrap.to == carol).collect()
}

fn opens(stage: &Stage, wrap: &Wrap, with: &EncryptionSecret) -> bool {
    let key = stage.room.key();
    wrap::open(wrap, key.place(), &key.commit(), with).is_some()
}

pub(crate) async fn substituted_encryption_key() -> &'static str {
    let mut stage = Stage::new().await;
    let evil = EncryptionSecret::from_seed(&draw());
    let carol = machine_of(&stage.carol.log);
    // Signed by another key than carol's; and a good one of eve's shown as carol's.
    let forger = stage.carol.signing_with(&stage.eve.machine);
    let recs = [
        forger.announces(1, evil.public(), later()),
        stage.eve.announces(1, evil.public(), later()),
    ];
    for rec in recs {
        let bytes = rec.bytes().clone();
        stage
            .liar
            .tell(move |script| {
                script.announced.insert(carol, vec![bytes]);
            })
            .await;
        let wraps = bob_brings_carol_a_key(&mut stage).await;
        assert!(!wraps.is_empty());
        for wrap in wraps {
            assert!(!opens(&stage, &wrap, &evil), "the server reads");
            assert!(opens(&stage, &wrap, &stage.carol.encryption));
        }
    }
    stage.bob_can_talk().await;
    "sealed to the member's own key"
}

pub(crate) async fn stale_encryption_key() -> &'static str {
    let mut stage = Stage::new().await;
    let carol = machine_of(&stage.carol.log);
    let old = EncryptionSecret::from_seed(&draw());
    let new = EncryptionSecret::from_seed(&draw());
    let first = stage.carol.announces(1, old.public(), later());
    let second = stage.carol.announces(2, new.public(), later());
    let both = [&first, &second].map(|rec| rec.bytes().clone());
    stage
        .liar
        .tell(move |script| {
            script.announced.insert(carol, both.into());
        })
        .await;
    let wraps = bob_brings_carol_a_key(&mut stage).await;
    assert!(wraps.iter().all(|wrap| wrap.generation == 2));
    let stale = first.bytes().clone();
    stage
        .liar
        .tell(move |script| {
            script.announced.insert(carol, vec![stale]);
        })
        .await;
    let before = wraps.len();
    stage.bob.notices.clear();
    let wraps = bob_brings_carol_a_key(&mut stage).await;
    assert!(wraps.len() > before);
    for wrap in wraps {
        assert!(
            !opens(&stage, &wrap, &old),
            "ATTACK SUCCEEDED: sealed to a key that was replaced"
        );
        assert!(opens(&stage, &wrap, &new));
    }
    stage.bob.notices(NoticeKind::GhostKey).await;
    "sealed to the newest one seen; told: ghost_key"
}

pub(crate) async fn broken_way_back() -> &'static str {
    let mut stage = Stage::before(SEALED).await;
    stage.room.says(&stage.ada, 1, "of epoch 1");
    // Carol makes the next epoch; its way back leads nowhere. Ada and bob get its key.
    let key = stage.room.next_key();
    let epoch = match stage.room.epoch(&key) {
        CtlBody::Epoch {
            e,
            covers_c,
            members_root,
            commit,
            bundle_box,
            ..
        } => CtlBody::Epoch {
            e,
            covers_c,
            members_root,
            commit,
            prev_box: Some([7; 72].to_vec().into()),
            bundle_box,
        },
        _ => unreachable!("it is an epoch"),
    };
    stage.room.ctl(&stage.carol, epoch);
    stage.room.keys.push(key);
    stage.keep().await;
    // Bob came after epoch 1: nobody sealed its key to him, the way back was meant for that.
    let (room, bob) = (
        stage.room.id,
        machine_of(&stage.identity(stage.bob.me).await),
    );
    stage
        .liar
        .tell(move |script| {
            script.wraps.remove(&(room, 1, bob));
        })
        .await;
    stage.bob.follow(room).await;
    let past = stage
        .bob
        .client
        .history(room, conclave_client::client::History::After(0), 100);
    let past = tokio::time::timeout(SOON, past).await.expect("it ends");
    assert!(past.unwrap().is_empty());
    stage.say_with_wraps_of_others("of epoch 2", bob).await;
    stage.bob.hears("of epoch 2").await;
    stage.bob_can_talk().await;
    "the past stays closed; the present goes on"
}

pub(crate) async fn bad_commitment() -> &'static str {
    let mut stage = Stage::new().await;
    // Carol commits to one key and seals another to everybody.
    let (key, other) = (stage.room.next_key(), stage.room.next_key());
    let epoch = stage.room.epoch(&key);
    stage.room.ctl(&stage.carol, epoch);
    let (room, holders) = (
        stage.room.clone(),
        stage.room.log.holders(&stage.room.people),
    );
    let sealed = other.clone();
    stage
        .liar
        .tell(move |script| {
            for to in holders.into_keys() {
                let wrap = forge(script, &sealed, &key.commit(), to);
                let places = wrap.map(|wrap| ((room.id, 2, to), wrap));
                script.wraps.extend(places);
            }
            script.update(&room);
        })
        .await;
    stage.bob.sees_a_change().await;
    let text = format!("{CANARY} not under that");
    let sent = stage.bob.says(stage.room.id, &text);
    stage.bob.notices(NoticeKind::KeysPending).await;
    for said in stage.sent_by_bob().await {
        assert!(other.open(&said.parse().unwrap()).is_err());
    }
    // An admin breaks it off: the next epoch has no way back to the one that has no key.
    let next = stage.room.next_key();
    let epoch = match stage.room.epoch(&next) {
        CtlBody::Epoch {
            e,
            covers_c,
            members_root,
            commit,
            bundle_box,
            ..
        } => CtlBody::Epoch {
            e,
            covers_c,
            members_root,
            commit,
            prev_box: None,
            bundle_box,
        },
        _ => unreachable!("it is an epoch"),
    };
    stage.room.ctl(&stage.ada, epoch);
    stage.room.keys.push(next);
    stage.update().await;
    stage.keys_came().await;
    drop(sent.await);
    let (log, bob) = (stage.log(), stage.bob.me);
    let came = move |script: &Script| {
        let his = script.asked.iter().filter(|(user, _)| *user == bob);
        his.into_iter()
            .any(|(_, op)| matches!(op, Op::Append(op) if op.log == log))
    };
    stage
        .liar
        .until("HANGS: what waited is not sent", came)
        .await;
    let said = stage.sent_by_bob().await.pop().unwrap();
    assert_eq!(stage.opened(&said).as_deref(), Some(&*text));
    stage.sealed_lips().await;
    "nothing said until an admin breaks it off: keys_pending"
}

pub(crate) async fn victims_own_key_swapped() -> &'static str {
    let mut stage = Stage::new().await;
    // Bob rotates; the server says that somebody was first, with an epoch of its own making.
    let room = stage.room.clone();
    let key = room.next_key();
    let thief = Person::new(stage.liar.id, "thief", 80);
    let genesis = thief.genesis.clone();
    stage
        .liar
        .tell(move |script| drop(script.learn(genesis)))
        .await;
    let forged = room.record(&thief, room.epoch(&key));
    let log = LogId::Channel(room.id);
    let mut done = false;
    stage
        .liar
        .tell(move |script| {
            script.lie(move |asked| match asked.op {
                Op::CtlAppend(_) if !std::mem::replace(&mut done, true) => {
                    let code = conclave_proto::reject::Code::CtlConflict;
                    let text = "somebody was first";
                    Some(Outcome::Err(conclave_proto::reject::Reject::new(
                        code, text,
                    )))
                }
                _ => None,
            });
        })
        .await;
    let seq = stage.room.next_seq();
    let entry = conclave_sim::hostile::ctl(seq, &forged);
    stage.liar.push(log, vec![entry]).await;
    stage.bob.notices(NoticeKind::ChainBreak).await;
    let rotated = tokio::time::timeout(SOON, stage.bob.client.rotate(room.id)).await;
    drop(rotated.expect("it ends"));
    let text = format!("{CANARY} not for the server");
    let sent = stage.bob.says(room.id, &text);
    drop(tokio::time::timeout(SOON, sent).await.expect("it ends"));
    for said in stage.sent_by_bob().await {
        assert!(
            key.open(&said.parse().unwrap()).is_err(),
            "the server reads"
        );
    }
    stage.sealed_lips().await;
    "not taken: chain_break; nothing said under it"
}
