//! The control chain of one channel and what follows from it: members, roles, invites, settings.
//!
//! Server and clients run the same rules (SECURITY 2.3, DECISIONS 14, 17), so that neither relies
//! on the other. A [`ChannelLog`] exists only verified; a refused record changes nothing. Messages
//! are not kept here: [`ChannelLog::check_env`] only tells whether one belongs into the channel.

mod actor;
pub mod body;
mod commit;
mod create;
mod error;
mod rule;
mod state;
mod view;
mod word;

pub use body::{Author, Content, Ctl, CtlBody, ParsedCtl, SignerKey, Ticket, VerifiedCtl};
pub use error::{CtlError, EnvError};
pub use state::{Admission, CtlChange, Epoch, Invite, Member};
pub use word::{History, Limits, Mode, RemoveKind, Role, Visibility};

use crate::body::Head;
use crate::bytes::Builder;
use crate::entry::{Header, Kind, Suite};
use crate::id::{Blob, ChannelId, Hash, InviteId, UserId};
use crate::identity_log::{Cap, IdentityLog, Machine};
use crate::key::MachineKey;
use crate::name::Name;
use crate::time::UnixMs;
use std::collections::{BTreeMap, BTreeSet};

/// The most members of a channel.
pub const MEMBERS_MAX: u32 = 1000;
/// The most live invites of a channel.
pub const INVITES_MAX: usize = 256;

/// Where verified identity logs come from.
pub trait Identities {
    /// Returns what is known of a user.
    fn identity(&self, user: &UserId) -> Option<&IdentityLog>;
}

impl Identities for BTreeMap<UserId, IdentityLog> {
    fn identity(&self, user: &UserId) -> Option<&IdentityLog> {
        self.get(user)
    }
}

impl Identities for std::collections::HashMap<UserId, IdentityLog> {
    fn identity(&self, user: &UserId) -> Option<&IdentityLog> {
        self.get(user)
    }
}

/// A channel as its control records make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelLog {
    id: ChannelId,
    genesis: Hash,
    head: Head,
    seq: u64,
    mode: Mode,
    visibility: Visibility,
    history: History,
    name: Option<Name>,
    /// A new name, sealed under the key of this epoch; until an admin's epoch says all of it again.
    name_box: Option<(u32, Blob)>,
    topic: Option<String>,
    limits: Limits,
    creator: UserId,
    creator_lineage: Option<MachineKey>,
    members: BTreeMap<UserId, Member>,
    /// Identity record numbers of those who left: coming back with an older one is refused.
    left: BTreeMap<UserId, u64>,
    banned: BTreeSet<UserId>,
    invites: BTreeMap<InviteId, Invite>,
    epochs: Vec<Epoch>,
    /// The membership changed so that a new epoch must come before the next message.
    stale: bool,
    frozen: bool,
    confidential: bool,
    closed: bool,
}

impl ChannelLog {
    /// Starts a channel with its first record, at its place and the server's time.
    ///
    /// # Errors
    /// [`CtlError`].
    pub fn create(
        seq: u64,
        at: UnixMs,
        rec: &Blob,
        ids: &impl Identities,
    ) -> Result<Self, CtlError> {
        Self::start(seq, at, &ParsedCtl::parse(rec)?.verify()?, ids)
    }

    /// Applies the next record; on an error nothing changes.
    ///
    /// # Errors
    /// [`CtlError`].
    pub fn apply(
        &mut self,
        seq: u64,
        at: UnixMs,
        rec: &Blob,
        ids: &impl Identities,
    ) -> Result<CtlChange, CtlError> {
        self.extend(seq, at, &ParsedCtl::parse(rec)?.verify()?, ids)
    }

    /// Applies the next record, whose signatures were checked; on an error nothing changes.
    ///
    /// # Errors
    /// [`CtlError`].
    pub fn extend(
        &mut self,
        seq: u64,
        at: UnixMs,
        rec: &VerifiedCtl,
        ids: &impl Identities,
    ) -> Result<CtlChange, CtlError> {
        let place = rule::Place { seq, at };
        let plan = self.plan(place, rec, ids)?;
        Ok(self.commit(place, rec, plan))
    }

    /// Returns whether an entry with this header may stand at the log's end (rule 5): by a member
    /// who may send, with the key of the user and machine its path names. A profile is no entry.
    ///
    /// # Errors
    /// [`EnvError`].
    pub fn check_env(&self, header: &Header, ids: &impl Identities) -> Result<(), EnvError> {
        self.fits(header)?;
        if header.route.kind() == Kind::Profile {
            return Err(EnvError::Channel);
        }
        if self.frozen {
            return Err(EnvError::Frozen);
        }
        let (user, member) = self.speaker(header)?;
        if member.role < Role::Member {
            return Err(EnvError::Reader);
        }
        let machine = signer(user, member, header, ids)?;
        match machine.caps.contains(&Cap::Send) {
            true => Ok(()),
            false => Err(EnvError::NoSend),
        }
    }

    /// Returns whether this is the header of a profile that belongs here now: by any member, readers
    /// too, with the key of the user and machine its path names. A frozen channel has profiles.
    ///
    /// # Errors
    /// [`EnvError`].
    pub fn check_profile(&self, header: &Header, ids: &impl Identities) -> Result<(), EnvError> {
        self.fits(header)?;
        if header.route.kind() != Kind::Profile {
            return Err(EnvError::Channel);
        }
        let (user, member) = self.speaker(header)?;
        signer(user, member, header, ids).map(drop)
    }

    /// Checks that a header is for this channel, of its mode and its newest epoch.
    fn fits(&self, header: &Header) -> Result<(), EnvError> {
        if header.channel != self.id || header.route.recipient().is_some() {
            return Err(EnvError::Channel);
        }
        match (self.mode, header.suite, self.epoch()) {
            (Mode::Signed, Suite::Clear, _) => {}
            (Mode::E2e, Suite::One, Some(epoch)) if epoch.e == header.epoch && !self.stale => {}
            (Mode::E2e, Suite::One, _) => return Err(EnvError::StaleEpoch),
            _ => return Err(EnvError::Mode),
        }
        match self.closed {
            true => Err(EnvError::Closed),
            false => Ok(()),
        }
    }

    fn speaker(&self, header: &Header) -> Result<(&UserId, &Member), EnvError> {
        let member = self.member_named(&header.sender.user);
        member.ok_or(EnvError::NotMember)
    }

    /// Returns the hash of the membership (DECISIONS 12); `None` if an identity log is missing.
    #[must_use]
    pub fn members_root(&self, ids: &impl Identities) -> Option<Hash> {
        let mut root = Builder::default();
        for (user, member) in &self.members {
            let identity = ids.identity(user)?;
            let machines = identity.machines_at(member.ident.n).map(|m| m.key);
            let machines: BTreeSet<MachineKey> = machines.collect();
            let mut part = Builder::default()
                .raw(user.as_bytes())
                .u32(u32::try_from(member.ident.n).ok()?)
                .raw(member.ident.hash.as_bytes())
                .u32(u32::try_from(machines.len()).ok()?);
            for key in &machines {
                part = part.raw(key.as_bytes());
            }
            root = root.lp(&part.into_vec());
        }
        Some(root.sha256())
    }
}

/// Returns the machine that signs, if the channel goes by it.
fn signer<'a>(
    user: &UserId,
    member: &Member,
    header: &Header,
    ids: &'a impl Identities,
) -> Result<&'a Machine, EnvError> {
    let n = member.ident.n;
    let need = EnvError::NeedIdentity { user: *user, n };
    let identity = ids.identity(user).filter(|log| log.head().n >= n);
    let machine = identity
        .ok_or(need)?
        .machine_at(n, &header.sender_key)
        .filter(|machine| machine.name == header.sender.machine);
    machine.ok_or(EnvError::Key)
}
