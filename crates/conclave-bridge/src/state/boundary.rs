//! What the host's hooks and its transcript are for: a boundary of its work carries messages into a turn
//! that is under way or begins, and the transcript has what the model got.

use super::item::WATCHED;
use super::unread::{Carrier, Item};
use super::{Output, State};
use crate::control::Event;
use crate::render::{Attributes, Frame, Key, nonce};
use crate::wake::{Choice, Lost, PROOF_MS, WakePath, Ways};
use conclave_proto::profile::Status;
use conclave_proto::time::{Mono, Now};
use std::collections::BTreeSet;

/// What a text has of what was sent, by the characters that nobody knows before it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Of frames that are there to their end, and of notices.
    pub frames: BTreeSet<String>,
    /// Of lines of our own words.
    pub lines: BTreeSet<String>,
}

/// A trial of waking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Something went by this way.
    Sent(WakePath),
    /// A call waits: the driver answers it.
    Wait,
    /// Nothing wakes the agent.
    Nothing,
}

/// By which number a pointer is known that a hook gave: no other way has it.
const TOLD: u64 = 0;

/// What is said of messages that no hook can carry.
const LONG: &str = "What is unread is too long for here. Call check_messages.";

/// What a trial says.
const TRIAL: &str = "This is a test of waking. Call check_messages.";

impl State {
    /// Returns what a boundary of the host's work carries: what is due there and goes by no other way, the
    /// newest of it first chosen, in its order, at most about `bytes_max` bytes. It stays unread until there
    /// is evidence; what finds no room stays, too.
    pub fn for_boundary(&mut self, now: Now, event: Event, bytes_max: usize) -> Vec<Frame> {
        self.hooked(now, event);
        let working = match event {
            Event::SessionStart | Event::Prompt | Event::Stop => Status::Idle,
            Event::ToolEnd => Status::Working,
            Event::ToolStart | Event::Waiting | Event::SessionEnd => return Vec::new(),
        };
        if self.waits > 0 || self.is_paused() || self.ways.row(WakePath::Hook).refuted {
            return Vec::new();
        }
        let mut left = bytes_max;
        let mut frames = self.notes_within(&mut left);
        if event != Event::ToolEnd
            && let Some(frame) = self.watched_at(now, working)
        {
            left = left.saturating_sub(frame.standalone().len());
            frames.push(frame);
        }
        frames.extend(self.messages_within(now, working, left, bytes_max));
        if event == Event::Stop && !frames.is_empty() {
            self.ways.goes_on();
        }
        if !frames.is_empty() {
            self.look_at = Some(now.mono.plus(PROOF_MS));
        }
        self.offer_pushes(now);
        frames
    }

    /// Notes that the host is at a boundary that carries nothing.
    pub fn hooked(&mut self, now: Now, event: Event) {
        self.ways.hooked(now.mono, event);
        self.reopen_void();
    }

    /// Returns the messages that fit into what is `left`; of one that fits into nothing the agent is told.
    fn messages_within(
        &mut self,
        now: Now,
        working: Status,
        mut left: usize,
        bytes_max: usize,
    ) -> Vec<Frame> {
        let is_due = |item: &Item| {
            let home = self.homes.get(&item.message.home);
            let status = home.and_then(|home| home.status);
            let status = status.filter(|status| *status == Status::Dnd);
            let due = self.due_in(item, Some(status.unwrap_or(working)));
            due.is_some_and(|at| at <= now.mono)
        };
        let (mut chosen, mut long) = (Vec::new(), None);
        for place in self.unread.all_unpushed(is_due) {
            if !self.has_budget(now) {
                break;
            }
            let Some(item) = self.unread.item(place).cloned() else {
                continue;
            };
            let mut frame = self.show(now, &item.message, item.age, 0);
            if item.pushed {
                frame.attributes = frame.attributes.with(Key::Redelivered, 1);
            }
            let mut bytes = frame.standalone().len() + 1;
            let fits_nowhere = bytes > bytes_max;
            if fits_nowhere {
                // One notice stands for all of them.
                frame = long.take().unwrap_or_else(|| self.unread_notice());
                bytes = frame.standalone().len() + 1;
            }
            if bytes > left {
                break;
            }
            match fits_nowhere {
                true => {
                    long = Some(frame);
                    self.unread.set_carried(place, Carrier::Line(TOLD));
                }
                false => {
                    left -= bytes;
                    self.push_frame(now, place, &frame, WakePath::Hook);
                    chosen.push((place, frame));
                }
            }
        }
        chosen.sort_by_key(|(place, _)| *place);
        let frames = chosen.into_iter().map(|(_, frame)| frame);
        frames.chain(long).collect()
    }

    fn unread_notice(&mut self) -> Frame {
        let attributes = Attributes::default()
            .with(Key::Kind, "system")
            .with(Key::Notice, "unread");
        let seed = self.draw();
        Frame::notice(LONG, attributes, seed)
    }

    fn watched_at(&mut self, now: Now, working: Status) -> Option<Frame> {
        let (home, _) = self.watched?;
        let status = self.homes.get(&home).and_then(|home| home.status);
        let hushed = status == Some(Status::Dnd) || self.is_quiet(home);
        if hushed || working == Status::Working || !self.has_budget(now) {
            return None;
        }
        self.watched = None;
        self.pushes.take(1);
        let attributes = Attributes::default()
            .with(Key::Kind, "system")
            .with(Key::Notice, "watched");
        let seed = self.draw();
        Some(Frame::notice(WATCHED, attributes, seed))
    }

    fn notes_within(&mut self, left: &mut usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(note) = self.notes.pop_front() {
            let bytes = note.standalone().len() + 1;
            if bytes > *left {
                self.notes.push_front(note);
                break;
            }
            *left -= bytes;
            frames.push(note);
        }
        frames
    }

    /// Notes that the agent fetches what is unread; returns the notices that waited for that.
    pub fn fetched(&mut self, now: Now) -> Vec<Frame> {
        if let Some(path) = self.ways.fetched(now) {
            self.proven(now, path);
        }
        self.notes.drain(..).collect()
    }

    /// Notes that a wait was answered and nobody had given it up.
    pub fn waited(&mut self, now: Now) {
        self.prove(now, WakePath::Wait);
    }

    /// Takes what a prompt has of ours; whether a human typed it.
    pub fn prompted(&mut self, now: Now, seen: &Seen, human: bool) {
        if human {
            self.ways.human();
            self.reopen_told(now);
        }
        self.saw(now, seen);
    }

    /// Offers again what the agent was told of and did not fetch: a human's turn carries it, once.
    fn reopen_told(&mut self, now: Now) {
        let standing = self.ways.stands(now.mono);
        let is_told = |carrier: &Carrier| match carrier {
            Carrier::Line(serial) => Some(*serial) != standing,
            Carrier::Frame(..) => false,
        };
        self.unread.reopen(is_told);
    }

    /// Takes what the model got, as far as it is known: messages that were pushed are shown.
    pub fn saw(&mut self, now: Now, seen: &Seen) {
        for (path, message) in self.unread.framed(|gutter| seen.frames.contains(gutter)) {
            self.prove(now, path);
            self.shown(message.home, message.log, &message.from, message.id);
        }
        let in_lines = |nonce: &str| seen.lines.contains(nonce);
        if let Some(path) = self.ways.saw(now, in_lines) {
            self.proven(now, path);
        }
        let tried = self.trial.take_if(|(_, word)| {
            seen.frames.contains(word.as_str()) || seen.lines.contains(word.as_str())
        });
        if let Some((path, _)) = tried {
            self.prove(now, path);
        }
    }

    pub(super) fn prove(&mut self, now: Now, path: WakePath) {
        let path = self.ways.prove(now, path);
        self.proven(now, path);
    }

    fn proven(&mut self, now: Now, path: WakePath) {
        self.outputs.push_back(Output::Proven(path, now.wall));
    }

    pub(super) fn waiting(&mut self, count: usize) {
        match count {
            // Nothing is lost with a wait: what it did not return is unread.
            0 => drop(self.ways.detached(WakePath::Wait, "no call waits")),
            _ => self.ways.attached(WakePath::Wait),
        }
    }

    pub(super) fn detached(&mut self, now: Now, path: WakePath, why: &'static str) {
        if let Some(lost) = self.ways.detached(path, why) {
            self.lose(lost);
        }
        self.offer_pushes(now);
    }

    fn lose(&mut self, lost: Lost) {
        let is_lost = |carrier: &Carrier| match (carrier, lost) {
            (Carrier::Line(serial), Lost::Line(lost)) => *serial == lost,
            (Carrier::Frame(path, ..), Lost::Channel) => *path == WakePath::Channel,
            (Carrier::Line(_), Lost::Channel) | (Carrier::Frame(..), Lost::Line(_)) => false,
        };
        let again = self.unread.reopen(is_lost);
        tracing::debug!(?lost, again, "sent again by another way");
    }

    /// Offers again what went by a channel that nobody listens to, for there may be another way now.
    pub(super) fn reopen_void(&mut self) {
        if self.ways.is_channel_void() {
            self.lose(Lost::Channel);
        }
    }

    /// Has the transcript looked at when that is due; returns when it will be.
    pub(super) fn look_due(&mut self, now: Now) -> Option<Mono> {
        let due = self.ways.look_at().into_iter().chain(self.look_at).min();
        let due = due.filter(|_| !self.looking)?;
        if due > now.mono {
            return Some(due);
        }
        self.looking = true;
        self.outputs.push_back(Output::Look);
        None
    }

    pub(super) fn looked(&mut self, now: Now, none: bool) {
        self.looking = false;
        for lost in self.ways.looked(now.mono, none) {
            self.lose(lost);
        }
        if self.look_at.is_some_and(|at| at <= now.mono) {
            self.look_at = None;
        }
        let late = |carrier: &Carrier| match carrier {
            Carrier::Frame(WakePath::Hook, _, at) => at.plus(PROOF_MS) <= now.mono,
            Carrier::Frame(..) | Carrier::Line(_) => false,
        };
        if !none && self.ways.is_known() && self.unread.reopen(late) > 0 {
            self.ways.hook_missing();
        }
        self.offer_pushes(now);
    }

    /// Returns what is known of the ways.
    #[must_use]
    pub const fn ways(&self) -> &Ways {
        &self.ways
    }

    /// Sends a test by the way that something urgent would go by now.
    pub fn try_wake(&mut self, now: Now) -> Trial {
        let path = match self.ways.choose(now.mono) {
            Choice::Way(WakePath::Wait) => return Trial::Wait,
            Choice::Way(WakePath::Channel) | Choice::Probe(_) => WakePath::Channel,
            Choice::Way(path) => path,
            Choice::Boundary(_) => WakePath::Hook,
            Choice::Fetch => return Trial::Nothing,
        };
        let attributes = Attributes::default()
            .with(Key::Kind, "system")
            .with(Key::Notice, "test");
        let seed = self.draw();
        let word = match path {
            WakePath::Channel | WakePath::Hook => {
                let frame = Frame::notice(TRIAL, attributes, seed);
                let word = frame.gutter().to_owned();
                if path == WakePath::Channel {
                    self.ways.pushed(now.mono);
                    self.outputs.push_back(Output::Push(frame));
                } else {
                    self.notes.push_back(frame);
                }
                word
            }
            WakePath::Wait | WakePath::Monitor | WakePath::Inbox | WakePath::Rewake => {
                let word = nonce(seed);
                let text = format!("conclave: {TRIAL} ({word})");
                let serial = self.ways.point(now.mono, path, word.clone());
                self.unread.recarry(serial);
                self.outputs.push_back(Output::Point { path, text });
                word
            }
        };
        self.trial = Some((path, word));
        Trial::Sent(path)
    }
}
