//! `conclave hook`: run by an agent's host at the boundaries of its work. It tells the session's bridge, hands
//! what that has for the model to the host, and warns of edits of what others have claimed, or denies them.
//!
//! It never fails its host and never holds it up: whatever is wrong, it says nothing, soon. It asks this
//! machine only, never the network.

mod claims;
mod permit;
mod rewake;
mod shape;

use super::Context;
use super::local;
use claims::Claims;
use conclave_bridge::control::{Answer, Ask, Event, Hook, find};
use serde_json::Value;
use shape::{Client, Question};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a host is held up at most.
const WITHIN: Duration = Duration::from_millis(1_500);

/// Arguments of `hook`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do about files that another session has claimed
    #[arg(long, value_enum, default_value_t = Claims::Warn)]
    claims: Claims,
    /// Speak as the hooks of this agent do
    #[arg(long, value_enum, default_value_t = Client::Claude)]
    client: Client,
    /// Wait in the background until there is something to fetch, then wake the agent
    #[arg(long)]
    rewake: bool,
}

/// What there is to say, in the order it is known.
enum Said {
    Asked(Box<Question>),
    Claimed(Option<claims::Verdict>),
    Answered(Option<Answer>),
    /// A call waits for a verdict: that takes as long as it takes.
    Waits,
    Decided(Option<Value>),
}

/// Answers one question on standard input.
pub(crate) fn run(cx: &Context, args: Args) -> ExitCode {
    let mut end = Instant::now() + WITHIN;
    let (say, said) = mpsc::sync_channel(4);
    let theirs = cx.clone();
    // What is stuck, be it a host that says nothing or a bridge that does not answer, ends with the process.
    std::thread::spawn(move || work(&theirs, args, &say));
    let (mut asked, mut claimed, mut answered) = (None, None, None);
    while let Ok(next) = said.recv_timeout(end.saturating_duration_since(Instant::now())) {
        match next {
            Said::Asked(question) => asked = Some(question),
            Said::Claimed(verdict) => claimed = verdict,
            Said::Answered(answer) => answered = answer,
            Said::Waits => end += permit::WITHIN,
            Said::Decided(Some(decision)) => cx.out.data(&decision.to_string()),
            Said::Decided(None) => {}
        }
    }
    let Some(question) = asked else {
        return ExitCode::SUCCESS;
    };
    if args.rewake {
        return rewake::run(cx, &question);
    }
    if let Some(output) = shape::output(args.client, &question, claimed, answered) {
        cx.out.data(&output.to_string());
    }
    ExitCode::SUCCESS
}

/// Reads the question and finds the answers. An error means that nobody listens any more.
fn work(cx: &Context, args: Args, say: &mpsc::SyncSender<Said>) -> Option<()> {
    let input: Value = local::input()?;
    if permit::is_one(&input) {
        say.send(Said::Waits).ok()?;
        return say.send(Said::Decided(permit::answer(cx, &input))).ok();
    }
    let question = Question::read(args.client, &input)?;
    say.send(Said::Asked(Box::new(question.clone()))).ok()?;
    if args.rewake {
        return None;
    }
    if question.event == Event::ToolStart {
        let verdict = claims::verdict(cx, args.claims, &question);
        say.send(Said::Claimed(verdict)).ok()?;
    }
    say.send(Said::Answered(ask(cx, question))).ok()
}

/// Tells the session's bridge, and waits for what it has to say where that can be something.
fn ask(cx: &Context, question: Question) -> Option<Answer> {
    let home = cx.config_dir().ok()?;
    let mut mark = local::mark(question.session.clone());
    mark.host_pid = mark.host_pid.or_else(|| local::host_above(&home));
    let event = question.event;
    let hook = Hook {
        event,
        session: mark.session.clone(),
        source: question.source,
        prompt: question.prompt,
        tool: question.tool,
        transcript: question.transcript,
        continued: question.continued,
        deaf: question.deaf,
        host_pid: mark.host_pid,
        inbox: mark.inbox.clone(),
    };
    let mut asked = find::ask(&home, &mark, &Ask::Hook(Box::new(hook)), WITHIN).ok()??;
    match event {
        _ if question.deaf => None,
        Event::SessionStart | Event::Prompt | Event::ToolEnd | Event::Stop => {
            asked.next().ok().flatten()
        }
        Event::ToolStart | Event::Waiting | Event::SessionEnd => None,
    }
}
