//! What an agent was kept from sending, and its human lets go once from a terminal: the host has no dialogs.

use super::{Office, key, start};
use crate::world::{Home, Outcome, Session, Up, texts};
use serde_json::{Value, json};

/// Of the form of a credential; it opens nothing.
const TOKEN: &str = concat!("ghp_", "n8Qd2LxV5rTz0BwYk3CmHs7JfGp1Ae6UoIb9");

/// Tries to say it in #general; returns the refusal, or nothing if it was sent.
fn says(session: &mut Session, text: &str) -> Option<Value> {
    let to = json!({"to": "#general", "message": text});
    let (failed, text) = session.call("send_message", to);
    let facts = text.lines().next().unwrap_or_default();
    failed.then(|| serde_json::from_str(facts).unwrap())
}

/// The id that a refusal tells the human.
fn named(refusal: &Value) -> String {
    let hint = refusal["hint"].as_str().unwrap();
    let (_, rest) = hint.split_once("`conclave approve ").unwrap();
    let id = rest.split('`').next().unwrap();
    assert!(id.starts_with("h-") && id.len() == 8, "{hint}");
    id.to_owned()
}

fn list(home: &Home) -> Outcome {
    home.run(&["approve", "list", "--json"]).ok()
}

fn allow(home: &Home, id: &str, key: &str) -> Outcome {
    home.run(&["approve", "allow", id, "--json", "--recovery-key-file", key])
}

/// What stands in #general that has this in it.
fn said(home: &Home, what: &str) -> usize {
    let tail = home.run(&["tail", "general", "--json"]).ok();
    let with = |text: &String| text.contains(what);
    texts(&tail).into_iter().filter(with).count()
}

#[test]
fn what_looks_like_a_credential_is_held_until_a_human_lets_it_go_once() {
    let office = Office::open();
    let (home, bob) = (&office.up.home, &office.bob);
    let mut session = office.session;
    let text = format!("the key is {TOKEN}");
    let refusal = says(&mut session, &text).unwrap();
    assert_eq!(refusal["error"], "secret", "{refusal}");
    let id = named(&refusal);
    // Said again, it is the same hold.
    assert_eq!(named(&says(&mut session, &text).unwrap()), id);

    let listed = list(home);
    let holds = listed.json()["holds"].clone();
    assert_eq!(holds.as_array().unwrap().len(), 1, "{holds}");
    assert_eq!(
        (&holds[0]["id"], &holds[0]["place"]),
        (&json!(id), &json!("the tool send_message"))
    );
    let shown = home.run(&["approve", "show", &id, "--json"]).ok();
    for out in [&listed.stdout, &listed.stderr, &shown.stdout, &shown.stderr] {
        assert!(
            !out.contains(TOKEN) && !out.contains(&TOKEN[4..12]),
            "{out}"
        );
    }

    // Another account's owner key, no key at all, another id, another machine.
    allow(home, &id, &key(bob)).refused(5, "unauthorized");
    home.run(&["approve", "allow", &id, "--json"])
        .refused(2, "usage");
    let wrong = if id == "h-aaaaaa" {
        "h-bbbbbb"
    } else {
        "h-aaaaaa"
    };
    allow(home, wrong, &key(home)).refused(3, "not_found");
    allow(bob, &id, &key(bob)).refused(3, "not_found");
    assert_eq!(named(&says(&mut session, &text).unwrap()), id);

    let allowed = allow(home, &id, &key(home)).ok().json();
    assert_eq!(allowed, json!({"id": id, "decision": "allow"}));
    assert_eq!(list(home).json()["holds"], json!([]));
    // It is for these words alone.
    let other = says(&mut session, &format!("{text}!")).unwrap();
    assert_ne!(named(&other), id);
    assert_eq!(said(home, TOKEN), 0);
    assert_eq!(says(&mut session, &text), None, "what was allowed is sent");
    let again = says(&mut session, &text).unwrap();
    assert_ne!(named(&again), id, "and only once: {again}");
    assert_eq!(said(home, TOKEN), 1);
    allow(home, &id, &key(home)).refused(3, "not_found");
}

#[test]
fn what_was_read_in_private_goes_out_in_public_once_when_its_human_says_so() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let lobby = ["channel", "create", "lobby", "--visibility", "public"];
    up.home.run(&lobby).ok();
    let mut session = start(&bob, "web", "host-session-b");
    session.must("join_channel", json!({"channel": "lobby"}));
    up.home
        .run(&["send", "general", "the launch is on friday"])
        .ok();
    session.hear();
    let mut says = |text: &str| {
        let (failed, text) = session.call("send_message", json!({"to": "#lobby", "message": text}));
        let facts = text.lines().next().unwrap_or_default();
        failed.then(|| serde_json::from_str::<Value>(facts).unwrap())
    };
    let refusal = says("they launch on friday").unwrap();
    assert_eq!(refusal["error"], "needs_human", "{refusal}");
    let id = named(&refusal);
    let holds = list(&bob).json()["holds"].clone();
    assert_eq!(
        (&holds[0]["id"], &holds[0]["place"]),
        (&json!(id), &json!("#lobby"))
    );
    allow(&bob, &id, &key(&up.home)).refused(5, "unauthorized");
    assert!(says("they launch on friday").is_some());
    allow(&bob, &id, &key(&bob)).ok();
    assert_eq!(says("they launch on friday"), None);
    assert_ne!(named(&says("they launch on friday").unwrap()), id);
}
