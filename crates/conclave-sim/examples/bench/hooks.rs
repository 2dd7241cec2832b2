//! What a host waits for: its hooks, at every tool call, and its status line. Each is a process of its own, so the
//! yardstick of the same run is one that does nothing. Needs the release binary, as `bridge` does.

use crate::bridge::{Bridge, binary, start};
use crate::say;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How often each is run.
const RUNS: usize = 300;
/// What the host calls its session.
const SESSION: &str = "b5f1c1f6-0000-4000-8000-000000000001";

/// Part `hooks`.
pub(crate) async fn figures() {
    let Some(program) = binary() else {
        return say(
            "hooks: skipped, for there is no release binary (cargo build --release -p conclave)",
        );
    };
    let (dir, mut up) = start(&program).await;
    let home = dir.path().join("home");
    let nothing = Path::new("/bin/true");
    let bare = timed(nothing, &[], "").await;
    report("a process that does nothing", &bare, None);
    let home_arg = home.display().to_string();
    let hook = ["--config-dir", &home_arg, "hook"];
    let line = ["--config-dir", &home_arg, "statusline"];
    for (what, said) in events() {
        let taken = timed(&program, &hook, &said).await;
        report(&format!("no session: hook {what}"), &taken, Some(&bare));
    }
    let status = json!({"session_id": SESSION, "cwd": "/"}).to_string();
    let taken = timed(&program, &line, &status).await;
    report("no session: statusline", &taken, Some(&bare));
    let host = [("CLAUDECODE", "1"), ("CLAUDE_CODE_SESSION_ID", SESSION)];
    let mut bridge = Bridge::spawn_in(&program, &home, "web", &host);
    bridge.initialize().await;
    bridge.tool("list_channels", json!({})).await;
    for (what, said) in events() {
        let taken = timed(&program, &hook, &said).await;
        report(&format!("a session: hook {what}"), &taken, Some(&bare));
    }
    let taken = timed(&program, &line, &status).await;
    report("a session: statusline", &taken, Some(&bare));
    bridge.child.kill().await.ok();
    up.kill().await.ok();
}

fn events() -> Vec<(&'static str, String)> {
    let edit = json!({"file_path": "/tmp/x.rs", "old_string": "a", "new_string": "b"});
    let tool = |name: &str| json!({"session_id": SESSION, "cwd": "/", "hook_event_name": name, "tool_name": "Edit", "tool_input": edit});
    let said = |name: &str| json!({"session_id": SESSION, "cwd": "/", "hook_event_name": name});
    vec![
        ("PreToolUse", tool("PreToolUse").to_string()),
        ("PostToolUse", tool("PostToolUse").to_string()),
        ("Stop", said("Stop").to_string()),
    ]
}

/// Runs a program often; returns milliseconds, ascending.
async fn timed(program: &Path, args: &[&str], said: &str) -> Vec<f64> {
    let mut taken = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        if let Some(mut input) = child.stdin.take() {
            // One that does nothing does not read.
            input.write_all(said.as_bytes()).await.ok();
        }
        child.wait().await.expect("the program ends");
        taken.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    taken.sort_by(f64::total_cmp);
    taken
}

fn report(what: &str, taken: &[f64], bare: Option<&[f64]>) {
    let at = |part: usize| taken[(taken.len() * part / 100).min(taken.len() - 1)];
    let ratio = bare.map_or_else(String::new, |bare| {
        format!(", {:.1} times nothing", at(50) / bare[bare.len() / 2])
    });
    say(&format!(
        "{what}: p50 {:.1} ms, p99 {:.1} ms{ratio}",
        at(50),
        at(99)
    ));
}
