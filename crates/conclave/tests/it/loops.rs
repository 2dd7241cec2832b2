//! Two agents that thank each other for ever, as real processes; and their humans' switch.

use crate::world::{Session, Up};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long something may take to be seen by another process.
const SOON: Duration = Duration::from_secs(20);

/// What a model writes that was told to thank for every message.
const THANKS: [&str; 12] = [
    "Thank you so much! I really appreciate your thorough help.",
    "You're very welcome! Happy to help anytime.",
    "Likewise, it's been a pleasure working with you!",
    "I appreciate the kind words! Great teamwork. 🎉",
    "Thanks again for everything, you were wonderful!",
    "My pleasure! Don't hesitate to reach out anytime.",
    "Absolutely! Looking forward to working together again.",
    "Same here, thank you for your patience!",
    "Vielen Dank! You are the best.",
    "Cheers, have a great day!",
    "You too! Take care, and thanks for the support.",
    "Merci beaucoup! It was lovely collaborating with you.",
];

/// Looks again until something is there.
#[track_caller]
fn until<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if start.elapsed() > SOON => panic!("not in time; last: {last}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
}

fn facts(text: &str) -> Value {
    let line = text.lines().next().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn words(heard: &Value) -> &str {
    heard["content"].as_str().unwrap_or_default()
}

/// Waits for a peer's thanks, or for the notice that ends them.
fn hears_thanks(session: &mut Session) -> bool {
    loop {
        let heard = session.hear();
        if words(&heard).contains("8 messages without content") {
            return false;
        }
        if heard["meta"]["kind"] != "system" {
            return true;
        }
    }
}

#[test]
fn b8_23_show_4_two_bridges_that_thank_each_other_stop_and_both_humans_see_why() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut a = Session::start(&up.home, "api");
    let mut b = Session::start(&bob, "web");
    a.must("who", json!({}));
    b.must("who", json!({}));
    let mut said = 0;
    for (n, text) in THANKS.iter().enumerate() {
        let (from, to, path) = match n % 2 {
            0 => (&mut a, &mut b, "bob/lap/web"),
            _ => (&mut b, &mut a, "alice/desk/api"),
        };
        if from.call("whisper", json!({"to": path, "text": text})).0 {
            break;
        }
        said += 1;
        if !hears_thanks(to) {
            break;
        }
    }
    assert_eq!(said, 8, "both are stopped after eight messages");
    // Neither goes on, and both were told with the way out.
    for (session, path) in [(&mut a, "bob/lap/web"), (&mut b, "alice/desk/api")] {
        let (failed, text) = session.call("whisper", json!({"to": path, "text": "Thanks!"}));
        assert!(
            failed && text.contains("rate_limited") && text.contains("conclave resume"),
            "{text}"
        );
    }
    // What came last is kept, and did not wake anybody.
    let kept = a.must("check_messages", json!({}));
    assert!(kept.contains("Same here"), "{kept}");
    assert_eq!(kept.matches("redelivered=1").count(), 3, "{kept}");
    for home in [&up.home, &bob] {
        let journal = home
            .run(&["journal", "--kind", "loop", "--json"])
            .ok()
            .json();
        let entries = journal["entries"].as_array().unwrap();
        let why = entries.iter().any(|entry| {
            let text = entry["text"].as_str().unwrap_or_default();
            text.contains("8 messages without content")
        });
        assert!(why, "{journal}");
        let shown = home.run(&["journal"]).ok().stdout;
        assert!(shown.contains("conclave resume"), "{shown}");
    }
    // A human lets them talk again.
    let key = up.home.file("recovery.key");
    up.home.run(&["resume", "--recovery-key-file", &key]).ok();
    until(
        || match a.call("whisper", json!({"to": "bob/lap/web", "text": "Thanks!"})) {
            (false, _) => Ok(()),
            (true, text) => Err(text),
        },
    );
}

#[test]
fn a_paused_machine_says_nothing_and_keeps_what_comes_until_a_human_resumes() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut a = Session::start(&up.home, "api");
    a.must("join_channel", json!({"channel": "general"}));
    let wait = a.ask(
        "tools/call",
        json!({"name": "wait_for_messages", "arguments": {"timeout_s": 100}}),
    );
    up.home.run(&["pause"]).ok();
    let ended = a.answer(wait).to_string();
    assert!(ended.contains(r#"\"paused\":true"#), "{ended}");
    let (failed, text) = a.call("send_channel", json!({"channel": "general", "text": "x"}));
    assert!(failed && text.contains(r#""error":"paused""#), "{text}");
    up.home
        .run(&["send", "--json", "general", "x"])
        .refused(8, "paused");
    for said in [&["state", "set", "k", "1"][..], &["claim", "take", "docs"]] {
        let said = [said, &["--json"]].concat();
        up.home.run(&said).refused(8, "paused");
    }
    bob.run(&["send", "general", "kept for later"]).ok();
    until(|| {
        let text = a.must("check_messages", json!({}));
        match facts(&text)["unread"] == 1 && facts(&text)["paused"] == true {
            true => Ok(()),
            false => Err(text),
        }
    });
    // No terminal, no owner key: no agent's shell ends it. Nor does somebody else's key.
    assert_ne!(up.home.run(&["resume"]).code, 0);
    let other = bob.file("recovery.key");
    assert_ne!(
        up.home.run(&["resume", "--recovery-key-file", &other]).code,
        0
    );
    let key = up.home.file("recovery.key");
    up.home
        .run(&["resume", "--more", "20", "--recovery-key-file", &key])
        .ok();
    let text = until(|| {
        let text = a.must("check_messages", json!({}));
        match text.contains("kept for later") {
            true => Ok(text),
            false => Err(text),
        }
    });
    assert!(!text.contains("paused"), "{text}");
    a.must(
        "send_channel",
        json!({"channel": "general", "text": "here again"}),
    );
}

#[test]
fn a_frozen_channel_takes_nothing_until_it_is_thawed_and_quiet_hours_are_signed() {
    let up = Up::start();
    up.home.run(&["freeze", "general"]).ok();
    let refused = up.home.run(&["send", "--json", "general", "x"]);
    assert_eq!(refused.json()["error"], "frozen", "{refused:?}");
    up.home.run(&["thaw", "general"]).ok();
    up.home.run(&["send", "general", "x"]).ok();
    let key = up.home.file("recovery.key");
    let quiet = |hours| {
        up.home
            .run(&["perm", "quiet", hours, "--recovery-key-file", &key])
    };
    quiet("22:00-07:00").ok();
    quiet("off").ok();
    assert_eq!(quiet("25:00-07:00").code, 2);
    assert_ne!(up.home.run(&["perm", "quiet", "off"]).code, 0);
}
