//! `conclave key`: the user's digits and this machine's public keys, for each server.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use conclave_client::client::verify::fingerprint;
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
    let (mut objects, mut rows) = (Vec::new(), Vec::new());
    for (home, server) in open::accounts(cx, &args.target)? {
        let (Some(account), Some(own)) = (&server.user, MachineKeys::load(&home, &server.id)?)
        else {
            continue;
        };
        let name = open::name(&server);
        let digits = fingerprint(&server.id, &account.user_id);
        let key = own.signing.machine_key();
        let generation = own.encryption.last().map(|key| key.number);
        objects.push(json!({
            "server": name, "user": account.user, "fingerprint": digits, "machine": account.machine,
            "key": key, "encryption_generation": generation,
        }));
        rows.push([
            name,
            account.user.to_string(),
            digits,
            account.machine.to_string(),
            key.to_string(),
        ]);
    }
    cx.out.table(
        ["server", "you are", "your digits", "machine", "machine key"],
        &rows,
        &json!({"keys": objects}),
    );
    Ok(())
}
