//! Saying the same words in one or several places, under one id.

use super::Site;
use crate::fabric::{Draft, Part, Sent, SentState, Target};
use conclave_client::address::mentions;
use conclave_client::client;
use conclave_client::error::ClientError;
use conclave_proto::body::{Body, Priority};
use conclave_proto::id::MsgId;
use conclave_proto::reject::{Code, Reject};
use tokio::task::JoinSet;

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
        while let Some(done) = saying.join_next().await {
            if let Ok((at, end)) = done
                && let Some(part) = parts.get_mut(at)
            {
                *part = end.map_err(|error| error.to_reject());
            }
        }
        Ok(Sent { id, parts })
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
