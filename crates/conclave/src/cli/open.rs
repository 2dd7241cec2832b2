//! Opening the client library for one command: which server, and a session on it.

use super::Context;
use crate::error::{CliError, Exit, Own};
use conclave_client::client::Channel;
use conclave_client::home::{Home, Profile};
use conclave_client::{Client, ClientError, Event, Session};
use conclave_proto::channel_log::Role;
use conclave_proto::frame::reply::ChannelInfo;
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a command waits for its session: until the first attempt has failed, or as long as this.
const UP: Duration = Duration::from_secs(10);

/// What this program calls itself to servers.
pub(crate) const AGENT: &str = concat!("conclave/", env!("CARGO_PKG_VERSION"));

/// Which server a command is about.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Target {
    /// The server, by URL or part of it; needed only if this machine knows several
    #[arg(long, env = crate::config::ENV_SERVER, value_name = "SERVER")]
    pub(crate) server: Option<String>,
}

/// Returns what a session is called that was given no name: its directory.
pub(crate) fn handle_here() -> Name {
    let dir = std::env::current_dir().unwrap_or_default();
    Name::slug(&dir.file_name().unwrap_or_default().to_string_lossy())
}

/// Opens the directory of this machine, and makes it if need be.
pub(crate) fn home(cx: &Context) -> Result<Home, CliError> {
    Ok(Home::open(&cx.config_dir()?)?)
}

/// Returns the directory if there is one: looking makes nothing.
pub(crate) fn existing_home(cx: &Context) -> Result<Option<Home>, CliError> {
    if cx.config_dir()?.exists() {
        home(cx).map(Some)
    } else {
        Ok(None)
    }
}

/// Finds the one server that is meant.
pub(crate) fn server(cx: &Context, target: &Target) -> Result<(Home, Profile), CliError> {
    let none = || {
        CliError::own(Own::NoServer, "this machine knows no such server")
            .hint("run `conclave join` with an invite link, or `conclave up` for a server here")
    };
    let home = existing_home(cx)?.ok_or_else(none)?;
    let mut servers = home.servers()?;
    if let Some(text) = &target.server {
        let exact = |s: &Profile| s.urls.contains(text);
        if servers.iter().any(exact) {
            servers.retain(exact);
        } else {
            servers.retain(|s| s.urls.iter().any(|url| url.contains(text.as_str())));
        }
    } else if servers.len() > 1 {
        // A server that was only pinned is not what a command without a choice can mean.
        servers.retain(|s| s.user.is_some());
    }
    match servers.as_slice() {
        [] => Err(none()),
        [one] => Ok((home, one.clone())),
        several => {
            let names = several.iter().map(name).collect::<Vec<_>>().join(", ");
            Err(CliError::own(Own::Ambiguous, "several servers are known")
                .hint(format!("choose one with --server: {names}")))
        }
    }
}

/// Finds the servers that are meant where all will do: the one that is named, else every account.
pub(crate) fn accounts(cx: &Context, target: &Target) -> Result<Vec<(Home, Profile)>, CliError> {
    if target.server.is_some() {
        return Ok(vec![server(cx, target)?]);
    }
    let Some(home) = existing_home(cx)? else {
        return Ok(vec![server(cx, target)?]);
    };
    let mut servers = home.servers()?;
    servers.retain(|server| server.user.is_some());
    Ok(servers.into_iter().map(|s| (home.clone(), s)).collect())
}

/// What to call a server: the URL it is reached by.
pub(crate) fn name(server: &Profile) -> String {
    server
        .urls
        .first()
        .cloned()
        .unwrap_or_else(|| server.id.to_string())
}

/// Opens a session for one command.
pub(crate) async fn connect(home: &Home, server: &Profile) -> Result<Client, CliError> {
    connect_hearing(home, server)
        .await
        .map(|(client, _)| client)
}

/// Opens a session for one command that also listens.
pub(crate) async fn connect_hearing(
    home: &Home,
    server: &Profile,
) -> Result<(Client, mpsc::Receiver<Event>), CliError> {
    let session = Session::one_shot(AGENT)?;
    let (client, mut events) = Client::connect(home, server, session).await?;
    match up(&mut events, UP).await {
        Ok(()) => Ok((client, events)),
        Err(error) => {
            client.stop().await;
            Err(error)
        }
    }
}

/// Waits for a session's first attempt to end: a person would rather know at once than in a while.
pub(crate) async fn up(
    events: &mut mpsc::Receiver<Event>,
    within: Duration,
) -> Result<(), CliError> {
    let first = async {
        loop {
            match events.recv().await {
                Some(Event::Up(_)) => return Ok(()),
                Some(Event::Down { reason, .. }) => return Err(ClientError::Down(reason)),
                Some(_) => {}
                None => return Err(ClientError::Closed),
            }
        }
    };
    let silent = || Err(Reject::new(Code::Offline, "the server does not answer").into());
    let settled = tokio::time::timeout(within, first).await;
    settled
        .unwrap_or_else(|_| silent())
        .map_err(|error| offline(error.into()))
}

/// Says of a server that cannot be reached what a person at a command line can do.
fn offline(error: CliError) -> CliError {
    if error.exit != Exit::Offline {
        return error;
    }
    error.hint("check that the server runs and that its URL is right; `conclave status` shows what this machine has")
}

/// Does something on the server that is meant, and ends the session in either case.
pub(crate) async fn with<T>(
    cx: &Context,
    target: &Target,
    work: impl AsyncFnOnce(&Client) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let (home, server) = server(cx, target)?;
    let client = connect(&home, &server).await?;
    let result = work(&client).await;
    client.stop().await;
    result
}

/// Finds a channel by name and reads it, verified.
pub(crate) async fn channel(client: &Client, name: &str) -> Result<Channel, CliError> {
    let info = client.resolve(name).await?;
    Ok(client.channel(info.channel).await?)
}

/// Returns the channels that this user is a member of.
pub(crate) async fn joined(client: &Client) -> Result<Vec<ChannelInfo>, CliError> {
    let channels = client.channels().await?;
    Ok(channels
        .into_iter()
        .filter(|info| info.role.is_some())
        .collect())
}

/// Reads a role.
pub(crate) fn role(word: &str) -> Result<Role, CliError> {
    let roles = [Role::Reader, Role::Member, Role::Admin];
    let found = roles.into_iter().find(|role| role.as_str() == word);
    found.ok_or_else(|| CliError::usage("a role is reader, member or admin"))
}
