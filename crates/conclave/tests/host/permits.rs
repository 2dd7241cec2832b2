//! Tool calls of the real host, decided from a terminal of somebody whom its user named.

use crate::claude::{Stage, until};
use crate::hooks::Without;
use crate::script::Say;
use serde_json::{Value, json};

/// What waits for alice.
#[track_caller]
fn waiting(stage: &Stage, preview: &str) -> Value {
    until(|| {
        let listed = stage.up.home.run(&["approve", "--json"]).ok().json();
        let all = listed["requests"].as_array().cloned().unwrap_or_default();
        let fits = |one: &Value| one["preview"].as_str().is_some_and(|p| p.contains(preview));
        all.into_iter().find(fits).ok_or_else(|| listed.to_string())
    })
}

fn decide(stage: &Stage, word: &str, request: &Value) {
    let key = stage.up.home.file("recovery.key");
    let id = request["id"].as_str().unwrap();
    let args = ["approve", word, id, "--json", "--recovery-key-file", &key];
    stage.up.home.run(&args).ok();
}

#[test]
fn a_call_of_the_real_host_is_allowed_and_another_denied_from_another_machine() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let key = stage.bob.file("recovery.key");
    let add = ["perm", "approver", "add", "alice", "--recovery-key-file"];
    stage.bob.run(&[&add[..], &[&key]].concat()).ok();
    let mut peer = stage.peer();
    let mut host = stage.start(&Without::BOTH.setup(), &mut peer);
    let touch = |name: &str| {
        let input = json!({"command": format!("touch {name}"), "description": "Make a file"});
        vec![Say::tool("Bash", input)]
    };
    stage.when("make one", touch("one-file"));
    host.types("make one");
    let request = waiting(&stage, "one-file");
    assert_eq!(request["session"], stage.agent, "{request}");
    assert_eq!(request["tool"], "Bash", "{request}");
    assert!(!stage.work().join("one-file").exists(), "nobody allowed it");
    decide(&stage, "allow", &request);
    until(|| match stage.work().join("one-file").exists() {
        true => Ok(()),
        false => Err("no file yet".to_owned()),
    });

    stage.when("make two", touch("two-file"));
    host.types("make two");
    let request = waiting(&stage, "two-file");
    decide(&stage, "deny", &request);
    stage.turn("denied");
    assert!(!stage.work().join("two-file").exists(), "it was denied");
}
