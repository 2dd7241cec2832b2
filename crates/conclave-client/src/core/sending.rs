//! Saying something: draft on disk, sealed bytes on disk, sent, confirmed, taken off the disk.

use super::{Core, Waiting};
use crate::error::ClientError;
use crate::event::{Event, Notice, NoticeKind};
use crate::outbox::{Draft, KEEP_MS};
use conclave_proto::codec;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::frame::op::Append;
use conclave_proto::frame::reply::Appended;
use conclave_proto::frame::{Op, Ready, Reply};
use conclave_proto::id::{ChannelId, LogId, RecipientKeyId};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, UnixMs};
use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;

/// How long a refused draft that nobody waits for rests, unless the server says, in milliseconds.
const REST_MS: u64 = 5_000;
/// How often one draft is sealed again before it is given up.
const RESEALS_MAX: u32 = 8;

/// What a caller wants to say.
pub(crate) struct Order {
    pub(crate) draft: Draft,
    pub(crate) told: oneshot::Sender<Result<Appended, Reject>>,
}

/// What waits to be sent, by log, in order.
#[derive(Default)]
pub(crate) struct Outbox {
    logs: HashMap<LogId, Lane>,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Parcel>,
    in_flight: bool,
    /// The next counter of this process, once it has said something here.
    next_ctr: Option<u64>,
    not_before: Option<Mono>,
}

struct Parcel {
    draft: Draft,
    told: Option<oneshot::Sender<Result<Appended, Reject>>>,
    reseals: u32,
}

impl Outbox {
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.logs
            .values()
            .filter(|lane| !lane.in_flight)
            .filter_map(|lane| lane.not_before)
            .min()
    }
}

impl Core {
    pub(super) async fn load_outbox(&mut self) -> Result<(), ClientError> {
        for draft in self.replica.drafts(self.handle.clone()).await? {
            let lane = self.outbox.logs.entry(draft.log).or_default();
            lane.queue.push_back(Parcel {
                draft,
                told: None,
                reseals: 0,
            });
        }
        Ok(())
    }

    /// Takes an order: when this returns it is on disk, or refused.
    pub(super) async fn accept(&mut self, order: Order) {
        let Order { mut draft, told } = order;
        if self.driver.is_ended() {
            let reject = Reject::new(Code::Offline, "the session has ended");
            drop(told.send(Err(reject)));
            return;
        }
        match self
            .replica
            .put_draft(self.handle.clone(), draft.clone())
            .await
        {
            Err(error) => {
                let reject = Reject::new(Code::StorageFull, error.to_string());
                drop(told.send(Err(reject)));
            }
            Ok(n) => {
                draft.n = n;
                let log = draft.log;
                let lane = self.outbox.logs.entry(log).or_default();
                lane.queue.push_back(Parcel {
                    draft,
                    told: Some(told),
                    reseals: 0,
                });
                self.send_next(log).await;
            }
        }
    }

    pub(super) async fn send_all(&mut self) {
        let logs: Vec<LogId> = self.outbox.logs.keys().copied().collect();
        for log in logs {
            self.send_next(log).await;
        }
    }

    pub(super) async fn retry_due(&mut self) {
        let now = self.driver.now().mono;
        for lane in self.outbox.logs.values_mut() {
            if lane.not_before.is_some_and(|at| at <= now) {
                lane.not_before = None;
            }
        }
        self.send_all().await;
    }

    /// Sends the next draft of a log, if the log is free and the session was live once.
    async fn send_next(&mut self, log: LogId) {
        let Some(ready) = self.ready.clone() else {
            return;
        };
        if !self.driver.is_up() {
            return;
        }
        let Some(lane) = self.outbox.logs.get_mut(&log) else {
            return;
        };
        if lane.in_flight || lane.not_before.is_some() {
            return;
        }
        let Some(parcel) = lane.queue.front_mut() else {
            return;
        };
        if parcel.draft.sealed.is_none() {
            let ctr = lane.next_ctr.unwrap_or(1);
            let env = self.outbox_seal(&ready, log, ctr);
            let Some(Ok(bytes)) = env.map(|env| codec::to_cbor(&env)) else {
                return;
            };
            let Some(parcel) = self.outbox.front(log) else {
                return;
            };
            parcel.draft.sealed = Some(bytes.clone());
            let n = parcel.draft.n;
            if let Err(error) = self.replica.keep_sealed(n, bytes).await {
                // Without the bytes on disk a retry could differ: not sent, and sealed again later.
                tracing::error!(%error, "sealed bytes cannot be kept");
                self.outbox.rest(log, self.driver.now().mono.plus(REST_MS));
                return;
            }
        }
        let Some(parcel) = self.outbox.front(log) else {
            return;
        };
        let sealed = parcel.draft.sealed.as_deref().unwrap_or_default();
        let Ok(env) = codec::from_cbor::<Envelope>(sealed) else {
            parcel.draft.sealed = None;
            return;
        };
        if let Some(lane) = self.outbox.logs.get_mut(&log) {
            lane.in_flight = true;
        }
        self.ask(Op::Append(Append { log, env }), None, Waiting::Append(log));
    }

    fn outbox_seal(&mut self, ready: &Ready, log: LogId, ctr: u64) -> Option<Envelope> {
        let server = self.book.server();
        let ts = self.driver.now().wall;
        let draft = &self.outbox.front(log)?.draft;
        let channel = match log {
            LogId::Channel(id) => id,
            LogId::Mailbox(_) => ChannelId::from_slice(server.as_bytes().get(..16)?)?,
        };
        let header = Header {
            suite: Suite::Clear,
            channel,
            epoch: 0,
            sender: ready.path.clone(),
            sender_key: self.secret.machine_key(),
            sid: self.sid,
            ctr,
            msg_id: draft.id,
            ts,
            route: draft.to.clone().map_or(Route::Everyone, Route::Whisper),
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: draft.hop,
            flags: draft.flags,
        };
        Some(Envelope::clear(&header, draft.body.clone(), &self.secret))
    }

    /// Takes the server's verdict on the draft in flight.
    pub(super) async fn appended(&mut self, log: LogId, result: Result<Reply, Reject>) {
        let now = self.driver.now();
        let Some(lane) = self.outbox.logs.get_mut(&log) else {
            return;
        };
        lane.in_flight = false;
        let own = lane
            .queue
            .front()
            .is_some_and(|p| is_of(&p.draft, self.sid.as_bytes()));
        let end = match result {
            Ok(Reply::Appended(appended)) => {
                if own {
                    lane.next_ctr = Some(lane.next_ctr.unwrap_or(1).saturating_add(1));
                }
                Some(Ok(appended))
            }
            Ok(_) => Some(Err(Reject::new(
                Code::Malformed,
                "the answer is for something else",
            ))),
            Err(reject) => lane.refused(reject, own, now.mono, now.wall),
        };
        if let Some(end) = end {
            self.finish(log, end).await;
        }
        self.send_next(log).await;
    }

    async fn finish(&mut self, log: LogId, end: Result<Appended, Reject>) {
        let Some(lane) = self.outbox.logs.get_mut(&log) else {
            return;
        };
        let Some(parcel) = lane.queue.pop_front() else {
            return;
        };
        if let Err(error) = self.replica.drop_draft(parcel.draft.n).await {
            // It will be sent again and answered as known: nothing is said twice.
            tracing::warn!(%error, "a sent draft stays in the outbox");
        }
        let unheard = match parcel.told {
            Some(told) => told.send(end).err(),
            None => Some(end),
        };
        if let Some(Err(reject)) = unheard {
            let text = format!("message {} was not sent: {}", parcel.draft.id, reject.code);
            let kind = NoticeKind::NotSent;
            self.tell(Event::Notice(Notice {
                kind,
                log: Some(log),
                seq: None,
                text,
            }));
        }
    }
}

impl Outbox {
    fn front(&mut self, log: LogId) -> Option<&mut Parcel> {
        self.logs.get_mut(&log)?.queue.front_mut()
    }

    fn rest(&mut self, log: LogId, until: Mono) {
        if let Some(lane) = self.logs.get_mut(&log) {
            lane.not_before = Some(until);
        }
    }
}

impl Lane {
    /// Decides what a refusal means for the draft in front: `Some` ends it.
    fn refused(
        &mut self,
        reject: Reject,
        own: bool,
        now: Mono,
        wall: UnixMs,
    ) -> Option<Result<Appended, Reject>> {
        let Some(parcel) = self.queue.front_mut() else {
            return Some(Err(reject));
        };
        if reject.code == Code::CounterGap && parcel.reseals < RESEALS_MAX {
            parcel.reseals += 1;
            parcel.draft.sealed = None;
            if own {
                self.next_ctr = Some(reject.expected.unwrap_or(1).max(1));
            }
            return None;
        }
        let waited_for = parcel.told.as_ref().is_some_and(|told| !told.is_closed());
        let passing = matches!(
            reject.code,
            Code::RateLimited
                | Code::InboxFull
                | Code::StorageFull
                | Code::Draining
                | Code::Timeout
                | Code::Offline
                | Code::Internal
        );
        let fresh = wall.since(parcel.draft.created) < KEEP_MS;
        if passing && !waited_for && fresh {
            let rest = reject.retry_after_ms.unwrap_or(REST_MS);
            self.not_before = Some(now.plus(rest));
            return None;
        }
        Some(Err(reject))
    }
}

/// Returns whether a draft was sealed by this process.
fn is_of(draft: &Draft, sid: &[u8; 8]) -> bool {
    let sealed = draft.sealed.as_deref().unwrap_or_default();
    codec::from_cbor::<Envelope>(sealed)
        .ok()
        .and_then(|env| Header::parse(&env.header))
        .is_some_and(|header| header.sid.as_bytes() == sid)
}
