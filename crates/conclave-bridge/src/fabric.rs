//! What a session needs of one server, so that the rules of a session can be tested without one.
//!
//! [`crate::remote`] implements it over the client; nothing here decides anything.

mod delivery;
mod desk;
mod items;
mod peers;
mod senders;

use crate::desk::Given;
use crate::labels::Labels;
use crate::policy::{Lowered, Policy};
use crate::senders::Senders;
use crate::state::{Age, Message, Why};
use crate::tool::args::Object;
use conclave_client::item::StateItem;
use conclave_proto::body::Priority;
use conclave_proto::channel_log::{Mode, Role, Visibility};
use conclave_proto::desk::Request;
use conclave_proto::id::{ChannelId, InviteId, LogId, MsgId, ServerId};
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::profile::Group;
use conclave_proto::reject::Reject;
use conclave_proto::time::UnixMs;
pub use delivery::Delivery;
pub use desk::{Desk, Reach};
pub use items::{Bid, Items, Put, Search};
pub use peers::{PeerInfo, Peers};
pub use senders::Contacts;
use std::pin::Pin;

/// A result that takes its time. It holds no reference to what made it.
pub type Later<T> = Pin<Box<dyn Future<Output = Result<T, Reject>> + Send>>;

/// What a server tells without being asked.
#[derive(Clone, Debug)]
pub enum Event {
    /// A verified message of a peer.
    Message(Box<Message>, Age),
    /// Channels, roles, the connection or the policy changed: look again.
    Changed,
    /// Something a person or agent should know; our own words.
    Notice(&'static str, String),
    /// Another session wrote a state item, or took, renewed or released a claim.
    State(Box<StateItem>),
    /// Somebody gave a verdict on a call of this session.
    Verdict(Box<Given>),
    /// A session asks this one for a verdict: as an agent that may give it gets it, and as it came.
    Requested(Box<Message>, Box<Request>),
    /// A whisper of this session lapsed, and its recipient never had it.
    Bounced {
        /// The message.
        id: MsgId,
        /// Who did not get it.
        peer: SessionPath,
        /// When it was said.
        at: UnixMs,
    },
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// Its id.
    pub id: ChannelId,
    /// Its name, or part of its id where the name is not known.
    pub name: Name,
    /// Who can enter.
    pub visibility: Visibility,
    /// Who can read.
    pub mode: Mode,
    /// The user's role, if a member.
    pub role: Option<Role>,
    /// Whether what is said there is to stay there.
    pub confidential: bool,
    /// Whether this session follows it.
    pub followed: bool,
}

/// A session of a peer, as the server lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Its address.
    pub path: SessionPath,
    /// Whether it is connected now.
    pub online: bool,
}

/// A server as this session sees it.
#[derive(Clone, Debug)]
pub struct ServerView {
    /// Its id.
    pub id: ServerId,
    /// What to call it.
    pub name: String,
    /// Under which URL it was dialled.
    pub url: String,
    /// This session's address, once the server said it.
    pub path: Option<SessionPath>,
    /// Whether there is a connection now.
    pub online: bool,
    /// The signed policy, or the absent one.
    pub policy: Policy,
    /// What the agent lowered.
    pub lowered: Lowered,
    /// What the human decided of who writes.
    pub senders: Senders,
    /// What this session says of itself.
    pub labels: Labels,
    /// The channels the user is a member of.
    pub channels: Vec<ChannelView>,
}

/// Where something is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To everybody in a channel.
    Channel(ChannelId),
    /// To one session.
    Session(SessionPath),
}

/// One place where a draft is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where.
    pub target: Target,
    /// In a channel: for these groups alone; none: for everybody.
    pub to: Vec<Group>,
    /// In a channel: the sessions that it is meant for, as far as they are known.
    pub recipients: Vec<SessionPath>,
}

/// What is to be said: in every place the same words under one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Where; at least one.
    pub parts: Vec<Part>,
    /// The words.
    pub text: String,
    /// What it answers.
    pub reply_to: Option<MsgId>,
    /// The first message of the conversation.
    pub root: Option<MsgId>,
    /// Its causal depth.
    pub hop: u8,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether the sender waits for an answer.
    pub expects_reply: bool,
    /// Whether every recipient is asked to tell what became of it, however many they are.
    pub receipt: bool,
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message's id.
    pub id: MsgId,
    /// What became of each part, in the draft's order.
    pub parts: Vec<Result<SentState, Reject>>,
}

/// Where a draft is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentState {
    /// On the server's disk, in this place of the log.
    Stored(u64),
    /// In the outbox, until there is a connection.
    Queued,
    /// In the outbox, until the channel's key is on this machine.
    KeysPending,
}

/// An act of moderation, or a look at what moderation made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Close the channel.
    Delete,
    /// Give it another name.
    Rename(Name),
    /// Change who can enter.
    SetVisibility(Visibility),
    /// Add a user.
    Add(Name, Role),
    /// Remove a user.
    Remove(Name),
    /// End one session's subscription.
    KickSession(SessionPath),
    /// Remove a user and keep it out.
    Ban(Name, String),
    /// Take a ban back.
    Unban(Name),
    /// Make an invite: uses, life in milliseconds. The link stays out of the answer.
    Invite(u32, u64),
    /// Revoke an invite.
    RevokeInvite(InviteId),
    /// List members.
    Members,
    /// List bans.
    Bans,
    /// List open invites.
    Invites,
}

/// One server, as a session uses it.
pub trait Fabric: Peers + Items + Delivery + Desk + Contacts {
    /// Returns what is known now, without waiting.
    fn view(&self) -> ServerView;
    /// Lists public channels.
    fn directory(&self) -> Later<Vec<ChannelView>>;
    /// Joins a public or unlisted channel by name.
    fn join(&self, name: Name) -> Later<ChannelView>;
    /// Follows a channel the user is a member of.
    fn follow(&self, channel: ChannelId) -> Later<()>;
    /// Stops following.
    fn unfollow(&self, channel: ChannelId) -> Later<()>;
    /// Creates a channel: name, visibility, topic.
    fn create(
        &self,
        name: Name,
        visibility: Visibility,
        topic: Option<String>,
    ) -> Later<ChannelView>;
    /// Says something. Ends with a stored place, or queued, or a refusal, for each part.
    fn send(&self, draft: Draft) -> Later<Sent>;
    /// Lists sessions.
    fn who(&self, channel: Option<ChannelId>) -> Later<Vec<PeerView>>;
    /// Reads history: after a seq the oldest, else the newest `max`; ascending.
    fn history(&self, channel: ChannelId, after: Option<u64>, max: usize) -> Later<Vec<Message>>;
    /// Reads whispers with a session, both ways: the newest `max`; ascending.
    fn whispers(&self, peer: SessionPath, max: usize) -> Later<Vec<Message>>;
    /// Finds what was said under an id, one of each sender: what this session has a shown mark of, if any.
    fn messages(&self, id: MsgId) -> Later<Vec<Message>>;
    /// Returns the oldest messages without a shown mark.
    fn unshown(&self, max: usize) -> Later<Vec<Message>>;
    /// Remembers that a message is not unread any more.
    fn mark(&self, log: LogId, id: MsgId, why: Why);
    /// Keeps what the agent lowered.
    fn keep_lowered(&self, lowered: &Lowered) -> Result<(), Reject>;
    /// Moderates; the answer is facts in names and ids.
    fn act(&self, channel: ChannelId, act: Act) -> Later<Object>;
    /// Ends the connection and keeps what must be kept.
    fn close(&self) -> Later<()>;
}
