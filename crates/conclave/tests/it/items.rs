//! State, memory and history at the command line: two people, two machines.

use crate::world::{Background, Up};
use serde_json::json;

#[test]
fn facts_are_written_and_read_by_version_from_two_machines() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let set = [
        "state",
        "set",
        "build",
        "{\"ok\": true}",
        "--if-version",
        "0",
        "--json",
    ];
    let first = up.home.run(&set).ok().json();
    assert_eq!(first["status"], "stored");
    bob.run(&set).refused(7, "version_mismatch");
    let got = bob.run(&["state", "get", "build", "--json"]).ok().json();
    assert_eq!(
        (&got["value"], &got["version"]),
        (&json!({"ok": true}), &first["version"])
    );
    assert_eq!(got["from"], "alice/desk/cli");
    assert_eq!(
        bob.run(&["state", "get", "build"]).ok().stdout.trim(),
        "{\"ok\": true}"
    );
    let listed = bob.run(&["state", "list", "bu", "--json"]).ok().json();
    assert_eq!(listed["items"][0]["key"], "build");
    bob.run(&["state", "set", "build", "no json", "--json"])
        .refused(1, "malformed");
    let large = format!("\"{}\"", "x".repeat(65_535));
    bob.pipe(&["state", "set", "build", "-", "--json"], &large)
        .refused(4, "too_large");
    bob.run(&["state", "delete", "build"]).ok();
    up.home
        .run(&["state", "get", "build", "--json"])
        .refused(3, "not_found");
    let none = bob.run(&["state", "get", "x", "--channel", "nowhere", "--json"]);
    none.refused(3, "not_found");
}

#[test]
fn changes_are_printed_as_they_come() {
    let up = Up::start();
    let (watch, _) = Background::start(up.home.command(&["state", "watch", "ci/", "--json"]));
    // The watch says nothing when it begins: keys are written until it hears one.
    let heard = std::thread::spawn(move || watch.line());
    for n in 0.. {
        let value = n.to_string();
        up.home.run(&["state", "set", "other", &value]).ok();
        up.home.run(&["state", "set", "ci/x", &value]).ok();
        if heard.is_finished() {
            break;
        }
    }
    assert_eq!(heard.join().unwrap()["key"], "ci/x");
}

#[test]
fn what_was_kept_and_said_is_found_from_a_machine_that_just_joined() {
    let up = Up::start();
    let kept = [
        "remember",
        "the staging key rotates on mondays",
        "--tag",
        "ops",
        "--json",
    ];
    let kept = up.home.run(&kept).ok().json();
    up.home.run(&["remember", "lunch is at noon"]).ok();
    up.home
        .run(&["send", "general", "who broke the walrus build?"])
        .ok();
    let bob = up.guest("bob", up.link());
    let found = bob
        .run(&["recall", "staging", "keys", "--tag", "ops", "--json"])
        .ok()
        .json();
    assert_eq!(
        found["memories"][0]["text"],
        "the staging key rotates on mondays"
    );
    assert_eq!(found["memories"][0]["id"], kept["id"]);
    let found = bob.run(&["history", "walrus", "--json"]).ok().json();
    assert_eq!(found["messages"][0]["text"], "who broke the walrus build?");
    assert_eq!(
        (&found["messages"][0]["in"], &found["complete"]),
        (&json!("#general"), &json!(true))
    );
    let newest = bob.run(&["history"]).ok();
    assert!(newest.stdout.contains("walrus build"));
    let id = kept["id"].as_str().unwrap();
    bob.run(&["forget", id, "--json"]).refused(4, "forbidden");
    up.home.run(&["forget", id]).ok();
    bob.run(&["forget", id, "--json"]).refused(3, "not_found");
    let found = bob.run(&["recall", "staging", "--json"]).ok().json();
    assert_eq!(found["memories"], json!([]));
}
