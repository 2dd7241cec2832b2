//! One task per WebSocket: it owns the socket and drives one [`ServerConnection`].
//!
//! The task waits for {socket, outbox, timer, abort} and for nothing else but the hub's mailbox. It
//! keeps reading while it writes, so that two ends that both write never wait for each other; it
//! stops reading when the client has as many requests in flight as it may. Stateless checks of
//! operations are made here, so that the hub only decides.

mod socket;

use crate::edge::Shared;
use crate::edge::gate::{Pass, Refusal};
use crate::http::Upgraded;
use crate::http::metrics::Counters;
use crate::hub::{Attached, Checked, Command, ConnId, Enter, HubGone, Outgoing};
use conclave_proto::close::Close;
use conclave_proto::frame::{Hello, Op, Outcome};
use conclave_proto::handshake::{Binding, Mode};
use conclave_proto::id::{HandshakeNonce, SessionId};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::server_connection::{ConnectionConfig, Input, Output, ServerConnection};
use conclave_proto::time::Mono;
use socket::{Incoming, Socket};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// How many items are taken from the outbox at once.
const OUTBOX_BATCH: usize = 64;

/// Drives one connection from the upgrade to the end of the socket.
pub(crate) async fn run<S>(upgraded: Upgraded<S>, binding: Binding, pass: Pass, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let offer = upgraded.offer;
    let mut random = [0; 56];
    let (Ok(()), Ok(Attached { conn, outbox })) = (
        getrandom::fill(&mut random),
        shared.hub.connect(offer.encoding).await,
    ) else {
        return;
    };
    let (nonce, rest) = random.split_first_chunk().unwrap_or((&[0; 32], &[]));
    let (session, seed) = rest.split_first_chunk().unwrap_or((&[0; 16], &[]));
    let config = ConnectionConfig {
        secret: Arc::clone(&shared.secret),
        server_id: shared.identity.server_id,
        rotations: Vec::new(),
        origin: offer.origin.to_string(),
        binding,
        encoding: offer.encoding,
        nonce: HandshakeNonce::new(*nonce),
        seed: seed.try_into().map_or(0, u64::from_be_bytes),
    };
    // Boxed: a task keeps room for every copy a future makes of what moves through it.
    let mut connection = Box::new(Connection {
        socket: Socket::new(upgraded.io, upgraded.read, offer.encoding).await,
        machine: ServerConnection::new(config, shared.clock.now()),
        conn,
        session: SessionId::new(*session),
        client_ip: offer.client_ip,
        registers: false,
        ending: None,
        pass,
        shared,
    });
    connection.live(outbox).await;
}

struct Connection<S> {
    socket: Socket<S>,
    machine: ServerConnection,
    conn: ConnId,
    session: SessionId,
    client_ip: IpAddr,
    /// Whether the client makes an account by open registration.
    registers: bool,
    /// How the connection ends, once everything before is written.
    ending: Option<(Close, Code)>,
    pass: Pass,
    shared: Arc<Shared>,
}

/// Why the loop ends.
enum Over {
    /// The peer is gone, or must go without a word.
    Gone,
    /// The peer said that it is done for good.
    Left,
    /// Everything is said; close with this.
    Said(Close, Code),
}

impl From<HubGone> for Over {
    fn from(_: HubGone) -> Self {
        Self::Gone
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    async fn live(&mut self, mut outbox: mpsc::Receiver<Outgoing>) {
        let abort = self.shared.abort.clone();
        let over = loop {
            if let Some((close, code)) = self.ending.take_if(|_| self.socket.is_idle()) {
                break Over::Said(close, code);
            }
            let due = self.deadline();
            let step = tokio::select! {
                () = abort.cancelled() => Err(Over::Gone),
                () = sleep_until(due) => self.timer().await,
                incoming = self.socket.next(self.machine.can_read()) => {
                    self.incoming(incoming).await
                }
                first = outbox.recv(), if self.socket.is_idle() && self.ending.is_none() => {
                    self.outgoing(first, &mut outbox).await
                }
            };
            if let Err(over) = step {
                break over;
            }
        };
        let conn = self.conn;
        drop(outbox);
        // A hub that is gone has forgotten the connection already.
        if matches!(over, Over::Left) {
            self.shared.hub.send(Command::Left { conn }).await.ok();
        }
        self.shared
            .hub
            .send(Command::Disconnected { conn })
            .await
            .ok();
        match over {
            Over::Gone | Over::Left => tracing::debug!(conn = conn.0, "connection gone"),
            Over::Said(close, code) => {
                tracing::debug!(conn = conn.0, code = close.code(), %code, "connection closed");
                self.socket.close(close, code.as_str()).await;
            }
        }
    }

    /// Returns when the next timer is due: the machine's, or the bound on a blocked write.
    fn deadline(&self) -> Option<tokio::time::Instant> {
        let clock = self.shared.clock;
        let machine = self.machine.next_timeout().map(|at| clock.instant(at));
        let write = self.write_due().map(|at| clock.instant(at));
        machine.into_iter().chain(write).min().map(Into::into)
    }

    fn write_due(&self) -> Option<Mono> {
        let timeout = self.shared.config.limits.write_timeout_ms;
        let since = self.socket.blocked_since()?;
        (timeout > 0).then(|| self.shared.clock.mono_of(since).plus(timeout))
    }

    async fn timer(&mut self) -> Result<(), Over> {
        let now = self.shared.clock.now();
        if self.write_due().is_some_and(|due| due <= now.mono) {
            Counters::add(&self.shared.counters.slow, 1);
            tracing::debug!(conn = self.conn.0, "a client does not read");
            return Err(Over::Gone);
        }
        self.handle(Input::Timer).await
    }

    async fn incoming(&mut self, incoming: Incoming) -> Result<(), Over> {
        match incoming {
            Incoming::Frame(bytes) => {
                Counters::add(&self.shared.counters.frames_in, 1);
                self.handle(Input::Frame(bytes)).await
            }
            Incoming::Alive => self.handle(Input::Alive).await,
            Incoming::Written { frames, bytes } => {
                let conn = self.conn;
                let wrote = Command::Wrote {
                    conn,
                    frames,
                    bytes,
                };
                Ok(self.shared.hub.send(wrote).await?)
            }
            Incoming::Flushed => Ok(()),
            Incoming::Bad(reject) => {
                self.handle(Input::Close(Close::Malformed, Some(reject)))
                    .await
            }
            Incoming::Closed { done } => {
                self.socket.leave().await;
                Err(if done { Over::Left } else { Over::Gone })
            }
        }
    }

    /// Takes what waits in the outbox, in order, up to a bound.
    async fn outgoing(
        &mut self,
        first: Option<Outgoing>,
        outbox: &mut mpsc::Receiver<Outgoing>,
    ) -> Result<(), Over> {
        let Some(first) = first else {
            let reject = Reject::new(Code::Internal, "the server had to start again");
            return self
                .handle(Input::Close(Close::Restarted, Some(reject)))
                .await;
        };
        let mut next = Some(first);
        for _ in 0..OUTBOX_BATCH {
            match next {
                Some(item) => self.put(item).await?,
                None => break,
            }
            next = outbox.try_recv().ok();
        }
        match next {
            Some(item) => self.put(item).await,
            None => Ok(()),
        }
    }

    async fn put(&mut self, item: Outgoing) -> Result<(), Over> {
        match item {
            Outgoing::Event(frame) => {
                self.sent(frame.len());
                self.socket.push_event(frame);
                Ok(())
            }
            Outgoing::Response(response) => {
                let (id, outcome) = (response.id, response.result);
                self.handle(Input::Reply { id, outcome }).await
            }
            Outgoing::Entered(Ok(ready)) => {
                self.pass.authenticated();
                if std::mem::take(&mut self.registers) {
                    self.shared.gate.registered(self.client_ip).await;
                }
                self.handle(Input::Entered(Ok(ready))).await
            }
            Outgoing::Entered(Err(reject)) => self.handle(Input::Entered(Err(*reject))).await,
            Outgoing::Close(close, reject) => self.handle(Input::Close(close, Some(*reject))).await,
        }
    }

    /// Hands one input to the machine and does what it says.
    async fn handle(&mut self, input: Input) -> Result<(), Over> {
        self.machine.handle(self.shared.clock.now(), input);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(frame) => {
                    self.sent(frame.len());
                    self.socket.push(frame.into());
                }
                Output::Ping => self.socket.ping(),
                Output::Enter { hello, mode } => self.enter(hello, mode).await?,
                Output::Request { id, op } => self.request(id, op).await?,
                Output::Ack(cursors) => {
                    let conn = self.conn;
                    self.shared.hub.send(Command::Ack { conn, cursors }).await?;
                }
                Output::Close(close, reject) => {
                    let code = reject.map_or(Code::Draining, |reject| reject.code);
                    self.closing(close, code).await;
                }
            }
        }
        Ok(())
    }

    async fn enter(&mut self, hello: Box<Hello>, mode: Mode) -> Result<(), Over> {
        let gate = &self.shared.gate;
        let allowed = match mode {
            Mode::Register { .. } => gate.may_register(self.client_ip).await,
            Mode::Redeem { .. } => gate.join(self.client_ip).await,
            Mode::Auth | Mode::Enrol { .. } | Mode::Recover { .. } => Ok(()),
        };
        if let Err(refusal) = allowed {
            let reject = refused(refusal);
            self.machine
                .handle(self.shared.clock.now(), Input::Entered(Err(reject)));
            return Ok(());
        }
        self.registers = matches!(mode, Mode::Register { .. });
        let entry = Box::new(Enter {
            hello: *hello,
            mode,
            session: self.session,
        });
        let conn = self.conn;
        Ok(self.shared.hub.send(Command::Enter { conn, entry }).await?)
    }

    async fn request(&mut self, id: u64, op: Op) -> Result<(), Over> {
        match Checked::new(op) {
            Ok(op) => {
                let conn = self.conn;
                Ok(self
                    .shared
                    .hub
                    .send(Command::Request { conn, id, op })
                    .await?)
            }
            Err(reject) => {
                let outcome = Outcome::Err(reject);
                self.machine
                    .handle(self.shared.clock.now(), Input::Reply { id, outcome });
                Ok(())
            }
        }
    }

    async fn closing(&mut self, close: Close, code: Code) {
        self.ending = Some((close, code.clone()));
        let guess = matches!(
            code,
            Code::Unauthorized | Code::UnknownKey | Code::InviteInvalid
        );
        if close == Close::Unauthorized && guess {
            Counters::add(&self.shared.counters.auth_failed, 1);
            self.shared.gate.failed(self.client_ip).await;
        }
    }

    fn sent(&self, bytes: usize) {
        let counters = &self.shared.counters;
        Counters::add(&counters.frames_out, 1);
        Counters::add(
            &counters.bytes_out,
            u64::try_from(bytes).unwrap_or(u64::MAX),
        );
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn refused(refusal: Refusal) -> Reject {
    match refusal {
        Refusal::TooMany => Reject::new(
            Code::LimitReached,
            "too many connections of this address have not authenticated",
        ),
        Refusal::Failures(ms) => Reject::new(
            Code::RateLimited,
            "too many authentications from this address failed",
        )
        .retry_after(ms),
        Refusal::Registrations(ms) => Reject::new(
            Code::RateLimited,
            "this address has made as many accounts as it may for now",
        )
        .retry_after(ms),
        Refusal::Joins(ms) => Reject::new(
            Code::RateLimited,
            "too many attempts to join from this address",
        )
        .retry_after(ms),
    }
}
