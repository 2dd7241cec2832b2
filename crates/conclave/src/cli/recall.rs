//! `conclave recall`: what members of a channel kept.

use super::Context;
use super::item::{Place, path};
use super::open;
use crate::error::CliError;
use crate::text::{moment, printable};
use conclave_client::item::{Memory, Recall};
use serde_json::{Value, json};

/// Arguments of `recall`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Words to look for [default: the newest]
    query: Vec<String>,
    /// Only what has this tag; repeatable
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// Print at most so many
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
    limit: u32,
    #[command(flatten)]
    place: Place,
}

/// Searches.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let what = Recall {
        query: args.query.join(" "),
        tags: args.tag,
        limit: args.limit,
    };
    let found = open::with(cx, &args.place.target, async |client| {
        let channel = args.place.find(client).await?;
        Ok(client.recall(&[channel], &what).await?)
    })
    .await?;
    let texts: Vec<_> = found.iter().map(text).collect();
    let objects: Vec<_> = found.iter().map(object).collect();
    let none = "nothing was found".to_owned();
    let texts = if texts.is_empty() {
        none
    } else {
        texts.join("\n\n")
    };
    cx.out.result(texts, &json!({"memories": objects}));
    Ok(())
}

fn text(memory: &Memory) -> String {
    let tags = match memory.tags.is_empty() {
        true => String::new(),
        false => format!("  [{}]", printable(&memory.tags.join(", "))),
    };
    let (at, by) = (moment(memory.at), path(&memory.sender));
    let words = printable(&memory.text).replace('\n', "\n    ");
    format!("{at}  {by}  {}{tags}\n    {words}", memory.id)
}

fn object(memory: &Memory) -> Value {
    json!({
        "id": memory.id, "text": memory.text, "tags": memory.tags, "at": moment(memory.at),
        "from": path(&memory.sender), "user_id": memory.user,
    })
}
