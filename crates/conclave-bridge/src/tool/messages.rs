//! Tools that say things.

use super::answer::Failure;
use super::args::{Arg, Args, Kind, may, need};
use super::say::{Say, say};
use super::{IN_CHANNEL, Set, Step, Tool};
use crate::fabric::Target;
use crate::session::Session;
use crate::state::{HomeId, Thread};
use conclave_proto::id::MsgId;
use conclave_proto::name::SessionPath;
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
    .emits(),
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
    .emits(),
];

fn send_channel(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let (channel, name) = (found.channel.id, found.channel.name);
    if !found.channel.followed {
        let text = format!("this session does not follow #{name}");
        return Err(Failure::new("not_joined", text, "call join_channel first"));
    }
    let (target, name) = (Target::Channel(channel), format!("#{name}"));
    narrow(session, now, found.home, target, name, args)
}

fn whisper(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let to: SessionPath = args
        .parsed("to")?
        .ok_or_else(|| Failure::arguments("`to` is missing"))?;
    let home = answered(session, args, Some(&to))?;
    let home = home.map_or_else(|| session.find_home(args), Ok)?;
    let name = to.to_string();
    narrow(session, now, home, Target::Session(to), name, args)
}

/// Returns the server of the message that a call answers, unless the call names a server. Where several
/// peers used its id it is `to`'s.
pub(super) fn answered(
    session: &Session,
    args: &Args,
    to: Option<&SessionPath>,
) -> Result<Option<HomeId>, Failure> {
    let parent = args.parsed::<MsgId>("reply_to")?;
    let fits = |thread: &Thread| Some(&thread.from) == to;
    let thread = parent.and_then(|id| session.state.thread(id, fits));
    let unnamed = args.text("server").is_none();
    Ok(thread.filter(|_| unnamed).map(|thread| thread.home))
}

/// Says something plain in one place.
fn narrow(
    session: &mut Session,
    now: Now,
    home: HomeId,
    target: Target,
    name: String,
    args: &Args,
) -> Result<Step, Failure> {
    let what = Say {
        reply_to: args.parsed("reply_to")?,
        ..Say::plain(home, target, name, args.needed("text"))
    };
    let said = say(session, now, what)?;
    Ok(Step::later_or(said, |_, _, said| said.answer()))
}
