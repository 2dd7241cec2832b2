//! Questions that a call waits for the answers of. What answers one goes to its call and nowhere else, until
//! the call ends: then it was shown, or, if nobody hears the call any more, it is unread as any message.

use super::{Age, HomeId, Message, Output, State, Why};
use crate::render::Frame;
use conclave_proto::id::{ChannelId, LogId, MsgId};
use conclave_proto::name::SessionPath;
use conclave_proto::time::Now;
use std::collections::BTreeSet;

/// The most answers of one question; what comes beyond is unread.
const ANSWERS_MAX: usize = 64;

/// Whom something was said to: who else answers says something of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    /// On which server.
    pub home: HomeId,
    /// The sessions, as far as they are known.
    pub sessions: BTreeSet<SessionPath>,
    /// The channels of which everybody was meant: what is said in these may come from anybody there.
    pub channels: Vec<ChannelId>,
}

impl Audience {
    fn has(&self, message: &Message) -> bool {
        let in_channel = |id: &ChannelId| message.log == LogId::Channel(*id);
        message.home == self.home
            && (self.sessions.contains(&message.from) || self.channels.iter().any(in_channel))
    }
}

/// The most sessions whose answers are counted.
const ANSWERERS_MAX: usize = 1_024;

/// The answers so far, in the order they came; and who answered, which counts also where what was said finds
/// no room.
#[derive(Debug)]
pub(super) struct Asked(Audience, Vec<(Message, Age)>, BTreeSet<SessionPath>);

impl Asked {
    /// Takes an answer in; gives it back if there is no room. One that is here already is dropped.
    fn take(&mut self, message: Message, age: Age) -> Option<(Message, Age)> {
        let same = |(other, _): &(Message, Age)| {
            other.id == message.id && other.from == message.from && other.home == message.home
        };
        if self.1.iter().any(same) {
            return None;
        }
        if self.2.len() < ANSWERERS_MAX {
            self.2.insert(message.from.clone());
        }
        if self.1.len() >= ANSWERS_MAX {
            return Some((message, age));
        }
        self.1.push((message, age));
        None
    }
}

impl State {
    /// Begins to collect the answers of a question, with those that came before this was known.
    pub fn ask(&mut self, id: MsgId, of: Audience) {
        let answers = |m: &Message| m.reply_to == Some(id) && of.has(m);
        let came = self.unread.take_answers(answers);
        let mut asked = Asked(of, Vec::new(), BTreeSet::new());
        for item in came {
            self.pass_copies(&item, item.message.log);
            // Unread holds each once, and is bounded.
            asked.2.insert(item.message.from.clone());
            asked.1.push((item.message, item.age));
        }
        self.asked.insert(id, asked);
    }

    /// Returns how many sessions have answered a question.
    #[must_use]
    pub fn answered(&self, id: MsgId) -> usize {
        self.asked.get(&id).map_or(0, |asked| asked.2.len())
    }

    /// Ends a question whose call hears its answers, at most about `bytes_max` bytes of them: these are
    /// shown, the others are messages.
    pub fn take_answers(&mut self, now: Now, id: MsgId, bytes_max: usize) -> Vec<Frame> {
        let (mut frames, mut left) = (Vec::new(), bytes_max);
        for (message, age) in self.collected(id) {
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
        for (message, age) in self.collected(id) {
            self.keep_unread(now, message, age);
        }
    }

    fn collected(&mut self, id: MsgId) -> Vec<(Message, Age)> {
        self.asked
            .remove(&id)
            .map_or_else(Vec::new, |asked| asked.1)
    }

    /// Takes a message that answers a pending question; gives it back if it answers none.
    pub(super) fn answers(&mut self, message: Message, age: Age) -> Option<(Message, Age)> {
        let is_asked = |id: &MsgId| {
            self.asked
                .get(id)
                .is_some_and(|asked| asked.0.has(&message))
        };
        let Some(id) = message.reply_to.filter(is_asked) else {
            return Some((message, age));
        };
        self.outputs.push_back(Output::Answered(id));
        match self.asked.get_mut(&id) {
            Some(asked) => asked.take(message, age),
            None => Some((message, age)),
        }
    }
}
