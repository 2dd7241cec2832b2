//! What commands about state, claims and memories have in common: which channel, and how to show things.

use super::open::{self, Target};
use crate::error::{CliError, Own};
use crate::text::printable;
use conclave_client::Client;
use conclave_client::item::{ClaimError, Written};
use conclave_proto::id::ChannelId;
use conclave_proto::name::SessionPath;
use serde_json::{Value, json};

/// Which channel a command is about.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Place {
    /// The channel [default: the only one you are in]
    #[arg(short, long, value_name = "CHANNEL")]
    pub(crate) channel: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

impl Place {
    /// Finds the channel.
    pub(crate) async fn find(&self, client: &Client) -> Result<ChannelId, CliError> {
        if let Some(name) = &self.channel {
            return Ok(client.resolve(name).await?.channel);
        }
        let joined = open::joined(client).await?;
        match joined.as_slice() {
            [one] => Ok(one.channel),
            [] => Err(CliError::own(Own::Usage, "you are in no channel")
                .hint("join one with `conclave join`")),
            several => {
                let names = several.iter().filter_map(|info| info.name.as_ref());
                let names: Vec<_> = names.map(|name| format!("#{name}")).collect();
                let hint = format!("choose one with --channel: {}", names.join(", "));
                Err(CliError::own(Own::Ambiguous, "you are in several channels").hint(hint))
            }
        }
    }
}

/// Writes a path as people do.
pub(crate) fn path(of: &SessionPath) -> String {
    format!("{}/{}/{}", of.user, of.machine, of.handle)
}

/// One line of peer text, cut to what fits a table.
pub(crate) fn cell(text: &str) -> String {
    const CHARS: usize = 100;
    let line = printable(text).replace(['\n', '\t'], " ");
    match line.char_indices().nth(CHARS) {
        Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or_default()),
        None => line,
    }
}

/// What became of something that was written: for people and programs.
pub(crate) fn written(written: &Written) -> (String, Value) {
    let status = match written.version {
        Some(_) => "stored",
        None => "queued",
    };
    let object = json!({"id": written.id, "status": status, "version": written.version});
    let text = match written.version {
        Some(version) => format!("stored as version {version}"),
        None => "queued: the connection broke, it goes out later".to_owned(),
    };
    (text, object)
}

/// Names who is in the way.
pub(crate) fn claim_error(error: ClaimError) -> CliError {
    match error {
        ClaimError::Client(error) => error.into(),
        ClaimError::Held(claim) => {
            let note = claim
                .note
                .as_deref()
                .map(|note| format!(": {}", cell(note)));
            let text = format!(
                "{} holds {} for another {} s{}",
                path(&claim.holder),
                cell(&claim.resource),
                claim.left_ms / 1000,
                note.unwrap_or_default()
            );
            let refused: CliError = ClaimError::Held(claim).to_reject().into();
            CliError {
                message: text,
                ..refused
            }
        }
        other => {
            let reject = other.to_reject();
            CliError::coded(&reject.code, reject.message)
        }
    }
}
