//! `conclave kick`: a session loses its subscription, a user the membership.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use conclave_proto::channel_log::RemoveKind;
use conclave_proto::name::{Name, SessionPath};
use serde_json::json;

/// Arguments of `kick`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The channel
    channel: String,
    /// A session (user/machine/handle) to unsubscribe, or a user to remove
    who: String,
    #[command(flatten)]
    target: Target,
}

/// Kicks.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let path = args
        .who
        .contains('/')
        .then(|| args.who.parse::<SessionPath>())
        .transpose();
    let path = path.map_err(|e| CliError::usage(e.to_string()))?;
    open::with(cx, &args.target, async |client| {
        let channel = client.resolve(&args.channel).await?.channel;
        match path {
            Some(path) => Ok(client.kick_session(channel, path).await?),
            None => {
                let user = Name::new(&args.who)?;
                Ok(client
                    .remove_member(channel, &user, RemoveKind::Kick)
                    .await?)
            }
        }
    })
    .await?;
    let Args { channel, who, .. } = args;
    cx.out.result(
        format_args!("kicked {who} from {channel}"),
        &json!({"kicked": who}),
    );
    Ok(())
}
