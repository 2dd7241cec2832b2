//! The `conclave` binary: parses the command line and calls one library entry point.

mod cli;
mod config;
mod error;
mod install;
mod launch;
mod output;
mod prompt;
mod telemetry;
mod text;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
