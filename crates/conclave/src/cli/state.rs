//! `conclave state`: shared facts of a channel, with versions.

use super::item::{Place, cell, path, written};
use super::open;
use super::{Context, serve};
use crate::error::CliError;
use crate::prompt;
use crate::text::{moment, printable};
use conclave_client::Event;
use conclave_client::claim::rule::CLAIM_PREFIX;
use conclave_client::item::StateItem;
use conclave_proto::limit::BODY_BYTES_MAX;
use conclave_proto::reject::Code;
use serde_json::{Value, json};

/// What can be done with shared facts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print a fact's value
    Get {
        /// Its key
        key: String,
        #[command(flatten)]
        place: Place,
    },
    /// Write a fact
    Set {
        /// Its key
        key: String,
        /// Its value, JSON; `-` reads standard input
        value: String,
        /// Only if it has this version now; 0: only if there is none
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// List facts by the beginning of their keys
    List {
        /// The beginning [default: all]
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        place: Place,
    },
    /// Delete a fact
    Delete {
        /// Its key
        key: String,
        /// Only if it has this version now
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// Print changes as they come, until interrupted
    Watch {
        /// Only of keys that begin so [default: all]
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        place: Place,
    },
}

impl Command {
    /// Returns whether others get something to read by it.
    pub(crate) const fn says(&self) -> bool {
        matches!(self, Self::Set { .. } | Self::Delete { .. })
    }
}

/// Carries one out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Get { key, place } => get(cx, &key, &place).await,
        Command::Set {
            key,
            value,
            if_version,
            place,
        } => {
            let value = match value.as_str() {
                "-" => prompt::text(BODY_BYTES_MAX)?,
                _ => value,
            };
            put(cx, &key, Some(value), if_version, &place).await
        }
        Command::List { prefix, place } => list(cx, &prefix, &place).await,
        Command::Delete {
            key,
            if_version,
            place,
        } => put(cx, &key, None, if_version, &place).await,
        Command::Watch { prefix, place } => watch(cx, &prefix, &place).await,
    }
}

async fn get(cx: &Context, key: &str, place: &Place) -> Result<(), CliError> {
    let item = open::with(cx, &place.target, async |client| {
        let channel = place.find(client).await?;
        Ok(client.state(channel, key).await?)
    });
    let Some(item) = item.await? else {
        let missing = CliError::coded(&Code::NotFound, "there is no such fact");
        return Err(missing.hint("`conclave state list` shows what there is"));
    };
    let value = item.value.as_deref().unwrap_or_default();
    cx.out.result(printable(value), &object(&item));
    Ok(())
}

async fn put(
    cx: &Context,
    key: &str,
    value: Option<String>,
    if_version: Option<u64>,
    place: &Place,
) -> Result<(), CliError> {
    let done = open::with(cx, &place.target, async |client| {
        let channel = place.find(client).await?;
        let value = value.as_deref();
        Ok(client.set_state(channel, key, value, if_version).await?)
    });
    let (text, object) = written(&done.await?);
    cx.out.result(text, &object);
    Ok(())
}

async fn list(cx: &Context, prefix: &str, place: &Place) -> Result<(), CliError> {
    let items = open::with(cx, &place.target, async |client| {
        let channel = place.find(client).await?;
        Ok(client.states(channel, prefix).await?)
    })
    .await?;
    let row = |item: &StateItem| {
        [
            cell(&item.key),
            item.version.to_string(),
            path(&item.sender),
            moment(item.at),
            cell(item.value.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = items.iter().map(row).collect();
    let objects: Vec<_> = items.iter().map(object).collect();
    let head = ["key", "version", "by", "at", "value"];
    cx.out.table(head, &rows, &json!({"items": objects}));
    Ok(())
}

async fn watch(cx: &Context, prefix: &str, place: &Place) -> Result<(), CliError> {
    let (home, server) = open::server(cx, &place.target)?;
    let (client, mut events) = open::connect_hearing(&home, &server).await?;
    let channel = place.find(&client).await?;
    client.follow(channel).await?;
    let ended = serve::ended()?;
    tokio::pin!(ended);
    loop {
        let event = tokio::select! {
            () = &mut ended => break,
            event = events.recv() => event,
        };
        match event {
            Some(Event::State(item))
                if item.channel == channel
                    && item.key.starts_with(prefix)
                    && !item.key.starts_with(CLAIM_PREFIX) =>
            {
                cx.out.result(change(&item), &object(&item));
            }
            Some(_) => {}
            None => break,
        }
    }
    client.stop().await;
    Ok(())
}

fn change(item: &StateItem) -> String {
    let value = item
        .value
        .as_deref()
        .map_or_else(|| "(deleted)".to_owned(), cell);
    let (at, by) = (moment(item.at), path(&item.sender));
    format!("{at}  {by}  {} = {value}", cell(&item.key))
}

/// A value is shown as what it is; one that is no JSON (nobody of ours writes that) as text.
fn object(item: &StateItem) -> Value {
    let value = item.value.as_deref();
    let value = value.map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!(text)));
    json!({
        "key": item.key, "value": value, "version": item.version,
        "at": moment(item.at), "from": path(&item.sender), "user_id": item.user,
    })
}
