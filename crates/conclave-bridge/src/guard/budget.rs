//! Budgets that refill by time, and a small map that forgets.

use conclave_proto::time::Mono;
use std::collections::{BTreeMap, VecDeque};

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
        // What is owed refills first.
        let owed_ms = self.at.since(now);
        self.at = self.at.max(now);
        let needed = refill_ms.saturating_mul(wanted.min(tokens));
        let wait = needed.saturating_sub(self.level).div_ceil(tokens);
        wait.saturating_add(owed_ms)
    }

    /// Takes tokens; what is not there is owed.
    pub(crate) const fn take(&mut self, tokens: u64) {
        let cost = tokens.saturating_mul(self.budget.refill_ms);
        let owed = cost.saturating_sub(self.level);
        self.level = self.level.saturating_sub(cost);
        self.at = self.at.plus(owed.div_ceil(self.budget.tokens));
    }
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.map.values_mut()
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
