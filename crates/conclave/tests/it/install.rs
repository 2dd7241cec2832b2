//! `conclave install` and `uninstall`: what stands in the hosts' files, and that nothing else ever changes.

use crate::world::{Home, Outcome};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

const CLIENTS: [&str; 5] = ["claude", "codex", "gemini", "cursor", "opencode"];
const SCOPES: [&str; 2] = ["local", "user"];

/// A home directory with a project in it.
struct Desk {
    home: Home,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { home: Home::new() };
        fs::create_dir_all(desk.path("project/.git")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.home.file(name))
            .canonicalize()
            .unwrap_or_else(|_| self.home.file(name).into())
    }

    fn put(&self, name: &str, text: &str) {
        let path = PathBuf::from(self.home.file(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.home.file(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap()
    }

    /// Runs in the project.
    fn run(&self, args: &[&str]) -> Outcome {
        self.run_in("project", args)
    }

    fn run_in(&self, dir: &str, args: &[&str]) -> Outcome {
        let mut command = self.home.command(args);
        command.current_dir(self.home.file(dir));
        crate::world::outcome(command.output().unwrap())
    }

    /// Everything below the home directory: kinds, modes, links, bytes.
    fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut open = vec![PathBuf::from(self.home.file(""))];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                let what = if meta.is_symlink() {
                    format!("link to {}", fs::read_link(&path).unwrap().display())
                } else if meta.is_dir() {
                    open.push(path.clone());
                    "directory".to_owned()
                } else {
                    format!("{:?}", fs::read(&path).unwrap())
                };
                all.insert(path, format!("{:o} {what}", meta.mode()));
            }
        }
        all
    }
}

/// Every file that a client has, in each scope.
fn files(client: &str, scope: &str) -> Vec<&'static str> {
    match (client, scope) {
        ("claude", "local") => vec![".claude.json", "project/.claude/settings.local.json"],
        ("claude", _) => vec![".claude.json", ".claude/settings.json"],
        ("codex", "local") => vec!["project/.codex/config.toml", "project/.codex/hooks.json"],
        ("codex", _) => vec![".codex/config.toml", ".codex/hooks.json"],
        ("gemini", "local") => vec!["project/.gemini/settings.json"],
        ("gemini", _) => vec![".gemini/settings.json"],
        ("cursor", "local") => vec!["project/.cursor/mcp.json", "project/.cursor/hooks.json"],
        ("cursor", _) => vec![".cursor/mcp.json", ".cursor/hooks.json"],
        (_, "local") => vec!["project/opencode.json"],
        (_, _) => vec![".config/opencode/opencode.json"],
    }
}

/// Texts as people leave them: no two written alike.
fn styles(toml: bool) -> Vec<&'static str> {
    if toml {
        return vec![
            "",
            "model = \"x\"\n",
            "# mine\nmodel = \"x\" # really\n\n[mcp_servers.other]\ncommand = \"o\"\n\n\n",
            "a = 1\r\n\r\n[b]\r\nc = \"\"\"\r\n[mcp_servers.conclave]\r\n\"\"\"",
            "[mcp_servers]\n\n[z]\n\ty = 2",
        ];
    }
    vec![
        "",
        "{}",
        "{}\n",
        "{\n  \"theme\": \"dark\",\n  \"n\": 1.50, \"big\": 12345678901234567890123\n}\n",
        "{\"a\":[1,2,{\"b\":null}],\"hooks\":{\"Stop\":[{\"hooks\":[{\"type\":\"command\",\"command\":\"x\"}]}]}}",
        "{\r\n\t\"mcpServers\": {\r\n\t\t\"other\": {\"command\": \"o\"}\r\n\t},\r\n\t\"z\": \"\\u00e9 \\\\ \\\"\"\r\n}",
        "// mine\n{\n    /* keep */\n    \"permissions\": {\n        \"allow\": [\"Bash(ls)\",], // trailing\n    },\n}\n",
        "\u{feff}{\n \"projects\": { }, \"mcp\": {}, \"version\": 1\n}\n\n",
    ]
}

#[test]
fn install_doctor_and_uninstall_leave_the_home_directory_as_it_was_to_the_byte() {
    for client in CLIENTS {
        for scope in SCOPES {
            let about = ["--client", client, "--scope", scope];
            for n in 0..=styles(false).len() {
                let desk = Desk::new();
                for file in files(client, scope) {
                    let styles = styles(file.ends_with(".toml"));
                    // The last round has no file at all.
                    if let Some(text) = styles.get(n % styles.len()).filter(|_| n < 8) {
                        desk.put(file, text);
                    }
                }
                let before = desk.tree();
                desk.run(&[&["install"][..], &about].concat()).ok();
                assert_ne!(desk.tree(), before, "{client} {scope} {n}");
                desk.run(&["status"]).ok();
                // Nothing was joined: it may complain, but leaves nothing.
                desk.run(&["doctor"]);
                desk.run(&[&["uninstall"][..], &about].concat()).ok();
                assert_eq!(desk.tree(), before, "{client} {scope} {n}");
            }
        }
    }
}

#[test]
fn our_edits_come_out_alone_when_the_file_was_changed_since() {
    for client in CLIENTS {
        for text in styles(false) {
            let desk = Desk::new();
            let files = files(client, "user");
            for file in files.iter().filter(|file| file.ends_with(".json")) {
                desk.put(file, text);
            }
            let about = ["--client", client, "--scope", "user"];
            desk.run(&[&["install"][..], &about].concat()).ok();
            for file in &files {
                let now = desk.text(file);
                desk.put(file, &format!("{now}\n\n"));
            }
            desk.run(&[&["uninstall"][..], &about].concat()).ok();
            for file in files.iter().filter(|file| file.ends_with(".json")) {
                // A comma at the end of a list may go; the host reads it all the same.
                let squeeze = |text: &str| {
                    let bare = text.split_whitespace().collect::<String>();
                    bare.replace(",]", "]")
                };
                let rest = Path::new(&desk.home.file(file))
                    .exists()
                    .then(|| desk.text(file));
                let (rest, want) = (squeeze(&rest.unwrap_or_default()), squeeze(text));
                let empty = ["", "{}"];
                assert!(
                    rest == want
                        || empty.contains(&rest.as_str()) && empty.contains(&want.as_str()),
                    "{client} {file}: {text:?} became {rest:?}"
                );
            }
            assert!(!desk.home.path().exists(), "a record is left");
        }
    }
}

#[test]
fn a_second_install_changes_nothing_and_other_options_change_only_ours() {
    let desk = Desk::new();
    desk.put(".claude.json", "{\n  \"numStartups\": 3\n}\n");
    let begin = desk.tree();
    desk.run(&["install"]).ok();
    let first = desk.tree();
    let again = desk.run(&["install"]).ok();
    assert!(again.stdout.starts_with("already installed"), "{again:?}");
    assert_eq!(desk.tree(), first);
    desk.run(&[
        "install",
        "--as",
        "web",
        "--role",
        "dev",
        "--no-allow",
        "--statusline",
    ])
    .ok();
    let config = desk.json(".claude.json");
    let project = desk.path("project").display().to_string();
    let args = config["projects"][&project]["mcpServers"]["conclave"]["args"].clone();
    assert!(
        args.to_string()
            .contains("\"--as\",\"web\",\"--role\",\"dev\""),
        "{args}"
    );
    let settings = desk.json("project/.claude/settings.local.json");
    assert_eq!(settings["permissions"].get("allow"), None, "{settings}");
    assert_eq!(settings["hooks"]["PreToolUse"].as_array().unwrap().len(), 1);
    assert!(
        settings["statusLine"]["command"]
            .as_str()
            .unwrap()
            .contains("statusline")
    );
    desk.run(&["uninstall"]).ok();
    assert_eq!(desk.tree(), begin);
    let nothing = desk.run(&["uninstall"]).ok();
    assert!(
        nothing.stdout.starts_with("nothing was installed"),
        "{nothing:?}"
    );
    assert_eq!(desk.tree(), begin);
}

#[test]
fn the_entries_are_those_that_the_hosts_document() {
    let desk = Desk::new();
    for client in CLIENTS {
        desk.run(&["install", "--client", client, "--scope", "user"])
            .ok();
    }
    let exe = env!("CARGO_BIN_EXE_conclave");
    let args = json!([
        "bridge",
        "--config-dir",
        desk.home.path().display().to_string()
    ]);
    let claude = desk.json(".claude.json");
    assert_eq!(
        claude["mcpServers"]["conclave"],
        json!({"type": "stdio", "command": exe, "args": args, "env": {}})
    );
    let settings = desk.json(".claude/settings.json");
    assert_eq!(settings["permissions"]["allow"], json!(["mcp__conclave"]));
    let keys = desk.home.path().display().to_string();
    assert_eq!(
        settings["permissions"]["deny"],
        json!([format!("Read(/{keys}/**)"), format!("Edit(/{keys}/**)")])
    );
    let codex: Value = toml::from_str(&desk.text(".codex/config.toml")).unwrap();
    assert_eq!(
        codex["mcp_servers"]["conclave"],
        json!({"command": exe, "args": args})
    );
    for file in [".gemini/settings.json", ".cursor/mcp.json"] {
        let entry = desk.json(file)["mcpServers"]["conclave"].clone();
        assert_eq!(entry, json!({"command": exe, "args": args}), "{file}");
    }
    let words = [&[json!(exe)], args.as_array().unwrap().as_slice()].concat();
    assert_eq!(
        desk.json(".config/opencode/opencode.json")["mcp"]["conclave"],
        json!({"type": "local", "command": words, "enabled": true})
    );
}

#[test]
fn a_broken_file_is_refused_with_its_line_and_nothing_is_written() {
    for (client, file, text, line) in [
        (
            "claude",
            "project/.claude/settings.local.json",
            "{\n  \"a\": 1\n  \"b\": 2\n}",
            ":2:",
        ),
        (
            "claude",
            "project/.claude/settings.local.json",
            "{\"hooks\": []}",
            "hooks is not an object",
        ),
        (
            "claude",
            ".claude.json",
            "{\"projects\": {}, \"projects\": {}}",
            "projects is not there once",
        ),
        (
            "codex",
            "project/.codex/config.toml",
            "a = 1\nb = \n",
            ":2:",
        ),
        (
            "codex",
            "project/.codex/config.toml",
            "mcp_servers = { other = { command = \"x\" } }\n",
            "is not",
        ),
        (
            "opencode",
            "project/opencode.json",
            "[]",
            "the whole is not an object",
        ),
        ("gemini", "project/.gemini/settings.json", "{'a': 1}", ":1:"),
    ] {
        let desk = Desk::new();
        desk.put(file, text);
        let before = desk.tree();
        let refusal = desk.run(&["install", "--client", client, "--json"]);
        refusal.refused(8, "local");
        assert!(refusal.stdout.contains(line), "{refusal:?}");
        assert_eq!(desk.tree(), before, "{client} {text}");
    }
}

#[test]
fn somebody_elses_entry_is_replaced_by_force_only_and_comes_back() {
    for (client, file, text) in [
        (
            "gemini",
            ".gemini/settings.json",
            "{\"mcpServers\":{\"conclave\":{\"command\":\"theirs\"}}}",
        ),
        (
            "codex",
            ".codex/config.toml",
            "[mcp_servers.conclave]\ncommand = \"theirs\"\n",
        ),
    ] {
        let desk = Desk::new();
        desk.put(file, text);
        let before = desk.tree();
        let about = ["install", "--json", "--scope", "user", "--client", client];
        desk.run(&about).refused(7, "name_taken");
        assert_eq!(desk.tree(), before);
        desk.run(&[&about[..], &["--force"]].concat()).ok();
        assert!(!desk.text(file).contains("theirs"));
        // The host writes the file anew in between: the exact bytes are lost, the entry is not.
        let now = desk.text(file);
        desk.put(file, &format!("{now}\n"));
        desk.run(&["uninstall", "--scope", "user", "--client", client])
            .ok();
        assert!(desk.text(file).contains("theirs"), "{}", desk.text(file));
        assert!(!desk.text(file).contains("bridge"), "{}", desk.text(file));
    }
}

#[test]
fn two_projects_share_a_file_and_leave_it_one_by_one() {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("").join("other")).unwrap();
    desk.put(".claude.json", "{\n  \"theme\": \"dark\"\n}");
    let before = desk.tree();
    desk.run(&["install"]).ok();
    desk.run_in("other", &["install"]).ok();
    desk.run(&["uninstall"]).ok();
    let config = desk.json(".claude.json");
    let projects: Vec<&String> = config["projects"].as_object().unwrap().keys().collect();
    assert_eq!(projects, [&desk.path("other").display().to_string()]);
    desk.run_in("other", &["uninstall"]).ok();
    assert_eq!(desk.tree(), before);
}

#[test]
fn a_linked_file_stays_a_link_and_keeps_its_mode() {
    let desk = Desk::new();
    desk.put("dotfiles/settings.json", "{}\n");
    fs::create_dir_all(desk.path("").join(".gemini")).unwrap();
    symlink(
        "../dotfiles/settings.json",
        desk.path("").join(".gemini/settings.json"),
    )
    .unwrap();
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(desk.path("dotfiles/settings.json"), mode).unwrap();
    let before = desk.tree();
    desk.run(&["install", "--client", "gemini", "--scope", "user"])
        .ok();
    assert!(desk.text("dotfiles/settings.json").contains("bridge"));
    let link = fs::symlink_metadata(desk.home.file(".gemini/settings.json")).unwrap();
    assert!(link.is_symlink());
    let mode = fs::metadata(desk.path("dotfiles/settings.json"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    desk.run(&["uninstall", "--client", "gemini", "--scope", "user"])
        .ok();
    assert_eq!(desk.tree(), before);
}

#[test]
fn a_read_only_file_is_refused_before_anything_is_written() {
    let desk = Desk::new();
    desk.put("project/.claude/settings.local.json", "{}");
    let path = desk.path("project/.claude/settings.local.json");
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
    let before = desk.tree();
    let refusal = desk.run(&["install", "--json"]);
    refusal.refused(8, "local");
    assert!(refusal.stdout.contains("read-only"), "{refusal:?}");
    assert_eq!(desk.tree(), before);
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let desk = Desk::new();
    let before = desk.tree();
    let plan = desk.run(&["install", "--dry-run"]).ok();
    assert!(plan.stdout.contains("+ hooks.Stop[] = "), "{plan:?}");
    assert_eq!(desk.tree(), before);
    desk.run(&["install"]).ok();
    let installed = desk.tree();
    let plan = desk.run(&["uninstall", "--dry-run", "--json"]).ok().json();
    assert_eq!(plan["files"][0]["action"], "removed", "{plan}");
    assert_eq!(desk.tree(), installed);
}

#[test]
fn installs_at_the_same_time_do_not_mix() {
    let desk = Desk::new();
    let begin = desk.tree();
    let dirs: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    for dir in &dirs {
        fs::create_dir_all(desk.home.file(dir)).unwrap();
    }
    let all = |verb: &str| {
        let start = |dir: &String| {
            let mut command = desk.home.command(&[verb]);
            command.current_dir(desk.home.file(dir)).spawn().unwrap()
        };
        let children: Vec<_> = dirs.iter().map(start).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    };
    all("install");
    let config = desk.json(".claude.json");
    assert_eq!(
        config["projects"].as_object().unwrap().len(),
        dirs.len(),
        "{config}"
    );
    all("uninstall");
    for dir in &dirs {
        fs::remove_dir(desk.home.file(dir)).unwrap();
    }
    assert_eq!(desk.tree(), begin);
}

#[test]
fn a_work_tree_is_filed_under_its_main_repository() {
    let desk = Desk::new();
    desk.put("project/.git/worktrees/side/commondir", "../..\n");
    let git = desk
        .path("project/.git/worktrees/side")
        .display()
        .to_string();
    desk.put("side/.git", &format!("gitdir: {git}\n"));
    desk.put("side/deep/x", "");
    desk.run_in("side/deep", &["install"]).ok();
    let project = desk.path("project").display().to_string();
    assert!(desk.json(".claude.json")["projects"][&project]["mcpServers"]["conclave"].is_object());
    assert!(desk.path("side/.claude/settings.local.json").exists());
}

#[test]
fn a_project_s_link_that_leads_out_of_it_is_not_followed() {
    let desk = Desk::new();
    desk.put("elsewhere/settings.json", "{}\n");
    fs::create_dir_all(desk.path("project/.claude")).unwrap();
    let link = desk.path("project/.claude").join("settings.local.json");
    symlink(desk.path("elsewhere/settings.json"), link).unwrap();
    let ended = desk.run(&["install", "--scope", "local", "--client", "claude"]);
    assert_ne!(ended.code, 0);
    assert!(
        ended.stderr.contains("leads out of this project"),
        "{}",
        ended.stderr
    );
    assert_eq!(desk.text("elsewhere/settings.json"), "{}\n");
    assert!(!Path::new(&desk.home.file(".claude.json")).exists());
}
