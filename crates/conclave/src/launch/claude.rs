//! What Claude Code is started with: its own arguments, and of ours what is not installed already.

use super::{Ours, Plan, text};
use crate::install::hooks;
use crate::text::one_line as visible;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// By which Claude Code takes a server's messages as they come. It takes any number of values, so that nothing
/// but an option may follow.
const CHANNELS: &str = "--dangerously-load-development-channels";
/// What it knows our server by.
const SERVER: &str = "conclave";
/// The largest configuration file that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How many directories upwards a project's own files are looked for.
const UPWARDS_MAX: usize = 64;

/// Where Claude Code keeps what it is told.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Its main file, with servers by scope.
    pub(crate) main: PathBuf,
    /// Its directory, with settings and plugins.
    pub(crate) dir: PathBuf,
    /// Where it is started.
    pub(crate) here: PathBuf,
}

impl Places {
    /// Finds them: `CLAUDE_CONFIG_DIR`, else the user's home directory.
    pub(crate) fn find(config: Option<PathBuf>, user_home: Option<PathBuf>, here: PathBuf) -> Self {
        let (main, dir) = match (config, user_home) {
            (Some(dir), _) => (dir.join(".claude.json"), dir),
            (None, home) => {
                let home = home.unwrap_or_default();
                (home.join(".claude.json"), home.join(".claude"))
            }
        };
        Self { main, dir, here }
    }
}

/// What of ours Claude Code knows here without being told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The plugin, as `name@marketplace`.
    pub(crate) plugin: Option<String>,
    /// The command of our server, where one is registered.
    pub(crate) server: Option<Vec<String>>,
    /// Some hook runs our hook command.
    pub(crate) hooks: bool,
    /// What the project's own file would start under our name, and is not ours.
    pub(crate) foreign: Option<Vec<String>>,
}

impl Known {
    /// Reads the files.
    pub(crate) fn read(places: &Places) -> Self {
        let main = parse(&places.main).unwrap_or_default();
        let upwards = || places.here.ancestors().take(UPWARDS_MAX);
        let project = |dir: &Path| {
            let projects = main.get("projects")?;
            server_in(projects.get(dir.to_str()?)?)
        };
        let mut foreign = None;
        let mut shared = |dir: &Path| {
            let command = server_in(&parse(&dir.join(".mcp.json"))?)?;
            let ours = is_ours(&command, dir);
            foreign = foreign.take().or_else(|| (!ours).then(|| command.clone()));
            ours.then_some(command)
        };
        let server = upwards()
            .find_map(project)
            .or_else(|| upwards().find_map(&mut shared))
            .or_else(|| server_in(&main));
        let settings = [
            places.dir.join("settings.json"),
            places.here.join(".claude/settings.json"),
            places.here.join(".claude/settings.local.json"),
        ];
        let settings: Vec<_> = settings.iter().filter_map(|path| parse(path)).collect();
        let plugin = plugin(&places.dir, &settings);
        let hooks = plugin.is_some() || settings.iter().any(has_hooks);
        Self {
            plugin,
            server,
            hooks,
            foreign,
        }
    }
}

fn parse(path: &Path) -> Option<Value> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(CONFIG_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn server_in(config: &Value) -> Option<Vec<String>> {
    let entry = config.get("mcpServers")?.get(SERVER)?;
    let words = entry.get("args").and_then(Value::as_array);
    let words = words.into_iter().flatten().filter_map(Value::as_str);
    let command = entry.get("command").and_then(Value::as_str);
    Some(
        command
            .into_iter()
            .chain(words)
            .map(str::to_owned)
            .collect(),
    )
}

/// Returns whether what a project's file starts under our name is this program: whoever wrote the project wrote
/// that file, too, and could put another one in the project, or have ours use a directory of its own.
fn is_ours(command: &[String], project: &Path) -> bool {
    let program = command.first().map_or_else(|| Path::new(""), Path::new);
    let elsewhere = program.is_absolute() && !program.starts_with(project);
    let named = program.file_name().is_some_and(|name| name == SERVER);
    let plain = |word: &String| word == "bridge" || word == "mcp";
    named
        && (elsewhere || program == Path::new(SERVER))
        && command.iter().skip(1).any(plain)
        && !command.iter().any(|word| word.starts_with("--config-dir"))
}

/// Returns our plugin, if it is installed and not switched off.
fn plugin(dir: &Path, settings: &[Value]) -> Option<String> {
    let installed = parse(&dir.join("plugins/installed_plugins.json"))?;
    let plugins = installed.get("plugins")?.as_object()?;
    let ours = |name: &&String| name.split_once('@').is_some_and(|(name, _)| name == SERVER);
    let name = plugins.keys().find(ours)?;
    let off = |settings: &Value| {
        let enabled = settings.get("enabledPlugins");
        enabled.and_then(|all| all.get(name)) == Some(&Value::Bool(false))
    };
    (!settings.iter().any(off)).then(|| name.clone())
}

fn has_hooks(settings: &Value) -> bool {
    let events = settings.get("hooks").and_then(Value::as_object);
    let groups = events.into_iter().flat_map(|events| events.values());
    let groups = groups.filter_map(Value::as_array).flatten();
    let hooks = groups.filter_map(|group| group.get("hooks")?.as_array());
    hooks.flatten().any(|hook| {
        let command = hook.get("command").and_then(Value::as_str).unwrap_or("");
        let args = hook.get("args").and_then(Value::as_array);
        let args = args.into_iter().flatten().filter_map(Value::as_str);
        let mut words = command.split_whitespace().chain(args);
        command.contains(SERVER) && words.any(|word| word.trim_end_matches(';') == "hook")
    })
}

/// Decides what Claude Code is started with: the person's arguments, and of ours what it does not know.
pub(crate) fn plan(rest: &[OsString], known: &Known, ours: &Ours, channel: Channel) -> Plan {
    let mut notes = Vec::new();
    let strict = rest.iter().any(|arg| text(arg) == "--strict-mcp-config");
    let mut added: Vec<OsString> = Vec::new();
    let told = rest.iter().any(|arg| is_option(arg, "--settings"));
    match (known.hooks, told) {
        (true, _) => {}
        (false, false) => added.extend(["--settings".into(), hooks(ours).to_string().into()]),
        (false, true) => notes.push(
            "your own --settings are used: without our hooks the agent sees what is new when it checks, or waits"
                .to_owned(),
        ),
    }
    if (known.server.is_none() && known.plugin.is_none()) || strict {
        added.extend(["--mcp-config".into(), server(ours).to_string().into()]);
    }
    let (mut kept, mut values) = take_channels(rest);
    // By our name the host would listen to that one.
    let channel = match &known.foreign {
        Some(command) if known.plugin.is_none() => {
            notes.push(format!(
                "this project's .mcp.json starts `{}` under the name {SERVER}: that is not this program. Refuse it when the agent asks; messages are not shown as they come here",
                visible(&command.join(" "))
            ));
            Channel::LeftOut
        }
        _ => channel,
    };
    let value = match (&known.plugin, strict) {
        (Some(plugin), false) => format!("plugin:{plugin}"),
        _ => format!("server:{SERVER}"),
    };
    match channel {
        Channel::Asked if !values.iter().any(|known| *known == *value) => {
            values.insert(0, value.into());
        }
        Channel::Asked | Channel::LeftOut => {}
    }
    if !values.is_empty() {
        added.push(CHANNELS.into());
        added.append(&mut values);
    }
    // Behind `--` there are words for the model only.
    let at = kept.iter().position(|arg| text(arg) == "--");
    let at = at.unwrap_or(kept.len());
    kept.splice(at..at, added);
    Plan {
        arguments: kept,
        notes,
    }
}

/// Whether messages are to be shown as they come, where the host lets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// They are.
    Asked,
    /// They are not.
    LeftOut,
}

fn is_option(argument: &OsString, name: &str) -> bool {
    let rest = text(argument).strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// Takes the channels out of the person's arguments: what is left, and the channels, each once.
fn take_channels(rest: &[OsString]) -> (Vec<OsString>, Vec<OsString>) {
    let (mut kept, mut values) = (Vec::new(), Vec::<OsString>::new());
    let mut rest = rest.iter().peekable();
    while let Some(argument) = rest.next() {
        if text(argument) == "--" {
            kept.push(argument.clone());
            kept.extend(rest.cloned());
            break;
        }
        if !is_option(argument, CHANNELS) {
            kept.push(argument.clone());
            continue;
        }
        let mut found = Vec::new();
        found.extend(
            text(argument)
                .split_once('=')
                .map(|(_, value)| value.into()),
        );
        let is_channel = |word: &&OsString| {
            ["server:", "plugin:"]
                .iter()
                .any(|s| text(word).starts_with(s))
        };
        while let Some(value) = rest.next_if(is_channel) {
            found.push(value.clone());
        }
        for value in found {
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }
    (kept, values)
}

fn server(ours: &Ours) -> Value {
    json!({"mcpServers": {SERVER: {
        "type": "stdio", "command": ours.program, "args": ours.arguments("bridge"),
    }}})
}

fn hooks(ours: &Ours) -> Value {
    let run = |command: &str| hooks::line(&ours.program, Some(&ours.home), command);
    json!({ "hooks": hooks::claude_object(&run) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn planned(rest: &str, known: &Known, channel: Channel) -> String {
        let ours = Ours {
            program: "/bin/conclave".into(),
            home: "/h".into(),
        };
        let plan = plan(&words(rest), known, &ours, channel);
        let short = |arg: &OsString| match text(arg) {
            json if json.starts_with("{\"hooks") => "HOOKS".to_owned(),
            json if json.starts_with("{\"mcpServers") => "SERVER".to_owned(),
            word => word.to_owned(),
        };
        let all: Vec<_> = plan.arguments.iter().map(short).collect();
        all.join(" ")
    }

    fn installed() -> Known {
        Known {
            plugin: None,
            server: Some(Vec::new()),
            hooks: true,
            foreign: None,
        }
    }

    #[test]
    fn the_channel_is_named_once_wherever_the_person_named_it() {
        let known = installed();
        let flag = CHANNELS;
        for (rest, want) in [
            (String::new(), format!("{flag} server:conclave")),
            (
                format!("{flag} server:conclave --model x"),
                format!("--model x {flag} server:conclave"),
            ),
            (
                format!("{flag}=server:conclave {flag} server:conclave"),
                format!("{flag} server:conclave"),
            ),
            (
                format!("{flag} server:other hello"),
                format!("hello {flag} server:conclave server:other"),
            ),
            (
                format!("-p -- {flag} server:conclave"),
                format!("-p {flag} server:conclave -- {flag} server:conclave"),
            ),
        ] {
            assert_eq!(planned(&rest, &known, Channel::Asked), want, "{rest}");
        }
        assert_eq!(planned("--model x", &known, Channel::LeftOut), "--model x");
    }

    #[test]
    fn what_is_installed_is_not_given_again() {
        let nothing = Known::default();
        let given = planned("", &nothing, Channel::LeftOut);
        assert_eq!(given, "--settings HOOKS --mcp-config SERVER");
        assert_eq!(planned("", &installed(), Channel::LeftOut), "");
        let plugin = Known {
            plugin: Some("conclave@somewhere".into()),
            server: None,
            hooks: true,
            foreign: None,
        };
        let given = planned("", &plugin, Channel::Asked);
        assert_eq!(given, format!("{CHANNELS} plugin:conclave@somewhere"));
        // Only servers that are named count then, so that ours has to be.
        let strict = planned("--strict-mcp-config", &plugin, Channel::Asked);
        assert_eq!(
            strict,
            format!("--strict-mcp-config --mcp-config SERVER {CHANNELS} server:conclave")
        );
    }

    #[test]
    fn nothing_dangerous_is_added_that_the_person_did_not_write() {
        let given = planned("", &Known::default(), Channel::Asked);
        assert!(!given.contains("skip-permissions"), "{given}");
        let given = planned(
            "--dangerously-skip-permissions",
            &installed(),
            Channel::LeftOut,
        );
        assert_eq!(given, "--dangerously-skip-permissions");
    }

    #[test]
    fn settings_of_the_person_are_not_overridden() {
        let given = planned("--settings mine.json", &Known::default(), Channel::LeftOut);
        assert_eq!(given, "--settings mine.json --mcp-config SERVER");
    }

    #[test]
    fn what_claude_code_knows_is_read_from_every_scope() {
        let root = tempfile::tempdir().unwrap();
        let here = root.path().join("work/deep");
        std::fs::create_dir_all(here.join(".claude")).unwrap();
        let places = Places::find(None, Some(root.path().to_owned()), here.clone());
        assert_eq!(Known::read(&places), Known::default());

        let entry =
            json!({"mcpServers": {"conclave": {"command": "/x/conclave", "args": ["bridge"]}}});
        let command = Some(vec!["/x/conclave".to_owned(), "bridge".to_owned()]);
        let project = root.path().join("work").display().to_string();
        for (path, text) in [
            (&places.main, entry.to_string()),
            (
                &places.main,
                json!({"projects": {project: entry}}).to_string(),
            ),
            (&root.path().join("work/.mcp.json"), entry.to_string()),
        ] {
            std::fs::write(path, text).unwrap();
            assert_eq!(Known::read(&places).server, command, "{path:?}");
            std::fs::remove_file(path).unwrap();
        }

        for hook in [
            json!({"command": "/x/conclave hook"}),
            json!({"command": "test -x '/x/conclave' && exec '/x/conclave' hook; exit 0"}),
            json!({"command": "/x/conclave", "args": ["--config-dir", "/h", "hook"]}),
        ] {
            let settings = json!({"hooks": {"Stop": [{"hooks": [hook]}]}});
            std::fs::write(
                here.join(".claude/settings.local.json"),
                settings.to_string(),
            )
            .unwrap();
            assert!(Known::read(&places).hooks, "{hook}");
        }
        std::fs::write(&places.main, "{ broken").unwrap();
        assert_eq!(Known::read(&places).server, None);
    }

    #[test]
    fn a_project_that_starts_something_else_under_our_name_gets_no_channel() {
        let root = tempfile::tempdir().unwrap();
        let here = root.path().join("work");
        std::fs::create_dir_all(&here).unwrap();
        let places = Places::find(None, Some(root.path().to_owned()), here.clone());
        let inside = here.join("conclave").display().to_string();
        let table: &[&[&str]] = &[
            &["./conclave", "bridge"],
            &[&inside, "bridge"],
            &["sh", "-c", "conclave bridge"],
            &["conclave", "--config-dir", "here", "bridge"],
            &["conclave\u{1b}]0;x\u{7}", "bridge"],
        ];
        for command in table {
            let entry = json!({"command": command[0], "args": command[1..]});
            let text = json!({"mcpServers": {"conclave": entry}}).to_string();
            std::fs::write(here.join(".mcp.json"), text).unwrap();
            let known = Known::read(&places);
            assert_eq!(known.server, None, "{command:?}");
            let ours = Ours {
                program: "/bin/conclave".into(),
                home: "/h".into(),
            };
            let plan = plan(&[], &known, &ours, Channel::Asked);
            assert!(!plan.arguments.iter().any(|arg| text_is(arg, CHANNELS)));
            let [note] = &plan.notes[..] else {
                panic!("{:?}", plan.notes)
            };
            assert!(
                note.contains("not this program") && !note.contains('\u{1b}'),
                "{note}"
            );
        }
    }

    fn text_is(arg: &OsString, word: &str) -> bool {
        text(arg) == word
    }
}
