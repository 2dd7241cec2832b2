//! Who is there: handles, the lease across reconnects, and what others are told of it.

use super::ConnId;
use conclave_proto::entry::Envelope;
use conclave_proto::frame::reply::SessionInfo;
use conclave_proto::id::{ChannelId, Instance, UserId};
use conclave_proto::key::MachineKey;
use conclave_proto::limit::LEASE_MS;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, UnixMs};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The highest number behind a defaulted handle.
const NUMBERED_MAX: u32 = 999;

/// All sessions that are there, or were a moment ago. One-shots are not among them.
#[derive(Debug, Default)]
pub(super) struct Roster(BTreeMap<SessionPath, Present>);

/// One session.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) user: UserId,
    pub(super) key: MachineKey,
    pub(super) instance: Instance,
    pub(super) state: State,
    pub(super) since: UnixMs,
    pub(super) agent: String,
    /// The channels others see it in.
    pub(super) follows: BTreeSet<ChannelId>,
    /// What it says of itself, by channel.
    pub(super) says: BTreeMap<ChannelId, Envelope>,
}

/// Whether a connection exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Online(ConnId),
    /// Gone since then.
    Leased(Mono),
}

/// What a session wants to be called.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) user: &'a Name,
    pub(super) machine: &'a Name,
    pub(super) handle: &'a Name,
    pub(super) pinned: bool,
    pub(super) key: MachineKey,
    pub(super) instance: Instance,
}

impl Roster {
    /// Settles the path of a session that comes in (DECISIONS 10).
    pub(super) fn settle(&self, wish: &Wish<'_>) -> Result<SessionPath, Reject> {
        let path = |handle: Name| SessionPath {
            user: wish.user.clone(),
            machine: wish.machine.clone(),
            handle,
        };
        let claim = Name::claim(wish.handle.as_str());
        if wish.pinned {
            let handle = claim.map_err(|e| Reject::new(Code::NameInvalid, e.to_string()))?;
            let path = path(handle);
            return match self.0.get(&path) {
                Some(there) if !there.is(wish) => Err(Reject::new(
                    Code::HandleTaken,
                    format!("{path} is another live session"),
                )),
                _ => Ok(path),
            };
        }
        let base = claim.unwrap_or_else(|_| Name::slug(wish.handle.as_str()));
        let names = || {
            let numbered = (2..=NUMBERED_MAX).map(|n| base.numbered(n));
            std::iter::once(base.clone()).chain(numbered).map(path)
        };
        let mine = self.0.iter().find(|(p, there)| {
            there.is(wish) && p.machine == *wish.machine && is_numbered(&p.handle, &base)
        });
        if let Some((path, _)) = mine {
            return Ok(path.clone());
        }
        names()
            .find(|path| !self.0.contains_key(path))
            .ok_or_else(|| Reject::new(Code::LimitReached, "too many sessions of that name"))
    }

    pub(super) fn get(&self, path: &SessionPath) -> Option<&Present> {
        self.0.get(path)
    }

    pub(super) fn get_mut(&mut self, path: &SessionPath) -> Option<&mut Present> {
        self.0.get_mut(path)
    }

    pub(super) fn insert(&mut self, path: SessionPath, there: Present) {
        self.0.insert(path, there);
    }

    pub(super) fn remove(&mut self, path: &SessionPath) -> Option<Present> {
        self.0.remove(path)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SessionPath, &Present)> {
        self.0.iter()
    }

    /// Returns the sessions after a path, in the order of paths.
    pub(super) fn after(
        &self,
        path: Option<&SessionPath>,
    ) -> impl Iterator<Item = (&SessionPath, &Present)> {
        let from = path.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<SessionPath, _>((from, Bound::Unbounded))
    }

    /// Forgets what sessions said in channels where `is` tells so.
    pub(super) fn unsay(&mut self, is: impl Fn(&Present, &ChannelId) -> bool) {
        for there in self.0.values_mut() {
            let mut said = std::mem::take(&mut there.says);
            said.retain(|channel, _| !is(there, channel));
            there.says = said;
        }
    }

    /// Returns how many sessions a machine has.
    pub(super) fn of_machine(&self, key: &MachineKey) -> usize {
        self.0.values().filter(|there| there.key == *key).count()
    }

    /// Starts the lease of a session whose connection went.
    pub(super) fn left(&mut self, path: &SessionPath, conn: ConnId, now: Mono) {
        if let Some(there) = self.0.get_mut(path)
            && there.state == State::Online(conn)
        {
            there.state = State::Leased(now);
        }
    }

    /// Returns the sessions whose lease is over.
    pub(super) fn lapsed(&self, now: Mono) -> Vec<SessionPath> {
        let over = |state| matches!(state, State::Leased(at) if now.since(at) >= LEASE_MS);
        let lapsed = self.0.iter().filter(|(_, there)| over(there.state));
        lapsed.map(|(path, _)| path.clone()).collect()
    }
}

/// Returns whether `handle` is `base`, or `base` with a number behind it.
fn is_numbered(handle: &Name, base: &Name) -> bool {
    let number = handle.as_str().rsplit_once('-').map(|(_, n)| n.parse());
    handle == base || matches!(number, Some(Ok(n)) if n >= 2 && base.numbered(n) == *handle)
}

impl Present {
    fn is(&self, wish: &Wish<'_>) -> bool {
        self.key == wish.key && self.instance == wish.instance
    }

    /// Returns whether its connection is gone and it may still come back.
    pub(super) const fn is_leased(&self) -> bool {
        matches!(self.state, State::Leased(_))
    }

    pub(super) fn info(&self, path: &SessionPath) -> SessionInfo {
        SessionInfo {
            path: path.clone(),
            user_id: self.user,
            online: matches!(self.state, State::Online(_)),
            since: self.since,
            agent: self.agent.clone(),
        }
    }
}
