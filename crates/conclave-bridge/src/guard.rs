//! The loop guard: causal depth, budgets that refill by time, and the two-party breaker.
//!
//! It bounds what a fooled or polite pair of agents can cost. It never blocks reading, and every
//! refusal says when to try again. Deep content checks are not here.

use crate::trust::HOP_MAX;
use conclave_proto::body::Priority;
use conclave_proto::id::MsgId;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Mono;
use std::collections::{BTreeMap, VecDeque};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Sends in five minutes, in a day, and in one conversation within an hour (DECISIONS 32).
const SESSION: Budget = Budget::new(60, 5 * MINUTE_MS);
const DAY: Budget = Budget::new(2_000, 24 * HOUR_MS);
const ROOT: Budget = Budget::new(40, HOUR_MS);

/// So many messages without content between two sessions open the breaker, for so long.
const POLITE_MAX: u32 = 8;
const BREAKER_MS: u64 = 10 * MINUTE_MS;

/// The most conversations and partners remembered; the oldest are forgotten first.
const REMEMBERED_MAX: usize = 1_024;

/// So many in so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    tokens: u64,
    refill_ms: u64,
}

impl Budget {
    pub(crate) const fn new(tokens: u64, refill_ms: u64) -> Self {
        Self { tokens, refill_ms }
    }
}

/// A bucket that refills evenly; levels are kept in token-milliseconds, so that nothing is rounded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    budget: Budget,
    level: u64,
    at: Mono,
}

impl Bucket {
    pub(crate) const fn full(budget: Budget, now: Mono) -> Self {
        Self {
            budget,
            level: budget.tokens * budget.refill_ms,
            at: now,
        }
    }

    /// Returns how long until there is a token; 0 if there is one.
    pub(crate) fn wait_ms(&mut self, now: Mono) -> u64 {
        self.wait_for(now, 1)
    }

    /// Returns how long until there are so many tokens; 0 if they are there.
    pub(crate) fn wait_for(&mut self, now: Mono, wanted: u64) -> u64 {
        let Budget { tokens, refill_ms } = self.budget;
        let gained = now.since(self.at).saturating_mul(tokens);
        self.level = self.level.saturating_add(gained).min(tokens * refill_ms);
        self.at = now;
        let needed = refill_ms.saturating_mul(wanted.min(tokens));
        needed.saturating_sub(self.level).div_ceil(tokens)
    }

    pub(crate) const fn take(&mut self, tokens: u64) {
        self.level = self
            .level
            .saturating_sub(tokens.saturating_mul(self.budget.refill_ms));
    }
}

/// What is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The causal depth it would have.
    pub hop: u8,
    /// The first message of its conversation, if it answers one.
    pub root: Option<MsgId>,
    /// Who it is whispered to.
    pub whispers: &'a [&'a SessionPath],
    /// How much it costs: see [`cost`].
    pub units: u64,
    /// The words.
    pub text: &'a str,
}

/// Returns what a call costs: one unit for what it says in channels and one for each whisper, and two
/// more if it interrupts.
#[must_use]
pub fn cost(channels: usize, whispers: usize, priority: Priority) -> u64 {
    let said = u64::try_from(whispers).unwrap_or(u64::MAX);
    let said = said.saturating_add(u64::from(channels > 0)).max(1);
    match priority {
        Priority::Now => said.saturating_add(2),
        Priority::Next | Priority::Low => said,
    }
}

/// The guard of one agent session.
#[derive(Debug)]
pub struct Guard {
    session: Bucket,
    day: Bucket,
    roots: Recent<MsgId, Bucket>,
    polite: Recent<SessionPath, Polite>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Polite {
    count: u32,
    open_until: Option<Mono>,
}

impl Guard {
    /// Starts with full budgets.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self {
            session: Bucket::full(SESSION, now),
            day: Bucket::full(DAY, now),
            roots: Recent::default(),
            polite: Recent::default(),
        }
    }

    /// Returns the depth of an answer to a message of depth `parent`; without a parent 0.
    #[must_use]
    pub fn hop(parent: Option<u8>) -> u8 {
        parent.map_or(0, |hop| hop.saturating_add(1))
    }

    /// Charges a send, or says which bound it would break and when to try again.
    ///
    /// # Errors
    /// `hop_limit` or `rate_limited`.
    pub fn send(&mut self, now: Mono, out: Outgoing<'_>) -> Result<(), Reject> {
        if out.hop > HOP_MAX {
            let text = "this answer is too deep in a chain of agents answering agents";
            return Err(Reject::new(Code::HopLimit, text));
        }
        for path in out.whispers {
            let polite = self.polite.entry(*path, Polite::default);
            if let Some(until) = polite.open_until.filter(|until| now < *until) {
                let text = "you and this peer exchanged 8 messages without content; say nothing";
                return Err(limited(text, until.since(now)));
            }
        }
        let root = out
            .root
            .map(|root| self.roots.entry(&root, || Bucket::full(ROOT, now)));
        let mut buckets = [
            (
                Some(&mut self.session),
                "60 messages in 5 minutes are the most",
            ),
            (Some(&mut self.day), "2000 messages in a day are the most"),
            (
                root,
                "40 messages in one conversation within an hour are the most",
            ),
        ];
        for (bucket, text) in &mut buckets {
            let wait = bucket
                .as_mut()
                .map_or(0, |bucket| bucket.wait_for(now, out.units));
            if wait > 0 {
                return Err(limited(text, wait));
            }
        }
        buckets
            .into_iter()
            .filter_map(|(bucket, _)| bucket)
            .for_each(|bucket| bucket.take(out.units));
        for path in out.whispers {
            self.exchanged(now, path, out.text);
        }
        Ok(())
    }

    /// Notes a whisper that came, or one that was sent; returns whether the breaker opened now.
    pub fn exchanged(&mut self, now: Mono, peer: &SessionPath, text: &str) -> bool {
        let polite = self.polite.entry(peer, Polite::default);
        polite.count = if is_polite(text) { polite.count + 1 } else { 0 };
        let opens = polite.count >= POLITE_MAX;
        if opens {
            *polite = Polite {
                count: 0,
                open_until: Some(now.plus(BREAKER_MS)),
            };
        }
        opens
    }
}

fn limited(text: &str, wait_ms: u64) -> Reject {
    Reject::new(Code::RateLimited, text).retry_after(wait_ms)
}

/// Returns whether a text only acknowledges: short, and made of thanks and agreement.
fn is_polite(text: &str) -> bool {
    const WORDS: [&str; 36] = [
        "ack",
        "acknowledged",
        "all",
        "alright",
        "and",
        "awesome",
        "bye",
        "cheers",
        "cool",
        "done",
        "fine",
        "goodbye",
        "good",
        "got",
        "great",
        "is",
        "it",
        "noted",
        "ok",
        "okay",
        "perfect",
        "pleasure",
        "roger",
        "so",
        "sounds",
        "sure",
        "thank",
        "thanks",
        "that",
        "the",
        "too",
        "understood",
        "very",
        "welcome",
        "you",
        "yes",
    ];
    let letters = |c: char| !c.is_alphanumeric() && c != '\'';
    let words = text.split(letters).filter(|word| !word.is_empty());
    let filler = [
        "much", "your", "re", "you're", "works", "for", "me", "most", "again",
    ];
    let polite = |w: &str| WORDS.contains(&w) || filler.contains(&w);
    text.len() <= 120 && words.map(str::to_lowercase).all(|word| polite(&word))
}

/// A small map that forgets its oldest keys.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    map: BTreeMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Ord + Clone, V> Recent<K, V> {
    pub(crate) fn find(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    pub(crate) fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        if !self.map.contains_key(key) {
            if self.order.len() >= REMEMBERED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.map.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.map.entry(key.clone()).or_insert_with(make)
    }
}
