//! Peers and groups from the command line, with a bridge running.

use crate::world::{Home, Session, Up};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Asks until the answer fits.
fn until(home: &Home, args: &[&str], fits: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let outcome = home.run(args);
        if outcome.code == 0 {
            let object = outcome.json();
            if fits(&object) {
                return object;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{args:?}");
    }
}

#[test]
fn a_person_sees_peers_and_gives_a_running_session_a_group() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let given = ["--role", "dev", "--groups", "eng/web:lead"];
    let mut web = Session::start_with(&bob, "web", &given);
    web.must("join_channel", json!({"channel": "general"}));
    web.must("set_summary", json!({"summary": "the login page"}));
    let list = ["peers", "--group", "eng", "--json"];
    let peers = until(&up.home, &list, |peers| {
        peers["peers"][0]["summary"] == "the login page"
    });
    let first = &peers["peers"][0];
    assert_eq!(
        (&first["path"], &first["role"], &first["groups"]),
        (
            &json!("bob/lap/web"),
            &json!("dev"),
            &json!(["eng/web:lead"])
        )
    );
    up.home
        .run(&["peers", "--group", "sales", "--json"])
        .refused(3, "not_found");

    let join = ["group", "join", "reviewers", "--role", "lead"];
    let join = [&join[..], &["--as", "web", "--channel", "general"]].concat();
    bob.run(&join).ok();
    let groups = until(&up.home, &["group", "list", "--json"], |groups| {
        groups["groups"].as_array().unwrap().len() == 2
    });
    let reviewers = json!({"group": "reviewers", "path": "bob/lap/web", "role": "lead"});
    assert_eq!(groups["groups"][1], reviewers);

    let send = ["send", "@reviewers", "look", "--to", "web", "--json"];
    let sent = up.home.run(&send).ok().json();
    assert_eq!(sent["parts"].as_array().unwrap().len(), 2, "{sent}");
    let heard = web.hear();
    assert_eq!(heard["meta"]["msg_id"], sent["id"], "{heard}");
    up.home
        .run(&["send", "@reviwers", "look", "--json"])
        .refused(3, "not_found");
    bob.run(&["group", "leave", "sales", "--as", "web", "--json"])
        .refused(2, "usage");
}
