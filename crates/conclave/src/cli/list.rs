//! `conclave list`: the channels that this machine has joined.

use super::Context;
use super::channel;
use super::open::{self, Target};
use crate::error::{CliError, Exit};
use conclave_client::client::Channel;
use conclave_client::{Client, Session};
use conclave_proto::frame::reply::ChannelInfo;
use conclave_proto::id::ChannelId;
use std::collections::BTreeSet;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Lists; without a connection, what this machine knew last.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let joined = open::with(cx, &args.target, async |client| {
        let joined = open::joined(client).await?;
        let confidential = channel::set::confidential(client, &joined).await;
        Ok((joined, confidential))
    });
    match joined.await {
        Ok((joined, confidential)) => channel::show(cx, &joined, &confidential),
        Err(error) if error.exit == Exit::Offline => {
            let (known, confidential) = known(cx, &args.target).await?;
            channel::show_known(cx, &known, &confidential, &error);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Channels, and which of them are confidential.
type Known = (Vec<ChannelInfo>, BTreeSet<ChannelId>);

async fn known(cx: &Context, target: &Target) -> Result<Known, CliError> {
    let (home, server) = open::server(cx, target)?;
    let session = Session::one_shot(open::AGENT)?;
    let (client, _events) = Client::connect(&home, &server, session).await?;
    let logs = client.known_channels().await;
    client.stop().await;
    let me = server.user.as_ref().map(|account| account.user_id);
    let info = |log: &Channel| ChannelInfo {
        channel: *log.id(),
        name: log.name().cloned(),
        visibility: log.visibility().as_str().to_owned(),
        mode: log.mode().as_str().to_owned(),
        role: me.and_then(|me| log.role(&me)).map(|role| role.to_string()),
        members: u32::try_from(log.members().len()).unwrap_or(u32::MAX),
        topic: log.topic().map(str::to_owned),
        ctl: log.head(),
        ctl_seq: log.seq(),
        closed: false,
    };
    let logs = logs?;
    let confidential = logs.iter().filter(|log| log.is_confidential());
    let confidential = confidential.map(|log| *log.id()).collect();
    let mut known: Vec<_> = logs.iter().map(info).collect();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((known, confidential))
}
