//! `conclave ask`: a question, and the answers that come in time.
//!
//! Answers need a mailbox: this is a session of its own, there as long as the command runs. What comes
//! later waits in its mailbox, for whoever asks by the same handle.

use super::Context;
use super::address;
use super::open::{self, AGENT, Target};
use crate::error::CliError;
use crate::text::{moment, printable};
use conclave_client::address::{Part, To};
use conclave_client::client::Target as Place;
use conclave_client::event::VerifiedMessage;
use conclave_client::instance::Claim;
use conclave_client::{Client, Event, Session};
use conclave_proto::body::Body;
use conclave_proto::id::{ChannelId, LogId, MsgId};
use conclave_proto::name::{Name, SessionPath};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long the connection may take.
const UP: Duration = Duration::from_secs(10);

/// Where sessions of this machine keep their places.
const SESSIONS: &str = "sessions";

/// Arguments of `ask`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A name, user/machine/session, #channel or #channel@group
    to: String,
    /// The question
    #[arg(required = true)]
    question: Vec<String>,
    /// Wait at most so many seconds
    #[arg(long, value_name = "S", default_value_t = 120)]
    timeout: u64,
    /// Enough so many answers [default: of everybody asked]
    #[arg(long, value_name = "N")]
    answers: Option<usize>,
    /// Ask as this session [default: ask, numbered if several ask at once]
    #[arg(long = "as", value_name = "HANDLE")]
    handle: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Asks.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let to: To = args
        .to
        .parse()
        .map_err(|e| CliError::usage(format!("{e}")))?;
    let given = args.handle.as_deref().map(Name::claim).transpose()?;
    let pinned = given.is_some();
    let handle = given.unwrap_or_else(|| Name::slug("ask"));
    let (home, server) = open::server(cx, &args.target)?;
    let dir = home.server_dir(&server.id).join(SESSIONS);
    let claim = Claim::take(&dir, &handle, pinned).map_err(|e| CliError::local(e.to_string()))?;
    let session = Session {
        handle: claim.handle.clone(),
        pinned,
        instance: claim.instance,
        agent: AGENT.to_owned(),
    };
    let (client, mut events) = Client::connect(&home, &server, session).await?;
    let asked = async {
        open::up(&mut events, UP).await?;
        client.follow_mailbox().await?;
        let parts = address::means(&client, vec![to]).await?;
        let words = args.question.join(" ");
        let asked = say(&client, &parts, &words).await?;
        let all = asked.whom.len();
        let wanted = args.answers.unwrap_or(all).clamp(1, all.max(1));
        let time = Duration::from_secs(args.timeout);
        let answers = collect(&client, &mut events, &asked, wanted, time).await?;
        Ok::<_, CliError>((asked.id, wanted, answers))
    };
    let asked = asked.await;
    // Who answered learns that it was read.
    if let Err(error) = client.tell_receipts().await {
        tracing::debug!(%error, "who answered is not told that it was read");
    }
    client.stop().await;
    let (id, wanted, answers) = asked?;
    let from: BTreeSet<&SessionPath> = answers.iter().map(|m| &m.sender).collect();
    let answered = from.len() >= wanted;
    show(cx, id, answered, &answers);
    Ok(())
}

/// A question that was said.
struct Asked {
    id: MsgId,
    /// The sessions it is for.
    whom: BTreeSet<SessionPath>,
    /// Channels that were asked as a whole: whoever speaks there may answer.
    open: BTreeSet<LogId>,
}

impl Asked {
    /// Returns whether a message answers it; what others say is not for this call.
    fn is_answered_by(&self, m: &VerifiedMessage) -> bool {
        let asked = self.whom.contains(&m.sender) || self.open.contains(&m.log);
        asked && m.body.reply_to == Some(self.id)
    }
}

/// Says the question everywhere.
async fn say(client: &Client, parts: &[Part<ChannelId>], words: &str) -> Result<Asked, CliError> {
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn)
        .map_err(|_| CliError::local("the system has no randomness".to_owned()))?;
    let id = MsgId::new(drawn);
    let (mut whom, mut open) = (BTreeSet::new(), BTreeSet::new());
    for part in parts {
        let (target, to, recipients) = match part {
            Part::Session { path, .. } => {
                whom.insert(path.clone());
                (Place::Session(path.clone()), Vec::new(), Vec::new())
            }
            Part::Channel {
                key,
                to,
                recipients,
                ..
            } => {
                // Who answers in the channel is heard, too.
                client.follow(*key).await?;
                whom.extend(recipients.iter().cloned());
                if to.is_empty() {
                    open.insert(LogId::Channel(*key));
                }
                (Place::Channel(*key), to.clone(), recipients.clone())
            }
        };
        let body = Body {
            to,
            expects_reply: true,
            ..Body::text(words)
        };
        client
            .send_as(id, target, &recipients, &body, 0, true)
            .await?;
    }
    Ok(Asked { id, whom, open })
}

/// Takes answers until there are enough, or the time is over.
async fn collect(
    client: &Client,
    events: &mut mpsc::Receiver<Event>,
    asked: &Asked,
    wanted: usize,
    time: Duration,
) -> Result<Vec<VerifiedMessage>, CliError> {
    let until = Instant::now() + time;
    let mut answers: Vec<VerifiedMessage> = Vec::new();
    let mut from = BTreeSet::new();
    while from.len() < wanted {
        let Ok(Some(event)) = tokio::time::timeout_at(until, events.recv()).await else {
            break;
        };
        if let Event::Message(m) = event
            && asked.is_answered_by(&m)
        {
            client.mark_shown(m.log, m.id).await?;
            from.insert(m.sender.clone());
            answers.push(*m);
        }
    }
    Ok(answers)
}

fn show(cx: &Context, id: MsgId, answered: bool, answers: &[VerifiedMessage]) {
    let text = |m: &VerifiedMessage| m.body.text.clone().unwrap_or_default();
    let objects: Vec<Value> = answers
        .iter()
        .map(|m| {
            json!({"from": m.sender.to_string(), "at": moment(m.at), "id": m.id, "text": text(m)})
        })
        .collect();
    let status = if answered { "answered" } else { "pending" };
    let lines: Vec<String> = answers
        .iter()
        .map(|m| {
            format!(
                "{}  {}",
                m.sender,
                printable(&text(m)).replace('\n', "\n    ")
            )
        })
        .collect();
    if !answered && !cx.out.is_json() {
        let got = answers.len();
        cx.out.talk(format_args!(
            "{got} answers in time; `conclave message {id}` shows who has the question"
        ));
    }
    let object = json!({"id": id, "status": status, "answers": objects});
    cx.out.result(lines.join("\n"), &object);
}
