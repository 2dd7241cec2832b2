//! What a session needs of a server for shared items: state, claims, memory, search. Here it comes from the client.

use super::{Remote, Site, message};
use crate::fabric::{Bid, Fabric as _, Items, Later, Put, Search};
use conclave_client::claim::BadResource;
use conclave_client::client::claim::Whose;
use conclave_client::item::{Claim, ClaimError, Memory, Recall, StateItem, Written};
use conclave_client::repo;
use conclave_proto::id::{ChannelId, MsgId};
use std::time::Duration;

/// How long giving back all claims may take when the session ends; what is left lapses.
const RELEASING: Duration = Duration::from_millis(50);

impl Remote {
    /// Runs calls about claims on a clone of what is shared.
    fn claiming<T, F>(
        &self,
        resource: String,
        work: impl FnOnce(Site, String) -> F + Send + 'static,
    ) -> Later<T>
    where
        F: Future<Output = Result<T, ClaimError>> + Send,
    {
        let site = self.site.clone();
        Box::pin(async move {
            let named = tokio::task::spawn_blocking(move || named(&resource));
            let named = named.await.map_err(|_| BadResource::Form);
            let named = named.and_then(|named| named);
            let named = named.map_err(|error| ClaimError::from(error).to_reject())?;
            work(site, named).await.map_err(|error| error.to_reject())
        })
    }
}

impl Items for Remote {
    fn set_state(&self, channel: ChannelId, put: Put) -> Later<Written> {
        self.later(move |site| async move {
            let Put {
                key,
                value,
                if_version,
            } = put;
            let value = value.as_deref();
            site.client
                .set_state(channel, &key, value, if_version)
                .await
        })
    }

    fn state(&self, channel: ChannelId, key: String) -> Later<Option<StateItem>> {
        self.later(move |site| async move { site.client.state(channel, &key).await })
    }

    fn states(&self, channel: ChannelId, prefix: String) -> Later<Vec<StateItem>> {
        self.later(move |site| async move { site.client.states(channel, &prefix).await })
    }

    fn claim(&self, channel: ChannelId, bid: Bid) -> Later<Claim> {
        let (ttl_ms, note) = (bid.ttl_ms, bid.note);
        self.claiming(bid.resource, move |site, resource| async move {
            let note = note.as_deref();
            site.client.claim(channel, &resource, ttl_ms, note).await
        })
    }

    fn renew(&self, channel: ChannelId, bid: Bid) -> Later<Claim> {
        let (ttl_ms, note) = (bid.ttl_ms, bid.note);
        self.claiming(bid.resource, move |site, resource| async move {
            let note = note.as_deref();
            site.client.renew(channel, &resource, ttl_ms, note).await
        })
    }

    fn release(&self, channel: ChannelId, resource: String) -> Later<()> {
        self.claiming(resource, move |site, resource| async move {
            site.client.release(channel, &resource, Whose::Own).await
        })
    }

    fn claims(&self, channel: ChannelId) -> Later<Vec<Claim>> {
        self.later(move |site| async move { site.client.claims(channel).await })
    }

    fn remember(&self, channel: ChannelId, text: String, tags: Vec<String>) -> Later<Written> {
        self.later(move |site| async move { site.client.remember(channel, &text, &tags).await })
    }

    fn recall(&self, channel: ChannelId, what: Recall) -> Later<Vec<Memory>> {
        self.later(move |site| async move { site.client.recall(&[channel], &what).await })
    }

    fn memory(&self, id: MsgId) -> Later<Option<Memory>> {
        let channels = self.view().channels.into_iter();
        let joined: Vec<ChannelId> = channels.map(|channel| channel.id).collect();
        self.later(move |site| async move { site.client.memory(&joined, id).await })
    }

    fn forget(&self, channel: ChannelId, id: MsgId) -> Later<Written> {
        self.later(move |site| async move { site.client.forget(channel, id).await })
    }

    fn search(&self, channel: Option<ChannelId>, query: String, limit: u32) -> Later<Search> {
        self.later(move |site| async move {
            let found = site.client.search_history(channel, &query, limit).await?;
            let messages = found.messages.into_iter();
            Ok(Search {
                messages: messages.map(|m| message(site.home, m)).collect(),
                complete: found.complete,
                since: found.since,
            })
        })
    }
}

impl Site {
    /// Gives back what this session claimed, as far as there is time.
    pub(super) async fn release_claims(&self) {
        let released = tokio::time::timeout(RELEASING, self.client.release_all()).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!("claims were not given back; they lapse");
        }
    }
}

/// Returns a resource in its one form; a path is seen from this process's directory.
fn named(text: &str) -> Result<String, BadResource> {
    let dir = std::env::current_dir().map_err(|_| BadResource::Outside)?;
    repo::resource(&dir, text).map(|resource| resource.to_string())
}
