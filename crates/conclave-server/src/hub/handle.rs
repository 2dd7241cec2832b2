//! How connections reach the hub: a bounded mailbox one way, a bounded outbox each the other way.

use super::{Command, ConnId, Outgoing, Stats};
use conclave_proto::codec::Encoding;
use conclave_proto::limit::REQUESTS_IN_FLIGHT_MAX;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// How many commands wait for the hub; a full mailbox makes connections wait, and so their peers.
pub const MAILBOX: usize = 4_096;
/// How many events may be outstanding at one connection before it counts as slow.
pub const EVENTS_OUTSTANDING_MAX: usize = 64;
/// How many bytes of events may be outstanding at one connection before it counts as slow.
pub const BYTES_OUTSTANDING_MAX: u64 = 1024 * 1024;
/// An outbox never fills up: answers are bounded by the requests in flight, events by the credit, and
/// a few places are for what comes once.
pub const OUTBOX: usize = REQUESTS_IN_FLIGHT_MAX + EVENTS_OUTSTANDING_MAX + 8;

/// The hub's address. Clones are cheap.
#[derive(Clone, Debug)]
pub struct HubHandle {
    mailbox: mpsc::Sender<Input>,
    next: Arc<AtomicU64>,
}

/// The hub has stopped: the server is going down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hub has stopped")]
pub struct HubGone;

/// A connection's end of the wire to the hub.
#[derive(Debug)]
pub struct Attached {
    /// Its name; say [`Command::Disconnected`] at the end.
    pub conn: ConnId,
    /// What to write to the socket. Ends without [`Outgoing::Close`] only if the hub died.
    pub outbox: mpsc::Receiver<Outgoing>,
}

/// What the hub's driver takes from its mailbox.
#[derive(Debug)]
pub(super) enum Input {
    Command(Command),
    Connect(ConnId, Encoding, mpsc::Sender<Outgoing>),
    Stats(oneshot::Sender<Stats>),
    Drain(oneshot::Sender<()>),
}

impl HubHandle {
    pub(super) fn new() -> (Self, mpsc::Receiver<Input>) {
        let (mailbox, inputs) = mpsc::channel(MAILBOX);
        let next = Arc::new(AtomicU64::new(1));
        (Self { mailbox, next }, inputs)
    }

    /// Announces a connection.
    ///
    /// # Errors
    /// [`HubGone`].
    pub async fn connect(&self, encoding: Encoding) -> Result<Attached, HubGone> {
        let conn = ConnId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, outbox) = mpsc::channel(OUTBOX);
        self.put(Input::Connect(conn, encoding, sender)).await?;
        Ok(Attached { conn, outbox })
    }

    /// Tells the hub something; waits while its mailbox is full.
    ///
    /// # Errors
    /// [`HubGone`].
    pub async fn send(&self, command: Command) -> Result<(), HubGone> {
        self.put(Input::Command(command)).await
    }

    /// Returns the hub's numbers; also the proof that it is alive and commits.
    ///
    /// # Errors
    /// [`HubGone`].
    pub async fn stats(&self) -> Result<Stats, HubGone> {
        let (tell, told) = oneshot::channel();
        self.put(Input::Stats(tell)).await?;
        told.await.map_err(|_| HubGone)
    }

    /// Tells everybody to leave and makes durable what waits; returns when that is done. Connections
    /// end as they take [`Outgoing::Close`] from their outboxes; the hub itself stops when every
    /// handle is dropped.
    ///
    /// # Errors
    /// [`HubGone`].
    pub async fn drain(&self) -> Result<(), HubGone> {
        let (tell, told) = oneshot::channel();
        self.put(Input::Drain(tell)).await?;
        told.await.map_err(|_| HubGone)
    }

    /// Returns when the hub has stopped, which while handles exist means that the store failed for
    /// good; the process should end with an error then.
    pub async fn closed(&self) {
        self.mailbox.closed().await;
    }

    async fn put(&self, input: Input) -> Result<(), HubGone> {
        self.mailbox.send(input).await.map_err(|_| HubGone)
    }
}
