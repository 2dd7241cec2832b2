//! How a message reaches the model of the real host, by each path that needs no login. Whatever the path, the
//! model reads the whole frame, once.

use crate::claude::{Setup, Stage};
use crate::script::{Say, Turn};
use crate::tools::framed;
use serde_json::json;

/// A pointer is a line of our own words, and has nothing of the message.
#[track_caller]
fn pointed(turn: &Turn, body: &str) {
    assert_eq!(turn.count(body), 0, "{}", turn.fresh);
    assert!(turn.fresh.contains("alice/desk/api"), "{}", turn.fresh);
    assert_eq!(turn.count("1 unread"), 1, "{}", turn.fresh);
}

/// The model follows a pointer, and reads the message once.
#[track_caller]
fn fetched(stage: &mut Stage, pointer: &str, body: &str) -> Turn {
    let turn = stage.turn(pointer);
    pointed(&turn, body);
    let turn = stage.turn(body);
    framed(&turn.fresh, body);
    assert_eq!(turn.count(body), 1);
    turn
}

fn check() -> Vec<Say> {
    vec![Say::ours("check_messages", json!({}))]
}

#[test]
fn a_wait_in_the_background_wakes_an_idle_host() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    let setup = Setup {
        env: vec![("CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS", "300".into())],
        ..Setup::default()
    };
    let mut host = stage.start(&setup, &mut peer);
    let wait = Say::ours("wait_for_messages", json!({"timeout_s": 120}));
    stage.when("stand by", vec![wait]);
    host.types("stand by");
    stage.turn("moved to the background");
    stage.tell(&mut peer, "the heron has landed", "now");
    let turn = stage.turn("the heron has landed");
    assert!(turn.fresh.contains("<task-notification>"), "{}", turn.fresh);
    framed(&turn.fresh, "the heron has landed");
    // What it read is not given to it again.
    stage.when("anything else", check());
    host.types("anything else");
    let later = stage.turn("\"unread\"");
    assert_eq!(later.count("the heron has landed"), 1);
    stage.shows(&mut peer, "wake", &json!("wait"));
    stage.nothing_left_the_machine();
}

#[test]
fn a_line_in_the_inbox_wakes_an_idle_host_which_fetches() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    let _host = stage.start(&Setup::default(), &mut peer);
    stage.when("check_messages", check());
    stage.tell(&mut peer, "the kettle is on", "next");
    let turn = fetched(&mut stage, "Another Claude session", "the kettle is on");
    assert_eq!(turn.count("Another Claude session sent"), 1);
    stage.shows(&mut peer, "wake", &json!("inbox"));
    stage.nothing_left_the_machine();
}
