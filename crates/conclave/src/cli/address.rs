//! Whom a command's targets mean: looked up by the same rules as an agent's, over the channels this
//! user is in.

use super::open;
use crate::error::{CliError, Own};
use conclave_client::address::{Area, Part, Seat, To, Unresolved, resolve};
use conclave_client::{Client, ClientError};
use conclave_proto::id::ChannelId;
use conclave_proto::reject::{Code, Reject};

/// Finds whom targets mean, among the sessions of the channels that this user is in. A name without a
/// mark that is a channel's means the channel.
pub(crate) async fn means(
    client: &Client,
    targets: Vec<To>,
) -> Result<Vec<Part<ChannelId>>, CliError> {
    let mut areas = Vec::new();
    for info in open::joined(client).await? {
        let name = client.known_name(info.channel).await?;
        let name = name.map_or_else(|| info.channel.to_string(), |name| name.to_string());
        let [a, b, ..] = info.channel.as_bytes();
        let peers = client.peers(info.channel).await?.into_iter();
        let seats = peers.map(|peer| Seat {
            path: peer.session.path,
            groups: peer
                .profile
                .map(|profile| profile.groups.into_iter().map(|label| label.name).collect())
                .unwrap_or_default(),
        });
        areas.push(Area {
            key: info.channel,
            exact: format!("{name}~{a:02x}{b:02x}"),
            name,
            server: 0,
            me: client.live().map(|ready| ready.path.clone()),
            members: client.member_names(info.channel).await?,
            seats: seats.collect(),
        });
    }
    let meant = |to: To| match to {
        To::Name(name) if areas.iter().any(|area| area.name == name.as_str()) => {
            To::Channel(name.to_string())
        }
        to => to,
    };
    let targets: Vec<To> = targets.into_iter().map(meant).collect();
    let home = (areas.len() == 1).then_some(0);
    resolve(&targets, &areas, home).map_err(unresolved)
}

/// Returns what to call a part.
pub(crate) fn called(part: &Part<ChannelId>) -> String {
    match part {
        Part::Session { path, .. } => path.to_string(),
        Part::Channel { name, to, .. } => {
            let groups = to.iter().map(|group| format!("@{group}"));
            format!("#{name}{}", groups.collect::<String>())
        }
    }
}

fn unresolved(error: Unresolved) -> CliError {
    match error {
        Unresolved::NotFound { .. } | Unresolved::Away(_) => {
            ClientError::from(Reject::new(Code::NotFound, hinted(&error))).into()
        }
        Unresolved::Ambiguous { .. } => CliError::own(Own::Ambiguous, hinted(&error)),
        Unresolved::Yourself(_) | Unresolved::NoHome(_) => CliError::usage(error.to_string()),
    }
}

/// The error, with what could be meant.
fn hinted(error: &Unresolved) -> String {
    match error {
        Unresolved::NotFound { candidates, .. } | Unresolved::Ambiguous { candidates, .. }
            if !candidates.is_empty() =>
        {
            format!("{error}; there is {}", candidates.join(", "))
        }
        _ => error.to_string(),
    }
}
