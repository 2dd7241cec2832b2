//! When receipts are told, and when it is looked whether whispers were had.
//!
//! Both are errands beside the task; here are only their times, and what their ends mean.

use super::Core;
use super::errand::Errand;
use crate::error::ClientError;
use crate::event::Event;
use crate::pace::{Due, Pace};
use crate::replica::delivery::{Open, Step};
use conclave_proto::entry::Kind;
use conclave_proto::id::LogId;
use conclave_proto::name::CLI_HANDLE;
use conclave_proto::time::{Mono, UnixMs};

/// How long the first receipt that is due waits for others, in milliseconds.
const BATCH_MS: u64 = 500;
/// How long receipts rest that could not be told, in milliseconds.
const REST_MS: u64 = 5_000;
/// How long after its time a whisper is looked after first, in milliseconds: the server clears now and
/// then; then twice as long…
const GRACE_MS: u64 = 1_000;
/// …and at most this long…
const LOOK_MS_MAX: u64 = 30_000;
/// …until it should have been cleared so long ago: then once with each connection.
const CLEARED_MS: u64 = 10 * 60 * 1000;
/// How many logs one look asks about.
const LOGS_MAX: usize = 256;

/// What is due when: one slot a reason.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    receipts: Option<Mono>,
    /// When receipts that were held back are looked at again.
    held: Option<Mono>,
    pace: Pace,
    look: Option<Mono>,
    /// How often it was looked in vain.
    looks: u32,
    /// Nobody has looked since the connection came.
    fresh: bool,
}

/// What a look after whispers asks about, and when the next one is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) logs: Vec<LogId>,
    /// In so many milliseconds the next one lapses.
    next: Option<u64>,
    /// Some have lapsed and may not be cleared yet.
    again: bool,
}

impl Look {
    /// Plans a look at `now`, with the first one of a connection at everything. `open` is in order of time;
    /// whispers are kept for `kept_ms`, zero is for ever. What lapsed long ago and has no fate yet will
    /// have none: it keeps nothing else from being looked after.
    pub(crate) fn plan(open: &[Open], kept_ms: u64, now: UnixMs, fresh: bool) -> Self {
        let lapses = |open: &Open| (kept_ms > 0).then(|| open.at.plus(kept_ms));
        let is_due = |open: &&Open| lapses(open).is_some_and(|at| at <= now);
        let lately = |open: &&Open| lapses(open).is_some_and(|at| now.since(at) < CLEARED_MS);
        let due = open.iter().filter(is_due);
        let left = open.iter().filter(|open| !is_due(open));
        let again = due.clone().any(|open| lately(&open));
        let next = left.clone().find_map(lapses).map(|at| at.since(now));
        // The newest of the past first: of those it is likely that there is something to hear.
        let past = due.rev().filter(|open| fresh || lately(open));
        let mut logs = Vec::new();
        for open in past.chain(left.filter(|_| fresh)) {
            if logs.len() < LOGS_MAX && !logs.contains(&open.log) {
                logs.push(open.log);
            }
        }
        Self { logs, next, again }
    }
}

impl Deliveries {
    pub(super) fn next_due(&self) -> Option<Mono> {
        let receipts = self.receipts.into_iter().chain(self.held);
        receipts.chain(self.look).min()
    }
}

impl Core {
    /// Starts over with a connection.
    pub(super) fn look_after_deliveries(&mut self) {
        // One-shots have no mailbox, and are gone before anything lapses.
        if self.handle.as_str() != CLI_HANDLE {
            self.deliveries.looks = 0;
            self.deliveries.fresh = true;
            self.errand(Errand::Receipts);
            self.errand(Errand::Look);
        }
    }

    /// Tells senders soon that their messages were shown.
    pub(crate) fn receipts_soon(&mut self) {
        self.receipts_in(BATCH_MS);
    }

    /// Takes of the receipts that are due what may be told now; the rest is looked at again in time.
    pub(crate) fn pace_receipts(&mut self, due: Due) -> Due {
        let now = self.driver.now().mono;
        let plan = self.deliveries.pace.plan(now, due);
        self.deliveries.held = plan.rest_ms.map(|ms| now.plus(ms));
        plan.now
    }

    fn receipts_in(&mut self, wait_ms: u64) {
        let due = self.driver.now().mono.plus(wait_ms);
        self.deliveries.receipts.get_or_insert(due);
    }

    /// Returns what to ask about now.
    pub(crate) fn begin_look(&mut self, open: &[Open], kept_ms: u64) -> Look {
        let fresh = std::mem::take(&mut self.deliveries.fresh);
        Look::plan(open, kept_ms, self.server_now(), fresh)
    }

    /// Plans the next look by what is open after one.
    pub(crate) fn end_look(&mut self, open: &[Open], kept_ms: u64) {
        let Look { next, again, .. } = Look::plan(open, kept_ms, self.server_now(), false);
        self.deliveries.looks = match again {
            true => self.deliveries.looks.saturating_add(1),
            false => 0,
        };
        if again {
            self.look_in((GRACE_MS << self.deliveries.looks.min(5)).min(LOOK_MS_MAX));
        }
        if let Some(left) = next {
            self.look_in(left.saturating_add(GRACE_MS));
        }
    }

    fn look_in(&mut self, wait_ms: u64) {
        let due = self.driver.now().mono.plus(wait_ms);
        let look = self.deliveries.look.map_or(due, |look| look.min(due));
        self.deliveries.look = Some(look);
    }

    /// Starts what is due.
    pub(super) fn deliveries_due(&mut self) {
        let now = self.driver.now().mono;
        let due = |at: &mut Mono| *at <= now;
        let soon = self.deliveries.receipts.take_if(due).is_some();
        let held = self.deliveries.held.take_if(due).is_some();
        if soon || held {
            self.errand(Errand::Receipts);
        }
        if self.deliveries.look.take_if(due).is_some() {
            self.errand(Errand::Look);
        }
    }

    /// Takes the end of telling receipts; `more`: some became due meanwhile.
    pub(super) fn receipts_told(&mut self, told: bool, more: bool) {
        if !told {
            self.receipts_in(REST_MS);
        } else if more {
            self.receipts_in(BATCH_MS);
        }
    }

    /// Takes the end of a draft.
    pub(super) async fn draft_ended(&mut self, kind: Kind, stored: bool) {
        match (kind, stored, &self.ready) {
            (Kind::Whisper, true, Some(ready)) => match ready.limits.whisper_retention_ms {
                0 => {}
                kept => self.look_in(kept.saturating_add(GRACE_MS)),
            },
            (Kind::Message | Kind::Whisper, false, _) => self.tell_deliveries().await,
            _ => {}
        }
    }

    /// Tells what became of this session's messages, once each step.
    pub(crate) async fn tell_deliveries(&mut self) {
        if let Err(error) = self.delivered().await {
            tracing::warn!(%error, "what became of messages cannot be read");
        }
    }

    async fn delivered(&mut self) -> Result<(), ClientError> {
        for news in self.replica.news(self.handle.clone()).await? {
            let (id, peer, step) = (news.id, news.peer, news.step);
            self.tell(match step {
                Step::Expired => Event::Bounced {
                    id,
                    peer,
                    at: news.created,
                },
                _ => Event::Delivery { id, peer, step },
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_proto::id::MailboxId;

    const KEPT: u64 = 1_000_000;

    fn log(n: u8) -> LogId {
        LogId::Mailbox(MailboxId::new([n; MailboxId::LEN]))
    }

    fn plan(
        open: &[(u8, u64)],
        kept: u64,
        now: u64,
        fresh: bool,
    ) -> (Vec<LogId>, Option<u64>, bool) {
        let open = open.iter().map(|(n, at)| Open {
            log: log(*n),
            at: UnixMs(*at),
        });
        let look = Look::plan(&open.collect::<Vec<_>>(), kept, UnixMs(now), fresh);
        (look.logs, look.next, look.again)
    }

    #[test]
    fn what_never_gets_a_fate_keeps_nothing_else_from_being_looked_after() {
        // The first one lapsed long ago, the second just now, the others will.
        let open = [(1, 0), (2, 700_000), (1, 900_000), (3, 950_000)];
        let now = 700_000 + KEPT;
        assert_eq!(
            plan(&open, KEPT, now, false),
            (vec![log(2)], Some(200_000), true)
        );
        let all = vec![log(2), log(1), log(3)];
        assert_eq!(plan(&open, KEPT, now, true), (all, Some(200_000), true));
        // Long after, nothing is asked until the next connection.
        let later = now + 10 * CLEARED_MS;
        assert_eq!(plan(&open[..2], KEPT, later, false), (vec![], None, false));
        assert_eq!(plan(&open[..2], KEPT, later, true).0, [log(2), log(1)]);
    }

    #[test]
    fn what_is_kept_for_ever_never_lapses() {
        assert_eq!(plan(&[(1, 5)], 0, u64::MAX, false), (vec![], None, false));
        assert_eq!(
            plan(&[(1, 5)], 0, u64::MAX, true),
            (vec![log(1)], None, false)
        );
    }
}
