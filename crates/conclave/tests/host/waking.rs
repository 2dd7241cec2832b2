//! How a message reaches the model of the real host, by each path that needs no login. Whatever the path, the
//! model reads the whole frame, once.

use crate::claude::{AGENT, Setup, Stage};
use crate::script::Say;
use crate::tools::framed;
use serde_json::json;

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
    peer.must(
        "send_message",
        json!({"to": AGENT, "message": "the heron has landed"}),
    );
    let turn = stage.turn("the heron has landed");
    assert!(turn.fresh.contains("<task-notification>"), "{}", turn.fresh);
    framed(&turn.fresh, "the heron has landed");
    // What it read is not given to it again.
    stage.when(
        "anything else",
        vec![Say::ours("check_messages", json!({}))],
    );
    host.types("anything else");
    let later = stage.turn("\"unread\"");
    assert_eq!(later.count("the heron has landed"), 1);
    stage.nothing_left_the_machine();
}
