//! `conclave up`: from nothing to a server, an account, a channel and a link.

mod agent;
mod demo;

use super::Context;
use super::channel;
use super::join;
use super::open;
use super::owner::{self, OwnerArgs};
use super::serve;
use crate::error::CliError;
use crate::text;
use conclave_client::client::{Channel, NewChannel, Signer};
use conclave_client::home::{Home, Profile};
use conclave_client::onboard;
use conclave_client::origin::Origin;
use conclave_client::{Client, ClientError};
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::invite::Link;
use conclave_proto::name::Name;
use conclave_server::config::DEFAULT_PORT;
use conclave_server::{Config, Server};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show two sessions talking, in throw-away directories, and end
    #[arg(long, conflicts_with_all = ["lan", "port", "user", "machine"])]
    demo: bool,
    /// Let other machines reach the server, over TLS with a self-signed certificate
    #[arg(long)]
    lan: bool,
    /// Listen on this port [default: the port of the last time, else 7420]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The name of your account [default: $USER]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What to call this machine [default: its host name]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Where the server of `up` keeps its data, below the configuration directory.
const SERVER_DIR: &str = "server";
/// What `up` remembers of the last time.
const UP_FILE: &str = "up.toml";
/// How long the printed link is good for.
const LINK_MS: u64 = 48 * 3_600_000;

/// What stays the same when `up` is repeated.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Last {
    port: u16,
    lan: bool,
}

/// Starts everything and serves until told to stop.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    if args.demo {
        return demo::run(cx).await;
    }
    let home = open::home(cx)?;
    if !home.root().join(SERVER_DIR).exists() {
        // Nothing is left behind by a first start that cannot end well.
        owner::check_handover(&args.owner)?;
    }
    let last = last(home.root());
    let lan = args.lan || last.is_some_and(|last| last.lan);
    let port = args
        .port
        .or_else(|| last.map(|last| last.port))
        .unwrap_or(DEFAULT_PORT);
    let server = build(home.root(), port, lan).await?;
    let bound = Last {
        port: server.local_addr().port(),
        lan,
    };
    remember(home.root(), bound)?;
    let (origin, boot) = (server.origin(), server.bootstrap_link());
    let id = server.server_id();
    let known = home.server(&id)?.filter(|entry| entry.user.is_some());
    if known.is_none() {
        owner::check_handover(&args.owner)?;
    }
    let who = match known {
        Some(_) => None,
        None => Some(join::newcomer(
            cx,
            args.user.as_deref(),
            args.machine.as_deref(),
        )?),
    };
    let ended = serve::ended()?;
    let running = server.spawn();
    let entry = match (known, who, boot) {
        (Some(entry), ..) => moved(&home, entry, &origin)?,
        (None, Some(who), Some(boot)) => {
            let outcome = onboard::redeem(&home, &boot, who.user, who.machine, open::AGENT).await;
            owner::received(cx, &args.owner, &home, outcome)
                .await?
                .profile
        }
        (None, ..) => return Err(lost_account()),
    };
    let client = open::connect(&home, &entry).await?;
    let general = general(&client).await?;
    let link = link(&home, &entry, &client, &general).await?;
    client.stop().await;
    announce(cx, &entry, lan, &general, &link);
    ended.await;
    running.shutdown().await.map_err(serve::stopped)
}

/// Binds the embedded server.
async fn build(root: &Path, port: u16, lan: bool) -> Result<Server, CliError> {
    let mut config = Config::in_dir(root.join(SERVER_DIR));
    config.listen = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    if lan {
        if port == 0 {
            return Err(CliError::usage("--lan needs a port that stays the same"));
        }
        config.listen.set_ip(Ipv4Addr::UNSPECIFIED.into());
        config.self_signed = true;
        config
            .public_urls
            .push(format!("https://{}:{port}", lan_address()?));
    }
    config.build().await.map_err(|e| serve::not_built(&e))
}

/// Finds the address by which the local network reaches this machine.
fn lan_address() -> Result<IpAddr, CliError> {
    // Connecting a datagram socket sends nothing; it only makes the system choose a source.
    let chosen = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    chosen.map(|addr| addr.ip()).map_err(|e| {
        CliError::local(format!("this machine has no network address: {e}"))
            .hint("without --lan the server is for this machine alone")
    })
}

/// Notes where the server is from now on: the port, the address or TLS may have changed.
fn moved(home: &Home, mut entry: Profile, origin: &str) -> Result<Profile, CliError> {
    let origin: Origin = origin.parse().map_err(ClientError::from)?;
    let urls = vec![origin.to_string()];
    if entry.urls != urls {
        entry.urls = urls;
        home.save(&entry)?;
    }
    Ok(entry)
}

/// Finds #general, or makes it: private.
async fn general(client: &Client) -> Result<Channel, CliError> {
    let name = Name::slug("general");
    let joined = open::joined(client).await?;
    match joined
        .into_iter()
        .find(|info| info.name.as_ref() == Some(&name))
    {
        Some(info) => Ok(client.channel(info.channel).await?),
        None => Ok(client
            .create_channel(NewChannel::new(name, Visibility::Private))
            .await?),
    }
}

/// Returns a link that still works, or a new one.
async fn link(
    home: &Home,
    server: &Profile,
    client: &Client,
    channel: &Channel,
) -> Result<Link, CliError> {
    let now = text::now();
    for (id, invite) in channel.invites() {
        if invite.is_live(now)
            && invite.role == Role::Member
            && let Some(link) = home.kept_link(&server.id, id)?
            && link.origin == client.origin()
        {
            return Ok(link);
        }
    }
    let link = client
        .invite(*channel.id(), Role::Member, 1, LINK_MS, Signer::Machine)
        .await?;
    home.keep_link(&server.id, &link)?;
    Ok(link)
}

fn announce(cx: &Context, entry: &Profile, lan: bool, general: &Channel, link: &Link) {
    let origin = open::name(entry);
    let account = entry.user.as_ref();
    let object = json!({
        "url": origin, "server_id": entry.id, "fingerprint": entry.key.fingerprint(),
        "user": account.map(|a| &a.user), "machine": account.map(|a| &a.machine),
        "channel": "general", "mode": general.mode().as_str(), "link": link.to_string(), "connect": connect_command(),
    });
    let you = account.map_or_else(String::new, |a| format!("{}/{}", a.user, a.machine));
    let invite = match lan {
        true => "From another machine, once: run `conclave join` there and give it this link",
        false => {
            "Only this machine reaches the server; `conclave up --lan` lets others in. A second account here, for\n\
             example with --config-dir: run `conclave join` and give it this link"
        }
    };
    let text = format!(
        "\nServer   {origin}   (key {})\nYou      {you}\nChannel  #general ({}; {})\n\n\
         {}\n\n{invite}\n\n  {link}\n\n\
         Serving. Ctrl-C ends it; `conclave up` resumes.",
        entry.key.fingerprint(),
        general.visibility(),
        channel::readers(general.mode().as_str()),
        connect_line(),
    );
    cx.out.result(text, &object);
}

/// The command that connects Claude Code.
fn connect_command() -> String {
    let program =
        std::env::current_exe().map_or_else(|_| "conclave".to_owned(), |p| p.display().to_string());
    format!("claude mcp add conclave -- {program} bridge")
}

/// How to connect agent sessions, for people.
pub(super) fn connect_line() -> String {
    format!(
        "Connect agent sessions on this machine (no invite needed):\n\n  {}",
        connect_command()
    )
}

fn last(root: &Path) -> Option<Last> {
    toml::from_str(&std::fs::read_to_string(root.join(UP_FILE)).ok()?).ok()
}

fn remember(root: &Path, last: Last) -> Result<(), CliError> {
    let path = root.join(UP_FILE);
    let text = toml::to_string(&last).map_err(|e| CliError::local(e.to_string()))?;
    std::fs::write(&path, text).map_err(|e| CliError::local(format!("{}: {e}", path.display())))
}

fn lost_account() -> CliError {
    CliError::local("this server has an admin already, and this machine has no account on it")
        .hint("restore the directory `servers`, enrol with `conclave machine add`, or move `server` away to start anew")
}
