//! Control records: their types, their one canonical form, and how they are signed.
//!
//! `[1, type, channel, c, prev | null, …fields of the type…, user, path, key kind, key,
//! [n, hash], ts]`, where `user` … `[n, hash]` are the author and the newest identity record the
//! author knows of itself. Fields stand in the order declared here.

use super::CtlError;
use super::word::{History, Limits, Mode, RemoveKind, Role, Visibility};
use crate::body::Head;
use crate::canonical::{Item, Reader, VERSION, Writer, acts, array_item, exact};
use crate::id::{Blob, ChannelId, Hash, InviteId, UserId};
use crate::invite::join_message;
use crate::key::{InviteKey, MachineKey, OwnerKey, Secret, Signature, Verify as _, label};
use crate::name::{Name, SessionPath};
use crate::record::Record;
use crate::time::UnixMs;

/// The proof of an invite in a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The invite's key.
    pub key: InviteKey,
    /// By that key: [`join_message`].
    pub sig: Signature,
}
array_item!(Ticket { key, sig });

acts! {
    /// What a control record says.
    pub enum CtlBody {
        /// The first record. The author becomes the owner.
        Create = "create" {
            /// Who can read.
            mode: Mode,
            /// Who can enter.
            visibility: Visibility,
            /// What new members can read.
            history: History,
            /// The name, where the server may know it.
            name: Option<Name>,
            /// What it is about, where the server may know it.
            topic: Option<String>,
            /// Its bounds.
            limits: Option<Limits>,
        }
        /// A user becomes a member.
        Add = "add" {
            /// Who.
            user: UserId,
            /// The identity head the channel starts from.
            ident: Head,
            /// As what.
            role: Role,
        }
        /// A user is no member any more.
        Remove = "remove" {
            /// Who.
            user: UserId,
            /// How.
            kind: RemoveKind,
        }
        /// A banned user may come back.
        Unban = "unban" {
            /// Who.
            user: UserId,
        }
        /// A member gets another role.
        Role = "role" {
            /// Who.
            user: UserId,
            /// Which.
            role: Role,
        }
        /// Whoever holds the link may join.
        Invite = "invite" {
            /// The public half of the link's secret.
            key: InviteKey,
            /// As what.
            role: Role,
            /// How many users.
            max_uses: u32,
            /// Until when, by the server's time.
            expires: UnixMs,
        }
        /// An invite ends early.
        InviteRevoke = "invite_revoke" {
            /// Which.
            invite: InviteId,
        }
        /// The author becomes a member, with the identity head it signs.
        Join = "join" {
            /// The invite; without one the channel must not be private.
            ticket: Option<Ticket>,
        }
        /// From here on a member's machines are those at this identity head.
        Ident = "ident" {
            /// Who.
            user: UserId,
            /// The newer head.
            head: Head,
        }
        /// A new channel key (mode `e2e`).
        Epoch = "epoch" {
            /// Its number.
            e: u32,
            /// The record that the membership was computed at.
            covers_c: u64,
            /// The membership's hash.
            members_root: Hash,
            /// The key's commitment.
            commit: Hash,
            /// The key before, sealed under this one.
            prev_box: Option<Blob>,
            /// Index key, name and topic, sealed under this one.
            bundle_box: Blob,
        }
        /// Nobody can send, or everybody again.
        Freeze = "freeze" {
            /// Which of both.
            on: bool,
        }
        /// What is said here is to stay here, or no more: whoever read it asks a human before it says
        /// anything elsewhere.
        Confidential = "confidential" {
            /// Which of both.
            on: bool,
        }
        /// What is `null` stays as it was.
        Meta = "meta" {
            /// Who can enter.
            visibility: Option<Visibility>,
            /// The name.
            name: Option<Name>,
            /// The name, sealed (mode `e2e`).
            name_box: Option<Blob>,
            /// What it is about; empty: nothing.
            topic: Option<String>,
        }
        /// The channel is over.
        Close = "close" {}
    }
}

/// Who makes a record, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The user; what counts.
    pub user: UserId,
    /// The session, for people and the audit.
    pub path: SessionPath,
    /// The newest record of the user's identity log.
    pub ident: Head,
}

/// The key that signs a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignerKey {
    /// A machine's.
    Machine(MachineKey),
    /// One of the user's owner keys.
    Owner(OwnerKey),
}

/// Two items: the kind, `machine` or `owner`, and the key.
impl Item for SignerKey {
    fn put(&self, w: &mut Writer) {
        match self {
            Self::Machine(key) => {
                w.text("machine");
                key.put(w);
            }
            Self::Owner(key) => {
                w.text("owner");
                key.put(w);
            }
        }
    }
    fn take(r: &mut Reader<'_>) -> Option<Self> {
        match r.text()? {
            "machine" => r.item().map(Self::Machine),
            "owner" => r.item().map(Self::Owner),
            _ => None,
        }
    }
}

/// A control record before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ctl {
    /// The channel.
    pub channel: ChannelId,
    /// The record it follows; none for `create`.
    pub after: Option<Head>,
    /// What it says.
    pub body: CtlBody,
    /// Who says it.
    pub author: Author,
    /// The author's clock.
    pub ts: UnixMs,
}

impl Ctl {
    /// Signs with the key of the author's machine.
    #[must_use]
    pub fn sign_machine(&self, machine: &Secret) -> Record {
        self.sign(SignerKey::Machine(machine.machine_key()), machine)
    }

    /// Signs with an owner key of the author.
    #[must_use]
    pub fn sign_owner(&self, owner: &Secret) -> Record {
        self.sign(SignerKey::Owner(owner.owner_key()), owner)
    }

    /// Makes the proof of an invite, for the body of a `join` by `author` right after `after`.
    #[must_use]
    pub fn ticket(channel: &ChannelId, after: &Head, author: &Author, invite: &Secret) -> Ticket {
        let key = invite.invite_key();
        let message = join_message(
            channel,
            &key.invite_id(),
            &author.user,
            &author.ident,
            after,
        );
        Ticket {
            key,
            sig: invite.sign(message),
        }
    }

    fn sign(&self, key: SignerKey, secret: &Secret) -> Record {
        let c = self.after.map_or(0, |head| head.n + 1);
        let prev = self.after.map(|head| head.hash);
        let (channel, body) = (self.channel, self.body.clone());
        let (author, ts) = (self.author.clone(), self.ts);
        let content = Content {
            channel,
            c,
            prev,
            body,
            author,
            key,
            ts,
        };
        Record::sign(label::CONTROL, &content.to_bytes(), secret)
    }
}

/// What a received record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The channel.
    pub channel: ChannelId,
    /// Its number in the channel's chain of control records, from 0.
    pub c: u64,
    /// The hash of the record before; absent in `create`.
    pub prev: Option<Hash>,
    /// What it says.
    pub body: CtlBody,
    /// Who says it.
    pub author: Author,
    /// The key that signs.
    pub key: SignerKey,
    /// The author's clock.
    pub ts: UnixMs,
}

impl Content {
    fn to_bytes(&self) -> Vec<u8> {
        Writer::array(|w| {
            VERSION.put(w);
            w.text(self.body.word());
            self.channel.put(w);
            self.c.put(w);
            self.prev.put(w);
            self.body.put(w);
            self.author.user.put(w);
            self.author.path.put(w);
            self.key.put(w);
            self.author.ident.put(w);
            self.ts.put(w);
        })
    }

    fn take(r: &mut Reader<'_>) -> Option<Self> {
        r.array()?;
        r.item::<u64>().filter(|v| *v == VERSION)?;
        let word = r.text()?;
        let (channel, c, prev) = (r.item()?, r.item()?, r.item()?);
        let body = CtlBody::take(word, r)?;
        let (user, path, key) = (r.item()?, r.item()?, r.item()?);
        let (ident, ts) = (r.item()?, r.item()?);
        let author = Author { user, path, ident };
        Some(Self {
            channel,
            c,
            prev,
            body,
            author,
            key,
            ts,
        })
    }
}

/// A well-formed control record whose signatures were not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedCtl {
    content: Content,
    record: Record,
}

impl ParsedCtl {
    /// Reads a record in its one canonical form.
    ///
    /// # Errors
    /// [`CtlError::Malformed`].
    pub fn parse(rec: &Blob) -> Result<Self, CtlError> {
        let record = Record::parse(rec).map_err(|_| CtlError::Malformed)?;
        let content = exact(record.body(), Content::take, Content::to_bytes);
        let content = content.ok_or(CtlError::Malformed)?;
        let first = matches!(content.body, CtlBody::Create { .. });
        if first != (content.c == 0) || first != content.prev.is_none() {
            return Err(CtlError::Malformed);
        }
        Ok(Self { content, record })
    }

    /// Checks the author's signature and, in a join, the invite's. Whether the keys may say this is
    /// the channel's to judge.
    ///
    /// # Errors
    /// [`CtlError::Signature`], [`CtlError::Ticket`].
    pub fn verify(self) -> Result<VerifiedCtl, CtlError> {
        match &self.content.key {
            SignerKey::Machine(key) => self.record.verify(label::CONTROL, key),
            SignerKey::Owner(key) => self.record.verify(label::CONTROL, key),
        }
        .map_err(|_| CtlError::Signature)?;
        let Content {
            channel,
            c,
            prev,
            body,
            author,
            ..
        } = &self.content;
        if let (
            CtlBody::Join {
                ticket: Some(ticket),
            },
            Some(hash),
        ) = (body, prev)
        {
            let (id, head) = (
                ticket.key.invite_id(),
                Head {
                    n: c - 1,
                    hash: *hash,
                },
            );
            let message = join_message(channel, &id, &author.user, &author.ident, &head);
            ticket
                .key
                .verify(message, &ticket.sig)
                .map_err(|_| CtlError::Ticket)?;
        }
        Ok(VerifiedCtl(self))
    }

    /// Takes the signatures for checked: the record comes from one's own store.
    #[must_use]
    pub const fn trust(self) -> VerifiedCtl {
        VerifiedCtl(self)
    }

    /// Returns the record as it travels.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }
}

impl std::ops::Deref for ParsedCtl {
    type Target = Content;
    fn deref(&self) -> &Content {
        &self.content
    }
}

/// A control record whose signatures are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCtl(ParsedCtl);

impl std::ops::Deref for VerifiedCtl {
    type Target = ParsedCtl;
    fn deref(&self) -> &ParsedCtl {
        &self.0
    }
}
