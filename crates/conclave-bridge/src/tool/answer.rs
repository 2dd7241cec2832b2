//! What a tool call comes to: one text block whose first line is compact JSON of our own facts;
//! peer text only after it, in frames (DECISIONS 28).

use super::args::Object;
use crate::outbound::hold::Hold;
use crate::render::sanitise::sanitise;
use conclave_proto::reject::{Code, Reject};
use serde_json::{Value, json};

/// The most bytes of one answer: the host keeps larger ones away from the model.
pub const ANSWER_BYTES_MAX: usize = 40 * 1024;

/// The most things named that could be meant.
const CANDIDATES_MAX: usize = 8;

/// A success.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    facts: Object,
    frames: Vec<String>,
}

impl Answer {
    /// Starts with `{"ok":true}`.
    #[must_use]
    pub fn ok() -> Self {
        Self::default().with("ok", true)
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(key.to_owned(), value.into());
        self
    }

    /// Adds peer text that went through the renderer.
    #[must_use]
    pub fn frames(mut self, frames: impl IntoIterator<Item = String>) -> Self {
        self.frames.extend(frames);
        self
    }

    /// Leaves out what members of a channel wrote: a person muted it.
    #[must_use]
    pub fn muted(mut self) -> Self {
        self.frames.clear();
        self.with("muted", true)
    }

    /// Returns the text block.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = Value::Object(self.facts.clone()).to_string();
        for frame in &self.frames {
            text.push('\n');
            text.push_str(frame);
        }
        text
    }
}

/// A refusal or failure, as the agent reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: String,
    message: String,
    hint: String,
    retry_after_ms: Option<u64>,
    candidates: Vec<String>,
    held: Option<Box<Hold>>,
}

impl Failure {
    /// Makes one of the codes that only tools have.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>, hint: &str) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            hint: hint.into(),
            retry_after_ms: None,
            candidates: Vec::new(),
            held: None,
        }
    }

    /// Says that a human can allow it once.
    #[must_use]
    pub fn held(mut self, hold: Hold) -> Self {
        self.held = Some(Box::new(hold));
        self
    }

    /// Returns whether a human can allow it.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Returns what a human can allow.
    #[must_use]
    pub fn into_held(self) -> Option<Box<Hold>> {
        self.held
    }

    /// The host sent arguments that do not fit.
    #[must_use]
    pub fn arguments(message: impl Into<String>) -> Self {
        Self::new(
            "invalid_arguments",
            message,
            "call the tool again with the arguments of its schema",
        )
    }

    /// The level of the scope does not let the agent send.
    #[must_use]
    pub fn level(scope: &str, level: crate::policy::Level) -> Self {
        let text = format!("the level of {scope} is {level}: you may read, not send");
        Self::new(
            "level",
            text,
            "your human can raise it with `conclave perm set`",
        )
    }

    /// Several things could be meant.
    #[must_use]
    pub fn ambiguous(what: &str, candidates: Vec<String>) -> Self {
        let text = format!("several {what} could be meant");
        Self::new("ambiguous", text, "name one of the candidates").candidates(candidates)
    }

    /// Adds what could be meant, the first few.
    #[must_use]
    pub fn candidates(mut self, mut candidates: Vec<String>) -> Self {
        candidates.truncate(CANDIDATES_MAX);
        self.candidates = candidates;
        self
    }

    /// Returns the code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the text block; server words are cleaned and on one line.
    #[must_use]
    pub fn to_text(&self, unread: usize) -> String {
        let message: String = sanitise(&self.message).text.chars().take(300).collect();
        let mut value = json!({
            "error": self.code,
            "message": message.replace('\n', " "),
            "hint": self.hint,
            "unread": unread,
        });
        if let Some(ms) = self.retry_after_ms {
            value["retry_after_ms"] = ms.into();
        }
        if !self.candidates.is_empty() {
            value["candidates"] = self.candidates.clone().into();
        }
        value.to_string()
    }
}

impl From<crate::guard::Stop> for Failure {
    fn from(stop: crate::guard::Stop) -> Self {
        Self {
            hint: stop.hint.to_owned(),
            ..stop.reject.into()
        }
    }
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Self {
        let hint = reject.code.hint();
        let code = match &reject.code {
            Code::Unknown(_) => "unknown".to_owned(),
            code => code.as_str().to_owned(),
        };
        Self {
            retry_after_ms: reject.retry_after_ms,
            ..Self::new(&code, reject.message, hint)
        }
    }
}
