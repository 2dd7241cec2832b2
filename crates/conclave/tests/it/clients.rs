//! The real command lines of agent hosts, where this machine has them: what `install` wrote is what they read.
//!
//! They are looked for on `PATH`, and in `$CONCLAVE_TEST_CLIENTS/node_modules/.bin`. What is not found is
//! skipped, and said to be.

use crate::world::{Home, Outcome, outcome};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Finds a host's program.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("CONCLAVE_TEST_CLIENTS").unwrap_or_default();
    let named = std::env::split_paths(&named).map(|dir| dir.join("node_modules/.bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = named.chain(std::env::split_paths(&path)).collect();
    let found = dirs
        .iter()
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not on this machine");
    }
    found
}

/// Runs it with a home of its own, and nothing of this machine's.
pub(crate) fn command(program: &Path, home: &Home) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.file(""))
        .env("DISABLE_TELEMETRY", "1")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("GEMINI_CLI_TRUST_WORKSPACE", "true")
        .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .current_dir(home.file(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn list(client: &str, args: &[&str]) -> Option<Outcome> {
    let program = find(client)?;
    let home = Home::new();
    home.run(&["install", "--client", client, "--scope", "user"])
        .ok();
    let output = command(&program, &home).args(args).output().unwrap();
    Some(outcome(output))
}

#[test]
fn claude_code_starts_the_bridge_that_was_installed() {
    if let Some(listed) = list("claude", &["mcp", "list"]) {
        let line = listed
            .stdout
            .lines()
            .find(|line| line.starts_with("conclave:"));
        assert!(
            line.is_some_and(|line| line.contains("Connected")),
            "{listed:?}"
        );
    }
}

#[test]
fn codex_reads_the_entry_that_was_installed() {
    if let Some(listed) = list("codex", &["mcp", "list", "--json"]) {
        let servers = listed.json();
        assert_eq!(servers[0]["name"], "conclave", "{listed:?}");
        let program = &servers[0]["transport"]["command"];
        assert_eq!(program, env!("CARGO_BIN_EXE_conclave"), "{servers}");
    }
}

#[test]
fn gemini_starts_the_bridge_that_was_installed() {
    if let Some(listed) = list("gemini", &["mcp", "list"]) {
        let said = format!("{}{}", listed.stdout, listed.stderr);
        let line = said.lines().find(|line| line.contains("conclave:"));
        assert!(
            line.is_some_and(|line| line.contains("Connected")),
            "{listed:?}"
        );
    }
}

#[test]
fn opencode_starts_the_bridge_that_was_installed() {
    if let Some(listed) = list("opencode", &["mcp", "list"]) {
        let said = format!("{}{}", listed.stdout, listed.stderr);
        let line = said.lines().find(|line| line.contains("conclave"));
        assert!(
            line.is_some_and(|line| line.contains("connected")),
            "{listed:?}"
        );
    }
}
