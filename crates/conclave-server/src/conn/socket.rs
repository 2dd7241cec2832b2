//! The WebSocket under a connection: reads and writes at once, with bounds on both.
//!
//! Frames queue here only while they are being written; the connection takes no more from its outbox
//! until the queue is empty. Everything is kept across cancelled waits.

use crate::hub::command::{REPORT_BYTES, REPORT_FRAMES};
use bytes::Bytes;
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::limit::{FRAME_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};
use conclave_proto::reject::{Code, Reject};
use futures_util::{Sink, SinkExt as _, Stream};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long the other end may take for its part of closing.
const LINGER: Duration = Duration::from_secs(2);
/// How much is read at once; every connection holds a buffer of this size.
const READ_BYTES: usize = 2 * 1024;
/// Small frames are gathered up to this size before they are written.
const GATHER_BYTES: usize = 16 * 1024;

/// What comes of waiting for the socket.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message of the right kind.
    Frame(Vec<u8>),
    /// A ping or pong.
    Alive,
    /// The socket took so many events, with so many bytes.
    Written { frames: u32, bytes: u64 },
    /// The socket took everything.
    Flushed,
    /// The other end broke the rules of WebSockets, or of their size.
    Bad(Reject),
    /// The other end has left; whether it said that it is done for good.
    Closed { done: bool },
}

/// One WebSocket and what is on its way into it.
#[derive(Debug)]
pub(super) struct Socket<S> {
    ws: WebSocketStream<S>,
    encoding: Encoding,
    queue: VecDeque<Item>,
    flushing: bool,
    /// When the socket last took something, or was first asked to.
    moved: Instant,
    frames: u32,
    bytes: u64,
}

#[derive(Debug)]
enum Item {
    Frame(Bytes),
    Event(Bytes),
    Ping,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(super) async fn new(io: S, read: Bytes, encoding: Encoding) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(GATHER_BYTES)
            .max_write_buffer_size(1024 * 1024)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        // Copied and dropped: what hyper read stands in a buffer far larger than it.
        let part = read.to_vec();
        drop(read);
        Self {
            ws: WebSocketStream::from_partially_read(io, part, Role::Server, Some(config)).await,
            encoding,
            queue: VecDeque::new(),
            flushing: false,
            moved: Instant::now(),
            frames: 0,
            bytes: 0,
        }
    }

    /// Queues a frame.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.add(Item::Frame(frame));
    }

    /// Queues an event, whose writing will be reported.
    pub(super) fn push_event(&mut self, frame: Bytes) {
        self.add(Item::Event(frame));
    }

    /// Queues a ping.
    pub(super) fn ping(&mut self) {
        self.add(Item::Ping);
    }

    fn add(&mut self, item: Item) {
        if self.is_idle() {
            self.moved = Instant::now();
        }
        self.queue.push_back(item);
    }

    /// Returns whether everything queued is written.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.flushing
    }

    /// Returns since when the socket has not taken what it should.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        (!self.is_idle()).then_some(self.moved)
    }

    /// Writes what is queued and reads the next message, if it may. Cancel-safe.
    pub(super) async fn next(&mut self, may_read: bool) -> Incoming {
        poll_fn(|cx| {
            if let Poll::Ready(incoming) = self.poll_write(cx) {
                return Poll::Ready(incoming);
            }
            // Answers to a client that does not read them must not pile up.
            if may_read && self.queue.len() < REQUESTS_IN_FLIGHT_MAX {
                return self.poll_read(cx);
            }
            Poll::Pending
        })
        .await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        while !self.queue.is_empty() {
            let mut ws = Pin::new(&mut self.ws);
            match ws.as_mut().poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Incoming::Closed { done: false }),
                Poll::Ready(Ok(())) => {}
            }
            let Some(item) = self.queue.pop_front() else {
                break;
            };
            if let Item::Event(frame) = &item {
                self.frames += 1;
                self.bytes += u64::try_from(frame.len()).unwrap_or(u64::MAX);
            }
            if ws.start_send(item.message(self.encoding)).is_err() {
                return Poll::Ready(Incoming::Closed { done: false });
            }
            self.flushing = true;
            self.moved = Instant::now();
            if self.frames >= REPORT_FRAMES || self.bytes >= REPORT_BYTES {
                return Poll::Ready(self.written());
            }
        }
        if !self.flushing {
            return Poll::Pending;
        }
        match Pin::new(&mut self.ws).poll_flush(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(Incoming::Closed { done: false }),
            Poll::Ready(Ok(())) => {
                self.flushing = false;
                self.queue.shrink_to(4);
                Poll::Ready(if self.frames > 0 {
                    self.written()
                } else {
                    Incoming::Flushed
                })
            }
        }
    }

    fn written(&mut self) -> Incoming {
        Incoming::Written {
            frames: std::mem::take(&mut self.frames),
            bytes: std::mem::take(&mut self.bytes),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        let Poll::Ready(item) = Pin::new(&mut self.ws).poll_next(cx) else {
            return Poll::Pending;
        };
        let bad = |code, text: &str| Incoming::Bad(Reject::new(code, text));
        Poll::Ready(match item {
            None => Incoming::Closed { done: false },
            Some(Ok(message)) => match (message, self.encoding) {
                (Message::Binary(bytes), Encoding::Cbor) => Incoming::Frame(bytes.into()),
                (Message::Text(text), Encoding::Json) => Incoming::Frame(Bytes::from(text).into()),
                (Message::Ping(_) | Message::Pong(_), _) => Incoming::Alive,
                (Message::Close(frame), _) => {
                    let normal = |frame: CloseFrame| u16::from(frame.code) == Close::Normal.code();
                    let done = frame.is_some_and(normal);
                    Incoming::Closed { done }
                }
                (Message::Binary(_) | Message::Text(_) | Message::Frame(_), _) => {
                    bad(Code::Malformed, "the message is not of the agreed kind")
                }
            },
            Some(Err(Error::Capacity(_))) => bad(Code::TooLarge, "the frame is too large"),
            Some(Err(Error::Protocol(_) | Error::Utf8(_))) => {
                bad(Code::Malformed, "the message breaks the WebSocket protocol")
            }
            Some(Err(_)) => Incoming::Closed { done: false },
        })
    }

    /// Says why and closes; waits a moment for the other end, so that it reads the last frames.
    pub(super) async fn close(&mut self, close: Close, reason: &str) {
        let frame = CloseFrame {
            code: close.code().into(),
            reason: reason.into(),
        };
        let said = async {
            // The other end may be gone at any point of this.
            self.ws.send(Message::Close(Some(frame))).await.ok();
            let io = self.ws.get_mut();
            io.shutdown().await.ok();
            // Closing with unread input would reset the connection and lose the goodbye.
            let mut rest = [0; 1024];
            while matches!(io.read(&mut rest).await, Ok(n) if n > 0) {}
        };
        tokio::time::timeout(LINGER, Box::pin(said)).await.ok();
    }

    /// Answers the other end's close.
    pub(super) async fn leave(&mut self) {
        let answered = async {
            self.ws.flush().await.ok();
            self.ws.get_mut().shutdown().await.ok();
        };
        tokio::time::timeout(LINGER, answered).await.ok();
    }
}

impl Item {
    /// Makes the message; the bytes are shared, and JSON of ours is known to be UTF-8.
    fn message(self, encoding: Encoding) -> Message {
        let kind = match encoding {
            Encoding::Cbor => OpCode::Data(Data::Binary),
            Encoding::Json => OpCode::Data(Data::Text),
        };
        match self {
            Self::Frame(bytes) | Self::Event(bytes) => {
                Message::Frame(Frame::message(bytes, kind, true))
            }
            Self::Ping => Message::Ping(Bytes::new()),
        }
    }
}
