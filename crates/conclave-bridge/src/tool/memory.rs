//! Tools for what members want to find again, and for what was said.

use super::answer::{ANSWER_BYTES_MAX, Answer, Failure};
use super::args::{Arg, Args, Kind, may, need};
use super::state::{passable, writable, wrote};
use super::{IN_CHANNEL, Set, Step, Tool};
use crate::fabric::Search;
use crate::session::{Session, sender};
use crate::state::{Age, HomeId, Kept};
use conclave_client::item::{Memory, Recall};
use conclave_proto::id::MsgId;
use conclave_proto::limit::BODY_BYTES_MAX;
use conclave_proto::time::Now;

const LIMIT: Arg = may("limit", Kind::Number(100), "default 10");
const MAX_TOKENS: Arg = may("max_tokens", Kind::Number(20_000), "return about so much");
const TAGS: Arg = may("tags", Kind::Texts(16), "");

/// Tools for what members want to find again, and for what was said.
pub(super) const TOOLS: &[Tool] = &[
    Tool::new(
        "remember",
        Set::Memory,
        "Keep something for every member of a channel to find later. No secrets.",
        &[need("content", Kind::Text, ""), TAGS, IN_CHANNEL],
        remember,
    )
    .emits(),
    Tool::new(
        "recall",
        Set::Memory,
        "Search what members kept; an empty query returns the newest.",
        &[
            need("query", Kind::Text, "words"),
            TAGS,
            LIMIT,
            MAX_TOKENS,
            IN_CHANNEL,
        ],
        recall,
    ),
    Tool::new(
        "forget",
        Set::Memory,
        "Take back something that was kept: your user's own, or any as a channel admin.",
        &[need("id", Kind::Text, "msg_id of the memory"), IN_CHANNEL],
        forget,
    )
    .emits(),
    Tool::new(
        "search_history",
        Set::Memory,
        "Search what was said: in one channel, or in all and in your whispers.",
        &[
            need("query", Kind::Text, "words"),
            LIMIT,
            MAX_TOKENS,
            may("channel", Kind::Text, "channel name; default: everywhere"),
        ],
        search,
    ),
];

const LIMIT_DEFAULT: u32 = 10;
/// About so many bytes are one token.
const TOKEN_BYTES: usize = 4;

fn limit(args: &Args) -> u32 {
    let given = args.number("limit").and_then(|n| u32::try_from(n).ok());
    given.unwrap_or(LIMIT_DEFAULT).max(1)
}

fn budget(args: &Args) -> usize {
    let tokens = args
        .number("max_tokens")
        .and_then(|n| usize::try_from(n).ok());
    let bytes = tokens.map(|n| n.saturating_mul(TOKEN_BYTES));
    bytes.unwrap_or(ANSWER_BYTES_MAX).min(ANSWER_BYTES_MAX)
}

fn tags(args: &Args) -> Vec<String> {
    args.texts("tags").into_iter().map(str::to_owned).collect()
}

fn remember(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let found = passable(session, now, args, args.needed("content"))?;
    let text = args.needed("content").to_owned();
    if text.trim().is_empty() || text.len() > BODY_BYTES_MAX {
        return Err(Failure::arguments("`content` must have 1 to 65536 bytes"));
    }
    let fabric = session.fabric(found.home)?;
    let work = fabric.remember(found.channel.id, text, tags(args));
    Ok(Step::later(work, |_, _, written| {
        wrote(&written).with("id", written.id.to_string())
    }))
}

fn recall(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let what = Recall {
        query: args.needed("query").to_owned(),
        tags: tags(args),
        limit: limit(args),
    };
    let bytes = budget(args);
    let work = session.fabric(found.home)?.recall(found.channel.id, what);
    Ok(Step::later(
        work,
        move |session, now, memories: Vec<Memory>| {
            if session.is_muted(found.home, found.channel.id) {
                return Answer::ok().with("memories", 0).muted();
            }
            let shown = memories.iter().map(|memory| {
                let kept = kept(session, found.home, memory);
                session.state.show_kept(now, &kept).standalone()
            });
            let shown: Vec<String> = shown.collect();
            fitting(Answer::ok(), "memories", shown, bytes)
        },
    ))
}

/// Shows a memory from an offset; not one of a channel that a person muted.
pub(super) fn one(
    session: &mut Session,
    now: Now,
    (home, memory): &(HomeId, Memory),
    offset: usize,
) -> Answer {
    if session.is_muted(*home, memory.channel) {
        return Answer::ok().with("memories", 0).muted();
    }
    let kept = kept(session, *home, memory);
    let frame = session.state.show_kept_from(now, &kept, offset);
    Answer::ok().frames([frame.standalone()])
}

fn kept(session: &Session, home: HomeId, memory: &Memory) -> Kept {
    let tags = match memory.tags.is_empty() {
        true => String::new(),
        false => format!("\ntags: {}", memory.tags.join(", ")),
    };
    Kept {
        home,
        place: session.place(home, memory.channel),
        kind: "memory",
        from: memory.sender.clone(),
        sender: sender(memory.user, &memory.facts, memory.at),
        at: memory.at,
        id: Some(memory.id),
        seq: None,
        text: format!("{}{tags}", memory.text),
    }
}

/// Shows the best that fit; the first one in any case.
fn fitting(answer: Answer, what: &str, frames: Vec<String>, bytes: usize) -> Answer {
    let found = frames.len();
    let mut left = bytes;
    let fits = |frame: &String| {
        let first = left == bytes;
        let enough = frame.len() <= left;
        left = left.saturating_sub(frame.len());
        first || enough
    };
    let frames: Vec<String> = frames.into_iter().take_while(fits).collect();
    let answer = answer.with(what, frames.len());
    let answer = match found - frames.len() {
        0 => answer,
        more => answer.with("more", more),
    };
    answer.frames(frames)
}

fn forget(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let found = writable(session, args)?;
    let id: MsgId = args
        .parsed("id")?
        .ok_or_else(|| Failure::arguments("`id` is missing"))?;
    let work = session.fabric(found.home)?.forget(found.channel.id, id);
    Ok(Step::later(work, |_, _, written| wrote(&written)))
}

fn search(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let (home, channel) = match args.text("channel") {
        Some(_) => {
            let found = session.find_channel(args)?;
            (found.home, Some(found.channel.id))
        }
        None => (session.find_home(args)?, None),
    };
    let (bytes, query) = (budget(args), args.needed("query").to_owned());
    let work = session.fabric(home)?.search(channel, query, limit(args));
    Ok(Step::later(work, move |session, now, found: Search| {
        let answer = Answer::ok().with("complete", found.complete);
        let answer = match found.since {
            Some(since) => answer.with("searched_s", now.wall.since(since) / 1000),
            None => answer,
        };
        // What a person muted is not shown by a search either.
        let heard = found.messages.iter().filter(|message| {
            let scope = message.place.scope();
            session.state.level(home, scope) != crate::policy::Level::Mute
        });
        let heard: Vec<_> = heard.cloned().collect();
        let frames = heard.iter().map(|message| {
            session
                .state
                .show(now, message, Age::History, 0)
                .standalone()
        });
        let frames = frames.collect();
        fitting(answer, "messages", frames, bytes)
    }))
}
