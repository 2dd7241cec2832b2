//! The bridge: spawn to `initialize`, memory, tool call to notification. Needs the release binary
//! beside this program's folder: `cargo build --release -p conclave` first.

use crate::say;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// One bridge process and its MCP wire.
pub(crate) struct Bridge {
    pub(crate) child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    id: u64,
}

impl Bridge {
    pub(crate) fn spawn(program: &Path, home: &Path, handle: &str) -> Self {
        Self::spawn_in(program, home, handle, &[])
    }

    /// Starts one with what its host gives it.
    pub(crate) fn spawn_in(
        program: &Path,
        home: &Path,
        handle: &str,
        host: &[(&str, &str)],
    ) -> Self {
        let mut child = Command::new(program)
            .arg("--config-dir")
            .arg(home)
            .args(["bridge", "--as", handle])
            .env_clear()
            .envs(host.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let input = child.stdin.take().expect("stdin is piped");
        let output = child.stdout.take().expect("stdout is piped");
        Self {
            child,
            input,
            output: BufReader::new(output).lines(),
            id: 0,
        }
    }

    async fn write(&mut self, line: &Value) {
        let text = format!("{line}\n");
        self.input
            .write_all(text.as_bytes())
            .await
            .expect("the bridge reads");
    }

    async fn read(&mut self) -> Value {
        let line = self
            .output
            .next_line()
            .await
            .expect("the bridge writes")
            .expect("a line");
        serde_json::from_str(&line).unwrap_or_default()
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let id = self.id;
        let request = json!({"jsonrpc":"2.0","id":id,"method":method,"params":params});
        self.write(&request).await;
        loop {
            let line = self.read().await;
            if line["id"] == id {
                return line;
            }
        }
    }

    pub(crate) async fn initialize(&mut self) {
        let params = json!({"protocolVersion":"2025-11-25","capabilities":{},
            "clientInfo":{"name":"bench","version":"1"}});
        self.call("initialize", params).await;
        self.write(&json!({"jsonrpc":"2.0","method":"notifications/initialized"}))
            .await;
    }

    pub(crate) async fn tool(&mut self, name: &str, arguments: Value) -> Value {
        self.call("tools/call", json!({"name":name,"arguments":arguments}))
            .await
    }
}

/// Returns the release binary, if it was built.
pub(crate) fn binary() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let path = here.parent()?.parent()?.join("conclave");
    path.exists().then_some(path)
}

/// Part `bridge`.
pub(crate) async fn figures() {
    let Some(program) = binary() else {
        return say(
            "bridge: skipped, for there is no release binary (cargo build --release -p conclave)",
        );
    };
    let (dir, mut up) = start(&program).await;
    let home = dir.path().join("home");
    cold_starts(&program, &home).await;
    let made = Command::new(&program)
        .arg("--config-dir")
        .arg(&home)
        .args(["channel", "create", "town", "--visibility", "public"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await;
    assert!(
        made.expect("the binary starts").success(),
        "a channel is made"
    );
    // By turns, so that what else the machine does falls on both alike.
    let (mut sealed, mut signed) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let tag = format!("e{pair}");
        sealed.extend(latency(&program, &home, &tag, "general").await);
        let tag = format!("s{pair}");
        signed.extend(latency(&program, &home, &tag, "town").await);
    }
    let (sealed, signed) = (tell("e2e", sealed), tell("signed", signed));
    let verdict = crate::bare::verdict(sealed / signed, 1.5);
    say(&format!("  p50, e2e to signed: {verdict}"));
    up.kill().await.ok();
}

/// Starts a server with an account, for a bridge to have.
pub(crate) async fn start(program: &Path) -> (tempfile::TempDir, Child) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let home = dir.path().join("home");
    let mut up = Command::new(program)
        .arg("--config-dir")
        .arg(&home)
        .args([
            "up",
            "--port",
            "0",
            "--user",
            "bench",
            "--recovery-key-file",
        ])
        .arg(dir.path().join("recovery"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let out = up.stdout.take().expect("stdout is piped");
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("mcp add") {
            break;
        }
    }
    (dir, up)
}

async fn cold_starts(program: &Path, home: &Path) {
    let mut taken = Vec::new();
    let mut resident = 0;
    for _ in 0..21 {
        let start = Instant::now();
        let mut bridge = Bridge::spawn(program, home, "cold");
        bridge.initialize().await;
        taken.push(start.elapsed().as_secs_f64() * 1000.0);
        bridge.tool("list_channels", json!({})).await;
        resident = crate::process::resident_kb(bridge.child.id().unwrap_or(0));
        drop(bridge.input);
        bridge.child.wait().await.ok();
    }
    taken.sort_by(f64::total_cmp);
    say(&format!(
        "bridge: spawn to the answer of initialize, median {:.1} ms; {resident} KB resident once connected",
        taken[taken.len() / 2]
    ));
}

/// Fresh pairs, for an agent may say only so much in a while.
const PAIRS: usize = 7;
const MESSAGES: usize = 15;

/// Milliseconds from a tool call of one bridge to the notification of another, in one channel.
async fn latency(program: &Path, home: &Path, tag: &str, channel: &str) -> Vec<f64> {
    let mut taken = Vec::new();
    let mut a = Bridge::spawn(program, home, &format!("a{tag}"));
    let mut b = Bridge::spawn(program, home, &format!("b{tag}"));
    a.initialize().await;
    b.initialize().await;
    a.tool("who", json!({})).await;
    b.tool("list_channels", json!({})).await;
    for n in 0..MESSAGES {
        let text = format!("message {n} of pair {tag}: the tests of module {n} pass now");
        let start = Instant::now();
        a.id += 1;
        let arguments = json!({"channel": channel, "text": text});
        let params = json!({"name": "send_channel", "arguments": arguments});
        a.write(&json!({"jsonrpc":"2.0","id":a.id,"method":"tools/call","params":params}))
            .await;
        loop {
            let line = b.read().await;
            let pushed = line["method"] == "notifications/claude/channel";
            if pushed && line["params"]["content"].to_string().contains(&text) {
                break;
            }
        }
        taken.push(start.elapsed().as_secs_f64() * 1000.0);
        while a.read().await["id"] != a.id {}
    }
    taken
}

/// Says what a mode came to; returns its middle.
fn tell(mode: &str, mut taken: Vec<f64>) -> f64 {
    taken.sort_by(f64::total_cmp);
    let middle = taken[taken.len() / 2];
    say(&format!(
        "{mode}: tool call on A to notification on B, {} messages: p50 {middle:.2} ms, p99 {:.2} ms",
        taken.len(),
        taken[taken.len() * 99 / 100]
    ));
    middle
}
