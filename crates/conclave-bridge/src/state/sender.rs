//! Users that this machine never heard of: their messages wait a moment for the human, those of muted ones wake
//! nobody, those of blocked ones are not shown.

use super::unread::Item;
use super::{HomeId, Message, Output, State, Why};
use crate::senders::Standing;
use conclave_proto::id::UserId;
use conclave_proto::time::{Mono, Now};
use std::collections::BTreeMap;

/// How long messages of a new sender wait for the human, in milliseconds.
pub const THINK_MS: u64 = 60_000;

/// The most users that the human is asked about in one session.
const ASKED_MAX: usize = 1_024;

/// Who was asked about, and until when its messages wait.
#[derive(Debug, Default)]
pub(super) struct Asked(BTreeMap<(HomeId, UserId), Option<Mono>>);

impl State {
    fn standing(&self, message: &Message) -> Option<Standing> {
        let home = self.homes.get(&message.home)?;
        home.senders.standing(&message.sender.user)
    }

    /// Returns whether the human blocked the sender; has it asked about who is new.
    pub(super) fn is_blocked(&mut self, now: Now, message: &Message) -> bool {
        let sender = &message.sender;
        if sender.own {
            return false;
        }
        match self.standing(message) {
            Some(standing) => return standing == Standing::Blocked,
            None if sender.vouched => return false,
            None => {}
        }
        let key = (message.home, sender.user);
        if !self.asked_about.0.contains_key(&key) && self.asked_about.0.len() < ASKED_MAX {
            self.asked_about
                .0
                .insert(key, Some(now.mono.plus(THINK_MS)));
            self.outputs
                .push_back(Output::NewSender(Box::new(message.clone())));
        }
        false
    }

    /// Returns from when on what comes from a sender may wake the agent, if at all.
    pub(super) fn sender_due(&self, message: &Message, due: Mono) -> Option<Mono> {
        if self.standing(message) == Some(Standing::Muted) && !message.sender.own {
            return None;
        }
        let key = (message.home, message.sender.user);
        let until = self.asked_about.0.get(&key).copied().flatten();
        Some(until.map_or(due, |until| due.max(until)))
    }

    /// Returns whether what came may end a wait now.
    pub(super) fn may_wake(&self, now: Now, message: &Message) -> bool {
        let due = self.sender_due(message, now.mono);
        due.is_some_and(|at| at <= now.mono)
    }

    /// Goes on after the human was asked about a user, or could not be.
    pub fn sender_settled(&mut self, now: Now, home: HomeId, user: UserId) {
        if let Some(until) = self.asked_about.0.get_mut(&(home, user)) {
            *until = None;
        }
        self.drop_blocked();
        if self.waits > 0 && !self.unread.is_empty() {
            self.outputs.push_back(Output::Wake);
        } else {
            self.offer_pushes(now);
        }
    }

    /// Takes out what came from users that are blocked by now.
    pub(super) fn drop_blocked(&mut self) {
        let homes = &self.homes;
        let blocked = |message: &Message| {
            let home = homes.get(&message.home);
            let standing = home.and_then(|home| home.senders.standing(&message.sender.user));
            standing == Some(Standing::Blocked) && !message.sender.own
        };
        let items: Vec<Item> = self.unread.take_answers(blocked);
        for item in items {
            self.mark_message(&item.message, Why::Blocked);
            self.pass_copies(&item, item.message.log);
        }
    }
}
