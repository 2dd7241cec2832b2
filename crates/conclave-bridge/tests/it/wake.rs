//! What reaches an agent that starts with a backlog, is far behind, or holds things back.

use crate::wire::TIMEOUT;
use crate::world::{Desk, at_level, message, world};
use conclave_bridge::policy::Level;
use conclave_bridge::state::Message;
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
