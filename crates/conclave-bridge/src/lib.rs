//! One agent session: an MCP server on stdio over the client.
//!
//! The rules are pure: [`policy`] and [`trust`] (how far a message may carry), [`render`] (how it is
//! shown), [`guard`] (what loops may cost), [`state`] (what is unread), [`wake`] (by which way the agent hears
//! of it). [`session`] drives
//! them, [`mcp`] speaks to the host, [`tool`] is the table of tools, [`fabric`] is what a session needs of
//! a server, [`remote`] has it from the client, [`open`] opens the servers. [`control`] is the session's own
//! socket, [`journal`] what a human can read later, [`launched`] what a launcher said who it is. stdout belongs to MCP:
//! nothing here prints.

pub mod control;
pub mod desk;
pub mod fabric;
pub mod files;
pub mod guard;
pub mod journal;
pub mod labels;
pub mod launched;
pub mod mcp;
pub mod open;
pub mod outbound;
pub mod policy;
pub mod remote;
pub mod render;
pub mod senders;
pub mod session;
pub mod state;
pub mod switch;
pub mod tool;
pub mod trust;
pub mod wake;

pub use open::BridgeConfig;
use session::{Opener, Setup};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// Why a session could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system gave no random bytes.
    #[error("the system's random generator failed")]
    Random(#[source] getrandom::Error),
    /// Signals cannot be watched.
    #[error("signals cannot be watched")]
    Signals(#[source] std::io::Error),
}

/// Runs a session on this process's stdin and stdout: what `conclave bridge` is.
///
/// # Errors
/// [`StartError`]. Whatever is wrong with a server is told by the tools instead.
pub async fn run(config: BridgeConfig) -> Result<(), StartError> {
    let setup = config.setup();
    run_stdio(setup, config.opener()).await
}

/// Runs a session for the host on `input` and `output` until either ends or `closed` is cancelled.
/// `initialize` is answered before `opener` runs.
///
/// # Errors
/// [`StartError::Random`].
pub async fn run_with<R, W>(
    setup: Setup,
    opener: Opener,
    input: R,
    output: W,
    closed: CancellationToken,
) -> Result<(), StartError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StartError::Random)?;
    let host = mcp::serve(input, output, closed, setup.relays);
    session::run(host, setup, opener, seed).await;
    Ok(())
}

/// Runs a session on this process's stdin and stdout until the host closes them, SIGINT or SIGTERM.
///
/// The runtime should be dropped with `shutdown_background` afterwards: a blocked read of a stdin that
/// is no pipe would hold it up.
///
/// # Errors
/// [`StartError`].
pub async fn run_stdio(setup: Setup, opener: Opener) -> Result<(), StartError> {
    let closed = CancellationToken::new();
    let ending = closed.clone();
    #[cfg(unix)]
    let mut terminate = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).map_err(StartError::Signals)?
    };
    tokio::spawn(async move {
        #[cfg(unix)]
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => tracing::debug!(?interrupted, "interrupted"),
            _ = terminate.recv() => tracing::debug!("terminated"),
            () = ending.cancelled() => {}
        }
        #[cfg(not(unix))]
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "signals cannot be watched");
        }
        ending.cancel();
    });
    let (input, output) = rmcp::transport::io::stdio_pipes();
    run_with(setup, opener, input, output, closed).await
}
