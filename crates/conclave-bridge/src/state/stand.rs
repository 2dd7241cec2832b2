//! What holds a session back: its human's pause, quiet hours, and the guard's breaker and worm check.

use super::message::{Message, Place};
use super::unread::Item;
use super::{Age, HomeId, Output, State};
use crate::guard::{Line, Pair, With};
use crate::render::{Frame, Key};
use conclave_proto::body::Priority;
use conclave_proto::time::Now;

/// What the agent sees instead of a text that came from several sessions.
const WITHHELD: &str = "this message is withheld: several sessions brought the same long text within 10 minutes, as a text that spreads itself would. Your human can read it with `conclave history`.";

/// How this machine stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stand {
    /// Its human paused every agent.
    pub paused: bool,
    /// The minute of the day, by its clock; until it is known, every hour may be quiet.
    pub minute: Option<u16>,
}

/// Whether a message may wake the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sound {
    /// As its priority says.
    Heard,
    /// It is kept, and wakes nobody.
    Hushed,
}

impl State {
    /// Returns whether the human paused this machine's agents.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.stand.paused
    }

    /// Returns whether it is quiet now on a server.
    #[must_use]
    pub fn is_quiet(&self, home: HomeId) -> bool {
        let quiet = |home: &super::Home| home.levels.policy().quiet;
        let quiet = self.homes.get(&home).and_then(quiet);
        quiet.is_some_and(|quiet| self.stand.minute.is_none_or(|minute| quiet.has(minute)))
    }

    /// Returns whether it is quiet everywhere.
    pub(super) fn is_quiet_everywhere(&self) -> bool {
        !self.homes.is_empty() && self.homes.keys().all(|home| self.is_quiet(*home))
    }

    /// Takes how the machine stands. What waited through a pause or quiet hours is told as a number, once.
    pub(super) fn stand(&mut self, now: Now, stand: Stand) {
        let held = |state: &Self, home: &HomeId| state.stand.paused || state.is_quiet(*home);
        let before: Vec<HomeId> = (self.homes.keys().copied())
            .filter(|home| held(self, home))
            .collect();
        let paused = std::mem::replace(&mut self.stand, stand).paused;
        // Quiet hours may go on elsewhere, and what interrupts is held by a pause alone.
        let free = (paused && !stand.paused) || before.iter().any(|home| !held(self, home));
        if !free || (self.unread.is_empty() && self.watched.is_none()) {
            return;
        }
        if self.waits > 0 {
            self.outputs.push_back(Output::Wake);
        } else {
            self.announce(now);
            self.offer_pushes(now);
        }
    }

    /// Returns whether a message wakes nobody for now.
    pub(super) fn is_held(&self, item: &Item) -> bool {
        let Message { home, priority, .. } = item.message;
        item.hushed || self.stand.paused || (priority != Priority::Now && self.is_quiet(home))
    }

    /// Returns whether something unread may wake the agent.
    #[must_use]
    pub fn has_loud(&self) -> bool {
        self.unread.any(|item| !self.is_held(item))
    }

    /// Notes a message for the guard; returns whether it may wake the agent.
    pub(super) fn guarded(&mut self, now: Now, message: &Message, age: Age) -> Sound {
        let known = self.unread.find(message.id);
        if known
            .iter()
            .any(|other| other.from == message.from && other.home == message.home)
        {
            return Sound::Heard;
        }
        let pair = Pair {
            home: message.home,
            with: match &message.place {
                Place::Whisper => With::Session(message.from.clone()),
                Place::Channel(id, _) => With::Channel(*id),
            },
        };
        let me = self
            .homes
            .get(&message.home)
            .and_then(|home| home.me.clone());
        let withheld = self
            .guard
            .came(message.at, &pair, &message.from, &message.text);
        let line = Line {
            text: &message.text,
            from: Some(&message.from),
            expects_reply: message.expects_reply,
            human: message.human,
            me: me.as_ref(),
        };
        // What was missed is no exchange.
        let hushed = age == Age::Live && self.guard.heard(now.mono, &pair, &line);
        match withheld || hushed {
            true => Sound::Hushed,
            false => Sound::Heard,
        }
    }

    /// Renders our own words in the place of a text that is withheld.
    pub(super) fn withheld(&mut self, message: &Message) -> Option<Frame> {
        if !self.guard.withholds(&message.text) {
            return None;
        }
        let attributes = self.attributes(message).with(Key::Notice, "worm");
        let seed = self.draw();
        Some(Frame::notice(WITHHELD, attributes, seed))
    }
}
