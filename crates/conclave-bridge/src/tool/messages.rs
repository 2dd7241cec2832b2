//! Tools that say and read things: sends, whispers, unread, history.

use super::answer::{ANSWER_BYTES_MAX, Answer, Failure};
use super::args::{Arg, Args, Kind, may, need};
use super::{IN_CHANNEL, PAGE_MAX, Set, Step, Tool, WAIT_S_MAX};
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

const TEXT: Arg = need("text", Kind::Text, "the message, at most 64 KiB");
const REPLY_TO: Arg = may("reply_to", Kind::Text, "msg_id of the message this answers");

/// Tools that say and read things.
pub(super) const TOOLS: &[Tool] = &[
    Tool::new(
        "send_channel",
        Set::Seed,
        "Send a message to everybody in a channel. Returns once the server has stored it; \"queued\" means it goes out later by itself, never in the clear.",
        &[IN_CHANNEL, TEXT, REPLY_TO],
        send_channel,
    )
    .emits()
    .eager(),
    Tool::new(
        "whisper",
        Set::Seed,
        "Send a message to exactly one session; it waits in the mailbox if the session is away.",
        &[
            need("to", Kind::Text, "session path user/machine/session, as in `from` and `who`"),
            TEXT,
            REPLY_TO,
        ],
        whisper,
    )
    .emits()
    .eager(),
    Tool::new(
        "check_messages",
        Set::Core,
        "Return what is unread, everywhere, at once. What it returns counts as read.",
        &[may("max", Kind::Number(PAGE_MAX), "default 20")],
        check,
    )
    .eager(),
    Tool::new(
        "wait_for_messages",
        Set::Core,
        "Wait until a message comes, then return what is unread. Use it instead of polling.",
        &[
            may("timeout_s", Kind::Number(WAIT_S_MAX), "default 600"),
            may("max", Kind::Number(PAGE_MAX), ""),
        ],
        wait,
    )
    .eager(),
    Tool::new(
        "read_message",
        Set::Core,
        "Return one message by id, from a byte offset: the rest of a long one.",
        &[
            need("id", Kind::Text, "msg_id"),
            may("offset", Kind::Number(65_536), "next_offset of the part before"),
        ],
        read,
    )
    .eager(),
    Tool::new(
        "catch_up",
        Set::Core,
        "Re-read a channel's history, or whispers with a session, both ways. Marks nothing as read.",
        &[
            may(
                "channel",
                Kind::Text,
                "channel name, or @user/machine/session for whispers; default: the home channel",
            ),
            may("since", Kind::Number(u64::MAX), "only after this seq"),
            may("max", Kind::Number(PAGE_MAX), "the newest so many; default 20"),
        ],
        catch_up,
    ),
];

const PAGE_DEFAULT: usize = 20;
const WAIT_S_DEFAULT: u64 = 600;

fn send_channel(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
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

fn whisper(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
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

fn check(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    Ok(Step::Done(session.unread_answer(now, page(args))))
}

fn wait(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    if session.state.unread() > 0 {
        return check(session, now, args);
    }
    let seconds = args
        .number("timeout_s")
        .unwrap_or(WAIT_S_DEFAULT)
        .min(WAIT_S_MAX);
    Ok(Step::Wait(Duration::from_secs(seconds), page(args)))
}

fn catch_up(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
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

fn read(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
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
