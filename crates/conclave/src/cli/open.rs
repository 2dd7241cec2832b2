//! Opening the client library for one command: which server, and a session on it.

use super::Context;
use crate::error::{CliError, Exit};
use conclave_client::home::{Home, Profile};
use conclave_client::{Client, Event, Session};
use conclave_proto::channel_log::{ChannelLog, Role};
use conclave_proto::frame::reply::ChannelInfo;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a command waits for its session.
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
        CliError::new(
            Exit::Local,
            "no_server",
            "this machine knows no such server",
        )
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
            Err(
                CliError::new(Exit::Usage, "ambiguous", "several servers are known")
                    .hint(format!("choose one with --server: {names}")),
            )
        }
    }
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
    let (client, events) = Client::connect(home, server, session).await?;
    client.ready(UP).await?;
    Ok((client, events))
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
pub(crate) async fn channel(client: &Client, name: &str) -> Result<ChannelLog, CliError> {
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
