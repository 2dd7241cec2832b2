//! The fake server's part for shared items.

use super::Fake;
use conclave_bridge::fabric::*;
use conclave_client::item::{Claim, Memory, Recall, StateItem, Written};
use conclave_proto::id::{ChannelId, MsgId};
use conclave_proto::reject::{Code, Reject};

/// The fake server keeps nothing: what keeps things is tested with a real one.
fn none<T: Send + 'static>() -> Later<T> {
    Box::pin(async { Err(Reject::new(Code::UnknownOp, "the fake keeps nothing")) })
}

impl Items for Fake {
    fn set_state(&self, _: ChannelId, _: Put) -> Later<Written> {
        none()
    }
    fn state(&self, _: ChannelId, _: String) -> Later<Option<StateItem>> {
        none()
    }
    fn states(&self, _: ChannelId, _: String) -> Later<Vec<StateItem>> {
        none()
    }
    fn claim(&self, _: ChannelId, _: Bid) -> Later<Claim> {
        none()
    }
    fn renew(&self, _: ChannelId, _: Bid) -> Later<Claim> {
        none()
    }
    fn release(&self, _: ChannelId, _: String) -> Later<()> {
        none()
    }
    fn claims(&self, _: ChannelId) -> Later<Vec<Claim>> {
        none()
    }
    fn remember(&self, _: ChannelId, _: String, _: Vec<String>) -> Later<Written> {
        none()
    }
    fn recall(&self, _: ChannelId, _: Recall) -> Later<Vec<Memory>> {
        none()
    }
    fn memory(&self, _: MsgId) -> Later<Option<Memory>> {
        Box::pin(async { Ok(None) })
    }
    fn forget(&self, _: ChannelId, _: MsgId) -> Later<Written> {
        none()
    }
    fn search(&self, _: Option<ChannelId>, _: String, _: u32) -> Later<Search> {
        none()
    }
}
