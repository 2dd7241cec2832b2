//! Tools that say and read things: sends, whispers, unread, history.

use super::answer::{ANSWER_BYTES_MAX, Answer, Failure};
use super::args::Args;
use super::{Step, WAIT_S_MAX};
use crate::fabric::{Draft, Sent, SentState, Target};
use crate::guard::Outgoing;
use crate::policy::Scope;
use crate::session::Session;
use crate::state::{Age, HomeId, Message};
use conclave_proto::id::MsgId;
use conclave_proto::limit::BODY_BYTES_MAX;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;
use std::time::Duration;

const PAGE_DEFAULT: usize = 20;
const WAIT_S_DEFAULT: u64 = 600;

pub(super) fn send_channel(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let (channel, name) = (found.channel.id, found.channel.name);
    if !found.channel.followed {
        let text = format!("this session does not follow #{name}");
        return Err(Failure::new("not_joined", text, "call join_channel first"));
    }
    let level = session.state.level(found.home, Scope::Channel(channel));
    if !level.may_emit() {
        return Err(Failure::level(&format!("#{name}"), level));
    }
    send(
        session,
        now,
        found.home,
        Target::Channel(channel),
        name.as_str(),
        args,
    )
}

pub(super) fn whisper(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let to: SessionPath = args
        .parsed("to")?
        .ok_or_else(|| Failure::arguments("`to` is missing"))?;
    let parent = args
        .parsed::<MsgId>("reply_to")?
        .and_then(|id| session.state.thread(id));
    let home = match parent.filter(|_| args.text("server").is_none()) {
        Some(thread) => thread.home,
        None => session.find_home(args)?,
    };
    let level = session.state.level(home, Scope::Whisper);
    if !level.may_emit() {
        return Err(Failure::level("whispers", level));
    }
    let name = to.to_string();
    send(session, now, home, Target::Session(to), &name, args)
}

fn send(
    session: &mut Session,
    now: Now,
    home: HomeId,
    target: Target,
    name: &str,
    args: &Args,
) -> Result<Step, Failure> {
    let text = args.needed("text");
    if text.trim().is_empty() || text.len() > BODY_BYTES_MAX {
        return Err(Failure::arguments("`text` must have 1 to 65536 bytes"));
    }
    let reply_to = args.parsed::<MsgId>("reply_to")?;
    let thread = reply_to.and_then(|id| session.state.thread(id));
    // The depth of a parent that this session has not seen is not known: it counts as one.
    let root = thread.map(|thread| thread.root).or(reply_to);
    let hop = crate::guard::Guard::hop(reply_to.map(|_| thread.map_or(0, |thread| thread.hop)));
    let to = match &target {
        Target::Session(path) => Some(path),
        Target::Channel(_) => None,
    };
    session.state.guard().send(
        now.mono,
        Outgoing {
            hop,
            root,
            to,
            text,
        },
    )?;
    if let (Some(id), Some(thread)) = (reply_to, thread) {
        session.state.shown(thread.home, thread.log, id);
    }
    let draft = Draft {
        target,
        text: text.to_owned(),
        reply_to,
        root,
        hop,
    };
    let sent = session.fabric(home)?.send(draft);
    let name = name.to_owned();
    Ok(Step::later(sent, move |_, _, Sent { id, state }| {
        let answer = Answer::ok().with("id", id.to_string()).with("to", name);
        match state {
            SentState::Stored(seq) => answer.with("seq", seq).with("status", "stored"),
            SentState::Queued => answer.with("status", "queued"),
            SentState::KeysPending => answer
                .with("status", "queued")
                .with("note", "keys_pending")
                .with("hint", Code::KeysPending.hint()),
        }
    }))
}

pub(super) fn check(session: &mut Session, now: Now, args: &Args) -> Step {
    Step::Done(session.unread_answer(now, page(args)))
}

pub(super) fn wait(session: &mut Session, now: Now, args: &Args) -> Step {
    if session.state.unread() > 0 {
        return check(session, now, args);
    }
    let seconds = args
        .number("timeout_s")
        .unwrap_or(WAIT_S_DEFAULT)
        .min(WAIT_S_MAX);
    Step::Wait(Duration::from_secs(seconds), page(args))
}

pub(super) fn catch_up(session: &mut Session, args: &Args) -> Result<Step, Failure> {
    let peer = args.text("channel").and_then(|name| name.strip_prefix('@'));
    let (history, name) = match peer {
        Some(path) => {
            let peer: SessionPath = path.parse().map_err(|_| {
                Failure::arguments("`channel` with an @ must be @user/machine/session")
            })?;
            if args.number("since").is_some() {
                return Err(Failure::arguments("`since` is for channels only"));
            }
            let name = format!("@{peer}");
            let home = session.find_home(args)?;
            (session.fabric(home)?.whispers(peer, page(args)), name)
        }
        None => {
            let found = session.find_channel(args)?;
            let fabric = session.fabric(found.home)?;
            let (id, since) = (found.channel.id, args.number("since"));
            let name = found.channel.name.to_string();
            (fabric.history(id, since, page(args)), name)
        }
    };
    Ok(Step::later(
        history,
        move |session, now, messages: Vec<Message>| {
            let (mut frames, mut bytes, mut last) = (Vec::new(), 0, None);
            for message in &messages {
                let frame = session
                    .state
                    .show(now, message, Age::History, 0)
                    .standalone();
                bytes += frame.len();
                if bytes > ANSWER_BYTES_MAX {
                    break;
                }
                last = Some(message.seq);
                frames.push(frame);
            }
            let answer = Answer::ok()
                .with("channel", name)
                .with("messages", frames.len());
            let answer = match last {
                Some(seq) => answer.with("last_seq", seq),
                None => answer,
            };
            answer.frames(frames)
        },
    ))
}

pub(super) fn read(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let id = args
        .parsed("id")?
        .ok_or_else(|| Failure::arguments("`id` is missing"))?;
    let offset = usize::try_from(args.number("offset").unwrap_or_default()).unwrap_or(usize::MAX);
    if let Some(message) = session.state.find(id).cloned() {
        return Ok(Step::Done(read_answer(session, now, &message, offset)));
    }
    let homes = session.find_homes(args)?;
    let asked = homes
        .iter()
        .map(|(home, _)| Ok(session.fabric(*home)?.message(id)));
    let asked: Vec<_> = asked.collect::<Result<_, Failure>>()?;
    let first = Box::pin(async move {
        for search in asked {
            if let Some(message) = search.await? {
                return Ok(message);
            }
        }
        Err(Reject::new(
            Code::NotFound,
            "there is no message of that id here",
        ))
    });
    Ok(Step::later(first, move |session, now, message: Message| {
        read_answer(session, now, &message, offset)
    }))
}

fn read_answer(session: &mut Session, now: Now, message: &Message, offset: usize) -> Answer {
    session.state.shown(message.home, message.log, message.id);
    let frame = session.state.show(now, message, Age::History, offset);
    Answer::ok().frames([frame.standalone()])
}

fn page(args: &Args) -> usize {
    let max = args.number("max").and_then(|max| usize::try_from(max).ok());
    max.unwrap_or(PAGE_DEFAULT).max(1)
}
