//! What came while nobody of this session was there: read from the replica, a page at a time.

use super::{Done, Session};
use crate::state::{Age, HomeId, Input, Message, UNREAD_MAX};
use conclave_proto::time::Now;

impl Session {
    /// Has the next page of what was missed read.
    pub(super) fn load_missed(&mut self, home: HomeId) {
        if let Some(fabric) = self.homes.get(home.0) {
            let missed = fabric.unshown(UNREAD_MAX);
            self.tasks
                .spawn(async move { Done::Missed(home, missed.await) });
        }
    }

    /// Takes a page. Behind a full one may be more; but the same page again means that nothing is kept of
    /// what was shown.
    pub(super) fn missed(&mut self, now: Now, home: HomeId, messages: Vec<Message>) {
        let is_full = messages.len() >= UNREAD_MAX;
        if let Some(last) = messages.last().filter(|_| is_full) {
            if self.missed.insert(home, last.id) == Some(last.id) {
                tracing::warn!(home = home.0, "what was missed does not end");
            } else {
                self.state.handle(now, Input::More);
            }
        }
        for message in messages {
            let input = Input::Arrived(Box::new(message), Age::History);
            self.state.handle(now, input);
        }
    }
}
