//! Tools that say things.

use super::answer::{Answer, Failure};
use super::args::{Arg, Args, Kind, may, need};
use super::{IN_CHANNEL, Set, Step, Tool};
use crate::fabric::{Draft, Sent, SentState, Target};
use crate::guard::Outgoing;
use crate::policy::Scope;
use crate::session::Session;
use crate::state::HomeId;
use conclave_proto::id::MsgId;
use conclave_proto::limit::BODY_BYTES_MAX;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::Code;
use conclave_proto::time::Now;

const TEXT: Arg = need("text", Kind::Text, "the message, at most 64 KiB");
const REPLY_TO: Arg = may("reply_to", Kind::Text, "msg_id of the message this answers");

/// Tools that say things.
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
];

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
