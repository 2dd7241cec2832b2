//! Tools for facts that members share.

use super::answer::{ANSWER_BYTES_MAX, Answer, Failure};
use super::args::{Arg, Args, Kind, may, need};
use super::{IN_CHANNEL, OFFSET, Set, Step, Tool};
use crate::fabric::Put;
use crate::outbound::flow::Dest;
use crate::policy::Scope;
use crate::session::find::Found;
use crate::session::{Session, WATCHES_MAX, line};
use conclave_client::item::{StateItem, Written};
use conclave_proto::name::SessionPath;
use conclave_proto::time::Now;

const KEY: Arg = need("key", Kind::Text, "");
const IF_VERSION: Arg = may(
    "if_version",
    Kind::Number(u64::MAX),
    "only if it has this version now; 0: only if there is none",
);

/// Tools for facts that members share.
pub(super) const TOOLS: &[Tool] = &[
    Tool::new(
        "set_state",
        Set::State,
        "Write a small shared fact of a channel under a key. Use if_version where others write it, too.",
        &[
            KEY,
            need("value", Kind::Json, "any JSON but null, at most 64 KiB"),
            IF_VERSION,
            IN_CHANNEL,
        ],
        set,
    )
    .emits(),
    Tool::new(
        "get_state",
        Set::State,
        "Read a shared fact, with its version and writer.",
        &[KEY, OFFSET, IN_CHANNEL],
        get,
    ),
    Tool::new(
        "list_state",
        Set::State,
        "List shared facts, by the beginning of their keys.",
        &[may("prefix", Kind::Text, ""), IN_CHANNEL],
        list,
    ),
    Tool::new(
        "delete_state",
        Set::State,
        "Delete a shared fact.",
        &[KEY, IF_VERSION, IN_CHANNEL],
        delete,
    )
    .emits(),
    Tool::new(
        "watch_state",
        Set::State,
        "Be told, and woken, until this session ends, when others change facts whose keys begin so. Else changes are only counted.",
        &[need("prefix", Kind::Text, ""), IN_CHANNEL],
        watch,
    ),
];

/// The longest value in a list, in bytes; the whole by `get_state`.
const LISTED_BYTES_MAX: usize = 400;

/// Returns the channel that a call writes to, if the agent may.
pub(super) fn writable(session: &Session, args: &Args) -> Result<Found, Failure> {
    let found = session.find_channel(args)?;
    let scope = Scope::Channel(found.channel.id);
    let level = session.state.level(found.home, scope);
    match level.may_emit() {
        true => Ok(found),
        false => Err(Failure::level(&format!("#{}", found.channel.name), level)),
    }
}

/// Returns the channel that a call writes these words to, if they may go there by what this session read.
pub(super) fn passable(
    session: &mut Session,
    now: Now,
    args: &Args,
    text: &str,
) -> Result<Found, Failure> {
    let found = writable(session, args)?;
    let to = (
        Dest::Channel(found.channel.id),
        format!("#{}", found.channel.name),
    );
    session.passage(now, found.home, vec![to], text)?;
    Ok(found)
}

fn set(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let value = args.json("value");
    let text = format!(
        "{}: {}",
        args.needed("key"),
        value.as_deref().unwrap_or_default()
    );
    let found = passable(session, now, args, &text)?;
    put(session, &found, args, value)
}

fn delete(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let found = writable(session, args)?;
    put(session, &found, args, None)
}

fn put(
    session: &Session,
    found: &Found,
    args: &Args,
    value: Option<String>,
) -> Result<Step, Failure> {
    let put = Put {
        key: args.needed("key").to_owned(),
        value,
        if_version: args.number("if_version"),
    };
    let work = session.fabric(found.home)?.set_state(found.channel.id, put);
    Ok(Step::later(work, |_, _, written| wrote(&written)))
}

/// Says what became of something that was written.
pub(super) fn wrote(written: &Written) -> Answer {
    match written.version {
        Some(version) => Answer::ok()
            .with("status", "stored")
            .with("version", version),
        None => Answer::ok().with("status", "queued"),
    }
}

fn get(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let (key, offset) = (args.needed("key").to_owned(), args.offset());
    let work = session.fabric(found.home)?.state(found.channel.id, key);
    Ok(Step::later(work, move |session, now, item| {
        let Some(item) = item else {
            return Answer::ok().with("found", false);
        };
        let kept = session.kept_state(found.home, &item, line(&item));
        let answer = Answer::ok()
            .with("found", true)
            .with("version", item.version)
            .with("from", item.sender.to_string());
        match session.is_muted(found.home, item.channel) {
            true => answer.muted(),
            false => {
                let frame = session.state.show_kept_from(now, &kept, offset);
                answer.frames([frame.standalone()])
            }
        }
    }))
}

fn list(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let prefix = args.text("prefix").unwrap_or_default().to_owned();
    let work = session.fabric(found.home)?.states(found.channel.id, prefix);
    Ok(Step::later(
        work,
        move |session, now, mut items: Vec<StateItem>| {
            if session.is_muted(found.home, found.channel.id) {
                return Answer::ok().with("items", items.len()).muted();
            }
            // One frame a writer: what it says is within its own.
            items.sort_by(|a, b| (&a.sender, &a.key).cmp(&(&b.sender, &b.key)));
            let (mut frames, mut bytes, mut shown) = (Vec::new(), 0, 0);
            for (of, text, of_one) in by_writer(&items) {
                let frame = session.kept_state(found.home, of, text);
                let frame = session.state.show_kept(now, &frame).standalone();
                bytes += frame.len();
                if bytes > ANSWER_BYTES_MAX {
                    break;
                }
                shown += of_one;
                frames.push(frame);
            }
            let answer = Answer::ok().with("items", items.len());
            let answer = match shown < items.len() {
                true => answer.with("hint", "not all are shown: ask by a longer prefix"),
                false => answer,
            };
            answer.frames(frames)
        },
    ))
}

/// Joins the items of each writer, as many as a frame shows whole.
fn by_writer(items: &[StateItem]) -> Vec<(&StateItem, String, usize)> {
    let mut frames: Vec<(&StateItem, String, usize)> = Vec::new();
    for item in items {
        let text = line(item);
        let cut = text.floor_char_boundary(LISTED_BYTES_MAX.min(text.len()));
        let more = if cut < text.len() { "…" } else { "" };
        let text = text.get(..cut).unwrap_or_default();
        let text = format!("version {}: {text}{more}", item.version);
        let same = |last: &SessionPath| *last == item.sender;
        match frames.last_mut() {
            Some((of, all, count))
                if same(&of.sender) && all.len() + text.len() < crate::render::INLINE_BYTES_MAX =>
            {
                all.push('\n');
                all.push_str(&text);
                *count += 1;
            }
            _ => frames.push((item, text, 1)),
        }
    }
    frames
}

fn watch(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let prefix = args.needed("prefix").to_owned();
    if !found.channel.followed {
        let text = format!("this session does not follow #{}", found.channel.name);
        return Err(Failure::new("not_joined", text, "call join_channel first"));
    }
    if !session.changes.watch(found.home, found.channel.id, prefix) {
        let text = format!("a session watches at most {WATCHES_MAX} prefixes");
        return Err(Failure::new(
            "limit_reached",
            text,
            "watch a shorter prefix",
        ));
    }
    Ok(Step::Done(Answer::ok()))
}
