//! The hub's numbers, as it counts them.

use conclave_proto::reject::Code;

/// Numbers for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that exist.
    pub connections: u64,
    /// Sessions that exist, those in their lease included.
    pub sessions: u64,
    /// Subscriptions that get pushes.
    pub live: u64,
    /// Subscriptions of slow readers.
    pub stalled: u64,
    /// Users that are not removed.
    pub users: u64,
    /// Server admins.
    pub admins: u64,
    /// Channels that are not closed.
    pub channels: u64,
    /// Users, channels and keys whose rates are remembered.
    pub rated: u64,
    /// Entries appended since the start.
    pub appended: u64,
    /// Appends that had been there before, since the start.
    pub duplicates: u64,
    /// Wraps of channel keys stored since the start.
    pub wraps: u64,
    /// Requests and entries refused since the start.
    pub refused: Refusals,
    /// Entries put into outboxes by push since the start.
    pub pushed: u64,
    /// Commits since the start.
    pub commits: u64,
    /// How many writes they had.
    pub batches: Batches,
    /// Times the hub was rebuilt from the store.
    pub restarts: u64,
    /// Bytes of disk that may still be written, where the store knows.
    pub free_bytes: Option<u64>,
}

/// The bounds of [`Batches`]: so many writes, or fewer.
pub const BATCH_BOUNDS: [u64; 6] = [1, 4, 16, 64, 256, u64::MAX];

/// How large commits were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// Writes in all commits.
    pub writes: u64,
    counts: [u64; BATCH_BOUNDS.len()],
}

impl Batches {
    pub(super) fn add(&mut self, writes: usize) {
        let writes = u64::try_from(writes).unwrap_or(u64::MAX);
        self.writes += writes;
        let fits = BATCH_BOUNDS.iter().zip(&mut self.counts);
        for (_, count) in fits.filter(|(bound, _)| writes <= **bound) {
            *count += 1;
        }
    }

    /// Returns each bound and how many commits were within it.
    pub fn within(&self) -> impl Iterator<Item = (u64, u64)> {
        BATCH_BOUNDS.into_iter().zip(self.counts)
    }
}

/// How often something was refused, by code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals([u64; Code::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self([0; Code::ALL.len()])
    }
}

impl Refusals {
    pub(super) fn add(&mut self, code: &Code) {
        let known = Code::ALL.iter().zip(&mut self.0);
        if let Some((_, count)) = known.into_iter().find(|(known, _)| *known == code) {
            *count += 1;
        }
    }

    /// Returns each code that something was refused with, and how often.
    pub fn by_code(&self) -> impl Iterator<Item = (&'static Code, u64)> {
        let all = Code::ALL.iter().zip(self.0);
        all.filter(|(_, count)| *count > 0)
    }

    /// Returns how often in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
