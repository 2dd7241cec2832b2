//! Asking: a question, and its answers in the same call if they come in time.

use super::answer::{Answer, Failure};
use super::args::{Args, Kind, may, need};
use super::say::{Said, Say, say};
use super::{Set, Step, Tool};
use crate::fabric::Target;
use crate::session::Session;
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
    "Ask, and wait for the answer in the same call; \"pending\": it comes later as a message with answers=<id>. To groups and channels it waits for all, or for `answers`.",
    &[
        need("to", Kind::Text, "as in send_message"),
        need("question", Kind::Text, ""),
        may("timeout_s", Kind::Number(TIMEOUT_S_MAX), "default 120"),
        may("answers", Kind::Number(ANSWERS_MAX), "enough so many"),
    ],
    ask,
)
.emits()];

/// A question that was said.
pub(crate) struct Question {
    /// Its id.
    pub(crate) id: MsgId,
    /// How many sessions' answers end the call.
    pub(crate) wanted: usize,
    /// How long the call waits.
    pub(crate) timeout: Duration,
    /// What the call's answer says besides.
    pub(crate) facts: Answer,
}

fn ask(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let seconds = args.number("timeout_s").unwrap_or(TIMEOUT_S_DEFAULT);
    let timeout = Duration::from_secs(seconds.clamp(1, TIMEOUT_S_MAX));
    let enough = args.number("answers").and_then(|n| usize::try_from(n).ok());
    let path = args
        .parsed("to")?
        .ok_or_else(|| Failure::arguments("`to` is missing"))?;
    let home = session.find_home(args)?;
    let name = args.needed("to").to_owned();
    let what = Say {
        expects_reply: true,
        ..Say::plain(home, Target::Session(path), name, args.needed("question"))
    };
    let said = say(session, now, what)?;
    Ok(Step::chain(said, move |_, _, said| {
        Ok(Step::Ask(question(said, timeout, enough)?))
    }))
}

/// Returns what to wait for, now that it was said.
fn question(said: Said, timeout: Duration, enough: Option<usize>) -> Result<Question, Failure> {
    let (id, all) = (said.id, said.recipients);
    // To whom it was said is not known where nobody is listed: one answer will do.
    let wanted = enough.unwrap_or(all).clamp(1, all.max(1));
    let facts = said.answer()?;
    Ok(Question {
        id,
        wanted,
        timeout,
        facts,
    })
}
