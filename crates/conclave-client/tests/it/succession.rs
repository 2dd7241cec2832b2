//! Who holds a claim, whichever of its entries came first, and what cannot be read stands there.

use crate::pair::{beside, two};
use crate::scene::{CHANNEL, LOG, Scene, adds, gap, head, page, says, session, since_join};
use crate::talk::{World, name};
use conclave_client::ClientError;
use conclave_client::client::{Client, Signer};
use conclave_client::item::{ClaimError, Recall};
use conclave_client::replica::Replica;
use conclave_e2ee::IndexKey;
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{CtlBody, History, Mode, RemoveKind, Role};
use conclave_proto::entry::{Entry, Envelope, Header, Route};
use conclave_proto::frame::Outcome;
use conclave_proto::frame::event::{Entries, Event};
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{Appended, EntryPage, Reply, Wraps};
use conclave_proto::id::{ChannelId, SlotId};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::{Asked, Person, Room, SOON, Script, Settings, ctl, env};

const HOUR: u64 = 60 * 60 * 1000;
const LEASE: &str = "{\"ttl_ms\":3600000}";

fn slot(key: &str) -> SlotId {
    IndexKey::public(&CHANNEL).slot(key)
}

/// A write to the slot of a claim on `db` by the rules of the server alone.
fn bids(who: &Person, ctr: u64, expected: u64, data: Option<&str>) -> Envelope {
    writes(who, ctr, slot("claim:db"), expected, "claim:db", data)
}

fn writes(
    who: &Person,
    ctr: u64,
    slot: SlotId,
    expected: u64,
    key: &str,
    data: Option<&str>,
) -> Envelope {
    let header = who.header(CHANNEL, Route::State(slot, expected), ctr);
    let body = Body {
        key: Some(key.into()),
        data: data.map(Into::into),
        ..Body::default()
    };
    Envelope::clear(&header, body.to_bytes().unwrap(), &who.machine)
}

/// Stores entries at the server without telling anybody.
async fn stores(scene: &Scene, entries: Vec<Entry>) {
    scene
        .liar
        .tell(move |script| script.channel(CHANNEL).extend(entries))
        .await;
}

/// The scene with eve as a member, by the record at 3; returns the head after it.
async fn with_eve() -> (Scene, Head) {
    let scene = Scene::new().await;
    let (ada, eve) = (&scene.ada, &scene.eve);
    let add = adds(ada, CHANNEL, scene.head, &eve.log, Role::Member);
    stores(&scene, vec![ctl(3, &add)]).await;
    (scene, head(2, &add))
}

async fn holders(bob: &Client) -> Vec<(String, u64)> {
    let claims = bob.claims(CHANNEL).await.unwrap();
    let of = |c: &conclave_client::item::Claim| (c.holder.to_string(), c.token);
    claims.iter().map(of).collect()
}

#[tokio::test]
async fn two_quick_writes_take_no_claim_from_who_reads_only_the_second() {
    let (scene, _) = with_eve().await;
    let (ada, eve) = (&scene.ada, &scene.eve);
    stores(&scene, vec![env(4, bids(ada, 1, 0, Some(LEASE)))]).await;
    let mine = [(ada.path.to_string(), 4)];
    assert_eq!(holders(&scene.bob).await, mine);
    let lie = "{\"ttl_ms\":3600000,\"token\":1}";
    let taken = vec![
        env(5, bids(eve, 1, 4, Some(lie))),
        env(6, bids(eve, 2, 5, Some(lie))),
    ];
    stores(&scene, taken).await;
    assert_eq!(holders(&scene.bob).await, mine);
}

#[tokio::test]
async fn who_reads_only_the_last_entry_of_a_slot_finds_out_what_it_builds_on() {
    let (scene, _) = with_eve().await;
    let (ada, eve) = (&scene.ada, &scene.eve);
    stores(&scene, vec![env(4, bids(ada, 1, 0, Some(LEASE)))]).await;
    assert_eq!(holders(&scene.bob).await, [(ada.path.to_string(), 4)]);
    let renewal = "{\"ttl_ms\":3600000,\"token\":6}";
    let honest = vec![
        env(5, bids(ada, 2, 4, None)),
        env(6, bids(eve, 1, 5, Some(LEASE))),
        env(7, bids(eve, 2, 6, Some(renewal))),
    ];
    stores(&scene, honest).await;
    assert_eq!(holders(&scene.bob).await, [(eve.path.to_string(), 6)]);
    // What says nothing of a version still does not hide what came before it.
    let hidden = vec![
        env(8, bids(eve, 3, 7, None)),
        env(9, bids(ada, 3, 8, Some(LEASE))),
        env(10, bids(eve, 4, u64::MAX, Some(LEASE))),
    ];
    stores(&scene, hidden).await;
    assert_eq!(holders(&scene.bob).await, [(ada.path.to_string(), 9)]);
}

#[tokio::test]
async fn a_claim_ends_with_its_holders_membership_whichever_way_the_record_comes() {
    let (scene, after) = with_eve().await;
    let (ada, eve) = (&scene.ada, &scene.eve);
    stores(&scene, vec![env(4, bids(eve, 1, 0, Some(LEASE)))]).await;
    assert_eq!(holders(&scene.bob).await, [(eve.path.to_string(), 4)]);
    let (user, kind) = (eve.user(), RemoveKind::Kick);
    let kick = ada.ctl(CHANNEL, Some(after), CtlBody::Remove { user, kind });
    let next = vec![ctl(5, &kick), env(6, bids(ada, 1, 4, Some(LEASE)))];
    stores(&scene, next).await;
    let mine = [(ada.path.to_string(), 6)];
    assert_eq!(holders(&scene.bob).await, mine);
    // Who comes back has nothing of before.
    let back = adds(ada, CHANNEL, head(3, &kick), &eve.log, Role::Member);
    stores(&scene, vec![ctl(7, &back)]).await;
    assert_eq!(holders(&scene.bob).await, mine);
}

#[tokio::test]
async fn who_left_and_came_back_holds_nothing_of_before() {
    let (scene, after) = with_eve().await;
    let (ada, eve) = (&scene.ada, &scene.eve);
    let (user, kind) = (eve.user(), RemoveKind::Kick);
    let kick = ada.ctl(CHANNEL, Some(after), CtlBody::Remove { user, kind });
    let back = adds(ada, CHANNEL, head(3, &kick), &eve.log, Role::Member);
    let entries = vec![
        env(4, bids(eve, 1, 0, Some(LEASE))),
        ctl(5, &kick),
        ctl(6, &back),
    ];
    stores(&scene, entries).await;
    assert_eq!(holders(&scene.bob).await, []);
    stores(&scene, vec![env(7, bids(ada, 1, 4, Some(LEASE)))]).await;
    assert_eq!(holders(&scene.bob).await, [(ada.path.to_string(), 7)]);
}

#[tokio::test]
async fn the_claim_of_who_was_removed_is_free_for_who_does_not_follow() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    b.claim(ops, "db", HOUR, None).await.unwrap();
    let held = a.claim(ops, "db", HOUR, None).await;
    assert!(matches!(held, Err(ClaimError::Held(_))), "{held:?}");
    a.remove_member(ops, &name("bob"), RemoveKind::Kick)
        .await
        .unwrap();
    assert!(a.claims(ops).await.unwrap().is_empty());
    let mine = a.claim(ops, "db", HOUR, None).await.unwrap();
    assert_eq!(mine.holder.to_string(), "ada/box/api");
}

/// What came after a hole is not all there is: what lies in it is asked for.
#[tokio::test]
async fn items_in_a_hole_of_a_feed_are_read_before_they_are_looked_for() {
    let mut scene = Scene::following().await;
    scene.bob.sync_items(CHANNEL).await.unwrap();
    let item = scene.ada.header(CHANNEL, Route::Everyone, 1).msg_id;
    let header = scene.ada.header(CHANNEL, Route::Memory(item, 0), 1);
    let body = Body::text("true").to_bytes().unwrap();
    let memory = env(4, Envelope::clear(&header, body, &scene.ada.machine));
    let good = env(6, says(&scene.ada, 3, "good"));
    stores(&scene, vec![memory, good.clone()]).await;
    let told = Entries {
        log: LOG,
        entries: vec![good],
        gap: Some(gap(3, 5)),
    };
    scene.liar.event(Event::Entries(told)).await;
    drop(scene.until("good").await);
    let all = Recall {
        limit: 10,
        ..Recall::default()
    };
    let found = scene.bob.recall(&[CHANNEL], &all).await.unwrap();
    let texts: Vec<_> = found.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(texts, ["true"]);
}

/// A server that keeps to versions: the newest of each slot is at `version`.
fn compares(version: u64) -> impl FnMut(Asked<'_>) -> Option<Outcome> {
    move |asked| match asked.op {
        Op::Append(op) => match Header::parse(&op.env.header)?.route {
            Route::State(_, expected) if expected != version && expected != u64::MAX => {
                let reject = Reject::new(Code::VersionMismatch, "no").expected(version);
                Some(Outcome::Err(reject))
            }
            _ => None,
        },
        _ => None,
    }
}

#[tokio::test]
async fn what_cannot_be_read_in_a_slot_keeps_it_as_long_as_a_claim_can_and_no_longer() {
    for (age, free) in [(23 * HOUR, false), (24 * HOUR, true)] {
        let (scene, _) = with_eve().await;
        let noise = writes(&scene.eve, 1, slot("claim:db"), 0, "another", Some("1"));
        let mut noise = env(4, noise);
        noise.at = UnixMs(100 * HOUR - age);
        stores(&scene, vec![noise]).await;
        let tells = |script: &mut Script| {
            script.ready = |ready| ready.at = UnixMs(100 * HOUR);
            script.lie(compares(4));
        };
        scene.liar.tell(tells).await;
        scene.bob.stop().await;
        let (bob, _events) = session(&scene.home).await;
        bob.ready(SOON).await.unwrap();
        let claimed = bob.claim(CHANNEL, "db", HOUR, None).await;
        match claimed {
            Ok(claim) => assert!(free && claim.token == 5, "{claim:?}"),
            Err(ClaimError::Unreadable { by, left_ms }) => {
                assert!(!free);
                assert_eq!(by, Some(scene.eve.path.clone()));
                assert!((1..=HOUR).contains(&left_ms), "{left_ms}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_does_not_keep_a_holder_from_renewing_and_releasing() {
    let (scene, _) = with_eve().await;
    let mine = scene.bob.claim(CHANNEL, "db", HOUR, None).await.unwrap();
    assert_eq!(mine.version, 4);
    let noise = writes(&scene.eve, 1, slot("claim:db"), 4, "another", Some("1"));
    stores(&scene, vec![env(5, noise)]).await;
    scene.liar.tell(|script| script.lie(compares(5))).await;
    let renewed = scene.bob.renew(CHANNEL, "db", HOUR, None).await.unwrap();
    assert_eq!((renewed.token, renewed.version), (4, 6));
    let noise = writes(&scene.eve, 2, slot("claim:db"), 6, "another", Some("1"));
    stores(&scene, vec![env(7, noise)]).await;
    scene.liar.tell(|script| script.lie(compares(7))).await;
    let whose = conclave_client::client::claim::Whose::Own;
    scene.bob.release(CHANNEL, "db", whose).await.unwrap();
    assert_eq!(holders(&scene.bob).await, []);
}

#[tokio::test]
async fn a_state_item_is_written_over_what_cannot_be_read() {
    let (scene, _) = with_eve().await;
    let noise = writes(&scene.eve, 1, slot("x"), 0, "another", Some("1"));
    stores(&scene, vec![env(4, noise)]).await;
    scene.liar.tell(|script| script.lie(compares(4))).await;
    let refused = scene.bob.set_state(CHANNEL, "x", Some("2"), Some(0)).await;
    match refused {
        Err(ClientError::Reject(reject)) => assert_eq!(reject.expected, Some(4)),
        other => panic!("{other:?}"),
    }
    let written = scene.bob.set_state(CHANNEL, "x", Some("2"), Some(4)).await;
    assert_eq!(written.unwrap().version, Some(5));
    let item = scene.bob.state(CHANNEL, "x").await.unwrap().unwrap();
    assert_eq!(item.value.as_deref(), Some("2"));
}

#[tokio::test]
async fn what_was_claimed_before_one_came_and_is_not_shown_may_be_held() {
    let world = World::start().await;
    let ((_ada, a, _a), (_bob, b, _b), ops) = beside(&world, since_join("ops")).await;
    a.claim(ops, "db", HOUR, None).await.unwrap();
    a.add_member(ops, &name("bob"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    match b.claim(ops, "db", HOUR, None).await {
        Err(ClaimError::Unreadable { by: None, left_ms }) => {
            assert!((23 * HOUR..=24 * HOUR).contains(&left_ms), "{left_ms}");
        }
        other => panic!("{other:?}"),
    }
    // A sign of the holder's is enough to know.
    let whose = conclave_client::client::claim::Whose::Own;
    a.release(ops, "db", whose).await.unwrap();
    b.claim(ops, "db", HOUR, None).await.unwrap();
}

#[tokio::test]
async fn what_lies_beyond_a_logs_end_is_no_item() {
    let (scene, _) = with_eve().await;
    // What a server says that it has taken, too.
    let beyond = |asked: Asked<'_>| match asked.op {
        Op::Append(_) => {
            let (seq, at, dup) = (u64::MAX, UnixMs(1), false);
            Some(Outcome::Ok(Reply::Appended(Appended { seq, at, dup })))
        }
        _ => None,
    };
    scene.liar.tell(move |script| script.lie(beyond)).await;
    drop(scene.bob.set_state(CHANNEL, "x", Some("0"), None).await);
    let far = writes(&scene.ada, 1, slot("x"), 0, "x", Some("1"));
    for (seq, head) in [(u64::MAX, 4), (1 << 40, 1 << 40)] {
        let entry = env(seq, far.clone());
        let lie = move |asked: Asked<'_>| match asked.op {
            Op::Items(_) => Some(Outcome::Ok(Reply::Page(EntryPage {
                entries: vec![entry.clone()],
                gap: None,
                next: head,
                head,
            }))),
            _ => None,
        };
        scene.liar.tell(move |script| script.lie(lie)).await;
        let seen = scene.bob.state(CHANNEL, "x").await;
        assert!(matches!(seen, Err(ClientError::Answer)), "{seen:?}");
    }
    scene.liar.tell(|script| script.be_honest()).await;
    let near = writes(&scene.ada, 2, slot("x"), 0, "x", Some("2"));
    stores(&scene, vec![env(4, near)]).await;
    let item = scene.bob.state(CHANNEL, "x").await.unwrap().unwrap();
    assert_eq!((item.value.as_deref(), item.version), (Some("2"), 4));
}

#[tokio::test]
async fn an_item_whose_key_comes_late_is_read_when_it_came() {
    let scene = Scene::new().await;
    let (ada, mine) = (&scene.ada, scene.mine().await);
    let settings = Settings {
        mode: Mode::E2e,
        history: History::SinceJoin,
        name: "ops",
        topic: None,
    };
    let mut room = Room::new(8, ada, settings);
    room.add(ada, &mine, Role::Member);
    room.rotate(ada);
    let remembers = |room: &mut Room, ctr: u64, text: &str| {
        let body = room.body(ada, text);
        let item = ada.header(room.id, Route::Everyone, ctr).msg_id;
        let put = |header: &mut Header| header.route = Route::Memory(item, 0);
        let sealed = room.seal(ada, room.key(), ctr, &body, put);
        room.keep(sealed);
    };
    remembers(&mut room, 1, "early");
    let copy = room.clone();
    scene.liar.tell(move |s| s.keep(&copy)).await;
    let all = Recall {
        limit: 10,
        ..Recall::default()
    };
    let texts = async || {
        let found = scene.bob.recall(&[room_id()], &all).await.unwrap();
        let mut texts: Vec<_> = found.into_iter().map(|m| m.text).collect();
        texts.sort_unstable();
        texts
    };
    assert_eq!(texts().await, ["early"]);
    room.rotate(ada);
    remembers(&mut room, 2, "late");
    let copy = room.clone();
    let keyless = |asked: Asked<'_>| match asked.op {
        Op::WrapFetch(_) => Some(Outcome::Ok(Reply::Wraps(Wraps { wraps: Vec::new() }))),
        _ => None,
    };
    let hides = move |script: &mut Script| {
        script.keep(&copy);
        script.lie(keyless);
    };
    scene.liar.tell(hides).await;
    assert_eq!(texts().await, ["early"]);
    scene.liar.tell(|script| script.be_honest()).await;
    assert_eq!(texts().await, ["early", "late"]);
}

fn room_id() -> ChannelId {
    ChannelId::new([8; 16])
}

#[tokio::test]
async fn a_memory_that_comes_after_it_was_taken_back_leaves_no_words() {
    let scene = Scene::new().await;
    let (ada, home) = (&scene.ada, &scene.home);
    let item = ada.header(CHANNEL, Route::Everyone, 2).msg_id;
    let at = |ctr, op| ada.header(CHANNEL, Route::Memory(item, op), ctr);
    let clear = |header: &Header, body: &Body| {
        Envelope::clear(header, body.to_bytes().unwrap(), &ada.machine)
    };
    let entries = vec![
        env(3, clear(&at(1, 1), &Body::default())),
        env(4, clear(&at(2, 0), &Body::text("wrong"))),
    ];
    let lie = move |asked: Asked<'_>| match asked.op {
        Op::Items(_) => Some(page(entries.clone())),
        _ => None,
    };
    scene.liar.tell(move |script| script.lie(lie)).await;
    scene.bob.sync_items(CHANNEL).await.unwrap();
    let path = home.server_dir(&scene.liar.id).join("replica.sqlite");
    let replica = Replica::open(&path).await.unwrap();
    let count = "SELECT count(*), max(length(body)) FROM message WHERE kind = 4 AND seq = 4";
    let found: (u32, u32) = replica
        .call(move |db| db.query_row(count, [], |r| Ok((r.get(0)?, r.get(1)?))))
        .await
        .unwrap();
    assert_eq!(found, (1, 1), "it is there, and an empty map");
}
