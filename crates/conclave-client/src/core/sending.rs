//! Saying something: draft on disk, sealed bytes on disk, sent, confirmed, taken off the disk.

use super::errand::{Errand, is_pending};
use super::lane::{Lane, Parcel, REST_MS, is_passing};
use super::sealing::Sealing;
use super::{Core, Waiting};
use crate::book::Verified;
use crate::client::random;
use crate::client::read::SEQ_END;
use crate::error::ClientError;
use crate::event::{Event, Notice, NoticeKind};
use crate::outbox::Draft;
use crate::replica::delivery::Sent;
use conclave_proto::body::Body;
use conclave_proto::channel_log::Role;
use conclave_proto::codec;
use conclave_proto::entry::{Entry, EntryBody, Envelope, Header, Kind};
use conclave_proto::frame::op::Append;
use conclave_proto::frame::reply::Appended;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{LogId, SenderSid};
use conclave_proto::name::{CLI_HANDLE, DESK_HANDLE};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Mono;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// How long a draft rests whose channel key is not here, in milliseconds; it is woken when it comes.
const PENDING_MS: u64 = 30_000;
/// How long a one-shot has to send what it drafted, in milliseconds, before another one does.
const FRESH_MS: u64 = 60_000;
/// How long it rests if the key came while it was looked for, in milliseconds.
const CAME_MS: u64 = 250;

/// What a caller wants to say.
pub(crate) struct Order {
    pub(crate) draft: Draft,
    pub(crate) sent: Option<Sent>,
    pub(crate) told: oneshot::Sender<Result<Appended, Reject>>,
}

/// What waits to be sent, by log, in order.
#[derive(Default)]
pub(crate) struct Outbox {
    logs: HashMap<LogId, Lane>,
}

impl Outbox {
    /// Returns the epoch that was prepared for what is said in a log now.
    pub(super) fn prepared(&self, log: &LogId) -> Option<u32> {
        self.logs.get(log)?.prepared
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        self.logs
            .values()
            .filter(|lane| !lane.in_flight && !lane.preparing)
            .filter_map(|lane| lane.not_before)
            .min()
    }
}

impl Core {
    pub(super) async fn load_outbox(&mut self) -> Result<(), ClientError> {
        let now = self.driver.now().wall;
        self.replica.forget_sent(now).await?;
        for draft in self.replica.drafts(self.handle.clone()).await? {
            // One-shots share a handle: what is fresh is another one's at work.
            if [CLI_HANDLE, DESK_HANDLE].contains(&self.handle.as_str())
                && now.since(draft.created) < FRESH_MS
            {
                continue;
            }
            let lane = self.outbox.logs.entry(draft.log).or_default();
            lane.queue.push_back(Parcel {
                draft,
                told: None,
                reseals: 0,
                epochs: 0,
                refused: None,
            });
        }
        Ok(())
    }

    /// Takes an order: when this returns it is on disk, or refused.
    pub(super) async fn accept(&mut self, order: Order) {
        let Order {
            mut draft,
            sent,
            told,
        } = order;
        if self.driver.is_ended() {
            let reject = Reject::new(Code::Offline, "the session has ended");
            drop(told.send(Err(reject)));
            return;
        }
        match self
            .replica
            .put_draft(self.handle.clone(), draft.clone(), sent)
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
                    epochs: 0,
                    refused: None,
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
        if lane.in_flight || lane.preparing || lane.not_before.is_some() {
            return;
        }
        let Some(parcel) = lane.queue.front_mut() else {
            return;
        };
        // What was sealed may have arrived: it is sent until that is known, unless it may not come late.
        let open = parcel.draft.sealed.is_none();
        if (open || parcel.draft.is_brief()) && self.driver.now().wall >= parcel.draft.until {
            let reject = Reject::new(Code::Timeout, "it waited for too long");
            self.finish(log, Err(reject)).await;
            return Box::pin(self.send_next(log)).await;
        }
        if open {
            let (ctr, stale) = (lane.next_ctr.unwrap_or(1), lane.stale);
            let to = parcel.draft.route.recipient().cloned();
            let sealing = match stale {
                true => Sealing::Prepare,
                false => self.outbox_seal(&ready, log, ctr),
            };
            let env = match sealing {
                Sealing::Ready(env) => env,
                Sealing::Prepare => {
                    let rested = self.driver.now().mono.plus(REST_MS);
                    let Some(lane) = self.outbox.logs.get_mut(&log) else {
                        return;
                    };
                    if std::mem::take(&mut lane.was_prepared) {
                        // It was found out, and did not do: whatever that is, it is no matter of haste.
                        lane.not_before = Some(rested);
                        return;
                    }
                    lane.preparing = true;
                    return self.errand(Errand::Prepare(log, to));
                }
                Sealing::Never(reject) => {
                    // Each end makes room for the next draft; bounded by the queue.
                    self.finish(log, Err(reject)).await;
                    return Box::pin(self.send_next(log)).await;
                }
            };
            let Ok(bytes) = codec::to_cbor(&*env) else {
                return;
            };
            let Some(n) = self.outbox.front(log).map(|parcel| parcel.draft.n) else {
                return;
            };
            let kept = match self.replica.keep_sealed(n, bytes).await {
                Ok(Some(kept)) => {
                    if let Some(lane) = self.outbox.logs.get_mut(&log) {
                        lane.was_prepared = false;
                    }
                    kept
                }
                Ok(None) => {
                    // Another process of this handle has sent it meanwhile.
                    if let Some(lane) = self.outbox.logs.get_mut(&log) {
                        lane.queue.pop_front();
                    }
                    return Box::pin(self.send_next(log)).await;
                }
                Err(error) => {
                    // Without the bytes on disk a retry could differ: not sent, and sealed again later.
                    tracing::error!(%error, "sealed bytes cannot be kept");
                    return self.outbox.rest(log, self.driver.now().mono.plus(REST_MS));
                }
            };
            if let Some(parcel) = self.outbox.front(log) {
                parcel.draft.sealed = Some(kept);
            }
        }
        let Some(parcel) = self.outbox.front(log) else {
            return;
        };
        let sealed = parcel.draft.sealed.as_deref().unwrap_or_default();
        let Ok(env) = codec::from_cbor::<Envelope>(sealed) else {
            parcel.refused = parcel.draft.sealed.take();
            return;
        };
        if let Some(lane) = self.outbox.logs.get_mut(&log) {
            lane.in_flight = true;
        }
        self.ask(Op::Append(Append { log, env }), None, Waiting::Append(log));
    }

    /// Takes the end of finding out how to seal.
    pub(super) async fn prepared(&mut self, log: LogId, result: Result<(), Reject>) {
        let now = self.driver.now();
        let Some(lane) = self.outbox.logs.get_mut(&log) else {
            return;
        };
        lane.preparing = false;
        let key = match log {
            LogId::Channel(channel) => self.book.current_key(&channel),
            LogId::Mailbox(_) => None,
        };
        lane.prepared = key.map(|key| key.place().e);
        let came = key.is_some();
        match result {
            Ok(()) => {
                lane.stale = false;
                lane.was_prepared = true;
            }
            // It came while it was looked for.
            Err(reject) if is_pending(&reject) && came => {
                lane.not_before = Some(now.mono.plus(CAME_MS));
            }
            Err(reject) if is_pending(&reject) => {
                // Nothing is sent in the clear, and nothing is lost: the draft waits for the key.
                lane.not_before = Some(now.mono.plus(PENDING_MS));
                if let LogId::Channel(channel) = log {
                    self.keys_pending(channel);
                }
                return;
            }
            // Nothing was refused yet: the draft waits as it would without a connection.
            Err(reject) if is_passing(&reject.code) => {
                let rest = reject.retry_after_ms.unwrap_or(REST_MS);
                lane.not_before = Some(now.mono.plus(rest));
            }
            Err(reject) => {
                if let Some(end) = lane.refused(reject, true, now.mono, now.wall) {
                    self.finish(log, end).await;
                }
            }
        }
        self.send_next(log).await;
    }

    /// Lets a lane go on that rested.
    pub(super) async fn wake(&mut self, log: LogId) {
        if let Some(lane) = self.outbox.logs.get_mut(&log) {
            lane.not_before = None;
        }
        self.send_next(log).await;
    }

    /// Returns whether something waits to be sent to a log.
    pub(super) fn waits(&self, log: &LogId) -> bool {
        let lane = self.outbox.logs.get(log);
        lane.is_some_and(|lane| !lane.queue.is_empty())
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
        let mut forgotten = false;
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
            Err(reject) => {
                forgotten = own && reject.code == Code::CounterGap;
                lane.refused(reject, own, now.mono, now.wall)
            }
        };
        if forgotten && end.is_some() {
            self.count_anew(log);
        }
        self.unseal(log).await;
        if let Some(Ok(appended)) = &end {
            self.keep_own(log, *appended).await;
        }
        if let Some(end) = end {
            self.finish(log, end).await;
        }
        self.send_next(log).await;
    }

    /// Takes refused bytes off the disk, so that a retry cannot send them.
    async fn unseal(&mut self, log: LogId) {
        let Some(parcel) = self.outbox.front(log) else {
            return;
        };
        let (n, refused) = (parcel.draft.n, parcel.refused.take());
        if let Some(bytes) = refused
            && let Err(error) = self.replica.unseal(n, bytes).await
        {
            tracing::error!(%error, "refused bytes stay in the outbox");
            self.outbox.rest(log, self.driver.now().mono.plus(REST_MS));
        }
    }

    /// Goes on as another process, for the server does not know this one's count any more: receivers see
    /// that something is missing by the alarm, for counters cannot show it.
    fn count_anew(&mut self, log: LogId) {
        if let Ok(sid) = random() {
            self.sid = SenderSid::new(sid);
        }
        for lane in self.outbox.logs.values_mut() {
            lane.next_ctr = None;
        }
        self.tell(Event::Notice(Notice {
            kind: NoticeKind::ServerFork,
            log: Some(log),
            seq: None,
            text: "the server does not count what it acknowledged: messages were lost or hidden"
                .into(),
        }));
    }

    /// Keeps a copy of what was sent: nobody but its recipient could open a whisper again, and who has
    /// written an item reads what it wrote.
    async fn keep_own(&mut self, log: LogId, Appended { seq, at, .. }: Appended) {
        let me = self.me;
        if seq >= SEQ_END {
            return;
        }
        let Some(Parcel { draft, .. }) = self.outbox.front(log) else {
            return;
        };
        let env = draft.sealed.as_deref().map(codec::from_cbor::<Envelope>);
        if matches!(draft.route.kind(), Kind::Message | Kind::Receipt) {
            return;
        }
        let (Some(Ok(env)), Ok(body)) = (env, Body::parse(&draft.body)) else {
            return;
        };
        let Some(header) = Header::parse(&env.header) else {
            return;
        };
        let hash = env.hash();
        let body_of = EntryBody::Env(env);
        let entry = Entry {
            seq,
            at,
            body: body_of,
        };
        let mut own = Verified::new(log, me, &entry, &header, body, hash);
        own.by_admin = match &log {
            LogId::Channel(channel) => {
                let role = self.book.tip(channel).and_then(|tip| tip.role(&me));
                role.is_some_and(|role| role >= Role::Admin)
            }
            LogId::Mailbox(_) => false,
        };
        if let Err(error) = self.replica.keep_message(own).await {
            tracing::warn!(%error, "no copy of what was sent was kept");
        }
    }

    async fn finish(&mut self, log: LogId, end: Result<Appended, Reject>) {
        let Some(lane) = self.outbox.logs.get_mut(&log) else {
            return;
        };
        let Some(parcel) = lane.queue.pop_front() else {
            return;
        };
        let (now, draft) = (self.driver.now().wall, &parcel.draft);
        let ended = (draft.n, draft.id, draft.log);
        if let Err(error) = self
            .replica
            .end_draft(ended, end.as_ref().ok().copied(), now)
            .await
        {
            // It will be sent again and answered as known: nothing is said twice.
            tracing::warn!(%error, "a sent draft stays in the outbox");
        }
        self.draft_ended(draft.route.kind(), end.is_ok()).await;
        let unheard = match parcel.told {
            Some(told) => told.send(end).err(),
            None => Some(end),
        };
        // Who waited for something brief was told that it is not known.
        if let Some(Err(reject)) = unheard
            && !parcel.draft.is_brief()
            && parcel.draft.route.kind() != Kind::Receipt
        {
            let Draft { id, created, .. } = &parcel.draft;
            let to = parcel.draft.route.recipient();
            let to = to.map_or_else(String::new, |path| format!(" to {path}"));
            let age_s = now.since(*created) / 1000;
            let code = reject.code;
            let text = format!("message {id}{to}, made {age_s} s ago, was not sent: {code}");
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
    pub(super) fn front(&mut self, log: LogId) -> Option<&mut Parcel> {
        self.logs.get_mut(&log)?.queue.front_mut()
    }

    fn rest(&mut self, log: LogId, until: Mono) {
        if let Some(lane) = self.logs.get_mut(&log) {
            lane.not_before = Some(until);
        }
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
