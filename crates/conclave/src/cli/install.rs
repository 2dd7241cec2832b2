//! `conclave install`: register this program with an agent host.

use super::Context;
use crate::config;
use crate::error::CliError;
use crate::install::{self, Change, Client, Ground, Mode, Scope, Wish};
use conclave_client::repo;
use conclave_proto::name::Name;
use conclave_proto::profile::Label;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What an install and an uninstall are about.
#[derive(Debug, clap::Args)]
pub(crate) struct About {
    /// The agent host
    #[arg(long, value_enum, value_name = "CLIENT", default_value_t = Client::Claude)]
    client: Client,
    /// For this project only, or for every session of yours on this machine
    #[arg(long, value_enum, value_name = "SCOPE", default_value = "local")]
    scope: Scope,
    /// Only say what would be changed
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `install`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    about: About,
    /// Be addressed by this handle [default: the directory's name]
    #[arg(long = "as", visible_alias = "name", value_name = "HANDLE")]
    handle: Option<String>,
    /// Say that sessions are this: dev, reviewer
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Carry these groups in the home channel, with commas
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    groups: Vec<String>,
    /// Follow this channel only, the first is home; repeatable
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
    /// Register no hooks: messages then wait until the agent calls `wait_for_messages`
    #[arg(long)]
    no_hooks: bool,
    /// Write no rule that lets our own tools run without a question each time
    #[arg(long)]
    no_allow: bool,
    /// Show in the status line who the session is, where none is set
    #[arg(long)]
    statusline: bool,
    /// Replace another program's entry of the name `conclave`; it comes back with uninstall
    #[arg(long)]
    force: bool,
}

/// Registers.
pub(crate) fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    if let Some(handle) = &args.handle {
        Name::claim(handle)?;
    }
    for name in args.role.iter().chain(&args.channel) {
        Name::new(name.trim_start_matches('#'))?;
    }
    for group in &args.groups {
        let label = group.parse::<Label>();
        label.map_err(|e| CliError::usage(e.to_string()))?;
    }
    let wish = Wish {
        name: args.handle,
        role: args.role,
        groups: args.groups,
        channels: args.channel,
        hooks: !args.no_hooks,
        allow: !args.no_allow,
        statusline: args.statusline,
        force: args.force,
    };
    let About { client, scope, .. } = args.about;
    let ground = ground(cx)?;
    let changes = install::install(&ground, client, scope, &wish, args.about.mode())?;
    let nothing = changes.iter().all(|change| change.word == "unchanged");
    let head = match (args.about.mode(), nothing) {
        (_, true) => format!("already installed for {client}"),
        (Mode::Dry, false) => format!("would install for {client}"),
        (Mode::Write, false) => format!("installed for {client}"),
    };
    args.about.tell(cx, &head, &changes);
    if !nothing && args.about.mode() == Mode::Write && !cx.out.is_json() {
        cx.out.talk(next(client));
    }
    Ok(())
}

/// What is left to do for a person.
const fn next(client: Client) -> &'static str {
    match client {
        Client::Claude => {
            "next: start a new session of Claude Code here; `conclave doctor` shows how it goes"
        }
        Client::Codex => {
            "next: trust the project in Codex, then open /hooks there and trust ours; without that, \
             messages wait until the agent calls wait_for_messages"
        }
        Client::Gemini | Client::Cursor => {
            "next: start a new session here and allow the server if asked"
        }
        Client::Opencode => {
            "next: start a new session here; this host has no hooks for us: ask the agent to call \
             wait_for_messages"
        }
    }
}

impl About {
    pub(crate) const fn client(&self) -> Client {
        self.client
    }

    pub(crate) const fn scope(&self) -> Scope {
        self.scope
    }

    pub(crate) const fn mode(&self) -> Mode {
        match self.dry_run {
            true => Mode::Dry,
            false => Mode::Write,
        }
    }

    /// Says what became of every file.
    pub(crate) fn tell(&self, cx: &Context, head: &str, changes: &[Change]) {
        let mut lines = vec![head.to_owned()];
        for change in changes {
            lines.push(format!("{} {}", change.word, change.path.display()));
            let taken = change.taken.iter().map(|edit| ("-", edit));
            let added = change.added.iter().map(|edit| ("+", edit));
            for (sign, edit) in taken.chain(added) {
                lines.push(format!("  {sign} {} = {}", edit.place(), edit.value));
            }
            lines.extend(change.notes.iter().map(|note| format!("  note: {note}")));
        }
        let object = json!({
            "client": self.client.to_string(),
            "scope": if self.scope == Scope::User { "user" } else { "local" },
            "dry_run": self.dry_run,
            "result": head,
            "files": changes.iter().map(row).collect::<Vec<_>>(),
        });
        cx.out.result(lines.join("\n"), &object);
    }
}

fn row(change: &Change) -> Value {
    let edit = |edit: &install::Edit| json!({"at": edit.at, "value": edit.value});
    json!({
        "file": change.path.display().to_string(),
        "action": change.word,
        "added": change.added.iter().map(edit).collect::<Vec<_>>(),
        "taken": change.taken.iter().map(edit).collect::<Vec<_>>(),
        "notes": change.notes,
    })
}

/// Looks where things are.
pub(crate) fn ground(cx: &Context) -> Result<Ground, CliError> {
    let here = |e: std::io::Error| CliError::local(format!("no working directory: {e}"));
    let cwd = std::env::current_dir().and_then(|dir| dir.canonicalize());
    let cwd = cwd.map_err(here)?;
    let user_home = config::user_home().ok_or_else(|| {
        CliError::local("no home directory is set").hint("set HOME to your home directory")
    })?;
    let exe = std::env::current_exe().map_err(here)?;
    let config_dir = cx.config_dir()?;
    let named = |name: &str| {
        let set = std::env::var_os(name).filter(|value| !value.is_empty());
        set.map(|value| cwd.join(PathBuf::from(value)))
    };
    let tree = repo::tree(&cwd).unwrap_or_else(|| cwd.clone());
    Ok(Ground {
        exe,
        config_named: !config::is_default(&config_dir),
        config_dir,
        xdg_config: named("XDG_CONFIG_HOME").unwrap_or_else(|| user_home.join(".config")),
        claude_dir: named("CLAUDE_CONFIG_DIR"),
        codex_home: named("CODEX_HOME"),
        gemini_home: named("GEMINI_CLI_HOME"),
        project: repo::main_tree(&tree).unwrap_or_else(|| tree.clone()),
        tree,
        cwd,
        user_home,
    })
}
