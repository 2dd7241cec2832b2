//! What a session needs of a server to have its tool calls decided by others, and to decide theirs.

use super::Later;
use conclave_proto::desk::{Request, Verdict};
use conclave_proto::id::UserId;
use conclave_proto::key::OwnerKey;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::collections::BTreeSet;

/// Who can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The server's time.
    pub now: UnixMs,
    /// This session, as the server knows it.
    pub me: SessionPath,
    /// The desks of the approvers' machines.
    pub desks: Vec<SessionPath>,
}

/// See the module. A server without a desk asks nobody.
pub trait Desk: Send {
    /// Finds the desks of users, if there is a connection.
    fn desks(&self, users: BTreeSet<UserId>) -> Later<Reach> {
        drop(users);
        none()
    }
    /// Asks for a verdict; returns how many are asked.
    fn ask_desks(&self, request: Request, to: Vec<SessionPath>) -> Later<usize> {
        drop((request, to));
        none()
    }
    /// Gives a verdict, as this session.
    fn give_verdict(&self, to: SessionPath, verdict: Verdict) -> Later<()> {
        drop((to, verdict));
        none()
    }
    /// Returns the owner keys of this account that count now.
    fn own_keys(&self) -> Later<Vec<OwnerKey>> {
        none()
    }
}

fn none<T: Send + 'static>() -> Later<T> {
    Box::pin(async { Err(Reject::new(Code::Offline, "this server has no desk")) })
}
