//! `conclave message`: what became of a message that this machine sent.
//!
//! What is known here is shown without a connection, too; the server is asked only for what it may know
//! better.

use super::Context;
use super::open::{self, AGENT, Target};
use crate::error::CliError;
use crate::text::moment;
use conclave_client::replica::delivery::MessageStatus;
use conclave_client::{Client, ClientError, Session};
use conclave_proto::id::MsgId;
use conclave_proto::reject::{Code, Reject};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a server may take to answer before only this machine is asked.
const PROBE: Duration = Duration::from_secs(3);

/// Arguments of `message`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The id that `send`, `ask` or a tool answered
    id: String,
    #[command(flatten)]
    target: Target,
}

/// Shows what became of a message.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let id: MsgId = args
        .id
        .parse()
        .map_err(|_| CliError::usage("that is no message id").hint("see the answer of `send`"))?;
    for (home, server) in open::accounts(cx, &args.target)? {
        let session = Session::one_shot(AGENT)?;
        let (client, mut events) = Client::connect(&home, &server, session).await?;
        if let Err(error) = open::up(&mut events, PROBE).await {
            cx.out.talk(format_args!(
                "{}: {}; what this machine knows:",
                open::name(&server),
                error.message
            ));
        }
        let status = client.message_status(id).await;
        client.stop().await;
        if let Some(status) = status? {
            show(cx, &status);
            return Ok(());
        }
    }
    let text = "this machine sent no message of that id in the last 30 days";
    let error = ClientError::from(Reject::new(Code::NotFound, text));
    Err(CliError::from(error).hint("only the machine that sent it knows"))
}

fn show(cx: &Context, status: &MessageStatus) {
    let rows: Vec<[String; 3]> = status
        .rows
        .iter()
        .map(|row| {
            let step = row.step.as_str().to_owned();
            [row.peer.to_string(), step, moment(row.at)]
        })
        .collect();
    let objects: Vec<Value> = status
        .rows
        .iter()
        .map(|row| {
            let step = row.step.as_str();
            json!({"peer": row.peer.to_string(), "step": step, "at": moment(row.at)})
        })
        .collect();
    let parts: Vec<Value> = status
        .parts
        .iter()
        .map(|part| json!({"log": part.log.to_string(), "seq": part.seq}))
        .collect();
    let at = moment(status.at);
    let object = json!({"id": status.id, "at": at, "parts": parts, "recipients": objects});
    cx.out.table(["recipient", "step", "since"], &rows, &object);
}
