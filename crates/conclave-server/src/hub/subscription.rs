//! Following logs: pushes to who is up to date, pages to everybody else.
//!
//! A subscription is `Live`, `Loading` or `Stalled`. Only a `Live` one gets pushes, and only the
//! entry after the last one sent; everything else loads pages until the head is reached. A reader
//! that does not take what was sent is `Stalled` until half of it is gone; nobody waits for it.

use super::access::not_found;
use super::handle::{BYTES_OUTSTANDING_MAX, EVENTS_OUTSTANDING_MAX};
use super::ring::chunk;
use super::state::{Conn, HubState};
use super::{ConnId, Effect, Load, Loaded, Outgoing, Purpose};
use crate::store::{Page, PageQuery, Select};
use bytes::Bytes;
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::entry::Entry;
use conclave_proto::frame::ServerFrame;
use conclave_proto::frame::event::{Dropped, Entries, Event};
use conclave_proto::frame::reply::{Reply, Subscribed, Wraps};
use conclave_proto::id::{LogId, UserId};
use conclave_proto::limit::{FRAME_BYTES_MAX, PAGE_ENTRIES_MAX, SUBSCRIPTIONS_MAX};
use conclave_proto::reject::{Code, Reject};

/// One connection's place in one log.
#[derive(Debug)]
pub(super) struct Sub {
    /// Everything up to here was sent.
    pushed: u64,
    state: SubState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubState {
    Live,
    Loading,
    Stalled,
}

impl Sub {
    pub(super) fn is_live(&self) -> bool {
        self.state == SubState::Live
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.state == SubState::Stalled
    }
}

impl Conn {
    fn has_room(&self) -> bool {
        self.frames < EVENTS_OUTSTANDING_MAX && self.bytes < BYTES_OUTSTANDING_MAX
    }

    fn sent(&mut self, frame: &Bytes) {
        self.frames += 1;
        self.bytes += u64::try_from(frame.len()).unwrap_or(u64::MAX);
    }
}

/// Encodes an event once for all connections of an encoding.
#[must_use]
pub fn encode(event: Event, encoding: Encoding) -> Option<Bytes> {
    match encoding.encode(&ServerFrame::Event(event), FRAME_BYTES_MAX) {
        Ok(frame) => Some(frame.into()),
        Err(error) => {
            tracing::error!(%error, "an event does not fit into a frame");
            None
        }
    }
}

/// The frames of one event, made as they are needed.
#[derive(Default)]
struct Frames([Option<Bytes>; 2]);

impl Frames {
    fn frame(&mut self, encoding: Encoding, event: impl Fn() -> Event) -> Option<Bytes> {
        let [cbor, json] = &mut self.0;
        let frame = match encoding {
            Encoding::Cbor => cbor,
            Encoding::Json => json,
        };
        if frame.is_none() {
            *frame = encode(event(), encoding);
        }
        frame.clone()
    }
}

impl HubState {
    /// Starts to follow a log; who may is decided before.
    pub(super) fn subscribe(
        &mut self,
        conn: ConnId,
        id: u64,
        log: LogId,
        after: u64,
    ) -> Result<(), Reject> {
        let state = self.logs.get_mut(&log).filter(|l| !l.deleted);
        let state = state.ok_or_else(|| not_found("log"))?;
        let Some(c) = self.conns.get_mut(&conn) else {
            return Ok(());
        };
        if c.subs.len() >= SUBSCRIPTIONS_MAX && !c.subs.contains_key(&log) {
            let text = format!("a connection follows at most {SUBSCRIPTIONS_MAX} logs");
            return Err(Reject::new(Code::LimitReached, text));
        }
        state.followers.insert(conn);
        let pushed = after.min(state.head);
        let reply = Subscribed {
            head: state.head,
            oldest: state.oldest,
        };
        let state = SubState::Loading;
        c.subs.insert(log, Sub { pushed, state });
        self.reply(conn, id, Reply::Subscribed(reply));
        self.fill(conn, log);
        Ok(())
    }

    /// Stops to follow a log; returns whether it was followed.
    pub(super) fn unsubscribe(&mut self, conn: ConnId, log: &LogId) -> bool {
        if let Some(state) = self.logs.get_mut(log) {
            state.followers.remove(&conn);
            if state.followers.is_empty() {
                state.ring.clear();
            }
        }
        let conn = self.conns.get_mut(&conn);
        conn.is_some_and(|conn| conn.subs.remove(log).is_some())
    }

    /// Ends a subscription and says so. Who does not read is closed instead, and finds out when it
    /// comes back: it must not go on believing that it follows the log.
    pub(super) fn drop_subscription(&mut self, conn: ConnId, log: LogId, reason: Reject) {
        if !self.unsubscribe(conn, &log) {
            return;
        }
        if self.conns.get(&conn).is_some_and(Conn::has_room) {
            self.tell(conn, &Event::Dropped(Dropped { log, reason }));
        } else {
            self.end(self.last, conn, Close::Slow, reason);
        }
    }

    /// Ends what a user follows without being a member any more.
    pub(super) fn end_strangers(&mut self, user: UserId) {
        let mut ended = Vec::new();
        for (conn, c) in &mut self.conns {
            if c.session.as_ref().is_some_and(|s| s.user == user) {
                // Having been a member is no right to read on who is one.
                c.shown.retain(|id| self.dir.visible(id, &user).is_some());
                ended.extend(c.subs.keys().filter_map(|log| match log {
                    LogId::Channel(id) if self.dir.joined(id, &user).is_err() => {
                        Some((*conn, *log))
                    }
                    _ => None,
                }));
            }
        }
        for (conn, log) in ended {
            self.unfollow(conn, &log);
            let reason = Reject::new(Code::Forbidden, "you are no member of the channel any more");
            self.drop_subscription(conn, log, reason);
        }
        let Some(channels) = self.dir.users.get(&user).map(|u| u.channels.clone()) else {
            return;
        };
        self.hide_user(user, &channels);
    }

    /// Takes new entries of a log, which are durable, and pushes them to who is up to date.
    pub(super) fn push(&mut self, log: LogId, entries: Vec<Entry>) {
        let Some(state) = self.logs.get_mut(&log) else {
            return;
        };
        state.oldest = state.oldest.max(1);
        state.head = entries.last().map_or(state.head, |e| e.seq);
        let followers: Vec<ConnId> = state.followers.iter().copied().collect();
        if followers.is_empty() {
            return;
        }
        for entry in &entries {
            state.ring.push(entry.clone());
        }
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let entries = chunk(rest.iter());
            rest = rest.get(entries.len()..).unwrap_or_default();
            self.push_chunk(log, &entries, &followers);
        }
    }

    fn push_chunk(&mut self, log: LogId, entries: &[Entry], followers: &[ConnId]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let (first, last) = (first.seq, last.seq);
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let mut frames = Frames::default();
        for id in followers {
            let Some(conn) = self.conns.get_mut(id) else {
                continue;
            };
            let room = conn.has_room();
            let encoding = conn.encoding;
            let Some(sub) = conn
                .subs
                .get_mut(&log)
                .filter(|s| s.is_live() && s.pushed < last)
            else {
                continue;
            };
            if !room || sub.pushed + 1 < first {
                sub.state = SubState::Stalled;
                continue;
            }
            let event = || entries_event(log, entries.to_vec());
            let Some(frame) = frames.frame(encoding, event) else {
                sub.state = SubState::Stalled;
                continue;
            };
            sub.pushed = last;
            conn.sent(&frame);
            self.stats.pushed += count;
            self.effect(Effect::Send(*id, Outgoing::Event(frame)));
        }
    }

    /// Sends a subscription what it lacks, from memory as far as that reaches.
    fn fill(&mut self, id: ConnId, log: LogId) {
        loop {
            let Some(state) = self.logs.get(&log) else {
                return;
            };
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            let (room, encoding) = (conn.has_room(), conn.encoding);
            let Some(sub) = conn.subs.get_mut(&log) else {
                return;
            };
            if sub.pushed >= state.head {
                sub.state = SubState::Live;
                return;
            }
            if !room {
                sub.state = SubState::Stalled;
                return;
            }
            let page = state.ring.page(sub.pushed);
            let Some(last) = page.last().map(|e| e.seq) else {
                sub.state = SubState::Loading;
                let query = PageQuery::Log {
                    log,
                    after: sub.pushed,
                    limit: u32::try_from(PAGE_ENTRIES_MAX).unwrap_or(u32::MAX),
                    select: Select::All,
                };
                let purpose = Purpose::Follow(encoding);
                self.effect(Effect::Load(Load {
                    conn: id,
                    purpose,
                    query,
                }));
                return;
            };
            let Some(frame) = encode(entries_event(log, page), encoding) else {
                return;
            };
            sub.pushed = last;
            conn.sent(&frame);
            self.send(id, Outgoing::Event(frame));
        }
    }

    /// Takes a page that was loaded.
    pub(super) fn loaded(&mut self, loaded: Loaded) {
        let Load {
            conn: id,
            purpose,
            query,
        } = loaded.load;
        let page = match loaded.page {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "a page could not be read");
                return self.load_failed(id, purpose);
            }
        };
        match (purpose, page) {
            (Purpose::Answer(request), Page::Entries(page)) => {
                self.reply(id, request, Reply::Page(page));
            }
            (Purpose::Answer(request), Page::Audit(page)) => {
                self.reply(id, request, Reply::Audit(page));
            }
            (Purpose::Invite(request, mut info), Page::Entries(page)) => {
                info.ctl = page.entries;
                self.reply(id, request, Reply::Invite(*info));
            }
            (Purpose::Follow(_), Page::Entries(page)) => {
                if let PageQuery::Log { log, after, .. } = query {
                    self.follow_on(id, log, after, page.next, loaded.frame);
                }
            }
            (Purpose::Answer(request), Page::Wraps(wraps)) => {
                self.reply(id, request, Reply::Wraps(Wraps { wraps }));
            }
            (Purpose::Cursors(request, fresh), Page::Cursors(rows)) => {
                if let PageQuery::Cursors { log } = query {
                    self.tell_cursors(id, request, log, fresh, rows);
                }
            }
            (Purpose::Answer(_) | Purpose::Invite(..) | Purpose::Follow(_), Page::Cursors(_))
            | (Purpose::Invite(..) | Purpose::Follow(_), Page::Audit(_) | Page::Wraps(_))
            | (Purpose::Cursors(..), Page::Entries(_) | Page::Audit(_) | Page::Wraps(_)) => {}
        }
    }

    fn follow_on(&mut self, id: ConnId, log: LogId, after: u64, next: u64, frame: Option<Bytes>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let room = conn.has_room();
        let current = |s: &&mut Sub| s.state == SubState::Loading && s.pushed == after;
        let Some(sub) = conn.subs.get_mut(&log).filter(current) else {
            return;
        };
        if next <= after {
            // The view of the reading thread is older than the head; what is missing comes by push
            // or with the next report of the connection.
            sub.state = SubState::Stalled;
            return;
        }
        match frame {
            Some(frame) if room => {
                sub.pushed = next;
                conn.sent(&frame);
                self.send(id, Outgoing::Event(frame));
            }
            Some(_) => {
                sub.state = SubState::Stalled;
                return;
            }
            None => sub.pushed = next,
        }
        self.fill(id, log);
    }

    fn load_failed(&mut self, conn: ConnId, purpose: Purpose) {
        let reject = Reject::new(Code::Internal, "the server could not read the log");
        match purpose {
            Purpose::Answer(id) | Purpose::Invite(id, _) | Purpose::Cursors(id, _) => {
                self.refuse(conn, id, reject);
            }
            Purpose::Follow(_) => self.end(self.last, conn, Close::Restarted, reject),
        }
    }

    /// Learns that a connection has written some of what it was sent.
    pub(super) fn wrote(&mut self, id: ConnId, frames: u32, bytes: u64) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.frames = conn
            .frames
            .saturating_sub(usize::try_from(frames).unwrap_or(usize::MAX));
        conn.bytes = conn.bytes.saturating_sub(bytes);
        if conn.frames > EVENTS_OUTSTANDING_MAX / 2 || conn.bytes > BYTES_OUTSTANDING_MAX / 2 {
            return;
        }
        let stalled = conn.subs.iter().filter(|(_, sub)| sub.is_stalled());
        let stalled: Vec<LogId> = stalled.map(|(log, _)| *log).collect();
        for log in stalled {
            self.fill(id, log);
        }
    }

    /// Resumes what is stalled without anything outstanding whose report could resume it.
    pub(super) fn refill(&mut self) {
        let idle = |c: &Conn| c.frames == 0 && c.subs.values().any(Sub::is_stalled);
        let idle = self.conns.iter().filter(|(_, conn)| idle(conn));
        let idle: Vec<ConnId> = idle.map(|(id, _)| *id).collect();
        for id in idle {
            self.wrote(id, 0, 0);
        }
    }

    /// Tells one connection something that it can do without if it does not read.
    pub(super) fn tell(&mut self, id: ConnId, event: &Event) {
        self.tell_all(&[id], event);
    }

    /// Tells some connections something that they can do without if they do not read.
    pub(super) fn tell_all(&mut self, ids: &[ConnId], event: &Event) {
        let mut frames = Frames::default();
        for id in ids {
            let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.has_room()) else {
                continue;
            };
            if let Some(frame) = frames.frame(conn.encoding, || event.clone()) {
                conn.sent(&frame);
                self.effect(Effect::Send(*id, Outgoing::Event(frame)));
            }
        }
    }
}

/// Makes the event that carries entries.
#[must_use]
pub fn entries_event(log: LogId, entries: Vec<Entry>) -> Event {
    Event::Entries(Entries {
        log,
        entries,
        gap: None,
    })
}

impl Loaded {
    /// Takes a page and encodes the event for a subscription; for the reading thread.
    #[must_use]
    pub fn new(load: Load, page: Result<Page, crate::store::StoreError>) -> Self {
        let frame = match (&load.purpose, &load.query, &page) {
            (Purpose::Follow(encoding), PageQuery::Log { log, .. }, Ok(Page::Entries(page)))
                if !page.entries.is_empty() || page.gap.is_some() =>
            {
                let entries = Entries {
                    log: *log,
                    entries: page.entries.clone(),
                    gap: page.gap.clone(),
                };
                encode(Event::Entries(entries), *encoding)
            }
            _ => None,
        };
        Self { load, page, frame }
    }
}
