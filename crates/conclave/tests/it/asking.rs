//! Asking from the command line, and looking up what became of a message.

use crate::world::{Background, Session, Up};
use serde_json::{Value, json};

const AGENT: &str = "alice/desk/api";

/// A server, and an agent's session that follows #general.
fn up_with_agent() -> (Up, Session) {
    let up = Up::start();
    let mut agent = Session::start(&up.home, "api");
    agent.must("join_channel", json!({"channel": "general"}));
    (up, agent)
}

#[test]
fn a_question_is_answered_by_an_agent_and_what_became_of_it_is_shown() {
    let (up, mut agent) = up_with_agent();
    let command = up
        .home
        .command(&["ask", AGENT, "is", "it", "done?", "--json"]);
    let (ask, _) = Background::start(command);
    let asked = agent.hear();
    assert!(
        asked["content"].as_str().unwrap().contains("| is it done?"),
        "{asked}"
    );
    let (from, id) = (&asked["meta"]["from"], &asked["meta"]["msg_id"]);
    assert_eq!(from, "alice/desk/ask", "{asked}");
    agent.must(
        "whisper",
        json!({"to": from, "text": "it is", "reply_to": id}),
    );
    let answered = ask.line();
    assert_eq!(
        (&answered["status"], &answered["id"]),
        (&json!("answered"), id)
    );
    assert_eq!(answered["answers"][0]["text"], "it is");

    let status = up
        .home
        .run(&["message", id.as_str().unwrap(), "--json"])
        .ok();
    let status = status.json();
    let row = &status["recipients"][0];
    assert_eq!(
        (&row["peer"], &row["step"]),
        (&json!(AGENT), &json!("answered"))
    );
    let unknown = "AAAAAAAAAAAAAAAAAAAAAA";
    let unknown = up.home.run(&["message", unknown, "--json"]);
    unknown.refused(3, "not_found");
}

#[test]
fn without_an_answer_the_question_is_pending_and_a_name_nobody_has_is_refused() {
    let (up, _agent) = up_with_agent();
    let asked = up
        .home
        .run(&["ask", "api", "hello?", "--timeout", "1", "--json"]);
    let asked: Value = asked.ok().json();
    assert_eq!(
        (&asked["status"], &asked["answers"]),
        (&json!("pending"), &json!([]))
    );
    let wrong = up.home.run(&["ask", "apl", "hello?", "--json"]);
    wrong.refused(3, "not_found");
    let text = wrong.json()["message"].as_str().unwrap().to_owned();
    assert!(text.contains("api"), "the nearest is named: {text}");
}

#[test]
fn only_those_who_were_asked_answer() {
    let (up, mut agent) = up_with_agent();
    let bob = up.guest("bob", up.link());
    let mut bystander = Session::start(&bob, "web");
    bystander.must("join_channel", json!({"channel": "general"}));
    let command = up.home.command(&["ask", AGENT, "who?", "--json"]);
    let (ask, _) = Background::start(command);
    let asked = agent.hear();
    let (from, id) = (&asked["meta"]["from"], &asked["meta"]["msg_id"]);
    bystander.must(
        "whisper",
        json!({"to": from, "text": "not asked", "reply_to": id}),
    );
    agent.must("whisper", json!({"to": from, "text": "me", "reply_to": id}));
    let answered = ask.line();
    assert_eq!(answered["answers"].as_array().map(Vec::len), Some(1));
    assert_eq!(answered["answers"][0]["text"], "me", "{answered}");
}
