//! `conclave perm`: how much what peers say may drive the agent. Raising is for the owner key.

pub(crate) mod approver;

use super::Context;
use super::channel;
use super::open::{self, Target};
use super::owner::{self, OwnerArgs};
use crate::error::CliError;
use crate::text;
use conclave_bridge::files;
use conclave_bridge::policy::{Grant, Level, Levels, Quiet, Scope};
use conclave_client::home::{Home, Profile};
use conclave_proto::key::OwnerKey;
use conclave_proto::name::Name;
use serde_json::json;

/// What can be done with levels.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the levels in force
    Show {
        #[command(flatten)]
        target: Target,
    },
    /// Set a level (needs your owner key)
    Set(Box<SetArgs>),
    /// Set hours in which nothing but `now` wakes an agent (needs your owner key)
    Quiet(Box<QuietArgs>),
    /// Show or set who may decide tool calls of agents here
    #[command(subcommand)]
    Approver(approver::Command),
}

/// Arguments of `perm quiet`.
#[derive(Debug, clap::Args)]
pub(crate) struct QuietArgs {
    /// From when until when, by this machine's clock: 22:00-07:00; or off
    hours: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Arguments of `perm set`.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// How far
    #[arg(value_parser = ["mute", "notify", "converse", "act"])]
    level: String,
    /// For this channel
    #[arg(long, value_name = "CHANNEL", conflicts_with = "whispers")]
    channel: Option<String>,
    /// For whispers
    #[arg(long)]
    whispers: bool,
    /// With `act`: let this user ask for work; repeatable
    #[arg(long, value_name = "USER")]
    from: Vec<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Show { target } => show(cx, &target).await,
        Command::Set(args) => set(cx, *args).await,
        Command::Quiet(args) => quiet(cx, *args).await,
        Command::Approver(command) => approver::run(cx, command).await,
    }
}

async fn show(cx: &Context, target: &Target) -> Result<(), CliError> {
    let (home, server) = open::server(cx, target)?;
    let client = open::connect(&home, &server).await?;
    let owners = owner::keys(&client).await?;
    let joined = open::joined(&client).await?;
    client.stop().await;
    let levels = levels(cx, &home, &server, &owners);
    let mut scopes = vec![
        ("default".to_owned(), Scope::Default),
        ("whispers".to_owned(), Scope::Whisper),
    ];
    scopes.extend(joined.into_iter().map(|c| {
        (
            format!("#{}", channel::called(c.name.as_ref())),
            Scope::Channel(c.channel),
        )
    }));
    let objects: Vec<_> = scopes
        .iter()
        .map(|(name, scope)| json!({"scope": name, "level": levels.level(*scope).as_str()}))
        .collect();
    let row = |(name, scope): &(String, Scope)| {
        let (now, signed) = (levels.level(*scope), levels.policy().level(*scope));
        let lowered = if now < signed {
            format!("lowered by the agent from {signed}")
        } else {
            String::new()
        };
        [name.clone(), now.to_string(), lowered]
    };
    let rows: Vec<_> = scopes.iter().map(row).collect();
    cx.out
        .table(["scope", "level", ""], &rows, &json!({"levels": objects}));
    Ok(())
}

async fn set(cx: &Context, args: SetArgs) -> Result<(), CliError> {
    let level: Level = args
        .level
        .parse()
        .map_err(|e| CliError::usage(format!("{e}")))?;
    if !args.from.is_empty() && level != Level::Act {
        return Err(CliError::usage("--from goes with the level act"));
    }
    let (home, server) = open::server(cx, &args.target)?;
    let owner = owner::unlock(cx, &args.owner, &home, &server)?;
    let client = open::connect(&home, &server).await?;
    let scope = match &args.channel {
        Some(name) => Scope::Channel(client.resolve(name).await?.channel),
        None if args.whispers => Scope::Whisper,
        None => Scope::Default,
    };
    let owners = owner::keys(&client).await?;
    if !owners.contains(&owner.secret().owner_key()) {
        return Err(owner::not_yours());
    }
    let mut policy = levels(cx, &home, &server, &owners).policy().clone();
    policy.at = text::now();
    policy.levels.insert(scope, level);
    for user in &args.from {
        let user = client.find_user(&Name::new(user)?).await?;
        policy.act.insert(Grant { user, scope });
    }
    client.stop().await;
    owner::keep_policy(&home, &server, &policy, &owner)?;
    cx.out.result(
        format_args!("set to {level}"),
        &json!({"level": level.as_str()}),
    );
    Ok(())
}

async fn quiet(cx: &Context, args: QuietArgs) -> Result<(), CliError> {
    let hours = match args.hours.as_str() {
        "off" => None,
        text => Some(
            hours(text)
                .ok_or_else(|| CliError::usage("quiet hours are like 22:00-07:00, or off"))?,
        ),
    };
    let (home, server) = open::server(cx, &args.target)?;
    let owner = owner::unlock(cx, &args.owner, &home, &server)?;
    let client = open::connect(&home, &server).await?;
    let owners = owner::keys(&client).await;
    client.stop().await;
    let owners = owners?;
    if !owners.contains(&owner.secret().owner_key()) {
        return Err(owner::not_yours());
    }
    let mut policy = levels(cx, &home, &server, &owners).policy().clone();
    policy.at = text::now();
    policy.quiet = hours;
    owner::keep_policy(&home, &server, &policy, &owner)?;
    let text = match hours {
        Some(_) => format!("quiet {}: only what is `now` wakes an agent", args.hours),
        None => "no quiet hours".to_owned(),
    };
    cx.out
        .result(text, &json!({"quiet": hours.map(|_| args.hours)}));
    Ok(())
}

/// Reads `22:00-07:00`.
fn hours(text: &str) -> Option<Quiet> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let (from, until) = text.split_once('-')?;
    let (from, until) = (minute(from)?, minute(until)?);
    (from != until).then_some(Quiet { from, until })
}

/// Reads what holds; a policy that does not verify counts as none, and that is said.
fn levels(cx: &Context, home: &Home, server: &Profile, owners: &[OwnerKey]) -> Levels {
    let (levels, fault) = files::load(&home.server_dir(&server.id), &server.id, owners);
    if let Some(fault) = fault {
        cx.out.talk(format_args!(
            "warning: {fault}; nothing is above notify until you set it again"
        ));
    }
    levels
}
