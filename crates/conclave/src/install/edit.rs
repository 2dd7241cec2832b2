//! What is put into a host's configuration, and what can be wrong with the file that it goes to.
//!
//! An edit names its place by keys, so that it can be found and taken out again after the host has rewritten
//! the file. How a syntax carries it is for [`super::json`] and [`super::section`].

use crate::error::{CliError, Own};
use conclave_proto::reject::Code;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Whether an edit is a member of an object or an element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A member: there is one of it, and another's is not overwritten.
    Member,
    /// A member that is left as it is where there is one already.
    Default,
    /// An element, beside those of others.
    Element,
}

/// One thing of ours in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Edit {
    /// Where: the keys from the top, the last one ours; for an element those of its list.
    pub(crate) at: Vec<String>,
    /// What it is.
    pub(crate) kind: Kind,
    /// What stands there.
    pub(crate) value: Value,
    /// What stood there before and comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) was: Option<Value>,
}

impl Edit {
    /// A member.
    pub(crate) fn member(at: &[&str], value: Value) -> Self {
        Self::new(at, Kind::Member, value)
    }

    /// An element of a list.
    pub(crate) fn element(at: &[&str], value: Value) -> Self {
        Self::new(at, Kind::Element, value)
    }

    /// Something of this kind.
    pub(crate) fn new(at: &[&str], kind: Kind, value: Value) -> Self {
        Self {
            at: at.iter().map(|&key| key.to_owned()).collect(),
            kind,
            value,
            was: None,
        }
    }

    /// Returns whether both put the same thing in the same place, whatever stood there before.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.at == other.at && self.kind == other.kind && self.value == other.value
    }

    /// Returns the place as people write it.
    pub(crate) fn place(&self) -> String {
        let list = if self.kind == Kind::Element { "[]" } else { "" };
        format!("{}{list}", self.at.join("."))
    }
}

/// What an edited file looks like.
#[derive(Debug, Default)]
pub(crate) struct Edited {
    /// All of it.
    pub(crate) text: String,
    /// What was put in.
    pub(crate) done: Vec<Edit>,
    /// The objects and lists that were made to hold it.
    pub(crate) made: Vec<Vec<String>>,
    /// What was left alone, and why.
    pub(crate) notes: Vec<String>,
}

/// Why a file cannot be edited.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is not what its name says.
    Syntax {
        /// Which line, from 1, where that is known.
        line: Option<usize>,
        /// What is wrong.
        why: String,
    },
    /// Something in it has another shape than the host documents.
    Shape {
        /// Where.
        at: String,
        /// What should be there.
        want: &'static str,
    },
    /// Somebody else's entry has the name.
    Taken {
        /// Where.
        at: String,
    },
}

impl Broken {
    /// Says it of a file, with what to do.
    pub(crate) fn of(&self, path: &Path) -> CliError {
        let path = path.display();
        match self {
            Self::Syntax { line, why } => {
                let line = line.map(|line| format!(":{line}")).unwrap_or_default();
                CliError::own(Own::Local, format!("{path}{line}: {why}"))
                    .hint("nothing was written; correct the file, then try again")
            }
            Self::Shape { at, want } => {
                CliError::own(Own::Local, format!("{path}: {at} is not {want}"))
                    .hint("nothing was written; correct the file, then try again")
            }
            Self::Taken { at } => CliError::coded(
                &Code::NameTaken,
                format!("{path}: {at} is there and runs another program"),
            )
            .hint("nothing was written; rename that entry, or replace it with --force"),
        }
    }
}

/// Returns whether an MCP entry runs this program's bridge, from wherever it lies.
pub(crate) fn runs_our_bridge(entry: &Value) -> bool {
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let list = |key: &str| -> Vec<String> {
        match entry.get(key) {
            Some(Value::Array(words)) => words.iter().filter_map(word).collect(),
            Some(Value::String(one)) => vec![one.clone()],
            _ => Vec::new(),
        }
    };
    let words = [list("command"), list("args")].concat();
    let program = words.first().map(Path::new).and_then(Path::file_name);
    program.is_some_and(|name| name == "conclave")
        && words.iter().any(|word| word == "bridge" || word == "mcp")
}
