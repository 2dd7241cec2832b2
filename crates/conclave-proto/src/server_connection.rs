//! The server's half of one socket: handshake, limits, requests in flight, heartbeat. Pure.
//!
//! The driver hands in frames and the hub's verdicts, and drains [`Output`]s. Events are encoded once
//! by the hub and written by the driver past this machine. Nothing here knows what a channel is.

use crate::backoff::Jitter;
use crate::close::Close;
use crate::codec::{CodecError, Encoding};
use crate::frame::client::{Ack, Auth, Cursor, Hello, Request};
use crate::frame::server::{Challenge, Goodbye, Outcome, Ready, Response};
use crate::frame::{ClientFrame, Op, ServerFrame, VERSIONS};
use crate::handshake::{Binding, Mode, Transcript};
use crate::id::{Blob, HandshakeNonce, ServerId};
use crate::key::{Secret, Signature};
use crate::limit::{
    ENROLMENT_MS, FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX, HANDSHAKE_MS, HEARTBEAT_MS,
    REQUESTS_IN_FLIGHT_MAX, SILENCE_MS,
};
use crate::name::{CLI_HANDLE, DESK_HANDLE, Name};
use crate::reject::{Code, Reject};
use crate::time::{Mono, Now};
use crate::timer::Timers;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The most versions and bindings a hello may offer.
const OFFERS_MAX: usize = 8;
/// The longest agent text, in bytes.
const AGENT_BYTES_MAX: usize = 64;

/// What a connection is made with.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// The server's key.
    pub secret: Arc<Secret>,
    /// The server's id.
    pub server_id: ServerId,
    /// Rotation records from the first key to this one, oldest first.
    pub rotations: Vec<Blob>,
    /// The public origin this socket was accepted for: `https://host:port` or `http://host:port`.
    pub origin: String,
    /// The binding this server requires on this socket.
    pub binding: Binding,
    /// The encoding that the subprotocol chose.
    pub encoding: Encoding,
    /// 32 fresh random bytes.
    pub nonce: HandshakeNonce,
    /// Seeds the heartbeat's jitter.
    pub seed: u64,
}

/// What happens to a connection.
#[derive(Debug)]
pub enum Input {
    /// One WebSocket message, whole.
    Frame(Vec<u8>),
    /// A WebSocket ping or pong came in.
    Alive,
    /// The hub's verdict on [`Output::Enter`].
    Entered(Result<Box<Ready>, Reject>),
    /// The answer to [`Output::Request`].
    Reply {
        /// The request's id.
        id: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// The hub or the server ends the connection.
    Close(Close, Option<Reject>),
    /// The time of [`ServerConnection::next_timeout`] has come.
    Timer,
}

/// What the driver has to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this encoded frame.
    Send(Vec<u8>),
    /// Write a WebSocket ping.
    Ping,
    /// Ask the hub to let the client in; its signature is valid. Answer with [`Input::Entered`].
    Enter {
        /// What the client said of itself.
        hello: Box<Hello>,
        /// What it wants.
        mode: Mode,
    },
    /// Ask the hub. Answer with [`Input::Reply`], in any order.
    Request {
        /// Goes into the reply.
        id: u64,
        /// Never [`Op::Unknown`].
        op: Op,
    },
    /// The client has received its logs so far.
    Ack(Vec<Cursor>),
    /// Close the socket; the last output. The goodbye frame, if any, went out before.
    Close(Close, Option<Reject>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Handshake,
    Ping,
    Silence,
}

#[derive(Debug)]
enum State {
    ExpectHello,
    ExpectAuth {
        hello: Box<Hello>,
        transcript: Transcript,
    },
    Entering,
    Open,
    Closed,
}

/// Why a connection is ended: the close code and what the goodbye says.
type End = (Close, Reject);

/// The server's half of one socket.
#[derive(Debug)]
pub struct ServerConnection {
    config: ConnectionConfig,
    state: State,
    in_flight: BTreeSet<u64>,
    timers: Timers<Timer>,
    jitter: Jitter,
    outputs: VecDeque<Output>,
}

impl ServerConnection {
    /// Starts a connection whose WebSocket upgrade is done.
    #[must_use]
    pub fn new(config: ConnectionConfig, now: Now) -> Self {
        let mut jitter = Jitter::new(config.seed);
        let mut timers = Timers::default();
        timers.set(Timer::Handshake, now.mono.plus(HANDSHAKE_MS));
        timers.set(Timer::Silence, now.mono.plus(SILENCE_MS));
        timers.set(Timer::Ping, now.mono.plus(jitter.about(HEARTBEAT_MS)));
        Self {
            config,
            state: State::ExpectHello,
            in_flight: BTreeSet::new(),
            timers,
            jitter,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input; drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        if self.is_closed() {
            return;
        }
        let done = match input {
            Input::Frame(bytes) => self.frame(now, &bytes),
            Input::Alive => {
                self.alive(now);
                Ok(())
            }
            Input::Entered(Ok(ready)) => self.entered(ready),
            Input::Entered(Err(reject)) => {
                let close = match reject.code {
                    Code::Draining => Close::Draining,
                    _ => Close::Unauthorized,
                };
                Err((close, reject))
            }
            Input::Reply { id, outcome } => {
                self.reply(id, outcome);
                Ok(())
            }
            Input::Close(close, reject) => {
                self.close(close, reject);
                Ok(())
            }
            Input::Timer => self.timer(now),
        };
        if let Err((close, reject)) = done {
            self.close(close, Some(reject));
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Timer`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        self.timers.next()
    }

    /// Returns whether the driver may read another frame: below the bound of requests in flight.
    #[must_use]
    pub fn can_read(&self) -> bool {
        !self.is_closed() && self.in_flight.len() < REQUESTS_IN_FLIGHT_MAX
    }

    /// Returns whether the session is live.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Returns whether the connection has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Returns the connection's encoding.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.config.encoding
    }

    fn alive(&mut self, now: Now) {
        self.timers.set(Timer::Silence, now.mono.plus(SILENCE_MS));
    }

    fn frame(&mut self, now: Now, bytes: &[u8]) -> Result<(), End> {
        self.alive(now);
        let max = match self.state {
            State::Open => FRAME_BYTES_MAX,
            State::ExpectHello | State::ExpectAuth { .. } | State::Entering | State::Closed => {
                HANDSHAKE_FRAME_BYTES_MAX
            }
        };
        let frame: ClientFrame = self
            .config
            .encoding
            .decode(bytes, max)
            .map_err(|e| undecodable(&e))?;
        if let ClientFrame::Unknown(_) = frame {
            return Ok(());
        }
        // The state is consumed: whoever returns without a new one has closed the connection.
        match (std::mem::replace(&mut self.state, State::Closed), frame) {
            (State::ExpectHello, ClientFrame::Hello(hello)) => self.hello(Box::new(hello)),
            (State::ExpectAuth { hello, transcript }, ClientFrame::Auth(auth)) => {
                self.auth(now, hello, &transcript, &auth)
            }
            (State::Open, ClientFrame::Request(request)) => {
                self.state = State::Open;
                self.request(request)
            }
            (State::Open, ClientFrame::Ack(Ack { cursors })) => {
                self.state = State::Open;
                self.outputs.push_back(Output::Ack(cursors));
                Ok(())
            }
            (_, frame) => Err(malformed(format!("{} came out of order", frame.word()))),
        }
    }

    fn hello(&mut self, hello: Box<Hello>) -> Result<(), End> {
        let binding = self.config.binding.word();
        if hello.versions.len() > OFFERS_MAX
            || hello.bindings.len() > OFFERS_MAX
            || hello.agent.len() > AGENT_BYTES_MAX
        {
            return Err(malformed("the hello offers or says too much"));
        }
        let Some(version) = VERSIONS.into_iter().find(|v| hello.versions.contains(v)) else {
            return Err(refused(
                Code::Version,
                format!("this server speaks versions {VERSIONS:?}"),
            ));
        };
        if !hello.bindings.iter().any(|b| b == binding) {
            return Err(refused(
                Code::Unauthorized,
                format!("this server requires the channel binding {binding}"),
            ));
        }
        if ![CLI_HANDLE, DESK_HANDLE].contains(&hello.handle.as_str())
            && let Err(bad) = Name::claim(hello.handle.as_str())
        {
            return Err(refused(Code::NameInvalid, bad.to_string()));
        }
        let mut challenge = Challenge {
            version,
            key: self.config.secret.server_key(),
            server_id: self.config.server_id,
            rotations: self.config.rotations.clone(),
            origin: self.config.origin.clone(),
            nonce: self.config.nonce,
            binding: binding.to_owned(),
            sig: Signature::new([0; 64]),
        };
        let transcript = Transcript::new(&hello, &challenge, self.config.binding.data());
        challenge.sig = transcript.sign_server(&self.config.secret);
        self.send(&ServerFrame::Challenge(challenge))?;
        self.state = State::ExpectAuth { hello, transcript };
        Ok(())
    }

    fn auth(
        &mut self,
        now: Now,
        hello: Box<Hello>,
        transcript: &Transcript,
        auth: &Auth,
    ) -> Result<(), End> {
        let mode = transcript
            .verify_client(&hello.key, auth)
            .map_err(|bad| refused(Code::Unauthorized, bad.to_string()))?;
        if let Mode::Enrol { .. } = mode {
            self.timers
                .set(Timer::Handshake, now.mono.plus(ENROLMENT_MS));
        }
        self.outputs.push_back(Output::Enter { hello, mode });
        self.state = State::Entering;
        Ok(())
    }

    fn entered(&mut self, ready: Box<Ready>) -> Result<(), End> {
        if let State::Entering = self.state {
            self.timers.stop(Timer::Handshake);
            self.state = State::Open;
            self.send(&ServerFrame::Ready(ready))?;
        }
        Ok(())
    }

    fn request(&mut self, Request { id, op }: Request) -> Result<(), End> {
        if self.in_flight.len() >= REQUESTS_IN_FLIGHT_MAX {
            let reject = Reject::new(Code::RateLimited, "too many requests in flight");
            return self.respond(id, Outcome::Err(reject));
        }
        if let Op::Unknown(word) = op {
            let reject = Reject::new(Code::UnknownOp, format!("unknown operation {word:?}"));
            return self.respond(id, Outcome::Err(reject));
        }
        if !self.in_flight.insert(id) {
            return Err(malformed("a request id is in flight already"));
        }
        self.outputs.push_back(Output::Request { id, op });
        Ok(())
    }

    fn reply(&mut self, id: u64, outcome: Outcome) {
        if self.in_flight.remove(&id) && self.respond(id, outcome).is_err() {
            let reject = Reject::new(Code::TooLarge, "the answer is larger than a frame");
            // A refusal always fits; there is nothing else to tell.
            self.respond(id, Outcome::Err(reject)).ok();
        }
    }

    fn respond(&mut self, id: u64, result: Outcome) -> Result<(), End> {
        self.send(&ServerFrame::Response(Response { id, result }))
    }

    fn timer(&mut self, now: Now) -> Result<(), End> {
        while let Some(timer) = self.timers.take_due(now.mono) {
            match timer {
                Timer::Handshake => {
                    return Err(refused(Code::Timeout, "the handshake took too long"));
                }
                Timer::Ping => {
                    self.outputs.push_back(Output::Ping);
                    let next = self.jitter.about(HEARTBEAT_MS);
                    self.timers.set(Timer::Ping, now.mono.plus(next));
                }
                // While the driver does not read, silence says nothing about the client.
                Timer::Silence if !self.can_read() => self.alive(now),
                Timer::Silence => {
                    let reject = Reject::new(Code::Timeout, "no sign of life for too long");
                    return Err((Close::Silent, reject));
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, frame: &ServerFrame) -> Result<(), End> {
        let bytes = self
            .config
            .encoding
            .encode(frame, FRAME_BYTES_MAX)
            .map_err(|_| {
                let reject = Reject::new(Code::Internal, "a frame does not encode");
                (Close::Other(1011), reject)
            })?;
        self.outputs.push_back(Output::Send(bytes));
        Ok(())
    }

    fn close(&mut self, close: Close, reject: Option<Reject>) {
        if let Some(reason) = reject.clone() {
            // The socket closes either way.
            self.send(&ServerFrame::Goodbye(Goodbye { reason })).ok();
        }
        self.outputs.push_back(Output::Close(close, reject));
        self.state = State::Closed;
        self.in_flight.clear();
        self.timers.clear();
    }
}

fn refused(code: Code, message: impl Into<String>) -> End {
    (Close::Unauthorized, Reject::new(code, message))
}

fn malformed(message: impl Into<String>) -> End {
    (Close::Malformed, Reject::new(Code::Malformed, message))
}

fn undecodable(error: &CodecError) -> End {
    let code = match error {
        CodecError::TooLarge { .. } => Code::TooLarge,
        CodecError::Malformed(_) => Code::Malformed,
    };
    (Close::Malformed, Reject::new(code, error.to_string()))
}
