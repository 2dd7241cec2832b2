//! Tools about channels, presence and levels.

use super::answer::{Answer, Failure};
use super::args::{Args, Kind, may, need};
use super::{CHANNEL, Set, Step, Tool};
use crate::fabric::{ChannelView, Later, PeerView};
use crate::outbound::flow::Dest;
use crate::policy::{Level, Scope};
use crate::session::{Session, exact_name};
use crate::state::HomeId;
use conclave_proto::channel_log::{Mode, Role, Visibility};
use conclave_proto::id::ChannelId;
use conclave_proto::name::Name;
use conclave_proto::time::Now;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LEVEL: Kind = Kind::Choice(&["mute", "notify", "converse", "act"]);
pub(super) const VISIBILITY: Kind = Kind::Choice(&["public", "unlisted", "private"]);

/// Tools about channels, presence and levels.
pub(super) const TOOLS: &[Tool] = &[
    Tool::new(
        "who",
        Set::Seed,
        "List the sessions that are there now, and how to address them.",
        &[may("channel", Kind::Text, "only this channel's")],
        who,
    ),
    Tool::new(
        "list_channels",
        Set::Core,
        "List the channels you are in, with who can read them and the level, and the public ones you can join (there the server can read).",
        &[],
        list,
    ),
    Tool::new(
        "join_channel",
        Set::Core,
        "Join a public or unlisted channel by name, or follow one your user is a member of.",
        &[CHANNEL, may("perm", LEVEL, "lower the level here")],
        join,
    ),
    Tool::new(
        "leave_channel",
        Set::Seed,
        "Stop following a channel in this session. Your user stays a member.",
        &[CHANNEL],
        leave,
    ),
    Tool::new(
        "set_perm",
        Set::Core,
        "Lower how far messages may carry: for one channel, for whispers, or for everything. It cannot raise.",
        &[
            need("level", LEVEL, ""),
            may("channel", Kind::Text, ""),
            may("whisper", Kind::Flag, "the level of whispers"),
        ],
        set_perm,
    ),
    Tool::new(
        "create_channel",
        Set::Seed,
        "Create a channel. Private ones are end-to-end encrypted; public and unlisted ones the server can read.",
        &[
            need("name", Kind::Text, "a-z 0-9 . _ -"),
            may("visibility", VISIBILITY, "default private"),
            may("topic", Kind::Text, ""),
        ],
        create,
    ),
];

/// The most sessions or public channels listed.
const LIST_MAX: usize = 200;

/// Asks several servers, one after the other; the answers keep the server.
fn each<T: Send + 'static>(asked: Vec<(HomeId, Later<T>)>) -> Later<Vec<(HomeId, T)>> {
    Box::pin(async move {
        let mut answers = Vec::new();
        for (home, later) in asked {
            answers.push((home, later.await?));
        }
        Ok(answers)
    })
}

fn list(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let homes = session.find_homes(args)?;
    let asked = homes
        .iter()
        .map(|(home, _)| Ok((*home, session.fabric(*home)?.directory())));
    let asked = asked.collect::<Result<Vec<_>, Failure>>()?;
    // Without a connection the joined channels are still known.
    let directory: Later<_> = Box::pin(async move { Ok(each(asked).await.unwrap_or_default()) });
    Ok(Step::later(directory, move |session, _, public| {
        let mut servers = Vec::new();
        for (home, _) in &homes {
            let Some(view) = session.view(*home) else {
                continue;
            };
            let ids: Vec<ChannelId> = view.channels.iter().map(|channel| channel.id).collect();
            let joined = view
                .channels
                .iter()
                .filter(|channel| channel.role.is_some());
            let joined: Vec<Value> = joined
                .map(|channel| describe(session, *home, channel, &view.channels))
                .collect();
            let others = public
                .iter()
                .filter(|(of, _)| of == home)
                .flat_map(|(_, list)| list);
            let others = others
                .filter(|channel| !ids.contains(&channel.id))
                .take(LIST_MAX);
            servers.push(json!({
                "server": view.name,
                "you": view.path.map(|path| path.to_string()),
                "online": view.online,
                "whispers": session.state.level(*home, Scope::Whisper).as_str(),
                "channels": joined,
                "public": others.map(|channel| channel.name.as_str()).collect::<Vec<_>>(),
            }));
        }
        Answer::ok().with("servers", servers)
    }))
}

fn describe(session: &Session, home: HomeId, channel: &ChannelView, all: &[ChannelView]) -> Value {
    let twin = all
        .iter()
        .filter(|other| other.name == channel.name)
        .count()
        > 1;
    let mut described = json!({
        "channel": if twin { exact_name(channel) } else { channel.name.to_string() },
        "visibility": channel.visibility.as_str(),
        "mode": channel.mode.as_str(),
        "server_can_read": channel.mode == Mode::Signed,
        "role": channel.role.map(Role::as_str),
        "level": session.state.level(home, Scope::Channel(channel.id)).as_str(),
        "followed": channel.followed,
    });
    if channel.confidential {
        described["confidential"] = true.into();
    }
    described
}

fn who(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let asked = match args.text("channel") {
        Some(_) => {
            let found = session.find_channel(args)?;
            vec![(
                found.home,
                session.fabric(found.home)?.who(Some(found.channel.id)),
            )]
        }
        None => {
            let homes = session.find_homes(args)?;
            let asked = homes
                .iter()
                .map(|(home, _)| Ok((*home, session.fabric(*home)?.who(None))));
            asked.collect::<Result<Vec<_>, Failure>>()?
        }
    };
    Ok(Step::later(
        each(asked),
        |session, _, answers: Vec<(HomeId, Vec<PeerView>)>| {
            let mut sessions = Vec::new();
            for (home, peers) in answers {
                let Some(view) = session.view(home) else {
                    continue;
                };
                for peer in peers.iter().take(LIST_MAX) {
                    sessions.push(json!({
                        "to": peer.path.to_string(),
                        "online": peer.online,
                        "you": view.path.as_ref() == Some(&peer.path),
                        "server": view.name,
                    }));
                }
            }
            Answer::ok().with("sessions", sessions)
        },
    ))
}

fn join(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let level = args.parsed::<Level>("perm")?;
    if let Ok(found) = session.find_channel(args) {
        let hushed =
            !found.channel.followed && session.hush(found.home, Dest::Channel(found.channel.id))?;
        let followed = session.fabric(found.home)?.follow(found.channel.id);
        return Ok(Step::later_or(followed, move |session, _, ()| {
            Ok(told(
                joined(session, found.home, &found.channel, level)?,
                hushed,
            ))
        }));
    }
    let home = session.find_home(args)?;
    let name: Name = args
        .needed("channel")
        .trim_start_matches('#')
        .parse()
        .map_err(
            // A name that cannot exist is told as one that does not.
            |e| Failure::arguments(format!("`channel`: {e}")),
        )?;
    // Who is not a member yet can only enter what is open.
    let hushed = session.hush(home, Dest::New(Visibility::Public))?;
    let fabric = session.fabric(home)?;
    Ok(Step::later_or(
        fabric.join(name),
        move |session, _, channel| {
            session.refresh(home);
            Ok(told(joined(session, home, &channel, level)?, hushed))
        },
    ))
}

/// Tells the agent that it says nothing of itself any more.
fn told(answer: Answer, hushed: bool) -> Answer {
    match hushed {
        true => answer.with(
            "summary",
            "taken back: it may be of what you read where others cannot; set_summary says what may be known here",
        ),
        false => answer,
    }
}

fn joined(
    session: &mut Session,
    home: HomeId,
    channel: &ChannelView,
    level: Option<Level>,
) -> Result<Answer, Failure> {
    session.refresh(home);
    let scope = Scope::Channel(channel.id);
    if let Some(level) = level {
        lower(session, home, scope, level)?;
    }
    Ok(Answer::ok()
        .with("channel", channel.name.as_str())
        .with("visibility", channel.visibility.as_str())
        .with("mode", channel.mode.as_str())
        .with("server_can_read", channel.mode == Mode::Signed)
        .with("level", session.state.level(home, scope).as_str()))
}

fn leave(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let left = session.fabric(found.home)?.unfollow(found.channel.id);
    Ok(Step::later(left, move |session, _, ()| {
        session.refresh(found.home);
        Answer::ok()
            .with("channel", found.channel.name.as_str())
            .with("followed", false)
    }))
}

fn set_perm(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let level = args.parsed::<Level>("level")?.unwrap_or(Level::Mute);
    let scopes: BTreeMap<HomeId, Scope> = match (args.text("channel"), args.flag("whisper")) {
        (Some(_), true) => {
            return Err(Failure::arguments(
                "either `channel` or `whisper`, not both",
            ));
        }
        (Some(_), false) => {
            let found = session.find_channel(args)?;
            [(found.home, Scope::Channel(found.channel.id))].into()
        }
        (None, whisper) => {
            let scope = if whisper {
                Scope::Whisper
            } else {
                Scope::Default
            };
            session
                .find_homes(args)?
                .into_iter()
                .map(|(home, _)| (home, scope))
                .collect()
        }
    };
    for (home, scope) in &scopes {
        lower(session, *home, *scope, level)?;
    }
    Ok(Step::Done(Answer::ok().with("level", level.as_str())))
}

/// Lowers a level, keeps that, and puts it into force.
fn lower(session: &mut Session, home: HomeId, scope: Scope, level: Level) -> Result<(), Failure> {
    let Some(view) = session.state.home(home) else {
        return Ok(());
    };
    let mut levels = view.levels.clone();
    let fault = |e: crate::policy::NotLower| {
        Failure::new(
            "only_lower",
            e.to_string(),
            "ask your human: `conclave perm set`",
        )
    };
    levels.lower(scope, level).map_err(fault)?;
    session.fabric(home)?.keep_lowered(levels.lowered())?;
    session.refresh(home);
    Ok(())
}

fn create(session: &mut Session, now: Now, args: &Args) -> Result<Step, Failure> {
    let home = session.find_home(args)?;
    let name = Name::claim(args.needed("name").trim_start_matches('#'))
        .map_err(|e| Failure::arguments(format!("`name`: {e}")))?;
    let visibility = visibility(args).unwrap_or(Visibility::Private);
    let topic = args.text("topic").map(str::to_owned);
    if let Some(topic) = &topic {
        let to = (Dest::New(visibility), format!("#{name}"));
        session.passage(now, home, vec![to], topic)?;
    }
    let created: Later<ChannelView> = session.fabric(home)?.create(name, visibility, topic);
    Ok(Step::later_or(created, move |session, _, channel| {
        joined(session, home, &channel, None)
    }))
}

/// Returns the visibility a call names; the table says that it is one of three words.
pub(super) fn visibility(args: &Args) -> Option<Visibility> {
    Some(match args.text("visibility")? {
        "public" => Visibility::Public,
        "unlisted" => Visibility::Unlisted,
        _ => Visibility::Private,
    })
}
