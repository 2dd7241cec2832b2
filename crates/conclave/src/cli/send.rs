//! `conclave send`: one message, answered when it is on the server's disk.
//!
//! Without a connection it fails at once and leaves nothing behind; when the connection breaks while
//! the message is under way, it stays in the outbox and the answer is `queued`.

use super::open::{self, Target};
use super::{Context, address};
use crate::error::{CliError, Exit};
use crate::prompt;
use crate::text::moment;
use conclave_client::address::{Part, To, mentions};
use conclave_client::client::{SendReport, Target as Place};
use conclave_client::{Client, ClientError};
use conclave_proto::body::{Body, Priority};
use conclave_proto::id::{ChannelId, MsgId};
use conclave_proto::limit::BODY_BYTES_MAX;
use conclave_proto::reject::Code;
use serde_json::{Value, json};

/// Arguments of `send`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A channel, name, user/machine/session, @group, #channel@group, or * for everybody
    to: String,
    /// The text; `-` or nothing reads standard input
    text: Vec<String>,
    /// Send it there, too; repeatable
    #[arg(long = "to", value_name = "TO")]
    also: Vec<String>,
    /// How urgent it is
    #[arg(long, value_parser = ["now", "next", "low"], default_value = "next")]
    priority: String,
    #[command(flatten)]
    target: Target,
}

/// Sends.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let text = prompt::words(&args.text, BODY_BYTES_MAX)?;
    if text.trim().is_empty() {
        return Err(CliError::usage("there is nothing to send").hint("give a text, or pipe one in"));
    }
    let parse = |text: &String| text.parse::<To>();
    let targets = [&args.to].into_iter().chain(&args.also).map(parse);
    let targets = targets.collect::<Result<Vec<_>, _>>();
    let targets = targets.map_err(|e| CliError::usage(e.to_string()))?;
    let priority = Priority::from_word(&args.priority).filter(|word| *word != Priority::Next);
    let body = Body {
        priority,
        ..Body::text(text)
    };
    let sent = open::with(cx, &args.target, async |client| {
        let parts = parts(client, &args.to, targets).await?;
        say(client, &parts, &body).await
    });
    let sent = sent.await.map_err(unsent)?;
    if let [(_, report)] = sent.as_slice() {
        show(cx, report);
        return Ok(());
    }
    let status = |report: &SendReport| {
        if report.stored.is_some() {
            "stored"
        } else {
            "queued"
        }
    };
    let seq = |report: &SendReport| report.stored.map(|(seq, _)| seq);
    let objects: Vec<Value> = sent
        .iter()
        .map(|(to, r)| json!({"to": to, "status": status(r), "seq": seq(r)}))
        .collect();
    let lines: Vec<String> = sent
        .iter()
        .map(|(to, report)| format!("{}: {to}", status(report)))
        .collect();
    let all = sent.iter().all(|(_, report)| report.stored.is_some());
    let object = json!({
        "id": sent.first().map(|(_, report)| report.id),
        "status": if all { "stored" } else { "queued" },
        "parts": objects,
    });
    cx.out.result(lines.join("\n"), &object);
    Ok(())
}

fn show(cx: &Context, report: &SendReport) {
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
}

/// Finds where it goes. One channel or address needs nobody to be looked up.
async fn parts(
    client: &Client,
    text: &str,
    targets: Vec<To>,
) -> Result<Vec<Part<ChannelId>>, CliError> {
    let whole = |info: conclave_proto::frame::reply::ChannelInfo| Part::Channel {
        key: info.channel,
        name: text.trim_start_matches('#').to_owned(),
        server: 0,
        to: Vec::new(),
        recipients: Vec::new(),
    };
    match targets.as_slice() {
        [To::Path(path)] => Ok(vec![Part::Session {
            server: None,
            path: path.clone(),
        }]),
        [To::Channel(name)] => Ok(vec![whole(client.resolve(name).await?)]),
        [To::Name(name)] => match client.resolve(name.as_str()).await {
            Ok(info) => Ok(vec![whole(info)]),
            Err(error) if is_missing(&error) => address::means(client, targets).await,
            Err(error) => Err(error.into()),
        },
        _ => address::means(client, targets).await,
    }
}

fn is_missing(error: &ClientError) -> bool {
    error.code() == Code::NotFound
}

/// Says it everywhere, under one id.
async fn say(
    client: &Client,
    parts: &[Part<ChannelId>],
    body: &Body,
) -> Result<Vec<(String, SendReport)>, CliError> {
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn)
        .map_err(|_| CliError::local("the system has no randomness".to_owned()))?;
    let id = MsgId::new(drawn);
    let mut sent: Vec<(String, SendReport)> = Vec::new();
    for part in parts {
        let mut body = body.clone();
        let (target, recipients) = match part {
            Part::Session { path, .. } => (Place::Session(path.clone()), Vec::new()),
            Part::Channel {
                key,
                to,
                recipients,
                ..
            } => {
                body.to.clone_from(to);
                body.mentions = mentions(body.text.as_deref().unwrap_or_default());
                (Place::Channel(*key), recipients.clone())
            }
        };
        let name = address::called(part);
        match client
            .send_as(id, target, &recipients, &body, 0, true)
            .await
        {
            Ok(report) => sent.push((name, report)),
            Err(error) if sent.is_empty() => return Err(error.into()),
            Err(error) => {
                let said: Vec<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
                let hint = format!("{name} refused it; it was sent to {}", said.join(", "));
                return Err(CliError::from(error).hint(hint));
            }
        }
    }
    Ok(sent)
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
