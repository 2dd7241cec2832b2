//! What wakes the agent of its own accord: messages that are due, notices, and how much waits.

use super::unread::{Carrier, Item};
use super::urgency::when;
use super::{Message, Output, Place, State};
use crate::guard::{Bucket, Budget};
use crate::render::{Attributes, Frame, Key, nonce};
use crate::wake::{Choice, WakePath};
use conclave_proto::profile::Status;
use conclave_proto::time::{Mono, Now};

/// Notices of one kind: who can cause them must not fill the agent's context, nor hide one kind behind
/// another.
const NOTICES: Budget = Budget::new(5, 60_000);

/// How long after an announcement of waiting messages the next may come, in milliseconds.
const ANNOUNCE_MS: u64 = 60_000;

/// The most notices that wait for a boundary or a call; the oldest go first.
const NOTES_MAX: usize = 16;

/// Says in a line of our own words what waits. The host takes the line for a teammate's, so nothing that a
/// peer chose freely is in it.
fn pointer(unread: usize, newest: Option<&Message>, watched: bool, nonce: &str) -> String {
    let mut text = String::from("conclave: ");
    if unread > 0 || !watched {
        text.push_str(&format!("{unread} unread"));
    }
    if let Some(newest) = newest {
        text.push_str(&format!(", newest from {}", newest.from));
        let plain = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        match &newest.place {
            Place::Channel(_, name) if plain(name) => text.push_str(&format!(" in #{name}")),
            Place::Channel(..) | Place::Whisper => {}
        }
    }
    if watched {
        text.push_str(if unread > 0 {
            "; what you watch changed"
        } else {
            "what you watch changed"
        });
    }
    format!("{text}. Call check_messages. ({nonce})")
}

impl State {
    /// Returns from when on an unread message is to be pushed.
    pub(super) fn due(&self, item: &Item) -> Option<Mono> {
        let home = self.homes.get(&item.message.home);
        self.due_in(item, home.and_then(|home| home.status))
    }

    /// Returns from when on it would be, if the agent were doing this.
    pub(super) fn due_in(&self, item: &Item, status: Option<Status>) -> Option<Mono> {
        let message = &item.message;
        if self.is_held(item) {
            return None;
        }
        let due = when(message.priority, status, self.is_mentioned(message)).due(item.arrived);
        self.sender_due(message, due?)
    }

    /// Pushes what is due and was not pushed, each by one way, as far as the budget goes.
    pub(super) fn offer_pushes(&mut self, now: Now) {
        let look = self.look_due(now);
        let mut later = None;
        while self.ready && self.waits == 0 && !self.is_paused() {
            let is_due = |item: &Item| self.due(item).is_some_and(|at| at <= now.mono);
            let Some((place, message, age)) = self.unread.unpushed(is_due) else {
                break;
            };
            match self.ways.choose(now.mono) {
                Choice::Way(WakePath::Channel) if self.has_budget(now) => {
                    let mut frame = self.show(now, &message, age, 0);
                    if self.unread.item(place).is_some_and(|item| item.pushed) {
                        frame.attributes = frame.attributes.with(Key::Redelivered, 1);
                    }
                    self.push_frame(now, place, &frame, WakePath::Channel);
                    self.ways.pushed(now.mono);
                    self.outputs.push_back(Output::Push(frame));
                    continue;
                }
                Choice::Way(WakePath::Channel) => self.announce(now),
                Choice::Way(path) => later = self.point(now, path),
                Choice::Boundary(at) => later = Some(at),
                Choice::Probe(_) | Choice::Fetch => {}
            }
            break;
        }
        let held = self.unread.next_due(now.mono, |item| self.due(item));
        let watched = self.tell_watched(now);
        let look = look.or_else(|| self.look_due(now));
        let all = [held, later, watched, look];
        self.held_until = all.into_iter().flatten().min();
    }

    /// Returns whether something may go into the agent's context now.
    pub(super) fn has_budget(&mut self, now: Now) -> bool {
        self.pushes.wait_ms(now.mono) == 0 && self.push_bytes.wait_ms(now.mono) == 0
    }

    /// Notes that a message goes by a way, itself.
    pub(super) fn push_frame(&mut self, now: Now, place: u64, frame: &Frame, path: WakePath) {
        self.pushes.take(1);
        self.push_bytes.take(frame.content.len() as u64);
        let carrier = Carrier::Frame(path, frame.gutter().to_owned(), now.mono);
        self.unread.set_carried(place, carrier);
    }

    /// Sends a pointer that stands for all that is due; returns when that is possible, if not now.
    pub(super) fn point(&mut self, now: Now, path: WakePath) -> Option<Mono> {
        if self.looking {
            // What is found decides by which way.
            return None;
        }
        if let Some(at) = self.ways.pointer_at(now.mono) {
            return Some(at);
        }
        let is_due = |item: &Item| self.due(item).is_some_and(|at| at <= now.mono);
        let places = self.unread.all_unpushed(is_due);
        let newest = places.first().and_then(|place| self.unread.item(*place));
        let newest = newest.map(|item| item.message.clone());
        let watched = self.watched.filter(|(home, since)| {
            let due = self.kept_due(*home, *since);
            due.is_some_and(|at| at <= now.mono)
        });
        if watched.is_some() {
            self.watched = None;
        }
        let nonce = nonce(self.draw());
        let text = pointer(
            self.unread.len(),
            newest.as_ref(),
            watched.is_some(),
            &nonce,
        );
        let serial = self.ways.point(now.mono, path, nonce);
        self.unread.recarry(serial);
        for place in places {
            self.unread.set_carried(place, Carrier::Line(serial));
        }
        self.outputs.push_back(Output::Point { path, text });
        None
    }

    /// Says once a minute how much waits.
    pub(super) fn announce(&mut self, now: Now) {
        let held = self.is_paused() || self.is_quiet_everywhere();
        if self.unread.is_empty() || !self.ready || held {
            return;
        }
        match self.ways.choose(now.mono) {
            Choice::Way(WakePath::Channel) => {}
            Choice::Way(WakePath::Wait) => return,
            Choice::Way(path) => {
                self.announce_at = self.point(now, path);
                return;
            }
            Choice::Boundary(_) | Choice::Probe(_) | Choice::Fetch => return,
        }
        if now.mono < self.announced_until {
            self.announce_at = Some(self.announced_until);
            return;
        }
        self.announced_until = now.mono.plus(ANNOUNCE_MS);
        let or_more = if self.unread.overflowed() {
            " or more"
        } else {
            ""
        };
        let text = format!(
            "{}{or_more} messages are unread. Call check_messages.",
            self.unread.len()
        );
        let mut unread = std::mem::take(&mut self.unread);
        unread.set_due_announced(now.mono, |item| self.due(item));
        self.unread = unread;
        self.push_notice("unread", &text);
    }

    /// Pushes what a server has to tell; what is too much of one kind is left out. Returns whether it
    /// was pushed.
    pub fn notice(&mut self, now: Now, word: &'static str, text: &str) -> bool {
        if self.is_paused() {
            return false;
        }
        let full = || Bucket::full(NOTICES, now.mono);
        let bucket = self.notices.entry(word).or_insert_with(full);
        if bucket.wait_ms(now.mono) > 0 {
            return false;
        }
        bucket.take(1);
        self.push_notice(word, text);
        true
    }

    /// Pushes a notice of our own words; where the host may not show it, a hook or a call does.
    pub fn push_notice(&mut self, word: &'static str, text: &str) {
        let attributes = Attributes::default()
            .with(Key::Kind, "system")
            .with(Key::Notice, word);
        let seed = self.draw();
        let notice = Frame::notice(text, attributes, seed);
        if self.ways.is_channel_trusted() {
            self.outputs.push_back(Output::Push(notice));
            return;
        }
        if self.notes.len() >= NOTES_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(notice);
    }
}
