//! `conclave register`: a new account on a server with open registration.

use super::Context;
use super::join;
use super::open;
use super::owner::{self, OwnerArgs};
use crate::error::CliError;
use conclave_client::onboard;
use conclave_client::origin::BadOrigin;
use serde_json::json;

/// Arguments of `register`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server's URL, for example `https://chat.example`
    server: String,
    /// The name of the account [default: $USER]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What to call this machine [default: its host name]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Registers.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    owner::check_handover(&args.owner)?;
    let who = join::newcomer(cx, args.user.as_deref(), args.machine.as_deref())?;
    let home = open::home(cx)?;
    let origin = args
        .server
        .parse()
        .map_err(|e: BadOrigin| CliError::usage(e.to_string()))?;
    let (user, machine) = (who.user.clone(), who.machine.clone());
    let outcome = onboard::register(&home, &origin, who.user, who.machine, open::AGENT).await;
    let welcome = owner::received(cx, &args.owner, &home, outcome).await?;
    let server = open::name(&welcome.profile);
    let object = json!({"server": server, "user": user, "machine": machine});
    let text = format!("registered as {user}/{machine} on {server}");
    cx.out.result(text, &object);
    Ok(())
}
