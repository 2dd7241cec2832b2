//! The host on its stage: a server of alice's, bob's machine with the host on it, a scripted model.

use crate::hooks::Without;
use crate::script::{Say, Script, Turn};
use crate::terminal::Terminal;
use crate::world::{Home, Session, Up, outcome};
use crate::{api, find};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// How long a host that was told to end may take.
const LEAVE: Duration = Duration::from_secs(5);

/// No key of anybody.
const KEY: &str = "sk-ant-none-of-anybody-0000000000000000";

/// Bob's session in the host, as peers see it.
pub(crate) const AGENT: &str = "bob/lap/agent";

/// Everything but the host.
pub(crate) struct Stage {
    pub(crate) up: Up,
    pub(crate) bob: Home,
    pub(crate) script: Script,
    api: SocketAddr,
    claude: &'static Path,
    seen: Option<Turn>,
    /// The host's session, as peers see it.
    pub(crate) agent: String,
}

/// How the host is started.
#[derive(Default)]
pub(crate) struct Setup {
    /// `conclave install` registers us, and what of it is left out; else our server alone is registered.
    pub(crate) installed: Option<Without>,
    /// More of its environment.
    pub(crate) env: Vec<(&'static str, String)>,
    /// More arguments.
    pub(crate) args: Vec<String>,
    /// Registers no server of ours: a plugin does.
    pub(crate) bare: bool,
}

impl Stage {
    /// Sets it up, where there is a host.
    pub(crate) fn new() -> Option<Self> {
        let claude = find::claude()?;
        let up = Up::start();
        let bob = up.guest("bob", up.link());
        let script = Script::start();
        let api = api::start(script.mind());
        let work = bob.file("work");
        std::fs::create_dir_all(work).unwrap();
        let seen = None;
        Some(Self {
            up,
            bob,
            script,
            api,
            claude,
            seen,
            agent: AGENT.to_owned(),
        })
    }

    /// Alice's session, a bridge driven by the test; in #general.
    pub(crate) fn peer(&self) -> Session {
        let mut peer = Session::start(&self.up.home, "api");
        peer.must("join_channel", json!({"channel": "general"}));
        peer
    }

    /// The host's working directory, as the host names it.
    pub(crate) fn work(&self) -> PathBuf {
        Path::new(&self.bob.file("work")).canonicalize().unwrap()
    }

    /// Answers once with these words, when the model reads something new with `when` in it.
    pub(crate) fn when(&self, when: &str, says: Vec<Say>) {
        self.script.rule(when, says, None);
    }

    /// As [`Self::when`], but the model answers only when the gate is dropped.
    pub(crate) fn hold(&self, when: &str, says: Vec<Say>) -> Sender<()> {
        let (gate, opened) = channel();
        self.script.rule(when, says, Some(opened));
        gate
    }

    /// What the host calls its session, as its bridge knows it.
    pub(crate) fn session(&self) -> Value {
        let files = std::fs::read_dir(self.bob.path().join("run")).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        let note = paths.find(|path| path.extension().is_some_and(|e| e == "json"));
        let note = std::fs::read(note.expect("the bridge has a note")).unwrap();
        // It is being written, perhaps.
        let note: Value = serde_json::from_slice(&note).unwrap_or_default();
        note["session"].clone()
    }

    /// Waits until peers see the host's session so.
    #[track_caller]
    pub(crate) fn shows(&self, peer: &mut Session, key: &str, value: &Value) {
        until(|| {
            let peers = peer.must("list_peers", json!({}));
            let facts = facts(&peers);
            let rows = facts["peers"].as_array().cloned().unwrap_or_default();
            let row = rows.into_iter().find(|row| row["to"] == self.agent);
            match row {
                Some(row) if row[key] == *value => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Waits until something of the host takes what goes by a way.
    #[track_caller]
    pub(crate) fn listens(&self, path: &str) {
        until(|| {
            let status = self.bob.run(&["status", "--json"]).ok().json();
            let paths = &status["live"][0]["facts"]["wake"]["paths"];
            let mut rows = paths.as_array().into_iter().flatten();
            match rows.find(|row| row["path"] == path && row["state"] != "none") {
                Some(_) => Ok(()),
                None => Err(status["live"].to_string()),
            }
        });
    }

    /// Alice's agent says something to the host's; returns when the host's bridge has it.
    #[track_caller]
    pub(crate) fn tell(&self, peer: &mut Session, message: &str, priority: &str) {
        let sent = peer.must(
            "send_message",
            json!({"to": self.agent, "message": message, "priority": priority}),
        );
        let id = facts(&sent)["id"].clone();
        until(|| {
            let status = peer.must("message_status", json!({"id": id}));
            match facts(&status)["recipients"][0]["step"].as_str() {
                None | Some("queued" | "stored") => Err(status),
                Some(_) => Ok(()),
            }
        });
    }

    /// Waits for a request with something new in it.
    #[track_caller]
    pub(crate) fn turn(&mut self, fresh: &str) -> Turn {
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            match self.script.turns.recv_timeout(left) {
                Ok(turn) if turn.fresh.contains(fresh) => return turn,
                Ok(other) => self.seen = Some(other),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let last = self.seen.as_ref().map(|turn| &turn.fresh);
                    panic!("the model was not sent {fresh:?}; last: {last:?}");
                }
            }
        }
    }

    /// The host's command line, away from this machine's own settings.
    pub(crate) fn command(&self, setup: &Setup) -> Command {
        let dir = PathBuf::from(self.bob.file(".claude"));
        std::fs::create_dir_all(&dir).unwrap();
        let work = self.work();
        let trusted =
            json!({"hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true});
        // What the host asks at its first start has been answered.
        let mut config = json!({"hasCompletedOnboarding": true, "theme": "dark", "numStartups": 5,
            "customApiKeyResponses": {"approved": [&KEY[KEY.len() - 20..]], "rejected": []},
            "projects": {work.to_str().unwrap(): trusted}});
        if setup.installed.is_none() && !setup.bare {
            config["mcpServers"] = json!({"conclave": {"type": "stdio",
                "command": env!("CARGO_BIN_EXE_conclave"), "args": ["bridge", "--as", "agent"]}});
        }
        let settings =
            json!({"permissions": {"allow": ["mcp__conclave", "mcp__plugin_conclave_conclave"]}});
        std::fs::write(dir.join(".claude.json"), config.to_string()).unwrap();
        std::fs::write(dir.join("settings.json"), settings.to_string()).unwrap();
        if let Some(without) = setup.installed {
            let mut install = self.bob.command(&["install", "--as", "agent"]);
            install.current_dir(&work).env("CLAUDE_CONFIG_DIR", &dir);
            outcome(install.output().unwrap()).ok();
            let settings = work.join(".claude/settings.local.json");
            without.strip(&dir.join(".claude.json"), &settings);
        }
        let api = format!("http://{}", self.api);
        let plain = self.bob.command(&[]);
        let mut host = Command::new(self.claude);
        host.env_clear();
        for (key, value) in plain.get_envs() {
            host.env(key, value.unwrap_or_default());
        }
        host.current_dir(work)
            .env("CLAUDE_CONFIG_DIR", &dir)
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("ANTHROPIC_BASE_URL", &api)
            .env("ANTHROPIC_API_KEY", KEY)
            .env("HTTPS_PROXY", &api)
            .env("HTTP_PROXY", &api)
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("GIT_SSH_COMMAND", "false");
        for off in [
            "DISABLE_TELEMETRY",
            "DISABLE_ERROR_REPORTING",
            "DISABLE_AUTOUPDATER",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL",
        ] {
            host.env(off, "1");
        }
        host.envs(setup.env.iter().map(|(key, value)| (key, value)))
            .args(["--permission-mode", "default"])
            .args(&setup.args);
        host
    }

    /// `claude -p`: one prompt, to its end.
    pub(crate) fn print(&self, setup: &Setup, prompt: &str) -> String {
        let mut command = self.command(setup);
        command
            .args(["-p", prompt])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut host = Running::start(command);
        host.ends(PATIENCE);
        let mut text = String::new();
        let (out, err) = (host.child.stdout.take(), host.child.stderr.take());
        std::io::Read::read_to_string(&mut out.unwrap(), &mut text).unwrap();
        std::io::Read::read_to_string(&mut err.unwrap(), &mut text).unwrap();
        text
    }

    /// Starts the host on a terminal, and waits until it takes prompts and its bridge is there.
    pub(crate) fn start(&mut self, setup: &Setup, peer: &mut Session) -> Host {
        let (terminal, theirs) = Terminal::open();
        let mut command = self.command(setup);
        let [stdin, stdout, stderr] = Terminal::streams(&theirs);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let mut host = Host {
            running: Running::start(command),
            terminal,
        };
        host.draws(0, "❯");
        self.shows(peer, "online", &json!(true));
        host
    }

    /// Nothing but the API was reached for.
    #[track_caller]
    pub(crate) fn nothing_left_the_machine(&self) {
        let outsiders = self.script.outsiders();
        assert!(outsiders.is_empty(), "{outsiders:?}");
    }
}

/// A process group that ends with the value.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().unwrap();
        Self { child }
    }

    /// Whether it ended within a time.
    fn left(&mut self, within: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < within {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        false
    }

    #[track_caller]
    pub(crate) fn ends(&mut self, within: Duration) {
        assert!(self.left(within), "it does not end");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // Nobody is left of the group, perhaps.
        let _gone = kill_process_group(pid, signal);
    }

    /// The host's process alone dies at once.
    pub(crate) fn dies(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::TERM);
            self.left(LEAVE);
        }
        self.signal(Signal::KILL);
        let _reaped = self.child.wait();
    }
}

/// The host on a terminal.
pub(crate) struct Host {
    pub(crate) running: Running,
    terminal: Terminal,
}

impl Host {
    /// Waits until something was drawn since a place; white space does not count.
    #[track_caller]
    pub(crate) fn draws(&mut self, place: usize, text: &str) {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        until(|| {
            let drawn = self.terminal.since(place);
            match drawn.contains(&text) {
                true => Ok(()),
                false => Err(format!("{text:?} is not in {drawn}")),
            }
        });
    }

    /// Types a line, as the human does.
    #[track_caller]
    pub(crate) fn types(&mut self, line: &str) {
        let place = self.terminal.place();
        self.terminal.press(line);
        // Return right behind a paste would be part of it.
        self.draws(place, line);
        self.terminal.press("\r");
    }

    /// Presses keys until something is drawn after it: the host ignores keys that come too soon after a
    /// dialog opened.
    #[track_caller]
    pub(crate) fn presses(&mut self, keys: &str, text: &str) {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let place = self.terminal.place();
        until(|| {
            self.terminal.press(keys);
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                if self.terminal.since(place).contains(&text) {
                    return Ok(());
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
            Err(format!("{text:?} is not in {}", self.terminal.since(place)))
        });
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.terminal.press(keys);
    }

    /// A place to look from, for what is drawn later.
    pub(crate) fn place(&mut self) -> usize {
        self.terminal.place()
    }
}

/// Our own facts, the first line of a tool's answer.
fn facts(text: &str) -> Value {
    let line = text.lines().next().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Looks again until something is there.
#[track_caller]
pub(crate) fn until<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if start.elapsed() > PATIENCE => panic!("not in time; last: {last}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
}
