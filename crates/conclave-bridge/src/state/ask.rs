//! Questions that a call waits for the answers of. What answers one goes to its call and nowhere else, until
//! the call ends: then it was shown, or, if nobody hears the call any more, it is unread as any message.

use super::{Age, Message, Output, State, Why};
use crate::render::Frame;
use conclave_proto::id::MsgId;
use conclave_proto::time::Now;

/// The most answers of one question; what comes beyond is unread.
const ANSWERS_MAX: usize = 64;

/// The answers so far, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<(Message, Age)>);

impl Asked {
    /// Takes an answer in; gives it back if there is no room. One that is here already is dropped.
    fn take(&mut self, message: Message, age: Age) -> Option<(Message, Age)> {
        let same = |(other, _): &(Message, Age)| {
            other.id == message.id && other.from == message.from && other.home == message.home
        };
        if self.0.iter().any(same) {
            return None;
        }
        if self.0.len() >= ANSWERS_MAX {
            return Some((message, age));
        }
        self.0.push((message, age));
        None
    }
}

impl State {
    /// Begins to collect the answers of a question, with those that came before this was known.
    pub fn ask(&mut self, id: MsgId) {
        let mut asked = Asked::default();
        for item in self.unread.take_answers(id) {
            self.pass_copies(&item, item.message.log);
            // Unread holds each once, and is bounded.
            asked.0.push((item.message, item.age));
        }
        self.asked.insert(id, asked);
    }

    /// Returns how many sessions have answered a question.
    #[must_use]
    pub fn answered(&self, id: MsgId) -> usize {
        let answers = self.asked.get(&id).map(|asked| asked.0.iter());
        let mut from: Vec<_> = answers
            .into_iter()
            .flatten()
            .map(|(m, _)| &m.from)
            .collect();
        from.sort();
        from.dedup();
        from.len()
    }

    /// Ends a question whose call hears its answers, at most about `bytes_max` bytes of them: these are
    /// shown, the others are messages.
    pub fn take_answers(&mut self, now: Now, id: MsgId, bytes_max: usize) -> Vec<Frame> {
        let (mut frames, mut left) = (Vec::new(), bytes_max);
        for (message, age) in self.asked.remove(&id).unwrap_or_default().0 {
            let frame = self.show(now, &message, age, 0);
            let bytes = frame.content.len();
            if bytes > left {
                self.keep_unread(now, message, age);
                continue;
            }
            left -= bytes;
            self.mark_message(&message, Why::Shown);
            frames.push(frame);
        }
        frames
    }

    /// Ends a question whose call nobody hears any more: its answers are messages.
    pub fn drop_ask(&mut self, now: Now, id: MsgId) {
        for (message, age) in self.asked.remove(&id).unwrap_or_default().0 {
            self.keep_unread(now, message, age);
        }
    }

    /// Takes a message that answers a pending question; gives it back if it answers none.
    pub(super) fn answers(&mut self, message: Message, age: Age) -> Option<(Message, Age)> {
        let Some(id) = message.reply_to.filter(|id| self.asked.contains_key(id)) else {
            return Some((message, age));
        };
        self.outputs.push_back(Output::Answered(id));
        match self.asked.get_mut(&id) {
            Some(asked) => asked.take(message, age),
            None => Some((message, age)),
        }
    }
}
