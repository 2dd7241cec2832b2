//! `conclave leave`: give up a membership.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use serde_json::json;

/// Arguments of `leave`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The channel
    channel: String,
    #[command(flatten)]
    target: Target,
}

/// Leaves.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    open::with(cx, &args.target, async |client| {
        let channel = client.resolve(&args.channel).await?.channel;
        Ok(client.leave(channel).await?)
    })
    .await?;
    cx.out.result(
        format_args!("left {}", args.channel),
        &json!({"left": args.channel}),
    );
    Ok(())
}
