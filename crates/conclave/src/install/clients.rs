//! What each agent host is given, and where: the documented places of docs/clients.md, nothing else.

use super::edit::{Edit, Kind};
use super::{Client, Ground, Scope, Wish, hooks};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The name of our entry, everywhere.
const NAME: &str = "conclave";
/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// JSON, perhaps with comments.
    Json,
    /// TOML.
    Toml,
}

/// What goes into one file.
#[derive(Debug)]
pub(crate) struct Part {
    /// The file.
    pub(crate) path: PathBuf,
    /// How it is written.
    pub(crate) syntax: Syntax,
    /// What goes in.
    pub(crate) edits: Vec<Edit>,
}

impl Part {
    fn json(path: PathBuf, edits: Vec<Edit>) -> Self {
        let syntax = Syntax::Json;
        Self {
            path,
            syntax,
            edits,
        }
    }
}

/// Says what a client is given.
pub(crate) fn parts(ground: &Ground, client: Client, scope: Scope, wish: &Wish) -> Vec<Part> {
    match client {
        Client::Claude => claude(ground, scope, wish),
        Client::Codex => codex(ground, scope, wish),
        Client::Gemini => gemini(ground, scope, wish),
        Client::Cursor => cursor(ground, scope, wish),
        Client::Opencode => opencode(ground, scope, wish),
    }
}

fn claude(ground: &Ground, scope: Scope, wish: &Wish) -> Vec<Part> {
    let (registry, dir) = match &ground.claude_dir {
        Some(dir) => (dir.join(".claude.json"), dir.clone()),
        None => (
            ground.user_home.join(".claude.json"),
            ground.user_home.join(".claude"),
        ),
    };
    let (args, command) = (bridge(ground, wish), path(&ground.exe));
    let server = json!({"type": "stdio", "command": command, "args": args, "env": {}});
    let project = path(&ground.project);
    let (at, settings) = match scope {
        Scope::Local => (
            vec!["projects", &project, "mcpServers", NAME],
            ground.tree.join(".claude/settings.local.json"),
        ),
        Scope::User => (vec!["mcpServers", NAME], dir.join("settings.json")),
    };
    let mut edits = hooks_of(ground, Client::Claude, wish);
    if wish.allow {
        edits.push(Edit::element(
            &["permissions", "allow"],
            json!("mcp__conclave"),
        ));
    }
    // A rule that begins with two slashes is for an absolute path.
    for tool in ["Read", "Edit"] {
        let rule = format!("{tool}(/{}/**)", ground.config_dir.display());
        edits.push(Edit::element(&["permissions", "deny"], json!(rule)));
    }
    if wish.statusline {
        let line = hooks::statusline(&|command| run(ground, command));
        edits.push(Edit::new(&["statusLine"], Kind::Default, line));
    }
    vec![
        Part::json(registry, vec![Edit::member(&at, server)]),
        Part::json(settings, edits),
    ]
}

fn codex(ground: &Ground, scope: Scope, wish: &Wish) -> Vec<Part> {
    let dir = match scope {
        Scope::Local => ground.tree.join(".codex"),
        Scope::User => {
            let home = || ground.user_home.join(".codex");
            ground.codex_home.clone().unwrap_or_else(home)
        }
    };
    let server = json!({"command": path(&ground.exe), "args": bridge(ground, wish)});
    let mut parts = vec![Part {
        path: dir.join("config.toml"),
        syntax: Syntax::Toml,
        edits: vec![Edit::member(&["mcp_servers", NAME], server)],
    }];
    let hooks = hooks_of(ground, Client::Codex, wish);
    if !hooks.is_empty() {
        parts.push(Part::json(dir.join("hooks.json"), hooks));
    }
    parts
}

fn gemini(ground: &Ground, scope: Scope, wish: &Wish) -> Vec<Part> {
    // It looks in the directory that it is started in, not above.
    let base = match scope {
        Scope::Local => ground.cwd.clone(),
        Scope::User => {
            let home = || ground.user_home.clone();
            ground.gemini_home.clone().unwrap_or_else(home)
        }
    };
    let server = json!({"command": path(&ground.exe), "args": bridge(ground, wish)});
    let mut edits = vec![Edit::member(&["mcpServers", NAME], server)];
    edits.extend(hooks_of(ground, Client::Gemini, wish));
    vec![Part::json(base.join(".gemini/settings.json"), edits)]
}

fn cursor(ground: &Ground, scope: Scope, wish: &Wish) -> Vec<Part> {
    let dir = match scope {
        Scope::Local => ground.tree.join(".cursor"),
        Scope::User => ground.user_home.join(".cursor"),
    };
    let server = json!({"command": path(&ground.exe), "args": bridge(ground, wish)});
    let entry = Edit::member(&["mcpServers", NAME], server);
    let mut parts = vec![Part::json(dir.join("mcp.json"), vec![entry])];
    let hooks = hooks_of(ground, Client::Cursor, wish);
    if !hooks.is_empty() {
        let version = Edit::new(&["version"], Kind::Default, json!(1));
        let edits = [vec![version], hooks].concat();
        parts.push(Part::json(dir.join("hooks.json"), edits));
    }
    parts
}

fn opencode(ground: &Ground, scope: Scope, wish: &Wish) -> Vec<Part> {
    let dir = match scope {
        Scope::Local => ground.tree.clone(),
        Scope::User => ground.xdg_config.join("opencode"),
    };
    let with_comments = dir.join("opencode.jsonc");
    let file = match with_comments.exists() {
        true => with_comments,
        false => dir.join("opencode.json"),
    };
    let words = [vec![path(&ground.exe)], bridge(ground, wish)].concat();
    let server = json!({"type": "local", "command": words, "enabled": true});
    vec![Part::json(file, vec![Edit::member(&["mcp", NAME], server)])]
}

/// The bridge's arguments.
fn bridge(ground: &Ground, wish: &Wish) -> Vec<String> {
    let mut args = vec!["bridge".to_owned()];
    if ground.config_named {
        args.extend(["--config-dir".to_owned(), path(&ground.config_dir)]);
    }
    let mut give = |flag: &str, value: &str| args.extend([flag.to_owned(), value.to_owned()]);
    if let Some(name) = &wish.name {
        give("--as", name);
    }
    for channel in &wish.channels {
        give("--channel", channel);
    }
    if let Some(role) = &wish.role {
        give("--role", role);
    }
    if !wish.groups.is_empty() {
        give("--groups", &wish.groups.join(","));
    }
    args
}

fn run(ground: &Ground, command: &str) -> String {
    let dir = ground.config_named.then_some(ground.config_dir.as_path());
    hooks::line(&ground.exe, dir, command)
}

fn hooks_of(ground: &Ground, client: Client, wish: &Wish) -> Vec<Edit> {
    if !wish.hooks {
        return Vec::new();
    }
    let all = hooks::of(client, &|command| run(ground, command));
    let edit = |(event, entry): (&str, Value)| Edit::element(&["hooks", event], entry);
    all.into_iter().map(edit).collect()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
