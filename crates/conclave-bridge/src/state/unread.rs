//! Messages the agent has no proof of having, in the order they came, each once, at most so many.

use super::{Age, HomeId, Message};
use crate::wake::WakePath;
use conclave_proto::body::Priority;
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::name::SessionPath;
use conclave_proto::time::Mono;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most messages held; what comes beyond is in the replica and asked for again when these are read.
pub const UNREAD_MAX: usize = 1_000;

/// What an unread message went by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// Itself, in a frame with this gutter.
    Frame(WakePath, String, Mono),
    /// The pointer of this number.
    Line(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) message: Message,
    pub(super) age: Age,
    /// Whether it was ever pushed itself.
    pub(super) pushed: bool,
    /// By which ways it was, lately, and with which gutters: evidence may come late.
    pub(super) frames: Vec<(WakePath, String)>,
    /// What it goes by now.
    pub(super) carrier: Option<Carrier>,
    pub(super) arrived: Mono,
    /// It wakes nobody: the guard stopped it.
    pub(super) hushed: bool,
    /// In which other logs it stands, too.
    pub(super) copies: Vec<LogId>,
}

/// The most frames of one message that are known again.
const FRAMES_MAX: usize = 4;

/// The most logs that one sender's message is said in, and some more.
const COPIES_MAX: usize = 32;

impl Item {
    /// Makes one that was not pushed.
    pub(super) const fn new(arrived: Mono, message: Message, age: Age) -> Self {
        Self {
            message,
            age,
            pushed: false,
            carrier: None,
            frames: Vec::new(),
            arrived,
            hushed: false,
            copies: Vec::new(),
        }
    }

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
    pub(super) fn insert(&mut self, item: Item) -> Put {
        let key = key(&item.message);
        if let Some(place) = self.places.get(&key) {
            if let Some(known) = self.items.get_mut(place) {
                known.add_copy(item.message.log);
            }
            return Put::Known;
        }
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

    /// Returns what is held under a name.
    pub(super) fn place(&self, home: HomeId, from: &SessionPath, id: MsgId) -> Option<&Item> {
        self.items.get(self.places.get(&(home, from.clone(), id))?)
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
    pub(super) fn unpushed(&self, is_due: impl Fn(&Item) -> bool) -> Option<(u64, Message, Age)> {
        let urgent = self.urgent.intersection(&self.open);
        let mut places = urgent.chain(&self.open);
        let fits = |place: &&u64| self.items.get(place).is_some_and(&is_due);
        let place = places.find(fits)?;
        let item = self.items.get(place)?;
        Some((*place, item.message.clone(), item.age))
    }

    /// Returns the places of all that is to be pushed, of what is due by now: what interrupts, then the newest.
    pub(super) fn all_unpushed(&self, is_due: impl Fn(&Item) -> bool) -> Vec<u64> {
        let newest = || self.open.iter().rev().copied();
        let urgent = newest().filter(|place| self.urgent.contains(place));
        let rest = newest().filter(|place| !self.urgent.contains(place));
        let places = urgent.chain(rest);
        let fits = |place: &u64| self.items.get(place).is_some_and(&is_due);
        places.filter(fits).collect()
    }

    /// Returns what stands in a place.
    pub(super) fn item(&self, place: u64) -> Option<&Item> {
        self.items.get(&place)
    }

    /// Returns when something that is held back is due.
    pub(super) fn next_due(&self, now: Mono, due: impl Fn(&Item) -> Option<Mono>) -> Option<Mono> {
        let open = self.open.iter().filter_map(|place| self.items.get(place));
        open.filter_map(due).filter(|at| *at > now).min()
    }

    /// Notes what a message goes by.
    pub(super) fn set_carried(&mut self, place: u64, carrier: Carrier) {
        self.open.remove(&place);
        if let Some(item) = self.items.get_mut(&place) {
            if let Carrier::Frame(path, gutter, _) = &carrier {
                item.pushed = true;
                item.frames.truncate(FRAMES_MAX - 1);
                item.frames.insert(0, (*path, gutter.clone()));
            }
            item.carrier = Some(carrier);
        }
    }

    /// Offers again what went by something that did not come; returns how much that is.
    pub(super) fn reopen(&mut self, lost: impl Fn(&Carrier) -> bool) -> usize {
        let mut reopened = 0;
        for (place, item) in &mut self.items {
            if item.carrier.take_if(|carrier| lost(carrier)).is_some() {
                self.open.insert(*place);
                reopened += 1;
            }
        }
        reopened
    }

    /// Has a pointer stand for what earlier ones stood for, too.
    pub(super) fn recarry(&mut self, by: u64) {
        for item in self.items.values_mut() {
            if let Some(Carrier::Line(serial)) = &mut item.carrier {
                *serial = by;
            }
        }
    }

    /// Returns what was pushed itself and is in a text, by its gutter: with the way it went.
    pub(super) fn framed(&self, is_in: impl Fn(&str) -> bool) -> Vec<(WakePath, Message)> {
        let seen = |item: &Item| {
            let frame = item.frames.iter().find(|(_, gutter)| is_in(gutter))?;
            Some((frame.0, item.message.clone()))
        };
        self.items.values().filter_map(seen).collect()
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

    pub(super) fn any(&self, is: impl Fn(&Item) -> bool) -> bool {
        self.items.values().any(is)
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
