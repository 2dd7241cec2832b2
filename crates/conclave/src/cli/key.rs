//! `conclave key`: this machine's public keys, one for each server.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use serde_json::json;

/// Arguments of `key`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Prints the keys.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let (home, server) = open::server(cx, &args.target)?;
    let client = open::connect(&home, &server).await?;
    let machines = client.machines().await?;
    client.stop().await;
    let own = server.user.as_ref().map(|account| &account.machine);
    let mine: Vec<_> = machines.iter().filter(|m| Some(&m.name) == own).collect();
    let objects: Vec<_> = mine
        .iter()
        .map(|m| json!({"server": open::name(&server), "machine": m.name, "key": m.key}))
        .collect();
    let rows: Vec<_> = mine
        .iter()
        .map(|m| [open::name(&server), m.name.to_string(), m.key.to_string()])
        .collect();
    cx.out.table(
        ["server", "machine", "key"],
        &rows,
        &json!({"keys": objects}),
    );
    Ok(())
}
