//! What a server answers.

use super::op::Nothing;
use crate::body::Head;
use crate::entry::{Entry, Envelope};
use crate::id::{Blob, ChannelId, Hash, InviteId, SealedKey, UserId};
use crate::key::HolderKey;
use crate::name::{Name, SessionPath};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

wire_enum! {
    /// A successful answer.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Reply {
        /// It was done, or had been done before.
        Done(Nothing) = "done",
        /// The entry is durable.
        Appended(Appended) = "appended",
        /// The log is followed.
        Subscribed(Subscribed) = "subscribed",
        /// A page of a log.
        Page(EntryPage) = "page",
        /// Records of an identity log.
        Idents(Idents) = "idents",
        /// Announcements of encryption keys.
        Eks(Eks) = "eks",
        /// Wraps of a channel's keys.
        Wraps(Wraps) = "wraps",
        /// Who lacks a wrap.
        Missing(Missing) = "missing",
        /// How far readers are.
        Cursors(Cursors) = "cursors",
        /// What sessions say of themselves.
        Profiles(Profiles) = "profiles",
        /// Channels.
        Channels(Channels) = "channels",
        /// A user.
        User(UserInfo) = "user",
        /// An invite.
        Invite(InviteInfo) = "invite",
        /// Sessions.
        Sessions(Sessions) = "sessions",
        /// Users.
        Users(Users) = "users",
        /// Invites of the server itself.
        ServerInvites(ServerInvites) = "server_invites",
        /// Audit rows.
        Audit(AuditPage) = "audit",
    }
}

/// An entry's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// Its place in the log.
    pub seq: u64,
    /// When it was stored.
    pub at: UnixMs,
    /// Whether it had been there before: this is then the first place and time.
    pub dup: bool,
}

/// A subscription's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The newest seq; 0 if the log is empty.
    pub head: u64,
    /// The oldest message still kept; what is missing before it comes as a `gap`.
    pub oldest: u64,
}

/// Part of a log, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPage {
    /// The entries, ascending.
    pub entries: Vec<Entry>,
    /// Holes among or before them, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// Continue after this seq; equals `head` at the end.
    pub next: u64,
    /// The newest seq of the log.
    pub head: u64,
}

/// Entries that are not kept any more, named once a page (DECISIONS 22).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first missing seq.
    pub from: u64,
    /// The last missing seq.
    pub to: u64,
    /// How many are missing in between (control records in the range are still delivered).
    pub missing: u64,
    /// `retention` or `compacted`.
    pub reason: String,
}

/// Records of one identity log, ascending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idents {
    /// Whose.
    pub user: UserId,
    /// The records, exactly as appended.
    pub records: Vec<Blob>,
    /// The newest record's number.
    pub head: u64,
}

/// See [`Reply::Eks`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eks {
    /// The newest announcement of each holder that has one, in the order asked for.
    pub recs: Vec<Blob>,
}

/// See [`Reply::Wraps`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wraps {
    /// Ascending by epoch, at most `WRAPS_MAX`; more if the last one is not the newest epoch's.
    pub wraps: Vec<EpochWrap>,
}

/// The key of one epoch, sealed to who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochWrap {
    /// The epoch.
    pub e: u32,
    /// With which generation of the holder's encryption key.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// The sealed key.
    pub sealed: SealedKey,
}

/// See [`Reply::Missing`]. A list to work from, not to trust: whoever seals decides from the signed
/// logs who may have the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The newest epoch; 0 if there is none.
    pub e: u32,
    /// Machines of members, and owner keys of theirs that announced a key, without a wrap of it.
    pub holders: Vec<HolderKey>,
}

/// See [`Reply::Cursors`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursors {
    /// The newest seq of the log.
    pub head: u64,
    /// The oldest message still kept.
    pub oldest: u64,
    /// Who has confirmed something, at most `CURSORS_MAX`: those that are there first, then by path.
    pub readers: Vec<Reader>,
}

/// How far one session has confirmed a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Which.
    pub path: SessionPath,
    /// It has everything up to here on its machine.
    pub seq: u64,
}

/// See [`Reply::Profiles`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profiles {
    /// One of each session that said something and is there, in the order of paths, at most
    /// `PROFILES_MAX`.
    pub profiles: Vec<ProfileOf>,
    /// Whether there are more after the last one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// What one session says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileOf {
    /// Which.
    pub path: SessionPath,
    /// Its words, as it sealed them.
    pub env: Envelope,
}

/// See [`Reply::Channels`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// Ordered by name, then id.
    pub channels: Vec<ChannelInfo>,
}

/// A channel, as its directory entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// Its id.
    pub channel: ChannelId,
    /// Its name, where the server knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// `public`, `unlisted` or `private`.
    pub visibility: String,
    /// `signed` (the server can read) or `e2e`.
    pub mode: String,
    /// The caller's role, if a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How many members.
    pub members: u32,
    /// What it is about, where the server knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The newest control record.
    pub ctl: Head,
    /// The seq of the newest control record's entry.
    pub ctl_seq: u64,
    /// Whether it was closed for ever: only its members still see it, for its past.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
}

/// A user, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// The name.
    pub name: Name,
    /// The id; what counts.
    pub user_id: UserId,
    /// The newest record of the identity log.
    pub ident: Head,
    /// Whether a server admin. Only told to server admins.
    #[serde(default)]
    pub admin: bool,
}

/// What a link points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteInfo {
    /// The channel it leads into; absent for invites to the server alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelInfo>,
    /// The channel's control records so far, to be verified before joining; the first page of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ctl: Vec<Entry>,
    /// What the link's secret opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_box: Option<Blob>,
}

/// See [`Reply::Sessions`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Ordered by path.
    pub sessions: Vec<SessionInfo>,
    /// Whether there are more than an answer holds: those that are online were taken first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A session that is there, or was a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its address.
    pub path: SessionPath,
    /// Its user.
    pub user_id: UserId,
    /// Whether a connection exists right now; without one the session is in its lease.
    pub online: bool,
    /// When it came.
    pub since: UnixMs,
    /// Program and version, as it said of itself.
    #[serde(default)]
    pub agent: String,
}

/// See [`Reply::Users`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// Ordered by name.
    pub users: Vec<UserInfo>,
}

/// See [`Reply::ServerInvites`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInvites {
    /// Oldest first.
    pub invites: Vec<ServerInvite>,
}

/// An invite to the server alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInvite {
    /// Its id.
    pub invite: InviteId,
    /// Who minted it.
    pub minter: UserId,
    /// How many accounts it may still make.
    pub uses_left: u32,
    /// When it lapses.
    pub expires: UnixMs,
}

/// See [`Reply::Audit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The rows, ascending.
    pub rows: Vec<AuditRow>,
    /// The newest row's number.
    pub head: u64,
    /// The newest checkpoint, signed by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Blob>,
}

/// One row of the audit log. `hash = SHA-256(lp(prev) ‖ lp(entry))`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Its number, from 1.
    pub n: u64,
    /// The hash of the row before; zero for the first.
    pub prev: Hash,
    /// What happened, as JSON text: time, actor, action, target, request, digest.
    pub entry: String,
    /// This row's hash.
    pub hash: Hash,
}
