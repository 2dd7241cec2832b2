//! `conclave acl`: who is a member of a channel.

use super::Context;
use super::open::{self, Target};
use super::owner::{self, OwnerArgs};
use crate::error::CliError;
use crate::text::moment;
use conclave_proto::channel_log::RemoveKind;
use conclave_proto::name::Name;
use serde_json::json;

/// What can be done with members.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the members and their roles
    List {
        /// The channel
        channel: String,
        #[command(flatten)]
        target: Target,
    },
    /// Add a user
    Add {
        /// The channel
        channel: String,
        /// The user's name
        user: String,
        /// What the member may do
        #[arg(long, value_parser = ["reader", "member", "admin"], default_value = "member")]
        role: String,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        owner: OwnerArgs,
    },
    /// Remove a user
    Remove {
        /// The channel
        channel: String,
        /// The user's name
        user: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List { channel, target } => list(cx, &target, &channel).await,
        Command::Add {
            channel,
            user,
            role,
            target,
            owner,
        } => {
            let (name, role) = (Name::new(&user)?, open::role(&role)?);
            owner::if_needed(cx, &target, &owner, async |client, signer| {
                let channel = client.resolve(&channel).await?.channel;
                client.add_member(channel, &name, role, signer).await
            })
            .await?;
            cx.out.result(
                format_args!("added {name} to {channel}"),
                &json!({"added": name}),
            );
            Ok(())
        }
        Command::Remove {
            channel,
            user,
            target,
        } => {
            let name = Name::new(&user)?;
            open::with(cx, &target, async |client| {
                let channel = client.resolve(&channel).await?.channel;
                Ok(client
                    .remove_member(channel, &name, RemoveKind::Kick)
                    .await?)
            })
            .await?;
            cx.out.result(
                format_args!("removed {name} from {channel}"),
                &json!({"removed": name}),
            );
            Ok(())
        }
    }
}

async fn list(cx: &Context, target: &Target, channel: &str) -> Result<(), CliError> {
    let log = open::with(cx, target, async |client| {
        open::channel(client, channel).await
    })
    .await?;
    let mut members: Vec<_> = log.members().iter().collect();
    members.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    let object: Vec<_> = members
        .iter()
        .map(|(id, m)| {
            json!({"user": m.name, "user_id": id, "role": m.role.as_str(), "since": moment(m.at)})
        })
        .collect();
    let rows: Vec<_> = members
        .iter()
        .map(|(_, m)| [m.name.to_string(), m.role.as_str().to_owned(), moment(m.at)])
        .collect();
    cx.out.table(
        ["user", "role", "since"],
        &rows,
        &json!({"members": object}),
    );
    Ok(())
}
