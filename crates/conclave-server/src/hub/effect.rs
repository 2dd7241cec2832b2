//! What leaves the hub: frames for connections, ends of connections, and page loads.

use super::ConnId;
use crate::store::{CursorRow, Page, PageQuery, StoreError};
use bytes::Bytes;
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::reply::InviteInfo;
use conclave_proto::frame::{Ready, Response};
use conclave_proto::reject::Reject;

/// What a connection takes from its outbox, in order.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// The answer to [`super::Command::Enter`].
    Entered(Result<Box<Ready>, Box<Reject>>),
    /// The answer to one request; the connection encodes it.
    Response(Box<Response>),
    /// An encoded `event` frame, shared by everybody who gets it. Counts as written in
    /// [`super::Command::Wrote`] when the socket took it.
    Event(Bytes),
    /// The last item: say goodbye with the reason and close with the code.
    Close(Close, Box<Reject>),
}

/// What the driver has to do, after the commit.
#[derive(Debug)]
pub enum Effect {
    /// Put something into a connection's outbox.
    Send(ConnId, Outgoing),
    /// Load a page and hand it back as [`super::Command::Loaded`].
    Load(Load),
}

/// A page load under way.
#[derive(Clone, Debug)]
pub struct Load {
    /// For whom.
    pub conn: ConnId,
    /// Why, and what to do with it.
    pub purpose: Purpose,
    /// What to load.
    pub query: PageQuery,
}

/// What a page is loaded for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be pushed to a subscription, encoded so.
    Follow(Encoding),
    /// To answer this request.
    Answer(u64),
    /// To answer this request about an invite, with the control records in it.
    Invite(u64, Box<InviteInfo>),
    /// To answer this request for cursors, with those that are newer than what the store knows.
    Cursors(u64, Vec<CursorRow>),
}

/// A finished page load.
#[derive(Debug)]
pub struct Loaded {
    /// What was asked.
    pub load: Load,
    /// What came.
    pub page: Result<Page, StoreError>,
    /// The encoded `entries` event, where the purpose is to follow and there is something to send.
    pub frame: Option<Bytes>,
}
