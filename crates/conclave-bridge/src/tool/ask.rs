//! Asking: a question, and its answers in the same call if they come in time.

use super::address::{TO, addressed};
use super::answer::{Answer, Failure};
use super::args::{Args, Kind, may, need};
use super::say::{Said, Say, say};
use super::{IN_CHANNEL, Set, Step, Tool};
use crate::session::Session;
use crate::state::Audience;
use conclave_proto::body::Priority;
use conclave_proto::id::MsgId;
use conclave_proto::time::Now;
use std::time::Duration;

/// The longest wait for answers, in seconds.
const TIMEOUT_S_MAX: u64 = 600;
const TIMEOUT_S_DEFAULT: u64 = 120;

/// The most answers that a call waits for.
const ANSWERS_MAX: u64 = 64;

/// Tools that ask.
pub(super) const TOOLS: &[Tool] = &[Tool::new(
    "ask",
    Set::Core,
    "Ask and wait for the answer; \"pending\": it comes later as a message with answers=<id>. Groups: waits for all, or `answers`.",
    &[
        TO,
        need("question", Kind::Text, ""),
        may("timeout_s", Kind::Number(TIMEOUT_S_MAX), "default 120"),
        may("answers", Kind::Number(ANSWERS_MAX), ""),
        IN_CHANNEL,
    ],
    ask,
)
.emits()
.eager()];

/// A question that was said.
pub(crate) struct Question {
    /// Its id.
    pub(crate) id: MsgId,
    /// Whose answers count.
    pub(crate) audience: Audience,
    /// How many sessions' answers end the call.
    pub(crate) wanted: usize,
    /// How long the call waits.
    pub(crate) timeout: Duration,
    /// What the call's answer says besides.
    pub(crate) facts: Answer,
}

fn ask(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let seconds = args.number("timeout_s").unwrap_or(TIMEOUT_S_DEFAULT);
    let timeout = Duration::from_secs(seconds.clamp(1, TIMEOUT_S_MAX));
    let enough = args.number("answers").and_then(|n| usize::try_from(n).ok());
    let text = args.needed("question").to_owned();
    addressed(session, args, move |session, now, to| {
        let what = Say {
            home: to.home,
            parts: to.parts,
            text,
            reply_to: None,
            priority: Priority::Next,
            expects_reply: true,
            receipt: true,
        };
        let said = say(session, now, what)?;
        Ok(Step::chain(said, move |_, _, said| {
            Ok(Step::Ask(question(said, timeout, enough)?))
        }))
    })
}

/// Returns what to wait for, now that it was said.
fn question(said: Said, timeout: Duration, enough: Option<usize>) -> Result<Question, Failure> {
    let (id, audience) = (said.id, said.audience.clone());
    let all = audience.sessions.len();
    // Nobody is waited for who is not there.
    let wanted = enough.unwrap_or(all).min(all);
    let facts = said.answer()?;
    Ok(Question {
        id,
        audience,
        wanted,
        timeout,
        facts,
    })
}
