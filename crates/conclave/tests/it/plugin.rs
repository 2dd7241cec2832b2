//! The plugin of this repository: one source for the guide, bounded cost, silent without the program.

use crate::clients;
use crate::world::Home;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the plugin may cost a session that never uses it, in tokens.
const ALWAYS_TOKENS_MAX: usize = 150;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(file: &str) -> String {
    let path = root().join("plugin").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json(file: &str) -> Value {
    serde_json::from_str(&text(file)).unwrap()
}

/// Every command line of the hooks and the monitor.
fn commands() -> Vec<String> {
    let hooks = json("hooks/hooks.json");
    let groups = hooks["hooks"].as_object().unwrap().values();
    let groups = groups.flat_map(|groups| groups.as_array().unwrap());
    let hooks = groups.flat_map(|group| group["hooks"].as_array().unwrap().clone());
    let monitors = json("monitors/monitors.json").as_array().unwrap().clone();
    let all = hooks.chain(monitors);
    all.map(|entry| entry["command"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_guide_is_the_same_as_the_programs() {
    let guide = Home::new().run(&["skill"]).ok().stdout;
    assert_eq!(text("skills/guide/SKILL.md"), guide);
    let licence = std::fs::read_to_string(root().join("LICENSE")).unwrap();
    assert_eq!(text("LICENSE"), licence);
}

#[test]
fn the_plugin_has_the_programs_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(json(".claude-plugin/plugin.json")["version"], version);
}

#[test]
fn without_the_program_every_hook_is_silent() {
    for command in commands() {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", &command])
            .env_clear()
            .env("PATH", "/nowhere");
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

#[test]
fn no_hook_can_hold_the_host_up() {
    let hooks = json("hooks/hooks.json");
    for (event, groups) in hooks["hooks"].as_object().unwrap() {
        for hook in groups
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|g| g["hooks"].as_array().unwrap())
        {
            let seconds = hook["timeout"].as_u64().unwrap();
            let patient = event == "PermissionRequest" && seconds <= 130;
            assert!(
                seconds <= 5 || patient || hook["async"] == true,
                "{event}: {hook}"
            );
        }
    }
}

#[test]
fn what_every_session_pays_is_bounded() {
    let front = |text: String| text.split("---").nth(1).unwrap_or_default().to_owned();
    let parts = [
        "skills/guide/SKILL.md",
        "commands/join.md",
        "commands/conclave.md",
    ];
    let chars: usize = parts
        .map(|file| front(text(file)).chars().count())
        .iter()
        .sum();
    // Four characters a token is what the host's own projection comes to.
    let tokens = chars / 4;
    assert!(tokens <= ALWAYS_TOKENS_MAX, "{tokens} tokens");
}

#[test]
fn the_host_finds_nothing_wrong_with_it() {
    let Some(claude) = clients::find("claude") else {
        return;
    };
    let home = Home::new();
    for dir in ["plugin", "."] {
        let mut command = clients::command(&claude, &home);
        let output = command
            .args(["plugin", "validate", "--strict"])
            .arg(root().join(dir))
            .output();
        let output = crate::world::outcome(output.unwrap()).ok();
        assert!(!output.stdout.contains('⚠'), "{output:?}");
    }
    let run = |args: &[&str]| {
        let output = clients::command(&claude, &home).args(args).output();
        crate::world::outcome(output.unwrap()).ok().stdout
    };
    let place = root().canonicalize().unwrap().display().to_string();
    run(&["plugin", "marketplace", "add", &place]);
    run(&["plugin", "install", "conclave@conclave"]);
    let details = run(&["plugin", "details", "conclave@conclave"]);
    let cost = details.split("Always-on:").nth(1).unwrap_or_default();
    let digits: String = cost
        .trim_start_matches([' ', '~'])
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let tokens: usize = digits.parse().unwrap_or(usize::MAX);
    assert!(tokens <= ALWAYS_TOKENS_MAX, "{details}");
}
