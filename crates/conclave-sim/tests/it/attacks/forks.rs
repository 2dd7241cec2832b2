//! Attacks on history itself: two pasts, hidden records, an older past.

use super::stage::{Stage, Victim, said};
use conclave_client::client::Target;
use conclave_client::event::NoticeKind;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{CtlBody, RemoveKind, Role};
use conclave_proto::entry::{Entry, EntryBody, Header};
use conclave_proto::frame::event::{Entries, Event};
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{Appended, Reply};
use conclave_proto::frame::{Outcome, ServerFrame};
use conclave_proto::id::{LogId, UserId};
use conclave_proto::identity_log::build;
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::{SOON, env, now};

/// Tells one user's sessions entries.
async fn show(stage: &Stage, user: UserId, entries: Vec<Entry>) {
    let (log, gap) = (stage.log(), None);
    let told = Event::Entries(Entries { log, entries, gap });
    stage.liar.frame_to(user, ServerFrame::Event(told)).await;
}

pub(crate) async fn two_victims_two_logs() -> &'static str {
    let mut stage = Stage::new().await;
    let mut dan = Victim::new(&stage.liar, "dan").await;
    let log = stage.identity(dan.me).await;
    stage.room.add(&stage.ada, &log, Role::Member);
    stage.update().await;
    dan.follow(stage.room.id).await;
    stage.say_good("all of you").await;
    stage.bob.hears("all of you").await;
    dan.hears("all of you").await;
    // From here on the server takes what they say and gives both the same place; each sees its own.
    let place = stage.room.next_seq();
    let room = stage.log();
    stage
        .liar
        .tell(move |script| {
            let mut first: std::collections::HashSet<UserId> = [].into();
            script.lie(move |asked| match asked.op {
                Op::Append(op) if op.log == room => {
                    let seq = place + u64::from(!first.insert(asked.user));
                    let (at, dup) = (now(), false);
                    Some(Outcome::Ok(Reply::Appended(Appended { seq, at, dup })))
                }
                _ => None,
            });
        })
        .await;
    let mut sent = Vec::new();
    for (who, text) in [(&stage.bob, "bob's past"), (&dan, "dan's past")] {
        let (to, body) = (Target::Channel(stage.room.id), Body::text(text));
        who.client.send(to, &body, 0, false).await.unwrap();
        sent.push(last_append(&stage, who.me).await);
        show(
            &stage,
            who.me,
            vec![env(place, sent.last().unwrap().clone())],
        )
        .await;
    }
    // A reader has reached the place; then its next words name it.
    dan.client.channel(stage.room.id).await.unwrap();
    let reached = dan.client.clone();
    let (to, body) = (Target::Channel(stage.room.id), Body::text("crossing"));
    reached.send(to, &body, 0, false).await.unwrap();
    let crossing = last_append(&stage, dan.me).await;
    show(&stage, stage.bob.me, vec![env(place + 1, crossing)]).await;
    // It is shown, for it is truly dan's; what is wrong is said loudly.
    let seen = stage.bob.hears("crossing").await;
    assert_eq!(said(&seen), "crossing");
    assert!(
        stage.bob.kinds().contains(&NoticeKind::ServerFork),
        "ATTACK SUCCEEDED: two pasts, and nobody is told: {:?}",
        stage.bob.kinds()
    );
    "told: server_fork"
}

async fn last_append(stage: &Stage, user: UserId) -> conclave_proto::entry::Envelope {
    let all = stage.liar.ask(move |script| {
        let his = script.asked.iter().filter(|(who, _)| *who == user);
        let said = his.filter_map(|(_, op)| match op {
            Op::Append(op) => Some(op.env.clone()),
            _ => None,
        });
        said.last()
    });
    all.await.expect("something was said")
}

pub(crate) async fn hidden_control_record() -> &'static str {
    let mut stage = Stage::new().await;
    // Ada makes an invite that is kept from bob: her next words say that there is another record.
    let before = stage.room.next_seq();
    stage.room.invite(&stage.ada, 1);
    let ctr = stage.next_ctr(&stage.ada);
    let said = stage.room.envelope(&stage.ada, ctr, "after the invite");
    let log: LogId = stage.log();
    let entry = env(before, said);
    let kept = entry.clone();
    stage
        .liar
        .tell(move |script| script.logs.entry(log).or_default().push(kept))
        .await;
    stage.liar.push(log, vec![entry]).await;
    stage.bob.hears("after the invite").await;
    assert!(
        stage.bob.kinds().contains(&NoticeKind::ServerFork),
        "ATTACK SUCCEEDED: a record is hidden, and nobody is told: {:?}",
        stage.bob.kinds()
    );
    "told: server_fork"
}

/// Ada removes carol and rotates; then bob restarts, and the server shows the log before that.
async fn rolled_back() -> Stage {
    let mut stage = Stage::new().await;
    let log = stage.log();
    let before = stage.room.entries.clone();
    let carol = stage.carol.user();
    stage.room.remove(&stage.ada, carol, RemoveKind::Kick);
    stage.room.rotate(&stage.ada);
    stage.update().await;
    stage.say_good("carol is out").await;
    stage.bob.hears("carol is out").await;
    stage
        .liar
        .tell(move |script| {
            script.logs.insert(log, before);
        })
        .await;
    stage.bob.restart().await;
    stage
}

/// Bob says something; nothing of it may be readable with the key that carol has.
async fn speaks_past_carol(stage: &mut Stage) {
    let text = "canary: not for carol";
    let sent = stage.bob.says(stage.room.id, text);
    drop(tokio::time::timeout(SOON, sent).await.expect("it ends"));
    let all = stage.asked(|op| match op {
        Op::Append(op) => Some(op.env.clone()),
        _ => None,
    });
    for said in all.await {
        let parsed = said.parse().unwrap();
        assert!(
            stage.room.keys[0].open(&parsed).is_err(),
            "ATTACK SUCCEEDED: carol reads on"
        );
    }
    let carol = stage.carol.user();
    let known = stage.bob.client.known_channels().await.unwrap();
    assert!(!known.is_empty());
    let without = known.iter().all(|channel| channel.member(&carol).is_none());
    assert!(without, "ATTACK SUCCEEDED: carol is back");
    stage.sealed_lips().await;
}

pub(crate) async fn rolled_back_channel() -> &'static str {
    let mut stage = rolled_back().await;
    speaks_past_carol(&mut stage).await;
    "not believed: the pinned chain stays"
}

pub(crate) async fn another_chain_after_restart() -> &'static str {
    let mut stage = rolled_back().await;
    // Ada signed another record once, which the server kept back then: carol stays in this past.
    let log = stage.log();
    let mut other = stage.room.clone();
    let first = 1 + other.entries.iter().position(is_removal).unwrap();
    other.entries.truncate(first - 1);
    let seq = other.next_seq();
    let head = Stage::head_before(&stage.room, seq);
    let topic = CtlBody::Freeze { on: true };
    let rec = stage.ada.ctl(stage.room.id, Some(head), topic);
    let entry = conclave_sim::hostile::ctl(seq, &rec);
    let kept = entry.clone();
    stage
        .liar
        .tell(move |script| script.logs.entry(log).or_default().push(kept))
        .await;
    let followed = stage.bob.client.follow(stage.room.id);
    drop(tokio::time::timeout(SOON, followed).await.expect("it ends"));
    speaks_past_carol(&mut stage).await;
    "not believed: the pinned chain stays"
}

fn is_removal(entry: &Entry) -> bool {
    let EntryBody::Ctl(rec) = &entry.body else {
        return false;
    };
    let parsed = conclave_proto::channel_log::ParsedCtl::parse(rec);
    parsed.is_ok_and(|rec| matches!(rec.body, CtlBody::Remove { .. }))
}

pub(crate) async fn rolled_back_identity() -> &'static str {
    let mut stage = Stage::new().await;
    // Ada revokes a machine that she enrolled; bob has seen both.
    let second = conclave_proto::key::Secret::from_seed(&conclave_sim::hostile::draw());
    let ek = stage.eve.encryption.public();
    let ada = stage.ada.user();
    let add = stage.ada.adds_machine(&stage.ada.log, &second, "desk", ek);
    let mut log = stage.ada.log.clone();
    log.append(add.bytes()).unwrap();
    let with = log.clone();
    let revoke = build::revoke_machine(
        &log,
        second.machine_key(),
        "stolen",
        &stage.ada.owner,
        UnixMs(1),
    );
    log.append(revoke.bytes()).unwrap();
    for (rec, state) in [(add, with), (revoke, log)] {
        let (bytes, head) = (rec.bytes().clone(), state.head());
        stage
            .liar
            .tell(move |script| script.idents.get_mut(&ada).unwrap().push(bytes))
            .await;
        stage.ada.log = state.clone();
        stage.room.people.insert(ada, state);
        stage
            .room
            .ctl(&stage.ada, CtlBody::Ident { user: ada, head });
    }
    stage.room.rotate(&stage.ada);
    stage.update().await;
    stage.say_good("my desk is gone").await;
    stage.bob.hears("my desk is gone").await;
    // Now the identity ends before the revocation again.
    stage.show_older_identity(ada, 2).await;
    stage.bob.restart().await;
    stage.bob.follow(stage.room.id).await;
    let mut thief = stage.ada.signing_with(&second);
    thief.path = "ada/desk/api".parse().unwrap();
    let key = stage.room.key().clone();
    let stolen = stage
        .room
        .seal(&thief, &key, 1, &Body::text("it is me"), |_| {});
    let seen = stage.lies(vec![EntryBody::Env(stolen)]).await;
    assert_eq!(seen, [NoticeKind::BadSignature]);
    let head = stage.bob.client.identity_head(ada).await.unwrap();
    assert_eq!(head.n, 2, "ATTACK SUCCEEDED: the older identity");
    stage.bob_can_talk().await;
    let sent = stage.sent_by_bob().await.pop().unwrap();
    assert!(Header::parse(&sent.header).is_some());
    let wraps = stage.wraps_by_bob().await;
    let gone = second.machine_key().into();
    assert!(wraps.iter().all(|wrap| wrap.to != gone));
    "not believed: the pinned identity stays"
}
