//! One agent session of the demo: a real `conclave bridge` process, driven over MCP on its standard
//! input and output exactly as Claude Code does.

use crate::error::{CliError, Own};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long any step of the demo may take.
const STEP: Duration = Duration::from_secs(10);
/// What the host is told of a message.
const CHANNEL_EVENT: &str = "notifications/claude/channel";

/// A running bridge and what it said unasked.
pub(super) struct Agent {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    asked: u64,
    heard: VecDeque<Value>,
}

impl Agent {
    /// Starts a bridge with its own configuration directory and greets it.
    pub(super) async fn start(config_dir: &Path, handle: &str) -> Result<Self, CliError> {
        let program = std::env::current_exe().map_err(|e| broken(e.to_string()))?;
        let mut child = Command::new(program)
            .arg("--config-dir")
            .arg(config_dir)
            .args(["bridge", "--as", handle])
            .current_dir(config_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| broken(format!("the bridge does not start: {e}")))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(broken("the bridge has no standard input or output"));
        };
        let mut agent = Self {
            _child: child,
            stdin,
            stdout: BufReader::new(stdout).lines(),
            asked: 0,
            heard: VecDeque::new(),
        };
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "conclave-demo", "version": env!("CARGO_PKG_VERSION")},
        });
        agent.request("initialize", hello).await?;
        agent
            .write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await?;
        Ok(agent)
    }

    /// Calls a tool and returns the text of its answer.
    pub(super) async fn call(&mut self, tool: &str, arguments: Value) -> Result<String, CliError> {
        let params = json!({"name": tool, "arguments": arguments});
        let result = self.request("tools/call", params).await?;
        let text = result
            .pointer("/content/0/text")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if result
            .get("isError")
            .and_then(Value::as_bool)
            .unwrap_or(false)
        {
            return Err(broken(format!("{tool}: {text}")));
        }
        Ok(text.to_owned())
    }

    /// Waits for the next message and returns it as the host shows it to the model.
    pub(super) async fn hear(&mut self) -> Result<String, CliError> {
        let wait = async {
            loop {
                if let Some(event) = self.heard.pop_front() {
                    return Ok(as_tag(&event));
                }
                let message = self.read().await?;
                self.keep(message);
            }
        };
        timeout(STEP, wait)
            .await
            .map_err(|_| broken("no message came in time"))?
    }

    async fn request(&mut self, method: &str, params: Value) -> Result<Value, CliError> {
        self.asked += 1;
        let id = self.asked;
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await?;
        let wait = async {
            loop {
                let mut message = self.read().await?;
                if message.get("id").and_then(Value::as_u64) != Some(id) {
                    self.keep(message);
                } else if let Some(error) = message.get("error") {
                    return Err(broken(format!("{method}: {error}")));
                } else {
                    return Ok(message
                        .get_mut("result")
                        .map(Value::take)
                        .unwrap_or_default());
                }
            }
        };
        timeout(STEP, wait)
            .await
            .map_err(|_| broken(format!("{method}: no answer in time")))?
    }

    fn keep(&mut self, mut message: Value) {
        if message.get("method").and_then(Value::as_str) == Some(CHANNEL_EVENT) {
            self.heard
                .extend(message.get_mut("params").map(Value::take));
        }
    }

    async fn read(&mut self) -> Result<Value, CliError> {
        let line = self
            .stdout
            .next_line()
            .await
            .map_err(|e| broken(e.to_string()))?;
        let line = line.ok_or_else(|| broken("the bridge ended"))?;
        serde_json::from_str(&line).map_err(|e| broken(format!("not JSON: {e}")))
    }

    async fn write(&mut self, message: &Value) -> Result<(), CliError> {
        let line = format!("{message}\n");
        self.stdin
            .write_all(line.as_bytes())
            .await
            .map_err(|e| broken(e.to_string()))
    }
}

/// Renders a channel notification as Claude Code puts it before the model.
fn as_tag(event: &Value) -> String {
    let mut tag = "<channel source=\"conclave\"".to_owned();
    for (key, value) in event
        .get("meta")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        tag.push_str(&format!(
            " {key}=\"{}\"",
            value.as_str().unwrap_or_default()
        ));
    }
    let content = event
        .get("content")
        .and_then(Value::as_str)
        .unwrap_or_default();
    format!("{tag}>\n{content}\n</channel>")
}

fn broken(what: impl Into<String>) -> CliError {
    CliError::own(Own::Demo, what).hint("run again with -v and report what it says")
}
