//! Two people, two machines, one server: the commands that carry words.

use crate::world::{Background, Up, join, texts};
use serde_json::Value;

#[test]
fn messages_go_both_ways_between_two_machines() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let sent = up
        .home
        .run(&["send", "general", "hello bob", "--json"])
        .ok()
        .json();
    assert_eq!(sent["status"], "stored");
    assert!(sent["seq"].as_u64().unwrap() > 0);
    bob.pipe(&["send", "#general", "-", "--json"], "hello alice\n")
        .ok();
    let both = ["hello bob", "hello alice"];
    assert_eq!(
        texts(&up.home.run(&["tail", "general", "--json"]).ok()),
        both
    );
    assert_eq!(texts(&bob.run(&["tail", "general", "--json"]).ok()), both);
}

#[test]
fn tail_since_a_seq_shows_only_what_came_after() {
    let up = Up::start();
    let first = up
        .home
        .run(&["send", "general", "one", "--json"])
        .ok()
        .json();
    up.home.run(&["send", "general", "two"]).ok();
    let seq = first["seq"].to_string();
    let later = up
        .home
        .run(&["tail", "general", "--since", &seq, "--json"])
        .ok();
    assert_eq!(texts(&later), ["two"]);
}

#[test]
fn tail_follow_prints_what_comes() {
    let up = Up::start();
    up.home.run(&["send", "general", "before"]).ok();
    let command = up.home.command(&["tail", "general", "--follow", "--json"]);
    let (tail, _) = Background::start(command);
    assert_eq!(tail.line()["text"], "before");
    up.home.run(&["send", "general", "after"]).ok();
    assert_eq!(tail.line()["text"], "after");
}

#[test]
fn up_resumes_with_the_same_server_account_and_history() {
    let mut up = Up::start();
    let before = up.ready.clone();
    up.home.run(&["send", "general", "kept"]).ok();
    up.stop();
    up.resume();
    assert_eq!(up.ready["server_id"], before["server_id"]);
    assert_eq!(up.ready["url"], before["url"]);
    assert_eq!(
        texts(&up.home.run(&["tail", "general", "--json"]).ok()),
        ["kept"]
    );
}

#[test]
fn up_elsewhere_takes_the_account_and_its_commands_along() {
    let mut up = Up::start();
    let before = up.ready.clone();
    up.stop();
    let _taken = std::net::TcpListener::bind(
        before["url"]
            .as_str()
            .unwrap()
            .trim_start_matches("http://"),
    );
    up.resume_with(&["--port", "0"]);
    assert_ne!(up.ready["url"], before["url"]);
    assert_ne!(
        up.ready["link"], before["link"],
        "a link to where nobody is"
    );
    up.home.run(&["send", "general", "moved"]).ok();
    up.guest("bob", up.link());
}

#[test]
fn a_first_up_that_cannot_hand_the_key_over_leaves_nothing_behind() {
    let home = crate::world::Home::new();
    home.run(&["up", "--port", "0", "--json"])
        .refused(2, "usage");
    assert!(!home.path().join("server").exists());
}

#[test]
fn an_invite_link_with_two_uses_lets_two_people_in_and_no_third() {
    let up = Up::start();
    let made = up
        .home
        .run(&["invite", "create", "general", "--uses", "2", "--json"])
        .ok()
        .json();
    let link = made["link"].as_str().unwrap();
    up.guest("bob", link);
    up.guest("carol", link);
    join(&crate::world::Home::new(), "dave", link).refused(4, "invite_invalid");
    let members = up
        .home
        .run(&["acl", "list", "general", "--json"])
        .ok()
        .json();
    let names: Vec<_> = members["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["user"].clone())
        .collect();
    assert_eq!(names, ["alice", "bob", "carol"].map(Value::from));
}

#[test]
fn status_list_and_key_tell_the_same_story() {
    let up = Up::start();
    let status = up.home.run(&["status", "--json"]).ok().json();
    assert_eq!(status["servers"][0]["user"], "alice");
    let list = up.home.run(&["list", "--json"]).ok().json();
    assert_eq!(list["channels"][0]["name"], "general");
    let key = up.home.run(&["key", "--json"]).ok().json();
    assert_eq!(key["keys"][0]["machine"], "desk");
}

#[test]
fn a_channel_is_created_renamed_hidden_and_deleted() {
    let up = Up::start();
    let run = |args: &[&str]| up.home.run(args).ok();
    run(&["channel", "create", "ops", "--visibility", "public"]);
    run(&["channel", "rename", "ops", "ops2"]);
    run(&["channel", "set-visibility", "ops2", "private"]);
    let list = run(&["channel", "list", "--json"]).json();
    let ops = list["channels"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["name"] == "ops2")
        .cloned();
    assert_eq!(ops.unwrap()["visibility"], "private");
    run(&["channel", "delete", "ops2"]);
    up.home
        .run(&["send", "ops2", "x", "--json"])
        .refused(4, "frozen");
}

#[test]
fn a_banned_user_cannot_send_until_the_ban_is_lifted_and_the_user_added() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    up.home.run(&["ban", "general", "bob"]).ok();
    let bans = up.home.run(&["bans", "general", "--json"]).ok().json();
    assert_eq!(bans["bans"][0]["user"], "bob");
    let outcome = bob.run(&["send", "general", "x", "--json"]);
    assert!([3, 4].contains(&outcome.code), "{outcome:?}");
    up.home.run(&["unban", "general", "bob"]).ok();
    up.home.run(&["acl", "add", "general", "bob"]).ok();
    bob.run(&["send", "general", "back"]).ok();
}

#[test]
fn the_audit_log_verifies_and_the_first_user_is_the_admin() {
    let up = Up::start();
    let verified = up.home.run(&["audit", "verify", "--json"]).ok().json();
    assert_eq!(verified["ok"], true);
    let admins = up.home.run(&["admin", "list", "--json"]).ok().json();
    assert_eq!(admins["admins"][0]["user"], "alice");
}
