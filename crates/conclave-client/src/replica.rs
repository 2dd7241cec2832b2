//! This machine's copy of what it may read from one server: SQLite, on a thread of its own.
//!
//! Several sessions of the machine share the file; everything is insert-or-ignore. Nothing in here
//! is unverified. Bodies are in the clear: the file is 0600 in a 0700 directory.

pub mod chain;
pub mod delivery;
mod desk;
mod evidence;
pub mod feed;
pub mod history;
pub mod items;
pub mod keys;
pub mod peek;
pub mod pin;
pub mod receipt;
pub mod search;
mod step;
pub mod unreadable;

use conclave_proto::id::{Blob, UserId};
use conclave_proto::name::Name;
use rusqlite::{Connection, params};
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the replica's thread. Clones share it; it ends with the last one.
#[derive(Clone, Debug)]
pub struct Replica {
    jobs: mpsc::Sender<Job>,
}

/// The replica cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// SQLite says no: the disk is full, or the file is damaged.
    #[error("the local replica failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The file cannot be made.
    #[error("the local replica cannot be opened")]
    Io(#[from] std::io::Error),
    /// The thread is gone.
    #[error("the local replica has stopped")]
    Gone,
}

/// A job that was handed over.
#[derive(Debug)]
pub struct Begun<R>(oneshot::Receiver<Result<R, rusqlite::Error>>);

impl<R> Begun<R> {
    /// Waits for its end.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn end(self) -> Result<R, ReplicaError> {
        Ok(self.0.await.map_err(|_| ReplicaError::Gone)??)
    }
}

impl Replica {
    /// Opens or makes the replica at `path`; the file gets mode 0600.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn open(path: &Path) -> Result<Self, ReplicaError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let (tell, told) = oneshot::channel();
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("replica".into())
            .spawn(move || {
                let mut db = match connect(&path) {
                    Ok(db) => db,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                drop(tell.send(Ok(())));
                while let Some(job) = queue.blocking_recv() {
                    job(&mut db);
                }
            })?;
        told.await.map_err(|_| ReplicaError::Gone)??;
        Ok(Self { jobs })
    }

    /// Runs `job` on the replica's thread.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<R, rusqlite::Error> + Send + 'static,
    ) -> Result<R, ReplicaError> {
        self.begin(job).await?.end().await
    }

    /// Hands `job` to the replica's thread; it runs while the caller does something else.
    ///
    /// # Errors
    /// [`ReplicaError::Gone`].
    pub async fn begin<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<R, rusqlite::Error> + Send + 'static,
    ) -> Result<Begun<R>, ReplicaError> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |db| drop(tell.send(job(db))));
        self.jobs.send(job).await.map_err(|_| ReplicaError::Gone)?;
        Ok(Begun(told))
    }

    /// Returns every identity record, by user and number.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn idents(&self) -> Result<Vec<(UserId, Blob)>, ReplicaError> {
        self.call(|db| {
            let mut query = db.prepare_cached("SELECT user, rec FROM ident ORDER BY user, n")?;
            let rows = query.query_map([], |r| Ok((user(r.get(0)?), blob(r.get(1)?))))?;
            rows.collect()
        })
        .await
    }

    /// Forgets identity records from number `from` on: they do not verify.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn drop_idents(&self, user: UserId, from: u64) -> Result<(), ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("DELETE FROM ident WHERE user = ?1 AND n >= ?2")?
                .execute(params![user.as_bytes(), int(from)])
                .map(drop)
        })
        .await
    }

    /// Keeps identity records from number `from` on.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn keep_idents(
        &self,
        user: UserId,
        from: u64,
        records: Vec<Blob>,
    ) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            for (n, rec) in (int(from)..).zip(&records) {
                tx.prepare_cached("INSERT OR IGNORE INTO ident VALUES (?1, ?2, ?3)")?
                    .execute(params![user.as_bytes(), n, rec.as_slice()])?;
            }
            tx.commit()
        })
        .await
    }

    /// Returns the names seen so far: id, verified by a human, seen with another id.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn names(&self) -> Result<Vec<(Name, UserId, bool, bool)>, ReplicaError> {
        self.call(|db| {
            let mut query = db.prepare_cached("SELECT name, user, verified, changed FROM name")?;
            let mut rows = query.query([])?;
            let mut names = Vec::new();
            while let Some(r) = rows.next()? {
                if let Ok(name) = Name::new(r.get_ref(0)?.as_str()?) {
                    names.push((name, user(r.get(1)?), r.get(2)?, r.get(3)?));
                }
            }
            Ok(names)
        })
        .await
    }

    /// Pins a name at first sight; returns the id that is pinned, which may be another one.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn pin_name(&self, name: Name, id: UserId) -> Result<UserId, ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("INSERT OR IGNORE INTO name (name, user) VALUES (?1, ?2)")?
                .execute(params![name.as_str(), id.as_bytes()])?;
            let pinned = db
                .prepare_cached("SELECT user FROM name WHERE name = ?1")?
                .query_row([name.as_str()], |r| r.get(0))
                .map(user)?;
            if pinned != id {
                db.prepare_cached("UPDATE name SET changed = 1 WHERE name = ?1")?
                    .execute([name.as_str()])?;
            }
            Ok(pinned)
        })
        .await
    }
}

fn connect(path: &Path) -> Result<Connection, ReplicaError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    drop(
        options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?,
    );
    let mut db = Connection::open(path)?;
    db.busy_timeout(std::time::Duration::from_secs(10))?;
    // A transaction that reads first and writes then would fail at once if another session wrote
    // between: the time-out above only covers waiting for the lock.
    db.set_transaction_behavior(rusqlite::TransactionBehavior::Immediate);
    // Plans do not depend on the values that are bound: else each new place in a log plans anew.
    db.set_db_config(
        rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG,
        true,
    )?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "cache_size", -512)?;
    let tx = db.transaction()?;
    tx.execute_batch(include_str!("schema.sql"))?;
    migrate(&tx)?;
    tx.commit()?;
    Ok(db)
}

/// Brings a replica of an older version up to this one's form.
fn migrate(db: &Connection) -> Result<(), rusqlite::Error> {
    let routed = "SELECT 1 FROM pragma_table_info('message') WHERE name = 'route'";
    if !db.prepare(routed)?.exists([])? {
        db.execute_batch("ALTER TABLE message ADD COLUMN route BLOB NOT NULL DEFAULT x''")?;
    }
    // Another index finds ids in one log, and in any.
    db.execute_batch("DROP INDEX IF EXISTS message_id")?;
    let queued = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'outbox'";
    if db.prepare(queued)?.exists([])? {
        db.execute_batch(
            "INSERT OR IGNORE INTO draft (handle, id, log, kind, route, body, hop, flags, created, until, sealed)
               SELECT handle, id, log, iif(route IS NULL, 1, 2), CAST(coalesce(route, '') AS BLOB), body,
                 hop, flags, created, created + 86400000, sealed FROM outbox ORDER BY n;
             DROP TABLE outbox",
        )?;
    }
    Ok(())
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn user(bytes: [u8; 32]) -> UserId {
    UserId::new(bytes)
}

fn blob(bytes: Vec<u8>) -> Blob {
    bytes.into()
}
