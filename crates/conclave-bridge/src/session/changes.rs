//! State that others changed: counted for the next call that fetches messages; what is watched is told at
//! once and in full, and again by that call, for a push proves nothing.

use super::Session;
use crate::policy::Level;
use crate::state::{HomeId, Kept, Place};
use crate::tool::answer::Answer;
use crate::trust::Sender;
use conclave_client::claim::rule::CLAIM_PREFIX;
use conclave_client::event::SenderFacts;
use conclave_client::item::StateItem;
use conclave_proto::id::ChannelId;
use conclave_proto::time::{Now, UnixMs};
use std::collections::{BTreeMap, BTreeSet};

/// The most prefixes a session watches.
pub(crate) const WATCHES_MAX: usize = 16;
/// The most keys whose changes are told apart.
const KEYS_MAX: usize = 1_024;
/// The most changes that wait in full.
const WATCHED_MAX: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// What changed and was not counted to the agent yet.
    keys: BTreeSet<(ChannelId, String)>,
    /// Prefixes that the agent watches.
    watches: BTreeSet<(HomeId, ChannelId, String)>,
    /// The newest of what changed and is watched, by channel and key.
    watched: BTreeMap<(ChannelId, String), Kept>,
}

impl Changes {
    /// Watches a prefix; `false` if there are too many.
    pub(crate) fn watch(&mut self, home: HomeId, channel: ChannelId, prefix: String) -> bool {
        let watch = (home, channel, prefix);
        self.watches.contains(&watch)
            || (self.watches.len() < WATCHES_MAX && self.watches.insert(watch))
    }

    /// Returns whether something that is watched waits.
    pub(crate) fn is_due(&self) -> bool {
        !self.watched.is_empty()
    }

    fn is_watched(&self, home: HomeId, channel: ChannelId, key: &str) -> bool {
        let fits = |(h, c, prefix): &(HomeId, ChannelId, String)| {
            *h == home && *c == channel && key.starts_with(prefix.as_str())
        };
        self.watches.iter().any(fits)
    }
}

/// Returns what trust in a writer rests on, for something it wrote then.
pub(crate) fn sender(user: conclave_proto::id::UserId, facts: &SenderFacts, at: UnixMs) -> Sender {
    Sender {
        user,
        own: facts.own,
        key_changed: facts.key_changed,
        member_ms: facts.member_since.map(|since| at.since(since)),
        vouched: facts.vouched,
    }
}

/// Says in one line what a state item is; a key or value that breaks lines is a member's own doing.
pub(crate) fn line(item: &StateItem) -> String {
    match &item.value {
        Some(value) => format!("{} = {}", item.key, value.replace(['\n', '\r'], " ")),
        None => format!("{} was deleted", item.key),
    }
}

impl Session {
    /// Takes note of what another session wrote.
    pub(super) fn changed(&mut self, now: Now, home: HomeId, item: &StateItem) {
        if item.key.starts_with(CLAIM_PREFIX) || self.is_muted(home, item.channel) {
            return;
        }
        let place = (item.channel, item.key.clone());
        if self.changes.is_watched(home, item.channel, &item.key) {
            let kept = self.kept_state(home, item, line(item));
            if !self.state.push_kept(now, &kept) {
                tracing::debug!("a change that is watched waits to be fetched");
            }
            if self.changes.watched.len() < WATCHED_MAX || self.changes.watched.contains_key(&place)
            {
                self.changes.watched.insert(place, kept);
                return;
            }
        }
        if self.changes.keys.len() < KEYS_MAX {
            self.changes.keys.insert(place);
        }
    }

    /// Returns whether a person muted a channel: what members wrote there is not shown.
    pub(crate) fn is_muted(&self, home: HomeId, channel: ChannelId) -> bool {
        let scope = crate::policy::Scope::Channel(channel);
        self.state.level(home, scope) == Level::Mute
    }

    /// Puts a state item into the form it is shown in.
    pub(crate) fn kept_state(&self, home: HomeId, item: &StateItem, text: String) -> Kept {
        Kept {
            home,
            place: self.place(home, item.channel),
            kind: "state",
            from: item.sender.clone(),
            sender: sender(item.user, &item.facts, item.at),
            at: item.at,
            id: None,
            seq: Some(item.version),
            text,
        }
    }

    /// Returns a channel with its name.
    pub(crate) fn place(&self, home: HomeId, channel: ChannelId) -> Place {
        let view = self.view(home);
        let mut channels = view.iter().flat_map(|view| &view.channels);
        let known = channels.find(|known| known.id == channel);
        let name = known.map_or_else(|| channel.to_string(), |known| known.name.to_string());
        Place::Channel(channel, name)
    }

    /// Adds to an answer what changed: what is watched in full, the rest as a number.
    pub(crate) fn changes_into(&mut self, now: Now, answer: Answer) -> Answer {
        let watched = std::mem::take(&mut self.changes.watched);
        let keys = std::mem::take(&mut self.changes.keys);
        let frames: Vec<String> = watched
            .values()
            .map(|kept| self.state.show_kept(now, kept).standalone())
            .collect();
        let answer = match keys.len() {
            0 => answer,
            n => answer.with("state_changed", n),
        };
        match frames.len() {
            0 => answer,
            n => answer.with("watched", n).frames(frames),
        }
    }
}
