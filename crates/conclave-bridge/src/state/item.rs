//! Showing what members keep in a channel: framed like messages, and never a reason to act.

use super::{HomeId, Output, Place, State};
use crate::policy::Level;
use crate::render::{Attributes, Frame, Key, frame};
use crate::trust::{Sender, Tier, assess};
use conclave_proto::id::MsgId;
use conclave_proto::name::SessionPath;
use conclave_proto::time::{Now, UnixMs};

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

impl State {
    /// Renders what a member keeps in a channel. It informs, at most, however much its writer is trusted:
    /// nobody said it to this session.
    pub fn show_kept(&mut self, now: Now, kept: &Kept) -> Frame {
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
            0,
            level.min(Level::Notify),
            attributes,
            self.draw(),
        )
    }

    /// Pushes such a thing because the agent asked to be told; returns whether there was room for it.
    pub fn push_kept(&mut self, now: Now, kept: &Kept) -> bool {
        if !self.ready || self.level(kept.home, kept.place.scope()) == Level::Mute {
            return false;
        }
        if self.pushes.wait_ms(now.mono) > 0 || self.push_bytes.wait_ms(now.mono) > 0 {
            return false;
        }
        let frame = self.show_kept(now, kept);
        self.pushes.take(1);
        self.push_bytes.take(frame.content.len() as u64);
        self.outputs.push_back(Output::Push(frame));
        true
    }
}
