//! Saying something: draft on disk, sealed bytes on disk, sent, confirmed, taken off the disk.

use super::errand::{Errand, is_pending};
use super::{Core, Waiting};
use crate::book::Verified;
use crate::client::random;
use crate::error::ClientError;
use crate::event::{Event, Notice, NoticeKind};
use crate::outbox::{Draft, KEEP_MS};
use conclave_e2ee::encryption_secret::key_id;
use conclave_e2ee::{ChannelKey, whisper};
use conclave_proto::body::{BadBody, Body};
use conclave_proto::channel_log::{ChannelLog, Identities as _, Mode};
use conclave_proto::codec;
use conclave_proto::entry::{Entry, EntryBody, Envelope, Header, Route, Suite};
use conclave_proto::frame::op::Append;
use conclave_proto::frame::reply::Appended;
use conclave_proto::frame::{Op, Ready, Reply};
use conclave_proto::id::{Blob, ChannelId, LogId, RecipientKeyId};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::key::EncryptionKey;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, UnixMs};
use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;

/// How long a refused draft that nobody waits for rests, unless the server says, in milliseconds.
const REST_MS: u64 = 5_000;
/// How long a draft rests whose channel key is not here, in milliseconds; it is woken when it comes.
const PENDING_MS: u64 = 30_000;
/// How often one draft is sealed again before it is given up.
const RESEALS_MAX: u32 = 8;
/// How often one draft is sealed again because the channel has another key, before it is given up.
const EPOCHS_MAX: u32 = 64;

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
    /// How to seal is being found out.
    preparing: bool,
    /// What is known of the channel was found to be old.
    stale: bool,
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
            .filter(|lane| !lane.in_flight && !lane.preparing)
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
        if lane.in_flight || lane.preparing || lane.not_before.is_some() {
            return;
        }
        let Some(parcel) = lane.queue.front_mut() else {
            return;
        };
        if parcel.draft.sealed.is_none() {
            let (ctr, stale) = (lane.next_ctr.unwrap_or(1), lane.stale);
            let to = parcel.draft.to.clone();
            let sealing = match stale {
                true => Sealing::Prepare,
                false => self.outbox_seal(&ready, log, ctr),
            };
            let env = match sealing {
                Sealing::Ready(env) => env,
                Sealing::Prepare => {
                    if let Some(lane) = self.outbox.logs.get_mut(&log) {
                        lane.preparing = true;
                    }
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

    /// Seals the draft in front, if everything that takes is known.
    fn outbox_seal(&mut self, ready: &Ready, log: LogId, ctr: u64) -> Sealing {
        let now = self.driver.now().wall;
        let Some(Parcel { draft, .. }) = self.outbox.front(log) else {
            return Sealing::Prepare;
        };
        let draft = draft.clone();
        let scope = match self.scope(log, draft.to.as_ref(), now) {
            Ok(Some(scope)) => scope,
            Ok(None) => return Sealing::Prepare,
            Err(reject) => return Sealing::Never(reject),
        };
        let header = Header {
            suite: scope.suite(),
            channel: scope.channel,
            epoch: scope.epoch(),
            sender: ready.path.clone(),
            sender_key: self.secret.machine_key(),
            sid: self.sid,
            ctr,
            msg_id: draft.id,
            ts: now,
            route: draft.to.clone().map_or(Route::Everyone, Route::Whisper),
            recipient_key: scope.recipient(),
            hop: draft.hop,
            flags: draft.flags,
        };
        let refused = |text: String| Sealing::Never(Reject::new(Code::TooLarge, text));
        let body = match self.with_heads(log, &draft.body) {
            Ok(body) => body,
            Err(error) => return refused(error.to_string()),
        };
        let sealed = match scope.seal {
            Seal::Clear => Ok(Envelope::clear(&header, body, &self.secret)),
            Seal::Channel(key) => match random() {
                Ok(nonce) => key.seal(&header, &body, nonce, &self.secret),
                Err(error) => return Sealing::Never(error.to_reject()),
            },
            Seal::Machine(to) => match random() {
                Ok(drawn) => whisper::seal(&header, &body, &to, drawn, &self.secret),
                Err(error) => return Sealing::Never(error.to_reject()),
            },
        };
        match sealed {
            Ok(env) => Sealing::Ready(Box::new(env)),
            Err(error) => refused(error.to_string()),
        }
    }

    /// Returns how a draft must be protected; `None` if that is not known well enough yet.
    fn scope(
        &self,
        log: LogId,
        to: Option<&SessionPath>,
        now: UnixMs,
    ) -> Result<Option<Scope>, Reject> {
        let channel = match log {
            LogId::Channel(channel) => channel,
            LogId::Mailbox(_) => {
                let server = self.book.server();
                let channel = server.as_bytes().get(..ChannelId::LEN);
                let channel = channel.and_then(ChannelId::from_slice);
                let (Some(channel), Some(to)) = (channel, to) else {
                    return Ok(None);
                };
                let key = self.book.whisper_key(to, now)?;
                return Ok(key.map(|key| Scope {
                    channel,
                    seal: Seal::Machine(key),
                }));
            }
        };
        let Some(tip) = self.book.tip(&channel) else {
            return Ok(None);
        };
        let newest = self.newest.get(&log).map_or(0, |head| head.n);
        let seal = match (tip.mode(), self.book.current_key(&channel)) {
            (Mode::Signed, _) => Some(Seal::Clear),
            (Mode::E2e, Some(key)) if !self.book.needs_rotation(&channel, now, newest) => {
                Some(Seal::Channel(Box::new(key.clone())))
            }
            (Mode::E2e, _) => None,
        };
        Ok(seal.map(|seal| Scope { channel, seal }))
    }

    /// Adds to a body what this machine has seen (SECURITY 2.5).
    fn with_heads(&self, log: LogId, body: &Blob) -> Result<Blob, BadBody> {
        let mut body = Body::parse(body)?;
        if let LogId::Channel(channel) = log {
            // What a follower has reached, so that a receiver has it, too.
            body.ctl_head = self.book.tip(&channel).map(ChannelLog::head);
            body.last_seen = self.newest.get(&log).copied();
        }
        body.ident_head = self.book.identity(&self.me).map(IdentityLog::head);
        body.to_bytes()
    }

    /// Takes the end of finding out how to seal.
    pub(super) async fn prepared(&mut self, log: LogId, result: Result<(), Reject>) {
        let now = self.driver.now();
        let Some(lane) = self.outbox.logs.get_mut(&log) else {
            return;
        };
        lane.preparing = false;
        let came = match log {
            LogId::Channel(channel) => self.book.current_key(&channel).is_some(),
            LogId::Mailbox(_) => false,
        };
        match result {
            Ok(()) => lane.stale = false,
            // It came while it was looked for.
            Err(reject) if is_pending(&reject) && came => {}
            Err(reject) if is_pending(&reject) => {
                // Nothing is sent in the clear, and nothing is lost: the draft waits for the key.
                lane.not_before = Some(now.mono.plus(PENDING_MS));
                if let LogId::Channel(channel) = log {
                    self.keys_pending(channel);
                }
                return;
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
        if let Some(Ok(appended)) = &end {
            self.keep_own(log, *appended).await;
        }
        if let Some(end) = end {
            self.finish(log, end).await;
        }
        self.send_next(log).await;
    }

    /// Keeps a copy of a whisper that was sent: nobody but its recipient could open it again.
    async fn keep_own(&mut self, log: LogId, Appended { seq, at, .. }: Appended) {
        let me = self.me;
        let Some(Parcel { draft, .. }) = self.outbox.front(log) else {
            return;
        };
        let env = draft.sealed.as_deref().map(codec::from_cbor::<Envelope>);
        let (Some(_), Some(Ok(env)), Ok(body)) = (&draft.to, env, Body::parse(&draft.body)) else {
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
        let own = Verified::new(log, me, &entry, &header, body, hash);
        if let Err(error) = self.replica.keep_message(own).await {
            tracing::warn!(%error, "no copy of a whisper was kept");
        }
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
        if reject.code == Code::StaleEpoch && parcel.reseals < EPOCHS_MAX {
            parcel.reseals += 1;
            parcel.draft.sealed = None;
            self.stale = true;
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

/// What came of sealing.
enum Sealing {
    Ready(Box<Envelope>),
    /// Something must be found out first.
    Prepare,
    /// It cannot be sent at all.
    Never(Reject),
}

/// How a draft is protected.
struct Scope {
    channel: ChannelId,
    seal: Seal,
}

enum Seal {
    Clear,
    Channel(Box<ChannelKey>),
    Machine(EncryptionKey),
}

impl Scope {
    const fn suite(&self) -> Suite {
        match self.seal {
            Seal::Clear => Suite::Clear,
            Seal::Channel(_) | Seal::Machine(_) => Suite::One,
        }
    }

    fn epoch(&self) -> u32 {
        match &self.seal {
            Seal::Channel(key) => key.place().e,
            Seal::Clear | Seal::Machine(_) => 0,
        }
    }

    fn recipient(&self) -> RecipientKeyId {
        match &self.seal {
            Seal::Machine(key) => key_id(key),
            Seal::Clear | Seal::Channel(_) => RecipientKeyId::new([0; 8]),
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
