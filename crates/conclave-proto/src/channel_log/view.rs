//! Looking at a channel: everything that only reads one of its parts.

use super::{
    ChannelLog, Epoch, History, Identities, Invite, Limits, Member, Mode, Role, Visibility,
};
use crate::body::Head;
use crate::id::{Blob, ChannelId, Hash, InviteId, UserId};
use crate::key::HolderKey;
use crate::name::Name;
use std::collections::{BTreeMap, BTreeSet};

impl ChannelLog {
    /// Returns the channel's id.
    #[must_use]
    pub const fn id(&self) -> &ChannelId {
        &self.id
    }

    /// Returns the hash of the first record: what clients pin.
    #[must_use]
    pub const fn genesis(&self) -> &Hash {
        &self.genesis
    }

    /// Returns the newest record's number and hash.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Returns the newest record's place in the log.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns who can read.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns who can enter.
    #[must_use]
    pub const fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// Returns what new members can read.
    #[must_use]
    pub const fn history(&self) -> History {
        self.history
    }

    /// Returns the name, where it is not sealed.
    #[must_use]
    pub const fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// Returns the newest sealed name and under which epoch's key (mode `e2e`), if it came after the
    /// newest epoch of an admin, whose bundle says it again.
    #[must_use]
    pub const fn name_box(&self) -> Option<&(u32, Blob)> {
        self.name_box.as_ref()
    }

    /// Returns what it is about.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// Returns its bounds.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns who created it.
    #[must_use]
    pub const fn creator(&self) -> &UserId {
        &self.creator
    }

    /// Returns the members, by id.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<UserId, Member> {
        &self.members
    }

    /// Returns one member.
    #[must_use]
    pub fn member(&self, user: &UserId) -> Option<&Member> {
        self.members.get(user)
    }

    /// Returns the member of that name; there is at most one.
    #[must_use]
    pub fn member_named(&self, name: &Name) -> Option<(&UserId, &Member)> {
        self.members.iter().find(|(_, member)| member.name == *name)
    }

    /// Returns a member's role.
    #[must_use]
    pub fn role(&self, user: &UserId) -> Option<Role> {
        self.member(user).map(|member| member.role)
    }

    /// Returns whether a user is banned.
    #[must_use]
    pub fn is_banned(&self, user: &UserId) -> bool {
        self.banned.contains(user)
    }

    /// Returns the banned users.
    #[must_use]
    pub const fn banned(&self) -> &BTreeSet<UserId> {
        &self.banned
    }

    /// Returns every invite there was; [`Invite::is_live`] tells which still count.
    #[must_use]
    pub const fn invites(&self) -> &BTreeMap<InviteId, Invite> {
        &self.invites
    }

    /// Returns the newest epoch (mode `e2e`).
    #[must_use]
    pub fn epoch(&self) -> Option<&Epoch> {
        self.epochs.last()
    }

    /// Returns an epoch by its number.
    #[must_use]
    pub fn epoch_at(&self, e: u32) -> Option<&Epoch> {
        self.epochs.get(usize::try_from(e).ok()?.checked_sub(1)?)
    }

    /// Returns every epoch, ascending.
    #[must_use]
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// Returns whether the membership changed since the newest epoch so that another one must come
    /// before the next message (rule 5); also before the first one.
    #[must_use]
    pub fn needs_epoch(&self) -> bool {
        self.mode == Mode::E2e && (self.stale || self.epochs.is_empty())
    }

    /// Returns who may hold the newest key: the machines of members at the identity heads the channel
    /// goes by and, where history is `full`, their owner keys. Deterministic, and never what a server
    /// says (rules 3 and 4). Empty if an identity log is missing.
    #[must_use]
    pub fn holders(&self, ids: &impl Identities) -> BTreeMap<HolderKey, UserId> {
        let mut holders = BTreeMap::new();
        for (user, member) in &self.members {
            let Some(identity) = ids.identity(user) else {
                return BTreeMap::new();
            };
            let machines = identity.machines_at(member.ident.n);
            holders.extend(machines.map(|m| (HolderKey::from(m.key), *user)));
            if self.history == History::Full {
                let owners = identity.owners_at(member.ident.n);
                holders.extend(owners.map(|key| (HolderKey::from(*key), *user)));
            }
        }
        holders
    }

    /// Returns whether sending is stopped.
    #[must_use]
    pub const fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Returns whether what is said here is to stay here.
    #[must_use]
    pub const fn is_confidential(&self) -> bool {
        self.confidential
    }

    /// Returns whether the channel is over.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }
}
