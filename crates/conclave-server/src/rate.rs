//! Token buckets, and tables of them by user, channel or key: pure, told the time.
//!
//! A table is bounded. What is full again is forgotten ([`Table::evict`]), and who finds no place in
//! a full table is not counted, so that a flood of new keys never shuts out anybody else.

use conclave_proto::time::Mono;
use std::collections::BTreeMap;

pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;
/// Rows of one table.
const ROWS_MAX: usize = 16_384;

/// A bucket of `size` tokens that fills once a period; size 0 is no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    size: u64,
    period_ms: u64,
    /// When it will be full again, in microseconds: a byte of a day's allowance is less than two
    /// milliseconds.
    full_at_us: u64,
}

impl Bucket {
    pub(crate) const fn new(size: u64, period_ms: u64) -> Self {
        Self {
            size,
            period_ms,
            full_at_us: 0,
        }
    }

    /// Returns how far from full it is once `tokens` are taken. More than it holds counts as all of it.
    fn debt_us(self, now: Mono, tokens: u64) -> u64 {
        let tokens = tokens.min(self.size);
        let cost = u128::from(tokens) * u128::from(self.period_us()) / u128::from(self.size.max(1));
        self.full_at_us.saturating_sub(us(now)) + u64::try_from(cost).unwrap_or(u64::MAX)
    }

    const fn period_us(self) -> u64 {
        self.period_ms * 1_000
    }

    /// Returns how long to wait for so many tokens, if they are not there.
    pub(crate) fn check(self, now: Mono, tokens: u64) -> Result<(), u64> {
        match self.debt_us(now, tokens).checked_sub(self.period_us()) {
            Some(wait) if wait > 0 && self.size > 0 => Err(wait.div_ceil(1_000)),
            _ => Ok(()),
        }
    }

    pub(crate) fn take(&mut self, now: Mono, tokens: u64) {
        let debt = self.debt_us(now, tokens).min(self.period_us());
        self.full_at_us = us(now).saturating_add(debt);
    }

    pub(crate) const fn is_full(self, now: Mono) -> bool {
        self.full_at_us <= us(now)
    }
}

const fn us(at: Mono) -> u64 {
    at.0.saturating_mul(1_000)
}

/// A bucket for each key.
#[derive(Debug)]
pub(crate) struct Table<K> {
    fresh: Bucket,
    rows: BTreeMap<K, Bucket>,
}

impl<K: Ord> Table<K> {
    pub(crate) const fn new(size: u64, period_ms: u64) -> Self {
        Self {
            fresh: Bucket::new(size, period_ms),
            rows: BTreeMap::new(),
        }
    }

    /// Returns how long `key` has to wait for so many tokens, if they are not there.
    pub(crate) fn check(&self, now: Mono, key: &K, tokens: u64) -> Result<(), u64> {
        let bucket = self.rows.get(key);
        bucket.map_or(Ok(()), |bucket| bucket.check(now, tokens))
    }

    pub(crate) fn take(&mut self, now: Mono, key: K, tokens: u64) {
        let place = self.rows.len() < ROWS_MAX || self.rows.contains_key(&key);
        if self.fresh.size > 0 && tokens > 0 && place {
            self.rows.entry(key).or_insert(self.fresh).take(now, tokens);
        }
    }

    pub(crate) fn evict(&mut self, now: Mono) {
        self.rows.retain(|_, bucket| !bucket.is_full(now));
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Failed attempts by key: so many a minute, then each one doubles the wait.
#[derive(Debug)]
pub(crate) struct Failures<K> {
    fresh: Bucket,
    rows: BTreeMap<K, Failing>,
}

#[derive(Debug)]
struct Failing {
    bucket: Bucket,
    /// How long the last wait was; 0 before the first.
    wait_ms: u64,
    /// When the next attempt may come.
    until: Mono,
}

impl<K: Ord> Failures<K> {
    pub(crate) const fn new(per_minute: u64) -> Self {
        Self {
            fresh: Bucket::new(per_minute, MINUTE_MS),
            rows: BTreeMap::new(),
        }
    }

    /// Returns how long `key` has to wait before its next attempt, if it has to.
    pub(crate) fn check(&self, now: Mono, key: &K) -> Result<(), u64> {
        match self.rows.get(key).map_or(0, |row| row.until.since(now)) {
            0 => Ok(()),
            wait => Err(wait),
        }
    }

    pub(crate) fn failed(&mut self, now: Mono, key: K) {
        if self.fresh.size == 0 || self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            return;
        }
        let row = self.rows.entry(key).or_insert(Failing {
            bucket: self.fresh,
            wait_ms: 0,
            until: now,
        });
        row.bucket.take(now, 1);
        if row.wait_ms > 0 || row.bucket.check(now, 1).is_err() {
            row.wait_ms = (row.wait_ms * 2).clamp(MINUTE_MS, HOUR_MS);
            row.until = now.plus(row.wait_ms);
        }
    }

    pub(crate) fn succeeded(&mut self, key: &K) {
        self.rows.remove(key);
    }

    /// Forgets who made no attempt for as long again as it had to wait.
    pub(crate) fn evict(&mut self, now: Mono) {
        let counts = |row: &Failing| row.until.plus(row.wait_ms) > now || !row.bucket.is_full(now);
        self.rows.retain(|_, row| counts(row));
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, DAY_MS, Failures, ROWS_MAX, Table};
    use conclave_proto::time::Mono;

    #[test]
    fn a_bucket_names_the_wait_and_refills() {
        let mut bucket = Bucket::new(3, 60_000);
        for _ in 0..3 {
            assert_eq!(bucket.check(Mono(0), 1), Ok(()));
            bucket.take(Mono(0), 1);
        }
        assert_eq!(bucket.check(Mono(0), 1), Err(20_000));
        assert_eq!(bucket.check(Mono(19_999), 1), Err(1));
        assert_eq!(bucket.check(Mono(20_000), 1), Ok(()));
        assert!(!bucket.is_full(Mono(59_999)));
        assert!(bucket.is_full(Mono(60_000)));
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let mut bucket = Bucket::new(0, 60_000);
        for _ in 0..1000 {
            bucket.take(Mono(0), 1);
        }
        assert_eq!(bucket.check(Mono(0), 1), Ok(()));
    }

    #[test]
    fn single_bytes_of_a_day_are_counted() {
        let mut bucket = Bucket::new(50_000_000, DAY_MS);
        for _ in 0..1_000 {
            bucket.take(Mono(0), 50_000);
        }
        let wait = bucket.check(Mono(0), 1).unwrap_err();
        assert_eq!(wait, 2, "one byte takes 1.7 milliseconds");
    }

    #[test]
    fn a_table_is_bounded_and_forgets_what_is_full_again() {
        let mut table = Table::new(1, 1_000);
        for key in 0..=ROWS_MAX {
            table.take(Mono(0), key, 1);
        }
        assert_eq!(table.len(), ROWS_MAX);
        assert!(table.check(Mono(0), &0, 1).is_err());
        assert!(table.check(Mono(0), &ROWS_MAX, 1).is_ok());
        table.evict(Mono(999));
        assert_eq!(table.len(), ROWS_MAX);
        table.evict(Mono(1_000));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn failures_are_bounded_and_forgotten_after_a_quiet_time() {
        let mut failures = Failures::new(1);
        for key in 0..=ROWS_MAX {
            failures.failed(Mono(0), key);
        }
        assert_eq!(failures.len(), ROWS_MAX);
        failures.evict(Mono(119_999));
        assert_eq!(failures.len(), ROWS_MAX);
        failures.evict(Mono(120_000));
        assert_eq!(failures.len(), 0);
    }
}
