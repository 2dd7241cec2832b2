//! What the host asks its human for us.

use crate::claude::{Setup, Stage};
use crate::script::Say;
use crate::world::Session;
use serde_json::json;

#[test]
fn a_credential_leaves_only_when_the_human_allows_it_in_the_dialog() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    let mut host = stage.start(&Setup::default(), &mut peer);
    let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
    let send = |text: String| {
        let args = json!({"to": "alice/desk/api", "message": text});
        vec![Say::ours("send_message", args)]
    };
    stage.when("the first", send(format!("take {token}")));
    let place = host.place();
    host.types("the first");
    host.draws(place, "MCP server “conclave” requests your input");
    host.presses("\u{1b}[C", "allow once");
    host.press("\u{1b}[B");
    host.presses("\r", "❯Accept");
    host.presses("\r", "Called conclave");
    stage.turn("\"stored\"");
    assert!(words(&mut peer).contains(&token), "it was allowed");

    // It was allowed once: the next one waits again. Escape is no permission.
    stage.when("the second", send(format!("once more {token}")));
    let place = host.place();
    host.types("the second");
    host.draws(place, "requests your input");
    host.presses("\u{1b}", "Called conclave");
    let turn = stage.turn("\"error\":\"secret\"");
    assert!(!turn.fresh.contains(&token), "{}", turn.fresh);
    stage.when("the third", send("nothing to hide".to_owned()));
    host.types("the third");
    assert!(words(&mut peer).contains("nothing to hide"));
    stage.nothing_left_the_machine();
}

fn words(peer: &mut Session) -> String {
    peer.hear()["content"].as_str().unwrap().to_owned()
}
