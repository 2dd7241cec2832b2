//! The client's half: one server across sockets. Handshake, resume, retry, dedup, acks, back-off. Pure.
//!
//! The driver dials when told to, hands in what comes, and drains [`Output`]s. Entries go up once and
//! in order; every request is answered once. Storing and opening entries is not done here.

mod feed;
mod handshake;
mod io;
mod open;
mod pin;
mod requests;

pub use io::{Disconnect, DownReason, Input, LinkConfig, Output, Pin};
pub use requests::REQUESTS_OPEN_MAX;

use crate::backoff::{Backoff, Jitter};
use crate::frame::ServerFrame;
use crate::frame::client::Hello;
use crate::handshake::Binding;
use crate::limit::{
    ACK_MS, BACKOFF_FIRST_MS, BACKOFF_RESET_MS, FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX,
    HEARTBEAT_MS, SILENCE_MS,
};
use crate::reject::Reject;
use crate::time::{Mono, Now};
use crate::timer::Timers;
use feed::Feeds;
use requests::{Requests, offline};
use std::collections::VecDeque;

/// How long a dial may take, in milliseconds.
pub const DIAL_MS: u64 = 30_000;
/// How long the server may take to close the socket after its goodbye, in milliseconds.
const FAREWELL_MS: u64 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// The dial or the handshake takes too long.
    Handshake,
    Ping,
    Silence,
    Ack,
    /// Subscriptions that were refused for now are due again.
    Follow,
    Farewell,
    Redial,
}

#[derive(Debug)]
enum State {
    /// Down, until the back-off is over.
    Waiting,
    Dialling,
    ExpectChallenge {
        hello: Box<Hello>,
        origin: String,
        bindings: Vec<Binding>,
    },
    ExpectReady,
    Open {
        since: Mono,
        frame_bytes_max: usize,
    },
    /// Nothing will happen any more.
    Ended,
}

/// What became of the first handshake's mode, if it is one that works only once. If the socket was lost
/// before the verdict, it may have succeeded: then `auth` is tried before it is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OneTime {
    Unsent,
    Sent,
    Checking,
}

/// Whether to try again after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    Never,
    /// After the back-off.
    Later,
    /// After the back-off, and not before so many milliseconds.
    NotBefore(u64),
}

/// Why a step failed: the socket is given up.
type Failure = (DownReason, Retry);

/// One server, across reconnects.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    state: State,
    one_time: OneTime,
    /// The server's last words on this socket.
    goodbye: Option<Reject>,
    requests: Requests,
    feeds: Feeds,
    timers: Timers<Timer>,
    heartbeat_ms: u64,
    jitter: Jitter,
    backoff: Backoff,
    /// How many times in a row another session with our instance took our place.
    superseded: u8,
    outputs: VecDeque<Output>,
}

impl Link {
    /// Starts a link; the first output is [`Output::Dial`].
    #[must_use]
    pub fn new(config: LinkConfig, now: Now) -> Self {
        let jitter = Jitter::new(config.seed);
        let mut link = Self {
            config,
            state: State::Waiting,
            one_time: OneTime::Unsent,
            goodbye: None,
            requests: Requests::new(),
            feeds: Feeds::default(),
            timers: Timers::default(),
            heartbeat_ms: HEARTBEAT_MS,
            jitter,
            backoff: Backoff::default(),
            superseded: 0,
            outputs: VecDeque::new(),
        };
        link.dial(now);
        link
    }

    /// Takes one input; drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        let done = match input {
            Input::Connected {
                origin,
                bindings,
                nonce,
            } => self.connected(now, origin, bindings, nonce),
            Input::Disconnected { reason } => self.disconnected(now, &reason),
            Input::Frame(bytes) => self.frame(now, &bytes),
            Input::Alive => {
                self.alive(now);
                Ok(())
            }
            Input::Request {
                token,
                op,
                deadline,
            } => {
                self.request(token, op, deadline);
                Ok(())
            }
            Input::Follow { log, after } => {
                self.follow(log, after);
                Ok(())
            }
            Input::Unfollow { log } => {
                self.feeds.unfollow(log);
                Ok(())
            }
            Input::Stored { log, seq } => self.stored(now, log, seq),
            Input::Timer => self.timer(now),
            Input::Stop => Err((DownReason::Stopped, Retry::Never)),
        };
        if let Err((reason, retry)) = done {
            self.fail(now, reason, retry);
        }
        self.pump();
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Timer`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        let deadline = self.requests.next_deadline();
        self.timers.next().into_iter().chain(deadline).min()
    }

    /// Returns whether the session is live.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Returns whether the link has ended for good.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Returns who the server must be, as learned by now.
    #[must_use]
    pub const fn pin(&self) -> &Pin {
        &self.config.pin
    }

    fn dial(&mut self, now: Now) {
        self.state = State::Dialling;
        self.timers.set(Timer::Handshake, now.mono.plus(DIAL_MS));
        self.outputs.push_back(Output::Dial);
    }

    fn alive(&mut self, now: Now) {
        match self.state {
            State::ExpectChallenge { .. } | State::ExpectReady | State::Open { .. } => {
                self.timers.set(Timer::Silence, now.mono.plus(SILENCE_MS));
            }
            State::Waiting | State::Dialling | State::Ended => {}
        }
    }

    fn set_ping(&mut self, now: Now) {
        let ping = self.jitter.about(self.heartbeat_ms);
        self.timers.set(Timer::Ping, now.mono.plus(ping));
    }

    fn frame(&mut self, now: Now, bytes: &[u8]) -> Result<(), Failure> {
        let max = match self.state {
            State::Open { .. } => FRAME_BYTES_MAX,
            State::ExpectChallenge { .. } | State::ExpectReady => HANDSHAKE_FRAME_BYTES_MAX,
            State::Waiting | State::Dialling | State::Ended => return Ok(()),
        };
        self.alive(now);
        let frame: ServerFrame = self
            .config
            .encoding
            .decode(bytes, max)
            .map_err(|e| malformed(e.to_string()))?;
        match (&self.state, frame) {
            (_, ServerFrame::Unknown(_)) => Ok(()),
            (_, ServerFrame::Goodbye(bye)) => {
                self.goodbye = Some(bye.reason);
                self.timers.set(Timer::Farewell, now.mono.plus(FAREWELL_MS));
                Ok(())
            }
            (State::ExpectChallenge { .. }, ServerFrame::Challenge(challenge)) => {
                self.challenged(now, &challenge)
            }
            (State::ExpectReady, ServerFrame::Ready(ready)) => {
                self.ready(now, ready);
                Ok(())
            }
            (State::Open { .. }, ServerFrame::Response(response)) => self.response(now, response),
            (State::Open { .. }, ServerFrame::Event(event)) => self.event(event),
            (_, frame) => Err(malformed(format!("{} came out of order", frame.word()))),
        }
    }

    fn disconnected(&mut self, now: Now, reason: &Disconnect) -> Result<(), Failure> {
        match self.state {
            State::Waiting | State::Ended => Ok(()),
            State::Dialling
            | State::ExpectChallenge { .. }
            | State::ExpectReady
            | State::Open { .. } => {
                let (reason, retry) = self.judge(now, reason);
                // The socket is gone already: there is nothing to hang up.
                self.fall(now, reason, retry);
                Ok(())
            }
        }
    }

    fn fail(&mut self, now: Now, reason: DownReason, retry: Retry) {
        match self.state {
            State::Waiting | State::Ended => {}
            State::Dialling
            | State::ExpectChallenge { .. }
            | State::ExpectReady
            | State::Open { .. } => self.outputs.push_back(Output::HangUp),
        }
        self.fall(now, reason, retry);
    }

    fn fall(&mut self, now: Now, reason: DownReason, retry: Retry) {
        let was = std::mem::replace(&mut self.state, State::Waiting);
        if let State::Ended = was {
            self.state = was;
            return;
        }
        if let State::Open { since, .. } = was
            && now.mono.since(since) >= BACKOFF_RESET_MS
        {
            self.backoff.reset();
            self.superseded = 0;
        }
        self.timers.clear();
        self.requests.down();
        self.feeds.down();
        let delay = match retry {
            Retry::Never => None,
            Retry::Later => Some(self.backoff.next_ms(&mut self.jitter)),
            Retry::NotBefore(ms) => Some(
                self.backoff
                    .next_ms(&mut self.jitter)
                    .max(ms.saturating_add(self.jitter.up_to(BACKOFF_FIRST_MS))),
            ),
        };
        self.outputs.push_back(Output::Down {
            reason,
            retry_in_ms: delay,
        });
        match delay {
            Some(ms) => self.timers.set(Timer::Redial, now.mono.plus(ms)),
            None => {
                self.state = State::Ended;
                for token in self.requests.drain() {
                    let result = Err(offline());
                    self.outputs.push_back(Output::Response { token, result });
                }
            }
        }
    }

    fn timer(&mut self, now: Now) -> Result<(), Failure> {
        while let Some((token, reject)) = self.requests.expired(now.mono) {
            let result = Err(reject);
            self.outputs.push_back(Output::Response { token, result });
        }
        while let Some(timer) = self.timers.take_due(now.mono) {
            match timer {
                Timer::Handshake => {
                    let text = "the handshake took too long".to_owned();
                    return Err((DownReason::Lost(text), Retry::Later));
                }
                Timer::Silence => return Err((DownReason::Silent, Retry::Later)),
                Timer::Farewell => {
                    return Err(self.judge(now, &Disconnect::Failed("no close".to_owned())));
                }
                Timer::Redial => self.dial(now),
                Timer::Ack => self.acknowledge()?,
                Timer::Follow => self.feeds.release(),
                Timer::Ping => {
                    self.outputs.push_back(Output::Ping);
                    self.set_ping(now);
                }
            }
        }
        Ok(())
    }
}

fn malformed(text: String) -> Failure {
    (DownReason::Malformed(text), Retry::Later)
}
