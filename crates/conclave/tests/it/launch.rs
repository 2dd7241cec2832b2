//! `conclave launch`: a made-up agent writes down what it is given, and starts its bridge as agents do.

use crate::world::{Home, Outcome, Session, Up, outcome};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the agent wrote down.
struct Seen(Value);

impl Seen {
    fn args(&self) -> Vec<&str> {
        let args = self.0["args"].as_array().unwrap();
        args.iter().map(|arg| arg.as_str().unwrap()).collect()
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.0["env"][name].as_str()
    }
}

/// An agent in a directory of its own: a script that notes its arguments, variables and process, says whether it
/// has a terminal, and then does `then`.
struct Agent {
    dir: PathBuf,
}

impl Agent {
    fn new(home: &Home, name: &str, then: &str) -> Self {
        let dir = PathBuf::from(home.file("bin"));
        fs::create_dir_all(&dir).unwrap();
        let script = format!(
            "#!/bin/sh\n\
             {{ echo \"pid=$$\"; for arg in \"$@\"; do printf 'arg=%s\\n' \"$arg\"; done; \
             [ -t 0 ] && [ -t 2 ] && echo tty=yes; env | sed 's/^/env=/'; }} > '{0}/seen'\n{then}\n",
            dir.display()
        );
        let path = dir.join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap();
        format!("{}:{path}", self.dir.display())
    }

    fn command(&self, home: &Home, args: &[&str]) -> Command {
        let mut command = home.command(&[&["launch"], args].concat());
        command.env("PATH", self.path());
        command
    }

    fn run(&self, home: &Home, args: &[&str]) -> Outcome {
        outcome(self.command(home, args).output().unwrap())
    }

    fn seen(&self) -> Seen {
        let text = fs::read_to_string(self.dir.join("seen")).unwrap();
        let mut seen = json!({"args": [], "env": {}, "pid": null, "tty": false});
        for line in text.lines() {
            match line.split_once('=') {
                Some(("pid", pid)) => seen["pid"] = json!(pid),
                Some(("arg", arg)) => seen["args"].as_array_mut().unwrap().push(json!(arg)),
                Some(("tty", _)) => seen["tty"] = json!(true),
                Some(("env", pair)) => {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    seen["env"][name] = json!(value);
                }
                _ => {}
            }
        }
        Seen(seen)
    }
}

/// An agent that starts its bridge as a child, on its own input and output.
const BRIDGE: &str = concat!("'", env!("CARGO_BIN_EXE_conclave"), "' bridge\nexit $?");

/// The first line of a tool's answer.
fn facts(text: &str) -> Value {
    serde_json::from_str(text.lines().next().unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// What a session is called on its server.
fn path_of(session: &mut Session) -> String {
    let listed = facts(&session.must("list_channels", json!({})));
    listed["servers"][0]["you"].as_str().unwrap().to_owned()
}

/// What a session says of itself, once others can see it.
fn profile_of(session: &mut Session) -> Value {
    for _ in 0..400 {
        let peers = facts(&session.must("list_peers", json!({"channel": "general"})));
        let rows = peers["peers"].as_array().unwrap();
        let own = rows.iter().find(|row| row["you"] == true);
        match own {
            Some(own) if own.get("role").is_some() => return own.clone(),
            _ => std::thread::park_timeout(std::time::Duration::from_millis(50)),
        }
    }
    panic!("a session says nothing of itself");
}

#[test]
fn a_launched_agent_is_who_it_was_told_to_be_with_a_clean_environment() {
    let up = Up::start();
    let agent = Agent::new(&up.home, "claude", BRIDGE);
    let mut command = agent.command(
        &up.home,
        &[
            "--name",
            "web",
            "--role",
            "dev",
            "--groups",
            "eng/backend:lead",
            "--yes",
            "--quiet",
            "--",
            "--model",
            "x",
        ],
    );
    command
        .env("CLAUDECODE", "1")
        .env("CLAUDE_CODE_SESSION_ID", "parent")
        .env("CLAUDE_CODE_MESSAGING_SOCKET", "/parent.sock")
        .env("CLAUDE_CODE_USE_BEDROCK", "1")
        .env("CLAUDE_CONFIG_DIR", up.home.file("claude-config"))
        .env("CONCLAVE_SERVER", "elsewhere");
    let mut session = Session::run(command);
    assert_eq!(path_of(&mut session), "alice/desk/web");
    let profile = profile_of(&mut session);
    assert_eq!(profile["role"], "dev", "{profile}");
    assert_eq!(profile["groups"], json!(["eng/backend:lead"]), "{profile}");

    let seen = agent.seen();
    assert_eq!(seen.args()[..2], ["--model", "x"]);
    let flags = seen.args();
    let channels = flags
        .iter()
        .filter(|arg| **arg == "--dangerously-load-development-channels");
    assert_eq!(channels.count(), 1, "{flags:?}");
    assert_eq!(flags.last(), Some(&"server:conclave"));
    assert!(!flags.contains(&"--dangerously-skip-permissions"));
    for gone in [
        "CLAUDECODE",
        "CLAUDE_CODE_SESSION_ID",
        "CLAUDE_CODE_MESSAGING_SOCKET",
        "CONCLAVE_SERVER",
    ] {
        assert_eq!(seen.variable(gone), None, "{gone}");
    }
    assert_eq!(seen.variable("CLAUDE_CODE_USE_BEDROCK"), Some("1"));
    assert!(seen.variable("CLAUDE_CONFIG_DIR").is_some());
    assert_eq!(seen.variable("CONCLAVE_HOME"), up.home.path().to_str());
}

#[test]
fn lesson_34_the_agent_is_the_process_itself_and_its_exit_code_counts() {
    let up = Up::start();
    let agent = Agent::new(
        &up.home,
        "claude",
        "cat > \"$(dirname \"$0\")/typed\"; exit 43",
    );
    let mut child = agent
        .command(&up.home, &["--yes"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"typed for the agent")
        .unwrap();
    let ended = outcome(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 43, "{ended:?}");
    assert_eq!(agent.seen().0["pid"], json!(pid));
    assert_eq!(ended.stdout, "", "standard output is the agent's");
    assert!(ended.stderr.contains("alice/desk/"), "{ended:?}");
    assert!(
        ended.stderr.contains("No message raises a level"),
        "{ended:?}"
    );
    let typed = fs::read_to_string(agent.dir.join("typed")).unwrap();
    assert_eq!(typed, "typed for the agent");
}

#[test]
fn without_a_terminal_nothing_is_asked_and_without_an_account_nothing_starts() {
    let home = Home::new();
    let agent = Agent::new(&home, "claude", "exit 0");
    let none = agent.run(&home, &["--json"]);
    none.refused(8, "no_server");
    assert!(!agent.dir.join("seen").exists());

    let up = Up::start();
    let agent = Agent::new(&up.home, "claude", "exit 0");
    agent.run(&up.home, &[]).ok();
    agent
        .run(&up.home, &["--channel", "nowhere", "--json"])
        .refused(3, "not_found");
    agent
        .run(&up.home, &["--name", "Not A Name", "--json"])
        .refused(2, "name_invalid");
    let none = agent.run(&up.home, &["--agent", "no-such-agent", "--json"]);
    none.refused(8, "local");
}

#[test]
fn a_link_is_followed_before_the_agent_starts() {
    let up = Up::start();
    let home = Home::new();
    let agent = Agent::new(&home, "claude", BRIDGE);
    let key = home.file("recovery.key");
    let mut command = agent.command(
        &home,
        &[
            "--join",
            up.link(),
            "--recovery-key-file",
            &key,
            "--name",
            "lap",
            "--yes",
            "--quiet",
        ],
    );
    command.env("USER", "bob");
    // Nothing of joining is on standard output, where the host reads MCP.
    let mut session = Session::run(command);
    let path = path_of(&mut session);
    assert!(path.starts_with("bob/") && path.ends_with("/lap"), "{path}");
}

#[test]
fn two_launches_of_one_name_do_not_meet() {
    let up = Up::start();
    let agent = Agent::new(&up.home, "claude", BRIDGE);
    let mut first = Session::run(agent.command(&up.home, &["--name", "web", "--yes", "--quiet"]));
    assert_eq!(path_of(&mut first), "alice/desk/web");
    let second = agent.run(&up.home, &["--name", "web", "--yes", "--quiet", "--json"]);
    second.refused(7, "handle_taken");

    // Without a name the next number is taken.
    let unnamed = |agent: &Agent| Session::run(agent.command(&up.home, &["--yes", "--quiet"]));
    let (mut one, mut two) = (unnamed(&agent), unnamed(&agent));
    let (one, two) = (path_of(&mut one), path_of(&mut two));
    assert_ne!(one, two);
    drop(first);
}

#[test]
fn a_conversation_that_is_taken_up_keeps_who_it_was() {
    let up = Up::start();
    let agent = Agent::new(&up.home, "claude", BRIDGE);
    let given = ["--name", "web", "--role", "dev", "--yes", "--quiet"];
    let mut first = Session::run(agent.command(&up.home, &given));
    assert_eq!(path_of(&mut first), "alice/desk/web");
    drop(first);
    let again = ["--yes", "--quiet", "--", "--continue"];
    let mut again = Session::run(agent.command(&up.home, &again));
    assert_eq!(path_of(&mut again), "alice/desk/web");
    assert_eq!(profile_of(&mut again)["role"], "dev");
    drop(again);
    // Anew is anew.
    let mut anew = Session::run(agent.command(&up.home, &["--yes", "--quiet"]));
    assert_ne!(path_of(&mut anew), "alice/desk/web");
}

#[test]
fn a_wrapper_between_changes_nothing_and_a_nested_agent_is_somebody_else() {
    let up = Up::start();
    let wrapped = format!(
        "sh -c '{BRIDGE}; true'",
        BRIDGE = BRIDGE.replace('\'', "\"").replace('\n', "; ")
    );
    let agent = Agent::new(&up.home, "claude", &wrapped);
    let mut session = Session::run(agent.command(&up.home, &["--name", "web", "--yes", "--quiet"]));
    assert_eq!(path_of(&mut session), "alice/desk/web");
    drop(session);

    // The first bridge goes and stays away; then an agent below starts one of its own.
    let nested = format!(
        "'{0}' bridge </dev/null >/dev/null 2>&1\nsh -c '\"{0}\" bridge; exit 0'\nexit 0",
        env!("CARGO_BIN_EXE_conclave")
    );
    let agent = Agent::new(&up.home, "claude", &nested);
    let mut session = Session::run(agent.command(&up.home, &["--name", "web", "--yes", "--quiet"]));
    assert_ne!(path_of(&mut session), "alice/desk/web");
}

#[test]
fn what_crashed_launches_left_is_swept_and_nothing_else() {
    let up = Up::start();
    let agent = Agent::new(&up.home, "claude", "exit 0");
    // Nobody has this number: it is above what Linux gives out.
    let dead = 4_194_305;
    let run = up.home.path().join("run");
    let launches = up.home.path().join("launches");
    for dir in [&run, &launches] {
        fs::create_dir_all(dir).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let own = std::process::id();
    let gone = [
        launches.join(format!("{dead}.json")),
        launches.join(format!("{dead}.taken")),
        run.join(format!("{dead}.json")),
        run.join(format!("{dead}.sock")),
        run.join(format!(".{dead}.json.{dead}")),
    ];
    let kept = [
        run.join("notes.txt"),
        run.join(format!("{own}.json")),
        launches.join("mine.json"),
    ];
    for path in gone.iter().chain(&kept) {
        fs::write(path, "{}").unwrap();
    }
    agent.run(&up.home, &["--yes", "--quiet"]).ok();
    for path in gone {
        assert!(!path.exists(), "{path:?}");
    }
    for path in kept {
        assert!(path.exists(), "{path:?}");
    }
}

/// A terminal, and the file of its other end.
fn terminal() -> (File, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let mut options = File::options();
    let slave = options
        .read(true)
        .write(true)
        .open(Path::new(name.to_str().unwrap()));
    (File::from(master), slave.unwrap())
}

#[test]
fn a_person_is_asked_a_line_each_and_the_terminal_is_handed_over() {
    let up = Up::start();
    let agent = Agent::new(
        &up.home,
        "claude",
        "read line; echo \"agent got $line\"; exit 7",
    );
    let (mut master, slave) = terminal();
    let mut command = agent.command(&up.home, &["--role", "dev"]);
    command
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop((command, slave));
    // Name, groups, consent; all typed ahead, with what is for the agent behind.
    master
        .write_all(b"Bad Name\npanel\n\ny\nfor the agent\n")
        .unwrap();
    let mut shown = String::new();
    let mut bytes = [0; 4096];
    // The terminal ends with who has it open.
    while let Ok(read @ 1..) = master.read(&mut bytes) {
        shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert_eq!(child.wait().unwrap().code(), Some(7), "{shown}");
    for words in [
        "Name of this session",
        "Groups",
        "Start? [Y/n]",
        "alice/desk/panel",
        "agent got for the agent",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(
        !shown.contains("Role"),
        "what was given is not asked: {shown}"
    );
    assert_eq!(agent.seen().0["tty"], json!(true));
}

#[test]
fn who_says_no_starts_nothing() {
    let up = Up::start();
    let agent = Agent::new(&up.home, "claude", "exit 0");
    let (mut master, slave) = terminal();
    let mut command = agent.command(
        &up.home,
        &["--name", "web", "--role", "dev", "--groups", "eng"],
    );
    command
        .stdin(slave.try_clone().unwrap())
        .stdout(Stdio::null())
        .stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    master.write_all(b"n\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(!agent.dir.join("seen").exists());
}
