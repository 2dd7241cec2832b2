//! The streams of entries: each judged in order, kept, told, and only then acknowledged.

use super::{Core, Waiting};
use crate::book::{Need, Verdict, Verified};
use crate::error::ClientError;
use crate::event::{Age, Event, Notice, NoticeKind, Scope, SenderFacts, VerifiedMessage};
use crate::replica::history::Admitted;
use conclave_proto::channel_log::Identities as _;
use conclave_proto::entry::{Entry, EntryBody, FLAG_HUMAN};
use conclave_proto::frame::op::{FindName, IdentFetch};
use conclave_proto::frame::reply::Gap;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::LogId;
use conclave_proto::link::Input;
use conclave_proto::reject::{Code, Reject};
use std::collections::VecDeque;

/// One followed log.
#[derive(Debug)]
pub(crate) struct Feed {
    queue: VecDeque<Step>,
    /// What the entry in front waits for; asked for already.
    need: Option<Need>,
    /// It was asked for and could not be had.
    in_vain: bool,
    /// How many batches came since the queue was empty.
    batches: usize,
    /// Too many came meanwhile: they are forgotten, and asked for again when the wait is over.
    paused: bool,
    stored: u64,
}

/// How many batches wait while something is asked for; each is at most one frame.
const BATCHES_MAX: usize = 64;

#[derive(Debug)]
enum Step {
    Entry(Entry),
    Gap(Gap),
}

impl Feed {
    pub(crate) const fn new(after: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            need: None,
            in_vain: false,
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
        feed.queue.extend(gap.map(Step::Gap));
        feed.queue.extend(entries.into_iter().map(Step::Entry));
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

    async fn feed(&mut self, log: LogId) -> Result<(), ClientError> {
        let mut reached = None;
        while self.backlog.is_empty() {
            let Some(feed) = self.feeds.get_mut(&log) else {
                break;
            };
            let Some(step) = feed.queue.pop_front() else {
                break;
            };
            match step {
                Step::Gap(gap) => {
                    reached = Some(gap.to);
                    self.replica
                        .reset_hold(log, gap.to.saturating_add(1))
                        .await?;
                    self.tell(Event::Gap { log, gap });
                }
                Step::Entry(entry) => {
                    let seq = entry.seq;
                    if !self.step(log, entry).await? {
                        break;
                    }
                    reached = Some(seq);
                }
            }
        }
        let Some(seq) = reached else { return Ok(()) };
        self.replica
            .move_cursor(self.handle.clone(), log, seq)
            .await?;
        if let Some(feed) = self.feeds.get_mut(&log) {
            feed.stored = feed.stored.max(seq);
        }
        self.driver.input(Input::Stored { log, seq });
        Ok(())
    }

    /// Judges one entry; `false` if it must wait for something.
    async fn step(&mut self, log: LogId, entry: Entry) -> Result<bool, ClientError> {
        match self.book.judge(log, &entry) {
            Verdict::Nothing => {}
            Verdict::Ctl(_) => {
                if let (EntryBody::Ctl(rec), LogId::Channel(channel)) = (&entry.body, log) {
                    self.replica
                        .keep_ctl(log, entry.seq, entry.at, rec.clone())
                        .await?;
                    self.tell(Event::ChannelChanged(channel));
                }
            }
            Verdict::Message(message) => self.admit(*message).await?,
            Verdict::Refused(kind, text) => self.refuse(log, entry.seq, kind, text),
            Verdict::Need(need) => {
                let Some(feed) = self.feeds.get_mut(&log) else {
                    return Ok(false);
                };
                if std::mem::take(&mut feed.in_vain) {
                    let text = "the server does not show who the sender is".to_owned();
                    self.refuse(log, entry.seq, NoticeKind::BadSignature, text);
                    return Ok(true);
                }
                feed.queue.push_front(Step::Entry(entry));
                feed.need = Some(need.clone());
                self.fetch(need);
                return Ok(false);
            }
        }
        if let Some(feed) = self.feeds.get_mut(&log) {
            feed.in_vain = false;
        }
        Ok(true)
    }

    async fn admit(&mut self, m: Verified) -> Result<(), ClientError> {
        let (log, seq) = (m.log, m.seq);
        match self.replica.admit(m.clone()).await? {
            Admitted::Replayed => {
                let text = format!("{} used a message id or counter again", m.sender);
                self.refuse(log, seq, NoticeKind::Replayed, text);
                return Ok(());
            }
            Admitted::Forked => {
                let text = "another message was shown in this place before".to_owned();
                self.refuse(log, seq, NoticeKind::ServerFork, text);
                return Ok(());
            }
            Admitted::New { missing } if missing > 0 => {
                let text = format!("{missing} messages of {} were not delivered", m.sender);
                self.refuse(log, seq, NoticeKind::Missing, text);
            }
            Admitted::New { .. } | Admitted::Known => {}
        }
        if m.kind <= 2 && !self.is_own(&m.sender) {
            // Both by the server's clock: what was stored before this connection came was missed.
            let live = self.ready.as_ref().is_none_or(|ready| m.at >= ready.at);
            let age = if live { Age::Live } else { Age::History };
            let message = self.present(m, age);
            self.tell(Event::Message(Box::new(message)));
        }
        Ok(())
    }

    /// Adds to a message what is known of its sender.
    pub(crate) fn present(&self, m: Verified, age: Age) -> VerifiedMessage {
        let (scope, member_since, vouched) = match m.log {
            LogId::Mailbox(_) => (Scope::Whisper, None, false),
            LogId::Channel(id) => {
                let (since, vouched) = self.book.standing(&id, &m.user, &self.me);
                let name = self.book.tip(&id).and_then(|tip| tip.name().cloned());
                (Scope::Channel { id, name }, since, vouched)
            }
        };
        let facts = SenderFacts {
            own: m.user == self.me,
            this_session: self.is_own(&m.sender),
            key_changed: self
                .book
                .pinned(&m.sender.user)
                .is_some_and(|pin| pin.changed),
            member_since,
            vouched,
        };
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
        let same = |w: &Waiting| matches!(w, Waiting::Need(other) if *other == need);
        if self.waiting.values().any(same) {
            return;
        }
        let op = match &need {
            Need::Identity(user) => {
                let from = self.book.next_identity(user);
                Op::IdentFetch(IdentFetch { user: *user, from })
            }
            Need::User(name) => Op::FindUser(FindName { name: name.clone() }),
        };
        let deadline = self.deadline();
        self.ask(op, deadline, Waiting::Need(need));
    }

    /// Takes what a feed needed.
    pub(super) async fn needed(&mut self, need: Need, result: Result<Reply, Reject>) {
        // Without an answer nothing is known: the entry is judged, and the question asked, again.
        let unheard = matches!(&result, Err(r) if matches!(r.code, Code::Offline | Code::Timeout));
        let got = match (&need, result) {
            (Need::Identity(user), Ok(Reply::Idents(idents))) if idents.user == *user => {
                self.learn(*user, idents.records).await.unwrap_or(false)
            }
            (Need::User(name), Ok(Reply::User(info))) if info.name == *name => {
                self.pin_name(name.clone(), info.user_id).await.is_ok()
            }
            _ => false,
        };
        for (log, feed) in self
            .feeds
            .iter_mut()
            .filter(|(_, feed)| feed.need.as_ref() == Some(&need))
        {
            feed.need = None;
            feed.in_vain = !got && !unheard;
            if std::mem::take(&mut feed.paused) {
                let (log, after) = (*log, feed.stored);
                self.driver.input(Input::Follow { log, after });
            }
        }
    }

    /// Verifies and keeps identity records; returns whether there was anything new.
    pub(crate) async fn learn(
        &mut self,
        user: conclave_proto::id::UserId,
        records: Vec<conclave_proto::id::Blob>,
    ) -> Result<bool, ClientError> {
        let from = self.book.next_identity(&user);
        if records.is_empty() {
            return Ok(false);
        }
        self.book.add_identity(user, &records)?;
        self.replica.keep_idents(user, from, records).await?;
        if let Some(name) = self.book.identity(&user).map(|log| log.username().clone()) {
            self.pin_name(name, user).await?;
        }
        Ok(true)
    }
}
