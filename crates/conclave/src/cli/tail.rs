//! `conclave tail`: a channel's messages, as they were or as they come.

use super::Context;
use super::open::{self, Target};
use super::serve;
use crate::error::CliError;
use crate::text::{Since, moment, printable};
use conclave_client::client::History;
use conclave_client::event::VerifiedMessage;
use conclave_client::{Client, Event};
use conclave_proto::id::{ChannelId, LogId};
use serde_json::{Value, json};

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The channel
    channel: String,
    /// Start a while ago (2h), at a time (2026-01-31T09:00:00Z) or after a seq (42)
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// Go on printing what comes
    #[arg(short, long)]
    follow: bool,
    /// Print at most the newest N [default: 20, all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    #[command(flatten)]
    target: Target,
}

/// How many messages are shown when nothing is said about it.
const LINES: usize = 20;
/// How many messages are read at a time.
const PAGE: u32 = 256;
/// The most messages that are shown of the past.
const LINES_MAX: usize = 100_000;

/// Prints messages.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let (home, server) = open::server(cx, &args.target)?;
    let (client, mut events) = open::connect_hearing(&home, &server).await?;
    let channel = client.resolve(&args.channel).await?.channel;
    if args.follow {
        client.follow(channel).await?;
    }
    let past = past(&client, channel, &args).await?;
    if !args.follow {
        let objects: Vec<_> = past.iter().map(object).collect();
        let lines: Vec<_> = past.iter().map(line).collect();
        cx.out
            .result(lines.join("\n"), &json!({"messages": objects}));
        client.stop().await;
        return Ok(());
    }
    past.iter()
        .for_each(|message| cx.out.result(line(message), &object(message)));
    let mut seen = past.last().map_or(0, |message| message.seq);
    let ended = serve::ended()?;
    tokio::pin!(ended);
    loop {
        let event = tokio::select! {
            () = &mut ended => break,
            event = events.recv() => event,
        };
        match event {
            Some(Event::Message(m)) if m.log == LogId::Channel(channel) && m.seq > seen => {
                seen = m.seq;
                cx.out.result(line(&m), &object(&m));
            }
            Some(Event::Notice(notice)) => cx.out.talk(format_args!("notice: {}", notice.text)),
            Some(_) => {}
            None => break,
        }
    }
    client.stop().await;
    Ok(())
}

/// Reads what was asked for of the past.
async fn past(
    client: &Client,
    channel: ChannelId,
    args: &Args,
) -> Result<Vec<VerifiedMessage>, CliError> {
    let max = u32::try_from(args.lines.unwrap_or(LINES).min(LINES_MAX)).unwrap_or(u32::MAX);
    let Some(since) = args.since else {
        return Ok(client.history(channel, History::Last, max).await?);
    };
    let (mut after, from) = match since {
        Since::Seq(seq) => (seq, 0),
        Since::Time(at) => (0, at.0),
    };
    let mut found = Vec::new();
    while found.len() < LINES_MAX {
        let page = client.history(channel, History::After(after), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        found.extend(page.into_iter().filter(|message| message.at.0 >= from));
    }
    if let Some(lines) = args.lines {
        found.drain(..found.len().saturating_sub(lines));
    }
    Ok(found)
}

fn line(message: &VerifiedMessage) -> String {
    let text = printable(message.body.text.as_deref().unwrap_or_default());
    let s = &message.sender;
    format!(
        "{}  {}/{}/{}  {}",
        moment(message.at),
        s.user,
        s.machine,
        s.handle,
        text.replace('\n', "\n    ")
    )
}

fn object(message: &VerifiedMessage) -> Value {
    let s = &message.sender;
    json!({
        "seq": message.seq, "id": message.id, "at": moment(message.at),
        "from": format!("{}/{}/{}", s.user, s.machine, s.handle), "user_id": message.user,
        "text": message.body.text, "reply_to": message.body.reply_to,
    })
}
