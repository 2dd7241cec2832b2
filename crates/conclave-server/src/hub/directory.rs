//! Users, names, machines and channels, as their signed logs make them.

use crate::store::{Snapshot, Standing, StoreError};
use conclave_proto::channel_log::{
    ChannelLog, CtlBody, CtlChange, CtlError, Identities, ParsedCtl, VerifiedCtl, Visibility,
};
use conclave_proto::id::{Blob, ChannelId, Hash, InviteId, ServerId, UserId};
use conclave_proto::identity_log::{
    BadIdentity, IdentityChange, IdentityLog, Parsed as ParsedIdent, Verified as VerifiedIdent,
};
use conclave_proto::key::MachineKey;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::time::UnixMs;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many users that whispered to one user are remembered, for answers.
const CORRESPONDENTS_MAX: usize = 1_024;

/// Everybody and every channel.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) users: Users,
    names: HashMap<Name, UserId>,
    machines: HashMap<MachineKey, UserId>,
    channels: BTreeMap<ChannelId, Channel>,
    channel_names: BTreeMap<Name, ChannelId>,
}

#[derive(Debug, Default)]
pub(super) struct Users(HashMap<UserId, User>);

/// One account.
#[derive(Debug)]
pub(super) struct User {
    pub(super) log: IdentityLog,
    pub(super) records: Vec<Blob>,
    pub(super) standing: Standing,
    pub(super) channels: BTreeSet<ChannelId>,
    /// Whose whispers this user may answer.
    pub(super) correspondents: BTreeSet<UserId>,
    /// Sessions that have, or had, a mailbox.
    pub(super) paths: BTreeSet<SessionPath>,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) log: ChannelLog,
    /// Hash and place of each control record, by number.
    pub(super) records: Vec<(Hash, u64, UnixMs)>,
    /// Everybody its control records need to be verified.
    pub(super) people: BTreeSet<UserId>,
    /// Its log was deleted.
    pub(super) deleted: bool,
}

impl Identities for Users {
    fn identity(&self, user: &UserId) -> Option<&IdentityLog> {
        self.0.get(user).map(|u| &u.log)
    }
}

impl Users {
    pub(super) fn get(&self, user: &UserId) -> Option<&User> {
        self.0.get(user)
    }

    pub(super) fn get_mut(&mut self, user: &UserId) -> Option<&mut User> {
        self.0.get_mut(user)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&UserId, &User)> {
        self.0.iter()
    }

    /// Returns whether both are members of a channel, or one person.
    pub(super) fn share(&self, a: &UserId, b: &UserId) -> bool {
        let channels = |user| self.get(user).map(|u| &u.channels);
        match (channels(a), channels(b)) {
            _ if a == b => true,
            (Some(a), Some(b)) => !a.is_disjoint(b),
            _ => false,
        }
    }
}

impl User {
    /// Remembers that `from` may be answered.
    pub(super) fn heard(&mut self, from: UserId) {
        if self.correspondents.len() < CORRESPONDENTS_MAX {
            self.correspondents.insert(from);
        }
    }
}

impl Directory {
    /// Rebuilds everything from the store's records, whose signatures are trusted.
    pub(super) fn load(snapshot: &Snapshot, server: &ServerId) -> Result<Self, StoreError> {
        let mut dir = Self::default();
        let bad = || StoreError::Corrupt("an identity record");
        for (_, records) in &snapshot.idents {
            let mut records = records.iter();
            let first = ParsedIdent::parse(records.next().ok_or_else(bad)?);
            let first = first.map_err(|_| bad())?.trust();
            let user = dir.add_user(&first, server).map_err(|_| bad())?;
            for rec in records {
                let rec = ParsedIdent::parse(rec).map_err(|_| bad())?.trust();
                dir.extend_user(&user, &rec).map_err(|_| bad())?;
            }
        }
        for (user, standing) in &snapshot.standings {
            dir.users.get_mut(user).ok_or_else(bad)?.standing = *standing;
        }
        for row in &snapshot.logs {
            if let Some((user, path)) = &row.path
                && let Some(user) = dir.users.get_mut(user)
            {
                user.paths.insert(path.clone());
            }
        }
        for (channel, seq, at, rec) in &snapshot.ctl {
            let rec = ParsedCtl::parse(rec).map_err(|_| StoreError::Corrupt("a control record"))?;
            dir.extend_channel(channel, *seq, *at, &rec.trust())
                .map_err(|_| StoreError::Corrupt("a control record that does not apply"))?;
        }
        Ok(dir)
    }

    pub(super) fn user_named(&self, name: &Name) -> Option<(UserId, &User)> {
        let id = self.names.get(name)?;
        self.users.get(id).map(|user| (*id, user))
    }

    pub(super) fn user_of(&self, key: &MachineKey) -> Option<(UserId, &User)> {
        let id = self.machines.get(key)?;
        self.users.get(id).map(|user| (*id, user))
    }

    pub(super) fn has_admin(&self) -> bool {
        let counts = |u: &User| u.standing.admin && !u.standing.removed;
        self.users.iter().any(|(_, user)| counts(user))
    }

    /// Starts an account. Names stay taken for ever.
    pub(super) fn add_user(
        &mut self,
        genesis: &VerifiedIdent,
        server: &ServerId,
    ) -> Result<UserId, BadIdentity> {
        let log = IdentityLog::start(genesis, server)?;
        let user = *log.user_id();
        if self.names.contains_key(log.username()) {
            return Err(BadIdentity::MachineName);
        }
        if log.machines().any(|m| self.machines.contains_key(&m.key)) {
            return Err(BadIdentity::KeyUsed);
        }
        self.names.insert(log.username().clone(), user);
        self.machines.extend(log.machines().map(|m| (m.key, user)));
        let account = User {
            log,
            records: vec![genesis.record().bytes().clone()],
            standing: Standing::default(),
            channels: BTreeSet::new(),
            correspondents: BTreeSet::new(),
            paths: BTreeSet::new(),
        };
        self.users.0.insert(user, account);
        Ok(user)
    }

    /// Appends to an identity log.
    pub(super) fn extend_user(
        &mut self,
        user: &UserId,
        rec: &VerifiedIdent,
    ) -> Result<IdentityChange, BadIdentity> {
        let account = self.users.get_mut(user).ok_or(BadIdentity::User)?;
        let change = account.log.check(rec)?;
        match change {
            IdentityChange::MachineAdded(new) | IdentityChange::MachineRotated { new, .. }
                if self.machines.contains_key(&new) =>
            {
                return Err(BadIdentity::KeyUsed);
            }
            _ => {}
        }
        account.log.extend(rec)?;
        account.records.push(rec.record().bytes().clone());
        match change {
            IdentityChange::MachineAdded(new) => {
                self.machines.insert(new, *user);
            }
            IdentityChange::MachineRotated { new, .. } => {
                self.machines.insert(new, *user);
            }
            IdentityChange::MachineRevoked(_)
            | IdentityChange::OwnerAdded(_)
            | IdentityChange::OwnerRevoked(_) => {}
        }
        Ok(change)
    }

    pub(super) fn channel(&self, id: &ChannelId) -> Option<&Channel> {
        self.channels.get(id).filter(|channel| !channel.deleted)
    }

    pub(super) fn knows_channel(&self, id: &ChannelId) -> bool {
        self.channels.contains_key(id)
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = (&ChannelId, &Channel)> {
        self.channels.iter().filter(|(_, channel)| !channel.deleted)
    }

    pub(super) fn channel_named(&self, name: &Name) -> Option<(&ChannelId, &Channel)> {
        let id = self.channel_names.get(name)?;
        self.channel(id).map(|channel| (id, channel))
    }

    /// Returns the channel an invite leads into.
    pub(super) fn invited(&self, invite: &InviteId) -> Option<(&ChannelId, &Channel)> {
        self.channels()
            .find(|(_, c)| c.log.invites().contains_key(invite))
    }

    /// Returns whether a record would take a public or unlisted name that another channel has.
    pub(super) fn takes_name(&self, rec: &VerifiedCtl) -> bool {
        let before = self.channel(&rec.channel).map(|c| &c.log);
        let (name, visibility) = match &rec.body {
            CtlBody::Create {
                name, visibility, ..
            } => (name.as_ref(), Some(*visibility)),
            CtlBody::Meta {
                name, visibility, ..
            } => (
                name.as_ref().or_else(|| before?.name()),
                visibility.or_else(|| before.map(ChannelLog::visibility)),
            ),
            _ => return false,
        };
        let holder = name.and_then(|name| self.channel_names.get(name));
        visibility != Some(Visibility::Private) && holder.is_some_and(|id| *id != rec.channel)
    }

    /// Applies a control record, the first one included.
    pub(super) fn extend_channel(
        &mut self,
        id: &ChannelId,
        seq: u64,
        at: UnixMs,
        rec: &VerifiedCtl,
    ) -> Result<CtlChange, CtlError> {
        let change = match self.channels.get_mut(id) {
            Some(channel) => channel.log.extend(seq, at, rec, &self.users)?,
            None => {
                let log = ChannelLog::start(seq, at, rec, &self.users)?;
                let channel = Channel {
                    log,
                    records: Vec::new(),
                    people: BTreeSet::new(),
                    deleted: false,
                };
                self.channels.insert(*id, channel);
                CtlChange::Created
            }
        };
        let Some(channel) = self.channels.get_mut(id) else {
            return Ok(change);
        };
        channel.records.push((rec.record().hash(), seq, at));
        channel.people.insert(rec.author.user);
        let member = match &change {
            CtlChange::MemberAdded { user, .. } | CtlChange::MemberRemoved { user, .. } => *user,
            _ => rec.author.user,
        };
        channel.people.insert(member);
        if let Some(user) = self.users.get_mut(&member) {
            match channel.log.role(&member) {
                Some(_) => user.channels.insert(*id),
                None => user.channels.remove(id),
            };
        }
        self.channel_names.retain(|_, holder| holder != id);
        if let Some(name) = channel.log.name()
            && channel.log.visibility() != Visibility::Private
            && !channel.log.is_closed()
        {
            self.channel_names.insert(name.clone(), *id);
        }
        Ok(change)
    }

    /// Forgets a channel whose log is deleted; its id stays taken.
    pub(super) fn delete_channel(&mut self, id: &ChannelId) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.deleted = true;
            for user in channel.log.members().keys() {
                if let Some(user) = self.users.0.get_mut(user) {
                    user.channels.remove(id);
                }
            }
        }
        self.channel_names.retain(|_, holder| holder != id);
    }
}
