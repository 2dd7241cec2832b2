//! Judging entries of the past: by the channel as it was at each of them.

use super::Client;
use super::read::PAGE;
use crate::book::opened::Opened;
use crate::book::{Book, Need, Unreadable, Verdict, Verified};
use crate::error::ClientError;
use crate::replica::search::joined;
use conclave_proto::bytes::sha256;
use conclave_proto::channel_log::{ChannelLog, ParsedCtl};
use conclave_proto::entry::{Entry, EntryBody};
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::key::MachineKey;
use std::collections::HashMap;

/// How often one thing is asked for that a page of entries needs.
const TRIES_MAX: usize = 2;
/// How far back from an entry of a claim one reads to find out what it builds on.
const HOLE_MAX: u64 = 4_096;
/// How much is read for all entries that came at once.
const HOLES_MAX: u64 = 4 * HOLE_MAX;

/// Entries of a channel under judgement.
struct Trial {
    channel: ChannelId,
    /// The channel as it was before the next entry.
    state: Option<ChannelLog>,
    entries: Vec<(Entry, Option<Opened>)>,
    next: usize,
    counters: HashMap<(MachineKey, [u8; 8]), u64>,
    judged: Judged,
}

/// What a judgement came to.
#[derive(Default)]
pub(crate) struct Judged {
    /// What is believed.
    pub(crate) found: Vec<Verified>,
    /// State items that cannot be read here.
    unreadable: Vec<Unreadable>,
    /// The first place whose entry could not be judged because of something that may still come.
    pub(crate) open: Option<u64>,
}

impl Client {
    /// Judges entries of the past, ascending, and keeps those that are believed; control records are
    /// among them.
    pub(crate) async fn verify(
        &self,
        channel: ChannelId,
        entries: Vec<Entry>,
    ) -> Result<Judged, ClientError> {
        let judged = self.judge_past(channel, entries).await?;
        // Who holds what does not depend on which entries were shown first.
        let log = LogId::Channel(channel);
        let holes = self
            .replica()
            .claim_holes(log, &judged.found, &judged.unreadable)
            .await?;
        for part in parts(holes) {
            self.read_part(channel, part).await?;
        }
        self.keep_past(channel, judged).await
    }

    /// Reads what lies between two places, in order, and keeps it.
    async fn read_part(
        &self,
        channel: ChannelId,
        (mut after, before): (u64, u64),
    ) -> Result<(), ClientError> {
        while after + 1 < before {
            let mut page = self.page(LogId::Channel(channel), after, PAGE).await?;
            page.entries.retain(|entry| entry.seq < before);
            let judged = self.judge_past(channel, page.entries).await?;
            self.keep_past(channel, judged).await?;
            if page.next <= after {
                break;
            }
            after = page.next;
        }
        Ok(())
    }

    async fn keep_past(
        &self,
        channel: ChannelId,
        mut judged: Judged,
    ) -> Result<Judged, ClientError> {
        let found = std::mem::take(&mut judged.found);
        judged.found = self.replica().keep_messages(found).await?;
        if !judged.unreadable.is_empty() {
            let (log, shut) = (LogId::Channel(channel), judged.unreadable.clone());
            self.replica().keep_unreadable(log, shut).await?;
        }
        Ok(judged)
    }

    async fn judge_past(
        &self,
        channel: ChannelId,
        entries: Vec<Entry>,
    ) -> Result<Judged, ClientError> {
        let Some(first) = entries.first().map(|entry| entry.seq) else {
            return Ok(Judged::default());
        };
        let log = LogId::Channel(channel);
        let records = self.replica().ctl(log, first.saturating_sub(1)).await?;
        let state = self.with(move |core| core.book.rebuild(&records)).await??;
        let entries = self.open_all(entries).await?;
        let mut trial = Trial {
            channel,
            state,
            entries,
            next: 0,
            counters: HashMap::new(),
            judged: Judged::default(),
        };
        let mut asked: Vec<Need> = Vec::new();
        loop {
            let need;
            (trial, need) = self
                .with(move |core| {
                    let need = trial.go_on(&core.book);
                    (trial, need)
                })
                .await?;
            let Some(need) = need else {
                break;
            };
            let known = match &need {
                _ if asked.iter().filter(|n| **n == need).count() >= TRIES_MAX => false,
                Need::Identity(user) => self.learn(*user).await.map(|_| true)?,
                Need::Key(place) => {
                    let fetched = self.fetch_keys_for(channel, Some(place.e)).await;
                    fetched.map(|()| true)?
                }
                Need::User(_) | Need::Own(_) => false,
            };
            if !known {
                let copy = need.clone();
                let may_come = self.with(move |core| core.book.may_come(&copy)).await?;
                trial.skip(may_come);
            }
            asked.push(need);
        }
        Ok(trial.judged)
    }

    /// Judges items, which come without the control records that stand between them.
    pub(crate) async fn verify_items(
        &self,
        channel: ChannelId,
        mut entries: Vec<Entry>,
    ) -> Result<Judged, ClientError> {
        entries.retain(|entry| matches!(entry.body, EntryBody::Env(_)));
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(Judged::default());
        };
        let (first, last) = (first.seq, last.seq);
        let records = self.replica().ctl(LogId::Channel(channel), last).await?;
        let between = records.into_iter().filter(|(seq, ..)| *seq >= first);
        entries.extend(between.map(|(seq, at, rec)| Entry {
            seq,
            at,
            body: EntryBody::Ctl(rec),
        }));
        entries.sort_by_key(|entry| entry.seq);
        self.verify(channel, entries).await
    }

    /// Opens envelopes of the past, many at once; control records have nothing to open.
    async fn open_all(
        &self,
        entries: Vec<Entry>,
    ) -> Result<Vec<(Entry, Option<Opened>)>, ClientError> {
        let envs: Vec<_> = entries
            .iter()
            .filter_map(|entry| match &entry.body {
                EntryBody::Env(env) => Some(env.clone()),
                EntryBody::Ctl(_) | EntryBody::Unknown(_) => None,
            })
            .collect();
        let mut opened = self
            .with(move |core| Opened::all(&envs, &core.book.keys))
            .await?
            .into_iter();
        Ok(entries
            .into_iter()
            .map(|entry| match &entry.body {
                EntryBody::Env(_) => (entry, opened.next()),
                EntryBody::Ctl(_) | EntryBody::Unknown(_) => (entry, None),
            })
            .collect())
    }
}

impl Trial {
    /// Judges entries up to the first that needs something.
    fn go_on(&mut self, book: &Book) -> Option<Need> {
        while let Some((entry, opened)) = self.entries.get_mut(self.next) {
            let given = self.state.take();
            let verdict;
            (self.state, verdict) = judge_past(book, self.channel, given, entry, opened);
            match verdict {
                Verdict::Message(message) => {
                    let sender = (message.key, message.sid);
                    let last = self.counters.entry(sender).or_default();
                    if message.ctr > std::mem::replace(last, message.ctr.max(*last)) {
                        self.judged.found.push(*message);
                    } else {
                        tracing::warn!(kind = "replayed", seq = entry.seq, "entry refused");
                    }
                }
                Verdict::Need(need) => return Some(need),
                Verdict::Refused(kind, _) => {
                    tracing::warn!(kind = kind.as_str(), seq = entry.seq, "entry refused");
                    let opened = opened.as_ref();
                    let shut = opened.and_then(|o| Unreadable::of(entry, o, Some(kind)));
                    self.judged.unreadable.extend(shut);
                }
                Verdict::Ctl(_) | Verdict::Nothing => {}
            }
            self.next += 1;
        }
        None
    }

    /// Goes past an entry that needs what cannot be had now.
    fn skip(&mut self, may_come: bool) {
        if let Some((entry, opened)) = self.entries.get(self.next) {
            let opened = opened.as_ref();
            let shut = opened.and_then(|opened| Unreadable::of(entry, opened, None));
            self.judged.unreadable.extend(shut);
            if may_come {
                self.judged.open.get_or_insert(entry.seq);
            }
        }
        self.next += 1;
    }
}

/// Returns which parts of a log to read to fill holes: what is nearest to their newer ends, the newest
/// holes first, as far as the bound goes; ascending.
fn parts(holes: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let near = |(after, before): (u64, u64)| (after.max(before.saturating_sub(HOLE_MAX)), before);
    let mut left = HOLES_MAX;
    let mut parts = joined(holes.into_iter().map(near).collect());
    parts.reverse();
    parts.retain_mut(|(after, before)| {
        *after = (*after).max(before.saturating_sub(left));
        left -= *before - *after;
        after < before
    });
    parts.reverse();
    parts
}

fn judge_past(
    book: &Book,
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
