//! The host's side of the pipes: JSON-RPC, line by line.

use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};

/// How long anything may take before it counts as a hang.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Wire {
    input: WriteHalf<DuplexStream>,
    output: BufReader<ReadHalf<DuplexStream>>,
    next_id: u64,
    /// Notifications that came while a call was waited for.
    pub(crate) pushed: Vec<Value>,
}

impl Wire {
    /// Returns the host's side, and what is stdin and stdout on the other one.
    pub(crate) fn new() -> (Self, ReadHalf<DuplexStream>, WriteHalf<DuplexStream>) {
        let (near, far) = duplex(1 << 20);
        let (output, input) = split(near);
        let (theirs_in, theirs_out) = split(far);
        let wire = Self {
            input,
            output: BufReader::new(output),
            next_id: 100,
            pushed: Vec::new(),
        };
        (wire, theirs_in, theirs_out)
    }

    /// Opens the session as the host does.
    pub(crate) async fn greet(&mut self) {
        self.line(&initialize().to_string()).await;
        assert_eq!(self.read().await["id"], 0);
        self.line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
    }

    pub(crate) async fn line(&mut self, line: &str) {
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    pub(crate) async fn read(&mut self) -> Value {
        let mut line = String::new();
        let read = tokio::time::timeout(TIMEOUT, self.output.read_line(&mut line)).await;
        read.expect("the session answers in time").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line:?}"))
    }

    /// Returns the next notification, whether it came already or not.
    pub(crate) async fn push(&mut self) -> Value {
        match self.pushed.is_empty() {
            true => self.read().await,
            false => self.pushed.remove(0),
        }
    }

    /// Sends a request and returns its id.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params});
        self.line(&request.to_string()).await;
        self.next_id
    }

    /// Reads up to the answer of a request.
    pub(crate) async fn answer(&mut self, id: u64) -> Value {
        loop {
            let value = self.read().await;
            if value["id"] == id {
                return value;
            }
            self.pushed.push(value);
        }
    }

    /// Reads a line, however long it takes.
    pub(crate) async fn line_in(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Reads up to the answer of a request that takes longer than others.
    pub(crate) async fn answer_within(&mut self, id: u64, time: Duration) -> Value {
        let read = async {
            loop {
                let value = self.line_in().await;
                if value["id"] == id {
                    return value;
                }
            }
        };
        tokio::time::timeout(time, read).await.unwrap()
    }

    /// Calls a tool: the facts of its first line, the text after it, and whether it failed.
    pub(crate) async fn call(&mut self, tool: &str, args: Value) -> (Value, String, bool) {
        let id = self
            .ask("tools/call", json!({"name": tool, "arguments": args}))
            .await;
        let answer = self.answer(id).await;
        outcome(&answer)
    }

    pub(crate) async fn tools(&mut self) -> Vec<String> {
        let id = self.ask("tools/list", json!({})).await;
        let answer = self.answer(id).await;
        let tools = answer["result"]["tools"].as_array().unwrap();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Ends the host's stream.
    pub(crate) async fn hang_up(&mut self) {
        self.input.shutdown().await.unwrap();
    }
}

/// A host without dialogs.
pub(crate) fn initialize() -> Value {
    initialize_with(json!({"roots": {"listChanged": true}}))
}

/// A host of these capabilities.
pub(crate) fn initialize_with(capabilities: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": capabilities,
        "clientInfo": {"name": "claude-code", "title": "Claude Code", "version": "2.1.329"}}})
}

pub(crate) fn outcome(answer: &Value) -> (Value, String, bool) {
    let content = answer["result"]["content"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(content.len(), 1, "one text block");
    assert!(answer["result"].get("structuredContent").is_none());
    let text = content[0]["text"].as_str().unwrap();
    let (facts, rest) = text.split_once('\n').unwrap_or((text, ""));
    let is_error = answer["result"]["isError"].as_bool().unwrap_or_default();
    (
        serde_json::from_str(facts).unwrap(),
        rest.to_owned(),
        is_error,
    )
}
