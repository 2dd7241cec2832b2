//! What the tests run on: configuration directories, the executable, a server, MCP sessions.

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A person's machine: one configuration directory.
pub(crate) struct Home {
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The one object of `--json`.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("not one JSON object: {e}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Asserts a typed failure with a hint.
    #[track_caller]
    pub(crate) fn refused(&self, exit: i32, code: &str) {
        let error = self.json();
        assert_eq!(error["error"], code, "{self:?}");
        assert_eq!(self.code, exit, "{self:?}");
        assert!(
            error["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
            "{self:?}"
        );
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("conclave")
    }

    /// The executable, away from this machine's own settings.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CONCLAVE_HOME", self.path())
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        outcome(self.command(args).output().unwrap())
    }

    /// Runs with text on standard input.
    pub(crate) fn pipe(&self, args: &[&str], input: &str) -> Outcome {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        outcome(child.wait_with_output().unwrap())
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

pub(crate) fn outcome(output: std::process::Output) -> Outcome {
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process in the background and the lines it writes; it ends with the value.
pub(crate) struct Background {
    child: Child,
    lines: Receiver<String>,
}

impl Background {
    pub(crate) fn start(mut command: Command) -> (Self, Option<ChildStdin>) {
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        (Self { child, lines }, stdin)
    }

    pub(crate) fn line(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line in time");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("not JSON: {e}: {line}"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `conclave up` by alice, and what it printed.
pub(crate) struct Up {
    pub(crate) home: Home,
    pub(crate) ready: Value,
    server: Option<Background>,
}

impl Up {
    pub(crate) fn start() -> Self {
        let mut up = Self {
            home: Home::new(),
            ready: Value::Null,
            server: None,
        };
        up.resume();
        up
    }

    /// Starts the server again, on the same directory.
    pub(crate) fn resume(&mut self) {
        let port: &[&str] = if self.ready.is_null() {
            &["--port", "0"]
        } else {
            &[]
        };
        self.resume_with(port);
    }

    /// Starts the server again, with these arguments.
    pub(crate) fn resume_with(&mut self, more: &[&str]) {
        self.server = None;
        let key = self.home.file("recovery.key");
        let mut args = vec![
            "up",
            "--json",
            "--user",
            "alice",
            "--machine",
            "desk",
            "--recovery-key-file",
            &key,
        ];
        args.extend(more);
        let (server, _) = Background::start(self.home.command(&args));
        self.ready = server.line();
        self.server = Some(server);
    }

    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    pub(crate) fn url(&self) -> &str {
        self.ready["url"].as_str().unwrap()
    }

    pub(crate) fn link(&self) -> &str {
        self.ready["link"].as_str().unwrap()
    }

    /// A second person on a second machine, by the link on standard input.
    pub(crate) fn guest(&self, user: &str, link: &str) -> Home {
        let home = Home::new();
        join(&home, user, link).ok();
        home
    }
}

/// `conclave serve` on a free loopback port, and what it printed.
pub(crate) struct Serve {
    pub(crate) ready: Value,
    _server: Background,
    _home: Home,
}

impl Serve {
    pub(crate) fn start(args: &[&str]) -> Self {
        let home = Home::new();
        let base = ["serve", "--listen", "127.0.0.1:0", "--json"];
        let (server, _) = Background::start(home.command(&[&base, args].concat()));
        Self {
            ready: server.line(),
            _server: server,
            _home: home,
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.ready["url"].as_str().unwrap()
    }
}

/// The texts that `tail --json` printed.
pub(crate) fn texts(outcome: &Outcome) -> Vec<String> {
    let object = outcome.json();
    let messages = object["messages"].as_array().unwrap();
    let text = |message: &Value| message["text"].as_str().unwrap().to_owned();
    messages.iter().map(text).collect()
}

/// `conclave join -` with the link piped in.
pub(crate) fn join(home: &Home, user: &str, link: &str) -> Outcome {
    let key = home.file("recovery.key");
    let args = [
        "join",
        "-",
        "--json",
        "--user",
        user,
        "--machine",
        "lap",
        "--recovery-key-file",
        &key,
    ];
    home.pipe(&args, link)
}

/// A bridge driven over MCP, as an agent host does.
pub(crate) struct Session {
    bridge: Background,
    stdin: ChildStdin,
    asked: u64,
    heard: Vec<Value>,
    /// What the bridge answered to `initialize`.
    pub(crate) welcome: Value,
}

impl Session {
    pub(crate) fn start(home: &Home, handle: &str) -> Self {
        Self::start_with(home, handle, &[])
    }

    /// Starts one with more arguments.
    pub(crate) fn start_with(home: &Home, handle: &str, more: &[&str]) -> Self {
        Self::run(home.command(&[&["bridge", "--as", handle], more].concat()))
    }

    /// Starts one whose working directory is `dir`.
    pub(crate) fn start_in(home: &Home, handle: &str, dir: &Path) -> Self {
        let mut command = home.command(&["bridge", "--as", handle]);
        command.current_dir(dir);
        Self::run(command)
    }

    pub(crate) fn run(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        let (bridge, stdin) = Background::start(command);
        let mut session = Self {
            bridge,
            stdin: stdin.unwrap(),
            asked: 0,
            heard: Vec::new(),
            welcome: Value::Null,
        };
        let probe = session.request(
            "server/discover",
            json!({"_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "claude-code", "version": "2.1.329"},
                "io.modelcontextprotocol/clientCapabilities": {"roots": {"listChanged": true}},
            }}),
        );
        assert_eq!(
            probe["error"]["code"], -32601,
            "the host must fall back to initialize"
        );
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"}});
        let welcome = session.request("initialize", hello);
        session.welcome = welcome["result"].clone();
        let channel = &session.welcome["capabilities"]["experimental"]["claude/channel"];
        assert_eq!(channel, &json!({}), "{welcome}");
        session.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        session
    }

    pub(crate) fn write(&mut self, message: &Value) {
        writeln!(self.stdin, "{message}").unwrap();
    }

    pub(crate) fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        self.answer(id)
    }

    /// Asks without waiting for the answer.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.asked += 1;
        let id = self.asked;
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Waits for an answer.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        if let Some(at) = self.heard.iter().position(|message| message["id"] == id) {
            return self.heard.remove(at);
        }
        loop {
            let message = self.bridge.line();
            if message["id"] == id {
                return message;
            }
            self.heard.push(message);
        }
    }

    /// Calls a tool; returns whether it failed, and its text.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> (bool, String) {
        let answer = self.request("tools/call", json!({"name": tool, "arguments": arguments}));
        let result = &answer["result"];
        let text = result["content"][0]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(!text.is_empty(), "{answer}");
        (result["isError"] == true, text)
    }

    /// Calls a tool that must succeed.
    #[track_caller]
    pub(crate) fn must(&mut self, tool: &str, arguments: Value) -> String {
        let (failed, text) = self.call(tool, arguments);
        assert!(!failed, "{tool}: {text}");
        text
    }

    /// Waits for the next message that is put before the model.
    pub(crate) fn hear(&mut self) -> Value {
        self.note("notifications/claude/channel")
    }

    /// Waits for the next notification of a kind; returns what it says.
    pub(crate) fn note(&mut self, method: &str) -> Value {
        loop {
            let push = |m: &Value| m["method"] == method;
            if let Some(at) = self.heard.iter().position(push) {
                return self.heard.remove(at)["params"].clone();
            }
            let message = self.bridge.line();
            self.heard.push(message);
        }
    }
}

/// Makes a file or directory readable for everybody.
pub(crate) fn loosen(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
