//! Calls that wait for the answers of a question.
//!
//! The answer of a call is the only proof that the agent has what is in it: a call that the host gave up
//! keeps nothing, and what comes after the time is a message as any other.

use super::{Done, Session};
use crate::render::Frame;
use crate::tool::answer::ANSWER_BYTES_MAX;
use crate::tool::{Question, Reply};
use conclave_proto::id::MsgId;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// How much of an answer are frames; their attributes come on top.
const FRAMES_BYTES_MAX: usize = ANSWER_BYTES_MAX * 3 / 4;

/// A call that waits.
pub(super) struct Pending {
    question: Question,
    timer: AbortHandle,
    gone: CancellationToken,
    reply: oneshot::Sender<Reply>,
}

impl Session {
    /// Waits for the answers of a question that was said.
    pub(super) fn asked(
        &mut self,
        question: Question,
        gone: CancellationToken,
        reply: oneshot::Sender<Reply>,
    ) {
        if gone.is_cancelled() {
            return;
        }
        let (id, timeout) = (question.id, question.timeout);
        self.state.ask(id, question.audience.clone());
        let cancelled = gone.clone();
        let timer = self.tasks.spawn(async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = tokio::time::sleep(timeout) => {}
            }
            Done::AskOver(id)
        });
        self.asks.push(Pending {
            question,
            timer,
            gone,
            reply,
        });
        self.answered(id);
    }

    /// Ends a call whose question has all its answers.
    pub(super) fn answered(&mut self, id: MsgId) {
        let got = self.state.answered(id);
        let full = |p: &Pending| p.question.id == id && got >= p.question.wanted;
        if self.asks.iter().any(full) {
            self.ask_over(id);
        }
    }

    /// Ends a call, however far it came.
    pub(super) fn ask_over(&mut self, id: MsgId) {
        let Some(at) = self.asks.iter().position(|p| p.question.id == id) else {
            return;
        };
        let pending = self.asks.swap_remove(at);
        pending.timer.abort();
        let now = self.now();
        if pending.gone.is_cancelled() {
            return self.state.drop_ask(now, id);
        }
        let got = self.state.answered(id);
        let frames = self.state.take_answers(now, id, FRAMES_BYTES_MAX);
        let is_over = got > 0 && got >= pending.question.wanted;
        let status = if is_over { "answered" } else { "pending" };
        let answer = pending
            .question
            .facts
            .with("status", status)
            .with("answers", got);
        let hint = match pending.question.wanted {
            0 => {
                "nobody is there to answer now; answers that come later are messages with answers=<id>"
            }
            _ => {
                "answers that come later are messages with answers=<id>: wait_for_messages or go on"
            }
        };
        let answer = match is_over {
            true => answer,
            false => answer.with("hint", hint),
        };
        let answer = answer.frames(frames.iter().map(Frame::standalone));
        self.answer(pending.reply, Ok(answer));
    }
}
