//! What the host gave this process to be woken by: its inbox, a socket where scripts leave lines, and whether
//! it was started to listen to our channel. Only from this process's own environment and ancestors.

use super::{Channel, Given};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

/// By which the host names its inbox, what to say there first, and itself.
const SOCKET_VAR: &str = "CLAUDE_CODE_MESSAGING_SOCKET";
const TOKEN_VAR: &str = "CLAUDE_CODE_MESSAGING_TOKEN";
const HOST_VAR: &str = "CLAUDECODE";

/// The options by which a host is told to listen to a channel.
const CHANNEL_OPTIONS: [&str; 2] = ["--channels", "--dangerously-load-development-channels"];
/// What our entry is called there: in the plugin, and as `conclave install` makes it.
const NAME: &str = "conclave";
/// What the host's program is called.
const HOSTS: [&str; 2] = ["claude", "claude.exe"];
/// How many ancestors may stand between the host and this process: shells and wrappers.
const ANCESTORS_MAX: usize = 5;

/// How long a line may take.
const WITHIN: Duration = Duration::from_secs(2);

/// The host's inbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Inbox {
    path: PathBuf,
    token: Option<String>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("path", &self.path).finish()
    }
}

impl Inbox {
    /// Makes one of a socket, and what is to be said there first.
    #[must_use]
    pub const fn new(path: PathBuf, token: Option<String>) -> Self {
        Self { path, token }
    }

    /// Leaves a line. The host says nothing to it.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn leave(&self, text: &str) -> io::Result<()> {
        let mut lines = String::new();
        if let Some(token) = &self.token {
            let auth = serde_json::json!({"type": "auth", "token": token});
            lines.push_str(&format!("{auth}\n"));
        }
        let message = serde_json::json!({"role": "user", "content": text});
        let line = serde_json::json!({"type": "user", "message": message});
        lines.push_str(&format!("{line}\n"));
        let leaving = async {
            let mut stream = UnixStream::connect(&self.path).await?;
            stream.write_all(lines.as_bytes()).await?;
            stream.shutdown().await
        };
        tokio::time::timeout(WITHIN, leaving).await?
    }
}

/// What a session has of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FromHost {
    /// Its inbox.
    pub inbox: Option<Inbox>,
    /// What is known of its channel.
    pub channel: Channel,
}

impl FromHost {
    /// Reads this process's environment, and how its ancestors were started.
    #[must_use]
    pub fn of_this_process() -> Self {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let inbox = var(SOCKET_VAR).map(|path| Inbox::new(path.into(), var(TOKEN_VAR)));
        let channel = match var(HOST_VAR) {
            None => Channel::Assumed,
            Some(_) => channel(&ancestors()),
        };
        Self { inbox, channel }
    }

    /// Returns what the router needs of it.
    #[must_use]
    pub const fn given(&self) -> Given {
        Given {
            channel: self.channel,
            inbox: self.inbox.is_some(),
        }
    }
}

/// Says what the command lines of the ancestors, the nearest first, tell of the channel.
#[must_use]
pub fn channel(ancestors: &[Vec<String>]) -> Channel {
    // Another host may have started this one.
    let host = ancestors.iter().position(|args| is_host(args));
    let asked = match host {
        Some(at) => &ancestors[at..=at],
        None => ancestors,
    };
    if asked.is_empty() {
        // Where they cannot be read, it is tried.
        return Channel::Possible;
    }
    let is_option = |arg: &String| {
        let word = arg.split('=').next().unwrap_or_default();
        CHANNEL_OPTIONS.contains(&word)
    };
    let told = asked.iter().find_map(|args| {
        let first = args.iter().position(is_option)?;
        Some((args, first))
    });
    match told {
        None => Channel::Impossible("the host was started without --channels"),
        Some((args, _)) if args.iter().any(|arg| arg == "-p" || arg == "--print") => {
            Channel::Impossible("the host listens to no channel when it prints")
        }
        Some((args, first)) if args.iter().skip(first).any(|arg| arg.contains(NAME)) => {
            Channel::Possible
        }
        Some(_) => Channel::Impossible("the host's --channels do not name conclave"),
    }
}

/// Returns whether a command line is the host's: itself, or run by its interpreter.
fn is_host(args: &[String]) -> bool {
    let mut names = args
        .iter()
        .take(2)
        .filter_map(|arg| Path::new(arg).file_name());
    names.any(|name| HOSTS.iter().any(|host| name == *host))
}

/// Returns the command lines of this process's ancestors, the nearest first, as far as they can be read.
fn ancestors() -> Vec<Vec<String>> {
    let mut pid = std::os::unix::process::parent_id();
    let mut found = Vec::new();
    while pid > 1 && found.len() < ANCESTORS_MAX {
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
            break;
        };
        let args = line.split(|b| *b == 0);
        found.push(
            args.map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect(),
        );
        let Some(parent) = parent_of(pid) else { break };
        pid = parent;
    }
    found
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in brackets and may have any in it.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
