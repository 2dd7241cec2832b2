//! How a message reaches the model of the real host, by each path that needs no login. Whatever the path, the
//! model reads the whole frame, once.

use crate::claude::{AGENT, Setup, Stage, until};
use crate::hooks::Without;
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

#[test]
fn what_came_while_nobody_was_at_it_is_read_beside_the_next_prompt() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    let mut host = stage.start(&Without::BOTH.setup(), &mut peer);
    host.types("good morning");
    stage.turn("good morning");
    stage.shows(&mut peer, "status", &json!("idle"));
    stage.tell(&mut peer, "the milk is sour", "next");
    host.types("carry on");
    let turn = stage.turn("carry on");
    assert!(
        turn.fresh.contains("UserPromptSubmit hook"),
        "{}",
        turn.fresh
    );
    framed(&turn.fresh, "the milk is sour");
    stage.when("once more", check());
    host.types("once more");
    let later = stage.turn("\"unread\"");
    assert_eq!(later.count("the milk is sour"), 1);
    stage.shows(&mut peer, "wake", &json!("hook"));
    stage.nothing_left_the_machine();
}

#[test]
fn what_is_urgent_is_read_in_the_middle_of_a_turn() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    let mut host = stage.start(&Without::REWAKE.setup(), &mut peer);
    let gate = stage.hold("long work", vec![Say::ours("list_peers", json!({}))]);
    host.types("long work");
    stage.turn("long work");
    stage.tell(&mut peer, "stop the press", "now");
    drop(gate);
    let turn = stage.turn("stop the press");
    assert!(turn.fresh.contains("PostToolUse"), "{}", turn.fresh);
    framed(&turn.fresh, "stop the press");
    assert_eq!(turn.count("stop the press"), 1);
    // Nothing else told it of the same message.
    assert_eq!(turn.count("Another Claude session"), 0);
    stage.when("once more", check());
    host.types("once more");
    let later = stage.turn("\"unread\"");
    assert_eq!(later.count("stop the press"), 1);
    stage.shows(&mut peer, "wake", &json!("hook"));
}

#[test]
fn a_hook_that_waits_wakes_an_idle_host_which_fetches() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    let mut host = stage.start(&Without::INBOX.setup(), &mut peer);
    host.types("good morning");
    stage.turn("good morning");
    stage.shows(&mut peer, "status", &json!("idle"));
    stage.when("check_messages", check());
    stage.tell(&mut peer, "the boat is leaving", "next");
    fetched(&mut stage, "hook feedback", "the boat is leaving");
    stage.shows(&mut peer, "wake", &json!("rewake"));
}

#[test]
fn the_plugins_monitor_wakes_an_idle_host_which_fetches() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    // Everything comes by the plugin; it finds the program on PATH.
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugin");
    let ours = std::path::Path::new(env!("CARGO_BIN_EXE_conclave")).parent();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", ours.unwrap().display());
    let setup = Setup {
        bare: true,
        args: vec!["--plugin-dir".into(), plugin.into()],
        env: vec![("PATH", path)],
        ..Setup::default()
    };
    stage.agent = "bob/lap/work".to_owned();
    let _host = stage.start(&setup, &mut peer);
    // What comes before the monitor listens goes by another way.
    stage.listens("monitor");
    let tool = "mcp__plugin_conclave_conclave__check_messages";
    stage.when("check_messages", vec![Say::tool(tool, json!({}))]);
    stage.tell(&mut peer, "the ice is thin", "next");
    let turn = fetched(&mut stage, "<event>", "the ice is thin");
    assert!(turn.all().contains("Monitor event"), "{}", turn.all());
    stage.shows(&mut peer, "wake", &json!("monitor"));
}

#[test]
fn a_turn_goes_on_for_what_came_while_it_ended() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    let mut host = stage.start(&Without::REWAKE.setup(), &mut peer);
    let gate = stage.hold("short work", vec![Say::text("all is done")]);
    host.types("short work");
    stage.turn("short work");
    stage.tell(&mut peer, "one more thing", "next");
    drop(gate);
    let turn = stage.turn("one more thing");
    assert!(turn.fresh.contains("Stop hook"), "{}", turn.fresh);
    framed(&turn.fresh, "one more thing");
    assert_eq!(turn.count("one more thing"), 1, "{}", turn.fresh);
    stage.when("once more", check());
    host.types("once more");
    let later = stage.turn("\"unread\"");
    assert_eq!(later.count("one more thing"), 1);
}

#[test]
fn a_cleared_session_is_told_again_who_it_is_and_what_came() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    let mut host = stage.start(&Without::BOTH.setup(), &mut peer);
    host.types("good morning");
    stage.turn("good morning");
    stage.shows(&mut peer, "status", &json!("idle"));
    stage.tell(&mut peer, "do not forget the cat", "next");
    let before = stage.session();
    host.types("/clear");
    until(|| match stage.session() {
        new if new.is_string() && new != before => Ok(()),
        other => Err(other.to_string()),
    });
    host.types("where are we");
    let turn = stage.turn("where are we");
    assert_eq!(turn.count("good morning"), 0, "it was cleared");
    assert_eq!(turn.count(&format!("you are {AGENT}")), 1, "{}", turn.fresh);
    assert!(turn.fresh.contains("alice/desk/api"), "{}", turn.fresh);
    framed(&turn.fresh, "do not forget the cat");
    assert_eq!(turn.count("do not forget the cat"), 1);
}
