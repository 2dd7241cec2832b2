//! What reaches an agent that starts with a backlog, is far behind, or holds things back.

use crate::wire::TIMEOUT;
use crate::world::{Desk, OPS, at_level, message, wall, world};
use conclave_bridge::fabric::Event;
use conclave_bridge::policy::Level;
use conclave_bridge::state::{HomeId, Input, Kept, Message, Output};
use conclave_client::event::SenderFacts;
use conclave_client::item::StateItem;
use conclave_client::replica::delivery::{Delivery, MessageStatus, Step};
use conclave_proto::body::Priority;
use conclave_proto::id::MsgId;
use conclave_proto::profile::Status;
use serde_json::json;

#[tokio::test]
async fn what_comes_before_the_servers_are_known_is_judged_by_their_groups() {
    let mut early = world();
    let to = vec!["eng".parse().unwrap()];
    early.early = Some(Message {
        to,
        ..message(1, "not for me")
    });
    let mut desk = Desk::open(early).await;
    let (facts, text, _) = desk.call("check_messages", json!({})).await;
    assert_eq!(facts["messages"], 0, "{text}");
    assert!(desk.pushed.is_empty());
}

#[tokio::test]
async fn what_comes_before_the_servers_are_known_is_judged_by_their_levels() {
    let mut early = at_level(Level::Mute);
    early.early = Some(message(1, "muted words"));
    let mut desk = Desk::open(early).await;
    let (facts, text, _) = desk.call("check_messages", json!({})).await;
    assert_eq!(facts["messages"], 0, "{text}");
    assert!(desk.pushed.is_empty());
}

#[tokio::test]
async fn what_comes_before_the_servers_are_known_is_not_lost() {
    let mut early = world();
    early.early = Some(message(1, "for me"));
    let mut desk = Desk::open(early).await;
    let (facts, text, _) = desk.call("check_messages", json!({})).await;
    assert_eq!(facts["messages"], 1, "{text}");
}

/// Of so many messages that waited, one could be of any number.
fn numbered(n: u16) -> Message {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    id[5] = 1;
    Message {
        id: MsgId::new(id),
        ..message(1, "x")
    }
}

const MANY: u16 = 1_010;

#[tokio::test]
async fn more_than_a_page_that_waited_comes_wholly() {
    let mut away = world();
    away.unshown = (0..MANY).map(numbered).collect();
    let mut desk = Desk::open(away).await;
    let all = desk.fake.clone();
    let mut got = 0;
    let reading = async {
        while got < u64::from(MANY) {
            let args = json!({"max": 100, "timeout_s": 60});
            let (facts, ..) = desk.call("wait_for_messages", args).await;
            got += facts["messages"].as_u64().unwrap();
        }
    };
    tokio::time::timeout(TIMEOUT, reading)
        .await
        .expect("the rest comes");
    let shown = all.0.borrow().shown.len();
    assert_eq!((got, shown), (u64::from(MANY), usize::from(MANY)));
}

#[tokio::test]
async fn a_page_that_is_for_others_does_not_hide_what_waited_behind_it() {
    let mut away = world();
    let to = vec!["eng".parse().unwrap()];
    let others = |n| Message {
        to: to.clone(),
        ..numbered(n)
    };
    away.unshown = (0..1_000).map(others).chain([numbered(MANY)]).collect();
    let mut desk = Desk::open(away).await;
    let args = json!({"timeout_s": 60});
    let (facts, text, _) = desk.call("wait_for_messages", args).await;
    assert_eq!(facts["messages"], 1, "{text}");
}

/// What bob wrote under a key, with a value of so many bytes.
fn fact(key: &str, bytes: usize) -> StateItem {
    let Message {
        seq,
        at,
        from,
        sender,
        ..
    } = message(1, "");
    StateItem {
        channel: OPS,
        key: key.into(),
        value: Some("v".repeat(bytes)),
        version: seq,
        sender: from,
        user: sender.user,
        at,
        facts: SenderFacts {
            own: false,
            this_session: false,
            key_changed: false,
            member_since: None,
            vouched: false,
        },
    }
}

#[tokio::test]
async fn changes_come_as_far_as_an_answer_goes_and_the_rest_with_the_next() {
    let mut desk = Desk::open(world()).await;
    desk.call("watch_state", json!({"prefix": "ci/"})).await;
    for n in 0..10 {
        let item = fact(&format!("ci/{n}"), 3_000);
        desk.event(Event::State(Box::new(item))).await;
    }
    for n in 0..20 {
        desk.arrives(Message {
            text: "m".repeat(8_000),
            ..message(n, "")
        })
        .await;
    }
    desk.until_unread(20).await;
    let (mut watched, mut calls) = (0, 0);
    while watched < 10 {
        let (facts, text, _) = desk
            .call("wait_for_messages", json!({"timeout_s": 60}))
            .await;
        let bytes = facts.to_string().len() + text.len();
        assert!(bytes <= 40 * 1024, "{bytes} bytes");
        watched += facts["watched"].as_u64().unwrap();
        assert_eq!(facts["more_watched"].as_u64().unwrap_or(0), 10 - watched);
        calls += 1;
    }
    assert_eq!(calls, 4, "three fit a quarter of an answer");
}

#[tokio::test]
async fn a_change_that_does_not_fit_at_all_is_cut() {
    let mut desk = Desk::open(world()).await;
    desk.call("watch_state", json!({"prefix": ""})).await;
    desk.event(Event::State(Box::new(fact("long", 20_000))))
        .await;
    let args = json!({"timeout_s": 60, "max_tokens": 500});
    let (facts, text, _) = desk.call("wait_for_messages", args).await;
    assert!(facts["watched"] == 1 && text.contains("long = vvv"));
    assert!(text.len() < 2_000, "{} bytes", text.len());
}

#[tokio::test]
async fn the_recipients_of_a_message_are_told_as_far_as_an_answer_goes() {
    let mut asked = world();
    let row = |n: u8| Delivery {
        peer: format!("{}/{}/session-{n}", "u".repeat(32), "m".repeat(32))
            .parse()
            .unwrap(),
        step: Step::Stored,
        at: wall(),
    };
    asked.status = Some(MessageStatus {
        id: MsgId::new([3; 16]),
        at: wall(),
        parts: Vec::new(),
        rows: (0..=255).chain(0..=99).map(row).collect(),
    });
    let mut desk = Desk::open(asked).await;
    let id = MsgId::new([3; 16]).to_string();
    let (facts, ..) = desk.call("message_status", json!({"id": id})).await;
    let bytes = facts.to_string().len();
    assert!(bytes <= 40 * 1024, "{bytes} bytes");
    let shown = facts["recipients"].as_array().unwrap().len() as u64;
    assert_eq!(
        (
            &facts["counts"]["stored"],
            shown + facts["more"].as_u64().unwrap()
        ),
        (&json!(356), 356)
    );
}

#[tokio::test]
async fn what_interrupts_is_whole_first_and_all_that_is_left_is_counted() {
    let mut desk = Desk::open(world()).await;
    let text = "word ".repeat(100);
    desk.arrives(Message {
        priority: Priority::Now,
        ..message(1, "urgent")
    })
    .await;
    for n in 2..=30 {
        desk.arrives(message(n, &text)).await;
    }
    desk.until_unread(30).await;
    let args = json!({"max": 5, "max_tokens": 500});
    let (facts, text, _) = desk.call("check_messages", args).await;
    assert!(text.contains("| urgent"), "{facts}\n{text}");
    let count = |key: &str| facts[key].as_u64().unwrap();
    let named = facts["digest"].as_array().unwrap().len() as u64;
    assert_eq!(count("messages") + named + count("more"), 30, "{facts}");
    assert!(facts.get("hint").is_none());
    let args = json!({"timeout_s": 60, "max_tokens": 1});
    let (facts, ..) = desk.call("wait_for_messages", args).await;
    assert_eq!(
        (&facts["messages"], facts["hint"].is_string()),
        (&json!(0), true)
    );
}

#[tokio::test]
async fn who_starts_where_another_asked_not_to_be_disturbed_is_told() {
    let mut left = world();
    left.view.labels.status = Some(Status::Dnd);
    let mut desk = Desk::open(left).await;
    let (facts, ..) = desk.call("check_messages", json!({})).await;
    assert_eq!(facts["your_status"], "dnd");
    desk.call("set_status", json!({"status": "idle"})).await;
    let (facts, ..) = desk.call("check_messages", json!({})).await;
    assert!(facts.get("your_status").is_none(), "{facts}");
    desk.call("set_status", json!({"status": "dnd"})).await;
    let (facts, ..) = desk.call("check_messages", json!({})).await;
    assert!(facts.get("your_status").is_none(), "its own doing: {facts}");
}

#[tokio::test]
async fn what_is_watched_respects_the_status_and_is_announced_when_that_changes() {
    let mut quiet = world();
    quiet.view.labels.status = Some(Status::Dnd);
    let mut desk = Desk::open(quiet).await;
    desk.call("watch_state", json!({"prefix": ""})).await;
    desk.event(Event::State(Box::new(fact("build", 3)))).await;
    desk.arrives(message(1, "hi")).await;
    desk.until_unread(1).await;
    assert!(desk.pushed.is_empty(), "{:?}", desk.pushed);
    desk.call("set_status", json!({"status": "idle"})).await;
    let first = desk.push().await;
    let then = desk.push().await;
    let text = format!("{first}{then}");
    assert!(
        text.contains("What you watch changed") && text.contains("| hi"),
        "{text}"
    );
    let (facts, ..) = desk.call("check_messages", json!({})).await;
    assert_eq!(facts["watched"], 1);
}

#[test]
fn what_is_watched_is_announced_once_there_is_room_again() {
    let kept = |text: &str| Kept {
        home: HomeId(0),
        place: message(1, "").place,
        kind: "state",
        from: message(1, "").from,
        sender: message(1, "").sender,
        at: wall(),
        id: None,
        seq: Some(1),
        text: text.into(),
    };
    let mut state = crate::state::state();
    let mut pushed = 0;
    while state.push_kept(crate::state::at(0), &kept("x")) {
        pushed += 1;
    }
    assert_eq!(pushed, 20);
    let at = state.next_timeout().expect("it is told later");
    std::iter::from_fn(|| state.poll_output()).for_each(drop);
    state.handle(crate::state::at(at.0), Input::Timeout);
    let said: Vec<_> = std::iter::from_fn(|| state.poll_output()).collect();
    let [Output::Push(frame)] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert!(frame.content.contains("What you watch changed"));
    assert_eq!(state.next_timeout(), None);
}
