//! The second machine of the same person, and what only the owner key can do.

use crate::world::{Background, Home, Up};

#[test]
fn a_second_machine_is_signed_in_by_the_first_and_out_again() {
    let up = Up::start();
    let key = up.home.file("recovery.key");
    let add = up
        .home
        .command(&["machine", "add", "--json", "--recovery-key-file", &key]);
    let (add, _) = Background::start(add);
    let link = add.line()["link"].as_str().unwrap().to_owned();
    let lap = Home::new();
    let joined = lap.pipe(&["join", "-", "--machine", "lap", "--json"], &link);
    let joined = joined.ok();
    assert_eq!(joined.json()["user"], "alice");
    assert_eq!(joined.json()["level"], "notify");
    assert!(
        joined.stderr.contains("conclave perm set converse"),
        "{joined:?}"
    );
    assert_eq!(add.line()["added"], "lap");
    lap.run(&["send", "general", "from lap"]).ok();
    up.home
        .run(&["machine", "remove", "lap", "--recovery-key-file", &key])
        .ok();
    lap.run(&["send", "general", "still here?", "--json"])
        .refused(5, "unknown_key");
}

#[test]
fn a_second_machine_that_is_given_the_recovery_key_may_converse_at_once() {
    let up = Up::start();
    let key = up.home.file("recovery.key");
    let add = ["machine", "add", "--json", "--recovery-key-file", &key];
    let (add, _) = Background::start(up.home.command(&add));
    let link = add.line()["link"].as_str().unwrap().to_owned();
    let lap = Home::new();
    let args = [
        "join",
        "-",
        "--machine",
        "lap",
        "--recovery-key-file",
        &key,
        "--json",
    ];
    assert_eq!(lap.pipe(&args, &link).ok().json()["level"], "converse");
    let shown = lap.run(&["perm", "show", "--json"]).ok().json();
    assert_eq!(shown["levels"][0]["level"], "converse", "{shown}");
}

#[test]
fn a_level_is_raised_with_the_owner_key_only() {
    let up = Up::start();
    let set = ["perm", "set", "act", "--channel", "general", "--json"];
    up.home.run(&set).refused(2, "usage");
    let stranger = Up::start();
    let wrong = stranger.home.file("recovery.key");
    let with = |key: &str| {
        let args = [&set[..], &["--recovery-key-file", key]].concat();
        up.home.run(&args)
    };
    with(&wrong).refused(5, "unauthorized");
    with(&up.home.file("recovery.key")).ok();
    let shown = up.home.run(&["perm", "show", "--json"]).ok().json();
    let general = shown["levels"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["scope"] == "#general");
    assert_eq!(general.unwrap()["level"], "act");
}

#[test]
fn an_admin_makes_another_one_with_the_owner_key() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    bob.run(&["user", "list", "--json"]).refused(4, "forbidden");
    let key = up.home.file("recovery.key");
    up.home
        .run(&["admin", "add", "bob", "--recovery-key-file", &key])
        .ok();
    bob.run(&["user", "list", "--json"]).ok();
}
