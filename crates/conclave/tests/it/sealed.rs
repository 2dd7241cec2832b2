//! End-to-end encryption as people meet it: who can read a channel is said, and it is so.

use crate::world::{Home, Session, Up, join, texts};
use serde_json::{Value, json};

const SECRET: &str = "the launch code is heliotrope";

fn run(home: &Home, args: &[&str]) -> Value {
    home.run(&[args, &["--json"]].concat()).ok().json()
}

fn named(list: &Value, name: &str) -> Value {
    let channels = list["channels"].as_array().unwrap();
    let found = channels.iter().find(|channel| channel["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {list}")).clone()
}

/// Returns whether the bytes stand anywhere in what the server keeps.
fn server_has(up: &Up, text: &str) -> bool {
    let files = std::fs::read_dir(up.home.path().join("server")).unwrap();
    let mut files = files
        .map(|file| file.unwrap().path())
        .filter(|p| p.is_file());
    files.any(|path| {
        let bytes = std::fs::read(path).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[test]
fn private_channels_are_encrypted_and_public_ones_say_that_the_server_can_read() {
    let up = Up::start();
    assert_eq!(up.ready["mode"], "e2e");
    run(&up.home, &["channel", "create", "plans"]);
    run(
        &up.home,
        &["channel", "create", "lobby", "--visibility", "public"],
    );
    run(
        &up.home,
        &["channel", "create", "open-book", "--mode", "signed"],
    );
    let list = run(&up.home, &["channel", "list"]);
    for (name, mode) in [
        ("general", "e2e"),
        ("plans", "e2e"),
        ("lobby", "signed"),
        ("open-book", "signed"),
    ] {
        assert_eq!(named(&list, name)["mode"], mode, "{list}");
    }
    let page = up.home.run(&["channel", "list"]).ok().stdout;
    let line = |name: &str| page.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("#plans").contains("end-to-end encrypted"), "{page}");
    assert!(line("#lobby").contains("the server can read"), "{page}");
    let made = up.home.run(&["channel", "create", "more"]).ok().stdout;
    assert!(made.contains("end-to-end encrypted"), "{made}");
}

#[test]
fn a_public_channel_cannot_be_made_encrypted() {
    let up = Up::start();
    let create = [
        "channel",
        "create",
        "x",
        "--visibility",
        "public",
        "--mode",
        "e2e",
        "--json",
    ];
    up.home.run(&create).refused(4, "mode");
}

#[test]
fn the_server_keeps_neither_words_nor_names_of_an_encrypted_channel() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let topic = "about-the-heliotrope";
    run(
        &up.home,
        &["channel", "create", "hush-hush", "--topic", topic],
    );
    run(&up.home, &["channel", "create", "loud", "--mode", "signed"]);
    run(&up.home, &["send", "hush-hush", SECRET]);
    run(&up.home, &["send", "loud", "said in the open"]);
    run(&bob, &["send", "general", SECRET]);
    let mut session = Session::start(&bob, "web");
    let mut other = Session::start(&up.home, "api");
    other.must("join_channel", json!({"channel": "general"}));
    let whisper = json!({"to": "alice/desk/api", "text": SECRET});
    session.must("whisper", whisper);
    other.hear();
    assert!(
        server_has(&up, "said in the open"),
        "the search finds what is there"
    );
    for hidden in [SECRET, "hush-hush", topic, "heliotrope"] {
        assert!(!server_has(&up, hidden), "{hidden}");
    }
    let list = run(&up.home, &["channel", "list"]);
    assert_eq!(named(&list, "hush-hush")["topic"], topic);
    assert_eq!(
        texts(&bob.run(&["tail", "general", "--json"]).ok()),
        [SECRET]
    );
}

#[test]
fn an_encrypted_channel_is_renamed_for_its_members_alone() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    run(&up.home, &["channel", "rename", "general", "war-room"]);
    for home in [&up.home, &bob] {
        let list = run(home, &["channel", "list"]);
        assert_eq!(named(&list, "war-room")["mode"], "e2e");
    }
    assert!(!server_has(&up, "war-room"));
    run(&bob, &["send", "war-room", "found it"]);
}

#[test]
fn a_new_key_changes_the_authenticator_and_both_go_on() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    run(&up.home, &["send", "general", "one"]);
    let before = run(&bob, &["verify", "#general"]);
    let first = run(&up.home, &["channel", "rotate", "general"])["epoch"].as_u64();
    let second = run(&up.home, &["channel", "rotate", "general"])["epoch"].as_u64();
    assert!(second > first && first > Some(1), "{first:?} {second:?}");
    run(&bob, &["send", "general", "two"]);
    let after = run(&bob, &["verify", "#general"]);
    assert_ne!(before["digits"], after["digits"]);
    assert_eq!(
        after["digits"],
        run(&up.home, &["verify", "#general"])["digits"]
    );
    assert_eq!(
        texts(&up.home.run(&["tail", "general", "--json"]).ok()),
        ["one", "two"]
    );
    run(&up.home, &["channel", "create", "loud", "--mode", "signed"]);
    let refused = up.home.run(&["channel", "rotate", "loud", "--json"]);
    assert_ne!(refused.code, 0, "{refused:?}");
}

#[test]
fn history_since_join_hides_what_was_said_before_and_full_history_says_what_a_link_gives() {
    let up = Up::start();
    run(
        &up.home,
        &["channel", "create", "later", "--history", "since-join"],
    );
    run(&up.home, &["send", "later", "before"]);
    run(&up.home, &["send", "general", "before"]);
    let invite = up.home.run(&["invite", "create", "later"]).ok();
    assert!(!invite.stderr.contains("hands over"), "{invite:?}");
    let bob = Home::new();
    join(&bob, "bob", invite.stdout.trim()).ok();
    run(&bob, &["send", "later", "after"]);
    assert_eq!(
        texts(&bob.run(&["tail", "later", "--json"]).ok()),
        ["after"]
    );
    let invite = up.home.run(&["invite", "create", "general"]).ok();
    assert!(
        invite.stderr.contains("hands over everything"),
        "{invite:?}"
    );
    join(&bob, "bob", invite.stdout.trim()).ok();
    assert_eq!(
        texts(&bob.run(&["tail", "general", "--json"]).ok()),
        ["before"]
    );
}

#[test]
fn the_agent_hears_who_can_read_and_has_no_tool_that_trusts() {
    let up = Up::start();
    let mut session = Session::start(&up.home, "api");
    let list = session.must("list_channels", json!({}));
    assert!(list.contains(r#""mode":"e2e""#), "{list}");
    assert!(list.contains(r#""server_can_read":false"#), "{list}");
    let tools = session.request("tools/list", json!({}))["result"]["tools"].to_string();
    for word in ["verify", "accept", "rotate", "fingerprint", "pin"] {
        let name = format!(r#""name":"{word}"#);
        assert!(!tools.contains(&name), "{tools}");
    }
    let status = run(&up.home, &["status"]);
    let feeds = status["servers"][0]["sessions"][0]["feeds"]
        .as_array()
        .unwrap();
    assert!(feeds.iter().all(|feed| feed["mode"] == "e2e"), "{status}");
}

#[test]
fn whispers_are_read_again_both_ways() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut a = Session::start(&up.home, "api");
    let mut b = Session::start(&bob, "web");
    a.must("join_channel", json!({"channel": "general"}));
    b.must("join_channel", json!({"channel": "general"}));
    a.must("whisper", json!({"to": "bob/lap/web", "text": "ping"}));
    b.hear();
    b.must("whisper", json!({"to": "alice/desk/api", "text": "pong"}));
    a.hear();
    for (session, peer) in [(&mut a, "@bob/lap/web"), (&mut b, "@alice/desk/api")] {
        let text = session.must("catch_up", json!({"channel": peer}));
        let (ping, pong) = (text.find("| ping"), text.find("| pong"));
        assert!(ping.is_some() && ping < pong, "{text}");
    }
}

#[test]
fn what_is_said_before_the_key_came_waits_and_goes_out_sealed_when_it_comes() {
    let up = Up::start();
    // The key that the link carries is not the newest any more, and nobody is there to bring that.
    run(&up.home, &["channel", "rotate", "general"]);
    let bob = up.guest("bob", up.link());
    let mut b = Session::start(&bob, "web");
    b.must("join_channel", json!({"channel": "general"}));
    let answer = b.must(
        "send_channel",
        json!({"channel": "general", "text": SECRET}),
    );
    assert!(answer.contains(r#""status":"queued""#), "{answer}");
    assert!(answer.contains(r#""note":"keys_pending""#), "{answer}");
    let told = b.hear();
    assert_eq!(told["meta"]["notice"], "keys_pending", "{told}");
    let mut a = Session::start(&up.home, "api");
    a.must("join_channel", json!({"channel": "general"}));
    let heard = a.hear();
    assert!(
        heard["content"].as_str().unwrap().contains(SECRET),
        "{heard}"
    );
    assert!(!server_has(&up, SECRET));
}
