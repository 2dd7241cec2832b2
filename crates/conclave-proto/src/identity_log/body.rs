//! The bodies of identity records, and what of them can be checked without the log.
//!
//! `[1, type, user_id | null, n, prev | null, …fields of the type…, signer, ts]`; the genesis has
//! no user id and no predecessor. Fields stand in the order declared here.

use super::BadIdentity;
use crate::bytes::Builder;
use crate::canonical::{Item, Reader, VERSION, Writer, acts, array_item, exact};
use crate::handshake::enrolment_message;
use crate::id::{Blob, ChannelId, Hash, ServerId, UserId};
use crate::key::{EncryptionKey, MachineKey, OwnerKey, Secret, Signature, Verify as _, label};
use crate::name::Name;
use crate::record::Record;
use crate::time::UnixMs;
use std::collections::BTreeSet;

/// What a machine may do beyond reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cap {
    /// Append entries.
    Send,
    /// Create channels.
    Create,
    /// Widen the circle of channels that this machine created.
    StewardOwn,
    /// Widen the circle of one channel.
    Steward(ChannelId),
}

impl Cap {
    /// Returns what a machine gets when nothing else is said.
    #[must_use]
    pub fn default_set() -> BTreeSet<Self> {
        [Self::Send, Self::Create, Self::StewardOwn].into()
    }
}

impl Item for Cap {
    fn put(&self, w: &mut Writer) {
        match self {
            Self::Send => w.text("send"),
            Self::Create => w.text("create"),
            Self::StewardOwn => w.text("steward_own"),
            Self::Steward(channel) => w.text(&format!("steward:{channel}")),
        }
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        match r.text()? {
            "send" => Some(Self::Send),
            "create" => Some(Self::Create),
            "steward_own" => Some(Self::StewardOwn),
            other => other
                .strip_prefix("steward:")?
                .parse()
                .ok()
                .map(Self::Steward),
        }
    }
}

/// A machine's keys and its word that they are its own: a signature by the new machine key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineClaim {
    /// The name it wants.
    pub name: Name,
    /// Its signing key.
    pub key: MachineKey,
    /// Its encryption key.
    pub encryption_key: EncryptionKey,
    /// By the signing key: [`enrolment_message`], or [`genesis_consent`] in a genesis.
    pub consent: Signature,
}
array_item!(MachineClaim {
    name,
    key,
    encryption_key,
    consent
});

impl MachineClaim {
    /// Makes the claim of a machine that joins `user`, or renews its keys.
    #[must_use]
    pub fn enrol(user: &UserId, name: Name, ek: EncryptionKey, machine: &Secret) -> Self {
        let key = machine.machine_key();
        let consent = machine.sign(enrolment_message(user, &name, &key, &ek));
        Self {
            name,
            key,
            encryption_key: ek,
            consent,
        }
    }

    /// Makes the claim of the machine that stands in a genesis.
    #[must_use]
    pub fn found(
        server: &ServerId,
        username: &Name,
        owners: &[OwnerKey],
        name: Name,
        ek: EncryptionKey,
        machine: &Secret,
    ) -> Self {
        let key = machine.machine_key();
        let consent = machine.sign(genesis_consent(server, username, owners, &name, &key, &ek));
        Self {
            name,
            key,
            encryption_key: ek,
            consent,
        }
    }

    fn verify_enrol(&self, user: &UserId) -> Result<(), BadIdentity> {
        let message = enrolment_message(user, &self.name, &self.key, &self.encryption_key);
        self.key
            .verify(message, &self.consent)
            .map_err(|_| BadIdentity::Consent)
    }
}

/// What the first machine signs; the owners are in it, so that nobody else can found an identity
/// with this machine's key.
#[must_use]
pub fn genesis_consent(
    server: &ServerId,
    username: &Name,
    owners: &[OwnerKey],
    name: &Name,
    key: &MachineKey,
    encryption_key: &EncryptionKey,
) -> Builder {
    let owners: Vec<u8> = owners.iter().flat_map(|owner| *owner.as_bytes()).collect();
    Builder::labelled(label::ENROLMENT)
        .raw(server.as_bytes())
        .lp(username.as_str().as_bytes())
        .lp(&owners)
        .lp(name.as_str().as_bytes())
        .raw(key.as_bytes())
        .raw(encryption_key.as_bytes())
}

acts! {
    /// What an identity record says.
    pub enum IdentityBody {
        /// The first record. Its hash is the user id.
        Genesis = "genesis" {
            /// The server this identity is for.
            server: ServerId,
            /// The user's name there.
            username: Name,
            /// The first one signs.
            owners: Vec<OwnerKey>,
            /// The first machine.
            machine: MachineClaim,
        }
        /// A new machine.
        AddMachine = "add_machine" {
            /// Its keys and consent.
            machine: MachineClaim,
            /// What it may do.
            caps: BTreeSet<Cap>,
        }
        /// A machine is no more; its key never comes back.
        RevokeMachine = "revoke_machine" {
            /// Which.
            key: MachineKey,
            /// Why, for people.
            reason: String,
        }
        /// A machine changes its keys and keeps name and rights.
        RotateMachine = "rotate_machine" {
            /// The key that ends.
            old: MachineKey,
            /// The new keys and consent, under the same name.
            machine: MachineClaim,
        }
        /// A new owner key.
        AddOwner = "add_owner" {
            /// Which.
            key: OwnerKey,
        }
        /// An owner key ends; the last one cannot.
        RevokeOwner = "revoke_owner" {
            /// Which.
            key: OwnerKey,
        }
    }
}

/// A well-formed identity record whose signatures were not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Whose log; absent in a genesis.
    pub user: Option<UserId>,
    /// Its number.
    pub n: u64,
    /// The hash of the record before; absent in a genesis.
    pub prev: Option<Hash>,
    /// What it says.
    pub body: IdentityBody,
    /// The owner key that signs.
    pub signer: OwnerKey,
    /// The signer's clock.
    pub ts: UnixMs,
    pub(super) record: Record,
}

impl Parsed {
    /// Reads a record in its one canonical form.
    ///
    /// # Errors
    /// [`BadIdentity::Malformed`].
    pub fn parse(rec: &Blob) -> Result<Self, BadIdentity> {
        let record = Record::parse(rec).map_err(|_| BadIdentity::Malformed)?;
        let take = |r: &mut Reader<'_>| {
            r.array()?;
            r.item::<u64>().filter(|v| *v == VERSION)?;
            let word = r.text()?;
            let (user, n, prev) = (r.item()?, r.item()?, r.item()?);
            let body = IdentityBody::take(word, r)?;
            let (signer, ts) = (r.item()?, r.item()?);
            Some(Draft {
                user,
                n,
                prev,
                body,
                signer,
                ts,
            })
        };
        let Draft {
            user,
            n,
            prev,
            body,
            signer,
            ts,
        } = exact(record.body(), take, Draft::to_bytes).ok_or(BadIdentity::Malformed)?;
        let first = matches!(body, IdentityBody::Genesis { .. });
        if first != (n == 0) || first != user.is_none() || first != prev.is_none() {
            return Err(BadIdentity::Malformed);
        }
        Ok(Self {
            user,
            n,
            prev,
            body,
            signer,
            ts,
            record,
        })
    }

    /// Checks the owner's signature and the machine's consent. Whether the signer is an owner is the
    /// log's to say.
    ///
    /// # Errors
    /// [`BadIdentity::Signature`], [`BadIdentity::Consent`].
    pub fn verify(self) -> Result<Verified, BadIdentity> {
        self.record
            .verify(label::IDENTITY, &self.signer)
            .map_err(|_| BadIdentity::Signature)?;
        match (&self.body, &self.user) {
            (
                IdentityBody::Genesis {
                    server,
                    username,
                    owners,
                    machine: m,
                },
                _,
            ) => {
                let (key, ek) = (&m.key, &m.encryption_key);
                let message = genesis_consent(server, username, owners, &m.name, key, ek);
                key.verify(message, &m.consent)
                    .map_err(|_| BadIdentity::Consent)?;
            }
            (
                IdentityBody::AddMachine { machine, .. }
                | IdentityBody::RotateMachine { machine, .. },
                Some(user),
            ) => machine.verify_enrol(user)?,
            _ => {}
        }
        Ok(Verified(self))
    }

    /// Takes the record's signatures for checked: it comes from one's own store.
    #[must_use]
    pub const fn trust(self) -> Verified {
        Verified(self)
    }

    /// Returns the record as it travels.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Returns whose log it is part of; a genesis names its user by its hash.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        self.user
            .unwrap_or_else(|| UserId::new(*self.record.hash().as_bytes()))
    }
}

/// An identity record whose signatures are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(Parsed);

impl std::ops::Deref for Verified {
    type Target = Parsed;
    fn deref(&self) -> &Parsed {
        &self.0
    }
}

/// A body before it is signed.
pub(super) struct Draft {
    pub(super) user: Option<UserId>,
    pub(super) n: u64,
    pub(super) prev: Option<Hash>,
    pub(super) body: IdentityBody,
    pub(super) signer: OwnerKey,
    pub(super) ts: UnixMs,
}

impl Draft {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        Writer::array(|w| {
            VERSION.put(w);
            w.text(self.body.word());
            self.user.put(w);
            self.n.put(w);
            self.prev.put(w);
            self.body.put(w);
            self.signer.put(w);
            self.ts.put(w);
        })
    }
}
