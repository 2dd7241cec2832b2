//! What `conclave launch` knows of agents: which one is meant, what it is started with, and what it must not
//! inherit. It decides; the command asks, tells and starts.

pub(crate) mod agent;
pub(crate) mod claude;
pub(crate) mod codex;
pub(crate) mod environment;
pub(crate) mod remembered;

use std::ffi::OsString;
use std::path::PathBuf;

/// How this machine's bridge is started, as it is written into an agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    /// This program.
    pub(crate) program: PathBuf,
    /// The configuration directory.
    pub(crate) home: PathBuf,
}

impl Ours {
    /// Returns the arguments of one of our commands.
    pub(crate) fn arguments(&self, command: &str) -> Vec<String> {
        let home = self.home.display().to_string();
        vec!["--config-dir".to_owned(), home, command.to_owned()]
    }
}

/// What an agent is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// What its human should know, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// Returns an argument as text, if it is one.
fn text(argument: &OsString) -> &str {
    argument.to_str().unwrap_or_default()
}
