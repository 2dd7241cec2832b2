//! When receipts are told, and when it is looked whether whispers were had.
//!
//! Both are errands beside the task; here are only their times, and what their ends mean.

use super::Core;
use super::errand::Errand;
use crate::error::ClientError;
use crate::event::Event;
use crate::pace::{Due, Pace};
use crate::replica::delivery::Step;
use conclave_proto::entry::Kind;
use conclave_proto::name::CLI_HANDLE;
use conclave_proto::time::Mono;

/// How long the first receipt that is due waits for others, in milliseconds.
const BATCH_MS: u64 = 500;
/// How long receipts rest that could not be told, in milliseconds.
const REST_MS: u64 = 5_000;
/// How long after its time a whisper is looked after first, in milliseconds: the server clears now and
/// then; then twice as long…
const GRACE_MS: u64 = 1_000;
/// …and at most this long…
const LOOK_MS_MAX: u64 = 30_000;
/// …so often in vain, until the next connection.
const LOOKS_MAX: u32 = 32;

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

    /// Plans the next look after whispers: the oldest lapses so long from now, or should have lapsed.
    pub(crate) fn look_in(&mut self, left_ms: u64) {
        let wait = match left_ms {
            0 if self.deliveries.looks >= LOOKS_MAX => return,
            0 => {
                self.deliveries.looks += 1;
                (GRACE_MS << self.deliveries.looks.min(5)).min(LOOK_MS_MAX)
            }
            left => left.saturating_add(GRACE_MS),
        };
        let due = self.driver.now().mono.plus(wait);
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
            (Kind::Whisper, true, Some(ready)) => self.look_in(ready.limits.whisper_retention_ms),
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
