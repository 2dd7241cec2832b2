//! State: small facts of a channel under keys, each with a version to compare and set by.

use super::Client;
use super::send::Post;
use crate::claim::rule::CLAIM_PREFIX;
use crate::error::ClientError;
use crate::item::{StateItem, Written};
use crate::replica::items::SlotEntry;
use conclave_proto::body::Body;
use conclave_proto::entry::Route;
use conclave_proto::id::{ChannelId, LogId, MsgId, SlotId};
use conclave_proto::limit::{BODY_BYTES_MAX, STATE_KEY_BYTES_MAX};
use conclave_proto::reject::{Code, Reject};
use serde::de::IgnoredAny;

/// How long a write may take that is worth nothing later, in milliseconds.
pub(crate) const BRIEF_MS: u64 = 10_000;
/// How often a write that finds another version is tried again with what is known then.
const TRIES_MAX: u32 = 4;

/// A write to a slot.
pub(crate) struct Put {
    pub(crate) channel: ChannelId,
    pub(crate) key: String,
    pub(crate) value: Option<String>,
    /// The version it must have; none: any.
    pub(crate) expected: Option<u64>,
}

impl Client {
    /// Writes a state item; `None` deletes it. With `if_version` only if it has that version now, 0
    /// meaning that there is none. Without, it may wait for a connection.
    ///
    /// # Errors
    /// [`Code::VersionMismatch`] with the current version; other [`ClientError`]s.
    pub async fn set_state(
        &self,
        channel: ChannelId,
        key: &str,
        value: Option<&str>,
        if_version: Option<u64>,
    ) -> Result<Written, ClientError> {
        check_key(key)?;
        check_value(value)?;
        let mut put = Put {
            channel,
            key: key.to_owned(),
            value: value.map(str::to_owned),
            expected: if_version,
        };
        if if_version != Some(0) {
            return self.put(&put).await.map_err(current(0));
        }
        // What was deleted has a version for the server, and none for whoever asks.
        let (log, slot) = (LogId::Channel(channel), self.slot_of(channel, key).await?);
        for _ in 0..TRIES_MAX {
            let known = self.replica().slot(log, slot).await?;
            put.expected = Some(version_to_create(known.as_ref()));
            match self.put(&put).await {
                Err(error) if error.code() == Code::VersionMismatch => {
                    self.sync_items(channel).await?;
                    let now = self.replica().slot(log, slot).await?;
                    let deleted = now.as_ref().is_some_and(|item| item.value.is_none());
                    let moved = now.as_ref().map(|item| item.seq) != known.map(|item| item.seq);
                    if !(deleted && moved) {
                        let version = now.filter(|item| item.value.is_some());
                        return Err(current(version.map_or(0, |item| item.seq))(error));
                    }
                }
                other => return other,
            }
        }
        Err(Reject::new(Code::VersionMismatch, "it changes all the time").into())
    }

    /// Returns a state item; `None` if there is none now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn state(
        &self,
        channel: ChannelId,
        key: &str,
    ) -> Result<Option<StateItem>, ClientError> {
        check_key(key)?;
        let slot = self.slot_of(channel, key).await?;
        self.refresh_items(channel).await?;
        let found = self
            .replica()
            .slot(LogId::Channel(channel), slot)
            .await?
            .filter(|item| item.value.is_some());
        let found = self.state_items(channel, found.into_iter().collect());
        Ok(found.await?.pop())
    }

    /// Returns the state items of a channel whose keys begin with `prefix`, by key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn states(
        &self,
        channel: ChannelId,
        prefix: &str,
    ) -> Result<Vec<StateItem>, ClientError> {
        self.refresh_items(channel).await?;
        let log = LogId::Channel(channel);
        let found = self.replica().states(log, prefix.to_owned()).await?;
        self.state_items(channel, found).await
    }

    /// Writes a slot as it is told.
    pub(crate) async fn put(&self, put: &Put) -> Result<Written, ClientError> {
        let slot: SlotId = self.slot_of(put.channel, &put.key).await?;
        let route = Route::State(slot, put.expected.unwrap_or(u64::MAX));
        let body = Body {
            key: Some(put.key.clone()),
            data: put.value.clone(),
            ..Body::default()
        };
        let id = MsgId::new(super::random()?);
        let mut post = Post::new(id, LogId::Channel(put.channel), route, &body)?;
        if put.expected.is_some() {
            post.keep_ms = BRIEF_MS;
        }
        let sent = self.post(post).await?;
        Ok(Written {
            id,
            version: sent.stored.map(|(seq, _)| seq),
            at: sent.stored.map(|(_, at)| at),
        })
    }

    async fn state_items(
        &self,
        channel: ChannelId,
        found: Vec<SlotEntry>,
    ) -> Result<Vec<StateItem>, ClientError> {
        self.with(move |core| {
            let item = |entry: SlotEntry| {
                let sender = entry.sender.parse().ok()?;
                Some(StateItem {
                    channel,
                    key: entry.key,
                    value: entry.value,
                    version: entry.seq,
                    at: entry.at,
                    facts: core.facts(Some(&channel), &entry.user, &sender),
                    sender,
                    user: entry.user,
                })
            };
            found.into_iter().filter_map(item).collect()
        })
        .await
    }
}

/// Returns the version that a slot must have to be written anew; what exists has none that fits.
fn version_to_create(known: Option<&SlotEntry>) -> u64 {
    known
        .filter(|item| item.value.is_none())
        .map_or(0, |item| item.seq)
}

/// Puts into a refusal for the version what the current one is, unless the server has said it.
fn current(version: u64) -> impl FnOnce(ClientError) -> ClientError {
    move |error| match error {
        ClientError::Reject(reject) if reject.code == Code::VersionMismatch => {
            let now = reject.expected.unwrap_or(version);
            let text = match now {
                0 => "it does not exist".to_owned(),
                now => format!("it has version {now}"),
            };
            Reject::new(Code::VersionMismatch, text)
                .expected(now)
                .into()
        }
        other => other,
    }
}

fn check_key(key: &str) -> Result<(), ClientError> {
    let text = match key {
        "" => "a key has at least one character",
        key if key.len() > STATE_KEY_BYTES_MAX => "a key has at most 256 bytes",
        key if key.chars().any(char::is_control) => "a key has no control characters",
        key if key.starts_with(CLAIM_PREFIX) => "keys that begin with claim: are claims",
        _ => return Ok(()),
    };
    Err(Reject::new(Code::NameInvalid, text).into())
}

fn check_value(value: Option<&str>) -> Result<(), ClientError> {
    let Some(value) = value else { return Ok(()) };
    if value.len() > BODY_BYTES_MAX {
        let text = format!("a value has at most {BODY_BYTES_MAX} bytes");
        return Err(Reject::new(Code::TooLarge, text).into());
    }
    if serde_json::from_str::<IgnoredAny>(value).is_err() {
        return Err(Reject::new(Code::Malformed, "the value is not JSON").into());
    }
    Ok(())
}
