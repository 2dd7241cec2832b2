//! `conclave resume`: a human lets the agents of this machine go on. It takes a terminal and a typed word, or the
//! owner key: an agent's shell has neither.

use super::Context;
use super::open::{self, AGENT, Target};
use super::owner::{self, OwnerArgs};
use crate::error::CliError;
use crate::prompt;
use crate::text::now;
use conclave_bridge::switch::{self, Resume};
use conclave_client::{Client, Session};
use conclave_proto::key::OwnerKey;
use serde_json::json;

/// The word to be typed.
const WORD: &str = "resume";

/// Arguments of `resume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Allow so many messages beyond the budgets
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000))]
    more: u64,
    /// Only this session, by its handle [default: every session of this machine]
    #[arg(long = "as", value_name = "HANDLE")]
    session: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Resumes.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    match &args.owner.recovery_key_file {
        Some(_) => prove(cx, &args).await?,
        None => ask(cx)?,
    }
    open::home(cx)?;
    let dir = cx.config_dir()?;
    let word = Resume {
        at: now(),
        more: args.more,
        session: args.session.clone(),
    };
    switch::resume(&dir, &word).map_err(|e| CliError::local(format!("{}: {e}", dir.display())))?;
    let who = args
        .session
        .as_deref()
        .unwrap_or("every session of this machine");
    let more = match args.more {
        0 => String::new(),
        n => format!(", with {n} messages beyond the budgets"),
    };
    let object = json!({"resumed": true, "session": args.session, "more": args.more});
    cx.out.result(format_args!("{who} goes on{more}"), &object);
    Ok(())
}

/// Has a person type a word.
fn ask(cx: &Context) -> Result<(), CliError> {
    prompt::need_person("whether agents may go on", "give --recovery-key-file FILE")?;
    let typed = prompt::line(
        cx.out,
        "Agents of this machine go on, and what tripped is forgotten. Type `resume`:",
    )?;
    match typed == WORD {
        true => Ok(()),
        false => Err(CliError::usage("nothing changed").hint("type `resume` to go on")),
    }
}

/// Checks that the owner key is one of the account's, by what this machine knows: a pause also ends offline.
async fn prove(cx: &Context, args: &Args) -> Result<(), CliError> {
    let (home, server) = open::server(cx, &args.target)?;
    let given = owner::in_file(&args.owner)?.ok_or_else(owner::not_yours)?;
    let (client, _events) = Client::connect(&home, &server, Session::one_shot(AGENT)?).await?;
    let me = client.account().user_id;
    let log = client.known_identity(me).await;
    client.stop().await;
    let log = log?;
    let own: OwnerKey = given.secret().owner_key();
    let mut owners = log.iter().flat_map(|log| log.owners());
    match owners.any(|owner| *owner == own) {
        true => Ok(()),
        false => Err(owner::not_yours()),
    }
}
