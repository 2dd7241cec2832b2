//! The Messages API as far as the host uses it, on 127.0.0.1; also the proxy that lets nothing out.

use crate::script::{Answer, Mind, Say};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// The largest request that is read.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an answer may be held back.
const GATE: Duration = Duration::from_secs(60);

/// Answers on a free port until the process ends.
pub(crate) fn start(mind: Mind) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mind = mind.clone();
            // Whoever hangs up early loses its answer, nothing else.
            std::thread::spawn(move || serve(stream, &mind).unwrap_or_default());
        }
    });
    address
}

/// One request, one answer; the connection ends.
fn serve(stream: TcpStream, mind: &Mind) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((key, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if key.eq_ignore_ascii_case("content-length") {
            bytes = value.trim().parse().unwrap_or(0).min(BODY_BYTES_MAX);
        }
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body)?;
    let mut words = first.split_whitespace();
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = path.split('?').next().unwrap_or_default();
    match (method, path) {
        ("POST", "/v1/messages") => {
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let streamed = body["stream"] == true;
            let Some(answer) = mind.answer(body) else {
                return Ok(());
            };
            speak(stream, answer, streamed)
        }
        ("POST", "/v1/messages/count_tokens") => {
            reply(stream, "200 OK", &json!({"input_tokens": bytes / 4}))
        }
        ("CONNECT", whom) => {
            mind.outside(whom);
            reply(stream, "403 Forbidden", &json!({"error": "offline"}))
        }
        _ => {
            if path.starts_with("http") {
                mind.outside(path);
            }
            let error = json!({"type": "not_found_error", "message": "not here"});
            reply(
                stream,
                "404 Not Found",
                &json!({"type": "error", "error": error}),
            )
        }
    }
}

fn reply(mut stream: TcpStream, status: &str, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let bytes = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// The model's answer, as events or at once.
fn speak(stream: TcpStream, answer: Answer, streamed: bool) -> std::io::Result<()> {
    if let Some(gate) = answer.gate {
        // The test opens it by dropping its side; it sends nothing.
        let _opened = gate.recv_timeout(GATE);
    }
    let id = || format!("{:016x}", getrandom::u64().unwrap_or_default());
    let block = |say: &Say| match say {
        Say::Text(text) => json!({"type": "text", "text": text}),
        Say::Tool { name, input } => json!({"type": "tool_use", "id": format!("toolu_{}", id()),
            "name": name, "input": input}),
    };
    let blocks: Vec<Value> = answer.says.iter().map(block).collect();
    let calls = answer.says.iter().any(|s| matches!(s, Say::Tool { .. }));
    let stop = if calls { "tool_use" } else { "end_turn" };
    let mut message = json!({"id": format!("msg_{}", id()), "type": "message", "role": "assistant",
        "model": "scripted", "content": blocks, "stop_reason": stop, "stop_sequence": null,
        "usage": {"input_tokens": 1, "output_tokens": 1,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}});
    if !streamed {
        return reply(stream, "200 OK", &message);
    }
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    let mut out = Events(stream);
    out.0.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
    )?;
    out.event("message_start", json!({"message": message}))?;
    for (index, block) in blocks.iter().enumerate() {
        let (mut start, delta) = (block.clone(), part(block));
        match block["type"] == "text" {
            true => start["text"] = json!(""),
            false => start["input"] = json!({}),
        }
        out.event(
            "content_block_start",
            json!({"index": index, "content_block": start}),
        )?;
        out.event(
            "content_block_delta",
            json!({"index": index, "delta": delta}),
        )?;
        out.event("content_block_stop", json!({"index": index}))?;
    }
    out.event(
        "message_delta",
        json!({"delta": {"stop_reason": stop, "stop_sequence": null}, "usage": {"output_tokens": 1}}),
    )?;
    out.event("message_stop", json!({}))
}

/// A block's content, as one delta.
fn part(block: &Value) -> Value {
    match block["type"] == "text" {
        true => json!({"type": "text_delta", "text": block["text"]}),
        false => {
            json!({"type": "input_json_delta", "partial_json": block["input"].to_string()})
        }
    }
}

/// A stream of server-sent events.
struct Events(TcpStream);

impl Events {
    fn event(&mut self, kind: &str, mut data: Value) -> std::io::Result<()> {
        data["type"] = json!(kind);
        write!(self.0, "event: {kind}\ndata: {data}\n\n")
    }
}
