//! What the host's hooks, the status line and the command line ask of the session.

use super::Session;
use crate::control::{Answer, Ask, Call};
use crate::control::{Event, seat};
use crate::wake::WakePath;
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

    /// Takes another socket where there is none any more: a login's directory goes when its user logs out. It
    /// is looked at each minute, and whenever the machine stands otherwise.
    pub(super) fn keep_seat(&mut self) -> Option<mpsc::Receiver<Call>> {
        let home = self.home_dir.clone()?;
        if self.seat.as_ref().is_some_and(seat::Seat::is_there) {
            return None;
        }
        // The one before takes its traces along, and may have had the same place.
        let name = self
            .seat
            .take()
            .and_then(|seat| seat.note().session.clone());
        let (mut seat, calls) = seat::take(&home)
            .inspect_err(|error| tracing::debug!(%error, "still no socket"))
            .ok()?;
        if let Some(name) = name
            && let Err(error) = seat.rename(name)
        {
            tracing::warn!(%error, "the session's name was not noted: its hooks are silent");
        }
        self.seat = Some(seat);
        Some(calls)
    }

    /// Takes a question.
    pub(super) fn controlled(&mut self, call: Call) {
        let Call { ask, answers } = call;
        let answer = match ask {
            Ask::Facts => Answer::Facts(self.facts()),
            Ask::Hook(hook) => return self.hooked(*hook, answers),
            Ask::Permit(permit) => {
                // An agent below this one finds this socket, too: its calls are not this agent's.
                if !self.is_called(permit.session.as_ref()) {
                    let (allow, message) = (None, None);
                    return tell(&answers, Answer::Permit { allow, message });
                }
                self.does(Event::Waiting, None);
                return self.permit(*permit, answers);
            }
            Ask::Holds => self.tell_holds(),
            Ask::Release { id, digest, signed } => {
                return self.release(&id, digest, &signed, answers);
            }
            Ask::Prove => return self.prove(answers),
            Ask::Monitor => return self.listens(WakePath::Monitor, answers),
            Ask::Rewake => return self.listens(WakePath::Rewake, answers),
        };
        tell(&answers, answer);
    }
}

/// Answers; who asked may have gone.
pub(super) fn tell(answers: &mpsc::Sender<Answer>, answer: Answer) {
    if answers.try_send(answer).is_err() {
        tracing::debug!("who asked has gone");
    }
}
