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

/// What agent hosts keep of a server's instructions, in bytes; some cut at twice as much.
const INSTRUCTIONS_BYTES_MAX: usize = 2_048;

#[test]
fn the_opening_fits_what_hosts_keep_and_every_tool_explains_itself() {
    let up = Up::start();
    let mut a = Session::start(&up.home, "api");
    let instructions = a.welcome["instructions"].as_str().unwrap();
    assert!(
        instructions.len() < INSTRUCTIONS_BYTES_MAX,
        "{instructions}"
    );
    let listed = a.request("tools/list", json!({}));
    let tools = listed["result"]["tools"].as_array().unwrap();
    for tool in tools {
        let about = tool["description"].as_str().unwrap();
        assert!(!about.is_empty() && about.len() < 300, "{tool}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
    }
    let loaded = tools
        .iter()
        .filter(|t| t["_meta"]["anthropic/alwaysLoad"] == true);
    assert_eq!(
        loaded.count(),
        6,
        "the others wait until they are looked for"
    );
}

#[test]
fn a_wait_goes_on_beside_other_calls_and_takes_the_message_once() {
    let up = Up::start();
    let mut a = Session::start(&up.home, "api");
    let call = json!({"name": "wait_for_messages", "arguments": {"timeout_s": 100}});
    let wait = a.ask("tools/call", call);
    a.must("who", json!({"channel": "general"}));
    up.home.run(&["send", "general", "wake up"]).ok();
    let woken = a.answer(wait).to_string();
    assert!(woken.contains("wake up"), "{woken}");
    let rest = a.must("check_messages", json!({}));
    assert!(rest.contains(r#""messages":0"#), "{rest}");
}

#[test]
fn what_comes_after_the_host_gave_up_a_wait_is_still_unread() {
    let up = Up::start();
    let mut a = Session::start(&up.home, "api");
    let call = json!({"name": "wait_for_messages", "arguments": {"timeout_s": 100}});
    let wait = a.ask("tools/call", call);
    a.write(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": wait, "reason": "AbortError: user-cancel"}}),
    );
    a.must("who", json!({"channel": "general"}));
    up.home.run(&["send", "general", "too late"]).ok();
    a.hear();
    let unread = a.must("check_messages", json!({}));
    assert!(unread.contains("too late"), "{unread}");
}
