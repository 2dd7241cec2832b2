//! Saying the same words in one or several places, under one id.

use super::Site;
use crate::fabric::{Draft, Part, Sent, SentState, Target};
use conclave_client::address::mentions;
use conclave_client::client;
use conclave_client::error::ClientError;
use conclave_client::replica::delivery::MessageStatus;
use conclave_proto::body::{Body, Priority};
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::reject::{Code, Reject};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long saying something may take before it is told as it is; a call ends soon after.
const SAYING: Duration = Duration::from_secs(15);

/// How long finding out what is on its way may take.
const LOOKING: Duration = Duration::from_secs(3);

impl Site {
    /// Says something everywhere at once; each place has its own end.
    pub(super) async fn say(self, draft: Draft) -> Result<Sent, ClientError> {
        let mut drawn = [0; 16];
        getrandom::fill(&mut drawn)
            .map_err(|_| Reject::new(Code::Internal, "the system has no randomness"))?;
        let id = MsgId::new(drawn);
        let mut saying = JoinSet::new();
        for (at, part) in draft.parts.iter().enumerate() {
            let (site, part, body) = (self.clone(), part.clone(), body(&draft, part));
            let hop = draft.hop;
            saying.spawn(async move { (at, site.say_part(id, part, &body, hop).await) });
        }
        let ended = || Err(Reject::new(Code::Internal, "a part was cut off"));
        let mut parts: Vec<Result<SentState, Reject>> =
            draft.parts.iter().map(|_| ended()).collect();
        let in_time = async {
            while let Some(done) = saying.join_next().await {
                if let Ok((at, end)) = done
                    && let Some(part) = parts.get_mut(at)
                {
                    *part = end.map_err(|error| error.to_reject());
                }
            }
        };
        if tokio::time::timeout(SAYING, in_time).await.is_err() {
            saying.shutdown().await;
            self.settle(id, &draft.parts, &mut parts).await;
        }
        Ok(Sent { id, parts })
    }

    /// Finds out what is on its way of the parts that were cut off.
    async fn settle(&self, id: MsgId, parts: &[Part], ends: &mut [Result<SentState, Reject>]) {
        let looking = tokio::time::timeout(LOOKING, self.client.message_status(id)).await;
        let status = looking.ok().and_then(Result::ok).flatten();
        let is_cut = |end: &Result<_, Reject>| matches!(end, Err(r) if r.code == Code::Internal);
        for (part, end) in parts.iter().zip(ends).filter(|(_, end)| is_cut(end)) {
            let text = "there was no answer in time, and nothing of it is in the outbox";
            let known = status.as_ref().and_then(|status| drafted(part, status));
            *end = known.ok_or_else(|| Reject::new(Code::Timeout, text));
        }
    }

    async fn say_part(
        &self,
        id: MsgId,
        part: Part,
        body: &Body,
        hop: u8,
    ) -> Result<SentState, ClientError> {
        let (target, channel) = match part.target {
            Target::Channel(id) => (client::Target::Channel(id), Some(id)),
            Target::Session(path) => (client::Target::Session(path), None),
        };
        let sent = self
            .client
            .send_as(id, target, &part.recipients, body, hop, false);
        Ok(match (sent.await?.stored, channel) {
            (Some((seq, _)), _) => SentState::Stored(seq),
            (None, Some(id)) if self.client.lacks_key(id).await? => SentState::KeysPending,
            (None, _) => SentState::Queued,
        })
    }
}

/// Returns how far a part is that was drafted.
fn drafted(part: &Part, status: &MessageStatus) -> Option<SentState> {
    match &part.target {
        Target::Channel(id) => {
            let mut logs = status.parts.iter();
            let found = logs.find(|part| part.log == LogId::Channel(*id))?;
            Some(found.seq.map_or(SentState::Queued, SentState::Stored))
        }
        // Which mailbox is whose is not known here; that it will go out is.
        Target::Session(path) => {
            let mut rows = status.rows.iter();
            let found = rows.any(|row| row.peer == *path);
            found.then_some(SentState::Queued)
        }
    }
}

/// Returns what is sealed for one place.
fn body(draft: &Draft, part: &Part) -> Body {
    let mentions = match part.target {
        Target::Channel(_) => mentions(&draft.text),
        Target::Session(_) => Vec::new(),
    };
    Body {
        reply_to: draft.reply_to,
        root: draft.root,
        to: part.to.clone(),
        // What nothing is said of is `next`.
        priority: Some(draft.priority).filter(|word| *word != Priority::Next),
        expects_reply: draft.expects_reply,
        receipt: draft.receipt,
        mentions,
        ..Body::text(draft.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_client::replica::delivery::{Delivery, Part as Stands, Step};
    use conclave_proto::id::ChannelId;
    use conclave_proto::time::UnixMs;

    fn part(target: Target) -> Part {
        Part {
            target,
            to: Vec::new(),
            recipients: Vec::new(),
        }
    }

    #[test]
    fn what_is_drafted_is_said_and_what_is_not_is_not() {
        let [stored, waiting, lost] = [1, 2, 3].map(|n| ChannelId::new([n; 16]));
        let stands = |id, seq| Stands {
            log: LogId::Channel(id),
            seq,
        };
        let status = MessageStatus {
            id: MsgId::new([9; 16]),
            at: UnixMs(1),
            parts: vec![stands(stored, Some(7)), stands(waiting, None)],
            rows: vec![Delivery {
                peer: "bob/box/web".parse().unwrap(),
                step: Step::Queued,
                at: UnixMs(1),
            }],
        };
        let table = [
            (Target::Channel(stored), Some(SentState::Stored(7))),
            (Target::Channel(waiting), Some(SentState::Queued)),
            (Target::Channel(lost), None),
            (
                Target::Session("bob/box/web".parse().unwrap()),
                Some(SentState::Queued),
            ),
            (Target::Session("eve/box/web".parse().unwrap()), None),
        ];
        for (target, state) in table {
            assert_eq!(drafted(&part(target.clone()), &status), state, "{target:?}");
        }
    }
}
