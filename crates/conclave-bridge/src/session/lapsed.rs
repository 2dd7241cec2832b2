//! Whispers of this session that lapsed: told at once, and again by the next call that fetches messages,
//! for a notice proves nothing.

use super::Session;
use crate::tool::answer::Answer;
use conclave_proto::id::MsgId;
use conclave_proto::name::SessionPath;
use conclave_proto::time::{Now, UnixMs};
use serde_json::{Value, json};

/// The most that wait to be fetched; each was a notice, too.
const LAPSED_MAX: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lapsed(Vec<Value>);

impl Lapsed {
    /// Adds what waits to an answer.
    pub(crate) fn take_into(&mut self, answer: Answer) -> Answer {
        match self.0.is_empty() {
            true => answer,
            false => answer.with("expired", std::mem::take(&mut self.0)),
        }
    }
}

impl Session {
    /// Tells that a whisper lapsed.
    pub(super) fn bounced(&mut self, now: Now, id: MsgId, peer: &SessionPath, at: UnixMs) {
        let age_s = now.wall.since(at) / 1000;
        if self.lapsed.0.len() < LAPSED_MAX {
            let peer = peer.to_string();
            let fact = json!({"id": id.to_string(), "to": peer, "age_s": age_s});
            self.lapsed.0.push(fact);
        }
        let text = format!(
            "Your whisper {id} to {peer}, sent {} ago, expired: the session did not come for it in time, and the \
             server does not keep it any more. Nobody read it.",
            span(age_s)
        );
        if !self.state.notice(now, "bounced", &text) {
            tracing::warn!(%id, "too many notices of this kind");
        }
    }
}

/// Says how long something took, in one unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
