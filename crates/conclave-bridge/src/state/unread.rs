//! Messages the agent has no proof of having, in the order they came, each once, at most so many.

use super::{Age, HomeId, Message};
use conclave_proto::id::MsgId;
use std::collections::{BTreeMap, HashMap};

/// The most messages held; what comes beyond is in the replica and asked for again when these are read.
pub const UNREAD_MAX: usize = 1_000;

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) message: Message,
    pub(super) age: Age,
    pub(super) pushed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unread {
    items: BTreeMap<u64, Item>,
    places: HashMap<(HomeId, MsgId), u64>,
    /// The first item that may not have been pushed.
    unpushed: u64,
    next: u64,
    overflowed: bool,
}

impl Unread {
    /// Takes a message in; `false` if it is here already, or there is no room.
    pub(super) fn insert(&mut self, message: Message, age: Age) -> bool {
        let key = (message.home, message.id);
        if self.places.contains_key(&key) {
            return false;
        }
        if self.items.len() >= UNREAD_MAX {
            self.overflowed = true;
            return false;
        }
        self.places.insert(key, self.next);
        self.items.insert(
            self.next,
            Item {
                message,
                age,
                pushed: false,
            },
        );
        self.next += 1;
        true
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let (_, item) = self.items.pop_first()?;
        self.places.remove(&(item.message.home, item.message.id));
        Some(item)
    }

    /// Returns the newest ones, oldest first.
    pub(super) fn newest(&self, max: usize) -> Vec<Item> {
        let mut items: Vec<Item> = self.items.values().rev().take(max).cloned().collect();
        items.reverse();
        items
    }

    pub(super) fn remove(&mut self, home: HomeId, id: MsgId) {
        if let Some(place) = self.places.remove(&(home, id)) {
            self.items.remove(&place);
        }
    }

    /// Takes out what answers a message.
    pub(super) fn take_answers(&mut self, id: MsgId) -> Vec<(Message, Age)> {
        let answers = self
            .items
            .extract_if(.., |_, item| item.message.reply_to == Some(id));
        let answers: Vec<Item> = answers.map(|(_, item)| item).collect();
        for item in &answers {
            self.places.remove(&(item.message.home, item.message.id));
        }
        answers
            .into_iter()
            .map(|item| (item.message, item.age))
            .collect()
    }

    pub(super) fn find(&self, id: MsgId) -> Option<&Message> {
        self.items
            .values()
            .map(|item| &item.message)
            .find(|message| message.id == id)
    }

    /// Returns the oldest message that was not pushed.
    pub(super) fn unpushed(&self) -> Option<(Message, Age)> {
        let (_, item) = self
            .items
            .range(self.unpushed..)
            .find(|(_, item)| !item.pushed)?;
        Some((item.message.clone(), item.age))
    }

    pub(super) fn set_pushed(&mut self, home: HomeId, id: MsgId) {
        if let Some(place) = self.places.get(&(home, id)) {
            self.unpushed = self.unpushed.max(place + 1);
            if let Some(item) = self.items.get_mut(place) {
                item.pushed = true;
            }
        }
    }

    /// Stops offering what is here: it was announced as a number.
    pub(super) fn set_all_announced(&mut self) {
        self.unpushed = self.next;
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns whether something found no room since this was last asked.
    pub(super) fn take_overflowed(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }
}
