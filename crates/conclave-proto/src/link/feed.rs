//! Followed logs of a link: what was received, what was stored, and which subscriptions are due.

use crate::entry::Entry;
use crate::frame::client::Cursor;
use crate::frame::event::Entries;
use crate::frame::reply::Gap;
use crate::id::LogId;
use crate::limit::SUBSCRIPTIONS_MAX;
use std::collections::{BTreeMap, VecDeque};

/// Where a subscription stands on the present socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sub {
    Wanted,
    /// Asked for with this request id. What does not fit is still from an earlier subscription.
    Asked(u64),
    Live,
}

/// One followed log. Invariant: `stored <= received`.
#[derive(Debug)]
struct Feed {
    /// Everything up to here went up.
    received: u64,
    /// Everything up to here is in the replica.
    stored: u64,
    /// Whether the server should be told of `stored`.
    ack_due: bool,
    sub: Sub,
}

impl Feed {
    const fn hole(&self, expected: u64, got: u64) -> Accepted {
        match self.sub {
            Sub::Live => Accepted::Hole { expected, got },
            Sub::Wanted | Sub::Asked(_) => Accepted::Nothing,
        }
    }
}

/// What the server has to be asked for, in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    Follow { log: LogId, after: u64 },
    Unfollow { log: LogId },
}

/// What a batch of entries is worth.
#[derive(Debug)]
pub(super) enum Accepted {
    Nothing,
    New(Vec<Entry>, Option<Gap>),
    Hole { expected: u64, got: u64 },
}

#[derive(Debug, Default)]
pub(super) struct Feeds {
    logs: BTreeMap<LogId, Feed>,
    asks: VecDeque<Ask>,
    /// Entries stored since the last ack.
    unacked: u64,
}

impl Feeds {
    /// Follows a log from `after`; false if there are too many.
    pub(super) fn follow(&mut self, log: LogId, after: u64) -> bool {
        if self.logs.len() >= SUBSCRIPTIONS_MAX && !self.logs.contains_key(&log) {
            return false;
        }
        let feed = Feed {
            received: after,
            stored: after,
            ack_due: after > 0,
            sub: Sub::Wanted,
        };
        let same = |old: &Feed| old.received == after;
        if !self.logs.get(&log).is_some_and(same) {
            self.logs.insert(log, feed);
            self.asks.push_back(Ask::Follow { log, after });
        }
        true
    }

    pub(super) fn unfollow(&mut self, log: LogId) {
        if self.logs.remove(&log).is_some() {
            self.asks.push_back(Ask::Unfollow { log });
        }
    }

    /// Forgets a log whose subscription was refused.
    pub(super) fn forget(&mut self, log: LogId) {
        self.logs.remove(&log);
    }

    /// Forgets a log whose subscription the server ended; false if it was not the present one.
    pub(super) fn ended(&mut self, log: LogId) -> bool {
        let live = self.logs.get(&log).is_some_and(|f| f.sub == Sub::Live);
        live && self.logs.remove(&log).is_some()
    }

    /// The socket is gone: every followed log has to be asked for again, from where it stands.
    pub(super) fn down(&mut self) {
        self.asks.clear();
        for feed in self.logs.values_mut() {
            feed.sub = Sub::Wanted;
            feed.ack_due = feed.stored > 0;
        }
        self.release();
    }

    /// Returns the next thing to ask for, as things stand now.
    pub(super) fn next_ask(&mut self) -> Option<Ask> {
        loop {
            match self.asks.pop_front()? {
                Ask::Follow { log, .. } => match self.logs.get(&log) {
                    Some(feed) if feed.sub == Sub::Wanted => {
                        let after = feed.received;
                        return Some(Ask::Follow { log, after });
                    }
                    Some(_) | None => {}
                },
                // Followed anew since: the new subscription takes the old one's place.
                Ask::Unfollow { log } if self.logs.contains_key(&log) => {}
                ask @ Ask::Unfollow { .. } => return Some(ask),
            }
        }
    }

    /// The subscription was asked for with this request id.
    pub(super) fn asked(&mut self, log: LogId, id: u64) {
        if let Some(feed) = self.logs.get_mut(&log) {
            feed.sub = Sub::Asked(id);
        }
    }

    /// Ask `id` was refused for now: it is due again with [`Self::release`].
    pub(super) fn hold(&mut self, log: LogId, id: u64) {
        if let Some(feed) = self.logs.get_mut(&log)
            && feed.sub == Sub::Asked(id)
        {
            feed.sub = Sub::Wanted;
        }
    }

    /// Makes everything due that is wanted and not asked for.
    pub(super) fn release(&mut self) {
        for (log, feed) in &self.logs {
            if feed.sub == Sub::Wanted {
                self.asks.push_back(Ask::Follow {
                    log: *log,
                    after: feed.received,
                });
            }
        }
    }

    /// Ask `id` was granted; returns what was received before if the server's log ends earlier.
    pub(super) fn granted(&mut self, log: LogId, id: u64, head: u64) -> Result<(), u64> {
        if let Some(feed) = self.logs.get_mut(&log)
            && feed.sub == Sub::Asked(id)
        {
            feed.sub = Sub::Live;
            if head < feed.received {
                return Err(feed.received);
            }
        }
        Ok(())
    }

    /// Returns whether ask `id` is the one that counts.
    pub(super) fn is_asked(&self, log: LogId, id: u64) -> bool {
        self.logs
            .get(&log)
            .is_some_and(|feed| feed.sub == Sub::Asked(id))
    }

    /// Takes entries in: only what continues the log is new.
    pub(super) fn accept(&mut self, batch: Entries) -> (LogId, Accepted) {
        let Entries { log, entries, gap } = batch;
        let Some(feed) = self.logs.get_mut(&log) else {
            return (log, Accepted::Nothing);
        };
        let mut at = feed.received;
        let gap = gap.filter(|gap| gap.to > at);
        let mut new = Vec::new();
        for entry in entries {
            if entry.seq <= at {
                continue;
            }
            let expected = at.saturating_add(1);
            let covered = gap
                .as_ref()
                .is_some_and(|gap| gap.from <= expected && entry.seq <= gap.to.saturating_add(1));
            if entry.seq != expected && !covered {
                return (log, feed.hole(expected, entry.seq));
            }
            at = entry.seq;
            new.push(entry);
        }
        if let Some(gap) = gap.as_ref() {
            let (expected, got) = (at.saturating_add(1), gap.from);
            if got > expected {
                return (log, feed.hole(expected, got));
            }
            at = at.max(gap.to);
        }
        if at == feed.received {
            return (log, Accepted::Nothing);
        }
        feed.received = at;
        (log, Accepted::New(new, gap))
    }

    /// The replica has `log` up to `seq`; returns how many entries await an ack.
    pub(super) fn stored(&mut self, log: LogId, seq: u64) -> u64 {
        if let Some(feed) = self.logs.get_mut(&log) {
            let seq = seq.min(feed.received);
            self.unacked = self.unacked.saturating_add(seq.saturating_sub(feed.stored));
            if seq > feed.stored {
                feed.stored = seq;
                feed.ack_due = true;
            }
        }
        self.unacked
    }

    /// Returns whether a live subscription has an ack due.
    pub(super) fn ack_due(&self) -> bool {
        self.logs.values().any(|f| f.ack_due && f.sub == Sub::Live)
    }

    /// Takes what is to be acknowledged.
    pub(super) fn take_acks(&mut self) -> Vec<Cursor> {
        self.unacked = 0;
        let due = |(_, feed): &(&LogId, &mut Feed)| feed.ack_due && feed.sub == Sub::Live;
        self.logs
            .iter_mut()
            .filter(due)
            .map(|(log, feed)| {
                feed.ack_due = false;
                let (log, seq) = (*log, feed.stored);
                Cursor { log, seq }
            })
            .collect()
    }
}
