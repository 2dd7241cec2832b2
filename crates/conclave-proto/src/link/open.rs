//! The live part of a link: requests, answers, entries, acknowledgements.

use super::feed::{Accepted, Ask};
use super::requests::{Flight, offline};
use super::{ACK_MS, DownReason, Failure, Link, Output, Retry, State, Timer, malformed};
use crate::codec::CodecError;
use crate::frame::client::{Ack, ClientFrame, Request};
use crate::frame::event::{Dropped, Event};
use crate::frame::op::{Op, Subscribe, Unsubscribe};
use crate::frame::reply::Reply;
use crate::frame::server::{Outcome, Response};
use crate::id::LogId;
use crate::limit::ACK_ENTRIES;
use crate::reject::{Code, Reject};
use crate::time::{Mono, Now};

/// When to ask again for a log whose subscription was refused for now, in milliseconds.
const FOLLOW_AGAIN_MS: u64 = 1_000;

impl Link {
    pub(super) fn request(&mut self, token: u64, op: Op, deadline: Option<Mono>) {
        let result = if self.is_ended() {
            Err(offline())
        } else {
            self.requests.add(token, op, deadline)
        };
        if let Err(reject) = result {
            self.answer(token, Err(reject));
        }
    }

    pub(super) fn follow(&mut self, log: LogId, after: u64) {
        if !self.feeds.follow(log, after) {
            let reject = Reject::new(Code::LimitReached, "too many logs are followed");
            self.dropped(log, reject);
        }
    }

    pub(super) fn stored(&mut self, now: Now, log: LogId, seq: u64) -> Result<(), Failure> {
        if self.feeds.stored(log, seq) >= ACK_ENTRIES {
            return self.acknowledge();
        }
        self.arm_ack(now);
        Ok(())
    }

    fn arm_ack(&mut self, now: Now) {
        if self.feeds.ack_due() {
            self.timers.set_if_unset(Timer::Ack, now.mono.plus(ACK_MS));
        }
    }

    /// Tells the server how far the replica has followed logs.
    pub(super) fn acknowledge(&mut self) -> Result<(), Failure> {
        self.timers.stop(Timer::Ack);
        let cursors = self.feeds.take_acks();
        if !cursors.is_empty() && self.is_up() {
            self.send(&ClientFrame::Ack(Ack { cursors }))
                .map_err(|e| malformed(e.to_string()))?;
        }
        Ok(())
    }

    /// Sends what there is room for: subscriptions first, then commands in their order.
    pub(super) fn pump(&mut self) {
        if self.goodbye.is_some() {
            return;
        }
        while self.requests.has_room() {
            if let Some(ask) = self.feeds.next_ask() {
                self.ask(ask);
            } else if let Some((token, op)) = self.requests.next() {
                self.command(token, op);
            } else {
                break;
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        let (id, op) = match ask {
            Ask::Follow { log, after } => {
                let id = self.requests.launch(Flight::Follow { log });
                self.feeds.asked(log, id);
                (id, Op::Subscribe(Subscribe { log, after }))
            }
            Ask::Unfollow { log } => {
                let id = self.requests.launch(Flight::Unfollow);
                (id, Op::Unsubscribe(Unsubscribe { log }))
            }
        };
        // These two always fit into a frame.
        self.send(&ClientFrame::Request(Request { id, op })).ok();
    }

    fn command(&mut self, token: u64, op: Op) {
        let id = self.requests.launch(Flight::Command { token });
        if let Err(bad) = self.send(&ClientFrame::Request(Request { id, op })) {
            self.requests.land(id);
            self.requests.finish(token);
            self.answer(token, Err(Reject::new(Code::TooLarge, bad.to_string())));
        }
    }

    pub(super) fn response(&mut self, now: Now, response: Response) -> Result<(), Failure> {
        let Response { id, result } = response;
        let result = match result {
            Outcome::Ok(reply) => Ok(reply),
            Outcome::Err(reject) => Err(reject),
            Outcome::Unknown(word) => Err(Reject::new(
                Code::from(&*word),
                "the answer is of a newer version",
            )),
        };
        match self.requests.land(id) {
            Some(Flight::Command { token }) => {
                if self.requests.finish(token) {
                    self.answer(token, result);
                }
                Ok(())
            }
            Some(Flight::Follow { log }) => self.followed(now, log, id, result),
            Some(Flight::Unfollow) => Ok(()),
            None => Err(malformed("an answer to no request".to_owned())),
        }
    }

    fn followed(
        &mut self,
        now: Now,
        log: LogId,
        id: u64,
        result: Result<Reply, Reject>,
    ) -> Result<(), Failure> {
        if !self.feeds.is_asked(log, id) {
            return Ok(());
        }
        match result {
            Ok(Reply::Subscribed(subscribed)) => {
                if let Err(received) = self.feeds.granted(log, id, subscribed.head) {
                    let text = format!(
                        "the server's log ends at {}, but {received} was received before",
                        subscribed.head
                    );
                    self.feeds.unfollow(log);
                    self.dropped(log, Reject::new(Code::Internal, text));
                }
                self.arm_ack(now);
                Ok(())
            }
            Ok(reply) => Err(malformed(format!("{} answers subscribe", reply.word()))),
            Err(reject) if passes(&reject.code) => {
                self.feeds.hold(log, id);
                let wait = reject.retry_after_ms.unwrap_or(0).max(FOLLOW_AGAIN_MS);
                self.timers.set_if_unset(Timer::Follow, now.mono.plus(wait));
                Ok(())
            }
            Err(reject) => {
                self.feeds.forget(log);
                self.dropped(log, reject);
                Ok(())
            }
        }
    }

    pub(super) fn event(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Entries(batch) => match self.feeds.accept(batch) {
                (_, Accepted::Nothing) => Ok(()),
                (log, Accepted::New(entries, gap)) => {
                    self.outputs
                        .push_back(Output::Entries { log, entries, gap });
                    Ok(())
                }
                (log, Accepted::Hole { expected, got }) => {
                    let reason = DownReason::Hole { log, expected, got };
                    Err((reason, Retry::Later))
                }
            },
            Event::Dropped(dropped) => {
                if self.feeds.ended(dropped.log) {
                    self.outputs
                        .push_back(Output::Event(Event::Dropped(dropped)));
                }
                Ok(())
            }
            Event::Presence(_)
            | Event::Ident(_)
            | Event::Keys(_)
            | Event::Wanted(_)
            | Event::Enrol(_)
            | Event::Standing(_) => {
                self.outputs.push_back(Output::Event(event));
                Ok(())
            }
            Event::Unknown(_) => Ok(()),
        }
    }

    fn answer(&mut self, token: u64, result: Result<Reply, Reject>) {
        self.outputs.push_back(Output::Response { token, result });
    }

    fn dropped(&mut self, log: LogId, reason: Reject) {
        let dropped = Event::Dropped(Dropped { log, reason });
        self.outputs.push_back(Output::Event(dropped));
    }

    fn send(&mut self, frame: &ClientFrame) -> Result<(), CodecError> {
        let State::Open {
            frame_bytes_max, ..
        } = self.state
        else {
            return Ok(());
        };
        let bytes = self.config.encoding.encode(frame, frame_bytes_max)?;
        self.outputs.push_back(Output::Send(bytes));
        Ok(())
    }
}

/// Whether a refused subscription is worth asking again on the same socket.
const fn passes(code: &Code) -> bool {
    matches!(
        code,
        Code::RateLimited | Code::Timeout | Code::Internal | Code::Draining
    )
}
