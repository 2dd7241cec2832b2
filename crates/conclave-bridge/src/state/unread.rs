//! Messages the agent has no proof of having, in the order they came, each once, at most so many.

use super::{Age, HomeId, Message};
use conclave_proto::body::Priority;
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::name::SessionPath;
use conclave_proto::time::Mono;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most messages held; what comes beyond is in the replica and asked for again when these are read.
pub const UNREAD_MAX: usize = 1_000;

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) message: Message,
    pub(super) age: Age,
    pub(super) pushed: bool,
    pub(super) arrived: Mono,
    /// In which other logs it stands, too.
    pub(super) copies: Vec<LogId>,
}

/// The most logs that one sender's message is said in, and some more.
const COPIES_MAX: usize = 32;

impl Item {
    fn add_copy(&mut self, log: LogId) {
        let known = self.message.log == log || self.copies.contains(&log);
        if !known && self.copies.len() < COPIES_MAX {
            self.copies.push(log);
        }
    }
}

/// What became of a message that is unread.
#[derive(Debug)]
pub(super) enum Put {
    /// It is held now.
    New,
    /// It is here already.
    Known,
    /// There is no room for it.
    NoRoom(Box<Item>),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unread {
    items: BTreeMap<u64, Item>,
    places: HashMap<Key, u64>,
    /// What was neither pushed nor announced.
    open: BTreeSet<u64>,
    /// What interrupts.
    urgent: BTreeSet<u64>,
    next: u64,
    overflowed: bool,
}

/// What a message is known by: an id is its sender's alone.
type Key = (HomeId, SessionPath, MsgId);

fn key(message: &Message) -> Key {
    (message.home, message.from.clone(), message.id)
}

impl Unread {
    /// Takes a message in. If there is no room, it displaces the newest of what is least urgent, if that is
    /// less urgent than it; what goes is in the replica.
    pub(super) fn insert(&mut self, now: Mono, message: Message, age: Age) -> Put {
        let key = key(&message);
        if let Some(place) = self.places.get(&key) {
            if let Some(item) = self.items.get_mut(place) {
                item.add_copy(message.log);
            }
            return Put::Known;
        }
        let item = Item {
            message,
            age,
            pushed: false,
            arrived: now,
            copies: Vec::new(),
        };
        if self.items.len() >= UNREAD_MAX {
            self.overflowed = true;
            match self.less_urgent(item.message.priority) {
                Some(place) => drop(self.take(place)),
                None => return Put::NoRoom(Box::new(item)),
            }
        }
        self.places.insert(key, self.next);
        self.open.insert(self.next);
        if item.message.priority == Priority::Now {
            self.urgent.insert(self.next);
        }
        self.items.insert(self.next, item);
        self.next += 1;
        Put::New
    }

    /// Returns the newest of what is least urgent, if that is less urgent than this.
    fn less_urgent(&self, than: Priority) -> Option<u64> {
        let newest = |of: Priority| {
            let mut items = self.items.iter().rev();
            let found = items.find(|(_, item)| item.message.priority == of);
            found.map(|(place, _)| *place)
        };
        match than {
            Priority::Low => None,
            Priority::Next => newest(Priority::Low),
            Priority::Now => newest(Priority::Low).or_else(|| newest(Priority::Next)),
        }
    }

    /// Takes the next one out: what interrupts goes first.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let oldest = || self.items.first_key_value().map(|(place, _)| *place);
        let place = self.urgent.first().copied().or_else(oldest)?;
        self.take(place)
    }

    fn take(&mut self, place: u64) -> Option<Item> {
        let item = self.items.remove(&place)?;
        self.forget(place, &item);
        Some(item)
    }

    fn forget(&mut self, place: u64, item: &Item) {
        self.places.remove(&key(&item.message));
        self.open.remove(&place);
        self.urgent.remove(&place);
    }

    /// Returns the newest ones, oldest first; behind them what interrupts, which goes before them.
    pub(super) fn newest(&self, max: usize) -> Vec<Item> {
        let urgent: Vec<u64> = self.urgent.iter().rev().take(max).copied().collect();
        let rest = self.items.keys().rev().copied();
        let rest = rest.filter(|place| !self.urgent.contains(place));
        let mut places: Vec<u64> = rest.take(max - urgent.len()).collect();
        places.splice(..0, urgent);
        let newest = places.iter().rev();
        newest
            .filter_map(|at| self.items.get(at))
            .cloned()
            .collect()
    }

    pub(super) fn remove(&mut self, home: HomeId, from: &SessionPath, id: MsgId) -> Option<Item> {
        let place = self.places.get(&(home, from.clone(), id)).copied()?;
        self.take(place)
    }

    /// Takes out what answers a message.
    pub(super) fn take_answers(&mut self, answers: impl Fn(&Message) -> bool) -> Vec<Item> {
        let answers = |_: &u64, item: &mut Item| answers(&item.message);
        let taken: Vec<(u64, Item)> = self.items.extract_if(.., answers).collect();
        for (place, item) in &taken {
            self.forget(*place, item);
        }
        taken.into_iter().map(|(_, item)| item).collect()
    }

    pub(super) fn find(&self, id: MsgId) -> Vec<Message> {
        let all = self.items.values().map(|item| &item.message);
        all.filter(|message| message.id == id).cloned().collect()
    }

    /// Returns what is to be pushed next, of what is due by now: what interrupts, then the oldest.
    pub(super) fn unpushed(
        &self,
        now: Mono,
        due: impl Fn(&Item) -> Option<Mono>,
    ) -> Option<(u64, Message, Age)> {
        let is_due = |place: &&u64| {
            let item = self.items.get(place);
            item.and_then(&due).is_some_and(|at| at <= now)
        };
        let urgent = self.urgent.intersection(&self.open);
        let place = urgent.chain(&self.open).find(is_due)?;
        let item = self.items.get(place)?;
        Some((*place, item.message.clone(), item.age))
    }

    /// Returns when something that is held back is due.
    pub(super) fn next_due(&self, now: Mono, due: impl Fn(&Item) -> Option<Mono>) -> Option<Mono> {
        let open = self.open.iter().filter_map(|place| self.items.get(place));
        open.filter_map(due).filter(|at| *at > now).min()
    }

    pub(super) fn set_pushed(&mut self, place: u64) {
        self.open.remove(&place);
        if let Some(item) = self.items.get_mut(&place) {
            item.pushed = true;
        }
    }

    /// Stops offering what is due: it was announced as a number.
    pub(super) fn set_due_announced(&mut self, now: Mono, due: impl Fn(&Item) -> Option<Mono>) {
        let items = &self.items;
        let is_due = |place: &u64| {
            let item = items.get(place);
            item.and_then(&due).is_some_and(|at| at <= now)
        };
        self.open.retain(|place| !is_due(place));
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Notes that the replica has more.
    pub(super) const fn set_overflowed(&mut self) {
        self.overflowed = true;
    }

    /// Returns whether something found no room.
    pub(super) const fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Returns whether something found no room since this was last asked.
    pub(super) fn take_overflowed(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }
}
