//! What the model is scripted to say, and what it was sent: decided by one thread that owns the script.

use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Requests that may wait to be looked at by a test.
const TURNS: usize = 4_096;

/// One thing the model says.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Text(String),
    Tool { name: String, input: Value },
}

impl Say {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// Calls a tool, named as the host names it.
    pub(crate) fn tool(name: &str, input: Value) -> Self {
        Self::Tool {
            name: name.to_owned(),
            input,
        }
    }

    /// Calls one of ours.
    pub(crate) fn ours(name: &str, input: Value) -> Self {
        Self::tool(&format!("mcp__conclave__{name}"), input)
    }
}

/// What the model says when it reads something new, once.
struct Rule {
    when: String,
    says: Vec<Say>,
    gate: Option<Receiver<()>>,
}

/// What the model answers, as soon as the gate is dropped.
pub(crate) struct Answer {
    pub(crate) says: Vec<Say>,
    pub(crate) gate: Option<Receiver<()>>,
}

/// A request of the conversation.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The whole body.
    pub(crate) body: Value,
    /// What it has that the model did not answer yet.
    pub(crate) fresh: String,
}

impl Turn {
    /// How often the model reads something in all of it.
    pub(crate) fn count(&self, text: &str) -> usize {
        read(&self.body["messages"]).matches(text).count()
    }

    /// All the model reads: instructions first.
    pub(crate) fn all(&self) -> String {
        format!(
            "{}\n{}",
            read(&self.body["system"]),
            read(&self.body["messages"])
        )
    }
}

enum Thought {
    Rule(Rule),
    Request { body: Value, answer: Sender<Answer> },
    Outside(String),
    Outsiders(Sender<Vec<String>>),
}

/// The side of the API's connections.
#[derive(Clone)]
pub(crate) struct Mind(SyncSender<Thought>);

impl Mind {
    /// Returns what to answer to a request.
    pub(crate) fn answer(&self, body: Value) -> Option<Answer> {
        let (answer, told) = channel();
        self.0.send(Thought::Request { body, answer }).ok()?;
        told.recv().ok()
    }

    /// Notes that the host wanted to reach another machine.
    pub(crate) fn outside(&self, whom: &str) {
        let _ended = self.0.send(Thought::Outside(whom.to_owned()));
    }
}

/// The side of the test.
pub(crate) struct Script {
    mind: Mind,
    pub(crate) turns: Receiver<Turn>,
}

impl Script {
    pub(crate) fn start() -> Self {
        let (mind, thoughts) = sync_channel(TURNS);
        let (tell, turns) = sync_channel(TURNS);
        std::thread::spawn(move || think(&thoughts, &tell));
        Self {
            mind: Mind(mind),
            turns,
        }
    }

    pub(crate) fn mind(&self) -> Mind {
        self.mind.clone()
    }

    /// Has the model say this once, when something new it reads contains `when`.
    pub(crate) fn rule(&self, when: &str, says: Vec<Say>, gate: Option<Receiver<()>>) {
        let when = when.to_owned();
        let rule = Rule { when, says, gate };
        self.mind.0.send(Thought::Rule(rule)).unwrap();
    }

    /// Returns whom the host wanted to reach besides the API.
    pub(crate) fn outsiders(&self) -> Vec<String> {
        let (answer, told) = channel();
        self.mind.0.send(Thought::Outsiders(answer)).unwrap();
        told.recv().unwrap()
    }
}

fn think(thoughts: &Receiver<Thought>, turns: &SyncSender<Turn>) {
    let mut rules: Vec<Rule> = Vec::new();
    let mut outside = Vec::new();
    for thought in thoughts {
        match thought {
            Thought::Rule(rule) => rules.push(rule),
            Thought::Outside(whom) => outside.push(whom),
            Thought::Outsiders(answer) => {
                let _gone = answer.send(outside.clone());
            }
            Thought::Request { body, answer } => {
                let fresh = fresh(&body);
                // Titles and probes carry no tools: they are no part of the conversation.
                let part = body["tools"]
                    .as_array()
                    .is_some_and(|tools| !tools.is_empty());
                let fits = rules.iter().position(|rule| fresh.contains(&rule.when));
                let rule = fits.filter(|_| part).map(|at| rules.remove(at));
                if part && turns.try_send(Turn { body, fresh }).is_err() {
                    return;
                }
                let (says, gate) = match rule {
                    Some(rule) => (rule.says, rule.gate),
                    None => (vec![Say::text("ok")], None),
                };
                let _gone = answer.send(Answer { says, gate });
            }
        }
    }
}

/// What stands behind the model's last words.
fn fresh(body: &Value) -> String {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let answered = messages
        .iter()
        .rposition(|message| message["role"] == "assistant");
    let new = &messages[answered.map_or(0, |at| at + 1)..];
    read(&json!(new))
}

/// The texts of messages or of their content, tool results included.
fn read(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(read).collect::<Vec<_>>().join("\n"),
        Value::Object(part) => match part.get("text").or_else(|| part.get("content")) {
            Some(inner) => read(inner),
            None => String::new(),
        },
        _ => String::new(),
    }
}
