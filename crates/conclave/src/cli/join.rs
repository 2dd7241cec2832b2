//! `conclave join`: into a channel by name, or wherever a link leads.

use super::Context;
use super::channel;
use super::open::{self, Target};
use super::owner::{self, OwnerArgs};
use crate::config;
use crate::error::CliError;
use crate::output;
use crate::prompt;
use conclave_client::client::Channel;
use conclave_client::home::Profile;
use conclave_client::onboard::{self, Welcome};
use conclave_proto::invite::{BadLink, Link, LinkKind};
use conclave_proto::name::Name;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Arguments of `join`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A channel's name, or `-` to read a link from standard input [default: ask for a link]
    what: Option<String>,
    /// The name of the new account [default: $USER]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What to call this machine [default: its host name]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Follows an invite link that another command was given, and says on standard error where one is now.
pub(super) async fn follow(cx: &Context, link: &str, owner: OwnerArgs) -> Result<(), CliError> {
    let args = Args {
        what: None,
        user: None,
        machine: None,
        target: Target::default(),
        owner,
    };
    let link = read(link)?;
    if let LinkKind::Machine(..) = link.kind {
        return Err(
            CliError::usage("this link enrols a machine").hint("run `conclave join` with it first")
        );
    }
    let welcome = redeemed(cx, &args, &link).await?;
    cx.out
        .talk(words(Some(&welcome.profile), welcome.channel.as_ref()));
    Ok(())
}

fn read(link: &str) -> Result<Link, CliError> {
    link.parse().map_err(|e: BadLink| {
        CliError::usage(e.to_string()).hint("copy the whole link, with everything behind the #")
    })
}

/// Joins.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let link = match args.what.as_deref() {
        Some("-") => prompt::piped()?,
        Some(text) if text.contains("://") => {
            cx.out
                .talk("note: this link is now in your shell's history; it is worthless once used");
            Zeroizing::new(text.to_owned())
        }
        Some(name) => return by_name(cx, &args, name).await,
        None => {
            prompt::need_person("the invite link", "pipe it in: conclave join -")?;
            prompt::secret(cx.out, "Invite link:")?
        }
    };
    let link = read(&link)?;
    match link.kind {
        LinkKind::Invite(_) | LinkKind::Bootstrap => by_invite(cx, &args, &link).await,
        LinkKind::Machine(..) => as_machine(cx, &args, &link).await,
    }
}

async fn by_name(cx: &Context, args: &Args, name: &str) -> Result<(), CliError> {
    let name = Name::new(name.trim_start_matches('#'))?;
    let joined = open::with(cx, &args.target, async |client| {
        let channel = client.resolve(name.as_str()).await?.channel;
        Ok(client.join(channel).await?)
    })
    .await?;
    say_joined(cx, None, Some(&joined));
    Ok(())
}

async fn by_invite(cx: &Context, args: &Args, link: &Link) -> Result<(), CliError> {
    let welcome = redeemed(cx, args, link).await?;
    say_joined(cx, Some(&welcome.profile), welcome.channel.as_ref());
    Ok(())
}

async fn redeemed(cx: &Context, args: &Args, link: &Link) -> Result<Welcome, CliError> {
    let home = open::home(cx)?;
    let known = onboard::is_known(&home, link)?;
    if !known {
        owner::check_handover(&args.owner)?;
    }
    let who = if known {
        Newcomer::nobody()
    } else {
        newcomer(cx, args.user.as_deref(), args.machine.as_deref())?
    };
    let outcome = onboard::redeem(&home, link, who.user, who.machine, open::AGENT).await;
    owner::received(cx, &args.owner, &home, outcome).await
}

async fn as_machine(cx: &Context, args: &Args, link: &Link) -> Result<(), CliError> {
    let home = open::home(cx)?;
    let machine = machine_name(args.machine.as_deref())?;
    let owner = owner::in_file(&args.owner)?;
    cx.out
        .talk("Waiting until the other machine has signed this one in …");
    let welcome = onboard::enrol(&home, link, machine, open::AGENT).await?;
    let owners = owner::keys(&welcome.client).await;
    welcome.client.stop().await;
    let level = owner::settle_enrolled(cx, owner, &home, &welcome.profile, &owners?)?;
    let mut object = joined(Some(&welcome.profile), None);
    if let Some(object) = object.as_object_mut() {
        object.insert("level".to_owned(), json!(level.as_str()));
    }
    say(cx, Some(&welcome.profile), None, &object);
    Ok(())
}

fn say_joined(cx: &Context, server: Option<&Profile>, channel: Option<&Channel>) {
    say(cx, server, channel, &joined(server, channel));
}

/// Where one is now, for programs.
fn joined(server: Option<&Profile>, joined: Option<&Channel>) -> Value {
    let account = server.and_then(|server| server.user.as_ref());
    json!({
        "server": server.map(open::name),
        "user": account.map(|a| &a.user), "machine": account.map(|a| &a.machine),
        "channel": joined.map(|log| json!({"id": log.id(), "name": log.name(), "visibility": log.visibility().as_str(), "mode": log.mode().as_str()})),
    })
}

/// Says where one is now.
fn say(cx: &Context, server: Option<&Profile>, joined: Option<&Channel>, object: &Value) {
    cx.out.result(words(server, joined), object);
    if !cx.out.is_json() && server.is_some() {
        cx.out.talk(super::up::connect_line());
    }
}

fn words(server: Option<&Profile>, joined: Option<&Channel>) -> String {
    let account = server.and_then(|server| server.user.as_ref());
    let mut words = Vec::new();
    if let (Some(server), Some(account)) = (server, account) {
        words.push(format!(
            "you are {}/{} on {}",
            account.user,
            account.machine,
            open::name(server)
        ));
    }
    if let Some(joined) = joined {
        let name = channel::called(joined.name());
        let readers = channel::readers(joined.mode().as_str());
        words.push(format!("joined #{name} ({readers})"));
    }
    words.join("; ")
}

/// What a new account and its machine are to be called.
pub(super) struct Newcomer {
    pub(super) user: Name,
    pub(super) machine: Name,
}

impl Newcomer {
    /// Stands where an account is known already and no name will be used.
    fn nobody() -> Self {
        let name = Name::slug("");
        Self {
            user: name.clone(),
            machine: name,
        }
    }
}

/// Settles what a new account and its machine are called; asks if the proposal cannot be.
pub(super) fn newcomer(
    cx: &Context,
    user: Option<&str>,
    machine: Option<&str>,
) -> Result<Newcomer, CliError> {
    let machine = machine_name(machine)?;
    if let Some(user) = user {
        return Ok(Newcomer {
            user: Name::claim(user)?,
            machine,
        });
    }
    let proposed = config::os_user().and_then(|name| Name::claim(&name.to_lowercase()).ok());
    if let Some(user) = proposed {
        return Ok(Newcomer { user, machine });
    }
    if !output::interactive() {
        return Err(
            CliError::usage("no usable name for the account is known").hint("give --user NAME")
        );
    }
    let user = Name::claim(&prompt::line(cx.out, "Name for your account:")?)?;
    Ok(Newcomer { user, machine })
}

/// Returns what a machine is to be called: as was said, else as the network knows it.
pub(super) fn machine_name(given: Option<&str>) -> Result<Name, CliError> {
    match given {
        Some(name) => Ok(Name::new(name)?),
        None => Ok(Name::slug(&config::host_name())),
    }
}
