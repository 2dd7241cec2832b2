//! What became of what was said.

use super::answer::{ANSWER_BYTES_MAX, Answer, Failure};
use super::args::{Args, Kind, need};
use super::{Set, Step, Tool};
use crate::session::Session;
use conclave_client::replica::delivery::{MessageStatus, Step as Reached};
use conclave_proto::id::MsgId;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Tools that tell what became of what was said.
pub(super) const TOOLS: &[Tool] = &[Tool::new(
    "message_status",
    Set::Core,
    "What became of a message you sent: queued, stored (server), offered (peer's machine), in_context (its model), answered, expired, refused or blocked (muted).",
    &[need("id", Kind::Text, "")],
    message_status,
)];

/// The most bytes of recipients in one answer; the counts are of all.
const ROWS_BYTES_MAX: usize = ANSWER_BYTES_MAX - 4 * 1024;

fn message_status(session: &mut Session, _: Now, args: &Args) -> Result<Step, Failure> {
    let id: MsgId = args
        .parsed("id")?
        .ok_or_else(|| Failure::arguments("`id` is missing"))?;
    let homes = session.find_homes(args)?;
    let asked = homes
        .iter()
        .map(|(home, _)| Ok(session.fabric(*home)?.message_status(id)));
    let asked: Vec<_> = asked.collect::<Result<_, Failure>>()?;
    let first = Box::pin(async move {
        for search in asked {
            if let Some(status) = search.await? {
                return Ok(status);
            }
        }
        let text = "this machine sent no message of that id in the last 30 days";
        Err(Reject::new(Code::NotFound, text))
    });
    Ok(Step::later(first, |_, now, status: MessageStatus| {
        answer(now, &status)
    }))
}

fn answer(now: Now, status: &MessageStatus) -> Answer {
    let seconds = |at| now.wall.since(at) / 1000;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &status.rows {
        *counts.entry(row.step.as_str()).or_default() += 1;
    }
    let rows = status.rows.iter().map(|row| {
        json!({"peer": row.peer.to_string(), "step": row.step.as_str(), "age_s": seconds(row.at)})
    });
    let mut left = ROWS_BYTES_MAX;
    let fits = |row: &Value| {
        let bytes = row.to_string().len() + 1;
        let enough = bytes <= left;
        left = left.saturating_sub(bytes);
        enough
    };
    let rows: Vec<Value> = rows.take_while(fits).collect();
    let more = status.rows.len() - rows.len();
    let answer = Answer::ok()
        .with("id", status.id.to_string())
        .with("age_s", seconds(status.at))
        .with("counts", json!(counts))
        .with("recipients", rows);
    let answer = match more {
        0 => answer,
        n => answer.with("more", n),
    };
    match hint(status) {
        Some(hint) => answer.with("hint", hint),
        None => answer,
    }
}

/// Says what is not plain from the words.
fn hint(status: &MessageStatus) -> Option<&'static str> {
    let any = |step| status.rows.iter().any(|row| row.step == step);
    if status.rows.is_empty() {
        return Some(
            "nobody's receipt is followed for this one: send_message to the channel follows its recipients, up to 20",
        );
    }
    if any(Reached::Expired) {
        return Some("expired: nobody read it; send it again if it still matters");
    }
    if any(Reached::Blocked) {
        return Some("blocked: that session's human muted you or the channel");
    }
    any(Reached::Stored).then_some("stored: it waits on the server until the session comes back")
}
