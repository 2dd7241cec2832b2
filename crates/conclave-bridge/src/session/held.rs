//! What may not leave unasked: the gate in front of every tool, the host's dialog, and the call made again when
//! a human allowed it, once.

use super::{Done, Session};
use crate::fabric::{Part, Target};
use crate::labels::Change;
use crate::mcp::{Dialog, Push, Verdict};
use crate::outbound::flow::{Dest, Known, Passage};
use crate::outbound::hold::{Hold, Leaving, Why, key};
use crate::outbound::secret::scan_args;
use crate::render::sanitise::sanitise;
use crate::state::HomeId;
use crate::tool::answer::Failure;
use crate::tool::args::Object;
use crate::tool::{Reply, Step};
use conclave_proto::id::{ChannelId, Hash};
use conclave_proto::time::Now;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How long the host's human may think; then the call fails.
const THINK: Duration = Duration::from_secs(120);

/// How much of what would be sent a human sees in the dialog, in characters.
const EXCERPT_CHARS: usize = 300;

/// How many times one call may wait for a human: once for what it says, once for where.
const ASKED_MAX: usize = 3;

const ALLOW: &str = "allow once";
const CHOICES: &[&str] = &["do not send", ALLOW];

/// A call of a tool, to be made again.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) name: String,
    pub(super) args: Object,
    pub(super) gone: CancellationToken,
    pub(super) reply: oneshot::Sender<Reply>,
    /// What a human allowed within this call.
    pub(super) allowed: Vec<Hold>,
}

/// What a human decided of a call.
#[derive(Debug)]
pub(super) struct Decided {
    call: Again,
    hold: Hold,
    verdict: Verdict,
    /// What the call came to without a human.
    refusal: Reply,
}

impl Session {
    /// Lets pass what a human allowed; else holds it and says so.
    pub(crate) fn may_leave(&mut self, now: Now, what: Leaving) -> Result<(), Failure> {
        if self.holds.pass(now.mono, &what.key) {
            return Ok(());
        }
        let mut nonce = [0; 16];
        if getrandom::fill(&mut nonce).is_err() {
            return Err(Failure::new(
                "internal",
                "the system has no randomness",
                "try again",
            ));
        }
        let hold = self.holds.hold(now.mono, nonce, what);
        Err(refused(hold))
    }

    /// Looks at everything that a call carries before the tool sees it.
    pub(super) fn gate(&mut self, now: Now, tool: &str, args: &Object) -> Result<(), Failure> {
        let Some(rule) = scan_args(args) else {
            return Ok(());
        };
        let all = serde_json::Value::Object(args.clone()).to_string();
        let places = [tool.to_owned()];
        let what = Leaving {
            why: Why::Secret,
            rule: format!("it holds what looks like {rule}"),
            place: format!("the tool {tool}"),
            excerpt: None,
            key: key(Why::Secret, &places, &all),
        };
        self.may_leave(now, what)
    }

    /// Decides whether words may go to these places, by what this session has read; returns what the agent is
    /// to know.
    pub(crate) fn passage(
        &mut self,
        now: Now,
        home: HomeId,
        to: Vec<(Dest, String)>,
        text: &str,
    ) -> Result<Option<String>, Failure> {
        let mut places: Vec<String> = to.iter().map(|(_, name)| name.clone()).collect();
        match self.weighed(home, &to) {
            Passage::Free => Ok(None),
            Passage::Note(text) => Ok(Some(text)),
            Passage::Ask(rule) => {
                let place = places.join(", ");
                // A name can be another place's by the time that a human has answered.
                places.extend(to.iter().map(|(dest, _)| format!("{dest:?}")));
                places.sort();
                places.push(home.0.to_string());
                let what = Leaving {
                    why: Why::Flow,
                    rule,
                    place,
                    excerpt: Some(excerpt(text)),
                    key: key(Why::Flow, &places, text),
                };
                self.may_leave(now, what).map(|()| None)
            }
        }
    }

    fn weighed(&mut self, home: HomeId, to: &[(Dest, String)]) -> Passage {
        let views: Vec<_> = self.homes.iter().map(|fabric| fabric.view()).collect();
        let known = |home: HomeId, id: &ChannelId| {
            let view = views.get(home.0)?;
            let channel = view.channels.iter().find(|channel| channel.id == *id)?;
            Some(Known {
                visibility: channel.visibility,
                confidential: channel.confidential,
            })
        };
        self.state.read().passage(home, to, known)
    }

    /// Takes back what this session says of itself before it is said in one place more, if it may be of what
    /// was read in another circle; returns whether it was.
    pub(crate) fn hush(&mut self, home: HomeId, to: Dest) -> Result<bool, Failure> {
        let says = self
            .view(home)
            .is_some_and(|view| view.labels.summary.is_some());
        if !says || !matches!(self.weighed(home, &[(to, String::new())]), Passage::Ask(_)) {
            return Ok(false);
        }
        self.fabric(home)?.change_labels(Change::Summary(None))?;
        self.refresh(home);
        Ok(true)
    }

    /// Returns where parts of a message go, as the flow rules see it.
    pub(crate) fn dests(&self, home: HomeId, parts: &[(String, Part)]) -> Vec<(Dest, String)> {
        let me = self.view(home).and_then(|view| view.path);
        let dest = |(name, part): &(String, Part)| {
            let dest = match &part.target {
                Target::Channel(id) => Dest::Channel(*id),
                Target::Session(path) if me.as_ref().is_some_and(|me| me.user == path.user) => {
                    Dest::Own
                }
                Target::Session(path) => Dest::User(path.user.clone()),
            };
            (dest, name.clone())
        };
        parts.iter().map(dest).collect()
    }

    /// Returns what waits for a human.
    pub fn holds(&mut self) -> Vec<Hold> {
        let now = self.now();
        self.holds.waiting(now.mono)
    }

    /// Allows what is held under this id, once; who calls this has checked that a human said so of this digest.
    pub fn allow_hold(&mut self, id: &str, digest: &Hash) -> bool {
        let now = self.now();
        self.holds.allow(now.mono, id, digest)
    }

    /// Makes a call; what is held of it goes to the host's human first.
    pub(super) fn call(&mut self, now: Now, call: Again) {
        let (name, args) = (call.name.clone(), call.args.clone());
        let step = self.start(now, &name, args);
        let may_be_held = match &step {
            Err(failure) => failure.is_held(),
            Ok(Step::Later(_)) => true,
            Ok(Step::Done(_) | Step::Ask(_) | Step::Wait(..)) => false,
        };
        if !may_be_held {
            return self.go_on(step, call.gone, call.reply);
        }
        let (inner, outcome) = oneshot::channel();
        self.go_on(step, call.gone.clone(), inner);
        self.tasks.spawn(async move {
            let mut reply = outcome.await.unwrap_or_else(|_| Reply::ended());
            let Some(hold) = reply.held.take() else {
                call.reply.send(reply).unwrap_or_default();
                return Done::Called;
            };
            Done::Held(Box::new((call, *hold, reply)))
        });
    }

    /// Asks the host's human about a call that was held.
    pub(super) fn ask_human(&mut self, call: Again, hold: Hold, refusal: Reply) {
        let (why, place) = (hold.what.why.as_str(), &hold.what.place);
        let text = format!("a call was held: {}; for {place}", hold.what.rule);
        self.noted(None, why, &text, Some(&hint(&hold)));
        let (verdict, told) = oneshot::channel();
        let dialog = Dialog {
            message: question(&hold),
            choices: CHOICES,
            within: THINK,
            verdict,
        };
        let asked = call.allowed.len() < ASKED_MAX
            && self.pushes.try_send(Push::Ask(Box::new(dialog))).is_ok();
        let gone = call.gone.clone();
        self.tasks.spawn(async move {
            let verdict = tokio::select! {
                verdict = told, if asked => verdict.unwrap_or(Verdict::Unanswered),
                () = gone.cancelled(), if asked => Verdict::Unanswered,
                () = tokio::time::sleep(THINK), if asked => Verdict::Unanswered,
                else => Verdict::Unanswered,
            };
            Done::Decided(Box::new(Decided {
                call,
                hold,
                verdict,
                refusal,
            }))
        });
    }

    /// Makes a call again that a human allowed; ends it else.
    pub(super) fn decided(&mut self, decided: Decided) {
        let Decided {
            mut call,
            hold,
            verdict,
            refusal,
        } = decided;
        let why = hold.what.why.as_str();
        match verdict {
            Verdict::Chose(ALLOW) if call.gone.is_cancelled() => {
                let text = format!("a human allowed it, but the call was given up: {}", hold.id);
                self.noted(None, why, &text, None);
                call.reply.send(refusal).unwrap_or_default();
            }
            Verdict::Chose(ALLOW) => {
                let text = format!("a human allowed it once: {}", hold.id);
                self.noted(None, why, &text, None);
                call.allowed.push(hold);
                let now = self.now();
                for hold in &call.allowed {
                    let nonce = [0; 16];
                    let held = self.holds.hold(now.mono, nonce, hold.what.clone());
                    self.holds.allow(now.mono, &held.id, &held.digest);
                }
                self.call(now, call);
            }
            Verdict::Chose(_) | Verdict::Refused => {
                let text = format!("a human refused it: {}", hold.id);
                self.noted(None, why, &text, None);
                let failure = Failure::new(
                    why,
                    "your human was asked, and refused to send this",
                    "do not send it in another way; ask your human what to say instead",
                );
                let unread = self.state.unread();
                call.reply
                    .send(Reply::new(Err(failure), unread))
                    .unwrap_or_default();
            }
            Verdict::Unanswered | Verdict::Unable => call.reply.send(refusal).unwrap_or_default(),
        }
    }
}

fn hint(hold: &Hold) -> String {
    format!(
        "your human can allow it once: `conclave approve {}`; then send it again",
        hold.id
    )
}

fn refused(hold: Hold) -> Failure {
    let (code, advice) = match hold.what.why {
        Why::Secret => ("secret", "leave it out, or "),
        Why::Flow => ("needs_human", "answer where you read it, or "),
    };
    let text = format!("not sent: {}", hold.what.rule);
    let hint = format!("{advice}{}", hint(&hold));
    Failure::new(code, text, &hint).held(hold)
}

/// What the dialog says: our own words, and the beginning of the agent's, cleaned and on one line.
fn question(hold: &Hold) -> String {
    let Leaving {
        rule,
        place,
        excerpt,
        ..
    } = &hold.what;
    let words = match excerpt {
        Some(excerpt) => format!("\nIt begins: “{excerpt}”"),
        None => String::new(),
    };
    format!(
        "An agent wants to send something to {place}. Conclave held it: {rule}.{words}\nAllow it this once?"
    )
}

/// The beginning of a text on one line, without what could end the quotation.
pub(super) fn excerpt(text: &str) -> String {
    let clean = sanitise(text).text;
    let line: Vec<&str> = clean.split_whitespace().collect();
    let line = line.join(" ").replace(['“', '”', '"'], "'");
    line.chars().take(EXCERPT_CHARS).collect()
}
