//! What the host's hooks, the status line and the command line ask of the session.

use super::Session;
use crate::control::seat;
use crate::control::{Answer, Ask, Call};
use crate::wake::WakePath;
use serde_json::json;
use std::path::Path;
use tokio::sync::mpsc;

impl Session {
    /// Takes a socket of its own. A session without one works, but its hooks are silent.
    pub(super) fn take_seat(&mut self, home: Option<&Path>) -> mpsc::Receiver<Call> {
        let taken = home.map(seat::take);
        match taken {
            Some(Ok((seat, calls))) => {
                self.seat = Some(seat);
                return calls;
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "this session has no socket of its own: hooks and status line are silent");
            }
            None => {}
        }
        mpsc::channel(1).1
    }

    /// Takes a question.
    pub(super) fn controlled(&mut self, call: Call) {
        let Call { ask, answers } = call;
        let answer = match ask {
            Ask::Facts => Answer::Facts(json!({
                "unread": self.state.unread(),
                "wake": self.wake_facts(),
                "guard": self.guard_facts(self.now()),
            })),
            Ask::Hook(hook) => self.carry(&hook),
            Ask::Permit(permit) => return self.permit(*permit, answers),
            Ask::Prove => return self.prove(answers),
            Ask::Monitor => return self.listens(WakePath::Monitor, answers),
            Ask::Rewake => return self.listens(WakePath::Rewake, answers),
        };
        if answers.try_send(answer).is_err() {
            tracing::debug!("who asked has gone");
        }
    }
}
