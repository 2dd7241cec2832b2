//! The session's own socket: by it the host's hooks, the status line, `doctor` and the plugin's monitor reach
//! the one session they belong to (DECISIONS 39).
//!
//! A Unix socket of mode 0600 in a directory of mode 0700, one a bridge, with a note beside it that says whose
//! it is. It is found by what the host calls its session, never by directory. A connection carries one
//! question and its answers, each a JSON object on a line. Here are the words; [`find`] is the side that asks,
//! [`seat`] the bridge's.

pub mod above;
pub mod find;
pub mod seat;

use conclave_proto::desk::Signed;
use conclave_proto::id::Hash;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// The longest question or answer, in bytes.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// How many answers of one connection may wait to be written.
pub const ANSWERS: usize = 64;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// The host is at a boundary of its work: one answer, [`Answer::Hook`].
    Hook(Box<Hook>),
    /// The host wants a tool call approved: one [`Answer::Permit`], within the time a request lives.
    Permit(Box<Permit>),
    /// What the session knows of itself: one [`Answer::Facts`].
    Facts,
    /// Wake the agent, and wait for evidence that it woke: one [`Answer::Facts`].
    Prove,
    /// Tell whenever there is something to fetch: an [`Answer::Line`] each, until the asker goes.
    Monitor,
    /// Tell once when there is something to fetch: one [`Answer::Line`].
    Rewake,
    /// What is held back until a human allows it: one [`Answer::Holds`].
    Holds,
    /// A human allows it once: one [`Answer::Released`].
    Release {
        /// What.
        id: String,
        /// Of which digest.
        digest: Hash,
        /// By which owner key.
        signed: Signed,
    },
}

/// A boundary of the host's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A session started, came back, was cleared, compacted or forked.
    SessionStart,
    /// A prompt was given: by a human, or by something that wakes the session.
    Prompt,
    /// A tool is about to run.
    ToolStart,
    /// A tool has run.
    ToolEnd,
    /// The turn ends.
    Stop,
    /// The host waits for its human.
    Waiting,
    /// The session ends.
    SessionEnd,
}

/// What a hook says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// At which boundary.
    pub event: Event,
    /// What the host calls its session.
    #[serde(default)]
    pub session: Option<String>,
    /// At a start: `startup`, `resume`, `clear`, `compact` or `fork`; while waiting: for what.
    #[serde(default)]
    pub source: Option<String>,
    /// The prompt.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The tool, as the host names it.
    #[serde(default)]
    pub tool: Option<String>,
    /// Where the host writes what the model gets, if it does.
    #[serde(default)]
    pub transcript: Option<PathBuf>,
    /// At the end of a turn: a hook has kept it from ending already.
    #[serde(default)]
    pub continued: bool,
    /// What is answered reaches no model of the session: the host takes nothing there, or a subagent would have it.
    #[serde(default)]
    pub deaf: bool,
    /// The host's process, as it or the process table tells it.
    #[serde(default)]
    pub host_pid: Option<u32>,
    /// The host's own inbox.
    #[serde(default)]
    pub inbox: Option<String>,
}

/// A tool call that waits for a human.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Permit {
    /// The tool, as the host names it.
    pub tool: String,
    /// Its arguments.
    pub input: Value,
    /// What the host says it does.
    #[serde(default)]
    pub description: Option<String>,
    /// What the host calls its session.
    #[serde(default)]
    pub session: Option<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Ask::Hook`].
    Hook {
        /// What the model gets beside the event.
        #[serde(default)]
        context: Option<String>,
        /// At the end of a turn: why it goes on.
        #[serde(default)]
        go_on: Option<String>,
    },
    /// To [`Ask::Permit`]; without a verdict the host asks its own human alone.
    Permit {
        /// Whether the call may be made.
        #[serde(default)]
        allow: Option<bool>,
        /// Why not.
        #[serde(default)]
        message: Option<String>,
    },
    /// To [`Ask::Facts`] and [`Ask::Prove`].
    Facts(Value),
    /// To [`Ask::Monitor`] and [`Ask::Rewake`]: one line in our own words.
    Line {
        /// The line.
        text: String,
    },
    /// To [`Ask::Holds`].
    Holds {
        /// What is held.
        holds: Vec<Waiting>,
    },
    /// To [`Ask::Release`].
    Released {
        /// It may be sent once now.
        allowed: bool,
        /// Why not.
        #[serde(default)]
        why: String,
    },
    /// The question is not understood.
    Error {
        /// Why.
        message: String,
    },
}

/// Something that is held back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// By this it is allowed.
    pub id: String,
    /// What exactly is held.
    pub digest: Hash,
    /// The session that would send it.
    pub session: String,
    /// Where it would go.
    pub place: String,
    /// Why it is held.
    pub rule: String,
    /// How it begins, where that may be shown.
    #[serde(default)]
    pub excerpt: Option<String>,
    /// How long ago it was held.
    pub age_s: u64,
}

/// One question, as the session task gets it. The connection ends when `answers` is dropped; it is closed when
/// who asked has gone.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub ask: Ask,
    /// Takes the answers.
    pub answers: mpsc::Sender<Answer>,
}
