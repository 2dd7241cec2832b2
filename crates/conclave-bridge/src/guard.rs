//! The loop guard: causal depth, budgets that refill by time, the two-party breaker and the worm check.
//!
//! It bounds what a fooled or polite pair of agents can cost. It never blocks reading, and every refusal
//! says which bound it is, when to try again, and how a human allows more.

mod breaker;
mod budget;
pub mod polite;
pub mod print;
mod quiet;
pub mod worm;

use crate::state::HomeId;
use crate::trust::HOP_MAX;
use breaker::{Breakers, Held};
pub use breaker::{Line, Pair, With};
pub(crate) use budget::{Bucket, Budget, Recent};
use conclave_proto::body::Priority;
use conclave_proto::id::MsgId;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now, UnixMs};
pub use quiet::DAY_MIN;
use std::collections::VecDeque;
use worm::{Spread, Worm};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Sends in five minutes, in a day, and in one conversation within an hour (DECISIONS 32).
const SESSION: Budget = Budget::new(60, 5 * MINUTE_MS);
const DAY: Budget = Budget::new(2_000, 24 * HOUR_MS);
const ROOT: Budget = Budget::new(40, HOUR_MS);

/// The most messages a human allows beyond the budgets at once.
pub const MORE_MAX: u64 = 1_000;

/// The most trips that wait to be told; nobody waits for more.
const TRIPS_MAX: usize = 16;

/// What a human can do when a budget is used up.
const ALLOW_MORE: &str = "wait as long as retry_after_ms says, or your human allows more with `conclave resume --more 20`";
/// What a human can do when two sessions only exchange courtesies.
const SAY_NOTHING: &str = "say nothing more to it; questions (`ask`) and answers to its questions still pass; your human can end this with `conclave resume`";
/// What a human can do when a text spreads.
const ONCE_TO_ALL: &str = "one call with several recipients in `to` counts once; your human can see it with `conclave journal` and allow it with `conclave resume`";

/// What is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The causal depth it would have.
    pub hop: u8,
    /// The first message of its conversation, if it answers one.
    pub root: Option<MsgId>,
    /// Where it is said.
    pub pairs: &'a [Pair],
    /// How much it costs: see [`cost`].
    pub units: u64,
    /// The words.
    pub text: &'a str,
    /// Whether it asks.
    pub expects_reply: bool,
    /// This session.
    pub me: Option<&'a SessionPath>,
}

/// Returns what a call costs: one unit for what it says in channels and one for each whisper, and two
/// more if it interrupts.
#[must_use]
pub fn cost(channels: usize, whispers: usize, priority: Priority) -> u64 {
    let said = u64::try_from(whispers).unwrap_or(u64::MAX);
    let said = said.saturating_add(u64::from(channels > 0)).max(1);
    match priority {
        Priority::Now => said.saturating_add(2),
        Priority::Next | Priority::Low => said,
    }
}

/// Something that was stopped without a refusal: the agent and its human are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trip {
    /// Two sessions only exchanged courtesies.
    Loop {
        /// Where.
        pair: Pair,
        /// In a channel: with whom.
        peer: Option<SessionPath>,
        /// For how long they are parted; none: until a human ends it.
        for_ms: Option<u64>,
    },
    /// A text came from several sessions.
    Worm {
        /// On which server.
        home: HomeId,
        /// Who brought it now.
        from: SessionPath,
    },
}

/// Why something is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// What kind of thing it is, as in the journal.
    pub kind: &'static str,
    /// The refusal.
    pub reject: Reject,
    /// What to do.
    pub hint: &'static str,
}

impl Stop {
    fn limited(kind: &'static str, text: &str, wait_ms: Option<u64>, hint: &'static str) -> Self {
        let reject = Reject::new(Code::RateLimited, text);
        let reject = match wait_ms {
            Some(ms) => reject.retry_after(ms),
            None => reject,
        };
        Self { kind, reject, hint }
    }
}

/// The guard of one agent session.
#[derive(Debug)]
pub struct Guard {
    session: Bucket,
    day: Bucket,
    roots: Recent<MsgId, Bucket>,
    /// What a human allowed beyond the budgets.
    more: u64,
    breakers: Breakers,
    worm: Worm,
    trips: VecDeque<Trip>,
}

impl Guard {
    /// Starts with full budgets.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self {
            session: Bucket::full(SESSION, now),
            day: Bucket::full(DAY, now),
            roots: Recent::default(),
            more: 0,
            breakers: Breakers::default(),
            worm: Worm::default(),
            trips: VecDeque::new(),
        }
    }

    /// Returns the depth of an answer to a message of depth `parent`; without a parent 0.
    #[must_use]
    pub fn hop(parent: Option<u8>) -> u8 {
        parent.map_or(0, |hop| hop.saturating_add(1))
    }

    /// Charges a send, or says which bound it would break and when to try again.
    ///
    /// # Errors
    /// [`Stop`] with `hop_limit` or `rate_limited`; then nothing was charged.
    pub fn send(&mut self, now: Now, out: Outgoing<'_>) -> Result<(), Stop> {
        if out.hop > HOP_MAX {
            let text = "this answer is too deep in a chain of agents answering agents";
            let reject = Reject::new(Code::HopLimit, text);
            let hint = Code::HopLimit.hint();
            return Err(Stop {
                kind: "loop",
                reject,
                hint,
            });
        }
        let line = Line {
            text: out.text,
            from: None,
            expects_reply: out.expects_reply,
            human: false,
            me: out.me,
        };
        self.held(now.mono, &line, out.pairs)?;
        self.affords(now.mono, &out)?;
        self.spreads(now, &out)?;
        self.charge(now.mono, &out);
        for pair in out.pairs {
            let tripped = self.breakers.note(now.mono, pair, &line);
            self.tripped(tripped);
        }
        Ok(())
    }

    fn held(&mut self, now: Mono, line: &Line<'_>, pairs: &[Pair]) -> Result<(), Stop> {
        for pair in pairs {
            let wait = match self.breakers.held(now, pair, line) {
                None => continue,
                Some(Held::For(ms)) => Some(ms),
                Some(Held::ForHuman) => None,
            };
            let text = match wait {
                Some(_) => "you and this peer exchanged 8 messages without content",
                None => {
                    "you and this peer exchanged 8 messages without content, three times today: only your human ends this"
                }
            };
            return Err(Stop::limited("loop", text, wait, SAY_NOTHING));
        }
        Ok(())
    }

    /// Says which budget is used up, unless a human allowed more.
    fn affords(&mut self, now: Mono, out: &Outgoing<'_>) -> Result<(), Stop> {
        if self.more >= out.units {
            return Ok(());
        }
        let root = out
            .root
            .map(|root| self.roots.entry(&root, || Bucket::full(ROOT, now)));
        let buckets = [
            (
                Some(&mut self.session),
                "60 messages in 5 minutes are the most",
            ),
            (Some(&mut self.day), "2000 messages in a day are the most"),
            (
                root,
                "40 messages in one conversation within an hour are the most",
            ),
        ];
        for (bucket, text) in buckets {
            let wait = bucket.map_or(0, |bucket| bucket.wait_for(now, out.units));
            if wait > 0 {
                return Err(Stop::limited("flood", text, Some(wait), ALLOW_MORE));
            }
        }
        Ok(())
    }

    /// Takes from the budgets, and from what a human allowed where they are used up.
    fn charge(&mut self, now: Mono, out: &Outgoing<'_>) {
        let mut beyond = false;
        let root = out
            .root
            .map(|root| self.roots.entry(&root, || Bucket::full(ROOT, now)));
        for bucket in [Some(&mut self.session), Some(&mut self.day), root] {
            let Some(bucket) = bucket else { continue };
            match bucket.wait_for(now, out.units) {
                0 => bucket.take(out.units),
                _ => beyond = true,
            }
        }
        if beyond {
            self.more = self.more.saturating_sub(out.units);
        }
    }

    fn spreads(&mut self, now: Now, out: &Outgoing<'_>) -> Result<(), Stop> {
        let mut places: Vec<String> = out.pairs.iter().map(place).collect();
        places.sort_unstable();
        let text = match self.worm.send(now.wall, &places.join(" "), out.text) {
            Ok(()) => return Ok(()),
            Err(Spread::Targets) => "the same text went to 2 other places within 10 minutes",
            Err(Spread::Forwards) => {
                "this text came from a peer and was carried on already: texts that spread themselves do that"
            }
        };
        Err(Stop::limited("worm", text, None, ONCE_TO_ALL))
    }

    /// Notes a message of a peer; returns whether it wakes nobody.
    pub fn heard(&mut self, now: Mono, pair: &Pair, line: &Line<'_>) -> bool {
        let hushed = self.breakers.hushes(now, pair, line);
        let tripped = self.breakers.note(now, pair, line);
        let opened = tripped.is_some();
        self.tripped(tripped);
        hushed || opened
    }

    /// Notes a text that came; returns whether it is kept from the agent, for others brought it, too.
    pub fn came(&mut self, at: UnixMs, pair: &Pair, from: &SessionPath, text: &str) -> bool {
        let spreads = self.worm.came(at, (pair.home, from), &place(pair), text);
        if spreads {
            let from = from.clone();
            let home = pair.home;
            self.tripped(Some(Trip::Worm { home, from }));
        }
        spreads
    }

    /// Returns whether a text is kept from the agent.
    #[must_use]
    pub fn withholds(&self, text: &str) -> bool {
        self.worm.withholds(text)
    }

    fn tripped(&mut self, trip: Option<Trip>) {
        if self.trips.len() < TRIPS_MAX {
            self.trips.extend(trip);
        }
    }

    /// Returns the next thing that was stopped and nobody was told of.
    pub fn poll_trip(&mut self) -> Option<Trip> {
        self.trips.pop_front()
    }

    /// Notes that a human gave the agent a prompt: the short budget is full again, and who was parted may talk,
    /// unless only a human's word ends that.
    pub fn human(&mut self, now: Mono) {
        self.session = Bucket::full(SESSION, now);
        self.breakers.human();
    }

    /// Carries out a human's word: everything that tripped is forgotten, and so many messages go beyond the
    /// budgets.
    pub fn resume(&mut self, more: u64) {
        self.more = self.more.saturating_add(more).min(MORE_MAX);
        self.breakers.reset();
        self.worm.reset();
    }

    /// Returns how many messages go beyond the budgets.
    #[must_use]
    pub const fn more(&self) -> u64 {
        self.more
    }

    /// Returns who is parted now, and for how long; none: until a human ends it.
    pub fn parted(&self, now: Mono) -> impl Iterator<Item = (&Pair, Option<u64>)> {
        self.breakers.open(now)
    }
}

/// Names a place for comparison.
fn place(pair: &Pair) -> String {
    let home = pair.home.0;
    match &pair.with {
        With::Session(path) => format!("{home} {path}"),
        With::Channel(id) => format!("{home} {id}"),
    }
}
