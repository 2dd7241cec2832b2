//! Room on the disk: below the floor nothing new is taken, reads go on, and it ends by itself.
//!
//! What makes room or takes rights away (identity records, acts of admins) is never refused here. A
//! commit that found the disk full although the floor allowed it refuses changes for a while: undoing
//! one costs a restart of the hub, and that must not happen with every attempt.

use super::Checked;
use super::state::HubState;
use conclave_proto::frame::Op;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now};

const MIB: u64 = 1024 * 1024;
/// How long no change is tried after a full disk.
const FULL_PAUSE_MS: u64 = 5_000;

/// What is known of the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    free: Option<u64>,
    /// When a commit found the disk full, unless one succeeded since.
    full: Option<Mono>,
}

impl Room {
    pub(super) const fn free(&self) -> Option<u64> {
        self.free
    }

    pub(super) const fn committed(&mut self) {
        self.full = None;
    }
}

impl HubState {
    /// Learns how much may still be written; `None` if the store does not know.
    pub fn has_free(&mut self, bytes: Option<u64>) {
        let floor = self.settings.disk_floor_bytes;
        let low = |free: Option<u64>| free.is_some_and(|free| free < floor);
        match (low(self.room.free), low(bytes)) {
            (false, true) => {
                tracing::error!(
                    free = bytes,
                    floor,
                    "the disk is below its floor: nothing is appended"
                );
            }
            (true, false) => tracing::info!(free = bytes, floor, "the disk has room again"),
            (false, false) | (true, true) => {}
        }
        self.room.free = bytes;
    }

    /// Notes that a commit found the disk full.
    pub(super) fn found_full(&mut self) {
        self.room.full = Some(self.last);
    }

    /// Refuses what takes room while there is none.
    pub(super) fn needs_room(&self) -> Result<(), Reject> {
        let floor = self.settings.disk_floor_bytes;
        match self.room.free {
            Some(free) if free < floor => {
                let (free, floor) = (free / MIB, floor / MIB);
                let text =
                    format!("the server's disk has {free} MiB left, its floor is {floor} MiB");
                Err(Reject::new(Code::StorageFull, text))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a request that there is no room for.
    pub(super) fn has_room_for(&self, now: Now, op: &Checked) -> Result<(), Reject> {
        let change = match op {
            Checked::Append { .. } | Checked::Announcement { .. } => false,
            Checked::Other(op) if matches!(**op, Op::WrapPut(_)) => false,
            Checked::Ctl { .. } => true,
            // They make room, or end somebody's rights.
            Checked::Ident(_) | Checked::Admin(_) | Checked::Other(_) => return Ok(()),
            // They are not written.
            Checked::Profile { .. } => return Ok(()),
        };
        let full = self.room.full.map(|at| now.mono.since(at));
        match full.filter(|ms| change && *ms < FULL_PAUSE_MS) {
            Some(ms) => {
                let reject = Reject::new(Code::StorageFull, "the server has no room left");
                Err(reject.retry_after(FULL_PAUSE_MS - ms))
            }
            None => self.needs_room(),
        }
    }
}
