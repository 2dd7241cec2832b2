//! The driver of [`proto::link::Link`](conclave_proto::link::Link): sockets, the timer, the clock.
//!
//! Each socket has a task that reads and one that writes, joined by bounded queues, so that
//! [`Driver::next`] can be dropped at any point without losing anything.

use crate::dial::{self, CertTrust, Dialled, Proxies};
use crate::origin::Origin;
use conclave_proto::close::Close;
use conclave_proto::id::HandshakeNonce;
use conclave_proto::link::{Disconnect, Input, Link, LinkConfig, Output, Pin};
use conclave_proto::time::{Mono, Now, UnixMs};
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// How many frames wait between a socket and the link, each way.
const QUEUE: usize = 256;
/// How long one write may take.
const WRITE: Duration = Duration::from_secs(10);

/// What a socket tells.
#[derive(Debug)]
enum Wire {
    Opened(Box<Dialled>),
    Frame(Vec<u8>),
    Alive,
    Ended(Disconnect),
}

/// The present socket's two queues.
#[derive(Debug)]
struct Socket {
    wires: mpsc::Receiver<Wire>,
    frames: Option<mpsc::Sender<Message>>,
}

/// A link and its sockets.
#[derive(Debug)]
pub(crate) struct Driver {
    link: Link,
    origin: Origin,
    proxies: Proxies,
    socket: Option<Socket>,
    clock: Clock,
}

impl Driver {
    /// Starts dialling `origin`.
    pub(crate) fn new(config: LinkConfig, origin: Origin, proxies: Proxies) -> Self {
        let clock = Clock::new();
        let link = Link::new(config, clock.now());
        Self {
            link,
            origin,
            proxies,
            socket: None,
            clock,
        }
    }

    /// Returns the present moment.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Returns the clock, for timers of others.
    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Hands an input to the link; what comes of it comes out of [`Self::next`].
    pub(crate) fn input(&mut self, input: Input) {
        if matches!(input, Input::Stop) {
            self.write(goodbye(Close::Normal.code()));
        }
        self.link.handle(self.clock.now(), input);
    }

    /// Returns whether the session is live.
    pub(crate) const fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Returns whether nothing will happen any more.
    pub(crate) const fn is_ended(&self) -> bool {
        self.link.is_ended()
    }

    /// Waits for the next output that is not a matter of sockets. Safe to drop.
    pub(crate) async fn next(&mut self) -> Output {
        loop {
            while let Some(output) = self.link.poll_output() {
                match output {
                    Output::Dial => self.dial(),
                    Output::Send(bytes) => self.write(Message::Binary(bytes.into())),
                    Output::Ping => self.write(Message::Ping(Vec::new().into())),
                    Output::HangUp => self.socket = None,
                    Output::FirstContact { .. }
                    | Output::Up(_)
                    | Output::Down { .. }
                    | Output::Response { .. }
                    | Output::Entries { .. }
                    | Output::Event(_) => return output,
                }
            }
            let due = self.link.next_timeout();
            let wire = tokio::select! {
                wire = recv(self.socket.as_mut()) => wire,
                () = self.clock.sleep_until(due) => {
                    self.input(Input::Timer);
                    continue;
                }
            };
            self.wire(wire);
        }
    }

    fn wire(&mut self, wire: Wire) {
        match wire {
            Wire::Opened(dialled) => self.opened(*dialled),
            Wire::Frame(bytes) => self.input(Input::Frame(bytes)),
            Wire::Alive => self.input(Input::Alive),
            Wire::Ended(reason) => {
                self.socket = None;
                self.input(Input::Disconnected { reason });
            }
        }
    }

    fn opened(&mut self, dialled: Dialled) {
        let bindings = dialled.bindings();
        let mut nonce = [0; 32];
        if getrandom::fill(&mut nonce).is_err() {
            let reason = Disconnect::Failed("the system has no randomness".into());
            return self.wire(Wire::Ended(reason));
        }
        let (frames, queue) = mpsc::channel(QUEUE);
        let (tell, wires) = mpsc::channel(QUEUE);
        self.socket = Some(Socket {
            wires,
            frames: Some(frames),
        });
        tokio::spawn(pump(dialled.socket, queue, tell));
        self.input(Input::Connected {
            origin: dialled.origin,
            bindings,
            nonce: HandshakeNonce::new(nonce),
        });
    }

    fn dial(&mut self) {
        let (tell, wires) = mpsc::channel(1);
        self.socket = Some(Socket {
            wires,
            frames: None,
        });
        let trust = match self.link.pin() {
            Pin::Known { .. } | Pin::Fingerprint(_) => CertTrust::Pinned,
            Pin::FirstContact => CertTrust::WebPki,
        };
        let (origin, proxies) = (self.origin.clone(), self.proxies.clone());
        tokio::spawn(async move {
            let wire = tokio::select! {
                () = tell.closed() => return,
                dialled = dial::dial(&origin, trust, &proxies) => match dialled {
                    Ok(dialled) => Wire::Opened(Box::new(dialled)),
                    Err(error) => Wire::Ended(Disconnect::Failed(describe(&error))),
                },
            };
            drop(tell.send(wire).await);
        });
    }

    /// Queues a frame. The queue is longer than what may be in flight; when it is full all the same, the
    /// socket does not drain and is given up.
    fn write(&mut self, message: Message) {
        let frames = self
            .socket
            .as_ref()
            .and_then(|socket| socket.frames.as_ref());
        let lost = frames.is_some_and(|frames| frames.try_send(message).is_err());
        if lost {
            self.socket = None;
            let reason = Disconnect::Failed("the connection does not take any more".into());
            self.input(Input::Disconnected { reason });
        }
    }
}

async fn recv(socket: Option<&mut Socket>) -> Wire {
    match socket {
        None => std::future::pending().await,
        Some(socket) => socket
            .wires
            .recv()
            .await
            .unwrap_or_else(|| Wire::Ended(Disconnect::Failed("the connection ended".into()))),
    }
}

/// Moves frames between one socket and its queues until either ends.
async fn pump(
    socket: tokio_tungstenite::WebSocketStream<dial::Stream>,
    mut queue: mpsc::Receiver<Message>,
    tell: mpsc::Sender<Wire>,
) {
    let (mut sink, mut stream) = socket.split();
    let write = async {
        while let Some(message) = queue.recv().await {
            let mut written = sink.feed(message).await;
            while let (Ok(()), Ok(message)) = (&written, queue.try_recv()) {
                written = sink.feed(message).await;
            }
            match tokio::time::timeout(WRITE, sink.flush()).await {
                Ok(Ok(())) if written.is_ok() => {}
                _ => return "a write failed or took too long".to_owned(),
            }
        }
        // The link hung up and may come back: say so, and do not wait for an answer. After the word that
        // the session is done, this fails.
        let away = goodbye(AWAY);
        drop(tokio::time::timeout(WRITE, sink.send(away)).await);
        String::new()
    };
    let read = async {
        loop {
            let wire = match stream.next().await {
                Some(Ok(Message::Binary(bytes))) => Wire::Frame(bytes.into()),
                Some(Ok(Message::Text(text))) => Wire::Frame(text.as_bytes().to_vec()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Wire::Alive,
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(Close::Other(1005), |f| Close::from(u16::from(f.code)));
                    return Disconnect::Closed(code);
                }
                Some(Err(error)) => return Disconnect::Failed(error.to_string()),
                None => return Disconnect::Failed("the server closed the connection".into()),
            };
            if tell.send(wire).await.is_err() {
                return Disconnect::Failed("nobody listens".into());
            }
        }
    };
    let reason = tokio::select! {
        text = write => Disconnect::Failed(text),
        reason = read => reason,
    };
    drop(tell.send(Wire::Ended(reason)).await);
}

/// RFC 6455, 7.4.1: going away.
const AWAY: u16 = 1001;

fn goodbye(code: u16) -> Message {
    Message::Close(Some(CloseFrame {
        code: code.into(),
        reason: "".into(),
    }))
}

/// An error with its causes, for people.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Both clocks, read in one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now {
            mono: Mono(mono),
            wall: wall(),
        }
    }

    /// Sleeps until `due`, for ever without one.
    pub(crate) async fn sleep_until(&self, due: Option<Mono>) {
        match due {
            None => std::future::pending().await,
            Some(due) => {
                let at = self.start + Duration::from_millis(due.0);
                tokio::time::sleep_until(at.into()).await;
            }
        }
    }
}

/// Returns the wall clock.
pub(crate) fn wall() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
