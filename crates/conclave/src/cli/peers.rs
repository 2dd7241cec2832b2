//! `conclave peers`: who is in a channel, and what each session says of itself.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use crate::text::{moment, printable};
use conclave_client::Client;
use conclave_client::client::Peer;
use conclave_proto::id::ChannelId;
use conclave_proto::profile::{Group, Label};
use conclave_proto::reject::{Code, Reject};
use serde_json::json;

/// Arguments of `peers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those in this channel [default: every joined channel]
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// Only those who carry this group, or one below it
    #[arg(long, value_name = "GROUP")]
    group: Option<Group>,
    #[command(flatten)]
    target: Target,
}

/// Lists peers.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let found = open::with(cx, &args.target, async |client| {
        peers(client, args.channel.as_deref()).await
    });
    let mut found = found.await?;
    if let Some(group) = &args.group {
        found.retain(|(_, peer)| peer.profile.as_ref().is_some_and(|p| p.is_in(group)));
        if found.is_empty() {
            let text = format!("nobody carries @{group}");
            return Err(
                conclave_client::ClientError::from(Reject::new(Code::NotFound, text)).into(),
            );
        }
    }
    let labels = |peer: &Peer| -> Vec<String> {
        let groups = peer.profile.iter().flat_map(|profile| &profile.groups);
        groups.map(Label::to_string).collect()
    };
    let mut objects = Vec::new();
    let mut rows = Vec::new();
    for (channel, peer) in &found {
        let said = peer.profile.clone().unwrap_or_default();
        let status = said.status.map(|status| status.as_str());
        let role = said.role.as_ref().map(|role| role.as_str());
        objects.push(json!({
            "channel": channel, "path": peer.session.path.to_string(), "online": peer.session.online,
            "since": moment(peer.session.since), "agent": peer.session.agent, "role": role,
            "groups": labels(peer), "status": status, "summary": said.summary,
            "wake": said.wake.and_then(|wake| wake.path).map(|path| path.as_str()),
            "woke": said.wake.map(|wake| moment(wake.at)),
        }));
        let online = if peer.session.online {
            "online"
        } else {
            "away"
        };
        rows.push([
            format!("#{channel}"),
            peer.session.path.to_string(),
            status.unwrap_or(online).to_owned(),
            role.unwrap_or_default().to_owned(),
            labels(peer).join(" "),
            woke(peer),
            printable(&said.summary.unwrap_or_default()).replace('\n', " "),
        ]);
    }
    let head = [
        "channel",
        "session",
        "state",
        "role",
        "groups",
        "last woken",
        "summary",
    ];
    cx.out.table(head, &rows, &json!({"peers": objects}));
    Ok(())
}

/// Says by which way a peer's agent was last woken for certain, and when, by its own account.
fn woke(peer: &Peer) -> String {
    let wake = peer.profile.as_ref().and_then(|profile| profile.wake);
    wake.map_or_else(String::new, |wake| {
        let path = wake.path.map_or("", |path| path.as_str());
        format!("{} {path}", moment(wake.at))
    })
}

/// Returns who is in a channel, or in every joined one, with the channel's name.
async fn peers(client: &Client, channel: Option<&str>) -> Result<Vec<(String, Peer)>, CliError> {
    let channels: Vec<ChannelId> = match channel {
        Some(name) => vec![client.resolve(name).await?.channel],
        None => open::joined(client)
            .await?
            .iter()
            .map(|info| info.channel)
            .collect(),
    };
    let mut found = Vec::new();
    for channel in channels {
        let name = client.known_name(channel).await?;
        let name = name.map_or_else(|| channel.to_string(), |name| name.to_string());
        let peers = client.peers(channel).await?.into_iter();
        found.extend(peers.map(|peer| (name.clone(), peer)));
    }
    Ok(found)
}
