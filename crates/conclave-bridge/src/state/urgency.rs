//! When a message is pushed to the agent: what its sender calls urgent, against what the agent is doing.
//! The recipient decides. Pure.

use conclave_proto::body::Priority;
use conclave_proto::profile::Status;
use conclave_proto::time::Mono;

/// How long a message waits for the end of a turn at most, in milliseconds.
pub const WORKING_MS: u64 = 10 * 60 * 1000;

/// When a message is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// When the status changes, and after so many milliseconds at the latest.
    Within(u64),
    /// When the status changes.
    Held,
    /// Never: it is fetched.
    Never,
}

/// Returns when a message is pushed to an agent of this status. Whom it mentions it is not low for.
#[must_use]
pub const fn when(priority: Priority, status: Option<Status>, mentioned: bool) -> When {
    match (priority, mentioned) {
        (Priority::Now, _) => return When::Now,
        (Priority::Low, false) => return When::Never,
        (Priority::Low, true) | (Priority::Next, _) => {}
    }
    match status {
        None | Some(Status::Idle | Status::Waiting) => When::Now,
        Some(Status::Working) => When::Within(WORKING_MS),
        Some(Status::Dnd) => When::Held,
    }
}

impl When {
    /// Returns from when on something that came at `arrived` is due, if the status stays.
    #[must_use]
    pub fn due(self, arrived: Mono) -> Option<Mono> {
        match self {
            Self::Now => Some(arrived),
            Self::Within(ms) => Some(arrived.plus(ms)),
            Self::Held | Self::Never => None,
        }
    }
}
