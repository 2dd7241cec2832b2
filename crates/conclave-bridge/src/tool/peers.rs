//! Tools about peers: who is there, what this session says of itself, and saying something to any of
//! them.

use super::address::{TO, addressed, failure};
use super::answer::{ANSWER_BYTES_MAX, Answer, Failure};
use super::args::{Args, Kind, may, need};
use super::say::{Say, say};
use super::{IN_CHANNEL, Set, Step, Tool};
use crate::fabric::PeerInfo;
use crate::labels::Change;
use crate::outbound::flow::Dest;
use crate::session::Session;
use crate::state::{HomeId, Kept, Place};
use conclave_client::address::Unresolved;
use conclave_proto::body::Priority;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::profile::{Group, Label, Status};
use conclave_proto::time::Now;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The tool that sends.
pub(super) const SENDING: &[Tool] = &[Tool::new(
    "send_message",
    Set::Core,
    "Send a message; each recipient gets it once. \"stored\": the server has it; \"queued\": it goes out later by itself.",
    &[
        TO,
        need("message", Kind::Text, ""),
        may("priority", Kind::Choice(&["now", "next", "low"]), "now interrupts; low is only fetched"),
        may("reply_to", Kind::Text, "msg_id of the message this answers"),
        may("expects_reply", Kind::Flag, ""),
        IN_CHANNEL,
    ],
    send_message,
)
.emits()
.eager()];

/// Tools about peers.
pub(super) const TOOLS: &[Tool] = &[
    Tool::new(
        "list_peers",
        Set::Core,
        "List who is in a channel: role, groups, status, summary.",
        &[may("group", Kind::Text, "only who carries it"), IN_CHANNEL],
        list_peers,
    )
    .eager(),
    Tool::new(
        "set_summary",
        Set::Core,
        "Tell peers in a sentence what you work on.",
        &[need("summary", Kind::Text, "empty: none")],
        set_summary,
    ),
    Tool::new(
        "set_status",
        Set::Groups,
        "Tell peers what you are doing. While working, messages wait up to 10 minutes; in dnd, until it ends, unless sent with priority now.",
        &[need(
            "status",
            Kind::Choice(&["idle", "working", "waiting", "dnd"]),
            "",
        )],
        set_status,
    ),
    Tool::new(
        "join_group",
        Set::Groups,
        "Carry a group in a channel, or change your role in it. @a reaches a/b, too.",
        &[
            need("name", Kind::Text, "group, up to 4 names with / between"),
            may("role", Kind::Text, "your role in it"),
            IN_CHANNEL,
        ],
        join_group,
    ),
    Tool::new(
        "leave_group",
        Set::Groups,
        "Carry a group, and those below it, no more.",
        &[need("name", Kind::Text, ""), IN_CHANNEL],
        leave_group,
    ),
];

/// The most sessions listed.
const LIST_MAX: usize = 200;
/// The most bytes of the facts about them: the other half of an answer is for what they wrote, and for
/// what is around both.
const ROWS_BYTES_MAX: usize = ANSWER_BYTES_MAX / 2 - 1024;
/// The most labels of one session that are listed.
const LABELS_MAX: usize = 4;

fn send_message(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let reply_to = args.parsed("reply_to")?;
    let text = args.needed("message").to_owned();
    let priority = args.text("priority").and_then(Priority::from_word);
    let expects_reply = args.flag("expects_reply");
    addressed(session, args, move |session, now, to| {
        let what = Say {
            home: to.home,
            parts: to.parts,
            text,
            reply_to,
            priority: priority.unwrap_or(Priority::Next),
            expects_reply,
            receipt: false,
        };
        let said = say(session, now, what)?;
        Ok(Step::later_or(said, |_, _, said| said.answer()))
    })
}

fn list_peers(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let group = args.parsed::<Group>("group")?;
    let found = session.find_channel(args)?;
    let asked = session.fabric(found.home)?.roster(found.channel.id);
    let (home, id, name) = (found.home, found.channel.id, found.channel.name);
    Ok(Step::later_or(asked, move |session, now, mut peers| {
        let known = groups(&peers);
        if let Some(group) = &group {
            peers.retain(|peer| peer.profile.as_ref().is_some_and(|p| p.is_in(group)));
            if peers.is_empty() {
                return Err(failure(Unresolved::NotFound {
                    what: "group",
                    to: format!("@{group}"),
                    place: format!(" in #{name}"),
                    candidates: known.into_iter().map(|group| format!("@{group}")).collect(),
                }));
            }
        }
        let me = session.view(home).and_then(|view| view.path);
        let total = peers.len();
        let rows = peers
            .iter()
            .map(|p| row(p, group.as_ref(), me.as_ref(), now));
        let rows = fitting(rows.take(LIST_MAX));
        peers.truncate(rows.len());
        let left = total - rows.len();
        let mut answer = Answer::ok()
            .with("channel", format!("#{name}"))
            .with("peers", rows);
        if left > 0 {
            answer = answer.with("more", left).with(
                "hint",
                "not all are listed: name a `group`, or another `channel`",
            );
        }
        let place = Place::Channel(id, name.to_string());
        let frames = match session.is_muted(home, id) {
            true => Vec::new(),
            false => summaries(session, now, home, &place, peers),
        };
        Ok(answer.frames(frames))
    }))
}

/// Takes rows as far as there is room.
fn fitting(rows: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut left = ROWS_BYTES_MAX;
    let fits = |row: &Value| {
        let bytes = row.to_string().len() + 1;
        let enough = bytes <= left;
        left = left.saturating_sub(bytes);
        enough
    };
    rows.take_while(fits).collect()
}

/// One session, in words of a narrow alphabet: nothing a peer wrote freely. What carries the group that is
/// asked for comes first.
fn row(peer: &PeerInfo, asked: Option<&Group>, me: Option<&SessionPath>, now: Now) -> Value {
    let profile = peer.profile.clone().unwrap_or_default();
    let carries = |label: &&Label| asked.is_some_and(|group| group.reaches(&label.name));
    let (first, rest): (Vec<_>, Vec<_>) = profile.groups.iter().partition(carries);
    let labels = first.into_iter().chain(rest).take(LABELS_MAX);
    let groups: Vec<String> = labels.map(Label::to_string).collect();
    let more = profile.groups.len() - groups.len();
    let mut row = json!({
        "to": peer.path.to_string(),
        "online": peer.online,
        "here_s": now.wall.since(peer.since) / 1000,
    });
    let mut add = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            row[key] = value;
        }
    };
    add("you", (Some(&peer.path) == me).then_some(true.into()));
    add("role", profile.role.map(|role| role.to_string().into()));
    add("groups", (!groups.is_empty()).then(|| groups.into()));
    add("more_groups", (more > 0).then(|| more.into()));
    add(
        "status",
        profile.status.map(|status| status.as_str().into()),
    );
    add("agent", agent(&peer.agent).map(Into::into));
    // When its agent was last woken for certain, by its own account.
    let wake = profile.wake;
    let path = wake.and_then(|wake| wake.path);
    add("wake", path.map(|path| path.as_str().into()));
    let woke_s = wake.map(|wake| (now.wall.since(wake.at) / 1000).into());
    add("woke_s", woke_s);
    let proven = peer.proven.map(|at| (now.wall.since(at) / 1000).into());
    add("proven_s", proven);
    row
}

/// Returns which program a peer says it is, if that is one plain word.
fn agent(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._/+-".contains(&b);
    let fits = !text.is_empty() && text.len() <= 48 && text.bytes().all(plain);
    fits.then(|| text.to_owned())
}

fn groups(peers: &[PeerInfo]) -> BTreeSet<Group> {
    let said = peers.iter().filter_map(|peer| peer.profile.as_ref());
    let labels = said.flat_map(|profile| &profile.groups);
    labels
        .map(|label| label.name.clone())
        .take(LIST_MAX)
        .collect()
}

/// Frames what peers wrote of themselves, as far as there is room.
fn summaries(
    session: &mut Session,
    now: Now,
    home: HomeId,
    place: &Place,
    peers: Vec<PeerInfo>,
) -> Vec<String> {
    let (mut frames, mut bytes) = (Vec::new(), 0);
    for peer in peers {
        let Some(text) = peer.profile.and_then(|profile| profile.summary) else {
            continue;
        };
        let kept = Kept {
            home,
            place: place.clone(),
            kind: "summary",
            from: peer.path,
            sender: peer.sender,
            at: now.wall,
            id: None,
            seq: None,
            text,
        };
        let frame = session.state.show_kept(now, &kept).standalone();
        bytes += frame.len();
        if bytes > ANSWER_BYTES_MAX / 2 {
            break;
        }
        frames.push(frame);
    }
    frames
}

fn set_summary(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let text = args.needed("summary").to_owned();
    for (home, view) in session.find_homes(args)? {
        let followed = view.channels.iter().filter(|channel| channel.followed);
        let to = followed.map(|c| (Dest::Channel(c.id), format!("#{}", c.name)));
        session.passage(now, home, to.collect(), &text)?;
    }
    everywhere(session, args, &Change::Summary(Some(text)))?;
    Ok(Step::Done(Answer::ok()))
}

fn set_status(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let word = args.needed("status");
    let status = Status::from_word(word).unwrap_or(Status::Idle);
    everywhere(session, args, &Change::Status(status))?;
    Ok(Step::Done(Answer::ok().with("status", status.as_str())))
}

/// Changes what this session says of itself on each server that is meant.
fn everywhere(session: &mut Session, args: &Args, change: &Change) -> Result<(), Failure> {
    for (home, _) in session.find_homes(args)? {
        session.fabric(home)?.change_labels(change.clone())?;
        session.refresh(home);
    }
    Ok(())
}

fn join_group(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let label = Label {
        name: args
            .parsed("name")?
            .ok_or_else(|| Failure::arguments("`name` is missing"))?,
        role: args.parsed::<Name>("role")?,
    };
    let found = session.find_channel(args)?;
    in_channel(session, args, Change::Join(found.channel.id, label))
}

fn leave_group(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let group = args
        .parsed::<Group>("name")?
        .ok_or_else(|| Failure::arguments("`name` is missing"))?;
    let found = session.find_channel(args)?;
    in_channel(session, args, Change::Leave(found.channel.id, group))
}

fn in_channel(session: &mut Session, args: &Args, change: Change) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let labels = session.fabric(found.home)?.change_labels(change)?;
    session.refresh(found.home);
    let groups = labels.profile(&found.channel.id).groups;
    let groups: Vec<String> = groups.iter().map(Label::to_string).collect();
    Ok(Step::Done(
        Answer::ok()
            .with("channel", format!("#{}", found.channel.name))
            .with("groups", groups),
    ))
}
