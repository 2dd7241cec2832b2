//! What waits to be sent to one log, and what a refusal means for it. Pure.

use crate::outbox::Draft;
use conclave_proto::entry::Kind;
use conclave_proto::frame::reply::Appended;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, UnixMs};
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// How long a refused draft that nobody waits for rests, unless the server says, in milliseconds.
pub(super) const REST_MS: u64 = 5_000;
/// How often one draft is sealed again before it is given up.
const RESEALS_MAX: u32 = 8;
/// How often one draft is sealed again because the channel has another key, before it is given up.
const EPOCHS_MAX: u32 = 64;

/// What waits for one log.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) queue: VecDeque<Parcel>,
    pub(super) in_flight: bool,
    /// How to seal is being found out.
    pub(super) preparing: bool,
    /// It was just found out, and nothing was sealed since.
    pub(super) was_prepared: bool,
    /// What is known of the channel was found to be old.
    pub(super) stale: bool,
    /// The epoch that was prepared for what is said now: it is not too old, whatever clocks say.
    pub(super) prepared: Option<u32>,
    /// The next counter of this process, once it has said something here.
    pub(super) next_ctr: Option<u64>,
    pub(super) not_before: Option<Mono>,
}

/// A draft on its way.
pub(super) struct Parcel {
    pub(super) draft: Draft,
    pub(super) told: Option<oneshot::Sender<Result<Appended, Reject>>>,
    /// How often it was sealed again for its counter, and for a newer key.
    pub(super) reseals: u32,
    pub(super) epochs: u32,
    /// Bytes that were refused, until they are off the disk.
    pub(super) refused: Option<Vec<u8>>,
}

impl Lane {
    /// Decides what a refusal means for the draft in front: `Some` ends it.
    pub(super) fn refused(
        &mut self,
        reject: Reject,
        own: bool,
        now: Mono,
        wall: UnixMs,
    ) -> Option<Result<Appended, Reject>> {
        let Some(parcel) = self.queue.front_mut() else {
            return Some(Err(reject));
        };
        // What this process has counted, it knows: another number means that the server has lost, or hides,
        // what it acknowledged.
        let lost = own
            && reject
                .expected
                .is_some_and(|n| n != self.next_ctr.unwrap_or(1));
        if reject.code == Code::CounterGap && !lost && parcel.reseals < RESEALS_MAX {
            parcel.reseals += 1;
            parcel.refused = parcel.draft.sealed.take();
            return None;
        }
        if reject.code == Code::StaleEpoch && parcel.epochs < EPOCHS_MAX {
            parcel.epochs += 1;
            parcel.refused = parcel.draft.sealed.take();
            self.stale = true;
            return None;
        }
        let waited_for = parcel.told.as_ref().is_some_and(|told| !told.is_closed());
        // What a mailbox has no room for must not stand in the way of what it has room for.
        let brief = parcel.draft.route.kind() == Kind::Receipt && reject.code == Code::InboxFull;
        let passing = is_passing(&reject.code) && !brief;
        let fresh = wall < parcel.draft.until;
        if passing && !waited_for && fresh {
            let rest = reject.retry_after_ms.unwrap_or(REST_MS);
            self.not_before = Some(now.plus(rest));
            return None;
        }
        Some(Err(reject))
    }
}

/// Returns whether a refusal says nothing of the draft, only of the moment.
pub(super) const fn is_passing(code: &Code) -> bool {
    matches!(
        code,
        Code::RateLimited
            | Code::InboxFull
            | Code::StorageFull
            | Code::Draining
            | Code::Timeout
            | Code::Offline
            | Code::Internal
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_proto::entry::Route;
    use conclave_proto::id::{LogId, MailboxId, MsgId};
    use conclave_proto::name::SessionPath;

    fn lane(route: Route) -> Lane {
        let draft = Draft {
            n: 1,
            id: MsgId::new([1; 16]),
            log: LogId::Mailbox(MailboxId::new([1; 16])),
            route,
            body: Vec::new().into(),
            hop: 0,
            flags: 0,
            created: UnixMs(0),
            until: UnixMs(86_400_000),
            sealed: Some(Vec::new()),
        };
        let mut lane = Lane::default();
        lane.queue.push_back(Parcel {
            draft,
            told: None,
            reseals: 0,
            epochs: 0,
            refused: None,
        });
        lane
    }

    #[test]
    fn a_receipt_that_a_full_mailbox_refuses_does_not_hold_up_whispers() {
        let path: SessionPath = "ada/box/api".parse().unwrap();
        let refused = |route, code| {
            let mut lane = lane(route);
            let reject = Reject::new(code, "refused");
            let end = lane.refused(reject, true, Mono(0), UnixMs(1));
            (end.is_some(), lane.not_before.is_some())
        };
        let receipt = Route::Receipt(path.clone());
        assert_eq!(refused(receipt.clone(), Code::InboxFull), (true, false));
        // What says nothing of the mailbox is waited for by receipts, too, as by all else.
        assert_eq!(refused(receipt, Code::StorageFull), (false, true));
        assert_eq!(
            refused(Route::Whisper(path), Code::InboxFull),
            (false, true)
        );
    }
}
