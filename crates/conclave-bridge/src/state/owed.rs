//! Questions that this session was shown and has not answered: what it owes, for when it forgets.

use super::{HomeId, Message, Place, State};
use conclave_proto::id::MsgId;
use conclave_proto::name::SessionPath;
use std::collections::VecDeque;

/// The most questions remembered; the oldest are forgotten first.
const OWED_MAX: usize = 64;

/// A question that waits for this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// By which server it came.
    pub home: HomeId,
    /// Its id.
    pub id: MsgId,
    /// Who asked.
    pub from: SessionPath,
    /// Where.
    pub place: Place,
}

/// What is owed, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Debts(VecDeque<Owed>);

impl State {
    /// Remembers a question that the agent has now.
    pub(super) fn note_owed(&mut self, message: &Message) {
        let known = |owed: &Owed| owed.id == message.id && owed.from == message.from;
        if !message.expects_reply || self.owed.0.iter().any(known) {
            return;
        }
        if self.owed.0.len() >= OWED_MAX {
            self.owed.0.pop_front();
        }
        self.owed.0.push_back(Owed {
            home: message.home,
            id: message.id,
            from: message.from.clone(),
            place: message.place.clone(),
        });
    }

    /// Notes that the agent answered what stands under an id.
    pub fn paid(&mut self, id: MsgId) {
        self.owed.0.retain(|owed| owed.id != id);
    }

    /// Returns what the agent was asked and has not answered, the newest first.
    pub fn owed(&self) -> impl ExactSizeIterator<Item = &Owed> {
        self.owed.0.iter().rev()
    }
}
