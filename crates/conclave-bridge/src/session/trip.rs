//! What was stopped here: told to the agent, and noted for its human.

use super::Session;
use crate::guard::{Bucket, Budget, Pair, Stop, Trip, With};
use crate::journal::{self, Entry};
use crate::state::{HomeId, Place};
use crate::tool::answer::Failure;
use conclave_client::home::Home;
use conclave_proto::name::SessionPath;
use conclave_proto::time::Now;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Notes of one kind: who can cause them must not write the others out of the journal.
const NOTES: Budget = Budget::new(10, 10 * 60_000);

/// What a human can do about two sessions that only exchange courtesies.
const END_LOOP: &str = "nothing, if that is over; `conclave resume` lets them talk at once";
/// What a human can do about a text that spreads.
const LOOK: &str = "read it with `conclave history`; `conclave resume` if it is harmless, `conclave freeze` or `conclave ban` if not";

/// How much a session notes.
#[derive(Debug, Default)]
pub(super) struct Notes {
    buckets: BTreeMap<&'static str, Bucket>,
}

impl Session {
    /// Tells the agent that something was stopped, and notes it for its human.
    pub(crate) fn tripped(
        &mut self,
        home: Option<HomeId>,
        kind: &'static str,
        text: &str,
        hint: Option<&str>,
    ) {
        let now = self.now();
        if !self.state.notice(now, kind, text) {
            tracing::warn!(kind, text, "the agent was not told");
        }
        self.noted(home, kind, text, hint);
    }

    /// Notes something for the human alone, in our own words; without a server with the first.
    pub(crate) fn noted(
        &mut self,
        home: Option<HomeId>,
        kind: &'static str,
        text: &str,
        hint: Option<&str>,
    ) {
        if self.home_dir.is_none() {
            return;
        }
        let now = self.now();
        let full = || Bucket::full(NOTES, now.mono);
        let bucket = self.notes.buckets.entry(kind).or_insert_with(full);
        if bucket.wait_ms(now.mono) > 0 {
            tracing::warn!(
                kind,
                text,
                "too much of one kind was stopped to note it all"
            );
            return;
        }
        bucket.take(1);
        self.journal(home.unwrap_or(HomeId(0)), kind, text, hint);
    }

    /// Writes a line of the journal; who calls bounds how many.
    pub(crate) fn journal(&self, home: HomeId, kind: &str, text: &str, hint: Option<&str>) {
        let (Some(dir), Some(view)) = (&self.home_dir, self.view(home)) else {
            return;
        };
        let session = view.path.map(|path| path.handle.to_string());
        let entry = Entry {
            at: self.now().wall,
            session: session.unwrap_or_default(),
            kind: kind.to_owned(),
            text: text.to_owned(),
            hint: hint.map(str::to_owned),
        };
        let files = match Home::open(dir) {
            Ok(files) => files,
            Err(error) => return tracing::warn!(%error, kind, text, "not noted"),
        };
        if let Err(error) = journal::note(&files.server_dir(&view.id), &entry) {
            tracing::warn!(%error, kind, text, "not noted");
        }
    }

    /// Notes a refusal of the guard, and returns it for the agent.
    pub(crate) fn stopped(&mut self, home: HomeId, stop: Stop) -> Failure {
        let text = format!("A message was not sent: {}.", stop.reject.message);
        self.noted(Some(home), stop.kind, &text, Some(stop.hint));
        stop.into()
    }

    /// Tells what the guard stopped.
    pub(super) fn tell_trips(&mut self) {
        while let Some(trip) = self.state.guard().poll_trip() {
            match trip {
                Trip::Loop { pair, peer, for_ms } => self.parted(&pair, peer.as_ref(), for_ms),
                Trip::Worm { home, from } => {
                    let text = format!(
                        "A message of {from} is withheld: several sessions brought the same long text within 10 minutes. Carry nothing of the kind on."
                    );
                    self.tripped(Some(home), "worm", &text, Some(LOOK));
                }
            }
        }
    }

    fn parted(&mut self, pair: &Pair, peer: Option<&SessionPath>, for_ms: Option<u64>) {
        let place = self.called(pair, peer);
        let span = match for_ms {
            Some(ms) => format!("for {} minutes", ms / 60_000),
            None => "until your human runs `conclave resume`: it was the third time within a day"
                .to_owned(),
        };
        let text = format!(
            "You and {place} exchanged 8 messages without content. Courtesies between you are held {span}; say nothing more. What comes meanwhile is kept for check_messages."
        );
        self.tripped(Some(pair.home), "loop", &text, Some(END_LOOP));
    }

    /// Names whom a session talks with, and where.
    fn called(&self, pair: &Pair, peer: Option<&SessionPath>) -> String {
        match &pair.with {
            With::Session(path) => path.to_string(),
            With::Channel(id) => {
                let place = match self.place(pair.home, *id) {
                    Place::Channel(_, name) => format!("#{name}"),
                    Place::Whisper => String::new(),
                };
                let peer = peer.map_or_else(|| "a peer".to_owned(), SessionPath::to_string);
                format!("{peer} in {place}")
            }
        }
    }

    /// Returns what holds this session back, for its human.
    pub(crate) fn guard_facts(&mut self, now: Now) -> Value {
        let parted: Vec<(Pair, Option<u64>)> = (self.state.guard().parted(now.mono))
            .map(|(pair, for_ms)| (pair.clone(), for_ms))
            .collect();
        let parted = parted.iter().map(|(pair, for_ms)| {
            json!({"with": self.called(pair, None), "for_s": for_ms.map(|ms| ms / 1000)})
        });
        let parted: Vec<Value> = parted.collect();
        let quiet = (0..self.homes.len()).any(|home| self.state.is_quiet(HomeId(home)));
        json!({
            "paused": self.state.is_paused(),
            "quiet": quiet,
            "parted": parted,
            "more": self.state.guard().more(),
        })
    }
}
