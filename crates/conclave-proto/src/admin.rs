//! Acts of server admins, as signed records (SECURITY D.2, DECISIONS 7).
//!
//! `[1, type, server, request, …fields of the type…, user, key kind, key, ts]`. Admins hold no
//! rights inside channels. Whether the user is an admin, and whether the request id is new, is the
//! server's to know.

use crate::canonical::{Item, Reader, VERSION, Writer, acts, exact};
use crate::channel_log::SignerKey;
use crate::id::{Blob, ChannelId, InviteId, ServerId, UserId};
use crate::identity_log::IdentityLog;
use crate::key::{InviteKey, Secret, label};
use crate::record::Record;
use crate::reject::Code;
use crate::time::UnixMs;

acts! {
    /// What an admin does.
    pub enum AdminBody {
        /// Ends an account.
        UserRemove = "user_remove" {
            /// Whose.
            user: UserId,
        }
        /// Makes a user an admin. Needs the owner key.
        AdminAdd = "admin_add" {
            /// Whom.
            user: UserId,
        }
        /// Makes an admin a user again. Needs the owner key.
        AdminRemove = "admin_remove" {
            /// Whom.
            user: UserId,
        }
        /// Lets holders of a link make an account.
        ServerInvite = "server_invite" {
            /// The public half of the link's secret.
            key: InviteKey,
            /// How many accounts.
            max_uses: u32,
            /// Until when, by the server's time.
            expires: UnixMs,
        }
        /// Ends such a link early.
        ServerInviteRevoke = "server_invite_revoke" {
            /// Which.
            invite: InviteId,
        }
        /// Stops sending in a channel, or lets it start again.
        LogFreeze = "log_freeze" {
            /// Which.
            channel: ChannelId,
            /// Stop, or start again.
            on: bool,
        }
        /// Deletes a channel's log.
        LogDelete = "log_delete" {
            /// Which.
            channel: ChannelId,
        }
    }
}

impl AdminBody {
    /// Returns whether a machine's key is not enough.
    #[must_use]
    pub const fn needs_owner_key(&self) -> bool {
        matches!(self, Self::AdminAdd { .. } | Self::AdminRemove { .. })
    }
}

/// Why an admin's record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAdmin {
    /// Not the canonical form of an admin record this version knows.
    #[error("the admin record is not well-formed")]
    Malformed,
    /// The signature is not valid.
    #[error("the admin record's signature is not valid")]
    Signature,
    /// Made for another server.
    #[error("the admin record is for another server")]
    Server,
    /// The key is not an active one of the user.
    #[error("the signing key is not active")]
    Key,
    /// A machine's key, where the owner key is needed.
    #[error("this needs the owner key")]
    NeedsOwnerKey,
}

impl BadAdmin {
    /// Returns the code to refuse the record with.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Malformed | Self::Server => Code::Malformed,
            Self::Signature | Self::Key => Code::Unauthorized,
            Self::NeedsOwnerKey => Code::Forbidden,
        }
    }
}

/// An act before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The server it is for.
    pub server: ServerId,
    /// Drawn at random: the same request is carried out once.
    pub request: [u8; 16],
    /// What is done.
    pub body: AdminBody,
    /// Who does it.
    pub user: UserId,
    /// The signer's clock.
    pub ts: UnixMs,
}

impl Act {
    /// Signs with a machine's key.
    #[must_use]
    pub fn sign_machine(&self, machine: &Secret) -> Record {
        self.sign(&SignerKey::Machine(machine.machine_key()), machine)
    }

    /// Signs with an owner key.
    #[must_use]
    pub fn sign_owner(&self, owner: &Secret) -> Record {
        self.sign(&SignerKey::Owner(owner.owner_key()), owner)
    }

    fn sign(&self, key: &SignerKey, secret: &Secret) -> Record {
        Record::sign(label::ADMIN, &self.to_bytes(key), secret)
    }

    fn to_bytes(&self, key: &SignerKey) -> Vec<u8> {
        Writer::array(|w| {
            VERSION.put(w);
            w.text(self.body.word());
            self.server.put(w);
            self.request.put(w);
            self.body.put(w);
            self.user.put(w);
            key.put(w);
            self.ts.put(w);
        })
    }
}

/// A well-formed act whose signature was not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedAct {
    act: Act,
    key: SignerKey,
    record: Record,
}

impl ParsedAct {
    /// Reads a record in its one canonical form.
    ///
    /// # Errors
    /// [`BadAdmin::Malformed`].
    pub fn parse(rec: &Blob) -> Result<Self, BadAdmin> {
        let record = Record::parse(rec).map_err(|_| BadAdmin::Malformed)?;
        let take = |r: &mut Reader<'_>| {
            r.array()?;
            r.item::<u64>().filter(|v| *v == VERSION)?;
            let word = r.text()?;
            let (server, request) = (r.item()?, r.item()?);
            let body = AdminBody::take(word, r)?;
            let (user, key, ts) = (r.item()?, r.item()?, r.item()?);
            Some((
                Act {
                    server,
                    request,
                    body,
                    user,
                    ts,
                },
                key,
            ))
        };
        let (act, key) = exact(record.body(), take, |(act, key)| act.to_bytes(key))
            .ok_or(BadAdmin::Malformed)?;
        Ok(Self { act, key, record })
    }

    /// Checks the signature, and that the act may be signed with this kind of key.
    ///
    /// # Errors
    /// [`BadAdmin::Signature`], [`BadAdmin::NeedsOwnerKey`].
    pub fn verify(self) -> Result<VerifiedAct, BadAdmin> {
        match &self.key {
            SignerKey::Machine(_) if self.act.body.needs_owner_key() => {
                return Err(BadAdmin::NeedsOwnerKey);
            }
            SignerKey::Machine(key) => self.record.verify(label::ADMIN, key),
            SignerKey::Owner(key) => self.record.verify(label::ADMIN, key),
        }
        .map_err(|_| BadAdmin::Signature)?;
        Ok(VerifiedAct(self))
    }

    /// Returns what is done, where and by whom.
    #[must_use]
    pub const fn act(&self) -> &Act {
        &self.act
    }

    /// Returns the key that signs.
    #[must_use]
    pub const fn key(&self) -> &SignerKey {
        &self.key
    }

    /// Returns the record as it travels.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }
}

/// An act whose signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedAct(ParsedAct);

impl VerifiedAct {
    /// Checks that the act is for `server`, and that the key counts now in the user's identity.
    ///
    /// # Errors
    /// [`BadAdmin::Server`], [`BadAdmin::Key`].
    pub fn check(&self, server: &ServerId, identity: &IdentityLog) -> Result<&Act, BadAdmin> {
        let ParsedAct { act, key, .. } = &self.0;
        if act.server != *server {
            return Err(BadAdmin::Server);
        }
        let active = match key {
            SignerKey::Machine(key) => identity.machine(key).is_some(),
            SignerKey::Owner(key) => identity.is_owner(key),
        };
        if active && act.user == *identity.user_id() {
            Ok(act)
        } else {
            Err(BadAdmin::Key)
        }
    }
}

impl std::ops::Deref for VerifiedAct {
    type Target = ParsedAct;
    fn deref(&self) -> &ParsedAct {
        &self.0
    }
}
