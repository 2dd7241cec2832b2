//! Going and being sent away, and links that make accounts only.

use crate::world::{Serve, Session, Up, join};
use serde_json::json;

#[test]
fn who_leaves_a_channel_sends_there_no_more() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    bob.run(&["leave", "general"]).ok();
    let list = bob.run(&["list", "--json"]).ok().json();
    assert_eq!(list["channels"], json!([]));
    bob.run(&["send", "general", "x", "--json"])
        .refused(3, "not_found");
    let members = up
        .home
        .run(&["acl", "list", "general", "--json"])
        .ok()
        .json();
    assert_eq!(members["members"].as_array().unwrap().len(), 1, "{members}");
}

#[test]
fn a_kicked_user_is_out_and_can_be_let_in_again() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    up.home.run(&["kick", "general", "bob"]).ok();
    bob.run(&["send", "general", "x", "--json"])
        .refused(3, "not_found");
    up.home.run(&["acl", "add", "general", "bob"]).ok();
    bob.run(&["send", "general", "back"]).ok();
}

#[test]
fn a_kicked_session_is_unsubscribed_while_its_user_stays_a_member() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut web = Session::start(&bob, "web");
    web.must("join_channel", json!({"channel": "general"}));
    let there = || {
        let who = up.home.run(&["who", "general", "--json"]).ok().json();
        let sessions = who["sessions"].as_array().unwrap().clone();
        sessions.iter().any(|s| s["path"] == "bob/lap/web")
    };
    assert!(there());
    up.home.run(&["kick", "general", "bob/lap/web"]).ok();
    assert!(!there());
    bob.run(&["send", "general", "still a member"]).ok();
    up.home
        .run(&["kick", "general", "bob/lap", "--json"])
        .refused(2, "usage");
}

#[test]
fn a_server_invite_makes_an_account_without_a_channel_and_is_for_admins() {
    let server = Serve::start(&["--ephemeral"]);
    let admin = crate::world::Home::new();
    join(
        &admin,
        "alice",
        server.ready["bootstrap_link"].as_str().unwrap(),
    )
    .ok();
    let made = admin
        .run(&["invite", "create", "--uses", "2", "--json"])
        .ok()
        .json();
    let listed = admin.run(&["invite", "list", "--json"]).ok().json();
    assert_eq!(listed["invites"][0]["id"], made["id"], "{listed}");
    let bob = crate::world::Home::new();
    let joined = join(&bob, "bob", made["link"].as_str().unwrap())
        .ok()
        .json();
    assert!(joined["channel"].is_null(), "{joined}");
    bob.run(&["invite", "create", "--json"])
        .refused(4, "forbidden");
    admin
        .run(&["invite", "revoke", made["id"].as_str().unwrap()])
        .ok();
    join(
        &crate::world::Home::new(),
        "carol",
        made["link"].as_str().unwrap(),
    )
    .refused(4, "invite_invalid");
}
