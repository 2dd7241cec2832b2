//! `conclave list`: the channels that this machine has joined.

use super::Context;
use super::channel;
use super::open::{self, Target};
use crate::error::CliError;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Lists.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let joined = open::with(cx, &args.target, open::joined).await?;
    channel::show(cx, &joined);
    Ok(())
}
