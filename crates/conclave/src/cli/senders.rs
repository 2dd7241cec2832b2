//! `conclave senders`: who may write to this machine's agents, as its human decided.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use crate::text::moment;
use conclave_bridge::senders::{Sender, Senders, Standing};
use conclave_proto::id::UserId;
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;
use serde_json::json;
use std::time::SystemTime;

/// Arguments of `senders`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    target: Target,
}

/// What can be decided of a user; without it everybody is listed.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Let a user's messages come as the levels say
    Accept {
        /// The user's name
        user: String,
        #[command(flatten)]
        target: Target,
    },
    /// Have a user's messages wake nobody; they can still be fetched
    Mute {
        /// The user's name
        user: String,
        #[command(flatten)]
        target: Target,
    },
    /// Show no message of a user
    Block {
        /// The user's name
        user: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Lists, or decides.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let (user, standing, target) = match args.command {
        None => return list(cx, &args.target),
        Some(Command::Accept { user, target }) => (user, Standing::Accepted, target),
        Some(Command::Mute { user, target }) => (user, Standing::Muted, target),
        Some(Command::Block { user, target }) => (user, Standing::Blocked, target),
    };
    let name = Name::new(user.trim_start_matches('@'))?;
    let (home, server) = open::server(cx, &target)?;
    let dir = home.server_dir(&server.id);
    let known = Senders::load(&dir).unwrap_or_default();
    let known = known.iter().find(|(_, sender)| sender.name == name);
    let user = match known {
        Some((user, _)) => *user,
        None => asked(cx, &target, &name).await?,
    };
    if server.user.as_ref().is_some_and(|me| me.user_id == user) {
        return Err(CliError::usage("your own sessions may always write"));
    }
    let sender = Sender {
        name: name.clone(),
        standing,
        at: now(),
    };
    Senders::decide(&dir, user, sender).map_err(|error| {
        CliError::local(format!("the file of senders was not written: {error}"))
    })?;
    let word = standing.as_str();
    cx.out.result(
        format_args!("{name} is {word} now"),
        &json!({"user": name, "standing": word}),
    );
    Ok(())
}

/// Asks the server who that is; its word is checked against what this machine pinned.
async fn asked(cx: &Context, target: &Target, name: &Name) -> Result<UserId, CliError> {
    open::with(cx, target, async |client| {
        Ok(client.safety(name).await?.user)
    })
    .await
}

fn list(cx: &Context, target: &Target) -> Result<(), CliError> {
    let (home, server) = open::server(cx, target)?;
    let senders = Senders::load(&home.server_dir(&server.id)).unwrap_or_default();
    let mut all: Vec<_> = senders.iter().map(|(_, sender)| sender).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    // What was so before anybody asked has no time.
    let since = |at: UnixMs| {
        if at.0 == 0 {
            "-".to_owned()
        } else {
            moment(at)
        }
    };
    let row = |s: &&Sender| {
        [
            s.name.to_string(),
            s.standing.as_str().to_owned(),
            since(s.at),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let object = |s: &&Sender| json!({"user": s.name, "standing": s.standing.as_str(), "since": since(s.at)});
    let objects: Vec<_> = all.iter().map(object).collect();
    cx.out.table(
        ["user", "standing", "since"],
        &rows,
        &json!({"senders": objects}),
    );
    Ok(())
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    UnixMs(u64::try_from(millis).unwrap_or(u64::MAX))
}
