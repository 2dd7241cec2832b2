//! Bad input and hostile surroundings: typed errors with a hint and the right exit code.

use crate::world::{Home, Up, join, loosen};

#[test]
fn a_link_that_is_none_is_refused_before_anything_is_dialled() {
    let home = Home::new();
    join(&home, "bob", "https://chat.example/i/nonsense").refused(2, "usage");
}

#[test]
fn a_link_works_once() {
    let up = Up::start();
    up.guest("bob", up.link());
    join(&Home::new(), "carol", up.link()).refused(4, "invite_invalid");
}

#[test]
fn a_revoked_link_is_worthless() {
    let up = Up::start();
    let made = up
        .home
        .run(&["invite", "create", "general", "--json"])
        .ok()
        .json();
    let id = made["id"].as_str().unwrap();
    up.home.run(&["invite", "revoke", id]).ok();
    join(&Home::new(), "bob", made["link"].as_str().unwrap()).refused(4, "invite_invalid");
}

#[test]
fn a_reserved_name_is_refused() {
    let up = Up::start();
    join(&Home::new(), "admin", up.link()).refused(2, "name_invalid");
    up.guest("bob", up.link());
}

#[test]
fn a_taken_name_is_a_conflict_and_the_link_stays_good() {
    let up = Up::start();
    join(&Home::new(), "alice", up.link()).refused(7, "name_taken");
    up.guest("bob", up.link());
}

#[test]
fn an_unknown_channel_is_not_found_whatever_is_done_with_it() {
    let up = Up::start();
    for args in [
        &["send", "nowhere", "x", "--json"][..],
        &["tail", "nowhere", "--json"],
        &["join", "nowhere", "--json"],
        &["acl", "list", "nowhere", "--json"],
        &["invite", "create", "nowhere", "--json"],
    ] {
        up.home.run(args).refused(3, "not_found");
    }
}

#[test]
fn a_command_without_any_server_says_how_to_get_one() {
    Home::new()
        .run(&["send", "general", "x", "--json"])
        .refused(8, "no_server");
}

#[test]
fn a_server_that_is_down_is_offline() {
    let mut up = Up::start();
    up.stop();
    up.home.run(&["who", "--json"]).refused(6, "offline");
}

#[test]
fn a_directory_that_others_can_read_is_refused() {
    let up = Up::start();
    loosen(&up.home.path());
    up.home.run(&["who", "--json"]).refused(8, "local");
}

#[test]
fn a_server_whose_key_changed_is_refused_loudly() {
    let mut up = Up::start();
    let bob = up.guest("bob", up.link());
    let url = up.url().to_owned();
    up.stop();
    let port = url.rsplit(':').next().unwrap();
    let other = Home::new();
    let key = other.file("recovery.key");
    let mut command = other.command(&[
        "up",
        "--json",
        "--user",
        "mallory",
        "--machine",
        "m",
        "--port",
        port,
        "--recovery-key-file",
        &key,
    ]);
    command.stdin(std::process::Stdio::null());
    let (impostor, _) = crate::world::Background::start(command);
    impostor.line();
    let outcome = bob.run(&["send", "general", "x", "--json"]);
    outcome.refused(5, "pin");
    let message = outcome.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("key"), "{message}");
}

#[test]
fn a_new_account_without_a_terminal_needs_a_file_for_its_recovery_key() {
    let up = Up::start();
    let home = Home::new();
    home.pipe(&["join", "-", "--json", "--user", "bob"], up.link())
        .refused(2, "usage");
}

#[test]
fn a_lapsed_link_is_worthless() {
    let up = Up::start();
    let args = ["invite", "create", "general", "--expires", "1s", "--json"];
    let made = up.home.run(&args).ok().json();
    let lapsed = || {
        let list = up
            .home
            .run(&["invite", "list", "general", "--json"])
            .ok()
            .json();
        let invites = list["invites"].as_array().unwrap().clone();
        invites
            .iter()
            .any(|i| i["id"] == made["id"] && i["live"] == false)
    };
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !lapsed() {
        assert!(std::time::Instant::now() < patience, "it never lapses");
    }
    let outcome = join(&Home::new(), "bob", made["link"].as_str().unwrap());
    outcome.refused(4, "invite_invalid");
    assert!(
        outcome.json()["hint"]
            .as_str()
            .unwrap()
            .contains("new invite")
    );
}

#[test]
fn an_invite_that_would_have_lapsed_already_is_not_made() {
    let up = Up::start();
    let args = ["invite", "create", "general", "--expires", "0s", "--json"];
    up.home.run(&args).refused(4, "invite_invalid");
}
