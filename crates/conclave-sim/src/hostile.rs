//! A hostile server: a test double that shakes hands honestly and then says whatever a test wants.
//!
//! Real sockets, real frames, several clients at once. Unless it is told to lie it is a fabric that
//! stores and orders; it judges nothing, so that whatever is stopped is stopped by a client. It keeps
//! every byte it was given.

mod answer;
mod person;
mod room;
mod script;

pub use person::{Person, name, whispers};
pub use room::{Room, Settings, nonce};
pub use script::{Asked, Lie, Script};

use conclave_proto::bytes::sha256;
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Entry, EntryBody, Envelope};
use conclave_proto::frame::ServerFrame;
use conclave_proto::frame::event::{Entries, Event};
use conclave_proto::id::{LogId, ServerId, UserId};
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;
use futures_util::{SinkExt as _, StreamExt as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// How long a test waits for what must come.
pub const SOON: Duration = Duration::from_secs(20);
/// How many frames wait for a client that does not read; then it is let go.
const FRAMES: usize = 4_096;

type Order = Box<dyn FnOnce(&mut Script) + Send>;

/// A running hostile server.
#[derive(Debug)]
pub struct Liar {
    /// Where to dial it.
    pub origin: String,
    /// Who it is.
    pub id: ServerId,
    orders: mpsc::Sender<Order>,
    followed: watch::Receiver<u32>,
    heard: watch::Receiver<u64>,
}

impl Liar {
    /// Starts one on a free port of this machine.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port of this machine");
        let port = listener.local_addr().expect("it is bound").port();
        let origin = format!("http://127.0.0.1:{port}");
        let (count, followed) = watch::channel(0);
        let (tick, heard) = watch::channel(0);
        let script = Script::new(origin.clone(), count, tick);
        let id = script.id;
        let (orders, queue) = mpsc::channel(8);
        tokio::spawn(serve(listener, script, queue));
        Self {
            origin,
            id,
            orders,
            followed,
            heard,
        }
    }

    /// Looks at the script, or changes what is said from now on.
    pub async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Script) -> T + Send + 'static,
    ) -> T {
        let (tell, told) = oneshot::channel();
        let order: Order = Box::new(move |script| {
            tell.send(look(script)).ok();
        });
        assert!(self.orders.send(order).await.is_ok(), "the server runs");
        told.await.expect("the server runs")
    }

    /// Changes what is said from now on.
    pub async fn tell(&self, change: impl FnOnce(&mut Script) + Send + 'static) {
        self.ask(change).await;
    }

    /// Waits until something is so, which it looks for after every frame that comes.
    ///
    /// # Panics
    /// If it does not come to pass [`SOON`].
    pub async fn until(
        &mut self,
        what: &str,
        holds: impl Fn(&Script) -> bool + Clone + Send + 'static,
    ) {
        let wait = async {
            loop {
                self.heard.mark_unchanged();
                let look = holds.clone();
                if self.ask(move |script| look(script)).await {
                    return;
                }
                self.heard.changed().await.expect("the server runs");
            }
        };
        let came = tokio::time::timeout(SOON, wait).await.is_ok();
        let asked = self.ask(|script| script.last_asked()).await;
        assert!(came, "{what}; asked: {asked}");
    }

    /// Tells every client entries of a log, kept or not.
    pub async fn push(&self, log: LogId, entries: Vec<Entry>) {
        let gap = None;
        let told = Entries { log, entries, gap };
        self.event(Event::Entries(told)).await;
    }

    /// Tells every client something.
    pub async fn event(&self, event: Event) {
        self.frame(ServerFrame::Event(event)).await;
    }

    /// Sends every client a frame.
    pub async fn frame(&self, frame: ServerFrame) {
        self.tell(move |script| script.say_all(&frame)).await;
    }

    /// Sends the sessions of one user a frame.
    pub async fn frame_to(&self, user: UserId, frame: ServerFrame) {
        self.tell(move |script| script.say_to(&user, &frame)).await;
    }

    /// Waits until a subscription was answered that nobody waited for yet.
    pub async fn followed(&mut self) {
        let changed = tokio::time::timeout(SOON, self.followed.changed()).await;
        changed.expect("it follows").expect("the server runs");
    }

    /// Cuts every connection.
    pub async fn hang_up(&self) {
        self.tell(Script::hang_up).await;
    }

    /// Returns whether any client ever sent these bytes, in any frame.
    pub async fn was_told(&self, canary: &str) -> bool {
        let canary = canary.to_owned();
        self.ask(move |script| script.heard(canary.as_bytes()))
            .await
    }
}

/// Returns 32 bytes that were never returned before; the peers' keys and nonces need no more.
#[must_use]
pub fn draw() -> [u8; 32] {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let n = DRAWN.fetch_add(1, Ordering::Relaxed);
    *sha256(&n.to_be_bytes()).as_bytes()
}

/// Returns the time; a server has a clock.
#[must_use]
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    UnixMs(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Puts an envelope into a place of a log.
#[must_use]
pub fn env(seq: u64, env: Envelope) -> Entry {
    let (at, body) = (now(), EntryBody::Env(env));
    Entry { seq, at, body }
}

/// Puts a control record into a place of a log.
#[must_use]
pub fn ctl(seq: u64, rec: &Record) -> Entry {
    let (at, body) = (now(), EntryBody::Ctl(rec.bytes().clone()));
    Entry { seq, at, body }
}

async fn serve(listener: TcpListener, mut script: Script, mut orders: mpsc::Receiver<Order>) {
    let (tell, mut told) = mpsc::channel(64);
    let mut guests = 0;
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                guests += 1;
                let (say, queue) = mpsc::channel(FRAMES);
                script.enter(guests, say);
                tokio::spawn(attend(stream, guests, tell.clone(), queue));
            }
            order = orders.recv() => match order {
                Some(order) => order(&mut script),
                None => return,
            },
            Some((guest, said)) = told.recv() => script.hear(guest, said),
        }
    }
}

/// Carries frames between one socket and the script until either is gone.
async fn attend(
    stream: TcpStream,
    guest: u64,
    tell: mpsc::Sender<(u64, Option<Vec<u8>>)>,
    mut queue: mpsc::Receiver<ServerFrame>,
) {
    if let Some(mut socket) = upgrade(stream).await {
        loop {
            tokio::select! {
                frame = queue.recv() => {
                    let Some(frame) = frame else { break };
                    let bytes = Encoding::Cbor.encode(&frame, usize::MAX);
                    let bytes = bytes.expect("frames of this crate encode");
                    if socket.send(Message::Binary(bytes.into())).await.is_err() {
                        break;
                    }
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        if tell.send((guest, Some(bytes.to_vec()))).await.is_err() {
                            return;
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                }
            }
        }
    }
    drop(tell.send((guest, None)).await);
}

#[expect(
    clippy::result_large_err,
    reason = "the type of the callback is tungstenite's"
)]
async fn upgrade(stream: TcpStream) -> Option<WebSocketStream<TcpStream>> {
    let choose = |_: &Request, mut response: Response| {
        let headers = response.headers_mut();
        let chosen = Encoding::Cbor.subprotocol().parse();
        headers.insert("sec-websocket-protocol", chosen.expect("a header's value"));
        Ok(response)
    };
    let upgraded = tokio_tungstenite::accept_hdr_async(stream, choose).await;
    upgraded.ok()
}
