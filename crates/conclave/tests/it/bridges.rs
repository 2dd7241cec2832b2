//! Two bridges and a server, driven over MCP by a small client: the whole path.

use crate::world::{Session, Up};
use serde_json::json;

#[test]
fn a_channel_message_and_a_whisper_reach_the_other_sessions_model() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut a = Session::start(&up.home, "api");
    let mut b = Session::start(&bob, "web");
    a.must("join_channel", json!({"channel": "general"}));
    b.must("join_channel", json!({"channel": "general"}));

    let answer = a.must(
        "send_channel",
        json!({"channel": "general", "text": "hello from api"}),
    );
    assert!(answer.contains(r#""status":"stored""#), "{answer}");
    let heard = b.hear();
    assert!(
        heard["content"]
            .as_str()
            .unwrap()
            .contains("hello from api"),
        "{heard}"
    );
    assert_eq!(heard["meta"]["channel"], "general", "{heard}");
    let meta = heard["meta"].as_object().unwrap();
    assert!(
        meta.values().all(serde_json::Value::is_string),
        "hosts drop other meta: {heard}"
    );

    b.must(
        "whisper",
        json!({"to": "alice/desk/api", "text": "only for you"}),
    );
    let heard = a.hear();
    assert!(
        heard["content"].as_str().unwrap().contains("only for you"),
        "{heard}"
    );
}

#[test]
fn who_and_catch_up_tell_what_is_there_and_what_was_said() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    up.home.run(&["send", "general", "said before"]).ok();
    let mut b = Session::start(&bob, "web");
    let who = b.must("who", json!({"channel": "general"}));
    assert!(who.contains("bob/lap/web"), "{who}");
    let history = b.must("catch_up", json!({"channel": "general"}));
    assert!(history.contains("said before"), "{history}");
}

#[test]
fn a_session_that_was_away_gets_what_it_missed() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut before = Session::start(&bob, "web");
    before.must("join_channel", json!({"channel": "general"}));
    drop(before);
    up.home
        .run(&["send", "general", "while you were away"])
        .ok();
    let mut b = Session::start(&bob, "web");
    let unread = b.must("wait_for_messages", json!({"timeout_s": 10}));
    assert!(unread.contains("while you were away"), "{unread}");
}

#[test]
fn a_tool_call_about_an_unknown_channel_is_a_typed_error() {
    let up = Up::start();
    let mut a = Session::start(&up.home, "api");
    let (failed, text) = a.call("send_channel", json!({"channel": "nowhere", "text": "x"}));
    assert!(failed && text.contains("not_found"), "{text}");
}
