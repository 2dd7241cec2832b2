//! The hooks that a host is given: which events, which command, how long. The one table of them.
//!
//! A host waits for a hook as long as the time-out says; ours answer in milliseconds or not at all, except
//! where a person or a peer is waited for.

use super::Client;
use serde_json::{Value, json};
use std::path::Path;

/// How long a hook may take, in seconds.
const HOOK_S: u64 = 5;
/// How long the hook at a session's end may take, in seconds.
const END_S: u64 = 1;
/// How long approvers have, in seconds.
const PERMIT_S: u64 = 115;
/// How long the hook that wakes an idle session waits, in seconds: longer than the command itself does.
const REWAKE_S: u64 = 6 * 60 * 60 + 60;

/// Lists the hooks of a client: the event, and the entry of its list.
///
/// `run` makes a line for a shell of one of our commands.
pub(crate) fn of(client: Client, run: &dyn Fn(&str) -> String) -> Vec<(&'static str, Value)> {
    match client {
        Client::Claude => claude(run),
        Client::Codex => codex(run),
        Client::Gemini => gemini(run),
        Client::Cursor => cursor(run),
        Client::Opencode => Vec::new(),
    }
}

/// Returns the hooks of Claude Code as its settings carry them: lists by event.
pub(crate) fn claude_object(run: &dyn Fn(&str) -> String) -> Value {
    let mut all = serde_json::Map::new();
    for (event, entry) in claude(run) {
        let list = all.entry(event).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(entry);
        }
    }
    Value::Object(all)
}

/// Returns the status line of Claude Code.
pub(crate) fn statusline(run: &dyn Fn(&str) -> String) -> Value {
    json!({"type": "command", "command": run("statusline")})
}

/// An entry of the form that Claude Code and Codex share.
fn plain(command: String, (event, seconds): (&'static str, u64)) -> (&'static str, Value) {
    let hook = json!({"type": "command", "command": command, "timeout": seconds});
    (event, json!({"hooks": [hook]}))
}

fn claude(run: &dyn Fn(&str) -> String) -> Vec<(&'static str, Value)> {
    let events = [
        ("SessionStart", HOOK_S),
        ("UserPromptSubmit", HOOK_S),
        ("PreToolUse", HOOK_S),
        ("PostToolUse", HOOK_S),
        ("PermissionRequest", PERMIT_S),
        ("Stop", HOOK_S),
        ("Notification", HOOK_S),
        ("SessionEnd", END_S),
    ];
    let mut all: Vec<_> = events.map(|event| plain(run("hook"), event)).into();
    let rewake = json!({
        "type": "command", "command": run("hook --rewake"), "timeout": REWAKE_S,
        "async": true, "asyncRewake": true,
    });
    all.push(("Stop", json!({"hooks": [rewake]})));
    all
}

fn codex(run: &dyn Fn(&str) -> String) -> Vec<(&'static str, Value)> {
    let events = [
        ("SessionStart", HOOK_S),
        ("UserPromptSubmit", HOOK_S),
        ("PreToolUse", HOOK_S),
        ("PostToolUse", HOOK_S),
        ("PermissionRequest", PERMIT_S),
        ("Stop", HOOK_S),
        ("SessionEnd", END_S),
    ];
    let command = run("hook --client codex");
    events.map(|event| plain(command.clone(), event)).into()
}

fn gemini(run: &dyn Fn(&str) -> String) -> Vec<(&'static str, Value)> {
    let plain = |event: &'static str| {
        // Milliseconds, unlike everywhere else.
        let hook = json!({
            "name": "conclave", "type": "command", "command": run("hook --client gemini"),
            "timeout": HOOK_S * 1000,
        });
        (event, json!({"hooks": [hook]}))
    };
    let events = [
        "SessionStart",
        "BeforeAgent",
        "BeforeTool",
        "AfterTool",
        "AfterAgent",
        "Notification",
        "SessionEnd",
    ];
    events.map(plain).into()
}

fn cursor(run: &dyn Fn(&str) -> String) -> Vec<(&'static str, Value)> {
    let plain = |event: &'static str| {
        let command = run("hook --client cursor");
        (event, json!({"command": command, "timeout": HOOK_S}))
    };
    let events = [
        "sessionStart",
        "beforeSubmitPrompt",
        "preToolUse",
        "postToolUse",
        "stop",
        "sessionEnd",
    ];
    events.map(plain).into()
}

/// A line for a shell that runs one of our commands, and is silent when the program is gone.
pub(crate) fn line(exe: &Path, config_dir: Option<&Path>, command: &str) -> String {
    let exe = quoted(exe);
    let dir = config_dir.map(|dir| format!("--config-dir {} ", quoted(dir)));
    let dir = dir.unwrap_or_default();
    format!("test -x {exe} && exec {exe} {dir}{command}; exit 0")
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugins_hooks_are_those_of_the_table() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin/hooks/hooks.json");
        let text = std::fs::read_to_string(file).unwrap();
        let plugin: Value = serde_json::from_str(&text).unwrap();
        let run = |command: &str| {
            format!("command -v conclave >/dev/null 2>&1 && exec conclave {command}; exit 0")
        };
        assert_eq!(plugin["hooks"], claude_object(&run));
    }

    #[test]
    fn a_path_is_one_word_for_a_shell_whatever_is_in_it() {
        assert_eq!(quoted(Path::new("/a b/c'd")), r"'/a b/c'\''d'");
    }
}
