//! Getting what members keep in a channel: only what is current, page by page.

use super::Client;
use super::read::{PAGE, PAGES_MAX, is_sound};
use crate::error::ClientError;
use conclave_proto::frame::op::Read;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{ChannelId, LogId, SlotId};
use conclave_proto::reject::Code;

impl Client {
    /// Gets the state items and memories of a channel that are not here, up to its newest entry.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sync_items(&self, channel: ChannelId) -> Result<(), ClientError> {
        self.sync_items_to(channel, u64::MAX).await
    }

    /// The same, at least up to a place.
    pub(crate) async fn sync_items_to(
        &self,
        channel: ChannelId,
        upto: u64,
    ) -> Result<(), ClientError> {
        let log = LogId::Channel(channel);
        let mut after = self.replica().items_held(log).await?.unwrap_or(0);
        // Where something lies that may still be read one day: it is asked for again each time.
        let mut open: Option<u64> = None;
        for _ in 0..PAGES_MAX {
            if after >= upto {
                break;
            }
            let limit = PAGE;
            let reply = self.request(Op::Items(Read { log, after, limit })).await?;
            let mut page = match reply {
                Reply::Page(page) if is_sound(&page) => page,
                _ => return Err(ClientError::Answer),
            };
            let mut reached = after;
            page.entries.retain(|entry| {
                let on = entry.seq > reached;
                reached = reached.max(entry.seq);
                on
            });
            if !page.entries.is_empty() {
                // Who wrote them may have come since the control records were read.
                self.tip(channel).await?;
                let judged = self.verify_items(channel, page.entries).await?;
                open = open.or(judged.open);
            }
            // Nothing is marked beyond what the server says there is.
            let next = page.next.min(page.head).max(reached);
            if next > after {
                let held = open.map_or(next, |open| next.min(open.saturating_sub(1)));
                self.replica().mark_items(log, held).await?;
            }
            if page.next >= page.head || next <= after {
                break;
            }
            after = next;
        }
        Ok(())
    }

    /// The same before something is read, if the server can be reached; else what is here must do.
    pub(crate) async fn refresh_items(&self, channel: ChannelId) -> Result<(), ClientError> {
        if self.live().is_none() {
            return Ok(());
        }
        match self.sync_items(channel).await {
            Err(error) if is_away(&error) => Ok(()),
            other => other,
        }
    }

    /// The same, unless the channel is followed: then its feed brings what is new.
    pub(crate) async fn refresh_unfollowed(&self, channel: ChannelId) -> Result<(), ClientError> {
        let log = LogId::Channel(channel);
        let stored = self.with(move |core| core.stored(&log)).await?;
        let held = self.replica().items_held(log).await?;
        match (stored, held) {
            (Some(stored), Some(held)) if held >= stored => Ok(()),
            _ => self.refresh_items(channel).await,
        }
    }

    /// Returns the slot of a key in a channel, getting what hides it if need be.
    pub(crate) async fn slot_of(
        &self,
        channel: ChannelId,
        key: &str,
    ) -> Result<SlotId, ClientError> {
        for look in 0..3 {
            let own = key.to_owned();
            let (known, slot) = self
                .with(move |core| {
                    let tip = core.book.tip(&channel);
                    let slot = tip.and_then(|tip| core.book.slot(tip, &own));
                    (tip.is_some(), slot)
                })
                .await?;
            match slot {
                Some(slot) => return Ok(slot),
                None if look == 2 => break,
                None if known => self.fetch_keys(channel).await?,
                None => drop(self.tip(channel).await?),
            }
        }
        Err(super::keys::pending())
    }
}

/// Returns whether an error says only that the server cannot be reached now.
pub(crate) fn is_away(error: &ClientError) -> bool {
    matches!(error.code(), Code::Offline | Code::Timeout | Code::Draining)
}
