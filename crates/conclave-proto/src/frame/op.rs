//! What a client can ask. Names are resolved by clients; operations carry ids (DECISIONS 20).
//!
//! Every operation that changes something is idempotent: by message id, record hash or value.

use crate::entry::Envelope;
use crate::id::{Blob, ChannelId, InviteId, LogId, SealedKey, UserId};
use crate::key::{HolderKey, InviteKey, MachineKey, Signature};
use crate::name::{Name, SessionPath};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

wire_enum! {
    /// A request's operation.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Op {
        /// Append an envelope to a channel or mailbox. Answer: `appended`, after the commit.
        Append(Append) = "append",
        /// Append a control record to its channel (or create one). Answer: `appended`.
        CtlAppend(CtlAppend) = "ctl_append",
        /// Follow a log from a cursor. Answer: `subscribed`; then `entries` events.
        Subscribe(Subscribe) = "subscribe",
        /// Stop following a log. Answer: `done`.
        Unsubscribe(Unsubscribe) = "unsubscribe",
        /// Read a page of a log. Answer: `page`.
        Read(Read) = "read",
        /// Read a page of control records only. Answer: `page`.
        CtlFetch(CtlFetch) = "ctl_fetch",
        /// Append a record to one's own identity log. Answer: `done`.
        IdentAppend(IdentAppend) = "ident_append",
        /// Read an identity log. Answer: `idents`.
        IdentFetch(IdentFetch) = "ident_fetch",
        /// Announce an encryption key of this machine, or of an owner key of this user. Answer: `done`.
        EkPublish(EkPublish) = "ek_publish",
        /// Fetch the newest announcements of holders one shares a channel with. Answer: `eks`.
        EkFetch(EkFetch) = "ek_fetch",
        /// Bring wraps of a channel's newest key; what is there already stays. Answer: `done`.
        WrapPut(WrapPut) = "wrap_put",
        /// Fetch one's own wraps of a channel. Answer: `wraps`.
        WrapFetch(WrapFetch) = "wrap_fetch",
        /// Ask who still lacks a wrap of the channel's newest key. Answer: `missing`.
        WrapMissing(WrapMissing) = "wrap_missing",
        /// Read a page of the current state and memory items of a channel. Answer: `page`.
        Items(Read) = "items",
        /// Ask how far readers have confirmed a log. Answer: `cursors`.
        Cursors(CursorsOf) = "cursors",
        /// Say what this session is in a channel; the newest word counts, as long as the session is
        /// there. Answer: `done`.
        Profile(ProfilePut) = "profile",
        /// Ask what the sessions of a channel say of themselves. Answer: `profiles`.
        Profiles(ProfilesOf) = "profiles",
        /// List the channels the caller may see. Answer: `channels`.
        Channels(Nothing) = "channels",
        /// Find a public or unlisted channel by its exact name. Answer: `channels` with one.
        FindChannel(FindName) = "find_channel",
        /// Find a user by name. Answer: `user`.
        FindUser(FindName) = "find_user",
        /// Look at an invite one holds the link of. Answer: `invite`.
        Invite(ShowInvite) = "invite",
        /// List sessions. Answer: `sessions`.
        Who(Who) = "who",
        /// End one session's subscription to a channel (channel admins). Answer: `done`.
        KickSession(KickSession) = "kick_session",
        /// Open a one-time enrolment for a new machine of one's own. Answer: `done`; then `enrol` events.
        EnrolOpen(EnrolOpen) = "enrol_open",
        /// A signed act of a server admin. Answer: `done`.
        Admin(AdminAct) = "admin",
        /// List the server's users (server admins). Answer: `users`.
        Users(Nothing) = "users",
        /// List the server's own invites (server admins, or minters their own). Answer: `server_invites`.
        ServerInvites(Nothing) = "server_invites",
        /// Read the audit log (server admins). Answer: `audit`.
        Audit(Page) = "audit",
    }
}

/// No fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// See [`Op::Append`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// Where to; must be what the header says.
    pub log: LogId,
    /// What.
    pub env: Envelope,
}

/// See [`Op::CtlAppend`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CtlAppend {
    /// The channel; for `create`, the id the record names.
    pub channel: ChannelId,
    /// The signed record.
    pub rec: Blob,
    /// With an epoch: the key, wrapped to machines; at most `WRAPS_MAX`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wraps: Vec<Wrap>,
    /// With an invite: what the joiner opens with the link's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_box: Option<Blob>,
}

/// A channel key, sealed to one holder (SECURITY 2.4). Not signed: whoever opens it compares the key
/// with the commitment in the epoch's record, so anybody may bring it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrap {
    /// Who can open it.
    pub to: HolderKey,
    /// With which generation of its encryption key.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// The sealed key.
    pub sealed: SealedKey,
}

/// See [`Op::EkPublish`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EkPublish {
    /// The signed announcement: see [`crate::encryption_key`].
    pub rec: Blob,
}

/// See [`Op::EkFetch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EkFetch {
    /// Whose; at most `HOLDERS_MAX`.
    pub holders: Vec<HolderKey>,
}

/// See [`Op::WrapPut`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrapPut {
    /// The channel.
    pub channel: ChannelId,
    /// The epoch; must be the newest.
    pub e: u32,
    /// At most `WRAPS_MAX`.
    pub wraps: Vec<Wrap>,
}

/// See [`Op::WrapFetch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrapFetch {
    /// The channel.
    pub channel: ChannelId,
    /// From this epoch on.
    pub from: u32,
    /// Sealed to whom: this session's machine, or an owner key of its user.
    pub holder: HolderKey,
    /// Epochs whose wrap did not open: it is thrown away, and members are asked for another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusable: Vec<u32>,
}

/// See [`Op::WrapMissing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrapMissing {
    /// The channel.
    pub channel: ChannelId,
}

/// See [`Op::Subscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// The log.
    pub log: LogId,
    /// Send what comes after this seq.
    pub after: u64,
}

/// See [`Op::Unsubscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// The log.
    pub log: LogId,
}

/// See [`Op::Read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The log.
    pub log: LogId,
    /// Start after this seq.
    pub after: u64,
    /// At most so many entries (and at most `PAGE_ENTRIES_MAX`).
    pub limit: u32,
}

/// See [`Op::Cursors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorsOf {
    /// A channel one is in, or the mailbox of somebody one may whisper to.
    pub log: LogId,
}

/// See [`Op::Profile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfilePut {
    /// The channel.
    pub channel: ChannelId,
    /// An envelope of kind 6, sealed like a message of the channel; its counter counts nothing.
    pub env: Envelope,
}

/// See [`Op::Profiles`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfilesOf {
    /// The channel.
    pub channel: ChannelId,
    /// Start after this session, in the order of paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<SessionPath>,
}

/// See [`Op::CtlFetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CtlFetch {
    /// The channel.
    pub channel: ChannelId,
    /// Start after this seq.
    pub after: u64,
}

/// See [`Op::IdentAppend`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentAppend {
    /// The signed record.
    pub rec: Blob,
}

/// See [`Op::IdentFetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentFetch {
    /// Whose log.
    pub user: UserId,
    /// Start with this record number (0 is the genesis).
    pub from: u64,
}

/// See [`Op::FindChannel`] and [`Op::FindUser`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindName {
    /// The exact name.
    pub name: Name,
}

/// See [`Op::Invite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowInvite {
    /// The invite.
    pub invite: InviteId,
}

/// See [`Op::Who`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Only sessions of this channel's members that follow it; without: everybody one shares a channel with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelId>,
}

/// See [`Op::KickSession`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KickSession {
    /// The channel.
    pub channel: ChannelId,
    /// The session.
    pub path: SessionPath,
}

/// See [`Op::EnrolOpen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolOpen {
    /// The public key derived from the link's secret.
    pub key: InviteKey,
    /// The link's word that it is for this user: by that key, over the user id.
    pub sig: Signature,
    /// When it lapses; at most `ENROLMENT_MS` from now.
    pub expires: UnixMs,
}

/// What a new machine says of itself, relayed to who opened the enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// Which enrolment.
    pub enrolment: InviteId,
    /// The name it wants.
    pub name: Name,
    /// Its signing key.
    pub key: MachineKey,
    /// Its encryption key.
    pub encryption_key: crate::key::EncryptionKey,
    /// Its consent: by its signing key, over user id, name and keys.
    pub consent: Signature,
    /// The link's word: by the link's key, over the same.
    pub proof: Signature,
}

/// See [`Op::Admin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminAct {
    /// The signed record.
    pub rec: Blob,
}

/// A page of a numbered list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Start after this number.
    pub after: u64,
    /// At most so many (and at most `PAGE_ENTRIES_MAX`).
    pub limit: u32,
}
