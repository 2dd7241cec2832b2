//! `conclave key`: this machine's public keys, one for each server.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use conclave_client::keystore::MachineKeys;
use serde_json::json;

/// Arguments of `key`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Prints the keys. They are here: no server is asked.
pub(crate) fn run(cx: &Context, args: &Args) -> Result<(), CliError> {
    let mut keys = Vec::new();
    for (home, server) in open::accounts(cx, &args.target)? {
        if let (Some(account), Some(own)) = (&server.user, MachineKeys::load(&home, &server.id)?) {
            let key = own.signing.machine_key();
            keys.push((open::name(&server), account.machine.clone(), key));
        }
    }
    let objects: Vec<_> = keys
        .iter()
        .map(|(server, machine, key)| json!({"server": server, "machine": machine, "key": key}))
        .collect();
    let rows: Vec<_> = keys
        .iter()
        .map(|(server, machine, key)| [server.clone(), machine.to_string(), key.to_string()])
        .collect();
    cx.out.table(
        ["server", "machine", "key"],
        &rows,
        &json!({"keys": objects}),
    );
    Ok(())
}
