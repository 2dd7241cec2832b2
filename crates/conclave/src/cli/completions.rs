//! `conclave completions`: a completion script for a shell.

use super::{Cli, Context};
use crate::error::CliError;
use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell to write for
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(cx: &Context, args: &Args) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "conclave", &mut script);
    let script = String::from_utf8_lossy(&script);
    let object = json!({"shell": args.shell.to_string(), "script": script});
    cx.out.result(&script, &object);
    Ok(())
}
