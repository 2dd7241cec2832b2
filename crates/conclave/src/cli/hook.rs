//! `conclave hook`: asked by Claude Code before a tool runs, warns of or denies edits of files that other
//! sessions have claimed.
//!
//! Reads this machine's replicas only, never the network, and never fails the host: whatever is wrong, it
//! says nothing.

use super::Context;
use super::held::{Held, standing};
use conclave_bridge::policy::Level;
use conclave_bridge::render::{Attributes, Key, frame};
use conclave_client::repo::Repo;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::Path;

/// The most of a question that is read, in bytes: edits carry whole files.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Arguments of `hook`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do about files that another session has claimed
    #[arg(long, value_enum, default_value_t = Claims::Warn)]
    claims: Claims,
}

/// What to do about claimed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Claims {
    /// Tell the model
    Warn,
    /// Refuse the edit
    Deny,
    /// Nothing
    Off,
}

/// Answers one question on standard input.
pub(crate) fn run(cx: &Context, args: &Args) {
    let mut input = String::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX);
    let mut read = std::io::BufReader::new(read);
    if args.claims == Claims::Off || read.read_to_string(&mut input).is_err() {
        return;
    }
    let Ok(question) = serde_json::from_str::<Value>(&input) else {
        return;
    };
    if let Some(answer) = answer(cx, args.claims, &question) {
        cx.out.data(&answer.to_string());
    }
}

fn answer(cx: &Context, claims: Claims, question: &Value) -> Option<Value> {
    let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    if text(question, "hook_event_name")? != "PreToolUse" {
        return None;
    }
    let path = match text(question, "tool_name")?.as_str() {
        "Edit" | "Write" | "MultiEdit" => text(question.get("tool_input")?, "file_path")?,
        "NotebookEdit" => text(question.get("tool_input")?, "notebook_path")?,
        _ => return None,
    };
    let dir = text(question, "cwd").unwrap_or_else(|| ".".to_owned());
    let file = Path::new(&dir).join(path);
    // A file may be in another repository than the session, and in a directory that is yet to be made.
    let near = file.ancestors().skip(1).find(|dir| dir.is_dir())?;
    let repo = Repo::find(near)?;
    let resource = repo.file(near, file.to_str()?).ok()?;
    let session = text(question, "session_id");
    let all = standing(cx, session.as_deref());
    let held = all
        .iter()
        .find(|held| !held.own && held.covers(&resource))?;
    Some(verdict(claims, held))
}

fn verdict(claims: Claims, held: &Held) -> Value {
    let advice = match claims {
        Claims::Deny => "Do not edit it now. Work on something else, or ask the holder.",
        Claims::Warn | Claims::Off => "Ask the holder before you go on.",
    };
    let mut text = format!("conclave: {}. {advice}", held.fact());
    if let Some(note) = note(held) {
        text.push('\n');
        text.push_str(&note);
    }
    let output = match claims {
        Claims::Deny => json!({
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": text,
        }),
        Claims::Warn | Claims::Off => json!({
            "hookEventName": "PreToolUse",
            "additionalContext": text,
        }),
    };
    json!({"hookSpecificOutput": output})
}

/// The holder's words, framed like everything that peers write.
fn note(held: &Held) -> Option<String> {
    let note = held.claim.note.as_deref()?;
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).ok()?;
    let attributes = Attributes::default()
        .with(Key::Kind, "claim")
        .with(Key::From, &held.claim.holder);
    Some(frame(note, 0, Level::Notify, attributes, seed).standalone())
}
