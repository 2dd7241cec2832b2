//! A hook that waits in the background: the host wakes the agent with what it says, if it ends with status 2.

use super::Question;
use crate::cli::{Context, local};
use conclave_bridge::control::{Answer, Ask, find};
use std::process::ExitCode;
use std::time::Duration;

/// How long it waits at most. It ends with the session, too.
const WITHIN: Duration = Duration::from_secs(6 * 60 * 60);

/// By this a host knows that there is something for the agent.
const WAKE: u8 = 2;

/// Waits for the one line.
pub(super) fn run(cx: &Context, question: &Question) -> ExitCode {
    match line(cx, question) {
        Some(text) => {
            cx.out.talk(text);
            ExitCode::from(WAKE)
        }
        None => ExitCode::SUCCESS,
    }
}

fn line(cx: &Context, question: &Question) -> Option<String> {
    let home = cx.config_dir().ok()?;
    let mark = local::named(question.session.clone());
    let mut asked = find::ask(&home, &mark, &Ask::Rewake, WITHIN).ok()??;
    match asked.next().ok()?? {
        Answer::Line { text } if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}
