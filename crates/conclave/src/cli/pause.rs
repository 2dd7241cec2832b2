//! `conclave pause`: every agent of this machine says nothing and is woken by nothing. Anybody here may pause;
//! ending it is `conclave resume`, and a human's.

use super::Context;
use super::open;
use crate::error::{CliError, Own};
use crate::text::{Span, moment, now};
use conclave_bridge::switch::{self, Pause};
use serde_json::json;

/// Arguments of `pause`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End by itself after so long, for example 2h [default: when you resume]
    #[arg(long = "for", value_name = "SPAN")]
    span: Option<Span>,
}

/// Pauses.
pub(crate) fn run(cx: &Context, args: &Args) -> Result<(), CliError> {
    open::home(cx)?;
    let at = now();
    let until = args.span.map(|span| at.plus(span.ms));
    let dir = cx.config_dir()?;
    switch::pause(&dir, Pause { at, until })
        .map_err(|e| CliError::local(format!("{}: {e}", dir.display())))?;
    let end = until.map_or_else(
        || "until `conclave resume`".to_owned(),
        |until| format!("until {}", moment(until)),
    );
    let text = format!(
        "paused {end}: no agent of this machine sends anything or is woken; what comes is kept"
    );
    cx.out
        .result(text, &json!({"paused": true, "until": until.map(moment)}));
    Ok(())
}

/// Returns the pause that holds now.
pub(crate) fn standing(cx: &Context) -> Result<Option<Pause>, CliError> {
    Ok(switch::paused(&cx.config_dir()?, now()))
}

/// As [`refuse`], for a command that says something only sometimes.
pub(crate) fn refuse_if(cx: &Context, says: bool) -> Result<(), CliError> {
    if says { refuse(cx) } else { Ok(()) }
}

/// Fails while this machine is paused.
pub(crate) fn refuse(cx: &Context) -> Result<(), CliError> {
    if standing(cx)?.is_none() {
        return Ok(());
    }
    Err(
        CliError::own(Own::Paused, "this machine is paused: nothing is sent")
            .hint("a human ends it with `conclave resume`"),
    )
}
