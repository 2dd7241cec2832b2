//! `conclave statusline`: one line of what the session is and what waits for it, for the host's status line.

use super::{Context, local};
use conclave_bridge::control::{Answer, Ask, find};
use serde_json::Value;
use std::sync::mpsc;
use std::time::Duration;

/// How long the host waits for its line at most.
const WITHIN: Duration = Duration::from_millis(500);

/// Prints the line; nothing if there is no session.
pub(crate) fn run(cx: &Context) {
    let (say, said) = mpsc::sync_channel(1);
    let theirs = cx.clone();
    std::thread::spawn(move || {
        if let Some(facts) = facts(&theirs) {
            // Nobody listens who waited long enough.
            say.send(facts).unwrap_or_default();
        }
    });
    let Ok(facts) = said.recv_timeout(WITHIN) else {
        return;
    };
    match cx.out.is_json() {
        true => cx.out.data(&facts.to_string()),
        false => cx.out.data(&line(&facts)),
    }
}

fn facts(cx: &Context) -> Option<Value> {
    let input = local::input().unwrap_or_default();
    let session = input.get("session_id").and_then(Value::as_str);
    let home = cx.config_dir().ok()?;
    let mark = local::named(session.map(str::to_owned));
    let mut asked = find::ask(&home, &mark, &Ask::Facts, WITHIN).ok()??;
    match asked.next().ok()?? {
        Answer::Facts(facts) => Some(facts),
        Answer::Hook { .. }
        | Answer::Holds { .. }
        | Answer::Released { .. }
        | Answer::Permit { .. }
        | Answer::Line { .. }
        | Answer::Error { .. } => None,
    }
}

/// Says the facts in a line.
fn line(facts: &Value) -> String {
    let word = |key: &str| facts.get(key).and_then(Value::as_str);
    let number = |key: &str| facts.get(key).and_then(Value::as_u64);
    let Some(handle) = word("handle") else {
        return String::new();
    };
    let place = word("channel").map_or_else(String::new, |channel| format!("@{channel}"));
    let mut parts = vec![format!("{handle}{place}")];
    let servers = facts.get("servers").and_then(Value::as_array);
    let is_on = |server: &Value| server.get("online").and_then(Value::as_bool) == Some(true);
    if !servers.is_some_and(|all| all.iter().any(is_on)) {
        parts.push("offline".to_owned());
    }
    match number("peers") {
        Some(1) => parts.push("1 peer".to_owned()),
        Some(n) => parts.push(format!("{n} peers")),
        None => {}
    }
    parts.push(format!("{} unread", number("unread").unwrap_or_default()));
    parts.extend(word("status").map(str::to_owned));
    if facts.get("paused").and_then(Value::as_bool) == Some(true) {
        parts.push("paused".to_owned());
    }
    let trips = facts.get("trips").and_then(Value::as_array);
    let trips: Vec<&str> = trips.into_iter().flatten().filter_map(kind).collect();
    if !trips.is_empty() {
        parts.push(format!("guard: {}", trips.join(", ")));
    }
    match facts.pointer("/desk/pending").and_then(Value::as_u64) {
        Some(n) if n > 0 => parts.push(format!("{n} to approve")),
        _ => {}
    }
    parts.join(" · ")
}

/// Returns what kind of thing was tripped: a word, or an object that names it.
fn kind(trip: &Value) -> Option<&str> {
    trip.as_str().or_else(|| trip.get("kind")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::line;
    use serde_json::json;

    #[test]
    fn the_line_says_what_is_so_and_nothing_that_is_not() {
        let mut facts = json!({"handle": "web", "channel": "general", "peers": 3, "unread": 2,
            "status": "working", "servers": [{"name": "s", "online": true}]});
        assert_eq!(line(&facts), "web@general · 3 peers · 2 unread · working");
        facts["paused"] = true.into();
        facts["trips"] = json!([{"kind": "loop"}, "worm"]);
        facts["desk"] = json!({"pending": 1});
        assert_eq!(
            line(&facts),
            "web@general · 3 peers · 2 unread · working · paused · guard: loop, worm · 1 to approve"
        );
        let away = json!({"handle": "web", "unread": 0, "servers": [{"online": false}]});
        assert_eq!(line(&away), "web · offline · 0 unread");
        assert_eq!(line(&json!({})), "");
    }
}
