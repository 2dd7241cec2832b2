//! `conclave channel set`: what members' programs have to respect in a channel.

use super::super::Context;
use super::super::open::Target;
use super::super::owner::{self, OwnerArgs};
use crate::error::CliError;
use conclave_client::Client;
use conclave_proto::channel_log::CtlBody;
use conclave_proto::frame::reply::ChannelInfo;
use conclave_proto::id::ChannelId;
use serde_json::json;
use std::collections::BTreeSet;

/// Arguments of `channel set`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The channel
    channel: String,
    /// Have every member's agents ask a human before they say elsewhere what they read here
    #[arg(
        long,
        required_unless_present = "not_confidential",
        conflicts_with = "not_confidential"
    )]
    confidential: bool,
    /// Let them say it elsewhere again; needs your owner key, or the machine that made the channel
    #[arg(long)]
    not_confidential: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Sets it.
pub(super) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let on = args.confidential;
    owner::if_needed(cx, &args.target, &args.owner, async |client, signer| {
        let channel = client.resolve(&args.channel).await?.channel;
        let body = CtlBody::Confidential { on };
        client.control(channel, body, signer).await
    })
    .await?;
    let word = if on {
        "confidential"
    } else {
        "not confidential"
    };
    let text = format!("{} is {word} now", args.channel);
    cx.out.result(text, &json!({"confidential": on}));
    Ok(())
}

/// Returns which of the channels that this user is in are confidential, as their own records say.
pub(in crate::cli) async fn confidential(
    client: &Client,
    channels: &[ChannelInfo],
) -> BTreeSet<ChannelId> {
    let mut found = BTreeSet::new();
    for channel in channels.iter().filter(|channel| channel.role.is_some()) {
        let log = client.channel(channel.channel).await;
        if log.is_ok_and(|log| log.is_confidential()) {
            found.insert(channel.channel);
        }
    }
    found
}
