//! Accounts without an invite: open registration, the way back with the recovery key, known servers.

use crate::world::{Home, Serve, Up, texts};

fn recover(home: &Home, up: &Up, machine: &str, key: &str) -> crate::world::Outcome {
    home.run(&[
        "machine",
        "recover",
        "--server",
        up.url(),
        "--user",
        "alice",
        "--machine",
        machine,
        "--recovery-key-file",
        key,
        "--json",
    ])
}

#[test]
fn an_account_comes_back_with_the_recovery_key_and_loses_the_old_machine() {
    let up = Up::start();
    up.home.run(&["send", "general", "before the fire"]).ok();
    let key = up.home.file("recovery.key");
    let new = Home::new();
    let back = recover(&new, &up, "fresh", &key).ok();
    assert_eq!(back.json()["machine"], "fresh");
    assert!(back.stderr.contains("machine remove"), "{back:?}");

    let read = new.run(&["tail", "general", "--json"]).ok();
    assert_eq!(texts(&read), ["before the fire"]);
    new.run(&["send", "general", "after it"]).ok();
    let shown = new.run(&["perm", "show", "--json"]).ok().json();
    assert_eq!(shown["levels"][0]["level"], "converse", "{shown}");

    new.run(&["machine", "remove", "desk", "--recovery-key-file", &key])
        .ok();
    let old = up.home.run(&["send", "general", "still me?", "--json"]);
    old.refused(5, "unknown_key");
    let left = new.run(&["machine", "list", "--json"]).ok().json();
    assert_eq!(left["machines"].as_array().unwrap().len(), 1);
}

#[test]
fn the_recovery_key_may_come_from_standard_input() {
    let up = Up::start();
    let key = std::fs::read_to_string(up.home.file("recovery.key")).unwrap();
    let args = [
        "machine",
        "recover",
        "--server",
        up.url(),
        "--user",
        "alice",
        "--machine",
        "piped",
        "--json",
    ];
    let new = Home::new();
    new.pipe(&args, "no key at all").refused(5, "unauthorized");
    assert_eq!(new.pipe(&args, &key).ok().json()["machine"], "piped");
}

#[test]
fn a_recovery_with_another_key_name_or_a_taken_machine_is_refused() {
    let up = Up::start();
    let key = up.home.file("recovery.key");
    recover(&Home::new(), &up, "desk", &key).refused(7, "name_taken");
    recover(&up.home, &up, "again", &key).refused(7, "name_taken");
    let stranger = Up::start();
    let other = stranger.home.file("recovery.key");
    recover(&Home::new(), &up, "evil", &other).refused(5, "unauthorized");
}

#[test]
fn anybody_registers_on_an_open_server_and_nobody_on_another() {
    let open = Serve::start(&["--ephemeral", "--registration", "open"]);
    let register = |home: &Home, url: &str, user: &str| {
        let key = home.file("recovery.key");
        home.run(&[
            "register",
            url,
            "--user",
            user,
            "--machine",
            "lap",
            "--recovery-key-file",
            &key,
            "--json",
        ])
    };
    let bob = Home::new();
    assert_eq!(register(&bob, open.url(), "bob").ok().json()["user"], "bob");
    bob.run(&["channel", "create", "talk"]).ok();
    bob.run(&["send", "talk", "first"]).ok();
    register(&Home::new(), open.url(), "bob").refused(7, "name_taken");
    register(&Home::new(), Up::start().url(), "carol").refused(4, "registration_closed");
}

#[test]
fn a_server_is_trusted_by_its_fingerprint_only_and_forgotten_again() {
    let up = Up::start();
    let home = Home::new();
    let wrong = Up::start().ready["fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    let right = up.ready["fingerprint"].as_str().unwrap();
    let trust = |fingerprint: &str| {
        home.run(&[
            "server",
            "trust",
            up.url(),
            "--fingerprint",
            fingerprint,
            "--json",
        ])
    };
    trust(&wrong).refused(5, "pin");
    trust(right).ok();
    let list = home.run(&["server", "list", "--json"]).ok().json();
    assert_eq!(list["servers"][0]["fingerprint"], right);
    home.run(&["send", "general", "x", "--json"])
        .refused(5, "unknown_key");
    home.run(&["server", "remove", up.url()]).ok();
    let list = home.run(&["server", "list", "--json"]).ok().json();
    assert!(list["servers"].as_array().unwrap().is_empty(), "{list}");
    home.run(&["server", "remove", up.url(), "--json"])
        .refused(8, "no_server");
}
