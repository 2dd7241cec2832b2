//! Who the agent will be and what peers can make it do, as a person is told before it starts.

use crate::cli::Context;
use crate::cli::{channel, open, owner};
use crate::error::CliError;
use crate::launch::agent::Kind;
use conclave_bridge::files;
use conclave_bridge::launched::Launch;
use conclave_bridge::policy::{Level, Scope};
use conclave_client::home::{Home, Profile};
use conclave_client::{Client, Session};
use conclave_proto::name::Name;
use conclave_proto::reject::Code;
use std::time::Duration;

/// How long a server may take to say which channels there are.
const PROBE: Duration = Duration::from_secs(3);

/// What is known of one server.
pub(super) struct Seen {
    server: Profile,
    /// Why it cannot be asked now.
    down: Option<CliError>,
    channels: Vec<Place>,
    whispers: Option<Level>,
}

/// A channel that this user is in.
struct Place {
    name: Name,
    readers: &'static str,
    level: Option<Level>,
}

/// Asks every server; one that does not answer is known from this machine's disk.
pub(super) async fn all(home: &Home, accounts: &[Profile]) -> Result<Vec<Seen>, CliError> {
    let mut all = Vec::new();
    for server in accounts {
        all.push(one(home, server).await?);
    }
    Ok(all)
}

async fn one(home: &Home, server: &Profile) -> Result<Seen, CliError> {
    let session = Session::one_shot(open::AGENT)?;
    let (client, mut events) = Client::connect(home, server, session).await?;
    let mut seen = Seen {
        server: server.clone(),
        down: open::up(&mut events, PROBE).await.err(),
        channels: Vec::new(),
        whispers: None,
    };
    let filled = match seen.down {
        None => online(home, &client, &mut seen).await,
        Some(_) => offline(&client, &mut seen).await,
    };
    client.stop().await;
    filled.map(|()| seen)
}

async fn online(home: &Home, client: &Client, seen: &mut Seen) -> Result<(), CliError> {
    let owners = owner::keys(client).await?;
    let id = &seen.server.id;
    let (levels, _) = files::load(&home.server_dir(id), id, &owners);
    seen.whispers = Some(levels.level(Scope::Whisper));
    for info in open::joined(client).await? {
        let place = info.name.map(|name| Place {
            name,
            readers: channel::readers(&info.mode),
            level: Some(levels.level(Scope::Channel(info.channel))),
        });
        seen.channels.extend(place);
    }
    Ok(())
}

async fn offline(client: &Client, seen: &mut Seen) -> Result<(), CliError> {
    let me = client.account().user_id;
    for log in client.known_channels().await? {
        let name = log.name().filter(|_| log.role(&me).is_some());
        seen.channels.extend(name.map(|name| Place {
            name: name.clone(),
            readers: channel::readers(log.mode().as_str()),
            level: None,
        }));
    }
    Ok(())
}

/// Returns the names of the channels, each once.
pub(super) fn channels(seen: &[Seen]) -> Vec<Name> {
    let all = seen.iter().flat_map(|seen| &seen.channels);
    let mut names: Vec<_> = all.map(|place| place.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Fails if a channel is meant that this user is not in; says nothing where a server could not be asked.
pub(super) fn check(seen: &[Seen], meant: &[Name]) -> Result<(), CliError> {
    if seen.is_empty() || seen.iter().any(|seen| seen.down.is_some()) {
        return Ok(());
    }
    let known = channels(seen);
    match meant.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let text = format!("you are in no channel #{name}");
            Err(CliError::coded(&Code::NotFound, text).hint(format!(
                "run `conclave join {name}` first, or choose another channel"
            )))
        }
    }
}

/// Tells a person who the agent will be, what peers can and cannot make it do, and how to stop that. Everything
/// goes to standard error: standard output is the agent's.
pub(super) fn announce(
    cx: &Context,
    seen: &[Seen],
    launch: &Launch,
    handle: &Name,
    kind: Kind,
    notes: &[String],
) {
    for seen in seen {
        let you = seen.server.user.as_ref();
        let you = you.map_or_else(String::new, |a| {
            format!("{}/{}/{handle}", a.user, a.machine)
        });
        cx.out.talk(format_args!(
            "conclave: this agent will be {you} on {}",
            open::name(&seen.server)
        ));
        if let Some(down) = &seen.down {
            cx.out
                .talk(format_args!("  not reachable now: {}", down.message));
        }
        let followed =
            |place: &&Place| launch.channels.is_empty() || launch.channels.contains(&place.name);
        for place in seen.channels.iter().filter(followed) {
            let level = place.level.map_or("level unknown", Level::as_str);
            cx.out.talk(format_args!(
                "  #{:<16} {level}  ({})",
                place.name.as_str(),
                place.readers
            ));
        }
        if let Some(level) = seen.whispers {
            cx.out.talk(format_args!("  {:<17} {level}", "whispers"));
        }
    }
    let role = launch.role.iter().map(|role| format!("role {role}"));
    let groups = launch.groups.iter().map(|label| format!("@{label}"));
    let says: Vec<_> = role.chain(groups).collect();
    if !says.is_empty() {
        cx.out
            .talk(format_args!("  it says of itself: {}", says.join(", ")));
    }
    cx.out.talk(CONSENT);
    if kind == Kind::Claude {
        cx.out.talk(HOST_WARNS);
    }
    for note in notes {
        cx.out.talk(format_args!("note: {note}"));
    }
}

const CONSENT: &str = "\
What other sessions say is put before the agent as data. At notify it only reads, at converse it may answer, at act
senders you named may ask for work, within what you allow the agent anyway. No message raises a level, approves a
tool call or adds a machine. `conclave perm show` shows the levels, `conclave pause` stops everything.";

const HOST_WARNS: &str = "\
Claude Code may warn of a development channel: that is conclave, showing messages as they come (--no-channel: never).";
