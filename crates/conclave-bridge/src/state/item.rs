//! Showing what members keep in a channel: framed like messages, and never a reason to act.

use super::urgency::when;
use super::{HomeId, Output, Place, State};
use crate::policy::Level;
use crate::render::{Attributes, Frame, Key, frame};
use crate::trust::{Sender, Tier, assess};
use crate::wake::{Choice, WakePath};
use conclave_proto::body::Priority;
use conclave_proto::id::MsgId;
use conclave_proto::name::SessionPath;
use conclave_proto::time::{Mono, Now, UnixMs};

/// Something that a member keeps in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// By which server it came.
    pub home: HomeId,
    /// In which channel.
    pub place: Place,
    /// What it is: `state`, `memory` or `claim`.
    pub kind: &'static str,
    /// The session that wrote it.
    pub from: SessionPath,
    /// What is known of that one.
    pub sender: Sender,
    /// When the server stored it.
    pub at: UnixMs,
    /// Its id, where it has one that a tool takes.
    pub id: Option<MsgId>,
    /// Its place in the log, where one counts.
    pub seq: Option<u64>,
    /// Its words.
    pub text: String,
}

/// What is said when something that is watched waits.
pub(super) const WATCHED: &str = "What you watch changed. Call check_messages.";

impl State {
    /// Renders what a member keeps in a channel. It informs, at most, however much its writer is trusted:
    /// nobody said it to this session.
    pub fn show_kept(&mut self, now: Now, kept: &Kept) -> Frame {
        self.show_kept_from(now, kept, 0)
    }

    /// Renders it from a byte offset.
    pub fn show_kept_from(&mut self, now: Now, kept: &Kept, offset: usize) -> Frame {
        self.read
            .note(kept.home, &kept.place, &kept.from, kept.sender.own);
        let age_ms = now.wall.since(kept.at);
        let scope = kept.place.scope();
        let (tier, level) = match self.homes.get(&kept.home) {
            Some(home) => assess(&home.levels, scope, &kept.sender, age_ms, 0),
            None => (Tier::T3, Level::Notify),
        };
        let mut attributes = Attributes::default()
            .with(Key::Kind, kept.kind)
            .with(Key::From, &kept.from)
            .with(Key::AgeS, age_ms / 1000)
            .with_some(Key::Id, kept.id)
            .with_some(Key::Seq, kept.seq)
            .with(Key::Trust, tier.as_str());
        if let Place::Channel(_, name) = &kept.place {
            attributes = attributes.with(Key::Channel, name);
        }
        match self.homes.get(&kept.home) {
            Some(home) if self.homes.len() > 1 => {
                attributes = attributes.with(Key::Server, &home.name);
            }
            _ => {}
        }
        frame(
            &kept.text,
            offset,
            level.min(Level::Notify),
            attributes,
            self.draw(),
        )
    }

    /// Pushes such a thing because the agent asked to be told; returns whether it did. What is held back, by
    /// the status or for want of room, is announced later.
    pub fn push_kept(&mut self, now: Now, kept: &Kept) -> bool {
        if self.level(kept.home, kept.place.scope()) == Level::Mute {
            return false;
        }
        let is_due = self.kept_due(kept.home, now.mono) == Some(now.mono);
        let is_pushed = self.ways.choose(now.mono) == Choice::Way(WakePath::Channel);
        if !self.ready || !is_due || !is_pushed || self.push_wait_ms(now) > 0 {
            self.watched.get_or_insert((kept.home, now.mono));
            self.offer_pushes(now);
            return false;
        }
        let frame = self.show_kept(now, kept);
        self.pushes.take(1);
        self.push_bytes.take(frame.content.len() as u64);
        self.outputs.push_back(Output::Push(frame));
        true
    }

    /// Notes that the agent has everything that is watched.
    pub const fn watched_taken(&mut self) {
        self.watched = None;
    }

    /// Returns from when on a change that came at `arrived` may wake the agent.
    pub(super) fn kept_due(&self, home: HomeId, arrived: Mono) -> Option<Mono> {
        if self.is_paused() || self.is_quiet(home) {
            return None;
        }
        let status = self.homes.get(&home).and_then(|home| home.status);
        when(Priority::Next, status, false).due(arrived)
    }

    fn push_wait_ms(&mut self, now: Now) -> u64 {
        let number = self.pushes.wait_ms(now.mono);
        number.max(self.push_bytes.wait_ms(now.mono))
    }

    /// Says that something that is watched waits, if that is due; else returns when it will be.
    pub(super) fn tell_watched(&mut self, now: Now) -> Option<Mono> {
        let (home, since) = self.watched.filter(|_| self.ready && self.waits == 0)?;
        let due = self.kept_due(home, since)?;
        let due = due.max(now.mono.plus(self.push_wait_ms(now)));
        if due > now.mono {
            return Some(due);
        }
        match self.ways.choose(now.mono) {
            Choice::Way(WakePath::Channel) => {
                self.watched = None;
                self.pushes.take(1);
                self.push_notice("watched", WATCHED);
                None
            }
            Choice::Way(path) => self.point(now, path),
            Choice::Boundary(at) => Some(at),
            Choice::Probe(_) | Choice::Fetch => None,
        }
    }
}
