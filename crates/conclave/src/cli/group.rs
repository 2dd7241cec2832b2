//! `conclave group`: which groups there are, and which of them a session of this machine carries.

use super::Context;
use super::open::{self, Target};
use crate::error::{CliError, Own};
use conclave_bridge::labels::{Change, Labels};
use conclave_client::Client;
use conclave_proto::id::ChannelId;
use conclave_proto::name::Name;
use conclave_proto::profile::{Group, Label};
use serde_json::json;

/// What can be done with groups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the groups of a channel, and who carries them
    List {
        /// In this channel [default: the one that is joined]
        #[arg(long, value_name = "CHANNEL")]
        channel: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Let a session of this machine carry a group, or have another role in it
    Join(JoinArgs),
    /// Let it carry a group, and those below it, no more
    Leave(LeaveArgs),
}

/// Arguments of `group join`.
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// The group: up to four names with / between them
    name: Group,
    /// The role in it
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    #[command(flatten)]
    session: SessionArgs,
}

/// Arguments of `group leave`.
#[derive(Debug, clap::Args)]
pub(crate) struct LeaveArgs {
    /// The group
    name: Group,
    #[command(flatten)]
    session: SessionArgs,
}

/// Whose groups, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionArgs {
    /// In this channel [default: the one that is joined]
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// The session's handle [default: the directory's name]
    #[arg(long = "as", value_name = "HANDLE")]
    handle: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List { channel, target } => list(cx, channel.as_deref(), &target).await,
        Command::Join(args) => {
            let role = args.role.as_deref().map(Name::new).transpose()?;
            let label = Label {
                name: args.name,
                role,
            };
            change(cx, args.session, |channel| Change::Join(channel, label)).await
        }
        Command::Leave(args) => change(cx, args.session, |id| Change::Leave(id, args.name)).await,
    }
}

async fn list(cx: &Context, channel: Option<&str>, target: &Target) -> Result<(), CliError> {
    let peers = open::with(cx, target, async |client| {
        Ok(client.peers(meant(client, channel).await?).await?)
    });
    let mut carried: Vec<(Label, String)> = Vec::new();
    for peer in peers.await? {
        let path = peer.session.path.to_string();
        let groups = peer.profile.into_iter().flat_map(|profile| profile.groups);
        carried.extend(groups.map(|label| (label, path.clone())));
    }
    carried.sort_by(|(a, x), (b, y)| (&a.name, x).cmp(&(&b.name, y)));
    let role = |label: &Label| label.role.as_ref().map(Name::to_string);
    let objects: Vec<_> = carried
        .iter()
        .map(|(label, path)| json!({"group": label.name, "path": path, "role": role(label)}))
        .collect();
    let rows: Vec<_> = carried
        .iter()
        .map(|(label, path)| {
            let role = role(label).unwrap_or_default();
            [format!("@{}", label.name), path.clone(), role]
        })
        .collect();
    let object = json!({"groups": objects});
    cx.out.table(["group", "session", "role"], &rows, &object);
    Ok(())
}

/// Changes the labels of a session: a running bridge takes them over by itself.
async fn change(
    cx: &Context,
    session: SessionArgs,
    make: impl FnOnce(ChannelId) -> Change,
) -> Result<(), CliError> {
    let given = session.handle.as_deref().map(Name::new).transpose()?;
    let handle = given.unwrap_or_else(open::handle_here);
    let channel = open::with(cx, &session.target, async |client| {
        meant(client, session.channel.as_deref()).await
    });
    let channel = channel.await?;
    let (home, server) = open::server(cx, &session.target)?;
    let dir = home.server_dir(&server.id);
    let mut labels = Labels::load(&dir, &handle);
    labels
        .apply(make(channel))
        .map_err(|e| CliError::usage(e.to_string()).hint("see `conclave group list`"))?;
    labels
        .keep(&dir, &handle)
        .map_err(|e| CliError::local(format!("the labels of {handle} cannot be kept: {e}")))?;
    let groups = labels.profile(&channel).groups;
    let groups: Vec<String> = groups.iter().map(Label::to_string).collect();
    let text = match groups.as_slice() {
        [] => format!("{handle} carries no group there"),
        some => format!("{handle} carries {}", some.join(", ")),
    };
    let object = json!({"handle": handle.as_str(), "groups": groups});
    cx.out.result(text, &object);
    Ok(())
}

/// Returns the channel that is named, else the only one that is joined.
async fn meant(client: &Client, channel: Option<&str>) -> Result<ChannelId, CliError> {
    if let Some(name) = channel {
        return Ok(client.resolve(name).await?.channel);
    }
    match open::joined(client).await?.as_slice() {
        [one] => Ok(one.channel),
        [] => Err(CliError::usage("this user is in no channel")),
        _ => Err(CliError::own(Own::Ambiguous, "several channels are joined")
            .hint("choose one with --channel")),
    }
}
