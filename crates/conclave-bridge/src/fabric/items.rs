//! What a session needs of a server for shared items: state, claims, memory, search.

use super::Later;
use crate::state::Message;
use conclave_client::item::{Claim, Memory, Recall, StateItem, Written};
use conclave_proto::id::{ChannelId, MsgId};
use conclave_proto::time::UnixMs;

/// What is to be written under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: String,
    /// The value, as JSON text; none to delete.
    pub value: Option<String>,
    /// The version it must have; 0: there must be none.
    pub if_version: Option<u64>,
}

/// What is to be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bid {
    /// What: free text, `repo:…`, or `path:…` as seen from this process's directory.
    pub resource: String,
    /// For how long, in milliseconds.
    pub ttl_ms: u64,
    /// Why.
    pub note: Option<String>,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The best first.
    pub messages: Vec<Message>,
    /// Whether everything was searched.
    pub complete: bool,
    /// If not: what was said since then was.
    pub since: Option<UnixMs>,
}

/// See the module.
pub trait Items: Send {
    /// Writes or deletes a state item.
    fn set_state(&self, channel: ChannelId, put: Put) -> Later<Written>;
    /// Returns a state item.
    fn state(&self, channel: ChannelId, key: String) -> Later<Option<StateItem>>;
    /// Lists state items by the beginning of their keys.
    fn states(&self, channel: ChannelId, prefix: String) -> Later<Vec<StateItem>>;
    /// Takes a claim.
    fn claim(&self, channel: ChannelId, bid: Bid) -> Later<Claim>;
    /// Renews a claim.
    fn renew(&self, channel: ChannelId, bid: Bid) -> Later<Claim>;
    /// Gives a claim of this session back.
    fn release(&self, channel: ChannelId, resource: String) -> Later<()>;
    /// Lists the claims that hold.
    fn claims(&self, channel: ChannelId) -> Later<Vec<Claim>>;
    /// Keeps a memory.
    fn remember(&self, channel: ChannelId, text: String, tags: Vec<String>) -> Later<Written>;
    /// Finds memories.
    fn recall(&self, channel: ChannelId, what: Recall) -> Later<Vec<Memory>>;
    /// Returns a memory by its id.
    fn memory(&self, id: MsgId) -> Later<Option<Memory>>;
    /// Takes a memory back.
    fn forget(&self, channel: ChannelId, id: MsgId) -> Later<Written>;
    /// Finds messages, in one channel or everywhere.
    fn search(&self, channel: Option<ChannelId>, query: String, limit: u32) -> Later<Search>;
}
