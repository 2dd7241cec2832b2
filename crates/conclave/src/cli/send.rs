//! `conclave send`: one message, answered when it is on the server's disk.
//!
//! Without a connection it fails at once and leaves nothing behind; when the connection breaks while
//! the message is under way, it stays in the outbox and the answer is `queued`.

use super::Context;
use super::open::{self, Target};
use crate::error::{CliError, Exit};
use crate::prompt;
use crate::text::moment;
use conclave_client::client::Target as To;
use conclave_proto::body::Body;
use conclave_proto::limit::BODY_BYTES_MAX;
use conclave_proto::name::SessionPath;
use serde_json::json;

/// Arguments of `send`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A channel, or a session (user/machine/handle) to whisper to
    to: String,
    /// The text; `-` or nothing reads standard input
    text: Vec<String>,
    #[command(flatten)]
    target: Target,
}

/// Sends.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let typed = args.text.join(" ");
    let text = if typed.is_empty() || typed == "-" {
        prompt::text(BODY_BYTES_MAX)?
    } else {
        typed
    };
    if text.trim().is_empty() {
        return Err(CliError::usage("there is nothing to send").hint("give a text, or pipe one in"));
    }
    let path = args
        .to
        .contains('/')
        .then(|| args.to.parse::<SessionPath>())
        .transpose();
    let path = path.map_err(|e| CliError::usage(e.to_string()))?;
    let sent = open::with(cx, &args.target, async |client| {
        let to = match path {
            Some(path) => To::Session(path),
            None => To::Channel(client.resolve(&args.to).await?.channel),
        };
        Ok(client.send(to, &Body::text(text), 0, true).await?)
    });
    let report = sent.await.map_err(unsent)?;
    match report.stored {
        Some((seq, at)) => {
            let object = json!({"id": report.id, "status": "stored", "seq": seq, "at": moment(at)});
            cx.out.result(format_args!("stored as {seq}"), &object);
        }
        None => {
            let object = json!({"id": report.id, "status": "queued"});
            cx.out.result(
                "queued: it goes out with the next command that reaches the server, within a day",
                &object,
            );
        }
    }
    Ok(())
}

/// Says that nothing waits: what cannot be addressed without the server is not queued.
fn unsent(error: CliError) -> CliError {
    if error.exit != Exit::Offline {
        return error;
    }
    let message = format!("{}; nothing was sent and nothing waits", error.message);
    let again = "send it again when the server can be reached";
    CliError { message, ..error }.hint(again)
}
