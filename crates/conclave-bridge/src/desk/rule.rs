//! Which tools an agent may never approve, which patterns name tools, and which calls may be allowed by who saw
//! only their start. Pure.

use std::collections::BTreeSet;

/// Tools that only look: allowed though not all of the arguments were shown.
const LOW_RISK: [&str; 6] = ["Glob", "Grep", "LS", "NotebookRead", "Read", "WebSearch"];

/// Tools that run or change things: no agent approves them, whatever a policy says.
const NEVER: [&str; 9] = [
    "Bash",
    "Edit",
    "KillShell",
    "Monitor",
    "MultiEdit",
    "NotebookEdit",
    "PowerShell",
    "REPL",
    "Write",
];

/// What the host puts before the tools of a plugged-in server, and before ours.
const PLUGGED: &str = "mcp__";
const OURS: [&str; 2] = ["mcp__conclave", "mcp__plugin_conclave"];

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 128;

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Not a name, and not the start of one with a `*`.
    #[error("a pattern is a tool's name, or the start of one with a * at its end")]
    Malformed,
    /// It would cover a tool that no agent approves.
    #[error("it covers {0}, which no agent may approve: that takes a person")]
    Never(String),
}

/// Returns whether a call may be allowed by somebody who saw only the start of its arguments.
#[must_use]
pub fn is_low_risk(tool: &str) -> bool {
    LOW_RISK.contains(&tool)
}

/// Returns whether patterns let an agent approve a tool.
#[must_use]
pub fn agent_may(patterns: &BTreeSet<String>, tool: &str) -> bool {
    let named = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => tool.starts_with(start),
        None => tool == pattern,
    };
    never(tool).is_none() && patterns.iter().any(named)
}

/// Checks a pattern that a human wants to let an agent approve.
///
/// # Errors
/// [`BadPattern`].
pub fn check_pattern(pattern: &str) -> Result<(), BadPattern> {
    let (start, open) = match pattern.strip_suffix('*') {
        Some(start) => (start, true),
        None => (pattern, false),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
    let fits = pattern.len() <= PATTERN_BYTES_MAX && start.bytes().all(plain);
    if !fits || (start.is_empty() && !open) {
        return Err(BadPattern::Malformed);
    }
    let refuse = |tool: &str| Err(BadPattern::Never(tool.to_owned()));
    if let Some(tool) = never(start) {
        return refuse(tool);
    }
    let covered = |tool: &&&str| open && starts(tool, start);
    match NEVER.iter().chain(&OURS).find(covered) {
        Some(tool) => refuse(tool),
        None => Ok(()),
    }
}

/// Returns which of the tools that no agent approves this is.
fn never(tool: &str) -> Option<&'static str> {
    let named = NEVER.iter().find(|never| never.eq_ignore_ascii_case(tool));
    // However a server of ours is called there: it has our name in its own.
    let ours = starts(tool, PLUGGED) && tool.to_ascii_lowercase().contains("conclave");
    named.copied().or_else(|| ours.then_some(OURS[0]))
}

fn starts(text: &str, start: &str) -> bool {
    (text.get(..start.len())).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pattern_lets_an_agent_approve_what_runs_or_changes_things() {
        let refused = [
            "Bash",
            "bash",
            "Write",
            "Edit",
            "MultiEdit",
            "NotebookEdit",
            "B*",
            "Note*",
            "*",
            "m*",
            "mcp__*",
            "mcp__con*",
            "mcp__conclave__kick",
            "mcp__conclave__*",
            "mcp__plugin_conclave_conclave__ban",
            "mcp__plugin_*",
            "mcp__my-conclave__*",
            "Mcp__Conclave*",
        ];
        for pattern in refused {
            let bad = check_pattern(pattern);
            assert!(
                matches!(bad, Err(BadPattern::Never(_))),
                "{pattern}: {bad:?}"
            );
        }
        for pattern in ["", "Re ad", "Re*d", "**", "a\u{202e}b", &"x".repeat(200)] {
            assert_eq!(
                check_pattern(pattern),
                Err(BadPattern::Malformed),
                "{pattern}"
            );
        }
        for pattern in ["Read", "Web*", "mcp__github__*", "mcp__github__get_issue"] {
            assert_eq!(check_pattern(pattern), Ok(()), "{pattern}");
        }
        // A policy that was signed by another program may hold anything: the tool itself is looked at, too.
        let all = BTreeSet::from(["*".to_owned(), "Bash".to_owned(), "mcp__*".to_owned()]);
        for tool in [
            "Bash",
            "Write",
            "Edit",
            "mcp__conclave__acl_add",
            "mcp__plugin_conclave_conclave__ban",
        ] {
            assert!(!agent_may(&all, tool), "{tool}");
        }
        assert!(agent_may(&all, "Read"));
        let web = BTreeSet::from(["Web*".to_owned(), "Read".to_owned()]);
        assert!(agent_may(&web, "WebFetch") && agent_may(&web, "Read"));
        assert!(!agent_may(&web, "ReadAll") && !agent_may(&web, "Glob"));
    }
}
