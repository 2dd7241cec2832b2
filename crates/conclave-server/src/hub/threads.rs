//! The threads that own the store: one commits, and where the store can, a second one reads.

use super::{Load, Loaded};
use crate::store::{CommitError, Outcome, Read, Snapshot, Store, StoreError, Write};
use conclave_proto::time::UnixMs;
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot};

/// Opens the store; called again when the hub is rebuilt.
pub type OpenStore = Box<dyn FnMut() -> Result<Box<dyn Store>, StoreError> + Send>;

/// How many page loads wait at the reading thread; more wait in the hub.
const LOADS: usize = 64;

/// What a commit left behind: the writes, what came of them, and how many bytes may still be written.
type Committed = (Vec<Write>, Result<Vec<Outcome>, CommitError>, Option<u64>);
type Opened = Result<(Option<Box<dyn Read>>, Snapshot), StoreError>;

enum Job {
    Commit(UnixMs, Vec<Write>, oneshot::Sender<Committed>),
    Load(Load),
    Free(oneshot::Sender<Option<u64>>),
    Stop(oneshot::Sender<OpenStore>),
}

/// The committing thread.
pub(super) struct Writing(mpsc::Sender<Job>);

/// Page loads, wherever they are done.
pub(super) struct Reading {
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<Loaded>,
    waiting: VecDeque<Load>,
    /// Invariant: at most [`LOADS`], so that results always have a place and no thread waits for the
    /// hub.
    under_way: usize,
}

/// Opens the store on a thread of its own and reads what the hub starts from.
pub(super) async fn open(mut open: OpenStore) -> Result<(Writing, Reading, Snapshot), StoreError> {
    let (jobs, inbox) = mpsc::channel(LOADS + 8);
    let (loaded, done) = mpsc::channel(LOADS);
    let (tell, told) = oneshot::channel::<Opened>();
    let results = loaded.clone();
    spawn("store", move || {
        let mut store = match open() {
            Ok(store) => store,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let opened = store
            .reader()
            .and_then(|reader| Ok((reader, store.load()?)));
        let failed = opened.is_err();
        if tell.send(opened).is_err() || failed {
            return;
        }
        write_loop(store, open, inbox, &results);
    })?;
    let (reader, snapshot) = told.await.map_err(|_| StoreError::Gone)??;
    let loads = match reader {
        None => jobs.clone(),
        Some(reader) => {
            let (loads, inbox) = mpsc::channel(LOADS);
            spawn("store-read", move || read_loop(reader, inbox, &loaded))?;
            loads
        }
    };
    let reading = Reading {
        jobs: loads,
        done,
        waiting: VecDeque::new(),
        under_way: 0,
    };
    Ok((Writing(jobs), reading, snapshot))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(body).map(drop).map_err(|_| StoreError::Gone)
}

fn write_loop(
    mut store: Box<dyn Store>,
    open: OpenStore,
    mut inbox: mpsc::Receiver<Job>,
    loaded: &mpsc::Sender<Loaded>,
) {
    while let Some(job) = inbox.blocking_recv() {
        match job {
            Job::Commit(at, writes, tell) => {
                let result = store.commit(at, &writes);
                // The hub is gone if nobody listens.
                tell.send((writes, result, store.free_bytes())).ok();
            }
            Job::Load(load) => {
                let page = store.page(&load.query);
                loaded.blocking_send(Loaded::new(load, page)).ok();
            }
            // The hub is gone if nobody listens.
            Job::Free(tell) => drop(tell.send(store.free_bytes())),
            Job::Stop(tell) => {
                drop(store);
                tell.send(open).ok();
                return;
            }
        }
    }
    // In this order: who waits for `open` to be dropped waits for the store to be closed.
    drop(store);
    drop(open);
}

fn read_loop(
    mut reader: Box<dyn Read>,
    mut inbox: mpsc::Receiver<Job>,
    loaded: &mpsc::Sender<Loaded>,
) {
    while let Some(job) = inbox.blocking_recv() {
        if let Job::Load(load) = job {
            let page = reader.page(&load.query);
            if loaded.blocking_send(Loaded::new(load, page)).is_err() {
                return;
            }
        }
    }
}

impl Writing {
    /// Commits; the writes come back with what came of them.
    pub(super) async fn commit(
        &self,
        at: UnixMs,
        writes: Vec<Write>,
    ) -> Result<Committed, StoreError> {
        let (tell, told) = oneshot::channel();
        let job = Job::Commit(at, writes, tell);
        self.0.send(job).await.map_err(|_| StoreError::Gone)?;
        told.await.map_err(|_| StoreError::Gone)
    }

    /// Asks how much room there is.
    pub(super) async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let (tell, told) = oneshot::channel();
        let job = Job::Free(tell);
        self.0.send(job).await.map_err(|_| StoreError::Gone)?;
        told.await.map_err(|_| StoreError::Gone)
    }

    /// Closes the store and opens it again.
    pub(super) async fn reopen(&self) -> Result<(Self, Reading, Snapshot), StoreError> {
        let (tell, told) = oneshot::channel();
        let stop = Job::Stop(tell);
        self.0.send(stop).await.map_err(|_| StoreError::Gone)?;
        open(told.await.map_err(|_| StoreError::Gone)?).await
    }
}

impl Reading {
    /// Asks for a page; [`Reading::done`] returns it.
    pub(super) fn load(&mut self, load: Load) {
        self.waiting.push_back(load);
        self.feed();
    }

    fn feed(&mut self) {
        while self.under_way < LOADS
            && let Ok(place) = self.jobs.try_reserve()
            && let Some(load) = self.waiting.pop_front()
        {
            self.under_way += 1;
            place.send(Job::Load(load));
        }
    }

    /// Waits for the next page. Cancel-safe.
    pub(super) async fn done(&mut self) -> Option<Loaded> {
        let loaded = self.done.recv().await?;
        self.under_way = self.under_way.saturating_sub(1);
        self.feed();
        Some(loaded)
    }
}
