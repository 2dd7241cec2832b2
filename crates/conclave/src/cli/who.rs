//! `conclave who`: the sessions that are there.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use crate::text::{moment, printable};
use conclave_proto::frame::reply::SessionInfo;
use serde_json::json;

/// Arguments of `who`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those in this channel [default: everybody you share a channel with]
    channel: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Lists sessions.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let sessions = open::with(cx, &args.target, async |client| {
        let channel = match &args.channel {
            Some(name) => Some(client.resolve(name).await?.channel),
            None => None,
        };
        Ok(client.who(channel).await?)
    })
    .await?;
    let path = |s: &SessionInfo| format!("{}/{}/{}", s.path.user, s.path.machine, s.path.handle);
    let objects: Vec<_> = sessions
        .iter()
        .map(|s| json!({"path": path(s), "online": s.online, "since": moment(s.since), "agent": s.agent}))
        .collect();
    let state = |online| if online { "online" } else { "away" }.to_owned();
    let rows: Vec<_> = sessions
        .iter()
        .map(|s| {
            [
                path(s),
                state(s.online),
                moment(s.since),
                printable(&s.agent),
            ]
        })
        .collect();
    cx.out.table(
        ["session", "state", "since", "agent"],
        &rows,
        &json!({"sessions": objects}),
    );
    Ok(())
}
