//! Tools that read things: what is unread, what was said, within what an agent can spend.

use super::answer::{ANSWER_BYTES_MAX, Answer, Failure};
use super::args::{Arg, Args, Kind, may, need};
use super::budget::{Cost, Form, plan};
use super::{OFFSET, PAGE_MAX, Set, Step, Tool, WAIT_S_MAX, memory};
use crate::render::{Frame, INLINE_BYTES_MAX};
use crate::session::Session;
use crate::session::stand::paused;
use crate::state::{Age, HomeId, Message, Place, Thread};
use conclave_client::item::Memory;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;
use serde_json::{Value, json};
use std::time::Duration;

/// What an answer may cost; about four bytes are one token.
const MAX_TOKENS: Arg = may(
    "max_tokens",
    Kind::Number(20_000),
    "the newest whole, the rest as `digest`",
);
const TOKEN_BYTES: usize = 4;

/// Tools that read things.
pub(super) const TOOLS: &[Tool] = &[
    Tool::new(
        "check_messages",
        Set::Core,
        "Return what is unread, everywhere, at once. What it returns counts as read.",
        &[may("max", Kind::Number(PAGE_MAX), "default 20"), MAX_TOKENS],
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
            MAX_TOKENS,
        ],
        wait,
    )
    .eager(),
    Tool::new(
        "read_message",
        Set::Core,
        "Return one message or memory by id, from a byte offset: the rest of a long one.",
        &[need("id", Kind::Text, "msg_id"), OFFSET],
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
            may(
                "max",
                Kind::Number(PAGE_MAX),
                "the newest so many; default 20",
            ),
            MAX_TOKENS,
        ],
        catch_up,
    ),
];

const PAGE_DEFAULT: usize = 20;
const WAIT_S_DEFAULT: u64 = 600;

fn check(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    if session.state.is_paused() {
        return Ok(Step::Done(paused()));
    }
    Ok(Step::Done(session.unread_answer(now, Page::of(args))))
}

fn wait(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    if session.state.unread() > 0 || session.changes.is_due() || session.state.is_paused() {
        return check(session, now, args);
    }
    let seconds = args
        .number("timeout_s")
        .unwrap_or(WAIT_S_DEFAULT)
        .min(WAIT_S_MAX);
    Ok(Step::Wait(Duration::from_secs(seconds), Page::of(args)))
}

fn catch_up(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let page = Page::of(args);
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
            (session.fabric(home)?.whispers(peer, page.max), name)
        }
        None => {
            let found = session.find_channel(args)?;
            let fabric = session.fabric(found.home)?;
            let (id, since) = (found.channel.id, args.number("since"));
            let name = found.channel.name.to_string();
            (fabric.history(id, since, page.max), name)
        }
    };
    Ok(Step::later(
        history,
        move |session, now, messages: Vec<Message>| {
            let answer = Answer::ok().with("channel", name);
            let Some(bytes) = page.bytes else {
                return shown(session, now, &messages, answer);
            };
            let frames = messages.iter().map(|message| {
                let frame = session.state.show(now, message, Age::History, 0);
                frame.standalone()
            });
            let frames = frames.collect();
            let last = messages.last().map(|message| message.seq);
            let (answer, _) = within(now, answer, &messages, frames, bytes);
            match last {
                Some(seq) => answer.with("last_seq", seq),
                None => answer,
            }
        },
    ))
}

/// Shows messages whole, as many as an answer holds.
fn shown(session: &mut Session, now: Now, messages: &[Message], answer: Answer) -> Answer {
    let (mut frames, mut bytes, mut last) = (Vec::new(), 0, None);
    for message in messages {
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
    let answer = answer.with("messages", frames.len());
    let answer = match last {
        Some(seq) => answer.with("last_seq", seq),
        None => answer,
    };
    answer.frames(frames)
}

/// Shows messages, oldest first, within a budget: some whole, some as a digest, some only counted.
/// Returns the form of each.
fn within(
    now: Now,
    answer: Answer,
    messages: &[Message],
    frames: Vec<String>,
    bytes: usize,
) -> (Answer, Vec<Form>) {
    let headers: Vec<Value> = messages.iter().map(|m| header(now, m)).collect();
    let costs = headers.iter().zip(&frames).map(|(header, frame)| Cost {
        header: header.to_string().len() + 1,
        whole: frame.len() + 1,
    });
    let forms = plan(&costs.collect::<Vec<_>>(), bytes);
    let is = |wanted: Form| forms.iter().map(move |form| *form == wanted);
    let of = |wanted: Form| forms.iter().filter(|form| **form == wanted).count();
    let mut answer = answer.with("messages", of(Form::Whole));
    let digest = headers.into_iter().zip(is(Form::Header));
    let digest: Vec<Value> = digest
        .filter_map(|(h, wanted)| wanted.then_some(h))
        .collect();
    if !digest.is_empty() {
        answer = answer.with("digest", digest);
    }
    if of(Form::Left) > 0 {
        answer = answer.with("more", of(Form::Left));
    }
    if of(Form::Whole) == 0 && !forms.is_empty() {
        answer = answer.with(
            "hint",
            "none fits whole: read_message, or spend more tokens",
        );
    }
    let frames = frames.into_iter().zip(is(Form::Whole));
    let frames: Vec<String> = frames
        .filter_map(|(frame, wanted)| wanted.then_some(frame))
        .collect();
    (answer.frames(frames), forms)
}

/// Says what a message is, by what is certain of it.
fn header(now: Now, message: &Message) -> Value {
    let place = match &message.place {
        Place::Whisper => "whisper".to_owned(),
        Place::Channel(_, name) => format!("#{name}"),
    };
    json!({
        "id": message.id.to_string(),
        "from": message.from.to_string(),
        "in": place,
        "age_s": now.wall.since(message.at) / 1000,
        "bytes": message.text.len(),
    })
}

fn read(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let id = args
        .parsed("id")?
        .ok_or_else(|| Failure::arguments("`id` is missing"))?;
    let offset = args.offset();
    let mut found = session.state.find(id);
    // What the agent was shown under an id is what it means by it, not what somebody else said under it.
    let meant: Vec<_> = session.state.threads(id).iter().map(whose).collect();
    let is_meant = move |m: &Message| meant.is_empty() || meant.contains(&(m.home, m.from.clone()));
    found.retain(&is_meant);
    if found.len() == session.state.threads(id).len() && !found.is_empty() {
        return Ok(Step::Done(read_answer(session, now, &found, offset)));
    }
    let homes = session.find_homes(args)?;
    let asked = homes
        .iter()
        .map(|(home, _)| Ok(session.fabric(*home)?.messages(id)));
    let asked: Vec<_> = asked.collect::<Result<_, Failure>>()?;
    let kept = homes
        .iter()
        .map(|(home, _)| Ok((*home, session.fabric(*home)?.memory(id))));
    let kept: Vec<_> = kept.collect::<Result<_, Failure>>()?;
    let all = Box::pin(async move {
        for search in asked {
            for message in search.await? {
                if !found
                    .iter()
                    .any(|m| (m.home, &m.from) == (message.home, &message.from))
                {
                    found.push(message);
                }
            }
        }
        found.retain(is_meant);
        if !found.is_empty() {
            return Ok(Found::Said(found));
        }
        for (home, search) in kept {
            if let Some(memory) = search.await? {
                return Ok(Found::Kept((home, memory)));
            }
        }
        let text = "there is no message or memory of that id here";
        Err(Reject::new(Code::NotFound, text))
    });
    Ok(Step::later(all, move |session, now, found| match found {
        Found::Said(found) => read_answer(session, now, &found, offset),
        Found::Kept(memory) => memory::one(session, now, &memory, offset),
    }))
}

/// What an id is of.
enum Found {
    Said(Vec<Message>),
    Kept((HomeId, Memory)),
}

fn whose(thread: &Thread) -> (HomeId, SessionPath) {
    (thread.home, thread.from.clone())
}

/// The most senders of one id of which a call shows the message.
const SENDERS_MAX: usize = 4;

fn read_answer(session: &mut Session, now: Now, found: &[Message], offset: usize) -> Answer {
    let mut frames = Vec::new();
    for message in found.iter().take(SENDERS_MAX) {
        session
            .state
            .shown(message.home, message.log, &message.from, message.id);
        let frame = session.state.show(now, message, Age::History, offset);
        frames.push(frame.standalone());
    }
    Answer::ok().frames(frames)
}

/// What the facts of an answer take, in bytes, but for lists.
const FACTS_BYTES: usize = 512;

/// What one frame takes at most, in bytes.
const FRAME_BYTES_MAX: usize = 2 * INLINE_BYTES_MAX;

/// How much a call may return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// So many messages.
    pub(crate) max: usize,
    /// So many bytes, if the agent says what it can spend.
    bytes: Option<usize>,
}

impl Page {
    fn of(args: &Args) -> Self {
        let number = |name| args.number(name).and_then(|n| usize::try_from(n).ok());
        let bytes = number("max_tokens").map(|tokens| tokens.saturating_mul(TOKEN_BYTES));
        Self {
            max: number("max").unwrap_or(PAGE_DEFAULT).max(1),
            bytes: bytes.map(|bytes| bytes.min(ANSWER_BYTES_MAX)),
        }
    }
}

impl Session {
    /// Takes what is unread into an answer. What only a header is shown of stays unread.
    pub(crate) fn unread_answer(&mut self, now: Now, page: Page) -> Answer {
        let notes = self.state.fetched(now);
        let answer = self.lapsed.take_into(Answer::ok());
        let answer = answer.frames(notes.iter().map(Frame::standalone));
        let taken = answer.to_text().len() + FACTS_BYTES;
        let bytes = ANSWER_BYTES_MAX.saturating_sub(taken);
        let bytes = page.bytes.unwrap_or(bytes).min(bytes);
        // A quarter has room for one change of any size.
        let (answer, left) = self.changes_into(now, answer, bytes / 4);
        let bytes = bytes - bytes / 4 + left;
        match page.bytes {
            None => self.oldest_into(now, answer, page.max, bytes),
            Some(_) => self.newest_into(now, answer, page.max, bytes),
        }
    }

    /// Adds what is unread, whole, in its order.
    fn oldest_into(&mut self, now: Now, answer: Answer, max: usize, bytes: usize) -> Answer {
        // The last one may go beyond.
        let most = bytes.saturating_sub(FRAME_BYTES_MAX).max(1);
        let frames = self
            .state
            .take_unread(now, max, most.min(ANSWER_BYTES_MAX / 2));
        let answer = answer.with("messages", frames.len());
        answer.frames(frames.iter().map(Frame::standalone))
    }

    /// Adds what is unread: the newest whole, as far as `bytes` go.
    fn newest_into(&mut self, now: Now, answer: Answer, max: usize, bytes: usize) -> Answer {
        let (messages, frames) = self.state.newest_unread(now, max).into_iter().unzip();
        let messages: Vec<Message> = messages;
        let (answer, forms) = within(now, answer, &messages, frames, bytes);
        let of = |wanted| move |(_, form): &(&Message, &Form)| **form == wanted;
        for (message, _) in messages.iter().zip(&forms).filter(of(Form::Whole)) {
            self.state
                .shown(message.home, message.log, &message.from, message.id);
        }
        let named = messages.iter().zip(&forms).filter(of(Form::Header)).count();
        match self.state.unread() - named {
            0 => answer,
            more => answer.with("more", more),
        }
    }
}
