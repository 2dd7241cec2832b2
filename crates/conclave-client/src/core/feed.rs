//! The streams of entries: each judged in order, kept, told, and only then acknowledged.

use super::{Core, Errand, Waiting};
use crate::book::opened::Opened;
use crate::book::{Doubt, Need, Unreadable, Verdict, Verified};
use crate::client::desk::Paper;
use crate::client::read::SEQ_END;
use crate::error::ClientError;
use crate::event::{Age, Event, Notice, NoticeKind, Scope, SenderFacts, VerifiedMessage};
use crate::item::StateItem;
use crate::replica::history::{Admitted, Kept};
use conclave_e2ee::Place;
use conclave_proto::body::Head;
use conclave_proto::channel_log::Identities as _;
use conclave_proto::entry::{Entry, EntryBody, Envelope, FLAG_HUMAN, Route};
use conclave_proto::frame::op::{FindName, IdentFetch};
use conclave_proto::frame::reply::Gap;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{ChannelId, LogId, UserId};
use conclave_proto::link::Input;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use std::collections::VecDeque;

/// One followed log.
#[derive(Debug)]
pub(crate) struct Feed {
    queue: VecDeque<Step>,
    /// What the entry in front waits for; asked for already.
    need: Option<Need>,
    /// What the entry in front needs and was asked for in vain.
    vain: Vec<Need>,
    /// How often there was no answer.
    unheard: u32,
    /// How many batches came since the queue was empty.
    batches: usize,
    /// Too many came meanwhile: they are forgotten, and asked for again when the wait is over.
    paused: bool,
    stored: u64,
}

/// How often something is asked for again that the server did not answer.
const UNHEARD_MAX: u32 = 8;

/// How many batches wait while something is asked for; each is at most one frame.
const BATCHES_MAX: usize = 64;

/// How many entries are judged, kept and told at once.
const BATCH: usize = 256;

#[derive(Debug)]
enum Step {
    Entry(Entry, Option<Box<Opened>>),
    /// What is not kept any more; entries inside that are follow.
    Gap(Gap),
    /// All that is kept of the gap up to here was before this.
    Past(u64),
}

/// What was judged and is not kept yet.
#[derive(Default)]
struct Batch {
    kept: Vec<Kept>,
    told: Vec<Telling>,
    reached: Option<u64>,
}

enum Telling {
    Event(Event),
    /// One for each message that is kept, in the same order.
    Message(Box<Verified>),
}

fn refused(log: LogId, seq: u64, kind: NoticeKind, text: String) -> Telling {
    tracing::warn!(kind = kind.as_str(), seq, "entry refused");
    Telling::Event(Event::Notice(Notice {
        kind,
        log: Some(log),
        seq: Some(seq),
        text,
    }))
}

impl Feed {
    pub(crate) const fn new(after: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            need: None,
            vain: Vec::new(),
            unheard: 0,
            batches: 0,
            paused: false,
            stored: after,
        }
    }
}

impl Core {
    /// Takes what the link delivers.
    pub(super) fn take(&mut self, log: LogId, entries: Vec<Entry>, gap: Option<Gap>) {
        let Some(feed) = self.feeds.get_mut(&log).filter(|feed| !feed.paused) else {
            return;
        };
        feed.batches = if feed.queue.is_empty() {
            0
        } else {
            feed.batches + 1
        };
        let mut past = gap.as_ref().map(|gap| gap.to);
        feed.queue.extend(gap.map(Step::Gap));
        for entry in entries.into_iter().filter(|entry| entry.seq < SEQ_END) {
            let behind = past.take_if(|past| entry.seq > *past);
            feed.queue.extend(behind.map(Step::Past));
            feed.queue.push_back(Step::Entry(entry, None));
        }
        feed.queue.extend(past.map(Step::Past));
        if feed.batches > BATCHES_MAX {
            feed.queue.clear();
            feed.paused = true;
            self.driver.input(Input::Unfollow { log });
        }
    }

    /// Goes on with every feed that can go on.
    pub(super) async fn feed_all(&mut self) {
        let logs: Vec<LogId> = self
            .feeds
            .iter()
            .filter(|(_, feed)| feed.need.is_none() && !feed.queue.is_empty())
            .map(|(log, _)| *log)
            .collect();
        for log in logs {
            if let Err(error) = self.feed(log).await {
                // What could not be kept is not acknowledged: it comes again with the next connection.
                tracing::error!(%error, "the replica does not take entries");
                self.unfollow(log);
                let reason = Reject::new(error.code(), error.to_string());
                self.tell(Event::Dropped { log, reason });
            }
        }
    }

    /// Judges what waits, keeps it in one transaction, tells it, and only then acknowledges it.
    async fn feed(&mut self, log: LogId) -> Result<(), ClientError> {
        while self.backlog.is_empty() {
            self.open_ahead(log);
            let mut batch = Batch::default();
            let stored = self.stored(&log);
            while batch.told.len() < BATCH
                && let Some(step) = self.feeds.get_mut(&log).and_then(|f| f.queue.pop_front())
            {
                match step {
                    Step::Gap(gap) => {
                        // Not its end: what is kept inside it may still have to wait.
                        batch.reached = batch.reached.or(stored);
                        batch.kept.push(Kept::Hole(gap.to.saturating_add(1)));
                        batch.told.push(Telling::Event(Event::Gap { log, gap }));
                    }
                    Step::Past(to) => batch.reached = batch.reached.max(Some(to)),
                    Step::Entry(entry, opened) => {
                        let seq = entry.seq;
                        if !self.step(log, entry, opened, &mut batch) {
                            break;
                        }
                        batch.reached = Some(seq);
                    }
                }
            }
            let Some(seq) = batch.reached else { break };
            self.conclude(log, seq, batch).await?;
        }
        Ok(())
    }

    /// Opens envelopes that wait, many at once.
    fn open_ahead(&mut self, log: LogId) {
        let Some(feed) = self.feeds.get_mut(&log) else {
            return;
        };
        let mut waiting: Vec<(&mut Option<Box<Opened>>, Envelope)> = Vec::new();
        for step in feed.queue.iter_mut().take(BATCH) {
            if let Step::Entry(entry, opened @ None) = step
                && let EntryBody::Env(env) = &entry.body
            {
                waiting.push((opened, env.clone()));
            }
        }
        let envs: Vec<Envelope> = waiting.iter().map(|(_, env)| env.clone()).collect();
        let opened = Opened::all(&envs, &self.book.keys);
        for ((place, _), opened) in waiting.into_iter().zip(opened) {
            *place = Some(Box::new(opened));
        }
    }

    /// Judges one entry; `false` if it must wait for something.
    fn step(
        &mut self,
        log: LogId,
        entry: Entry,
        mut opened: Option<Box<Opened>>,
        batch: &mut Batch,
    ) -> bool {
        let seq = entry.seq;
        let need = match self.book.judge(log, &entry, &mut opened) {
            Verdict::Nothing => None,
            Verdict::Ctl(change) => {
                if let (EntryBody::Ctl(rec), LogId::Channel(channel)) = (&entry.body, log) {
                    batch.kept.push(Kept::Ctl(seq, entry.at, rec.clone()));
                    batch
                        .told
                        .push(Telling::Event(Event::ChannelChanged(channel)));
                    self.channel_changed(channel, &change);
                }
                None
            }
            Verdict::Message(message) => match self.book.doubt(&message) {
                Some(Doubt::Identity(user)) if !self.in_vain(&log, &Need::Identity(user)) => {
                    Some(Need::Identity(user))
                }
                doubt => {
                    let text = match doubt {
                        None => None,
                        Some(Doubt::Fork(text)) => Some(text),
                        Some(Doubt::Identity(_)) => Some(format!(
                            "{} knows newer records of its identity than the server shows",
                            message.sender
                        )),
                    };
                    let notice = text.map(|text| refused(log, seq, NoticeKind::ServerFork, text));
                    batch.told.extend(notice);
                    batch.kept.push(Kept::Message(message.clone()));
                    batch.told.push(Telling::Message(message));
                    None
                }
            },
            Verdict::Refused(kind, text) => {
                let shut = opened.as_ref();
                let shut = shut.and_then(|opened| Unreadable::of(&entry, opened, Some(kind)));
                let shut = shut.map(|item| Kept::Unreadable(Box::new(item)));
                batch.kept.extend(shut);
                batch.told.push(refused(log, seq, kind, text));
                None
            }
            Verdict::Need(need) => Some(need),
        };
        let Some(feed) = self.feeds.get_mut(&log) else {
            return false;
        };
        match need {
            None => {
                feed.vain.clear();
                true
            }
            Some(need) if feed.vain.contains(&need) => {
                feed.vain.clear();
                let shut = opened.as_ref();
                let shut = shut.and_then(|opened| Unreadable::of(&entry, opened, None));
                let shut = shut.map(|item| Kept::Unreadable(Box::new(item)));
                batch.kept.extend(shut);
                if self.book.may_come(&need) {
                    batch.kept.push(Kept::Skipped);
                }
                let (kind, text) = match need {
                    Need::Key(_) => (NoticeKind::Unreadable, "its key cannot be had"),
                    Need::Own(_) => (
                        NoticeKind::Unreadable,
                        "a whisper sealed to a key that this machine does not have any more",
                    ),
                    Need::Identity(_) | Need::User(_) => (
                        NoticeKind::BadSignature,
                        "the server does not show who the sender is",
                    ),
                };
                batch.told.push(refused(log, seq, kind, text.to_owned()));
                true
            }
            Some(need) => {
                feed.queue.push_front(Step::Entry(entry, opened));
                feed.need = Some(need.clone());
                self.fetch(need);
                false
            }
        }
    }

    /// Returns up to where a followed log is in the replica; `None` if it is not followed.
    pub(crate) fn stored(&self, log: &LogId) -> Option<u64> {
        self.feeds.get(log).map(|feed| feed.stored)
    }

    fn in_vain(&self, log: &LogId, need: &Need) -> bool {
        let feed = self.feeds.get(log);
        feed.is_some_and(|feed| feed.vain.contains(need))
    }

    /// Keeps a batch and tells of it.
    async fn conclude(&mut self, log: LogId, seq: u64, batch: Batch) -> Result<(), ClientError> {
        let handle = self.handle.clone();
        let kept = self.replica.keep(handle, log, batch.kept, seq).await?;
        // The next ones are opened while the disk is at work.
        self.open_ahead(log);
        let mut admitted = kept.end().await?.into_iter();
        let proves = |telling: &Telling| matches!(telling, Telling::Message(m) if m.proves());
        let proves = batch.told.iter().any(proves);
        for telling in batch.told {
            match telling {
                Telling::Event(event) => self.tell(event),
                Telling::Message(m) => {
                    let (what, fork) = admitted.next().unwrap_or((Admitted::Known, false));
                    self.admitted(*m, what, fork);
                }
            }
        }
        if let Some(feed) = self.feeds.get_mut(&log) {
            feed.stored = feed.stored.max(seq);
        }
        if proves {
            self.tell_deliveries().await;
        }
        self.driver.input(Input::Stored { log, seq });
        Ok(())
    }

    fn admitted(&mut self, m: Verified, what: Admitted, fork: bool) {
        let (log, seq) = (m.log, m.seq);
        match what {
            Admitted::Replayed => {
                let text = format!("{} used a message id or counter again", m.sender);
                self.refuse(log, seq, NoticeKind::Replayed, text);
                return;
            }
            Admitted::Forked => {
                let text = "another message was shown in this place before".to_owned();
                self.refuse(log, seq, NoticeKind::ServerFork, text);
                return;
            }
            Admitted::New { missing } if missing > 0 => {
                let text = format!("{missing} messages of {} were not delivered", m.sender);
                self.refuse(log, seq, NoticeKind::Missing, text);
            }
            Admitted::New { .. } | Admitted::Known => {}
        }
        if fork {
            let text = format!("{} was shown other messages before this one", m.sender);
            self.refuse(log, seq, NoticeKind::ServerFork, text);
        }
        let seen = Head {
            n: seq,
            hash: m.hash,
        };
        self.newest
            .entry(log)
            .and_modify(|newest| {
                if newest.n < seq {
                    *newest = seen;
                }
            })
            .or_insert(seen);
        if let Some(mut paper) = Paper::of(&m) {
            paper.key_changed = self.facts(None, &m.user, &m.sender).key_changed;
            self.tell(Event::Desk(Box::new(paper)));
        } else if m.is_message() && !self.is_own(&m.sender) {
            // Both by the server's clock: what was stored before this connection came was missed.
            let live = self.ready.as_ref().is_none_or(|ready| m.at >= ready.at);
            let age = if live { Age::Live } else { Age::History };
            let message = self.present(m, age);
            self.tell(Event::Message(Box::new(message)));
        } else if !self.is_own(&m.sender)
            && let Some(item) = self.state_item(m)
        {
            self.tell(Event::State(Box::new(item)));
        }
    }

    /// Returns a state item as others see it; `None` if an entry is none.
    fn state_item(&self, m: Verified) -> Option<StateItem> {
        let (LogId::Channel(channel), Route::State(..)) = (m.log, &m.route) else {
            return None;
        };
        Some(StateItem {
            channel,
            key: m.body.key?,
            value: m.body.data,
            version: m.seq,
            at: m.at,
            facts: self.facts(Some(&channel), &m.user, &m.sender),
            sender: m.sender,
            user: m.user,
        })
    }

    /// Adds to a message what is known of its sender.
    pub(crate) fn present(&self, m: Verified, age: Age) -> VerifiedMessage {
        let (scope, channel) = match m.log {
            LogId::Mailbox(_) => (Scope::Whisper, None),
            LogId::Channel(id) => {
                let name = self.book.channel_name(&id);
                (Scope::Channel { id, name }, Some(id))
            }
        };
        let facts = self.facts(channel.as_ref(), &m.user, &m.sender);
        VerifiedMessage {
            server: self.book.server(),
            log: m.log,
            scope,
            seq: m.seq,
            at: m.at,
            id: m.id,
            sender: m.sender,
            user: m.user,
            facts,
            ts: m.ts,
            hop: m.hop,
            human: m.flags & FLAG_HUMAN != 0,
            body: m.body,
            age,
        }
    }

    /// Returns what is known of who speaks, in a channel or to this session alone.
    pub(crate) fn facts(
        &self,
        channel: Option<&ChannelId>,
        user: &UserId,
        path: &SessionPath,
    ) -> SenderFacts {
        let standing = channel.map(|id| self.book.standing(id, user, &self.me));
        let (member_since, vouched) = standing.unwrap_or((None, false));
        let pin = self.book.pinned(&path.user);
        SenderFacts {
            own: *user == self.me,
            this_session: self.is_own(path),
            key_changed: pin.is_some_and(|pin| pin.changed),
            member_since,
            vouched,
        }
    }

    fn refuse(&mut self, log: LogId, seq: u64, kind: NoticeKind, text: String) {
        tracing::warn!(kind = kind.as_str(), seq, "entry refused");
        self.tell(Event::Notice(Notice {
            kind,
            log: Some(log),
            seq: Some(seq),
            text,
        }));
    }

    /// Asks for what a feed needs, once however many feeds do.
    fn fetch(&mut self, need: Need) {
        let same = |w: &Waiting| matches!(w, Waiting::Need(other, _) if *other == need);
        if self.waiting.values().any(same) {
            return;
        }
        let mut first = 0;
        let op = match &need {
            Need::Key(place) => return self.errand(Errand::Keys(place.channel)),
            Need::Own(_) => return self.errand(Errand::Reload),
            Need::Identity(user) => {
                let from = self.book.next_identity(user);
                first = from;
                Op::IdentFetch(IdentFetch { user: *user, from })
            }
            Need::User(name) => Op::FindUser(FindName { name: name.clone() }),
        };
        let deadline = self.deadline();
        self.ask(op, deadline, Waiting::Need(need, first));
    }

    /// Takes what a feed needed.
    pub(super) async fn needed(&mut self, need: Need, from: u64, result: Result<Reply, Reject>) {
        // Without an answer nothing is known: the entry is judged, and the question asked, again.
        let unheard = matches!(&result, Err(r) if r.code != Code::NotFound);
        let got = match (&need, result) {
            (Need::Identity(user), Ok(Reply::Idents(idents))) if idents.user == *user => {
                let learned = self.learn(*user, from, idents.records).await;
                learned.unwrap_or(false)
            }
            (Need::User(name), Ok(Reply::User(info))) if info.name == *name => {
                self.pin_name(name.clone(), info.user_id).await.is_ok()
            }
            _ => false,
        };
        let mut given_up = !got && !unheard;
        for feed in self.feeds.values_mut() {
            if unheard && feed.need.as_ref() == Some(&need) {
                feed.unheard += 1;
                given_up |= feed.unheard > UNHEARD_MAX;
            }
        }
        self.release(|waits| *waits == need, given_up);
    }

    /// Lets feeds go on that waited for something: it is there, or was asked for in vain.
    pub(super) fn release(&mut self, is: impl Fn(&Need) -> bool, in_vain: bool) {
        let waiting = self
            .feeds
            .iter_mut()
            .filter(|(_, feed)| feed.need.as_ref().is_some_and(&is));
        for (log, feed) in waiting {
            let need = feed.need.take();
            feed.vain.extend(need.filter(|_| in_vain));
            if in_vain {
                feed.unheard = 0;
            }
            if std::mem::take(&mut feed.paused) {
                let (log, after) = (*log, feed.stored);
                self.driver.input(Input::Follow { log, after });
                if let LogId::Channel(channel) = log {
                    // Who stops following has no profile there any more.
                    self.profiles.renew(&channel, self.driver.now().mono);
                }
            }
        }
    }

    /// Returns what feeds wait for.
    pub(super) fn needs(&self) -> impl Iterator<Item = Need> + '_ {
        self.feeds.values().filter_map(|feed| feed.need.clone())
    }

    /// Returns which epoch of a channel its feed waits for the key of.
    pub(crate) fn awaited(&self, channel: &ChannelId) -> Option<Place> {
        match self.feeds.get(&LogId::Channel(*channel))?.need {
            Some(Need::Key(place)) => Some(place),
            _ => None,
        }
    }

    /// Verifies and keeps identity records; returns whether there was anything new.
    pub(crate) async fn learn(
        &mut self,
        user: UserId,
        asked_from: u64,
        mut records: Vec<conclave_proto::id::Blob>,
    ) -> Result<bool, ClientError> {
        let from = self.book.next_identity(&user);
        // An errand may have learned some of them meanwhile.
        let known = usize::try_from(from.saturating_sub(asked_from)).unwrap_or(usize::MAX);
        records.drain(..known.min(records.len()));
        if records.is_empty() {
            return Ok(known > 0);
        }
        self.book.add_identity(user, &records)?;
        self.replica.keep_idents(user, from, records).await?;
        if let Some(name) = self.book.identity(&user).map(|log| log.username().clone()) {
            self.pin_name(name, user).await?;
        }
        Ok(true)
    }
}
