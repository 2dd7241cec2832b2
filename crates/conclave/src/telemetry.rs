//! Logs, on standard error: what happened, with ids and sizes, never texts or keys.

use tracing_subscriber::EnvFilter;

/// What is logged unless [`crate::config::ENV_LOG`] or `-v` says otherwise, by a server.
const SERVING: &str = "info,rmcp=warn";
/// The same, by everything else: a command speaks through its result.
const QUIET: &str = "warn,rmcp=warn";

/// Who is talking: a server tells its life, a command only its troubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// `serve`.
    Server,
    /// Everything else.
    Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error.
pub(crate) fn start(voice: Voice, verbose: u8, shape: Shape) {
    let by_flag = match (verbose, voice) {
        (0, Voice::Server) => SERVING,
        (0, Voice::Command) => QUIET,
        (1, _) => "debug,rmcp=info,hyper=info",
        _ => "trace",
    };
    let filter = std::env::var(crate::config::ENV_LOG)
        .ok()
        .filter(|_| verbose == 0)
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(by_flag));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // A second subscriber in the same process is a test's doing, and harmless.
    let _started = match shape {
        Shape::Text => logs.try_init(),
        Shape::Json => logs.json().try_init(),
    };
}
