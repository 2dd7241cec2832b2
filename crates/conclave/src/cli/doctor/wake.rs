//! `conclave doctor wake`: wakes the agents that run here, and shows which of them woke.

use super::Context;
use crate::cli::live::{self, Live};
use crate::error::{CliError, Exit};
use conclave_bridge::control::Ask;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a session has to wake; its bridge gives up earlier.
const PROVING: Duration = Duration::from_secs(75);
/// How many are tried at once.
const SESSIONS_MAX: usize = 64;

/// Tries a session. What did not wake it is not taken a second time, so that the next way has its turn.
fn prove(session: &Live) -> Result<Value, String> {
    let told = live::ask(&session.socket, &Ask::Prove, PROVING)?;
    let slept = told["proven"] != true && told["path"].is_string();
    match slept {
        true => live::ask(&session.socket, &Ask::Prove, PROVING),
        false => Ok(told),
    }
}

/// Tries every session.
pub(super) fn run(cx: &Context) -> Result<(), CliError> {
    let sessions = live::all(&cx.config_dir()?);
    if sessions.is_empty() {
        return Err(CliError::local("no session runs on this machine")
            .hint("start an agent with `conclave launch`, then try again"));
    }
    cx.out
        .talk("Waking each session; this takes up to two minutes …");
    let tried: Vec<_> = std::thread::scope(|scope| {
        let sessions = sessions.iter().take(SESSIONS_MAX);
        #[expect(
            clippy::needless_collect,
            reason = "all are begun before one is waited for"
        )]
        let tries: Vec<_> = sessions
            .map(|session| (session, scope.spawn(move || prove(session))))
            .collect();
        let ended = |_| Err("the try was cut short".to_owned());
        let join = |(session, thread): (_, std::thread::ScopedJoinHandle<'_, _>)| {
            (session, thread.join().unwrap_or_else(ended))
        };
        tries.into_iter().map(join).collect()
    });
    let objects: Vec<_> = tried
        .iter()
        .map(|(session, told)| object(session, told))
        .collect();
    let proven = objects.iter().any(|object| object["proven"] == true);
    let rows: Vec<_> = objects.iter().map(row).collect();
    let head = ["session", "path", "woke", "after", "why not"];
    cx.out
        .table(head, &rows, &json!({"proven": proven, "sessions": objects}));
    if !proven {
        cx.ends_with(Exit::Failure);
    }
    Ok(())
}

fn object(session: &Live, told: &Result<Value, String>) -> Value {
    let word = |key: &str| told.as_ref().ok().and_then(|facts| facts.get(key)).cloned();
    let why = word("why_not").or_else(|| told.as_ref().err().map(|why| json!(why)));
    json!({
        "session": session.name(), "path": word("path"), "proven": word("proven") == Some(json!(true)),
        "within_ms": word("within_ms"), "why_not": why, "wake": word("wake"),
    })
}

fn row(object: &Value) -> [String; 5] {
    let text = |key: &str| match &object[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let woke = if object["proven"] == true {
        "yes"
    } else {
        "no"
    };
    let after = match object["within_ms"].as_u64() {
        Some(ms) => format!("{ms} ms"),
        None => "-".to_owned(),
    };
    [
        text("session"),
        text("path"),
        woke.to_owned(),
        after,
        text("why_not"),
    ]
}
