//! `conclave remember`: keep something for every member of a channel to find later.

use super::Context;
use super::item::{Place, written};
use super::open;
use crate::error::CliError;
use crate::prompt;
use conclave_proto::limit::BODY_BYTES_MAX;

/// Arguments of `remember`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to keep; `-` or nothing reads standard input
    text: Vec<String>,
    /// A word to find it by; repeatable
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// Keeps it.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let text = prompt::words(&args.text, BODY_BYTES_MAX)?;
    let done = open::with(cx, &args.place.target, async |client| {
        let channel = args.place.find(client).await?;
        Ok(client.remember(channel, text.trim_end(), &args.tag).await?)
    });
    let done = done.await?;
    let (text, object) = written(&done);
    cx.out
        .result(format_args!("{text}; id {}", done.id), &object);
    Ok(())
}
