//! The host with everything that `conclave install` registers.

use crate::claude::Setup;
use serde_json::Value;
use std::path::Path;

/// Which of it a test leaves out, so that a message has one way only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Without {
    /// The hook that waits between turns.
    pub(crate) rewake: bool,
    /// The host's inbox, of which the bridge is not told.
    pub(crate) inbox: bool,
}

impl Without {
    pub(crate) const REWAKE: Self = Self {
        rewake: true,
        inbox: false,
    };
    pub(crate) const INBOX: Self = Self {
        rewake: false,
        inbox: true,
    };
    pub(crate) const BOTH: Self = Self {
        rewake: true,
        inbox: true,
    };

    /// The host with all the rest.
    pub(crate) fn setup(self) -> Setup {
        Setup {
            installed: Some(self),
            ..Setup::default()
        }
    }

    /// Takes it out of what was installed.
    pub(crate) fn strip(self, config: &Path, settings: &Path) {
        if self.inbox {
            edit(config, |config| {
                let projects = config["projects"].as_object_mut().unwrap();
                for project in projects.values_mut() {
                    let env = &mut project["mcpServers"]["conclave"]["env"];
                    env["CLAUDE_CODE_MESSAGING_SOCKET"] = "".into();
                }
            });
        }
        if self.rewake {
            edit(settings, |settings| {
                for group in settings["hooks"]["Stop"].as_array_mut().unwrap() {
                    let hooks = group["hooks"].as_array_mut().unwrap();
                    hooks.retain(|hook| hook["asyncRewake"] != true);
                }
            });
        }
    }
}

fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(file, value.to_string()).unwrap();
}
