//! Reading: who is there, what was said, what the agent has not seen.

use super::{Channel, Client};
use crate::book::Verified;
use crate::error::ClientError;
use crate::event::{Age, VerifiedMessage};
use crate::home::Account;
use crate::replica::feed::FeedInfo;
use conclave_proto::channel_log::{ChannelLog, Identities as _};
use conclave_proto::frame::op::{Read, Who};
use conclave_proto::frame::reply::{EntryPage, SessionInfo};
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{ChannelId, LogId, MailboxId, MsgId, UserId};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::name::{Name, SessionPath};

/// The most entries that one call reads.
pub const HISTORY_MAX: u32 = 2_000;

/// How many entries are asked for at once; the server gives what fits a frame.
pub(crate) const PAGE: u32 = 256;

/// The most pages that one call reads, whatever the server says of the rest.
pub(crate) const PAGES_MAX: u32 = 1_024;

/// No log has a place like this: it would outlast the one who writes it.
pub(crate) const SEQ_END: u64 = 1 << 40;

/// Which part of a channel's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// The oldest messages after a place.
    After(u64),
    /// The newest messages.
    Last,
}

impl Client {
    /// Lists sessions: of a channel, or of everybody this user shares one with.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn who(&self, channel: Option<ChannelId>) -> Result<Vec<SessionInfo>, ClientError> {
        match self.request(Op::Who(Who { channel })).await? {
            Reply::Sessions(list) => Ok(list.sessions),
            _ => Err(ClientError::Answer),
        }
    }

    /// Reads verified messages of a channel, ascending, at most `max`; from the replica if the server
    /// cannot be reached. What does not verify is left out.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history(
        &self,
        channel: ChannelId,
        part: History,
        max: u32,
    ) -> Result<Vec<VerifiedMessage>, ClientError> {
        let max = max.min(HISTORY_MAX);
        let log = LogId::Channel(channel);
        let found = if self.live().is_some() {
            let tip = self.tip(channel).await?;
            match part {
                History::After(after) => self.read(&tip, after, max).await?,
                History::Last => self.read_last(&tip, max).await?,
            }
        } else {
            match part {
                History::After(after) => self.replica().messages_after(log, after, max).await?,
                History::Last => self.replica().messages_last(log, max).await?,
            }
        };
        self.present(found).await
    }

    /// Finds what was said under an id, as far as this machine has it: one of each sender, for an id is its
    /// sender's alone. If this session was shown some of it, only that.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn said_under(&self, id: MsgId) -> Result<Vec<VerifiedMessage>, ClientError> {
        let handle = self.info.handle.clone();
        let found = self.replica().said_under(handle, id).await?;
        self.present(found).await
    }

    /// Returns the channels that this user is a member of, as far as this machine knows. Asks nobody.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn known_channels(&self) -> Result<Vec<Channel>, ClientError> {
        let mut known = Vec::new();
        for log in self.replica().ctl_logs().await? {
            let records = self.replica().ctl(log, u64::MAX).await?;
            // What does not rebuild is fetched again when there is a connection.
            let rebuilt = self.with(move |core| core.book.rebuild(&records)).await?;
            if let Ok(Some(log)) = rebuilt {
                known.push(self.named(log).await?);
            }
        }
        let me = self.info.account.user_id;
        known.retain(|channel| channel.role(&me).is_some() && !channel.is_closed());
        Ok(known)
    }

    /// Returns a channel's name, as far as this machine knows it: open or sealed. Asks nobody.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn known_name(&self, channel: ChannelId) -> Result<Option<Name>, ClientError> {
        self.with(move |core| core.book.channel_name(&channel))
            .await
    }

    /// Returns a user's identity, as far as this machine knows it. Asks nobody.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn known_identity(&self, user: UserId) -> Result<Option<IdentityLog>, ClientError> {
        self.with(move |core| core.book.identity(&user).cloned())
            .await
    }

    /// Returns what peers said to this session and its agent has not seen, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unshown(&self, max: u32) -> Result<Vec<VerifiedMessage>, ClientError> {
        let (own, handle) = (self.own_path().await?, self.info.handle.clone());
        let found = self.replica().unshown(handle, own, max).await?;
        self.present(found).await
    }

    /// Returns how far this machine's handles have got, and what their agents have not seen. Asks nobody.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn feeds(&self) -> Result<Vec<FeedInfo>, ClientError> {
        let Account { user, machine, .. } = &self.info.account;
        Ok(self.replica().feeds(format!("{user}/{machine}")).await?)
    }

    /// Returns the newest seq of a log.
    pub(crate) async fn head(&self, log: LogId) -> Result<u64, ClientError> {
        Ok(self.page(log, u64::from(u32::MAX), 1).await?.head)
    }

    pub(crate) async fn page(
        &self,
        log: LogId,
        after: u64,
        limit: u32,
    ) -> Result<EntryPage, ClientError> {
        let limit = limit.min(PAGE);
        match self.request(Op::Read(Read { log, after, limit })).await? {
            Reply::Page(page) if is_sound(&page) => Ok(page),
            _ => Err(ClientError::Answer),
        }
    }

    async fn read_last(&self, tip: &ChannelLog, max: u32) -> Result<Vec<Verified>, ClientError> {
        let head = self.head(LogId::Channel(*tip.id())).await?;
        // Control records and items lie among the messages: look a little further back, then far back.
        let (wide, most) = (u64::from(max), to_usize(max));
        let mut found = Vec::new();
        let reaches = [
            wide + 16,
            wide.saturating_mul(4) + 256,
            wide.saturating_mul(16) + 4_096,
        ];
        for reach in reaches {
            let after = head.saturating_sub(reach);
            found = self.read(tip, after, HISTORY_MAX).await?;
            if found.len() >= most || after == 0 {
                break;
            }
        }
        Ok(found.split_off(found.len().saturating_sub(most)))
    }

    async fn read(
        &self,
        tip: &ChannelLog,
        mut after: u64,
        max: u32,
    ) -> Result<Vec<Verified>, ClientError> {
        let (channel, log) = (*tip.id(), LogId::Channel(*tip.id()));
        let (mut found, max) = (Vec::new(), to_usize(max));
        for _ in 0..PAGES_MAX {
            if found.len() >= max {
                break;
            }
            let mut page = self.page(log, after, PAGE).await?;
            let last = page.next >= page.head || page.next <= after;
            let mut reached = after;
            page.entries.retain(|entry| {
                let on = entry.seq > reached;
                reached = reached.max(entry.seq);
                on
            });
            let judged = self.verify(channel, page.entries).await?;
            found.extend(judged.found.into_iter().filter(Verified::is_message));
            after = page.next;
            if last {
                break;
            }
        }
        found.truncate(max);
        Ok(found)
    }

    /// Reads the newest whispers between this session and another one, both ways, oldest first, at most
    /// `max`. Only what this machine has: nobody else could open them.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::NotFound`] for a name nobody here has heard of.
    pub async fn whispers(
        &self,
        peer: &SessionPath,
        max: u32,
    ) -> Result<Vec<VerifiedMessage>, ClientError> {
        let user = self.find_user(&peer.user).await?;
        let Account {
            user: name,
            machine,
            user_id,
            ..
        } = &self.info.account;
        let me = SessionPath {
            user: name.clone(),
            machine: machine.clone(),
            handle: self.info.handle.clone(),
        };
        let mailbox = |user: &UserId, path: &SessionPath| LogId::Mailbox(MailboxId::of(user, path));
        let (own, theirs) = (mailbox(user_id, &me), mailbox(&user, peer));
        let found = self
            .replica()
            .whispers((me.to_string(), own), (peer.to_string(), theirs), max)
            .await?;
        self.present(found).await
    }

    pub(crate) async fn present(
        &self,
        found: Vec<Verified>,
    ) -> Result<Vec<VerifiedMessage>, ClientError> {
        self.with(move |core| {
            let messages = found.into_iter().filter(Verified::is_message);
            messages.map(|m| core.present(m, Age::History)).collect()
        })
        .await
    }
}

/// Returns whether a page has nothing beyond what it says there is.
pub(crate) fn is_sound(page: &EntryPage) -> bool {
    page.head < SEQ_END && page.entries.iter().all(|entry| entry.seq <= page.head)
}

pub(crate) fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
