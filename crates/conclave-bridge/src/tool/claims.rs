//! Tools for who works on what.

use super::answer::{ANSWER_BYTES_MAX, Answer, Failure};
use super::args::{Arg, Args, Kind, may, need};
use super::state::{passable, writable};
use super::{IN_CHANNEL, Set, Step, Tool};
use crate::fabric::Bid;
use crate::render::INLINE_BYTES_MAX;
use crate::session::{Session, sender};
use crate::state::Kept;
use conclave_client::item::Claim;
use conclave_proto::time::Now;

const RESOURCE: Arg = need(
    "resource",
    Kind::Text,
    "free text, or path:src/** for files of this repository",
);
const TTL: Arg = may("ttl_s", Kind::Number(86_400), "default 900");
const NOTE: Arg = may("note", Kind::Text, "what you do with it");

/// Tools for who works on what.
pub(super) const TOOLS: &[Tool] = &[
    Tool::new(
        "claim",
        Set::Claims,
        "Reserve something, or files, before you work on it; others see that and keep off. Lapses by itself; ends with this session.",
        &[RESOURCE, TTL, NOTE, IN_CHANNEL],
        claim,
    )
    .emits(),
    Tool::new(
        "renew",
        Set::Claims,
        "Keep a claim of yours for longer.",
        &[RESOURCE, TTL, NOTE, IN_CHANNEL],
        renew,
    )
    .emits(),
    Tool::new(
        "release",
        Set::Claims,
        "Give a claim of yours back.",
        &[RESOURCE, IN_CHANNEL],
        release,
    )
    .emits(),
    Tool::new(
        "list_claims",
        Set::Claims,
        "List who has claimed what.",
        &[may("with", Kind::Text, "part of a holder or resource"), IN_CHANNEL],
        list,
    ),
];

const TTL_S_DEFAULT: u64 = 900;

/// How much of an answer are frames.
const FRAMES_BYTES_MAX: usize = ANSWER_BYTES_MAX - 1024;

fn bid(args: &Args) -> Bid {
    Bid {
        resource: args.needed("resource").to_owned(),
        ttl_ms: args.number("ttl_s").unwrap_or(TTL_S_DEFAULT) * 1000,
        note: args.text("note").map(str::to_owned),
    }
}

/// What a claim says to others.
fn words(args: &Args) -> String {
    let note = args.text("note").unwrap_or_default();
    format!("{}: {note}", args.needed("resource"))
}

fn claim(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let found = passable(session, now, args, &words(args))?;
    let work = session
        .fabric(found.home)?
        .claim(found.channel.id, bid(args));
    Ok(Step::later(work, |_, _, claim| held(&claim)))
}

fn renew(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let found = passable(session, now, args, &words(args))?;
    let work = session
        .fabric(found.home)?
        .renew(found.channel.id, bid(args));
    Ok(Step::later(work, |_, _, claim| held(&claim)))
}

/// What the agent named is its own words; the one form of it is made of them.
fn held(claim: &Claim) -> Answer {
    Answer::ok()
        .with("resource", claim.resource.as_str())
        .with("token", claim.token)
        .with("left_s", claim.left_ms / 1000)
}

fn release(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let found = writable(session, args)?;
    let resource = args.needed("resource").to_owned();
    let work = session
        .fabric(found.home)?
        .release(found.channel.id, resource);
    Ok(Step::later(work, |_, _, ()| Answer::ok()))
}

fn list(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let with = args.text("with").unwrap_or_default().to_owned();
    let work = session.fabric(found.home)?.claims(found.channel.id);
    Ok(Step::later(
        work,
        move |session, now, mut claims: Vec<Claim>| {
            if session.is_muted(found.home, found.channel.id) {
                return Answer::ok().with("claims", claims.len()).muted();
            }
            let has = |text: &str| text.contains(&with);
            claims.retain(|c| has(c.resource.as_str()) || has(&c.holder.to_string()));
            claims.sort_by(|a, b| (&a.holder, &a.resource).cmp(&(&b.holder, &b.resource)));
            let (mut frames, mut left, mut more) = (Vec::new(), FRAMES_BYTES_MAX, claims.len());
            for (of, text, of_one) in by_holder(&claims) {
                let kept = Kept {
                    home: found.home,
                    place: session.place(found.home, found.channel.id),
                    kind: "claim",
                    from: of.holder.clone(),
                    sender: sender(of.user, &of.facts, of.at),
                    at: of.at,
                    id: None,
                    seq: None,
                    text,
                };
                let frame = session.state.show_kept(now, &kept).standalone();
                if frame.len() > left {
                    break;
                }
                left -= frame.len();
                more -= of_one;
                frames.push(frame);
            }
            let answer = Answer::ok().with("claims", claims.len());
            let answer = match more {
                0 => answer,
                n => answer.with("more", n).with(
                    "hint",
                    "not all are shown: name what you look for with `with`",
                ),
            };
            answer.frames(frames)
        },
    ))
}

/// Joins the claims of each holder, as many as a frame shows whole.
fn by_holder(claims: &[Claim]) -> Vec<(&Claim, String, usize)> {
    let mut frames: Vec<(&Claim, String, usize)> = Vec::new();
    for claim in claims {
        let text = line(claim);
        match frames.last_mut() {
            Some((of, all, count))
                if of.holder == claim.holder && all.len() + text.len() < INLINE_BYTES_MAX =>
            {
                all.push('\n');
                all.push_str(&text);
                *count += 1;
            }
            _ => frames.push((claim, text, 1)),
        }
    }
    frames
}

/// Says what one claim is; its holder is the frame's.
fn line(claim: &Claim) -> String {
    let note = claim.note.as_deref().unwrap_or_default();
    let note = note.replace(['\n', '\r'], " ");
    let dash = if note.is_empty() { "" } else { " - " };
    format!(
        "token {}, {} s left: {}{dash}{note}",
        claim.token,
        claim.left_ms / 1000,
        claim.resource
    )
}
