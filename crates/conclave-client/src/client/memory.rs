//! Memories: what members want to find again, kept past messages and searched on each machine.

use super::Client;
use super::send::Post;
use crate::error::ClientError;
use crate::item::{Memory, Recall, Written};
use crate::replica::search::{MemoryRow, words};
use conclave_proto::body::Body;
use conclave_proto::channel_log::Role;
use conclave_proto::entry::Route;
use conclave_proto::id::{ChannelId, LogId, MsgId};
use conclave_proto::limit::{TAG_BYTES_MAX, TAGS_MAX};
use conclave_proto::reject::{Code, Reject};

/// The most memories that one call returns.
pub const RECALL_MAX: u32 = 200;

impl Client {
    /// Keeps a memory in a channel.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remember(
        &self,
        channel: ChannelId,
        text: &str,
        tags: &[String],
    ) -> Result<Written, ClientError> {
        let fits = |tag: &String| {
            !tag.is_empty() && tag.len() <= TAG_BYTES_MAX && !tag.chars().any(char::is_control)
        };
        if tags.len() > TAGS_MAX || !tags.iter().all(fits) {
            let text = format!("at most {TAGS_MAX} tags of 1 to {TAG_BYTES_MAX} bytes");
            return Err(Reject::new(Code::TooLarge, text).into());
        }
        if text.trim().is_empty() {
            return Err(Reject::new(Code::Malformed, "there is nothing to remember").into());
        }
        let body = Body {
            text: Some(text.to_owned()),
            tags: tags.to_vec(),
            ..Body::default()
        };
        let id = MsgId::new(super::random()?);
        self.post_memory(channel, id, Route::Memory(id, 0), &body)
            .await
    }

    /// Finds memories of these channels: the best fits, or the newest if no words are given.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn recall(
        &self,
        channels: &[ChannelId],
        what: &Recall,
    ) -> Result<Vec<Memory>, ClientError> {
        for channel in channels {
            self.refresh_unfollowed(*channel).await?;
        }
        let words = words(&what.query);
        if words.is_empty() && !what.query.trim().is_empty() {
            return Ok(Vec::new());
        }
        let logs = channels.iter().copied().map(LogId::Channel).collect();
        let (tags, limit) = (what.tags.clone(), what.limit.clamp(1, RECALL_MAX));
        let found = self.replica().recall(logs, words, tags, limit).await?;
        self.memories(found).await
    }

    /// Returns a memory of one of these channels by its id, whole. Asks nobody.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn memory(
        &self,
        channels: &[ChannelId],
        id: MsgId,
    ) -> Result<Option<Memory>, ClientError> {
        for channel in channels {
            let log = LogId::Channel(*channel);
            if let Some(row) = self.replica().memory(log, id).await? {
                return Ok(self.memories(vec![row]).await?.pop());
            }
        }
        Ok(None)
    }

    /// Takes a memory back: one's own user's, or any as an admin of the channel.
    ///
    /// # Errors
    /// [`Code::Forbidden`], [`ClientError::NotFound`]; nothing was sent then.
    pub async fn forget(&self, channel: ChannelId, id: MsgId) -> Result<Written, ClientError> {
        let log = LogId::Channel(channel);
        self.refresh_items(channel).await?;
        let memory = self.replica().memory(log, id).await?;
        let Some(memory) = memory else {
            return Err(ClientError::NotFound {
                what: "memory",
                name: id.to_string(),
            });
        };
        let me = self.info.account.user_id;
        let role = self
            .with(move |core| core.book.tip(&channel).and_then(|tip| tip.role(&me)))
            .await?;
        if memory.user != me && role.is_none_or(|role| role < Role::Admin) {
            let text = "only its author's user or an admin of the channel takes a memory back";
            return Err(Reject::new(Code::Forbidden, text).into());
        }
        let own = MsgId::new(super::random()?);
        self.post_memory(channel, own, Route::Memory(id, 1), &Body::default())
            .await
    }

    async fn post_memory(
        &self,
        channel: ChannelId,
        id: MsgId,
        route: Route,
        body: &Body,
    ) -> Result<Written, ClientError> {
        let post = Post::new(id, LogId::Channel(channel), route, body)?;
        let sent = self.post(post).await?;
        Ok(Written {
            id,
            version: sent.stored.map(|(seq, _)| seq),
            at: sent.stored.map(|(_, at)| at),
        })
    }

    async fn memories(&self, found: Vec<MemoryRow>) -> Result<Vec<Memory>, ClientError> {
        self.with(move |core| {
            let memory = |row: MemoryRow| {
                let LogId::Channel(channel) = row.log else {
                    return None;
                };
                let sender = row.sender.parse().ok()?;
                Some(Memory {
                    id: row.item,
                    channel,
                    text: row.text,
                    tags: row.tags,
                    seq: row.seq,
                    at: row.at,
                    facts: core.facts(Some(&channel), &row.user, &sender),
                    sender,
                    user: row.user,
                })
            };
            found.into_iter().filter_map(memory).collect()
        })
        .await
    }
}
