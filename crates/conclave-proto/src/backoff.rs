//! Reconnect delays: full jitter from half a second to half a minute, from a seed.

use crate::limit::{BACKOFF_FIRST_MS, BACKOFF_MAX_MS};

/// A small deterministic generator (SplitMix64) for jitter. Not for secrets.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Starts from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number between 0 and `max`, both included.
    pub const fn up_to(&mut self, max: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        match max.checked_add(1) {
            Some(n) => z % n,
            None => z,
        }
    }

    /// Returns `ms`, a tenth more or less.
    pub const fn about(&mut self, ms: u64) -> u64 {
        let tenth = ms / 10;
        ms - tenth + self.up_to(tenth * 2)
    }
}

/// How long to wait before the next attempt.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Returns the delay before the next attempt, in milliseconds: full jitter under a ceiling that
    /// doubles with each attempt.
    pub fn next_ms(&mut self, jitter: &mut Jitter) -> u64 {
        let ceiling = BACKOFF_FIRST_MS
            .saturating_mul(1 << self.attempts.min(16))
            .min(BACKOFF_MAX_MS);
        self.attempts = self.attempts.saturating_add(1);
        jitter.up_to(ceiling)
    }

    /// Starts over: the connection was good.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}
