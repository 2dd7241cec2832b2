//! What a launched agent must not inherit.
//!
//! An agent that was started inside another agent's session and has its variables posts into that session, or is
//! taken for a part of it. So what belongs to a session goes; what a person configured stays.

use std::ffi::{OsStr, OsString};

/// What agents tell their children of the session they belong to; a `*` stands for any end.
const OF_A_SESSION: [&str; 31] = [
    // Claude Code: that there is a session, which one, its process and its files.
    "CLAUDECODE",
    "CLAUDE_PID",
    "CLAUDE_EFFORT",
    "CLAUDE_ENV_FILE",
    "CLAUDE_PROJECT_DIR",
    "CLAUDE_SESSION_*",
    "CLAUDE_PLUGIN_*",
    "CLAUDE_BG_*",
    "CLAUDE_BRIDGE_*",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_EXECPATH",
    "CLAUDE_CODE_SESSION_*",
    // Its inbox and the key to it: who has these speaks in it.
    "CLAUDE_CODE_MESSAGING_*",
    "CLAUDE_CODE_LAUNCHED_BY_*",
    "CLAUDE_CODE_CHILD_*",
    "CLAUDE_CODE_BRIDGE_*",
    "CLAUDE_CODE_RELAUNCH_*",
    "CLAUDE_CODE_TMUX_*",
    "CLAUDE_CODE_AGENT",
    "CLAUDE_CODE_RESUME_FROM_SESSION",
    "AI_AGENT",
    // Codex: the thread, and the sandbox of a command that is not ours any more.
    "CODEX_THREAD_ID",
    "CODEX_SANDBOX*",
    "CODEX_CI",
    "CODEX_MANAGED_*",
    // Gemini CLI, OpenCode and Cursor say that a command runs inside them.
    "GEMINI_CLI",
    "OPENCODE",
    "OPENCODE_PID",
    "OPENCODE_RUN_*",
    "CURSOR_AGENT",
    "CURSOR_TRACE_ID",
];

/// What people set for Claude Code themselves: which service and model, log-in, proxies, what is off. Inside
/// another session everything else of this prefix goes, known or not: a setting that is lost is a nuisance, a
/// session that is not one's own is a leak.
const OF_A_PERSON: [&str; 22] = [
    "CLAUDE_CODE_USE_*",
    "CLAUDE_CODE_SKIP_*",
    "CLAUDE_CODE_DISABLE_*",
    "CLAUDE_CODE_ENABLE_*",
    "CLAUDE_CODE_EXPERIMENTAL_*",
    "CLAUDE_CODE_MAX_*",
    "CLAUDE_CODE_AUTO_*",
    "CLAUDE_CODE_API_*",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_OTEL_*",
    "CLAUDE_CODE_CLIENT_*",
    "CLAUDE_CODE_CERT_STORE",
    "CLAUDE_CODE_SUBAGENT_MODEL",
    "CLAUDE_CODE_EFFORT_LEVEL",
    "CLAUDE_CODE_GIT_BASH_PATH",
    "CLAUDE_CODE_SHELL*",
    "CLAUDE_CODE_PLUGIN_*",
    "CLAUDE_CODE_MCP_*",
    "CLAUDE_CODE_NO_FLICKER",
    "CLAUDE_CODE_ACCESSIBILITY",
    "CLAUDE_CODE_FILE_READ_*",
    // The editor whose terminal this is.
    "CLAUDE_CODE_SSE_PORT",
];

/// Returns the variables that a launched agent gets: `ours` of our own, and of the rest what no session owns.
pub(crate) fn cleaned(
    now: impl Iterator<Item = (OsString, OsString)>,
    ours: &[(OsString, OsString)],
) -> Vec<(OsString, OsString)> {
    let now: Vec<_> = now.collect();
    let inside = now.iter().any(|(name, _)| name == "CLAUDECODE");
    let mut kept: Vec<_> = now
        .into_iter()
        .filter(|(name, _)| stays(name, inside) && !ours.iter().any(|(own, _)| own == name))
        .collect();
    kept.extend(ours.iter().cloned());
    kept
}

fn stays(name: &OsStr, inside: bool) -> bool {
    let name = name.to_string_lossy();
    if is_of(&OF_A_SESSION, &name) {
        return false;
    }
    // Which server, which log: of the command that launches, not of what it launches.
    if name.starts_with("CONCLAVE_") {
        return name == crate::config::ENV_HOME;
    }
    !(inside && name.starts_with("CLAUDE_CODE_") && !is_of(&OF_A_PERSON, &name))
}

fn is_of(list: &[&str], name: &str) -> bool {
    list.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => *known == name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(now: &[&str], ours: &[&str]) -> Vec<String> {
        let pair = |name: &&str| (OsString::from(name), OsString::from("x"));
        let ours: Vec<_> = ours.iter().map(pair).collect();
        let kept = cleaned(now.iter().map(pair), &ours);
        let text = |(name, _): &(OsString, OsString)| name.to_string_lossy().into_owned();
        kept.iter().map(text).collect()
    }

    #[test]
    fn lesson_33_nothing_of_a_parent_session_is_inherited() {
        let of_a_session = [
            "CLAUDECODE",
            "CLAUDE_PID",
            "CLAUDE_PROJECT_DIR",
            "CLAUDE_PLUGIN_ROOT",
            "CLAUDE_CODE_ENTRYPOINT",
            "CLAUDE_CODE_SESSION_ID",
            "CLAUDE_CODE_MESSAGING_SOCKET",
            "CLAUDE_CODE_MESSAGING_TOKEN",
            "CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS",
            "CLAUDE_CODE_CHILD_NOTES_DIR",
            "CLAUDE_CODE_SOMETHING_OF_NEXT_YEAR",
            "CODEX_THREAD_ID",
            "CODEX_SANDBOX_NETWORK_DISABLED",
            "GEMINI_CLI",
            "OPENCODE",
            "CONCLAVE_SERVER",
            "CONCLAVE_LOG",
        ];
        assert_eq!(names(&of_a_session, &[]), Vec::<String>::new());
    }

    #[test]
    fn what_a_person_configured_stays() {
        let of_a_person = [
            "PATH",
            "TERM",
            "TMUX",
            "XDG_RUNTIME_DIR",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_BASE_URL",
            "CLAUDE_CONFIG_DIR",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
            "CLAUDE_CODE_DISABLE_TERMINAL_TITLE",
            "CLAUDE_CODE_SSE_PORT",
            "CODEX_HOME",
            "OPENCODE_CONFIG",
            "CONCLAVE_HOME",
        ];
        assert_eq!(names(&of_a_person, &[]), of_a_person);
        let inside = [&of_a_person[..], &["CLAUDECODE"]].concat();
        assert_eq!(names(&inside, &[]), of_a_person);
        // Outside of any session a setting that we do not know is a person's.
        let unknown = ["CLAUDE_CODE_SOMETHING_OF_NEXT_YEAR"];
        assert_eq!(names(&unknown, &[]), unknown);
    }

    #[test]
    fn what_we_set_is_set_once() {
        let kept = names(&["CONCLAVE_HOME", "PATH"], &["CONCLAVE_HOME"]);
        assert_eq!(kept, ["PATH", "CONCLAVE_HOME"]);
    }
}
