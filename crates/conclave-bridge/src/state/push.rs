//! What wakes the agent of its own accord: messages that are due, notices, and how much waits.

use super::unread::Item;
use super::urgency::when;
use super::{Output, State};
use crate::guard::{Bucket, Budget};
use crate::render::{Attributes, Frame, Key};
use conclave_proto::time::{Mono, Now};

/// Notices of one kind: who can cause them must not fill the agent's context, nor hide one kind behind
/// another.
const NOTICES: Budget = Budget::new(5, 60_000);

/// How long after an announcement of waiting messages the next may come, in milliseconds.
const ANNOUNCE_MS: u64 = 60_000;

impl State {
    /// Returns from when on an unread message is to be pushed.
    pub(super) fn due(&self, item: &Item) -> Option<Mono> {
        let message = &item.message;
        let status = self.homes.get(&message.home).and_then(|home| home.status);
        when(message.priority, status, self.is_mentioned(message)).due(item.arrived)
    }

    /// Pushes what is due and was not pushed, as far as the budget goes.
    pub(super) fn offer_pushes(&mut self, now: Now) {
        while self.ready && self.waits == 0 {
            let due = self.unread.unpushed(now.mono, |item| self.due(item));
            let Some((place, message, age)) = due else {
                break;
            };
            if self.pushes.wait_ms(now.mono) > 0 || self.push_bytes.wait_ms(now.mono) > 0 {
                self.announce(now);
                break;
            }
            let frame = self.show(now, &message, age, 0);
            self.pushes.take(1);
            self.push_bytes.take(frame.content.len() as u64);
            self.unread.set_pushed(place);
            self.outputs.push_back(Output::Push(frame));
        }
        let held = self.unread.next_due(now.mono, |item| self.due(item));
        self.held_until = held.into_iter().chain(self.tell_watched(now)).min();
    }

    /// Says once a minute how much waits.
    pub(super) fn announce(&mut self, now: Now) {
        if self.unread.is_empty() || !self.ready {
            return;
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
        let full = || Bucket::full(NOTICES, now.mono);
        let bucket = self.notices.entry(word).or_insert_with(full);
        if bucket.wait_ms(now.mono) > 0 {
            return false;
        }
        bucket.take(1);
        self.push_notice(word, text);
        true
    }

    /// Pushes a notice of our own words.
    pub fn push_notice(&mut self, word: &'static str, text: &str) {
        let attributes = Attributes::default()
            .with(Key::Kind, "system")
            .with(Key::Notice, word);
        let seed = self.draw();
        let notice = Frame::notice(text, attributes, seed);
        self.outputs.push_back(Output::Push(notice));
    }
}
