//! What an agent may say where, with real processes: what was read in private stays out of public, what is
//! confidential stays where it is, and no credential leaves.

use crate::world::{Home, Session, Up};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Alice's agent and bob's in private #general; both in public #lobby, too.
fn two(up: &Up) -> (Home, Session, Session) {
    let bob = up.guest("bob", up.link());
    let lobby = ["channel", "create", "lobby", "--visibility", "public"];
    up.home.run(&lobby).ok();
    let mut a = Session::start(&up.home, "api");
    let mut b = Session::start(&bob, "web");
    for session in [&mut a, &mut b] {
        session.must("join_channel", json!({"channel": "general"}));
        session.must("join_channel", json!({"channel": "lobby"}));
    }
    (bob, a, b)
}

fn say(session: &mut Session, to: &str, text: &str) -> (bool, Value) {
    let (failed, text) = session.call("send_message", json!({"to": to, "message": text}));
    let facts = text.lines().next().unwrap_or_default().to_owned();
    (failed, serde_json::from_str(&facts).unwrap())
}

/// Asks for the channels until the answer fits.
fn until(session: &mut Session, fits: impl Fn(&str) -> bool) {
    let start = Instant::now();
    while !fits(&session.must("list_channels", json!({}))) {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it does not come"
        );
    }
}

fn journal(home: &Home) -> String {
    let servers = std::fs::read_dir(home.path().join("servers")).unwrap();
    let files = servers.map(|dir| dir.unwrap().path().join("journal"));
    files
        .map(|file| std::fs::read_to_string(file).unwrap_or_default())
        .collect()
}

#[test]
fn b8_27_words_of_a_private_channel_do_not_reach_a_public_one() {
    let up = Up::start();
    let (bob, mut a, mut b) = two(&up);
    assert!(!say(&mut a, "#general", "the launch is on friday").0);
    let heard = b.hear();
    assert!(
        heard["content"].as_str().unwrap().contains("friday"),
        "{heard}"
    );
    let (failed, facts) = say(&mut b, "#lobby", "they launch on friday");
    assert!(failed, "{facts}");
    assert_eq!(facts["error"], "needs_human");
    let notes = journal(&bob);
    assert!(
        notes.contains("#general") && notes.contains("conclave approve h-"),
        "{notes}"
    );
    assert!(
        !notes.contains("friday"),
        "the journal has no bodies: {notes}"
    );
    // What is public already may go anywhere, and an answer to where it came from.
    assert!(!say(&mut a, "#lobby", "hello, everybody").0);
    assert!(!say(&mut b, "#general", "good").0);
    let said = up.home.run(&["tail", "lobby", "--json"]).ok();
    assert!(!said.stdout.contains("they launch"), "{}", said.stdout);
}

#[test]
fn what_is_confidential_is_said_so_by_an_admin_and_kept_by_every_members_program() {
    let up = Up::start();
    let (bob, mut a, mut b) = two(&up);
    bob.run(&["channel", "set", "general", "--confidential", "--json"])
        .refused(4, "forbidden");
    up.home
        .run(&["channel", "set", "general", "--confidential"])
        .ok();
    for home in [&up.home, &bob] {
        let list = home.run(&["channel", "list", "--json"]).ok().json();
        let all = list["channels"].as_array().unwrap();
        let general = all.iter().find(|c| c["name"] == "general").unwrap();
        assert_eq!(general["confidential"], true, "{list}");
    }
    until(&mut b, |text| text.contains("\"confidential\":true"));
    assert!(!say(&mut a, "#general", "nobody else may know").0);
    b.hear();
    b.must("create_channel", json!({"name": "den"}));
    let (failed, facts) = say(&mut b, "#den", "guess what");
    assert!(failed, "{facts}");
    assert_eq!(facts["error"], "needs_human", "{facts}");
    let list = up
        .home
        .run(&["channel", "set", "general", "--not-confidential", "--json"]);
    assert_eq!(list.ok().json()["confidential"], false);
}

#[test]
fn b8_26_a_key_does_not_leave_and_the_human_can_see_that_it_was_tried() {
    let up = Up::start();
    let (_bob, mut a, _b) = two(&up);
    let recovery = std::fs::read_to_string(up.home.file("recovery.key")).unwrap();
    let link = up.link().to_owned();
    for secret in [recovery.trim(), &link] {
        let (failed, facts) = say(&mut a, "#lobby", &format!("here: {secret}"));
        assert!(failed, "{facts}");
        assert_eq!(facts["error"], "secret");
        assert!(!facts.to_string().contains(secret));
    }
    let notes = journal(&up.home);
    assert!(
        notes.contains("recovery key") && notes.contains("link"),
        "{notes}"
    );
    assert!(!notes.contains(recovery.trim()) && !notes.contains(&link));
    let said = up.home.run(&["tail", "lobby", "--json"]).ok();
    assert!(!said.stdout.contains("here:"), "{}", said.stdout);
}
