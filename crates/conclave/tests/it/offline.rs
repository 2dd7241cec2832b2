//! What this machine knows by itself, and what it says when the server is away.

use crate::world::{Session, Up};
use serde_json::json;

#[test]
fn keys_and_channels_are_told_without_the_server_and_status_says_that_it_is_away() {
    let mut up = Up::start();
    let key = up.home.run(&["key", "--json"]).ok().json();
    up.home.run(&["send", "general", "x"]).ok();
    up.stop();
    assert_eq!(up.home.run(&["key", "--json"]).ok().json(), key);
    let list = up.home.run(&["list", "--json"]).ok().json();
    assert_eq!(list["offline"], true, "{list}");
    assert_eq!(list["channels"][0]["name"], "general", "{list}");
    let status = up.home.run(&["status", "--json"]).ok().json();
    let connection = &status["servers"][0]["connection"];
    assert_eq!(connection["state"], "down", "{status}");
    assert_eq!(connection["error"], "offline", "{status}");
}

#[test]
fn what_cannot_be_sent_without_the_server_is_not_kept_and_that_is_said() {
    let mut up = Up::start();
    up.stop();
    let outcome = up.home.run(&["send", "general", "lost", "--json"]);
    outcome.refused(6, "offline");
    let message = outcome.json()["message"].to_string();
    assert!(
        message.contains("nothing was sent and nothing waits"),
        "{message}"
    );
    let status = up.home.run(&["status", "--json"]).ok().json();
    assert_eq!(status["servers"][0]["sessions"], json!([]), "{status}");
}

#[test]
fn status_shows_sessions_with_what_they_have_not_seen() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut web = Session::start(&bob, "web");
    web.must("join_channel", json!({"channel": "general"}));
    let status = || {
        let status = bob.run(&["status", "--json"]).ok().json();
        status["servers"][0]["sessions"][0].clone()
    };
    let now = status();
    assert_eq!(now["handle"], "web", "{now}");
    assert_eq!(now["state"], "online", "{now}");
    assert_eq!(now["unread"], 0, "{now}");
    up.home.run(&["send", "general", "unseen"]).ok();
    web.hear();
    let now = status();
    assert_eq!(
        now["unread"], 1,
        "a notice to the host proves nothing: {now}"
    );
    assert_eq!(now["feeds"][0]["log"], "#general", "{now}");
    web.must("check_messages", json!({}));
    assert_eq!(status()["unread"], 0);
}

#[test]
fn what_an_ended_session_had_to_send_is_an_orphan_until_it_is_back() {
    let mut up = Up::start();
    let mut api = Session::start(&up.home, "api");
    api.must("join_channel", json!({"channel": "general"}));
    up.stop();
    let answer = api.must(
        "send_channel",
        json!({"channel": "general", "text": "later"}),
    );
    assert!(answer.contains(r#""status":"queued""#), "{answer}");
    drop(api);
    up.resume();
    let status = |up: &Up| {
        let status = up.home.run(&["status", "--json"]).ok().json();
        let sessions = status["servers"][0]["sessions"].as_array().unwrap().clone();
        sessions.into_iter().find(|s| s["handle"] == "api").unwrap()
    };
    let orphan = status(&up);
    assert_eq!(
        (&orphan["waiting"], &orphan["orphaned"]),
        (&json!(1), &json!(true)),
        "{orphan}"
    );
    let said = up.home.run(&["status"]).ok().stderr;
    assert!(said.contains("conclave bridge --as api"), "{said}");

    let bob = up.guest("bob", up.link());
    let tail = bob.command(&["tail", "general", "--follow", "--json"]);
    let (tail, _) = crate::world::Background::start(tail);
    let mut api = Session::start(&up.home, "api");
    api.must("check_messages", json!({}));
    assert_eq!(tail.line()["text"], "later");
}

#[test]
fn a_closed_channel_is_listed_no_more_but_its_past_can_be_read() {
    let up = Up::start();
    let run = |args: &[&str]| up.home.run(args).ok();
    run(&["channel", "create", "ops"]);
    run(&["send", "ops", "said"]);
    run(&["channel", "delete", "ops"]);
    for list in [
        ["channel", "list", "--json"].as_slice(),
        &["list", "--json"],
    ] {
        let list = run(list).json();
        let names = list["channels"].as_array().unwrap();
        assert!(names.iter().all(|c| c["name"] != "ops"), "{list}");
    }
    assert_eq!(
        crate::world::texts(&run(&["tail", "ops", "--json"])),
        ["said"]
    );
    run(&["channel", "create", "ops"]);
    run(&["send", "ops", "anew"]);
    assert_eq!(
        crate::world::texts(&run(&["tail", "ops", "--json"])),
        ["anew"]
    );
}
