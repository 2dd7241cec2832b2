//! The one way to say something: every tool that sends comes through here.
//!
//! What a level does not permit is refused before anything is sent; the guard is charged once for the
//! whole call.

use super::answer::{Answer, Failure};
use crate::fabric::{Draft, Later, Part, Sent, SentState, Target};
use crate::guard::{Guard, Outgoing, Pair, With, cost};
use crate::policy::Scope;
use crate::session::Session;
use crate::state::{Audience, HomeId, Thread};
use conclave_proto::body::Priority;
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::limit::BODY_BYTES_MAX;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Something to be said on one server.
#[derive(Clone, Debug)]
pub(super) struct Say {
    /// The server.
    pub(super) home: HomeId,
    /// Where, with the name of each place as the agent knows it: `#ops@eng`, `bob/box/web`.
    pub(super) parts: Vec<(String, Part)>,
    /// The words.
    pub(super) text: String,
    /// What it answers.
    pub(super) reply_to: Option<MsgId>,
    /// How urgent it is.
    pub(super) priority: Priority,
    /// Whether the sender waits for an answer.
    pub(super) expects_reply: bool,
    /// Whether every recipient is asked to tell what became of it.
    pub(super) receipt: bool,
}

impl Say {
    /// Makes something plain, for one place.
    pub(super) fn plain(home: HomeId, target: Target, name: String, text: &str) -> Self {
        let part = Part {
            target,
            to: Vec::new(),
            recipients: Vec::new(),
        };
        Self {
            home,
            parts: vec![(name, part)],
            text: text.to_owned(),
            reply_to: None,
            priority: Priority::Next,
            expects_reply: false,
            receipt: false,
        }
    }

    /// Returns whether this goes to where a message came from.
    fn answers(&self, thread: &Thread) -> bool {
        let meets = |(_, part): &(String, Part)| match &part.target {
            Target::Channel(id) => thread.log == LogId::Channel(*id),
            Target::Session(path) => thread.from == *path,
        };
        thread.home == self.home && self.parts.iter().any(meets)
    }

    /// Returns where it is said, for the guard.
    fn pairs(&self) -> impl Iterator<Item = Pair> {
        let home = self.home;
        self.parts.iter().map(move |(_, part)| Pair {
            home,
            with: match &part.target {
                Target::Session(path) => With::Session(path.clone()),
                Target::Channel(id) => With::Channel(*id),
            },
        })
    }

    fn whispers(&self) -> Vec<&SessionPath> {
        let to = self
            .parts
            .iter()
            .filter_map(|(_, part)| match &part.target {
                Target::Session(path) => Some(path),
                Target::Channel(_) => None,
            });
        to.collect()
    }
}

/// Returns whom it is for, as far as that is known: nobody of a part that was refused.
fn audience(home: HomeId, parts: &[Part], ends: &[Result<SentState, Reject>]) -> Audience {
    let mut audience = Audience {
        home,
        sessions: BTreeSet::new(),
        channels: Vec::new(),
    };
    for (part, _) in parts.iter().zip(ends).filter(|(_, end)| end.is_ok()) {
        audience.sessions.extend(part.recipients.iter().cloned());
        match &part.target {
            Target::Session(path) => drop(audience.sessions.insert(path.clone())),
            Target::Channel(id) if part.to.is_empty() => audience.channels.push(*id),
            Target::Channel(_) => {}
        }
    }
    audience
}

/// What became of something that was said.
#[derive(Debug)]
pub(super) struct Said {
    /// Its id.
    pub(super) id: MsgId,
    /// Whom it is for, as far as that is known.
    pub(super) audience: Audience,
    /// What became of each part, by its name.
    pub(super) parts: Vec<(String, Result<SentState, Reject>)>,
    /// What the agent is to know of where its words come from.
    pub(super) note: Option<String>,
}

/// Checks levels and bounds, charges the guard, and says it.
pub(super) fn say(session: &mut Session, now: Now, what: Say) -> Result<Later<Said>, Failure> {
    if what.text.trim().is_empty() || what.text.len() > BODY_BYTES_MAX {
        return Err(Failure::arguments("the text must have 1 to 65536 bytes"));
    }
    session.may_say()?;
    for (name, part) in &what.parts {
        let (scope, place) = match &part.target {
            Target::Channel(id) => (Scope::Channel(*id), name.as_str()),
            Target::Session(_) => (Scope::Whisper, "whispers"),
        };
        let level = session.state.level(what.home, scope);
        if !level.may_emit() {
            return Err(Failure::level(place, level));
        }
    }
    let to = session.dests(what.home, &what.parts);
    let note = session.passage(now, what.home, to, &what.text)?;
    let parent = |id| session.state.thread(id, |thread| what.answers(thread));
    let thread = what.reply_to.and_then(parent);
    // The depth of a parent that this session has not seen is not known: it counts as one.
    let root = thread.as_ref().map(|thread| thread.root).or(what.reply_to);
    let parent = what
        .reply_to
        .map(|_| thread.as_ref().map_or(0, |thread| thread.hop));
    let hop = Guard::hop(parent);
    let whispers = what.whispers();
    let channels = what.parts.len() - whispers.len();
    let pairs: Vec<Pair> = what.pairs().collect();
    let me = session.view(what.home).and_then(|view| view.path);
    let out = Outgoing {
        hop,
        root,
        pairs: &pairs,
        units: cost(channels, whispers.len(), what.priority),
        text: &what.text,
        expects_reply: what.expects_reply,
        me: me.as_ref(),
    };
    if let Err(stop) = session.state.guard().send(now, out) {
        return Err(session.stopped(what.home, stop));
    }
    if let (Some(id), Some(thread)) = (what.reply_to, &thread) {
        session.state.named(now, thread, id);
        session.state.paid(id);
    }
    let home = what.home;
    let (names, parts) = what.parts.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    session.note_prompted(home, &parts, &what.text);
    let sent = session.fabric(home)?.send(Draft {
        parts: Vec::clone(&parts),
        text: what.text,
        reply_to: what.reply_to,
        root,
        hop,
        priority: what.priority,
        expects_reply: what.expects_reply,
        receipt: what.receipt,
    });
    Ok(Box::pin(async move {
        let Sent { id, parts: ends } = sent.await?;
        let audience = audience(home, &parts, &ends);
        let parts = names.into_iter().zip(ends).collect();
        Ok(Said {
            id,
            audience,
            parts,
            note,
        })
    }))
}

impl Said {
    /// Returns the answer: what became of it, and of each part if they differ.
    ///
    /// # Errors
    /// The refusal, if nothing of it was taken.
    pub(super) fn answer(self) -> Result<Answer, Failure> {
        let failed = self.parts.iter().filter(|(_, end)| end.is_err()).count();
        if failed > 0 {
            return self.partly(failed);
        }
        let ends = self.parts.iter().filter_map(|(_, end)| end.as_ref().ok());
        let stored = ends.clone().all(|end| matches!(end, SentState::Stored(_)));
        let pending = ends.clone().any(|end| *end == SentState::KeysPending);
        let names = self
            .parts
            .iter()
            .map(|(name, _)| Value::from(name.as_str()));
        let to = match names.collect::<Vec<_>>() {
            mut one if one.len() == 1 => one.pop().unwrap_or_default(),
            several => several.into(),
        };
        let mut answer = Answer::ok()
            .with("id", self.id.to_string())
            .with("to", to)
            .with("status", if stored { "stored" } else { "queued" });
        match self.parts.as_slice() {
            [(_, Ok(SentState::Stored(seq)))] => answer = answer.with("seq", *seq),
            [_] => {}
            several => {
                let parts: Vec<Value> = several.iter().map(told).collect();
                answer = answer.with("parts", parts);
            }
        }
        if pending {
            answer = answer
                .with("note", "keys_pending")
                .with("hint", Code::KeysPending.hint());
        }
        if let Some(note) = self.note {
            answer = answer.with("flow", note);
        }
        Ok(match self.audience.sessions.len() {
            0 => answer,
            n => answer.with("recipients", n),
        })
    }

    /// Says which parts failed, if some were taken.
    fn partly(mut self, failed: usize) -> Result<Answer, Failure> {
        if failed == self.parts.len()
            && let Some((_, Err(reject))) = self.parts.pop()
        {
            return Err(reject.into());
        }
        let parts: Vec<Value> = self.parts.iter().map(told).collect();
        let hint =
            "what is stored or queued was said; say it again only to the parts with an error";
        Ok(Answer::ok()
            .with("ok", false)
            .with("error", "partial")
            .with("id", self.id.to_string())
            .with("parts", parts)
            .with("hint", hint))
    }
}

/// One part, in words of our own.
fn told((name, end): &(String, Result<SentState, Reject>)) -> Value {
    match end {
        Ok(SentState::Stored(seq)) => json!({"to": name, "status": "stored", "seq": seq}),
        Ok(SentState::Queued | SentState::KeysPending) => json!({"to": name, "status": "queued"}),
        Err(reject) => json!({"to": name, "error": reject.code.as_str()}),
    }
}
