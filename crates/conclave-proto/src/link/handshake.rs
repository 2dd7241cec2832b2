//! The handshake of a link: what it says, what it checks, and what a server's last words mean.

use super::{Disconnect, DownReason, Failure, Link, OneTime, Output, Retry, State, Timer, pin};
use crate::close::Close;
use crate::frame::VERSIONS;
use crate::frame::client::{ClientFrame, Hello};
use crate::frame::server::{Challenge, Ready};
use crate::handshake::{Binding, Mode};
use crate::id::HandshakeNonce;
use crate::limit::{
    BACKOFF_RESET_MS, ENROLMENT_MS, FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX, HANDSHAKE_MS,
    HEARTBEAT_MS,
};
use crate::reject::{Code, Reject};
use crate::time::Now;

/// How many times in a row a young session may be superseded before another process must be to blame.
const GHOSTS_MAX: u8 = 3;

impl Link {
    pub(super) fn connected(
        &mut self,
        now: Now,
        origin: String,
        bindings: Vec<Binding>,
        nonce: HandshakeNonce,
    ) -> Result<(), Failure> {
        let State::Dialling = self.state else {
            return Ok(());
        };
        let hello = Hello {
            versions: VERSIONS.to_vec(),
            nonce,
            key: self.config.secret.machine_key(),
            handle: self.config.handle.clone(),
            pinned: self.config.pinned,
            instance: self.config.instance,
            bindings: bindings.iter().map(|b| b.word().to_owned()).collect(),
            agent: self.config.agent.clone(),
        };
        self.goodbye = None;
        self.timers
            .set(Timer::Handshake, now.mono.plus(HANDSHAKE_MS));
        self.set_ping(now);
        self.send_handshake(&ClientFrame::Hello(hello.clone()))?;
        self.state = State::ExpectChallenge {
            hello: Box::new(hello),
            origin,
            bindings,
        };
        self.alive(now);
        Ok(())
    }

    pub(super) fn challenged(&mut self, now: Now, challenge: &Challenge) -> Result<(), Failure> {
        // The state is consumed; a failure below replaces it in any case.
        let State::ExpectChallenge {
            hello,
            origin,
            bindings,
        } = std::mem::replace(&mut self.state, State::ExpectReady)
        else {
            return Ok(());
        };
        let transcript = pin::check(challenge, &hello, &self.config.pin, &origin, &bindings)
            .map_err(|reason| (reason, Retry::Never))?;
        let (server_id, key) = (challenge.server_id, challenge.key);
        if let Some(pin) = self.config.pin.learned(server_id, key) {
            self.config.pin = pin;
            self.outputs
                .push_back(Output::FirstContact { server_id, key });
        }
        let (mode, one_time) = match self.one_time {
            OneTime::Unsent => (&self.config.mode, OneTime::Sent),
            OneTime::Sent | OneTime::Checking => (&Mode::Auth, OneTime::Checking),
        };
        if let Mode::Enrol { .. } = mode {
            self.timers
                .set(Timer::Handshake, now.mono.plus(ENROLMENT_MS));
        }
        let auth = transcript.sign_client(mode, &self.config.secret);
        self.one_time = one_time;
        self.send_handshake(&ClientFrame::Auth(auth))
    }

    pub(super) fn ready(&mut self, now: Now, ready: Box<Ready>) {
        self.config.mode = Mode::Auth;
        self.one_time = OneTime::Unsent;
        self.timers.stop(Timer::Handshake);
        self.heartbeat_ms = ready.limits.heartbeat_ms.clamp(1_000, HEARTBEAT_MS);
        self.set_ping(now);
        self.requests.up(ready.limits.requests_in_flight);
        self.state = State::Open {
            since: now.mono,
            frame_bytes_max: usize::try_from(ready.limits.frame_bytes)
                .unwrap_or(FRAME_BYTES_MAX)
                .min(FRAME_BYTES_MAX),
        };
        self.outputs.push_back(Output::Up(ready));
    }

    /// Decides what the end of a socket means.
    pub(super) fn judge(&mut self, now: Now, reason: &Disconnect) -> Failure {
        match reason {
            Disconnect::Closed(Close::Superseded) => (DownReason::Superseded, self.superseded(now)),
            Disconnect::Closed(Close::Revoked) => (DownReason::Revoked, Retry::Never),
            // Why a handshake failed stands in the goodbye; without one, trying again is all there is.
            Disconnect::Closed(_) | Disconnect::Failed(_) => match self.goodbye.take() {
                Some(reject) => self.judge_goodbye(reject),
                None => {
                    let text = match reason {
                        Disconnect::Closed(close) => format!("closed with {}", close.code()),
                        Disconnect::Failed(text) => text.clone(),
                    };
                    (DownReason::Lost(text), Retry::Later)
                }
            },
        }
    }

    /// A socket of our own that was lost before may have come in late, after this one; another
    /// process with our instance would come again and again.
    fn superseded(&mut self, now: Now) -> Retry {
        self.superseded = match self.state {
            State::Open { since, .. } if now.mono.since(since) >= BACKOFF_RESET_MS => {
                GHOSTS_MAX + 1
            }
            _ => self.superseded.saturating_add(1),
        };
        if self.superseded > GHOSTS_MAX {
            Retry::Never
        } else {
            Retry::Later
        }
    }

    fn judge_goodbye(&mut self, reject: Reject) -> Failure {
        let undone = self.config.mode != Mode::Auth
            && self.one_time == OneTime::Checking
            && reject.code == Code::UnknownKey;
        if undone {
            self.one_time = OneTime::Unsent;
        }
        let retry = match reject.retry_after_ms {
            Some(ms) => Retry::NotBefore(ms),
            None if !undone && is_final(&reject.code) => Retry::Never,
            None => Retry::Later,
        };
        (DownReason::Refused(reject), retry)
    }

    fn send_handshake(&mut self, frame: &ClientFrame) -> Result<(), Failure> {
        let encoded = self
            .config
            .encoding
            .encode(frame, HANDSHAKE_FRAME_BYTES_MAX);
        let bytes = encoded.map_err(|e| {
            let reject = Reject::new(Code::TooLarge, e.to_string());
            (DownReason::Refused(reject), Retry::Never)
        })?;
        self.outputs.push_back(Output::Send(bytes));
        Ok(())
    }
}

/// Whether a goodbye with this code means that trying again is of no use.
const fn is_final(code: &Code) -> bool {
    matches!(
        code,
        Code::Version
            | Code::Origin
            | Code::Unauthorized
            | Code::UnknownKey
            | Code::Forbidden
            | Code::NameTaken
            | Code::NameInvalid
            | Code::HandleTaken
            | Code::InviteInvalid
            | Code::RegistrationClosed
    )
}
