//! `conclave man`: the manual, in roff.

use super::{Cli, Context};
use crate::error::CliError;
use clap::CommandFactory as _;
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write one page a command to this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the first page, or writes all.
pub(crate) fn run(cx: &Context, args: &Args) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::local(format!("the manual cannot be written: {e}"));
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
        let place = dir.display().to_string();
        cx.out.result(
            format_args!("wrote the pages to {place}"),
            &json!({"dir": place}),
        );
        return Ok(());
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(failed)?;
    let page = String::from_utf8_lossy(&page);
    cx.out.result(&page, &json!({"page": page}));
    Ok(())
}
