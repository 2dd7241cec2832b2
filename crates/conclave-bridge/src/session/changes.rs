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

/// What a frame costs besides its words, in bytes.
const FRAME_BYTES: usize = 600;

/// Cuts the words so that their frame has about so many bytes: each line of them costs eight more.
fn cut(mut kept: Kept, bytes: usize) -> Kept {
    let mut left = bytes.saturating_sub(FRAME_BYTES).max(FRAME_BYTES);
    let breaks_line = |c| matches!(c, '\n' | '\u{2028}' | '\u{2029}');
    let mut fits = |c: char| {
        let cost = c.len_utf8() + if breaks_line(c) { 8 } else { 0 };
        let enough = cost <= left;
        left = left.saturating_sub(cost);
        enough
    };
    let whole = kept.text.len();
    kept.text = kept.text.chars().take_while(|c| fits(*c)).collect();
    if kept.text.len() < whole {
        kept.text.push('…');
    }
    kept
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

    /// Adds to an answer what changed: what is watched in full as far as `bytes` go, the rest as a number.
    /// Returns how many bytes are left.
    pub(crate) fn changes_into(
        &mut self,
        now: Now,
        answer: Answer,
        bytes: usize,
    ) -> (Answer, usize) {
        let keys = std::mem::take(&mut self.changes.keys);
        let answer = match keys.len() {
            0 => answer,
            n => answer.with("state_changed", n),
        };
        let (mut frames, mut left) = (Vec::new(), bytes);
        while let Some((place, kept)) = self.changes.watched.pop_first() {
            let frame = self.state.show_kept(now, &kept).standalone();
            if frame.len() > left && !frames.is_empty() {
                self.changes.watched.insert(place, kept);
                break;
            }
            // The first comes in any case, or nobody would ever get it.
            let frame = match frame.len() > left {
                true => self.state.show_kept(now, &cut(kept, left)).standalone(),
                false => frame,
            };
            left = left.saturating_sub(frame.len());
            frames.push(frame);
        }
        if self.changes.watched.is_empty() {
            self.state.watched_taken();
        }
        let answer = match (frames.len(), self.changes.watched.len()) {
            (0, _) => answer,
            (n, 0) => answer.with("watched", n),
            (n, more) => answer.with("watched", n).with("more_watched", more),
        };
        (answer.frames(frames), left)
    }
}
