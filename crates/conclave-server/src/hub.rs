//! The hub: one task that owns everything that changes, and puts each batch into one commit.
//!
//! [`HubState`] decides and never waits; the driver here waits for the mailbox, the store and the
//! clock. Waits point one way: connection, hub, store. The hub never waits for a connection.

pub mod access;
mod account;
mod admin;
mod append;
mod batch;
pub mod command;
mod cursor;
mod directory;
pub mod effect;
mod enter;
pub mod handle;
mod keys;
mod presence;
mod profile;
mod quota;
mod recover;
mod request;
mod ring;
mod room;
pub mod settings;
pub mod state;
pub mod stats;
pub mod subscription;
mod threads;

pub use command::{Beside, Checked, Command, ConnId, Enter};
pub use effect::{Effect, Load, Loaded, Outgoing, Purpose};
pub use handle::{Attached, HubGone, HubHandle};
pub use settings::{Bootstrap, Registration, Settings, Who};
pub use state::{HubState, Recovery};
pub use stats::Stats;
pub use threads::OpenStore;

use crate::clock::Clock;
use crate::store::{CommitError, StoreError};
use conclave_proto::close::Close;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Now, UnixMs};
use handle::Input;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use threads::{Reading, Writing};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// The most commands in one batch.
const BATCH: usize = 256;
const TICK: Duration = Duration::from_secs(1);

/// Opens the store, rebuilds the hub from it and starts its task. The hub runs until every handle is
/// dropped; the task ends early only if the store fails for good ([`HubHandle::closed`]).
///
/// # Errors
/// [`StoreError`] if the store cannot be opened or read.
pub async fn start(
    settings: Settings,
    open: OpenStore,
    clock: Clock,
    tasks: &TaskTracker,
) -> Result<HubHandle, StoreError> {
    let (handle, inputs) = HubHandle::new();
    let mut driver = Driver::open(settings, open, clock).await?;
    driver.look_at_disk().await?;
    tasks.spawn(driver.run(inputs));
    Ok(handle)
}

struct Driver {
    settings: Settings,
    state: HubState,
    writing: Writing,
    reading: Reading,
    clock: Clock,
    /// Stamps never go back, whatever the wall clock does.
    last: UnixMs,
    outboxes: HashMap<ConnId, mpsc::Sender<Outgoing>>,
    asked: VecDeque<oneshot::Sender<Stats>>,
    drained: VecDeque<oneshot::Sender<()>>,
}

impl Driver {
    async fn open(settings: Settings, open: OpenStore, clock: Clock) -> Result<Self, StoreError> {
        let (writing, reading, snapshot) = threads::open(open).await?;
        let last = snapshot.at;
        Ok(Self {
            state: HubState::new(settings.clone(), snapshot)?,
            settings,
            writing,
            reading,
            clock,
            last,
            outboxes: HashMap::new(),
            asked: VecDeque::new(),
            drained: VecDeque::new(),
        })
    }

    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                // Pages first: they are bounded, and somebody has waited for them.
                biased;
                Some(loaded) = self.reading.done() => {
                    batch.push(Input::Command(Command::Loaded(Box::new(loaded))));
                }
                _ = tick.tick() => batch.push(Input::Command(Command::Tick)),
                n = inputs.recv_many(&mut batch, BATCH) => if n == 0 {
                    break;
                },
            }
            if let Err(error) = self.step(&mut batch).await {
                tracing::error!(%error, source = ?std::error::Error::source(&error), "the store failed for good");
                break;
            }
        }
    }

    /// Handles a batch, commits it, and carries out what follows from it.
    async fn step(&mut self, batch: &mut Vec<Input>) -> Result<(), StoreError> {
        for input in batch.drain(..) {
            let command = match input {
                Input::Command(command) => command,
                Input::Connect(conn, encoding, outbox) => {
                    self.outboxes.insert(conn, outbox);
                    Command::Connect { conn, encoding }
                }
                Input::Stats(tell) => {
                    self.asked.push_back(tell);
                    continue;
                }
                Input::Drain(tell) => {
                    self.drained.push_back(tell);
                    Command::Drain
                }
            };
            if self.state.must_commit_before(&command) {
                self.commit().await?;
            }
            if let Command::Disconnected { conn } = &command {
                self.outboxes.remove(conn);
            }
            if matches!(command, Command::Tick) {
                self.sweep();
                self.look_at_disk().await?;
            }
            let now = self.now();
            self.state.handle(now, command);
        }
        self.commit().await?;
        for tell in self.asked.drain(..) {
            // Who asked may have stopped waiting.
            tell.send(self.state.stats()).ok();
        }
        for tell in self.drained.drain(..) {
            tell.send(()).ok();
        }
        Ok(())
    }

    /// Forgets connections whose task ended without a word.
    fn sweep(&mut self) {
        let now = self.now();
        let state = &mut self.state;
        self.outboxes.retain(|conn, outbox| {
            let lives = !outbox.is_closed();
            if !lives {
                state.handle(now, Command::Disconnected { conn: *conn });
            }
            lives
        });
    }

    async fn look_at_disk(&mut self) -> Result<(), StoreError> {
        let free = self.writing.free_bytes().await?;
        self.state.has_free(free);
        Ok(())
    }

    fn now(&mut self) -> Now {
        let now = self.clock.now();
        self.last = self.last.max(now.wall);
        Now {
            wall: self.last,
            ..now
        }
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        loop {
            let writes = self.state.take_writes();
            if writes.is_empty() {
                break;
            }
            let now = self.now();
            let (writes, result, free) = self.writing.commit(now.wall, writes).await?;
            self.state.has_free(free);
            match result {
                Ok(outcomes) => self.state.applied(now, writes, &outcomes),
                Err(CommitError::Unknown(error)) => {
                    tracing::error!(%error, "the outcome of a commit is unknown");
                    return self.restart().await;
                }
                Err(error) => {
                    tracing::error!(%error, "a commit failed");
                    if self.state.refused(&writes, &error) == Recovery::Restart {
                        return self.restart().await;
                    }
                    break;
                }
            }
        }
        self.carry_out();
        Ok(())
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.state.poll_effect() {
            match effect {
                Effect::Load(load) => self.reading.load(load),
                Effect::Send(conn, outgoing) => self.send(conn, outgoing),
            }
        }
    }

    fn send(&mut self, conn: ConnId, outgoing: Outgoing) {
        let Some(outbox) = self.outboxes.get(&conn) else {
            return;
        };
        let last = matches!(outgoing, Outgoing::Close(..));
        let full = outbox.try_send(outgoing).is_err();
        if full && !outbox.is_closed() {
            tracing::error!(
                conn = conn.0,
                "an outbox is full; the connection is given up"
            );
        }
        if full || last {
            self.outboxes.remove(&conn);
        }
        if full && !last {
            let now = self.now();
            self.state.handle(now, Command::Disconnected { conn });
        }
    }

    /// Builds everything again from what is durable. Clients come back and go on from their cursors.
    async fn restart(&mut self) -> Result<(), StoreError> {
        let (writing, reading, snapshot) = self.writing.reopen().await?;
        let before = self.state.kept();
        // Answers to what is known to have failed still go out.
        while let Some(effect) = self.state.poll_effect() {
            if let Effect::Send(conn, Outgoing::Response(response)) = effect
                && matches!(response.result, conclave_proto::frame::Outcome::Err(_))
                && let Some(outbox) = self.outboxes.get(&conn)
            {
                outbox.try_send(Outgoing::Response(response)).ok();
            }
        }
        for (_, outbox) in self.outboxes.drain() {
            let reason = Reject::new(Code::Internal, "the server starts again from its log");
            let close = Outgoing::Close(Close::Restarted, Box::new(reason));
            outbox.try_send(close).ok();
        }
        self.last = self.last.max(snapshot.at);
        self.state = HubState::new(self.settings.clone(), snapshot)?;
        self.state.restarted(before);
        (self.writing, self.reading) = (writing, reading);
        Ok(())
    }
}
