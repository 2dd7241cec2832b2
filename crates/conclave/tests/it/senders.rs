//! Who may write to a machine's agents, decided at the command line.

use crate::world::{Session, Up};
use serde_json::json;

#[test]
fn who_is_blocked_is_not_shown_and_who_is_accepted_again_is() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut b = Session::start(&bob, "web");
    b.must("list_channels", json!({}));
    let mut a = Session::start(&up.home, "api");
    a.must("list_channels", json!({}));
    drop(a);
    let blocked = up.home.run(&["senders", "block", "bob", "--json"]).ok();
    assert_eq!(
        blocked.json(),
        json!({"user": "bob", "standing": "blocked"})
    );
    let list = up.home.run(&["senders", "--json"]).ok().json();
    assert_eq!(list["senders"][0]["standing"], "blocked", "{list}");
    let whisper = |b: &mut Session, text: &str| {
        b.must(
            "send_message",
            json!({"to": "alice/desk/api", "message": text}),
        );
    };
    whisper(&mut b, "look at this");
    let mut a = Session::start(&up.home, "api");
    a.must("list_channels", json!({}));
    up.home.run(&["senders", "accept", "bob"]).ok();
    // A running bridge hears of it within a moment: what comes then is shown.
    let mut shown = String::new();
    for n in 0..40 {
        whisper(&mut b, &format!("and this {n}"));
        let wait = json!({"timeout_s": 1});
        shown = a.must("wait_for_messages", wait);
        if shown.contains("and this") {
            break;
        }
    }
    assert!(
        shown.contains("and this") && !shown.contains("look at this"),
        "{shown}"
    );
}

#[test]
fn strangers_and_oneself_cannot_be_decided_about() {
    let up = Up::start();
    up.home
        .run(&["senders", "block", "nobody", "--json"])
        .refused(3, "not_found");
    up.home
        .run(&["senders", "mute", "alice", "--json"])
        .refused(2, "usage");
    up.home.run(&["senders"]).ok();
}
