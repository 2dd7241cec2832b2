//! What the agents' own configurations say of us.

use crate::config;
use crate::launch::claude::{Known, Places};
use std::env;
use std::path::{Path, PathBuf};

/// An agent whose configuration was found.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// What to call it.
    pub(super) name: &'static str,
    /// What of ours it knows.
    pub(super) known: Known,
}

impl Client {
    /// Returns the registered program, if it is gone.
    pub(super) fn missing_program(&self) -> Option<&Path> {
        let program = Path::new(self.known.server.as_ref()?.first()?);
        (program.is_absolute() && !program.exists()).then_some(program)
    }
}

/// Looks at every agent that has a configuration here.
pub(super) fn all() -> Vec<Client> {
    let dir = env::var_os("CLAUDE_CONFIG_DIR").filter(|v| !v.is_empty());
    let here = env::current_dir().and_then(|dir| dir.canonicalize());
    let places = Places::find(
        dir.map(PathBuf::from),
        config::user_home(),
        here.unwrap_or_default(),
    );
    let claude = (places.main.exists() || places.dir.exists()).then(|| Client {
        name: "Claude Code",
        known: Known::read(&places),
    });
    claude.into_iter().collect()
}
