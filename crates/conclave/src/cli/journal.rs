//! `conclave journal`: what was stopped, asked and decided on this machine, why, and what to do about it.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use crate::text::{moment, printable};
use conclave_bridge::journal::{self, Entry};
use serde_json::json;

/// How many entries of a server are looked through.
const LOOKED_MAX: usize = 5_000;

/// Arguments of `journal`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    max: usize,
    /// Only of this kind: loop, flood, worm, secret, flow, path, permission, verdict, sender, pause
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Prints it, oldest first.
pub(crate) fn run(cx: &Context, args: &Args) -> Result<(), CliError> {
    let mut entries: Vec<Entry> = Vec::new();
    for (home, server) in open::accounts(cx, &args.target)? {
        let all = journal::newest(&home.server_dir(&server.id), LOOKED_MAX);
        let wanted = |entry: &Entry| args.kind.as_ref().is_none_or(|kind| entry.kind == *kind);
        entries.extend(all.into_iter().filter(wanted));
    }
    entries.sort_by_key(|entry| entry.at);
    entries.drain(..entries.len().saturating_sub(args.max));
    let objects: Vec<_> = entries
        .iter()
        .map(|e| json!({"at": moment(e.at), "session": e.session, "kind": e.kind, "text": e.text, "hint": e.hint}))
        .collect();
    let object = json!({"entries": objects});
    if entries.is_empty() {
        cx.out.result("nothing was stopped here", &object);
        return Ok(());
    }
    let line = |e: &Entry| {
        let hint = e
            .hint
            .as_ref()
            .map(|hint| format!("\n    {}", printable(hint)));
        let (kind, session) = (printable(&e.kind), printable(&e.session));
        format!(
            "{} {kind} {session}: {}{}",
            moment(e.at),
            printable(&e.text),
            hint.unwrap_or_default()
        )
    };
    let lines: Vec<String> = entries.iter().map(line).collect();
    cx.out.result(lines.join("\n"), &object);
    Ok(())
}
