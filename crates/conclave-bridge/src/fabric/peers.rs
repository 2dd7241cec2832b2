//! What a session needs of a server to know its peers: who is there, and what they say of themselves.

use super::Later;
use crate::labels::{Change, Labels};
use crate::trust::Sender;
use conclave_proto::id::ChannelId;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::profile::{Profile, Wake};
use conclave_proto::reject::Reject;
use conclave_proto::time::UnixMs;
use std::collections::BTreeSet;

/// A session in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its address.
    pub path: SessionPath,
    /// Whether it is connected now; else it was a moment ago.
    pub online: bool,
    /// When it came.
    pub since: UnixMs,
    /// Program and version, in its own words.
    pub agent: String,
    /// What is known of its user.
    pub sender: Sender,
    /// What it says of itself.
    pub profile: Option<Profile>,
    /// When it last proved that its model has something of this session.
    pub proven: Option<UnixMs>,
}

/// See the module.
pub trait Peers: Send {
    /// Lists the sessions of a channel, this one among them, asked fresh.
    fn roster(&self, channel: ChannelId) -> Later<Vec<PeerInfo>>;
    /// Returns the names of a channel's members, there or not.
    fn members(&self, channel: ChannelId) -> Later<BTreeSet<Name>>;
    /// Notes what the host calls its session now, for what the host starts.
    fn host_is(&self, session: &str);
    /// Changes what this session says of itself, keeps it, and has it said.
    fn change_labels(&self, change: Change) -> Result<Labels, Reject>;
    /// Has it said that the agent was woken for certain. That lasts as long as the session.
    fn woken(&self, wake: Wake);
}
