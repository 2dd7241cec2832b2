//! Which agent is meant, and where its program is.

use crate::error::CliError;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// An agent that we know how to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Claude Code.
    Claude,
    /// Codex CLI.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// OpenCode.
    Opencode,
    /// Anything else.
    Other,
}

impl Kind {
    /// Reads which agent a program is, from its name.
    pub(crate) fn of(program: &Path) -> Self {
        match program.file_stem().and_then(|stem| stem.to_str()) {
            Some("claude") => Self::Claude,
            Some("codex") => Self::Codex,
            Some("gemini") => Self::Gemini,
            Some("opencode") => Self::Opencode,
            _ => Self::Other,
        }
    }

    /// Returns what its human should know where only its own configuration can name our server.
    pub(crate) const fn note(self) -> Option<&'static str> {
        match self {
            Self::Claude | Self::Codex => None,
            Self::Gemini => Some(
                "Gemini CLI knows conclave only once it is installed there: `conclave install --client gemini`",
            ),
            Self::Opencode => Some(
                "OpenCode knows conclave only once it is installed there: `conclave install --client opencode`",
            ),
            Self::Other => {
                Some("this agent is started as it is; give it the MCP server `conclave bridge`")
            }
        }
    }

    /// Returns whether these arguments take up an earlier conversation.
    pub(crate) fn resumes(self, arguments: &[OsString]) -> bool {
        let words = arguments.iter().map(super::text);
        match self {
            Self::Codex => words.take(1).any(|word| matches!(word, "resume" | "fork")),
            Self::Claude | Self::Gemini | Self::Opencode | Self::Other => {
                let mut options = words.take_while(|word| *word != "--");
                options.any(|word| {
                    let name = word.split_once('=').map_or(word, |(name, _)| name);
                    matches!(name, "--resume" | "--continue" | "-c" | "-r")
                })
            }
        }
    }
}

/// Finds the program: a path as it is, a name on PATH.
pub(crate) fn find(agent: &str) -> Result<PathBuf, CliError> {
    let given = Path::new(agent);
    if agent.contains('/') {
        let path =
            std::path::absolute(given).map_err(|e| CliError::local(format!("{agent}: {e}")))?;
        return match is_program(&path) {
            true => Ok(path),
            false => Err(CliError::usage(format!(
                "{agent} is no program that can be run"
            ))),
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(given))
        .find(|path| is_program(path));
    found.ok_or_else(|| {
        CliError::local(format!("no program {agent} is on PATH"))
            .hint("install the agent, or name it: conclave launch --agent /path/to/it")
    })
}

fn is_program(path: &Path) -> bool {
    let may_run = |meta: std::fs::Metadata| {
        use std::os::unix::fs::PermissionsExt as _;
        meta.is_file() && meta.permissions().mode() & 0o111 != 0
    };
    std::fs::metadata(path).is_ok_and(may_run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn who_takes_up_a_conversation_is_known_by_the_arguments() {
        for (kind, arguments, resumes) in [
            (Kind::Claude, "--resume", true),
            (Kind::Claude, "--resume=4f2a", true),
            (Kind::Claude, "--model x -c", true),
            (Kind::Claude, "-r 4f2a", true),
            (Kind::Claude, "--model x", false),
            (Kind::Claude, "-- --resume", false),
            (Kind::Claude, "", false),
            (Kind::Codex, "resume --last", true),
            (Kind::Codex, "-c model=x", false),
            (Kind::Codex, "exec resume", false),
        ] {
            assert_eq!(kind.resumes(&words(arguments)), resumes, "{arguments}");
        }
    }
}
