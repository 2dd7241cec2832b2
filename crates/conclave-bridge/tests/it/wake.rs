//! What reaches an agent that starts with a backlog, is far behind, or holds things back.

use crate::wire::TIMEOUT;
use crate::world::{Desk, OPS, at_level, message, wall, world};
use conclave_bridge::fabric::Event;
use conclave_bridge::policy::Level;
use conclave_bridge::state::Message;
use conclave_client::event::SenderFacts;
use conclave_client::item::StateItem;
use conclave_client::replica::delivery::{Delivery, MessageStatus, Step};
use conclave_proto::id::MsgId;
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
