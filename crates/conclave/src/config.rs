//! Where things live on this machine, and the environment variables that say so.
//!
//! One directory named by `--config-dir` or [`ENV_HOME`] holds everything; without it the XDG
//! directories do. The libraries never look at the environment: they are handed paths.

use crate::error::CliError;
use std::env;
use std::path::{Path, PathBuf};

/// `CONCLAVE_HOME`: the directory for keys, configuration, state and `up`'s server data.
pub(crate) const ENV_HOME: &str = "CONCLAVE_HOME";
/// `CONCLAVE_LOG`: what to log, in the syntax of `tracing` filters, for example `debug,rmcp=warn`.
pub(crate) const ENV_LOG: &str = "CONCLAVE_LOG";
/// `CONCLAVE_SERVER`: the server to talk to when a command is given no `--server`.
pub(crate) const ENV_SERVER: &str = "CONCLAVE_SERVER";
/// `XDG_CONFIG_HOME`: the parent of the configuration directory, `~/.config` by default.
const ENV_XDG_CONFIG: &str = "XDG_CONFIG_HOME";
/// `HOME`: the user's directory.
const ENV_USER_HOME: &str = "HOME";
/// `USER`: the user name proposed for a new account.
const ENV_USER: &str = "USER";

/// Finds the configuration directory: `--config-dir`, then [`ENV_HOME`], then XDG.
pub(crate) fn config_dir(flag: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(dir) = flag.or_else(|| set(ENV_HOME)) {
        return std::path::absolute(&dir)
            .map_err(|e| CliError::local(format!("{}: {e}", dir.display())));
    }
    default_dir().ok_or_else(|| {
        CliError::local("no home directory is set")
            .hint(format!("give --config-dir DIR or set {ENV_HOME}"))
    })
}

/// Returns whether a directory is the one that is used when none is named.
pub(crate) fn is_default(dir: &Path) -> bool {
    default_dir().is_some_and(|default| default == dir)
}

fn default_dir() -> Option<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set(ENV_XDG_CONFIG)
        .filter(|dir| dir.is_absolute())
        .or_else(|| set(ENV_USER_HOME).map(|home| home.join(".config")))
        .map(|parent| parent.join("conclave"))
}

/// The user name that the operating system knows, if any.
pub(crate) fn os_user() -> Option<String> {
    env::var(ENV_USER).ok().filter(|name| !name.is_empty())
}

/// This machine's name, as the network knows it.
pub(crate) fn host_name() -> String {
    let full = gethostname::gethostname().to_string_lossy().into_owned();
    full.split('.').next().unwrap_or_default().to_owned()
}

/// The user's home directory, if the environment has one.
pub(crate) fn user_home() -> Option<PathBuf> {
    env::var_os(ENV_USER_HOME)
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}
