//! `conclave freeze` and `conclave thaw`: nobody says anything in a channel, until an admin lets them go on.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use conclave_client::client::Signer;
use conclave_proto::channel_log::CtlBody;
use serde_json::json;

/// Arguments of `freeze` and `thaw`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The channel
    channel: String,
    #[command(flatten)]
    target: Target,
}

/// Freezes or thaws.
pub(crate) async fn run(cx: &Context, args: Args, on: bool) -> Result<(), CliError> {
    let channel = &args.channel;
    open::with(cx, &args.target, async |client| {
        let id = client.resolve(channel).await?.channel;
        let record = CtlBody::Freeze { on };
        Ok(client.control(id, record, Signer::Machine).await?)
    })
    .await?;
    let word = if on { "frozen" } else { "thawed" };
    cx.out
        .result(format_args!("{channel} is {word}"), &json!({"frozen": on}));
    Ok(())
}
