//! First contacts: one dialog for each user, and what follows from it.

use crate::flow::{answers, dialog, with_dialogs};
use crate::world::{Desk, World, message, whisper, world};
use conclave_bridge::senders::{self, Sender, Senders, Standing};
use conclave_bridge::state::Message;
use conclave_proto::id::{MsgId, UserId};
use conclave_proto::time::UnixMs;
use serde_json::{Value, json};

/// A whisper of somebody, by number.
fn of(n: u8, who: u8) -> Message {
    let mut message = whisper(n, &format!("words {n}"));
    message.from = format!("user{who}/box/web").parse().unwrap();
    message.sender.user = UserId::new([who; 32]);
    message
}

fn with(who: u8, standing: Standing) -> World {
    let mut world = world();
    let sender = Sender {
        name: format!("user{who}").parse().unwrap(),
        standing,
        at: UnixMs(1),
    };
    world.view.senders.set(UserId::new([who; 32]), sender);
    world
}

async fn unread(desk: &mut Desk) -> u64 {
    let (facts, ..) = desk.call("list_channels", json!({})).await;
    facts["unread"].as_u64().unwrap()
}

fn accept(word: &str) -> Value {
    json!({"action": "accept", "content": {"decision": word}})
}

#[tokio::test]
async fn who_writes_first_is_put_to_the_human_once_and_waits_for_the_answer() {
    let mut desk = with_dialogs(world()).await;
    desk.arrives(of(1, 7)).await;
    desk.arrives(of(2, 7)).await;
    let asked = dialog(&mut desk).await;
    let text = asked["params"]["message"].as_str().unwrap();
    assert!(
        text.contains("user7/box/web") && !text.contains("words"),
        "{text}"
    );
    let choices = &asked["params"]["requestedSchema"]["properties"]["decision"]["enum"];
    assert_eq!(*choices, json!(["accept", "mute", "block"]));
    // Nothing was pushed meanwhile, though both are here.
    assert_eq!(unread(&mut desk).await, 2);
    assert!(desk.pushed.is_empty(), "{:?}", desk.pushed);
    answers(&mut desk, &asked, accept("accept")).await;
    for n in [1, 2] {
        let push = desk.push().await;
        let content = push["params"]["content"].as_str().unwrap();
        assert!(content.contains(&format!("words {n}")), "{push}");
    }
    let user = UserId::new([7; 32]);
    assert_eq!(
        desk.fake.0.borrow().view.senders.standing(&user),
        Some(Standing::Accepted)
    );
    // The next one comes at once.
    desk.arrives(of(3, 7)).await;
    assert_eq!(desk.push().await["method"], "notifications/claude/channel");
}

#[tokio::test]
async fn a_muted_sender_wakes_nobody_and_can_be_fetched() {
    let mut desk = with_dialogs(world()).await;
    desk.arrives(of(1, 7)).await;
    let asked = dialog(&mut desk).await;
    answers(&mut desk, &asked, accept("mute")).await;
    desk.arrives(of(2, 7)).await;
    desk.arrives(message(3, "of another one")).await;
    let push = loop {
        let push = desk.push().await;
        if push["method"] == "elicitation/create" {
            answers(&mut desk, &push, accept("accept")).await;
            continue;
        }
        break push;
    };
    assert!(
        push["params"]["content"]
            .as_str()
            .unwrap()
            .contains("of another one"),
        "{push}"
    );
    let (_, frames, _) = desk.call("check_messages", json!({})).await;
    assert!(
        frames.contains("words 1") && frames.contains("words 2"),
        "{frames}"
    );
}

#[tokio::test]
async fn a_muted_sender_does_not_end_a_wait() {
    let mut desk = Desk::open(with(7, Standing::Muted)).await;
    let wait = desk
        .ask(
            "tools/call",
            json!({"name": "wait_for_messages", "arguments": {}}),
        )
        .await;
    desk.arrives(of(1, 7)).await;
    let mut own = message(2, "of a sibling");
    own.sender.own = true;
    desk.arrives(own).await;
    let (_, frames, _) = crate::wire::outcome(&desk.answer(wait).await);
    assert!(frames.contains("of a sibling"), "{frames}");
}

#[tokio::test]
async fn a_blocked_sender_is_not_shown_whatever_came_before() {
    let mut desk = with_dialogs(world()).await;
    desk.arrives(of(1, 7)).await;
    let asked = dialog(&mut desk).await;
    answers(&mut desk, &asked, accept("block")).await;
    desk.arrives(of(2, 7)).await;
    let shown = |n: u8| move |world: &World| world.shown.contains(&MsgId::new([n; 16]));
    desk.fake.until(shown(1)).await;
    desk.fake.until(shown(2)).await;
    assert_eq!(unread(&mut desk).await, 0);
    let (_, frames, _) = desk.call("check_messages", json!({})).await;
    assert!(!frames.contains("words"), "{frames}");
}

#[tokio::test]
async fn no_answer_no_dialogs_and_known_people_are_as_before() {
    // A host without dialogs: at once.
    let mut desk = Desk::open(world()).await;
    desk.arrives(of(1, 7)).await;
    assert_eq!(desk.push().await["method"], "notifications/claude/channel");
    assert!(
        desk.fake.0.borrow().asked.is_empty(),
        "another session may still ask"
    );
    // A human who refuses to decide.
    let mut desk = with_dialogs(world()).await;
    desk.arrives(of(1, 7)).await;
    let asked = dialog(&mut desk).await;
    answers(&mut desk, &asked, json!({"action": "cancel"})).await;
    assert_eq!(desk.push().await["method"], "notifications/claude/channel");
    assert_eq!(
        desk.fake
            .0
            .borrow()
            .view
            .senders
            .standing(&UserId::new([7; 32])),
        None
    );
    // The user's own, and who came by an invite, are known.
    for known in [
        |m: &mut Message| m.sender.own = true,
        |m: &mut Message| m.sender.vouched = true,
    ] {
        let mut desk = with_dialogs(world()).await;
        let mut message = of(1, 7);
        known(&mut message);
        desk.arrives(message).await;
        assert_eq!(desk.push().await["method"], "notifications/claude/channel");
    }
}

#[tokio::test(start_paused = true)]
async fn a_human_who_is_away_holds_nothing_up_for_long() {
    let mut desk = with_dialogs(world()).await;
    desk.arrives(of(1, 7)).await;
    dialog(&mut desk).await;
    let start = tokio::time::Instant::now();
    let limit = std::time::Duration::from_secs(100);
    let pushed = async {
        loop {
            let value = desk.line_in().await;
            if value["method"] == "notifications/claude/channel" {
                break;
            }
        }
    };
    tokio::time::timeout(limit, pushed).await.unwrap();
    assert!(start.elapsed() <= std::time::Duration::from_secs(61));
}

#[tokio::test]
async fn however_many_accounts_write_few_dialogs_come_one_at_a_time() {
    let mut desk = with_dialogs(world()).await;
    for n in 1..=20 {
        desk.arrives(of(n, 100 + n)).await;
    }
    let mut dialogs = 0;
    let mut pushes = 0;
    while pushes < 20 {
        let value = desk.push().await;
        match value["method"].as_str() {
            Some("elicitation/create") => {
                dialogs += 1;
                // The one before was answered: there is never a second one.
                answers(&mut desk, &value, accept("accept")).await;
            }
            Some("notifications/claude/channel") => pushes += 1,
            _ => {}
        }
    }
    assert_eq!((dialogs, pushes), (3, 20));
}

#[test]
fn the_file_keeps_what_others_decided_and_a_broken_one_accepts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Senders::load(dir.path()), None);
    let sender = |standing| Sender {
        name: "bob".parse().unwrap(),
        standing,
        at: UnixMs(1),
    };
    let (a, b) = (UserId::new([1; 32]), UserId::new([2; 32]));
    Senders::decide(dir.path(), a, sender(Standing::Blocked)).unwrap();
    Senders::decide(dir.path(), b, sender(Standing::Accepted)).unwrap();
    let read = Senders::load(dir.path()).unwrap();
    assert_eq!(read.standing(&a), Some(Standing::Blocked));
    assert_eq!(read.standing(&b), Some(Standing::Accepted));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join("senders"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(dir.path().join("senders"), "{\"x\":").unwrap();
    assert_eq!(Senders::load(dir.path()), Some(Senders::default()));
    // However many are accepted, nobody who was blocked is forgotten.
    let mut many = Senders::default();
    many.set(a, sender(Standing::Blocked));
    for n in 0..5_000_u32 {
        let mut id = [9; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        many.set(UserId::new(id), sender(Standing::Accepted));
    }
    assert!(many.iter().count() <= 4_096);
    assert_eq!(many.standing(&a), Some(Standing::Blocked));
}

#[test]
fn one_session_of_a_machine_asks() {
    let dir = tempfile::tempdir().unwrap();
    let user = UserId::new([1; 32]);
    assert!(senders::ask_once(dir.path(), &user));
    assert!(!senders::ask_once(dir.path(), &user));
    assert!(senders::ask_once(dir.path(), &UserId::new([2; 32])));
    senders::not_asked(dir.path(), &user);
    assert!(senders::ask_once(dir.path(), &user));
}
