//! `conclave serve`: a server in the foreground, until it is told to stop.

use super::Context;
use crate::error::{CliError, Own, chain};
use conclave_proto::reject::Code;
use conclave_server::config::Registration;
use conclave_server::{BuildError, Config, ConfigError, RunError};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep everything durable in DIR
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep everything in memory: gone with the process
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Read settings from a TOML file; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Use this certificate chain (PEM, leaf first)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Use this private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Make a self-signed certificate; clients pin the server's key
    #[arg(long, conflicts_with_all = ["tls_cert", "behind_proxy"])]
    self_signed: bool,
    /// Let a proxy in front end TLS
    #[arg(long)]
    behind_proxy: bool,
    /// Be reachable under this URL; repeatable
    #[arg(long, value_name = "URL")]
    public_url: Vec<String>,
    /// Choose who may make an account
    #[arg(long, value_enum)]
    registration: Option<Who>,
    /// Write log lines as JSON
    #[arg(long)]
    pub(super) log_json: bool,
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Who {
    /// Holders of an invite link
    Invite,
    /// Anybody, under any free name
    Open,
    /// Nobody
    Closed,
}

/// Runs a server until a signal ends it.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let server = settings(args)?.build().await.map_err(|e| not_built(&e))?;
    let (url, link) = (
        server.origin(),
        server.bootstrap_link().map(|link| link.to_string()),
    );
    let ready = json!({
        "url": url, "fingerprint": server.fingerprint(),
        "server_id": server.server_id(), "bootstrap_link": link,
    });
    cx.out
        .result(format_args!("{url}  {}", server.fingerprint()), &ready);
    if let (Some(link), false) = (link, cx.out.is_json()) {
        cx.out.talk("There is no admin yet. This link makes one, once, within the hour; give it to `conclave join`:");
        cx.out.talk(link);
    }
    server.run(ended()?).await.map_err(stopped)
}

/// Merges the file and the flags.
fn settings(args: Args) -> Result<Config, CliError> {
    let mut config = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| CliError::local(format!("{}: {e}", path.display())))?;
            Config::from_toml(&text).map_err(|e| not_built(&e.into()))?
        }
        None => Config::default(),
    };
    if args.data_dir.is_some() {
        config.data_dir = args.data_dir;
    }
    config.ephemeral |= args.ephemeral;
    config.listen = args.listen.unwrap_or(config.listen);
    if args.tls_cert.is_some() {
        (config.tls_cert, config.tls_key) = (args.tls_cert, args.tls_key);
    }
    config.self_signed |= args.self_signed;
    config.behind_proxy |= args.behind_proxy;
    config.public_urls.extend(args.public_url);
    if let Some(who) = args.registration {
        config.registration = match who {
            Who::Invite => Registration::Invite,
            Who::Open => Registration::Open,
            Who::Closed => Registration::Closed,
        };
    }
    Ok(config)
}

/// Says why a server cannot start, and what to do.
pub(super) fn not_built(error: &BuildError) -> CliError {
    let message = chain(error);
    match error {
        BuildError::Config(ConfigError::NoDataDir) => CliError::usage(message)
            .hint("give --data-dir DIR, or --ephemeral to keep everything in memory"),
        BuildError::Config(ConfigError::Unprotected(_)) => CliError::usage(message)
            .hint("give --tls-cert and --tls-key, or --self-signed, or --behind-proxy"),
        BuildError::Config(_) => CliError::usage(message).hint("see `conclave serve --help`"),
        BuildError::Bind { .. } => CliError::own(Own::Listen, message)
            .hint("another program may use this port; choose one with --port or --listen"),
        BuildError::Identity(_) | BuildError::Tls(_) | BuildError::Store(_) => {
            CliError::local(message)
                .hint("check the data directory: its owner, permissions and free space")
        }
    }
}

/// Says that a server gave up.
pub(super) fn stopped(error: RunError) -> CliError {
    CliError::coded(&Code::Internal, error.to_string()).hint("see the log above")
}

/// Returns what ends when the process is asked to: interrupt or termination.
pub(super) fn ended() -> Result<impl Future<Output = ()>, CliError> {
    use tokio::signal::unix::{SignalKind, signal};
    let fail = |e| CliError::local(format!("signals cannot be received: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
