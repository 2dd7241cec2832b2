//! What servers tell before the session has them: it waits, for by whose levels and labels it is to be
//! judged is not known yet.

use super::{Opening, Session};
use crate::fabric::Event;
use crate::state::{HomeId, UNREAD_MAX};
use std::collections::VecDeque;

/// The most events that wait; what comes beyond waits where it is.
const WAITING_MAX: usize = UNREAD_MAX;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Early(VecDeque<(HomeId, Event)>);

impl Session {
    /// Returns whether there is room for what servers tell.
    pub(super) fn takes_events(&self) -> bool {
        self.early.0.len() < WAITING_MAX
    }

    /// Takes what a server tells: at once, if the session has the server.
    pub(super) fn told(&mut self, home: HomeId, event: Event) {
        match self.opening {
            Opening::Done => self.event(home, event),
            Opening::Not | Opening::Running(_) => self.early.0.push_back((home, event)),
            // No server was opened: what one told is in its replica.
            Opening::Failed => tracing::debug!(home = home.0, "told by a server that is gone"),
        }
    }

    /// Goes through what waited, now that every server is known.
    pub(super) fn hear_early(&mut self) {
        for (home, event) in std::mem::take(&mut self.early.0) {
            self.event(home, event);
        }
    }

    /// Forgets what waited, for no server was opened.
    pub(super) fn drop_early(&mut self) {
        self.early.0.clear();
    }
}
