//! `conclave forget`: take back what was kept.

use super::Context;
use super::item::{Place, written};
use super::open;
use crate::error::CliError;
use conclave_proto::id::MsgId;

/// Arguments of `forget`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The id that `remember` and `recall` print
    id: MsgId,
    #[command(flatten)]
    place: Place,
}

/// Takes it back.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let done = open::with(cx, &args.place.target, async |client| {
        let channel = args.place.find(client).await?;
        Ok(client.forget(channel, args.id).await?)
    });
    let (text, object) = written(&done.await?);
    cx.out.result(text, &object);
    Ok(())
}
