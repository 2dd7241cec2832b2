//! `conclave server`: the servers that this machine knows, and their pinned keys.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use crate::output;
use crate::prompt;
use conclave_client::home::Profile;
use conclave_client::onboard;
use conclave_client::origin::{BadOrigin, Origin};
use conclave_proto::link::Pin;
use serde_json::{Value, json};

/// What can be done with known servers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the servers with their fingerprints
    List,
    /// Forget a server, its pin and this machine's key there
    Remove {
        /// The server, by URL or name
        server: String,
    },
    /// Pin a server's key after comparing the fingerprint with its operator
    Trust {
        /// The server's URL
        url: String,
        /// The fingerprint the operator told you
        #[arg(long, value_name = "FINGERPRINT", allow_hyphen_values = true)]
        fingerprint: Option<String>,
    },
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List => {
            let servers = match open::existing_home(cx)? {
                Some(home) => home.servers()?,
                None => Vec::new(),
            };
            let row = |s: &Profile| {
                let user = s
                    .user
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |a| a.user.to_string());
                [open::name(s), user, s.key.fingerprint()]
            };
            let rows: Vec<_> = servers.iter().map(row).collect();
            let objects: Vec<_> = servers.iter().map(object).collect();
            cx.out.table(
                ["server", "you are", "fingerprint"],
                &rows,
                &json!({"servers": objects}),
            );
            Ok(())
        }
        Command::Remove { server } => {
            let target = Target {
                server: Some(server),
            };
            let (home, entry) = open::server(cx, &target)?;
            if output::interactive() && entry.user.is_some() {
                let question = format!(
                    "Forget {} with this machine's key there? Type yes:",
                    open::name(&entry)
                );
                if prompt::line(cx.out, &question)? != "yes" {
                    return Err(CliError::usage("nothing was removed"));
                }
            }
            home.forget(&entry.id)?;
            cx.out.result(
                format_args!("forgot {}", open::name(&entry)),
                &json!({"removed": open::name(&entry)}),
            );
            Ok(())
        }
        Command::Trust { url, fingerprint } => trust(cx, &url, fingerprint).await,
    }
}

/// Pins a server's key; without a fingerprint a person has to compare it.
async fn trust(cx: &Context, url: &str, told: Option<String>) -> Result<(), CliError> {
    let fingerprint = match told {
        Some(told) => told,
        None => {
            prompt::need_person(
                "the fingerprint",
                "give --fingerprint as the operator told you",
            )?;
            prompt::line(cx.out, "Fingerprint, as the server's operator told you:")?
        }
    };
    let home = open::home(cx)?;
    let origin: Origin = url
        .parse()
        .map_err(|e: BadOrigin| CliError::usage(e.to_string()))?;
    let mut entry = onboard::probe(&origin, Pin::Fingerprint(fingerprint)).await?;
    if let Some(known) = home.server(&entry.id)? {
        let url = std::mem::replace(&mut entry.urls, known.urls);
        entry.urls.retain(|known| !url.contains(known));
        entry.urls.splice(0..0, url);
        entry.user = known.user;
    }
    home.save(&entry)?;
    cx.out.result(
        format_args!("pinned {}", open::name(&entry)),
        &json!({"server": object(&entry)}),
    );
    Ok(())
}

/// A server, for programs.
fn object(server: &Profile) -> Value {
    json!({
        "server_id": server.id, "urls": server.urls,
        "fingerprint": server.key.fingerprint(),
        "user": server.user.as_ref().map(|a| &a.user),
        "machine": server.user.as_ref().map(|a| &a.machine),
    })
}
