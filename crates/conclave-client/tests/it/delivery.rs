//! What becomes of what is said: each step of the ladder by its own evidence, over real sockets.

use crate::scene::{CHANNEL, Scene, heard, say};
use crate::talk::{Machine, SOON, World, name};
use conclave_client::client::{Client, NewChannel, Signer, Target};
use conclave_client::event::{Event, NoticeKind, VerifiedMessage};
use conclave_client::pace::{self, Pace};
use conclave_client::replica::delivery::{MessageStatus, Step};
use conclave_proto::body::{Body, Fate, Receipt};
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::frame::op::Op;
use conclave_proto::id::{ChannelId, LogId, MsgId};
use conclave_proto::name::SessionPath;
use conclave_proto::reject::Code;
use conclave_proto::time::{Mono, UnixMs};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often something is looked at until it is so.
const TICK: Duration = Duration::from_millis(50);

#[test]
fn the_ladder_is_climbed_and_never_descended() {
    use Step::{Answered, Blocked, Expired, InContext, Offered, Queued, Refused, Stored};
    let table: [(Step, &[Step]); 8] = [
        (
            Queued,
            &[
                Stored, Offered, Expired, Refused, Blocked, InContext, Answered,
            ],
        ),
        (Stored, &[Offered, Expired, Blocked, InContext, Answered]),
        (Offered, &[Blocked, InContext, Answered]),
        // What the recipient says counts most.
        (Expired, &[Blocked, InContext, Answered]),
        (Refused, &[Stored, Blocked, InContext, Answered]),
        (Blocked, &[InContext, Answered]),
        (InContext, &[Answered]),
        (Answered, &[]),
    ];
    let all = table.map(|(step, _)| step);
    for (from, leads) in table {
        for to in all {
            let expected = leads.contains(&to);
            assert_eq!(from.leads_to(to), expected, "{from:?} to {to:?}");
        }
    }
}

fn receipt(n: u8, fate: Fate) -> Receipt {
    Receipt {
        id: MsgId::new([n; 16]),
        fate: Some(fate),
        at: UnixMs(n.into()),
    }
}

#[test]
fn receipts_are_told_at_a_pace_whoever_asks_for_how_many() {
    let asked = |n: u64| -> pace::Due {
        let one = |n| {
            let to = path(&format!("eve/box/s{n}"));
            (to, vec![receipt(1, Fate::InContext)])
        };
        (0..n).map(one).collect()
    };
    let mut pace = Pace::default();
    let mut told = 0;
    for second in 0..60 {
        let now = Mono(second * 1_000);
        let plan = pace.plan(now, asked(100));
        told += plan.now.len() as u64;
        assert_eq!(plan.rest_ms, Some(pace::EACH_MS), "there is more to tell");
        // At once nothing more is told.
        assert_eq!(pace.plan(now, asked(1)).now, []);
    }
    assert_eq!(told, pace::BURST + 59 * 2);
    // After a rest a whole burst is free, and what fits in it is told whole.
    let few = asked(pace::BURST);
    let plan = pace.plan(Mono(100_000), few.clone());
    assert_eq!((plan.now, plan.rest_ms), (few, None));
}

#[test]
fn a_muted_sender_hears_of_it_once_a_minute_and_of_the_rest_at_once() {
    let eve = |fates: &[Fate]| {
        let receipts = fates.iter().map(|fate| receipt(1, *fate));
        vec![(path("eve/box/web"), receipts.collect::<Vec<_>>())]
    };
    let mut pace = Pace::default();
    let blocked = || eve(&[Fate::Blocked, Fate::Blocked]);
    assert_eq!(pace.plan(Mono(0), blocked()).now, blocked());
    let plan = pace.plan(Mono(20_000), blocked());
    assert_eq!((plan.now, plan.rest_ms), (vec![], Some(40_000)));
    let mixed = eve(&[Fate::Blocked, Fate::InContext]);
    assert_eq!(pace.plan(Mono(20_000), mixed.clone()).now, mixed);
    let other = vec![(path("bob/box/web"), vec![receipt(1, Fate::Blocked)])];
    assert_eq!(pace.plan(Mono(20_000), other.clone()).now, other);
    assert_eq!(pace.plan(Mono(59_999), blocked()).now, []);
    assert_eq!(pace.plan(Mono(60_000), blocked()).now, blocked());
}

/// Each whisper that a muted sender writes is not worth an entry of its own.
#[tokio::test]
async fn what_is_muted_does_not_make_its_sender_be_answered_each_time() {
    let mut team = Team::new(&["bob"]).await;
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        ids.push(team.whisper("bob/box/web", text).await);
        let (_, b, events) = &mut team.others[0];
        let came = heard(events).await;
        b.mark(vec![(came.log, came.id, Some(Fate::Blocked))])
            .await
            .unwrap();
        team.reaches(ids[0], "bob/box/web", Step::Blocked).await;
    }
    // The next that it has is told at once, and with it what was held back.
    let read = team.whisper("bob/box/web", "three").await;
    let (_, b, events) = &mut team.others[0];
    let came = heard(events).await;
    let held = team.a.message_status(ids[1]).await.unwrap().unwrap();
    assert_ne!(step(&held, "bob/box/web"), Some(Step::Blocked));
    b.mark_shown(came.log, came.id).await.unwrap();
    team.reaches(read, "bob/box/web", Step::InContext).await;
    team.reaches(ids[1], "bob/box/web", Step::Blocked).await;
}

/// Ada and some others in the sealed channel `ops`, all following it and their mailboxes.
struct Team {
    world: World,
    ops: ChannelId,
    ada: Machine,
    a: Client,
    a_events: mpsc::Receiver<Event>,
    others: Vec<(Machine, Client, mpsc::Receiver<Event>)>,
}

impl Team {
    async fn new(others: &[&str]) -> Self {
        let world = World::start().await;
        let ada = Machine::new();
        drop(ada.register(&world, "ada").await);
        let (a, a_events) = ada.session("api", 1).await;
        let ops = NewChannel::new(name("ops"), Visibility::Private);
        let ops = *a.create_channel(ops).await.unwrap().id();
        follow(&a, ops).await;
        let mut team = Self {
            world,
            ops,
            ada,
            a,
            a_events,
            others: Vec::new(),
        };
        for user in others {
            let machine = Machine::new();
            drop(machine.register(&team.world, user).await);
            let user = name(user);
            let added = team.a.add_member(ops, &user, Role::Member, Signer::Machine);
            added.await.unwrap();
            let (client, events) = machine.session("web", 2).await;
            follow(&client, ops).await;
            team.others.push((machine, client, events));
        }
        team
    }

    async fn whisper(&self, to: &str, text: &str) -> MsgId {
        let to = Target::Session(path(to));
        let sent = self.a.send(to, &Body::text(text), 0, false).await.unwrap();
        assert!(sent.stored.is_some());
        sent.id
    }

    /// Says something in the channel, for these.
    async fn say_to(&self, to: &[&str], text: &str) -> MsgId {
        let (id, to) = (drawn(), to.iter().map(|to| path(to)).collect::<Vec<_>>());
        let target = Target::Channel(self.ops);
        let sent = self
            .a
            .send_as(id, target, &to, &Body::text(text), 0, false)
            .await;
        assert!(sent.unwrap().stored.is_some());
        id
    }

    async fn step(&self, id: MsgId, peer: &str) -> Option<Step> {
        step(&self.a.message_status(id).await.unwrap().unwrap(), peer)
    }

    /// Waits until a message has come so far with somebody.
    async fn reaches(&self, id: MsgId, peer: &str, wanted: Step) {
        reaches(&self.a, id, peer, wanted).await;
    }
}

async fn follow(client: &Client, channel: ChannelId) {
    client.follow(channel).await.unwrap();
    client.follow_mailbox().await.unwrap();
}

fn path(text: &str) -> SessionPath {
    text.parse().unwrap()
}

fn drawn() -> MsgId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    MsgId::new(bytes)
}

fn step(status: &MessageStatus, peer: &str) -> Option<Step> {
    let row = status.rows.iter().find(|row| row.peer == path(peer));
    row.map(|row| row.step)
}

async fn reaches(client: &Client, id: MsgId, peer: &str, wanted: Step) {
    let wait = async {
        loop {
            let status = client.message_status(id).await.unwrap().unwrap();
            if step(&status, peer) == Some(wanted) {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
    };
    if tokio::time::timeout(SOON, wait).await.is_err() {
        let status = client.message_status(id).await.unwrap();
        panic!("{peer} does not reach {wanted:?}: {status:?}");
    }
}

async fn answers(client: &Client, asked: &VerifiedMessage, text: &str) {
    let target = Target::Session(asked.sender.clone());
    let body = Body {
        reply_to: Some(asked.id),
        ..Body::text(text)
    };
    client.send(target, &body, 1, false).await.unwrap();
}

#[tokio::test]
async fn a_whisper_climbs_the_ladder_step_by_step() {
    let mut team = Team::new(&["bob"]).await;
    let (bob, b, b_events) = team.others.pop().unwrap();
    drop(b_events);
    b.stop().await;
    let id = team.whisper("bob/box/web", "when you are back").await;
    assert_eq!(team.step(id, "bob/box/web").await, Some(Step::Stored));

    let (b, mut b_events) = bob.session("web", 2).await;
    follow(&b, team.ops).await;
    let came = heard(&mut b_events).await;
    assert!(came.body.receipt, "a whisper asks what became of it");
    team.reaches(id, "bob/box/web", Step::Offered).await;

    b.mark_shown(came.log, came.id).await.unwrap();
    team.reaches(id, "bob/box/web", Step::InContext).await;
    answers(&b, &came, "here I am").await;
    team.reaches(id, "bob/box/web", Step::Answered).await;
    let proven = team.a.proven().await.unwrap();
    assert!(proven.contains_key(&path("bob/box/web")));

    let status = team.a.message_status(id).await.unwrap().unwrap();
    assert_eq!((status.parts.len(), status.rows.len()), (1, 1));
    let other = team.a.message_status(drawn()).await.unwrap();
    assert_eq!(other, None, "of what was never sent nothing is known");
}

#[tokio::test]
async fn a_message_to_a_channel_is_followed_for_each_it_names_and_who_else_reads_it() {
    let mut team = Team::new(&["bob", "eve"]).await;
    let id = team.say_to(&["bob/box/web"], "bob?").await;
    let quiet = say(&team.a, team.ops, "all of you").await.unwrap();
    for (_, client, events) in &mut team.others {
        let came = heard(events).await;
        client.mark_shown(came.log, came.id).await.unwrap();
        let plain = heard(events).await;
        assert_eq!((plain.seq, plain.body.receipt), (quiet, false));
        client.mark_shown(plain.log, plain.id).await.unwrap();
    }
    // Eve was not named, and read it.
    for peer in ["bob/box/web", "eve/box/web"] {
        team.reaches(id, peer, Step::InContext).await;
    }
    let many: Vec<_> = (0..21).map(|n| format!("bob/box/n{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let id = team.say_to(&many, "too many to follow").await;
    let status = team.a.message_status(id).await.unwrap().unwrap();
    assert!(status.rows.is_empty() && status.parts[0].seq.is_some());
}

#[tokio::test]
async fn what_is_muted_is_blocked_and_what_is_for_others_says_nothing() {
    let mut team = Team::new(&["bob"]).await;
    let muted = team.whisper("bob/box/web", "psst").await;
    let passed = team.say_to(&["bob/box/web"], "for others").await;
    let (_, b, events) = &mut team.others[0];
    for _ in 0..2 {
        let came = heard(events).await;
        match came.id == muted {
            true => b
                .mark(vec![(came.log, came.id, Some(Fate::Blocked))])
                .await
                .unwrap(),
            false => b.mark(vec![(came.log, came.id, None)]).await.unwrap(),
        }
    }
    assert_eq!(b.unshown(10).await.unwrap(), []);
    team.reaches(muted, "bob/box/web", Step::Blocked).await;
    team.reaches(passed, "bob/box/web", Step::Offered).await;
}

/// A third member tells of a message that was not for it: that speaks for itself alone.
#[tokio::test]
async fn a_forged_receipt_changes_nothing_for_others() {
    let mut team = Team::new(&["bob", "eve"]).await;
    let whisper = team.whisper("bob/box/web", "for bob").await;
    let (bob, b, events) = team.others.remove(0);
    drop((b, events));
    let (eve, e, mut events) = team.others.pop().unwrap();
    let true_one = team.whisper("eve/box/web", "for eve").await;
    let came = heard(&mut events).await;
    let id = eve.home.servers().unwrap().pop().unwrap().id;
    let file = eve.home.server_dir(&id).join("replica.sqlite");
    let db = rusqlite::Connection::open(file).unwrap();
    db.busy_timeout(SOON).unwrap();
    let sql = "INSERT INTO receipt VALUES ('web', 'ada/box/api', ?1, 'in_context', 1)";
    db.execute(sql, [whisper.as_bytes()]).unwrap();
    e.mark_shown(came.log, came.id).await.unwrap();
    // Both went in one entry.
    team.reaches(true_one, "eve/box/web", Step::InContext).await;
    let status = team.a.message_status(whisper).await.unwrap().unwrap();
    assert_eq!(status.rows.len(), 1);
    let step = step(&status, "bob/box/web").unwrap();
    assert!(matches!(step, Step::Stored | Step::Offered), "{step:?}");
    drop(bob);
}

/// Who saw an id in the channel says something under it, too.
#[tokio::test]
async fn an_id_means_what_was_shown_under_it() {
    let mut team = Team::new(&["bob", "eve"]).await;
    let id = team.say_to(&["bob/box/web"], "the true one").await;
    let [(_, b, events), (_, e, _)] = team.others.as_mut_slice() else {
        panic!("bob and eve")
    };
    let came = heard(events).await;
    let to = Target::Session(path("bob/box/web"));
    e.send_as(id, to, &[], &Body::text("forged"), 0, false)
        .await
        .unwrap();
    let forged = heard(events).await;
    assert_eq!((forged.id, forged.sender), (id, path("eve/box/web")));
    let senders = async || {
        let found = b.said_under(id).await.unwrap().into_iter();
        found.map(|m| m.sender.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(senders().await, ["ada/box/api", "eve/box/web"]);
    b.mark_shown(forged.log, id).await.unwrap();
    assert_eq!(senders().await, ["eve/box/web"]);
    b.mark_shown(came.log, id).await.unwrap();
    assert_eq!(senders().await, ["ada/box/api", "eve/box/web"]);
}

#[tokio::test]
async fn a_receipt_outlives_the_process_that_owed_it() {
    let mut team = Team::new(&["bob"]).await;
    let id = team.whisper("bob/box/web", "psst").await;
    let (bob, b, mut events) = team.others.pop().unwrap();
    let came = heard(&mut events).await;
    team.world.down().await;
    b.mark_shown(came.log, came.id).await.unwrap();
    // Dropped, not stopped: nothing is said, and nothing is left in the outbox.
    drop((b, events));
    team.world.up().await;
    let (b, _events) = bob.session("web", 2).await;
    team.reaches(id, "bob/box/web", Step::InContext).await;
    drop(b);
}

/// The sender learns of it live, and later from its own disk.
#[tokio::test]
async fn what_became_of_a_message_is_told_once_and_kept() {
    let mut team = Team::new(&["bob"]).await;
    let id = team.whisper("bob/box/web", "psst").await;
    let (_, b, events) = &mut team.others[0];
    let came = heard(events).await;
    b.mark_shown(came.log, came.id).await.unwrap();
    let told = async {
        loop {
            match team.a_events.recv().await.expect("the session goes on") {
                Event::Delivery { id, peer, step } => return (id, peer, step),
                Event::Message(_) => panic!("a receipt is no message"),
                _ => {}
            }
        }
    };
    let told = tokio::time::timeout(SOON, told).await.unwrap();
    assert_eq!(told, (id, path("bob/box/web"), Step::InContext));
    team.a.stop().await;
    team.world.down().await;
    let profile = team.ada.home.servers().unwrap().pop().unwrap();
    let session = conclave_client::Session::one_shot("test").unwrap();
    let (later, _events) = Client::connect(&team.ada.home, &profile, session)
        .await
        .unwrap();
    let status = later.message_status(id).await.unwrap().unwrap();
    assert_eq!(step(&status, "bob/box/web"), Some(Step::InContext));
}

/// The sender asks for nothing: what becomes of a message comes by itself.
#[tokio::test]
async fn a_send_that_is_followed_up_costs_the_sender_one_request() {
    let scene = Scene::following().await;
    let me = scene.bob.account().user_id;
    let asked = move |script: &mut conclave_sim::hostile::Script| {
        let mine = script.asked.iter().filter(|(user, _)| *user == me);
        mine.map(|(_, op)| op.clone()).collect::<Vec<_>>()
    };
    let before = scene.liar.ask(asked).await.len();
    let body = Body::text("who of you?");
    let to = [path("ada/box/web"), path("eve/box/web")];
    let sent = scene
        .bob
        .send_as(drawn(), Target::Channel(CHANNEL), &to, &body, 0, false)
        .await
        .unwrap();
    assert!(sent.stored.is_some());
    let after = scene.liar.ask(asked).await;
    let since = &after[before..];
    assert!(matches!(since, [Op::Append(_)]), "{since:?}");
}

/// What a server refuses, at once or when nobody waits any more, is refused.
#[tokio::test]
async fn what_the_server_does_not_take_is_refused() {
    let mut team = Team::new(&["bob"]).await;
    let nobody = path("bob/box/nobody");
    let id = drawn();
    let to = || Target::Session(nobody.clone());
    let sent = team
        .a
        .send_as(id, to(), &[], &Body::text("?"), 0, false)
        .await;
    assert_eq!(sent.unwrap_err().code(), Code::NotFound);
    assert_eq!(team.step(id, "bob/box/nobody").await, Some(Step::Refused));

    team.world.down().await;
    let (a, late, target) = (team.a.clone(), drawn(), to());
    let sending = tokio::spawn(async move {
        let body = Body::text("?");
        a.send_as(late, target, &[], &body, 0, false).await
    });
    let waits = async {
        while team.a.waiting().await.unwrap().is_empty() {
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::time::timeout(SOON, waits).await.unwrap();
    assert_eq!(team.step(late, "bob/box/nobody").await, Some(Step::Queued));
    sending.abort();
    drop(sending.await);
    team.world.up().await;
    team.reaches(late, "bob/box/nobody", Step::Refused).await;
    let told = async {
        loop {
            match team.a_events.recv().await.expect("the session goes on") {
                Event::Notice(n) if n.kind == NoticeKind::NotSent => return n.text,
                _ => {}
            }
        }
    };
    let told = tokio::time::timeout(SOON, told).await.unwrap();
    let named = told.contains(&late.to_string()) && told.contains("bob/box/nobody");
    assert!(named, "{told}");
}

/// The same words may come in two logs, one of them muted: the model has them.
#[tokio::test]
async fn what_is_muted_in_one_log_and_shown_in_another_is_in_context() {
    let mut team = Team::new(&["bob"]).await;
    let (id, to) = (drawn(), [path("bob/box/web")]);
    for target in [Target::Channel(team.ops), Target::Session(to[0].clone())] {
        let body = Body::text("twice");
        let sent = team.a.send_as(id, target, &to, &body, 0, false).await;
        assert!(sent.unwrap().stored.is_some());
    }
    let status = team.a.message_status(id).await.unwrap().unwrap();
    assert_eq!(
        (status.parts.len(), status.rows.len()),
        (2, 1),
        "{status:?}"
    );
    let (_, b, events) = &mut team.others[0];
    let mut logs = [heard(events).await.log, heard(events).await.log];
    logs.sort_by_key(|log| *log != LogId::Channel(team.ops));
    // Both are owed before either can be told.
    team.world.down().await;
    b.mark_shown(logs[1], id).await.unwrap();
    b.mark(vec![(logs[0], id, Some(Fate::Blocked))])
        .await
        .unwrap();
    team.world.up().await;
    team.reaches(id, "bob/box/web", Step::InContext).await;
}

#[tokio::test]
async fn many_marks_are_made_at_once_each_with_its_fate() {
    let mut team = Team::new(&["bob"]).await;
    let fates = [Some(Fate::InContext), Some(Fate::Blocked), None];
    let steps = [Step::InContext, Step::Blocked, Step::Offered];
    let (mut ids, mut marks) = (Vec::new(), Vec::new());
    for fate in fates {
        ids.push(team.whisper("bob/box/web", "look").await);
        let came = heard(&mut team.others[0].2).await;
        marks.push((came.log, came.id, fate));
    }
    team.others[0].1.mark(marks).await.unwrap();
    for (id, step) in ids.into_iter().zip(steps) {
        team.reaches(id, "bob/box/web", step).await;
    }
}
