//! The one place of the server that reads clocks; everything else is told the time.

use conclave_proto::time::{Mono, Now, UnixMs};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Both clocks, counted from the start of the server.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Returns the moment by both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            mono: Mono(millis(self.start.elapsed())),
            wall: UnixMs(millis(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default(),
            )),
        }
    }

    /// Returns an instant as monotonic time.
    #[must_use]
    pub fn mono_of(&self, at: Instant) -> Mono {
        Mono(millis(at.saturating_duration_since(self.start)))
    }

    /// Returns when a monotonic time comes, for a timer.
    #[must_use]
    pub fn instant(&self, at: Mono) -> Instant {
        self.start + Duration::from_millis(at.0)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
