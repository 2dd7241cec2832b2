//! Reading: who is there, what was said, what the agent has not seen.

use super::{Channel, Client};
use crate::book::opened::Opened;
use crate::book::{Verdict, Verified};
use crate::error::ClientError;
use crate::event::{Age, NoticeKind, VerifiedMessage};
use crate::home::Account;
use crate::replica::feed::FeedInfo;
use conclave_proto::bytes::sha256;
use conclave_proto::channel_log::{ChannelLog, Identities as _, ParsedCtl};
use conclave_proto::entry::{Entry, EntryBody};
use conclave_proto::frame::op::{Read, Who};
use conclave_proto::frame::reply::{EntryPage, SessionInfo};
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{ChannelId, LogId, MailboxId, MsgId, UserId};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::name::{Name, SessionPath};
use std::collections::HashMap;

/// The most entries that one call reads.
pub const HISTORY_MAX: u32 = 2_000;

/// How many entries are asked for at once; the server gives what fits a frame.
const PAGE: u32 = 256;

/// The most pages that one call reads, whatever the server says of the rest.
const PAGES_MAX: u32 = 1_024;

/// How often one entry is judged again after something it needs was asked for.
const TRIES_MAX: u32 = 3;

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

    /// Finds a message that this machine has.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn message(&self, id: MsgId) -> Result<Option<VerifiedMessage>, ClientError> {
        let found = self.replica().message(id).await?;
        Ok(self.present(found.into_iter().collect()).await?.pop())
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

    async fn page(&self, log: LogId, after: u64, limit: u32) -> Result<EntryPage, ClientError> {
        let limit = limit.min(PAGE);
        match self.request(Op::Read(Read { log, after, limit })).await? {
            Reply::Page(page) => Ok(page),
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
            // The channel as it was before the page's first entry.
            let first = page
                .entries
                .first()
                .map_or(after, |entry| entry.seq.saturating_sub(1));
            let records = self.replica().ctl(log, first).await?;
            let state = self.with(move |core| core.book.rebuild(&records)).await??;
            let verified = self.verify(channel, state, page.entries).await?;
            found.extend(verified.into_iter().filter(Verified::is_message));
            after = page.next;
            if last {
                break;
            }
        }
        found.truncate(max);
        Ok(found)
    }

    /// Judges entries of the past one by one, by the channel as it was at each.
    async fn verify(
        &self,
        channel: ChannelId,
        mut state: Option<ChannelLog>,
        entries: Vec<Entry>,
    ) -> Result<Vec<Verified>, ClientError> {
        let mut found = Vec::new();
        let mut counters: HashMap<_, u64> = HashMap::new();
        let opened = self.open_all(&entries).await?;
        for (entry, mut opened) in entries.into_iter().zip(opened) {
            let mut tries = 0;
            loop {
                let (given, copy) = (state.take(), entry.clone());
                let (after, verdict);
                (after, verdict, opened) = self
                    .with(move |core| {
                        let (after, verdict) =
                            judge_past(&core.book, channel, given, &copy, &mut opened);
                        (after, verdict, opened)
                    })
                    .await?;
                state = after;
                match verdict {
                    Verdict::Message(message) => {
                        let last = counters.entry((message.key, message.sid)).or_default();
                        let rises = message.ctr > std::mem::replace(last, message.ctr.max(*last));
                        if rises && self.replica().keep_message((*message).clone()).await? {
                            found.push(*message);
                        } else {
                            let kind = NoticeKind::Replayed.as_str();
                            tracing::warn!(kind, seq = entry.seq, "entry refused");
                        }
                    }
                    Verdict::Need(crate::book::Need::Identity(user)) if tries < TRIES_MAX => {
                        tries += 1;
                        self.learn(user).await?;
                        continue;
                    }
                    Verdict::Need(crate::book::Need::Key(place)) if tries < TRIES_MAX => {
                        tries += 1;
                        self.fetch_keys_for(channel, Some(place.e)).await?;
                        continue;
                    }
                    Verdict::Refused(kind, _) => {
                        tracing::warn!(kind = kind.as_str(), seq = entry.seq, "entry refused");
                    }
                    Verdict::Ctl(_) | Verdict::Need(_) | Verdict::Nothing => {}
                }
                break;
            }
        }
        Ok(found)
    }

    /// Opens envelopes of the past, many at once; control records have nothing to open.
    async fn open_all(&self, entries: &[Entry]) -> Result<Vec<Option<Opened>>, ClientError> {
        let mut envs = Vec::new();
        let mut places = Vec::new();
        for (n, entry) in entries.iter().enumerate() {
            if let EntryBody::Env(env) = &entry.body {
                envs.push(env.clone());
                places.push(n);
            }
        }
        let mut all: Vec<Option<Opened>> = entries.iter().map(|_| None).collect();
        let opened = self
            .with(move |core| Opened::all(&envs, &core.book.keys))
            .await?;
        for (n, opened) in places.into_iter().zip(opened) {
            if let Some(place) = all.get_mut(n) {
                *place = Some(opened);
            }
        }
        Ok(all)
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

    async fn present(&self, found: Vec<Verified>) -> Result<Vec<VerifiedMessage>, ClientError> {
        self.with(move |core| {
            let messages = found.into_iter().filter(Verified::is_message);
            messages.map(|m| core.present(m, Age::History)).collect()
        })
        .await
    }
}

fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn judge_past(
    book: &crate::book::Book,
    channel: ChannelId,
    mut state: Option<ChannelLog>,
    entry: &Entry,
    opened: &mut Option<Opened>,
) -> (Option<ChannelLog>, Verdict) {
    let verdict = match &entry.body {
        EntryBody::Ctl(rec) => {
            // Read anew: it need not be what was verified when the channel was read to its end.
            let next = state.as_ref().map_or(0, |log| log.head().n + 1);
            // Judged by what was verified: a page may leave a record out, or show it elsewhere.
            let known = book.ctl_at(&channel, next) == Some((entry.seq, sha256(rec)));
            if !known {
                tracing::warn!(%channel, "a past control record is not the one that was verified");
            } else if let Ok(rec) = ParsedCtl::parse(rec).and_then(ParsedCtl::verify) {
                state = match state {
                    None => ChannelLog::start(entry.seq, entry.at, &rec, book).ok(),
                    Some(mut log) => {
                        if entry.seq > log.seq()
                            && let Err(error) = log.extend(entry.seq, entry.at, &rec, book)
                        {
                            tracing::warn!(%error, %channel, "a past control record does not fit");
                        }
                        Some(log)
                    }
                };
            }
            Verdict::Nothing
        }
        EntryBody::Env(_) => match (&state, opened) {
            (Some(log), Some(opened)) => {
                opened.retry(&book.keys);
                book.judge_env(log, entry, opened)
            }
            _ => Verdict::Nothing,
        },
        EntryBody::Unknown(_) => Verdict::Nothing,
    };
    (state, verdict)
}
