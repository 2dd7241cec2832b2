//! Attacks on whispers.

use super::stage::{CANARY, Stage};
use conclave_client::client::Target;
use conclave_client::event::NoticeKind;
use conclave_e2ee::EncryptionSecret;
use conclave_proto::body::Body;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::frame::op::Op;
use conclave_proto::id::{LogId, MailboxId};
use conclave_proto::key::{EncryptionKey, HolderKey};
use conclave_proto::name::SessionPath;
use conclave_sim::hostile::{SOON, draw, env, now, whispers};

/// Where whispers to bob go: the log, the path, and the key of his machine.
struct Mailbox {
    log: LogId,
    path: SessionPath,
    key: EncryptionKey,
}

async fn mailbox(stage: &mut Stage) -> Mailbox {
    stage.bob.client.follow_mailbox().await.unwrap();
    let ready = stage.bob.client.live().unwrap();
    let log = LogId::Mailbox(MailboxId::of(&stage.bob.me, &ready.path));
    let machines = stage.identity(stage.bob.me).await;
    let holder = HolderKey::from(machines.machines().next().unwrap().key);
    let newest = stage.liar.ask(move |script| script.encryption_key(&holder));
    let (_, key) = newest.await.unwrap();
    let path = ready.path.clone();
    Mailbox { log, path, key }
}

/// Puts lies into the mailbox, then a good whisper from ada, and returns what bob noticed.
async fn lies(stage: &mut Stage, to: &Mailbox, lies: Vec<Envelope>) -> Vec<NoticeKind> {
    let path = to.path.clone();
    let good = stage.ada.whispers(path, &to.key, 50, "good", |_| {});
    let all = lies.into_iter().chain([good]);
    let log = to.log;
    let before = stage
        .liar
        .ask(move |script| script.logs.get(&log).map_or(0, Vec::len))
        .await;
    let first = u64::try_from(before).unwrap() + 1;
    let entries: Vec<_> = (first..).zip(all).map(|(seq, e)| env(seq, e)).collect();
    let kept = entries.clone();
    stage
        .liar
        .tell(move |script| script.logs.entry(log).or_default().extend(kept))
        .await;
    stage.bob.notices.clear();
    stage.liar.push(log, entries).await;
    stage.bob.hears("good").await;
    stage.bob.kinds()
}

pub(crate) async fn s14_clear_whisper() -> &'static str {
    let mut stage = Stage::new().await;
    let to = mailbox(&mut stage).await;
    let route = Route::Whisper(to.path.clone());
    let clear = stage
        .ada
        .clear(whispers(&stage.liar.id), route, 1, "psst", |_| {});
    let seen = lies(&mut stage, &to, vec![clear]).await;
    assert_eq!(seen, [NoticeKind::Downgrade]);
    "dropped: downgrade"
}

pub(crate) async fn whisper_to_somebody_else() -> &'static str {
    let mut stage = Stage::new().await;
    let to = mailbox(&mut stage).await;
    let (ada, key) = (stage.ada.clone(), to.key);
    let path = |text: &str| text.parse::<SessionPath>().unwrap();
    // Sealed to bob's machine, but said to somebody else: he must not take it as said to him.
    let other_user = ada.whispers(path("carol/box/api"), &key, 1, "for carol", |_| {});
    let other_session = ada.whispers(path("bob/box/other"), &key, 1, "for other", |_| {});
    // For another machine's key: nothing to open it with.
    let strange = EncryptionSecret::from_seed(&draw()).public();
    let other_key = ada.whispers(to.path.clone(), &strange, 1, "for her", |_| {});
    // Carol signs what ada sealed.
    let said = ada.whispers(to.path.clone(), &key, 2, "from ada", |_| {});
    let mut header = Header::parse(&said.header).unwrap();
    header.sender = stage.carol.path.clone();
    header.sender_key = stage.carol.machine.machine_key();
    let stolen = Envelope::signed(header.to_bytes(), said.nonce, said.ct, &stage.carol.machine);
    let all = vec![other_user, other_session, other_key, stolen];
    let seen = lies(&mut stage, &to, all).await;
    let wrong = NoticeKind::Malformed;
    let kinds = [wrong, wrong, NoticeKind::Unreadable, NoticeKind::BadSeal];
    assert_eq!(seen, kinds);
    "dropped: malformed, unreadable, bad_seal"
}

pub(crate) async fn whisper_replayed() -> &'static str {
    let mut stage = Stage::new().await;
    let to = mailbox(&mut stage).await;
    let path = to.path.clone();
    let once = stage.ada.whispers(path, &to.key, 1, "pay 10", |_| {});
    let kept = vec![env(1, once.clone())];
    let (log, copy) = (to.log, kept.clone());
    stage
        .liar
        .tell(move |script| script.logs.entry(log).or_default().extend(copy))
        .await;
    stage.liar.push(to.log, kept).await;
    stage.bob.hears("pay 10").await;
    let seen = lies(&mut stage, &to, vec![once]).await;
    assert_eq!(seen[0], NoticeKind::Replayed, "{seen:?}");
    "dropped: replayed"
}

pub(crate) async fn whisper_to_a_substituted_key() -> &'static str {
    let stage = Stage::new().await;
    // Ada's machine, as the server would have it: announced by a key that is not hers.
    let evil = EncryptionSecret::from_seed(&draw());
    let later = conclave_proto::time::UnixMs(now().0 + 1_000_000_000);
    let forger = stage.ada.signing_with(&stage.eve.machine);
    let rec = forger.announces(1, evil.public(), later);
    let holder = HolderKey::from(stage.ada.machine.machine_key());
    let bytes = rec.bytes().clone();
    stage
        .liar
        .tell(move |script| {
            script.announced.insert(holder, vec![bytes]);
        })
        .await;
    let (client, body) = (
        stage.bob.client.clone(),
        Body::text(format!("{CANARY} for ada")),
    );
    let to = Target::Session(stage.ada.path.clone());
    let sent = tokio::time::timeout(SOON, client.send(to, &body, 0, false)).await;
    assert!(sent.expect("it ends").unwrap().stored.is_some());
    let whispers = stage.asked(|op| match op {
        Op::Append(op) => Some(op.env.clone()),
        _ => None,
    });
    let said = whispers.await.pop().unwrap().parse().unwrap();
    assert_eq!(said.header.suite, Suite::One);
    assert!(conclave_e2ee::whisper::open(&said, &evil).is_err());
    let plain = conclave_e2ee::whisper::open(&said, &stage.ada.encryption).unwrap();
    assert_eq!(Body::parse(&plain).unwrap().text, body.text);
    stage.sealed_lips().await;
    "sealed to the recipient's own key"
}
