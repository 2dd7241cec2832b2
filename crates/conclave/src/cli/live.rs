//! The sessions that run on this machine, as their bridges tell of themselves by their sockets.

use conclave_bridge::control::find::{self, Note};
use conclave_bridge::control::{Answer, Ask};
use conclave_bridge::launched;
use serde_json::{Value, json};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a session has to tell what it knows.
const FACTS: Duration = Duration::from_secs(2);

/// A session whose bridge runs.
#[derive(Debug)]
pub(crate) struct Live {
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// Whose it is.
    pub(crate) note: Note,
    /// What it says of itself, or why it does not.
    pub(crate) facts: Result<Value, String>,
}

impl Live {
    /// Returns a fact, by its path in the object; nothing is known of a session that does not answer.
    pub(crate) fn fact(&self, pointer: &str) -> &Value {
        let facts = self.facts.as_ref().ok();
        let fact = facts.and_then(|facts| facts.pointer(pointer));
        fact.unwrap_or(&Value::Null)
    }

    /// Returns a fact that is a word.
    pub(crate) fn word(&self, pointer: &str) -> Option<&str> {
        self.fact(pointer).as_str()
    }

    /// Returns what to call it: its path, else its handle, else its process.
    pub(crate) fn name(&self) -> String {
        let named = self.word("/path").or_else(|| self.word("/handle"));
        named.map_or_else(|| format!("process {}", self.note.pid), str::to_owned)
    }

    /// Returns what keeps it from working as it should, a word or two each.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Err(why) = &self.facts {
            troubles.push(why.clone());
        }
        let held = |what: &str| self.fact(&format!("/guard/{what}")).as_bool() == Some(true);
        if held("paused") {
            troubles.push("paused".to_owned());
        }
        if held("quiet") {
            troubles.push("quiet hours".to_owned());
        }
        let parted = self.fact("/guard/parted").as_array();
        let parted = parted.into_iter().flatten();
        let with = parted.filter_map(|pair| pair["with"].as_str());
        troubles.extend(with.map(|with| format!("parted from {with}")));
        let asked = self.fact("/desk/pending").as_u64().unwrap_or(0);
        if asked > 0 {
            troubles.push(format!("{asked} to approve"));
        }
        troubles
    }

    /// Returns it for programs: who it is, and what it says of itself.
    pub(crate) fn object(&self) -> Value {
        let facts = self.facts.as_ref().ok();
        json!({
            "session": self.name(), "pid": self.note.pid, "cwd": self.note.cwd,
            "facts": facts, "error": self.facts.as_ref().err(),
        })
    }

    /// Returns its handle, if it says one.
    pub(crate) fn handle(&self) -> Option<&str> {
        self.word("/handle")
    }
}

/// Asks every session of this machine.
pub(crate) fn all(home: &Path) -> Vec<Live> {
    let mut notes = find::notes(home);
    notes.retain(|(_, note)| launched::is_alive(note.pid));
    notes.sort_by_key(|(_, note)| note.pid);
    let ask_one = |(socket, note): (PathBuf, Note)| {
        let facts = ask(&socket, &Ask::Facts, FACTS);
        Live {
            socket,
            note,
            facts,
        }
    };
    notes.into_iter().map(ask_one).collect()
}

/// Asks a session for facts, and waits for them.
pub(crate) fn ask(socket: &Path, ask: &Ask, within: Duration) -> Result<Value, String> {
    let told = || -> io::Result<Option<Answer>> {
        let stream = UnixStream::connect(socket)?;
        find::ask_on(stream, ask, within)?.next()
    };
    match told() {
        Ok(Some(Answer::Facts(facts))) => Ok(facts),
        Ok(Some(Answer::Error { message })) => Err(message),
        Ok(_) => Err("it gave no answer".to_owned()),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Err("it does not answer in time".to_owned())
            }
            _ => Err(error.to_string()),
        },
    }
}
