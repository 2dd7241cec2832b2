//! The drivers of the wake router: who listens for lines, the host's inbox, its transcript, and what peers
//! are told of how the agent was last woken.

mod prove;

use super::{Done, Session};
use crate::control::Answer;
use crate::state::{Input, Seen};
use crate::tool::answer::Answer as Told;
use crate::wake::evidence::{self, Transcript};
use crate::wake::inbox::{FromHost, Inbox};
use crate::wake::{Channel, WakePath};
use conclave_proto::profile::Wake;
use conclave_proto::time::UnixMs;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a look at the transcript may take.
const LOOK: Duration = Duration::from_secs(5);
/// How often peers are told of another wake at most.
const PUBLISH: Duration = Duration::from_secs(60);
/// The longest prompt that is searched for our lines, in bytes.
const PROMPT_BYTES_MAX: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    inbox: Option<Inbox>,
    /// Who takes lines; at most one a way.
    listeners: Vec<Listener>,
    next: u64,
    /// Whose files are this user's.
    uid: Option<u32>,
    transcript: Option<Transcript>,
    looking: bool,
    again: bool,
    last: Option<Wake>,
    told: Option<Wake>,
    telling: bool,
    trial: Option<prove::Pending>,
}

#[derive(Debug)]
struct Listener {
    id: u64,
    path: WakePath,
    answers: mpsc::Sender<Answer>,
    /// Ends what watches whether it is there: that holds the connection, too.
    _watch: DropGuard,
}

impl Wakers {
    /// Begins with what the host gave.
    pub(super) fn new(from_host: FromHost, home: Option<&Path>) -> Self {
        let meta = home.and_then(|home| std::fs::metadata(home).ok());
        Self {
            inbox: from_host.inbox,
            uid: meta.map(|meta| meta.uid()),
            ..Self::default()
        }
    }
}

impl Session {
    /// Takes somebody who listens for lines, instead of who did before.
    pub(super) fn listens(&mut self, path: WakePath, answers: mpsc::Sender<Answer>) {
        let others = |listener: &Listener| listener.path != path;
        for before in self.wakers.listeners.extract_if(.., |l| !others(l)) {
            tracing::debug!(?path, "another listens instead");
            // A monitor that is replaced must not come back; a hook that waits just ends.
            if before.path == WakePath::Monitor {
                let message = "another monitor listens".to_owned();
                tell(&before.answers, Answer::Error { message });
            }
        }
        let id = self.wakers.next;
        self.wakers.next += 1;
        let gone = answers.clone();
        let watch = CancellationToken::new();
        let ended = watch.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = gone.closed() => {}
                () = ended.cancelled() => {}
            }
            Done::Then(Box::new(move |session| session.unlisten(id)))
        });
        let listener = Listener {
            id,
            path,
            answers,
            _watch: watch.drop_guard(),
        };
        self.wakers.listeners.push(listener);
        self.state.handle(self.now(), Input::Attached(path));
    }

    fn unlisten(&mut self, id: u64) {
        let Some(at) = self.wakers.listeners.iter().position(|l| l.id == id) else {
            return;
        };
        let gone = self.wakers.listeners.remove(at);
        let why = "who listened has gone";
        self.lost_way(gone.path, why);
    }

    fn lost_way(&mut self, path: WakePath, why: &'static str) {
        let now = self.now();
        self.state.handle(now, Input::Detached(path, why));
        self.trial_failed(path, why);
    }

    /// Sends a line by a way.
    pub(super) fn point(&mut self, path: WakePath, text: String) {
        self.injected(&text);
        match path {
            WakePath::Inbox => self.leave(text),
            WakePath::Monitor | WakePath::Rewake => {
                let Some(at) = self.wakers.listeners.iter().position(|l| l.path == path) else {
                    return self.lost_way(path, "nobody listens");
                };
                let answers = self.wakers.listeners[at].answers.clone();
                if answers.try_send(Answer::Line { text }).is_err() {
                    self.wakers.listeners.remove(at);
                    return self.lost_way(path, "who listened takes no more lines");
                }
                if path == WakePath::Rewake {
                    // One line is all it takes; it ends by itself.
                    self.wakers.listeners.remove(at);
                    self.state.handle(self.now(), Input::Spent(path));
                }
            }
            WakePath::Wait | WakePath::Channel | WakePath::Hook => {
                tracing::error!(?path, "no line goes by this way");
            }
        }
    }

    fn leave(&mut self, text: String) {
        let Some(inbox) = self.wakers.inbox.clone() else {
            return self.lost_way(WakePath::Inbox, "the host gave no inbox");
        };
        self.tasks.spawn(async move {
            let left = inbox.leave(&text).await;
            Done::Then(Box::new(move |session: &mut Self| {
                if let Err(error) = left {
                    tracing::warn!(%error, "the host's inbox");
                    session.lost_way(WakePath::Inbox, "the host's inbox takes no lines");
                }
            }))
        });
    }

    /// Looks at the host's transcript, if a hook named it: what the model got is shown.
    pub(crate) fn evidence(&mut self, transcript: &Path) {
        if !transcript.is_absolute() {
            return;
        }
        let known = self.wakers.transcript.as_ref();
        if known.is_none_or(|known| known.path() != transcript) {
            self.wakers.transcript = Some(Transcript::new(transcript));
        }
        self.look();
    }

    /// Looks at the transcript that is known.
    pub(super) fn look(&mut self) {
        if self.wakers.looking {
            self.wakers.again = true;
            return;
        }
        let known = self.wakers.transcript.clone().zip(self.wakers.uid);
        let Some((mut transcript, uid)) = known else {
            return self.state.handle(self.now(), Input::Looked { none: true });
        };
        self.wakers.looking = true;
        self.tasks.spawn(async move {
            let looking = tokio::task::spawn_blocking(move || {
                let seen = transcript.look(uid);
                (transcript, seen)
            });
            let looked = tokio::time::timeout(LOOK, looking).await;
            Done::Then(Box::new(move |session| match looked {
                Ok(Ok((transcript, Ok(seen)))) => session.looked(Some(transcript), Some(&seen)),
                Ok(Ok((_, Err(error)))) => {
                    tracing::debug!(%error, "the transcript was not read");
                    session.looked(None, None);
                }
                Ok(Err(_)) | Err(_) => session.looked(None, None),
            }))
        });
    }

    fn looked(&mut self, transcript: Option<Transcript>, seen: Option<&Seen>) {
        self.wakers.looking = false;
        let known = self.wakers.transcript.as_mut();
        match (known, transcript) {
            (Some(known), Some(read)) if known.path() == read.path() => *known = read,
            _ => {}
        }
        let now = self.now();
        if let Some(seen) = seen {
            self.state.saw(now, seen);
        }
        if std::mem::take(&mut self.wakers.again) {
            return self.look();
        }
        let none = seen.is_none();
        self.state.handle(now, Input::Looked { none });
    }

    /// Takes a prompt: it may be a line of ours, which proves its way; `human` says that somebody typed it.
    pub(crate) fn prompted(&mut self, prompt: &str, human: bool) {
        let mut seen = Seen::default();
        let end = prompt.floor_char_boundary(PROMPT_BYTES_MAX);
        evidence::find(prompt.get(..end).unwrap_or_default(), &mut seen);
        // A prompt has no frame of ours: a hook would add it.
        seen.frames.clear();
        let now = self.now();
        self.state.prompted(now, &seen, human);
    }

    /// Takes evidence that the agent was woken.
    pub(super) fn proven(&mut self, path: WakePath, at: UnixMs) {
        self.wakers.last = Some(Wake {
            path: Some(path),
            at,
        });
        self.trial_proven(path);
        if !self.wakers.telling {
            self.tell_wake();
        }
    }

    fn tell_wake(&mut self) {
        let Some(wake) = self
            .wakers
            .last
            .filter(|_| self.wakers.last != self.wakers.told)
        else {
            self.wakers.telling = false;
            return;
        };
        (self.wakers.told, self.wakers.telling) = (Some(wake), true);
        for fabric in &self.homes {
            fabric.woken(wake);
        }
        self.tasks.spawn(async {
            tokio::time::sleep(PUBLISH).await;
            Done::Then(Box::new(Self::tell_wake))
        });
    }

    /// Returns what is known of the ways by which the agent hears.
    pub(crate) fn wake_facts(&self) -> Value {
        let ways = self.state.ways();
        let paths = ways.rows().map(|(path, row)| {
            let state = match row {
                _ if row.refuted => "refuted",
                _ if !row.live => "none",
                _ if row.proven.is_some() => "proven",
                _ => "unproven",
            };
            let why = Some(row.why).filter(|why| !why.is_empty() && state != "proven");
            let at = row.proven.map(|at| at.0);
            json!({"path": path.as_str(), "state": state, "why": why, "proven_at": at})
        });
        let paths: Vec<Value> = paths.collect();
        let channel = match ways.channel() {
            Channel::Assumed => "unknown",
            Channel::Possible => "possible",
            Channel::Impossible(_) => "not_registered",
        };
        let row = ways.row(WakePath::Channel);
        let channel = if row.proven.is_some() {
            "registered"
        } else {
            channel
        };
        let last = ways.last();
        let last = last.map(|(path, at)| json!({"path": path.as_str(), "at": at.0}));
        json!({
            "path": last.as_ref().map(|last| &last["path"]),
            "at": last.as_ref().map(|last| &last["at"]),
            "last": last,
            "channel": {"state": channel, "why": Some(row.why).filter(|why| !why.is_empty())},
            "paths": paths,
        })
    }

    /// Ends a call that waits, to see whether anybody hears it.
    fn try_wait(&mut self) -> bool {
        let now = self.now();
        while !self.waits.is_empty() {
            let wait = self.waits.remove(0);
            wait.timer.abort();
            if wait.gone.is_cancelled() {
                continue;
            }
            let answer = Told::ok()
                .with("messages", 0)
                .with("hint", "this was a test of waking: wait again");
            self.answer(wait.reply, Ok(answer));
            self.state.handle(now, Input::Waits(self.waits.len()));
            self.state.waited(now);
            return true;
        }
        self.state.handle(now, Input::Waits(0));
        false
    }
}

fn tell(answers: &mpsc::Sender<Answer>, answer: Answer) {
    if answers.try_send(answer).is_err() {
        tracing::debug!("who asked has gone");
    }
}
