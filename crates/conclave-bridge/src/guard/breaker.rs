//! The two-party breaker: two sessions that only exchange courtesies are parted for a while.
//!
//! It counts in both directions, in whispers and where two alternate in a channel with nobody else between
//! them. Whatever has content, a question, its answer, a third party and a human set the count back. Pure.

use super::Trip;
use super::budget::Recent;
use super::polite::is_courtesy;
use super::print::{Print, weight};
use crate::state::HomeId;
use conclave_proto::id::ChannelId;
use conclave_proto::name::SessionPath;
use conclave_proto::time::Mono;
use std::collections::VecDeque;

const MINUTE_MS: u64 = 60_000;

/// So many messages without content in a row open it, for so long.
pub(super) const POLITE_MAX: u32 = 8;
pub(super) const OPEN_MS: u64 = 10 * MINUTE_MS;

/// After such a silence the count begins anew.
const SILENCE_MS: u64 = 30 * MINUTE_MS;

/// So many trips within a day, and only a human closes it.
const TRIPS_MAX: usize = 3;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// How many texts of a pair are compared with the next one, from so many letters on.
const SAID_MAX: usize = 16;
const REPEAT_LETTERS_MIN: usize = 16;

/// In a channel both sides have said so many of them, or it is no exchange.
const OURS_MIN: u32 = 2;

/// Where two sessions talk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// On which server.
    pub home: HomeId,
    /// With whom, or where.
    pub with: With,
}

/// See [`Pair`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum With {
    /// In whispers with this one.
    Session(SessionPath),
    /// In a channel, with who spoke there last.
    Channel(ChannelId),
}

/// One message, as far as it counts here.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The words.
    pub text: &'a str,
    /// Who said it; none: this session.
    pub from: Option<&'a SessionPath>,
    /// Whether its sender waits for an answer.
    pub expects_reply: bool,
    /// Whether a human typed it.
    pub human: bool,
    /// This session.
    pub me: Option<&'a SessionPath>,
}

impl Line<'_> {
    /// Returns whether it says nothing but courtesies.
    fn is_courtesy(&self) -> bool {
        let paths = self.from.into_iter().chain(self.me);
        let parts = paths.flat_map(|path| {
            [
                path.user.as_str(),
                path.machine.as_str(),
                path.handle.as_str(),
            ]
        });
        let names: Vec<&str> = parts.collect();
        is_courtesy(self.text, &names)
    }
}

/// Every pair of a session.
#[derive(Debug, Default)]
pub(super) struct Breakers(Recent<Pair, Talk>);

/// What two sessions said lately.
#[derive(Debug, Default)]
struct Talk {
    /// How many courtesies in a row, and how many of them by this session.
    count: u32,
    ours: u32,
    last: Mono,
    /// Somebody asked something that was not answered yet: the other side, or this one.
    asked: (bool, bool),
    /// In a channel: who spoke last, but this session.
    peer: Option<SessionPath>,
    said: VecDeque<Print>,
    trips: VecDeque<Mono>,
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    /// None: until a human closes it.
    until: Option<Mono>,
    peer: Option<SessionPath>,
}

impl Open {
    fn is_over(&self, now: Mono) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What an open breaker means for a message that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// For so long.
    For(u64),
    /// Until a human closes it.
    ForHuman,
}

impl Breakers {
    /// Returns what keeps a message of this session from being sent. Questions, and answers to what the other
    /// side asked, are never kept; in a channel only courtesies are: others are there.
    pub(super) fn held(&mut self, now: Mono, pair: &Pair, line: &Line<'_>) -> Option<Held> {
        let talk = self.0.entry(pair, Talk::default);
        let open = talk.open_at(now)?;
        let courtesy = line.is_courtesy() || talk.repeats(line.text);
        let passes = match pair.with {
            With::Session(_) => !courtesy && (line.expects_reply || talk.asked.0),
            With::Channel(_) => !courtesy,
        };
        if passes {
            return None;
        }
        Some(match open.until {
            Some(until) => Held::For(until.since(now)),
            None => Held::ForHuman,
        })
    }

    /// Returns whether a peer's message wakes nobody: the breaker is open, and it neither asks nor answers.
    pub(super) fn hushes(&mut self, now: Mono, pair: &Pair, line: &Line<'_>) -> bool {
        let talk = self.0.entry(pair, Talk::default);
        let Some(open) = talk.open_at(now) else {
            return false;
        };
        if line.human {
            return false;
        }
        let courtesy = line.is_courtesy() || talk.repeats(line.text);
        match pair.with {
            With::Session(_) => courtesy || !(line.expects_reply || talk.asked.1),
            With::Channel(_) => courtesy && open.peer.as_ref() == line.from,
        }
    }

    /// Notes a message that came or is sent; returns the trip if the breaker opens by it.
    pub(super) fn note(&mut self, now: Mono, pair: &Pair, line: &Line<'_>) -> Option<Trip> {
        let talk = self.0.entry(pair, Talk::default);
        talk.turn_to(now, pair, line);
        if !talk.counts(line) {
            (talk.count, talk.ours) = (0, 0);
            return None;
        }
        talk.count += 1;
        talk.ours += u32::from(line.from.is_none());
        let alternates = match pair.with {
            With::Session(_) => true,
            With::Channel(_) => talk.ours >= OURS_MIN && talk.count - talk.ours >= OURS_MIN,
        };
        if talk.count < POLITE_MAX || !alternates || talk.open_at(now).is_some() {
            return None;
        }
        let for_ms = talk.trip(now);
        Some(Trip::Loop {
            pair: pair.clone(),
            peer: talk.peer.clone(),
            for_ms,
        })
    }

    /// A human took part: what may close without a decision closes.
    pub(super) fn human(&mut self) {
        for talk in self.0.values_mut() {
            (talk.count, talk.ours) = (0, 0);
            talk.open = talk.open.take().filter(|open| open.until.is_none());
        }
    }

    /// A human decided: everything is forgotten.
    pub(super) fn reset(&mut self) {
        self.0 = Recent::default();
    }

    /// Returns the pairs that are parted now, and for how long; none: until a human closes it.
    pub(super) fn open(&self, now: Mono) -> impl Iterator<Item = (&Pair, Option<u64>)> {
        self.0.iter().filter_map(move |(pair, talk)| {
            let open = talk.open.as_ref().filter(|open| !open.is_over(now))?;
            Some((pair, open.until.map(|until| until.since(now))))
        })
    }
}

impl Talk {
    /// Returns the state of an open breaker; closes one whose time is over.
    fn open_at(&mut self, now: Mono) -> Option<Open> {
        self.open = self.open.take().filter(|open| !open.is_over(now));
        self.open.clone()
    }

    /// Sets the count back after a silence, and when somebody else takes part.
    fn turn_to(&mut self, now: Mono, pair: &Pair, line: &Line<'_>) {
        let silent = now.since(self.last) > SILENCE_MS;
        self.last = now;
        let other = match (&pair.with, line.from) {
            (With::Channel(_), Some(from)) if self.peer.as_ref() != Some(from) => {
                self.peer.replace(from.clone()).is_some()
            }
            _ => false,
        };
        if silent || other {
            (self.count, self.ours, self.asked) = (0, 0, (false, false));
        }
    }

    /// Returns whether a message says nothing, and notes what it asks.
    fn counts(&mut self, line: &Line<'_>) -> bool {
        let (theirs, ours) = self.asked;
        let ours_now = line.from.is_none();
        let answers = if ours_now { theirs } else { ours };
        let courtesy = line.is_courtesy();
        let asks = !courtesy && (line.expects_reply || line.text.contains(['?', '？']));
        self.asked = match ours_now {
            true => (false, ours || asks),
            false => (theirs || asks, false),
        };
        let repeats = self.repeats(line.text);
        self.remember(line.text);
        !line.human && !asks && !answers && (courtesy || repeats)
    }

    /// Returns whether this was said here before, or nearly; texts with numbers in them are reports.
    fn repeats(&self, text: &str) -> bool {
        let Some(print) = repeatable(text) else {
            return false;
        };
        self.said.iter().any(|said| said.is_near(print))
    }

    fn remember(&mut self, text: &str) {
        if self.said.len() >= SAID_MAX {
            self.said.pop_front();
        }
        self.said.extend(repeatable(text));
    }

    /// Opens the breaker; returns for how long.
    fn trip(&mut self, now: Mono) -> Option<u64> {
        (self.count, self.ours) = (0, 0);
        self.trips.retain(|at| now.since(*at) < DAY_MS);
        self.trips.push_back(now);
        let for_ms = (self.trips.len() < TRIPS_MAX).then_some(OPEN_MS);
        self.open = Some(Open {
            until: for_ms.map(|ms| now.plus(ms)),
            peer: self.peer.clone(),
        });
        for_ms
    }
}

/// Returns the fingerprint of a text that says nothing if it comes again.
fn repeatable(text: &str) -> Option<Print> {
    let counts = weight(text) >= REPEAT_LETTERS_MIN && !text.chars().any(char::is_numeric);
    counts.then(|| Print::of(text))
}
