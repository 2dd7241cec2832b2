//! What is durable: the one vocabulary of change, what comes of each change, and the pages to read.
//!
//! A store decides inside the commit what only the commit can decide: the place in the log, whether
//! the message had been there before, the sender's counter, the version of a slot, the room in a
//! mailbox. It knows no users, roles or connections.

pub mod memory;
pub mod page;
pub mod row;
pub mod sqlite;

pub use page::PageBuilder;

use crate::audit::RequestId;
use conclave_proto::body::Head;
use conclave_proto::entry::Parsed;
use conclave_proto::frame::op::Wrap;
use conclave_proto::frame::reply::{AuditPage, EntryPage, EpochWrap};
use conclave_proto::id::{Blob, ChannelId, InviteId, LogId, MailboxId, UserId};
use conclave_proto::key::{HolderKey, InviteKey};
use conclave_proto::name::SessionPath;
use conclave_proto::time::UnixMs;

/// One durable change.
#[derive(Clone, Debug)]
pub enum Write {
    /// Append an envelope. [`Outcome`]: any of the appending ones.
    Append {
        /// To which log.
        log: LogId,
        /// The envelope.
        env: Box<Parsed>,
        /// How much may wait in the log unread, for mailboxes.
        bound: Option<Bound>,
    },
    /// Look for an envelope that may not be appended any more: if it was, its sender only lacks the
    /// answer. [`Outcome::Duplicate`] for the very same bytes, else [`Outcome::Done`].
    Recall {
        /// In which log.
        log: LogId,
        /// The envelope.
        env: Box<Parsed>,
    },
    /// Append a control record, which the hub has checked. [`Outcome::Appended`].
    Ctl {
        /// To which channel; its log is made by the first one.
        channel: ChannelId,
        /// The signed record.
        rec: Blob,
    },
    /// Append a record to an identity log.
    Ident {
        /// Whose.
        user: UserId,
        /// Its number.
        n: u64,
        /// The signed record.
        rec: Blob,
    },
    /// Make a session's mailbox.
    Mailbox {
        /// Which.
        mailbox: MailboxId,
        /// Whose user.
        user: UserId,
        /// Of which path.
        path: SessionPath,
    },
    /// Set what the server says of a user.
    Standing {
        /// Of whom.
        user: UserId,
        /// What.
        standing: Standing,
    },
    /// Put or replace an invite to the server; without uses it goes.
    ServerInvite(ServerInviteRow),
    /// Set how many accounts a channel invite has made.
    Redeemed {
        /// Which invite.
        invite: InviteId,
        /// How many.
        accounts: u32,
    },
    /// Keep what a joiner opens with the link's secret; `None` removes it.
    InviteBox {
        /// Which invite.
        invite: InviteId,
        /// The sealed box.
        sealed: Option<Blob>,
    },
    /// Put an announcement of an encryption key, unless the holder has one of this or a later
    /// generation.
    Announcement(AnnouncementRow),
    /// Put wraps of a channel's key; what is there stays.
    Wraps {
        /// Of which channel.
        channel: ChannelId,
        /// Of which epoch.
        e: u32,
        /// The wraps.
        wraps: Vec<Wrap>,
    },
    /// Throw away wraps that their holder could not open.
    Unwrap {
        /// Of which channel.
        channel: ChannelId,
        /// Whose.
        holder: HolderKey,
        /// Of which epochs.
        epochs: Vec<u32>,
    },
    /// Freeze or thaw a log.
    Freeze {
        /// Which.
        log: LogId,
        /// Whether nothing may be appended.
        frozen: bool,
    },
    /// Delete a log's entries for ever; its id stays taken.
    Delete {
        /// Which.
        log: LogId,
    },
    /// Remember how far a session has received a log. Never moves back.
    Cursor {
        /// Which log.
        log: LogId,
        /// The session: the id of its path's mailbox.
        reader: MailboxId,
        /// Everything up to here.
        seq: u64,
    },
    /// Append an audit row. [`Outcome::Audited`].
    Audit {
        /// What happened, as JSON text.
        entry: String,
    },
    /// Keep the newest audit checkpoint.
    Checkpoint {
        /// The signed record.
        rec: Blob,
    },
    /// Let old entries of a log go, at most `steps` of them. [`Outcome::Expired`].
    Expire {
        /// Which log.
        log: LogId,
        /// What was stored before this may go.
        before: UnixMs,
        /// How many entries to look at.
        steps: u32,
    },
}

/// How much may wait unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The mailbox's owner, whose cursor counts.
    pub reader: MailboxId,
    /// At most so many entries.
    pub items: u32,
    /// At most so many bytes.
    pub bytes: u64,
}

/// What the server says of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Is a server admin.
    pub admin: bool,
    /// Was removed, for ever.
    pub removed: bool,
}

/// An invite to the server alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerInviteRow {
    /// Its id.
    pub invite: InviteId,
    /// Its public key.
    pub key: InviteKey,
    /// Who minted it.
    pub minter: UserId,
    /// How many accounts it may still make.
    pub uses_left: u32,
    /// When it lapses.
    pub expires: UnixMs,
}

/// The newest announcement of a holder's encryption key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncementRow {
    /// Whose key: a machine, or an owner key.
    pub holder: HolderKey,
    /// Of which user that is.
    pub user: UserId,
    /// Which of the holder's keys.
    pub generation: u32,
    /// The signed record.
    pub rec: Blob,
}

/// What came of one [`Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// The entry has this place.
    Appended {
        /// In the log.
        seq: u64,
    },
    /// The same entry had been appended before; nothing was done.
    Duplicate {
        /// Its place.
        seq: u64,
        /// When it was stored.
        at: UnixMs,
    },
    /// The message id belongs to other bytes; nothing was done.
    IdReuse,
    /// The counter is not the sender's next one; nothing was done.
    CounterGap {
        /// The next one.
        expected: u64,
    },
    /// The slot has another version; nothing was done.
    VersionMismatch {
        /// The version it has; 0 if it does not exist.
        current: u64,
    },
    /// Too much waits unread; nothing was done.
    InboxFull,
    /// The log does not exist; nothing was done.
    NoLog,
    /// The audit row has this number and hash.
    Audited(Head),
    /// Old entries went.
    Expired {
        /// The first entry that was not looked at.
        oldest: u64,
        /// When that one was stored; `None` at the end of the log.
        at: Option<UnixMs>,
    },
}

/// Why a commit did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The disk is full; nothing was changed.
    #[error("the disk is full")]
    Full,
    /// Nothing was changed.
    #[error("the commit failed")]
    Failed(#[source] StoreError),
    /// It may have happened or not. The store must not be used any further.
    #[error("the outcome of the commit is unknown")]
    Unknown(#[source] StoreError),
}

/// The store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says no.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// What was read is not what was written.
    #[error("the database holds {0} that does not decode")]
    Corrupt(&'static str),
    /// The database was made by a newer version.
    #[error("the database has layout {found}, this program knows {known}")]
    Newer {
        /// Its layout.
        found: i64,
        /// The newest layout known here.
        known: i64,
    },
    /// The thread that owned the store is gone.
    #[error("the store has stopped")]
    Gone,
    /// A fault of a test.
    #[error("injected fault")]
    Injected,
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageQuery {
    /// Entries of a log after a seq, as many as one page holds and at most `limit`.
    Log {
        /// Which log.
        log: LogId,
        /// After this seq.
        after: u64,
        /// At most so many.
        limit: u32,
        /// All of them, or only some.
        select: Select,
    },
    /// Audit rows after a number.
    Audit {
        /// After this row.
        after: u64,
        /// At most so many.
        limit: u32,
    },
    /// One holder's wraps of a channel's keys, ascending by epoch, as many as one answer holds.
    Wraps {
        /// Of which channel.
        channel: ChannelId,
        /// Whose.
        holder: HolderKey,
        /// From this epoch on.
        from: u32,
    },
    /// How far sessions have received a log, at most [`CURSOR_ROWS_MAX`]: the farthest first, then by
    /// path.
    Cursors {
        /// Which log.
        log: LogId,
    },
}

/// Which entries of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// All.
    All,
    /// Control records only.
    Ctl,
    /// Of each slot and memory item its newest entry only.
    Items,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// Of a log.
    Entries(EntryPage),
    /// Of the audit log.
    Audit(AuditPage),
    /// Of a holder's wraps.
    Wraps(Vec<EpochWrap>),
    /// Of a log's cursors.
    Cursors(Vec<CursorRow>),
}

/// How far one session has received a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorRow {
    /// Of which user the session is.
    pub user: UserId,
    /// The session.
    pub path: SessionPath,
    /// Everything up to here.
    pub seq: u64,
}

/// Reads pages.
pub trait Read: Send {
    /// Reads one page of what is committed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn page(&mut self, query: &PageQuery) -> Result<Page, StoreError>;
}

/// A durable store. One thread owns it.
pub trait Store: Read {
    /// Does all of `writes` in order in one transaction, or nothing. Entries get the time `at`.
    ///
    /// # Errors
    /// [`CommitError`]; the outcomes are one for each write.
    fn commit(&mut self, at: UnixMs, writes: &[Write]) -> Result<Vec<Outcome>, CommitError>;

    /// Reads all that the hub keeps in memory. Does not touch messages.
    ///
    /// # Errors
    /// [`StoreError`].
    fn load(&mut self) -> Result<Snapshot, StoreError>;

    /// Opens a second view for another thread, so that reads do not delay commits; `None` if this
    /// kind of store has just one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn reader(&self) -> Result<Option<Box<dyn Read>>, StoreError>;

    /// Returns how many bytes may still be written where the store is; `None` if nobody knows.
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

/// How long the counter of a sender that says nothing is kept at least (30 days), however soon
/// messages go: receivers remember it, too.
const COUNTER_MS: u64 = 30 * 86_400_000;

/// How many cursors of one log are looked at.
pub const CURSOR_ROWS_MAX: usize = 4_096;

/// Among how many of the newest audit rows [`Snapshot::acts`] are looked for.
const ACT_ROWS: usize = 8_192;

/// All that the hub keeps in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Identity logs: records by user, ascending.
    pub idents: Vec<(UserId, Vec<Blob>)>,
    /// What the server says of users, where it says anything.
    pub standings: Vec<(UserId, Standing)>,
    /// Logs.
    pub logs: Vec<LogRow>,
    /// Control entries, by channel and seq.
    pub ctl: Vec<(ChannelId, u64, UnixMs, Blob)>,
    /// Invites to the server.
    pub invites: Vec<ServerInviteRow>,
    /// How many accounts channel invites have made.
    pub redeemed: Vec<(InviteId, u32)>,
    /// Boxes beside invites.
    pub boxes: Vec<(InviteId, Blob)>,
    /// The newest announcement of each holder.
    pub announcements: Vec<AnnouncementRow>,
    /// Who has a wrap of the newest epoch that there are wraps of, by channel.
    pub wrapped: Vec<(ChannelId, u32, HolderKey)>,
    /// The newest audit row; zeros if there is none.
    pub audit: Option<Head>,
    /// Requests of the newest acts of admins, and when they were carried out.
    pub acts: Vec<(RequestId, UnixMs)>,
    /// The newest checkpoint.
    pub checkpoint: Option<Blob>,
    /// When the newest entry was stored.
    pub at: UnixMs,
}

/// A log, without its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Which.
    pub log: LogId,
    /// Whose path, for mailboxes.
    pub path: Option<(UserId, SessionPath)>,
    /// The newest seq.
    pub head: u64,
    /// The oldest entry that retention has not looked at.
    pub oldest: u64,
    /// Nothing may be appended.
    pub frozen: bool,
    /// Its entries were deleted.
    pub deleted: bool,
}
