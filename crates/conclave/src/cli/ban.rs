//! `conclave ban`, `unban` and `bans`: who may not come back to a channel.

use super::Context;
use super::open::{self, Target};
use super::owner::{self, OwnerArgs};
use crate::error::CliError;
use conclave_proto::channel_log::{CtlBody, RemoveKind};
use conclave_proto::name::Name;
use serde_json::json;

/// Arguments of `ban`.
#[derive(Debug, clap::Args)]
pub(crate) struct BanArgs {
    /// The channel
    channel: String,
    /// The user's name
    user: String,
    #[command(flatten)]
    target: Target,
}

/// Arguments of `unban`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnbanArgs {
    /// The channel
    channel: String,
    /// The user's name
    user: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Arguments of `bans`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// The channel
    channel: String,
    #[command(flatten)]
    target: Target,
}

/// Bans.
pub(crate) async fn ban(cx: &Context, args: BanArgs) -> Result<(), CliError> {
    let user = Name::new(&args.user)?;
    open::with(cx, &args.target, async |client| {
        let channel = client.resolve(&args.channel).await?.channel;
        Ok(client
            .remove_member(channel, &user, RemoveKind::Ban)
            .await?)
    })
    .await?;
    cx.out.result(
        format_args!("banned {user} from {}", args.channel),
        &json!({"banned": user}),
    );
    Ok(())
}

/// Lifts a ban.
pub(crate) async fn unban(cx: &Context, args: UnbanArgs) -> Result<(), CliError> {
    let user = Name::new(&args.user)?;
    owner::if_needed(cx, &args.target, &args.owner, async |client, signer| {
        let channel = client.resolve(&args.channel).await?.channel;
        let user = client.find_user(&user).await?;
        client
            .control(channel, CtlBody::Unban { user }, signer)
            .await
    })
    .await?;
    cx.out.result(
        format_args!("{user} may join {} again", args.channel),
        &json!({"unbanned": user}),
    );
    Ok(())
}

/// Lists bans.
pub(crate) async fn list(cx: &Context, args: ListArgs) -> Result<(), CliError> {
    let bans = open::with(cx, &args.target, async |client| {
        let log = open::channel(client, &args.channel).await?;
        let mut bans = Vec::new();
        for id in log.banned() {
            bans.push((*id, client.name_of(*id).await?));
        }
        Ok(bans)
    })
    .await?;
    let object: Vec<_> = bans
        .iter()
        .map(|(id, name)| json!({"user": name, "user_id": id}))
        .collect();
    let name = |name: &Option<Name>| {
        name.as_ref()
            .map_or_else(|| "?".to_owned(), Name::to_string)
    };
    let rows: Vec<_> = bans
        .iter()
        .map(|(id, n)| [name(n), id.to_string()])
        .collect();
    cx.out
        .table(["user", "id"], &rows, &json!({"bans": object}));
    Ok(())
}
