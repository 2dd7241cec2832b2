//! Searching what was said: on this machine, after the channel's past was brought here.

use super::Client;
use super::read::{PAGE, to_usize};
use crate::book::Verified;
use crate::error::ClientError;
use crate::item::FoundMessages;
use crate::replica::search::{Whispers, is_person, newest_hole, words};
use conclave_proto::channel_log::History;
use conclave_proto::id::{ChannelId, LogId, MailboxId};
use conclave_proto::time::UnixMs;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// The most entries of the past that one search brings here.
const FILL_MAX: u32 = 20_000;
/// How long it brings the past here at most: whoever asked waits; the next search goes on from there.
const FILL_TIME: Duration = Duration::from_secs(8);
/// The most messages that one search returns.
pub const FOUND_MAX: u32 = 200;

impl Client {
    /// Finds what was said, the best fits first: in one channel, or in all of this user's and in this
    /// session's whispers. Says whether everything that may be read was searched.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn search_history(
        &self,
        channel: Option<ChannelId>,
        query: &str,
        limit: u32,
    ) -> Result<FoundMessages, ClientError> {
        let mut found = FoundMessages {
            messages: Vec::new(),
            complete: true,
            since: None,
        };
        let words = words(query);
        if words.is_empty() {
            return Ok(found);
        }
        let channels = match channel {
            Some(channel) => vec![channel],
            None => self.own_channels().await?,
        };
        let mut budget = Budget {
            entries: FILL_MAX,
            until: Instant::now() + FILL_TIME,
        };
        for channel in &channels {
            let filled = match self.live() {
                Some(_) => self.fill(*channel, &mut budget).await,
                None => Ok(Filled::To(None)),
            };
            let since = match filled {
                Ok(Filled::Whole) => continue,
                Ok(Filled::To(since)) => since,
                Err(error) if super::items::is_away(&error) => None,
                Err(error) => return Err(error),
            };
            found.complete = false;
            found.since = found.since.max(since);
        }
        let limit = limit.clamp(1, FOUND_MAX);
        self.replica().index_messages().await?;
        let log = channel.map(LogId::Channel);
        let whispers = self.own_whispers(channel).await?;
        // The same words may lie in several logs.
        let all = self
            .replica()
            .find_messages(words, log, whispers, limit * 2)
            .await?;
        let mut seen = HashSet::new();
        let mine = |m: &Verified| match m.log {
            LogId::Channel(id) => channels.contains(&id),
            LogId::Mailbox(_) => true,
        };
        let once: Vec<Verified> = all
            .into_iter()
            .filter(mine)
            .filter(|m| seen.insert((m.user, m.id)))
            .take(to_usize(limit))
            .collect();
        found.messages = self.present(once).await?;
        Ok(found)
    }

    /// Returns the channels that this user is a member of: as the server says, else as is known here.
    async fn own_channels(&self) -> Result<Vec<ChannelId>, ClientError> {
        if self.live().is_some() {
            let listed = self.channels().await?.into_iter();
            let joined = listed.filter(|channel| channel.role.is_some());
            return Ok(joined.map(|channel| channel.channel).collect());
        }
        let known = self.known_channels().await?;
        Ok(known.iter().map(|channel| *channel.id()).collect())
    }

    async fn own_whispers(&self, channel: Option<ChannelId>) -> Result<Whispers, ClientError> {
        if channel.is_some() {
            return Ok(Whispers::None);
        }
        if is_person(self.info.handle.as_str()) {
            return Ok(Whispers::All);
        }
        let path = self.own_path().await?;
        let own = path.parse().map_err(|_| ClientError::Answer)?;
        let mailbox = MailboxId::of(&self.info.account.user_id, &own);
        Ok(Whispers::Of(path, LogId::Mailbox(mailbox)))
    }

    /// Brings the past of a channel here, the newest first, as far as the budget goes.
    async fn fill(&self, channel: ChannelId, budget: &mut Budget) -> Result<Filled, ClientError> {
        let log = LogId::Channel(channel);
        let head = self.head(log).await?;
        let mut history = None;
        loop {
            let parts = self.replica().filled(log).await?;
            let Some((first, last)) = newest_hole(&parts, head) else {
                return Ok(Filled::Whole);
            };
            if budget.is_spent() {
                let since = match parts.last() {
                    Some((first, end)) if *end >= head => Some(*first),
                    _ => None,
                };
                let since = match since {
                    Some(seq) => self.replica().at_of(log, seq).await?,
                    None => None,
                };
                return Ok(Filled::To(since));
            }
            let kept_from = match history {
                Some(history) => history,
                None => *history.insert(self.tip(channel).await?.history()),
            };
            let first = first.max(last.saturating_sub(u64::from(PAGE) - 1));
            budget.entries = budget.entries.saturating_sub(PAGE);
            let from = self.fill_part(channel, (first, last), kept_from).await?;
            self.replica().fill(log, from, last).await?;
        }
    }

    /// Reads a part of the past; returns from where on it is here. What the server does not keep, or
    /// does not show to who came later, need not be asked for again.
    async fn fill_part(
        &self,
        channel: ChannelId,
        (first, last): (u64, u64),
        history: History,
    ) -> Result<u64, ClientError> {
        let log = LogId::Channel(channel);
        let (mut after, mut some) = (first.saturating_sub(1), false);
        while after < last {
            let mut page = self.page(log, after, PAGE).await?;
            let mut reached = after;
            page.entries.retain(|entry| {
                let on = entry.seq > reached && entry.seq <= last;
                reached = reached.max(entry.seq);
                on
            });
            some |= !page.entries.is_empty();
            self.verify(channel, page.entries).await?;
            if page.next <= after {
                break;
            }
            after = page.next;
        }
        Ok(match history {
            History::SinceJoin if !some => 1,
            // What else the server says to lack is asked for all the same.
            History::SinceJoin | History::Full => first,
        })
    }
}

/// What one search may spend on bringing the past here.
struct Budget {
    entries: u32,
    until: Instant,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.entries == 0 || Instant::now() >= self.until
    }
}

/// How much of a channel's past is here.
enum Filled {
    /// All that may be read.
    Whole,
    /// What was stored from then on, if that is known.
    To(Option<UnixMs>),
}
