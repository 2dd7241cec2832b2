//! A trial of waking, for `conclave doctor wake`: something goes by the way that would be used now, and the
//! answer comes with the evidence, or when its time is over.

use super::tell;
use crate::control::Answer;
use crate::session::{Done, Session};
use crate::state::Trial;
use crate::wake::WakePath;
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long evidence may take.
const WITHIN: Duration = Duration::from_secs(60);
/// How often the transcript is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// A trial under way.
#[derive(Debug)]
pub(super) struct Pending {
    path: WakePath,
    since: Instant,
    answers: mpsc::Sender<Answer>,
}

impl Session {
    /// Wakes the agent, and tells whether it woke.
    pub(in crate::session) fn prove(&mut self, answers: mpsc::Sender<Answer>) {
        if self.wakers.trial.is_some() {
            let message = "another trial is under way".to_owned();
            return tell(&answers, Answer::Error { message });
        }
        self.try_next(Instant::now(), answers);
    }

    /// Tries the way that would be used now.
    fn try_next(&mut self, since: Instant, answers: mpsc::Sender<Answer>) {
        let trial = self.state.try_wake(self.now());
        let path = match trial {
            Trial::Sent(path) => path,
            Trial::Wait => WakePath::Wait,
            Trial::Nothing => {
                let why = "nothing can wake it now: there is no inbox, monitor or hook that waits";
                let wake = self.wake_facts();
                let facts = json!({"path": null, "proven": false, "why_not": why, "wake": wake});
                return tell(&answers, Answer::Facts(facts));
            }
        };
        self.wakers.trial = Some(Pending {
            path,
            since,
            answers,
        });
        match trial {
            Trial::Wait if !self.try_wait() => {
                self.end_trial(Some("the call that waited was given up"));
            }
            Trial::Wait | Trial::Nothing => {}
            Trial::Sent(_) => self.keep_looking(),
        }
    }

    fn keep_looking(&mut self) {
        self.tasks.spawn(async {
            tokio::time::sleep(LOOK).await;
            Done::Then(Box::new(Self::look_again))
        });
    }

    fn look_again(&mut self) {
        let Some(trial) = &self.wakers.trial else {
            return;
        };
        let refuted = self.state.ways().row(trial.path).refuted;
        if trial.answers.is_closed() {
            self.wakers.trial = None;
        } else if refuted && trial.since.elapsed() < WITHIN {
            // The next way has its turn, as with a message.
            if let Some(trial) = self.wakers.trial.take() {
                self.try_next(trial.since, trial.answers);
            }
        } else if trial.since.elapsed() >= WITHIN {
            self.end_trial(Some("there was no evidence in 60 s"));
        } else {
            if self.wakers.transcript.is_some() {
                self.look();
            }
            self.keep_looking();
        }
    }

    pub(super) fn trial_proven(&mut self, path: WakePath) {
        if self
            .wakers
            .trial
            .as_ref()
            .is_some_and(|trial| trial.path == path)
        {
            self.end_trial(None);
        }
    }

    pub(super) fn trial_failed(&mut self, path: WakePath, why: &'static str) {
        if self
            .wakers
            .trial
            .as_ref()
            .is_some_and(|trial| trial.path == path)
        {
            self.end_trial(Some(why));
        }
    }

    fn end_trial(&mut self, why_not: Option<&'static str>) {
        let Some(trial) = self.wakers.trial.take() else {
            return;
        };
        let within_ms = u64::try_from(trial.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let facts = json!({
            "path": trial.path.as_str(),
            "proven": why_not.is_none(),
            "within_ms": within_ms,
            "why_not": why_not,
            "wake": self.wake_facts(),
        });
        tell(&trial.answers, Answer::Facts(facts));
    }
}
