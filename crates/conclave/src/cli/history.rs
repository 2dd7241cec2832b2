//! `conclave history`: what was said, by words.

use super::Context;
use super::item::{Place, path};
use super::open;
use crate::error::CliError;
use crate::text::{moment, printable};
use conclave_client::client::History;
use conclave_client::event::{Scope, VerifiedMessage};
use conclave_client::item::FoundMessages;
use serde_json::{Value, json};

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Words to look for, everywhere or in --channel [default: the newest of the channel]
    query: Vec<String>,
    /// Print at most so many
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    limit: u32,
    #[command(flatten)]
    place: Place,
}

/// Searches what was said in channels and in this machine's whispers.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let query = args.query.join(" ");
    let found = open::with(cx, &args.place.target, async |client| {
        if query.trim().is_empty() {
            let channel = args.place.find(client).await?;
            let messages = client.history(channel, History::Last, args.limit).await?;
            return Ok(FoundMessages {
                messages,
                complete: true,
                since: None,
            });
        }
        let channel = match &args.place.channel {
            Some(_) => Some(args.place.find(client).await?),
            None => None,
        };
        Ok(client.search_history(channel, &query, args.limit).await?)
    })
    .await?;
    let lines: Vec<_> = found.messages.iter().map(line).collect();
    let objects: Vec<_> = found.messages.iter().map(object).collect();
    let none = "nothing was found".to_owned();
    let lines = if lines.is_empty() {
        none
    } else {
        lines.join("\n")
    };
    let object = json!({
        "messages": objects, "complete": found.complete, "since": found.since.map(moment),
    });
    cx.out.result(lines, &object);
    if !found.complete {
        cx.out
            .talk("not everything was searched yet: search again to read further back");
    }
    Ok(())
}

fn place(message: &VerifiedMessage) -> String {
    match &message.scope {
        Scope::Whisper => "whisper".to_owned(),
        Scope::Channel { id, name } => match name {
            Some(name) => format!("#{name}"),
            None => id.to_string(),
        },
    }
}

fn line(message: &VerifiedMessage) -> String {
    let text = printable(message.body.text.as_deref().unwrap_or_default());
    let (at, by) = (moment(message.at), path(&message.sender));
    let text = text.replace('\n', "\n    ");
    format!("{at}  {}  {by}  {text}", place(message))
}

fn object(message: &VerifiedMessage) -> Value {
    json!({
        "in": place(message), "seq": message.seq, "id": message.id, "at": moment(message.at),
        "from": path(&message.sender), "user_id": message.user, "text": message.body.text,
    })
}
