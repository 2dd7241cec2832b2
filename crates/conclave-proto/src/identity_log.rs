//! The identity log of one user: which machines and owner keys are his, since when and until when.
//!
//! Owner-signed and hash-chained (SECURITY 2.3). An [`IdentityLog`] exists only verified; it keeps
//! its past, because channels ask who was active at an older head. Fetching and storing records,
//! and giving each username to one user only, is for others.

pub mod body;
pub mod build;
mod error;

pub use body::{Cap, IdentityBody, MachineClaim, Parsed, Verified};
pub use error::BadIdentity;

use crate::body::Head;
use crate::id::{Blob, Hash, ServerId, UserId};
use crate::key::{EncryptionKey, MachineKey, OwnerKey};
use crate::limit::TEXT_BYTES_MAX;
use crate::name::Name;
use crate::time::UnixMs;
use std::collections::BTreeSet;

/// The most active machines of one user.
pub const MACHINES_MAX: usize = 64;
/// The most active owner keys of one user.
pub const OWNERS_MAX: usize = 8;

/// A user's identity, verified from its genesis on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityLog {
    user: UserId,
    server: ServerId,
    username: Name,
    hashes: Vec<Hash>,
    head: Head,
    machines: Vec<Span<Machine>>,
    owners: Vec<Span<OwnerKey>>,
}

/// One machine of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name, unique among the active machines.
    pub name: Name,
    /// Its signing key.
    pub key: MachineKey,
    /// Its encryption key.
    pub encryption_key: EncryptionKey,
    /// What it may do.
    pub caps: BTreeSet<Cap>,
    /// The first signing key of this machine: rotation keeps it.
    pub lineage: MachineKey,
    /// When these keys were signed in, by the owner's clock.
    pub since: UnixMs,
}

/// What a record changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityChange {
    /// A machine came.
    MachineAdded(MachineKey),
    /// A machine is gone: its sessions end.
    MachineRevoked(MachineKey),
    /// A machine has a new key: sessions by the old one end.
    MachineRotated {
        /// The key that ended.
        old: MachineKey,
        /// The key that counts now.
        new: MachineKey,
    },
    /// An owner key came.
    OwnerAdded(OwnerKey),
    /// An owner key is gone.
    OwnerRevoked(OwnerKey),
}

/// A value and the heads at which it counts: `since <= n`, and `n < until`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span<T> {
    value: T,
    since: u64,
    until: Option<u64>,
}

impl<T> Span<T> {
    const fn from(since: u64, value: T) -> Self {
        Self {
            value,
            since,
            until: None,
        }
    }

    fn at(&self, n: u64) -> Option<&T> {
        (self.since <= n && self.until.is_none_or(|until| n < until)).then_some(&self.value)
    }
}

impl IdentityLog {
    /// Starts a log with its first record.
    ///
    /// # Errors
    /// [`BadIdentity`].
    pub fn genesis(rec: &Blob, server: &ServerId) -> Result<Self, BadIdentity> {
        Self::start(&Parsed::parse(rec)?.verify()?, server)
    }

    /// Starts a log with a record whose signatures were checked.
    ///
    /// # Errors
    /// [`BadIdentity`].
    pub fn start(rec: &Verified, for_server: &ServerId) -> Result<Self, BadIdentity> {
        let IdentityBody::Genesis {
            server,
            username,
            owners,
            machine,
        } = &rec.body
        else {
            return Err(BadIdentity::User);
        };
        if server != for_server {
            return Err(BadIdentity::Server);
        }
        if Name::claim(username.as_str()).is_err() {
            return Err(BadIdentity::Reserved);
        }
        if owners.first() != Some(&rec.signer) {
            return Err(BadIdentity::NotOwner);
        }
        if owners.len() > OWNERS_MAX {
            return Err(BadIdentity::Limit);
        }
        if owners.iter().collect::<BTreeSet<_>>().len() != owners.len() {
            return Err(BadIdentity::KeyUsed);
        }
        let hash = rec.record().hash();
        let machine = Machine::new(machine, Cap::default_set(), machine.key, rec.ts);
        Ok(Self {
            user: UserId::new(*hash.as_bytes()),
            server: *server,
            username: username.clone(),
            hashes: vec![hash],
            head: Head { n: 0, hash },
            machines: vec![Span::from(0, machine)],
            owners: owners.iter().map(|key| Span::from(0, *key)).collect(),
        })
    }

    /// Appends a record; on an error nothing changes.
    ///
    /// # Errors
    /// [`BadIdentity`].
    pub fn append(&mut self, rec: &Blob) -> Result<IdentityChange, BadIdentity> {
        self.extend(&Parsed::parse(rec)?.verify()?)
    }

    /// Appends a record whose signatures were checked; on an error nothing changes.
    ///
    /// # Errors
    /// [`BadIdentity`].
    pub fn extend(&mut self, rec: &Verified) -> Result<IdentityChange, BadIdentity> {
        let change = self.check(rec)?;
        let n = rec.n;
        match &rec.body {
            IdentityBody::Genesis { .. } => return Err(BadIdentity::User),
            IdentityBody::AddMachine { machine, caps } => {
                let machine = Machine::new(machine, caps.clone(), machine.key, rec.ts);
                self.machines.push(Span::from(n, machine));
            }
            IdentityBody::RevokeMachine { key, .. } => {
                end(&mut self.machines, n, |m| m.key == *key);
            }
            IdentityBody::RotateMachine { old, machine } => {
                let before = self.machine(old).ok_or(BadIdentity::NoSuchKey)?;
                let machine = Machine::new(machine, before.caps.clone(), before.lineage, rec.ts);
                end(&mut self.machines, n, |m| m.key == *old);
                self.machines.push(Span::from(n, machine));
            }
            IdentityBody::AddOwner { key } => self.owners.push(Span::from(n, *key)),
            IdentityBody::RevokeOwner { key } => end(&mut self.owners, n, |k| k == key),
        }
        self.head = Head {
            n,
            hash: rec.record().hash(),
        };
        self.hashes.push(self.head.hash);
        Ok(change)
    }

    /// Tells what a record would change, without appending it.
    ///
    /// # Errors
    /// [`BadIdentity`].
    pub fn check(&self, rec: &Verified) -> Result<IdentityChange, BadIdentity> {
        if rec.user != Some(self.user) {
            return Err(BadIdentity::User);
        }
        if Some(rec.n) != self.head.n.checked_add(1) || rec.prev != Some(self.head.hash) {
            return Err(BadIdentity::Chain(self.head.n));
        }
        if !self.is_owner(&rec.signer) {
            return Err(BadIdentity::NotOwner);
        }
        match &rec.body {
            IdentityBody::Genesis { .. } => Err(BadIdentity::User),
            IdentityBody::AddMachine { machine, .. } => {
                self.check_new_key(&machine.key)?;
                if self.machines().any(|m| m.name == machine.name) {
                    return Err(BadIdentity::MachineName);
                }
                if self.machines().count() >= MACHINES_MAX {
                    return Err(BadIdentity::Limit);
                }
                Ok(IdentityChange::MachineAdded(machine.key))
            }
            IdentityBody::RevokeMachine { key, reason } => {
                if reason.len() > TEXT_BYTES_MAX || reason.chars().any(char::is_control) {
                    return Err(BadIdentity::Malformed);
                }
                self.machine(key).ok_or(BadIdentity::NoSuchKey)?;
                Ok(IdentityChange::MachineRevoked(*key))
            }
            IdentityBody::RotateMachine { old, machine } => {
                self.check_new_key(&machine.key)?;
                if self.machine(old).ok_or(BadIdentity::NoSuchKey)?.name != machine.name {
                    return Err(BadIdentity::MachineName);
                }
                Ok(IdentityChange::MachineRotated {
                    old: *old,
                    new: machine.key,
                })
            }
            IdentityBody::AddOwner { key } => {
                if self.owners.iter().any(|span| span.value == *key) {
                    return Err(BadIdentity::KeyUsed);
                }
                if self.owners().count() >= OWNERS_MAX {
                    return Err(BadIdentity::Limit);
                }
                Ok(IdentityChange::OwnerAdded(*key))
            }
            IdentityBody::RevokeOwner { key } => {
                if !self.is_owner(key) {
                    return Err(BadIdentity::NoSuchKey);
                }
                if self.owners().count() == 1 {
                    return Err(BadIdentity::LastOwner);
                }
                Ok(IdentityChange::OwnerRevoked(*key))
            }
        }
    }

    fn check_new_key(&self, key: &MachineKey) -> Result<(), BadIdentity> {
        match self.machines.iter().any(|span| span.value.key == *key) {
            true => Err(BadIdentity::KeyUsed),
            false => Ok(()),
        }
    }

    /// Returns the user's id.
    #[must_use]
    pub const fn user_id(&self) -> &UserId {
        &self.user
    }

    /// Returns the server this identity is for.
    #[must_use]
    pub const fn server_id(&self) -> &ServerId {
        &self.server
    }

    /// Returns the user's name.
    #[must_use]
    pub const fn username(&self) -> &Name {
        &self.username
    }

    /// Returns the newest record's number and hash.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Returns the hash of record `n`.
    #[must_use]
    pub fn hash_at(&self, n: u64) -> Option<&Hash> {
        self.hashes.get(usize::try_from(n).ok()?)
    }

    /// Returns the machines that are active now.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.machines_at(self.head.n)
    }

    /// Returns the machines that were active at head `n`.
    pub fn machines_at(&self, n: u64) -> impl Iterator<Item = &Machine> {
        self.machines.iter().filter_map(move |span| span.at(n))
    }

    /// Returns an active machine.
    #[must_use]
    pub fn machine(&self, key: &MachineKey) -> Option<&Machine> {
        self.machine_at(self.head.n, key)
    }

    /// Returns a machine that was active at head `n`.
    #[must_use]
    pub fn machine_at(&self, n: u64, key: &MachineKey) -> Option<&Machine> {
        self.machines_at(n).find(|machine| machine.key == *key)
    }

    /// Returns an active machine by name.
    #[must_use]
    pub fn machine_named(&self, name: &Name) -> Option<&Machine> {
        self.machines().find(|machine| machine.name == *name)
    }

    /// Returns the owner keys that count now.
    pub fn owners(&self) -> impl Iterator<Item = &OwnerKey> {
        self.owners.iter().filter_map(|span| span.at(self.head.n))
    }

    /// Returns the owner keys that counted at head `n`.
    pub fn owners_at(&self, n: u64) -> impl Iterator<Item = &OwnerKey> {
        self.owners.iter().filter_map(move |span| span.at(n))
    }

    /// Returns whether an owner key counts now.
    #[must_use]
    pub fn is_owner(&self, key: &OwnerKey) -> bool {
        self.is_owner_at(self.head.n, key)
    }

    /// Returns whether an owner key counted at head `n`.
    #[must_use]
    pub fn is_owner_at(&self, n: u64, key: &OwnerKey) -> bool {
        self.owners.iter().any(|span| span.at(n) == Some(key))
    }
}

impl Machine {
    fn new(claim: &MachineClaim, caps: BTreeSet<Cap>, lineage: MachineKey, since: UnixMs) -> Self {
        Self {
            name: claim.name.clone(),
            key: claim.key,
            encryption_key: claim.encryption_key,
            caps,
            lineage,
            since,
        }
    }
}

fn end<T>(spans: &mut [Span<T>], n: u64, is: impl Fn(&T) -> bool) {
    let open = spans
        .iter_mut()
        .filter(|span| span.until.is_none() && is(&span.value));
    open.for_each(|span| span.until = Some(n));
}
