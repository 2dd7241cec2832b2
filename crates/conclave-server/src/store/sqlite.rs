//! The durable store: SQLite, write-ahead log, `synchronous=FULL`, one transaction a batch.

mod keys;
mod read;
mod write;

use super::{CommitError, Outcome, Page, PageQuery, Read, Snapshot, Store, StoreError, Write};
use conclave_proto::id::LogId;
use conclave_proto::time::UnixMs;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const SCHEMA: &str = include_str!("schema.sql");
const LAYOUT: i64 = 4;
/// What brings a database of layout 1, 2, … to the next one.
const UPGRADES: [&str; 3] = [
    "ALTER TABLE log ADD COLUMN lapsed INTEGER NOT NULL DEFAULT 0;
     UPDATE log SET lapsed = oldest - 1;",
    KEYS,
    "CREATE INDEX slot_seq ON slot (log, seq);",
];
/// The tables of keys; the second part of the schema.
const KEYS: &str = include_str!("keys.sql");
/// Pages of the write-ahead log before a checkpoint: 16 MiB.
const CHECKPOINT_PAGES: i64 = 4_096;
/// How many counters are remembered before all are forgotten again.
const COUNTERS_MAX: usize = 65_536;
const SEQ_BITS: u32 = 40;

/// A SQLite database that this thread writes to.
#[derive(Debug)]
pub struct SqliteStore {
    db: Connection,
    path: PathBuf,
    salt: Vec<u8>,
    cache: Cache,
}

/// What was read from the tables before, so that it need not be read for each entry. Dropped after
/// a failed transaction.
#[derive(Debug, Default)]
struct Cache {
    logs: HashMap<LogId, LogState>,
    counters: HashMap<(i64, [u8; 40]), u64>,
}

#[derive(Clone, Copy, Debug)]
struct LogState {
    n: i64,
    head: u64,
    oldest: u64,
    /// The newest message that retention has removed.
    lapsed: u64,
}

/// A second, read-only connection.
#[derive(Debug)]
pub struct SqliteReader(Connection);

impl SqliteStore {
    /// Opens the database, and makes it if it does not exist.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        make_private(path);
        let mut db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        db.pragma_update(None, "cache_size", -16_384)?;
        db.pragma_update(None, "locking_mode", "NORMAL")?;
        db.set_prepared_statement_cache_capacity(64);
        migrate(&mut db)?;
        let salt = db.query_row("SELECT value FROM meta WHERE key = 'salt'", [], |r| {
            r.get(0)
        })?;
        Ok(Self {
            db,
            path: path.to_owned(),
            salt,
            cache: Cache::default(),
        })
    }
}

/// Makes a new database its owner's alone, whatever the directory and the umask allow; SQLite gives
/// the files beside it the same mode. What fails here fails again, with a reason, when it is opened.
fn make_private(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    drop(options.write(true).create_new(true).mode(0o600).open(path));
}

fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    let found: i64 = db.pragma_query_value(None, "user_version", |r| r.get(0))?;
    if found > LAYOUT {
        return Err(StoreError::Newer {
            found,
            known: LAYOUT,
        });
    }
    if found == 0 {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| StoreError::Corrupt("no random numbers"))?;
        let tx = db.transaction()?;
        tx.execute_batch(SCHEMA)?;
        tx.execute_batch(KEYS)?;
        tx.execute("INSERT INTO meta VALUES ('salt', ?1)", [salt])?;
        tx.pragma_update(None, "user_version", LAYOUT)?;
        tx.commit()?;
    }
    let done = usize::try_from(found).unwrap_or(0);
    if found > 0 && found < LAYOUT {
        let tx = db.transaction()?;
        for upgrade in UPGRADES.iter().skip(done - 1) {
            tx.execute_batch(upgrade)?;
        }
        tx.pragma_update(None, "user_version", LAYOUT)?;
        tx.commit()?;
    }
    Ok(())
}

/// Returns the key of an entry's place.
fn place(log: i64, seq: u64) -> i64 {
    (log << SEQ_BITS) | int(seq.min((1 << SEQ_BITS) - 1))
}

/// Returns the seq of a place.
fn seq_of(place: i64) -> u64 {
    uint(place & ((1 << SEQ_BITS) - 1))
}

/// SQLite integers are signed; ours never reach the sign.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl Read for SqliteStore {
    fn page(&mut self, query: &PageQuery) -> Result<Page, StoreError> {
        read::page(&self.db, query)
    }
}

impl Read for SqliteReader {
    fn page(&mut self, query: &PageQuery) -> Result<Page, StoreError> {
        let view = self.0.transaction()?;
        read::page(&view, query)
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, at: UnixMs, writes: &[Write]) -> Result<Vec<Outcome>, CommitError> {
        let done = self.try_commit(at, writes);
        if done.is_err() {
            self.cache = Cache::default();
        }
        done
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        read::snapshot(&self.db)
    }

    fn reader(&self) -> Result<Option<Box<dyn Read>>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.set_prepared_statement_cache_capacity(16);
        Ok(Some(Box::new(SqliteReader(db))))
    }

    fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

impl SqliteStore {
    fn try_commit(&mut self, at: UnixMs, writes: &[Write]) -> Result<Vec<Outcome>, CommitError> {
        let tx = self.db.transaction().map_err(|e| definite(e.into()))?;
        let mut batch = write::Batch::new(&tx, &self.salt, at, &mut self.cache);
        let mut outcomes = Vec::with_capacity(writes.len());
        for write in writes {
            outcomes.push(batch.write(write).map_err(definite)?);
        }
        batch.finish().map_err(definite)?;
        match tx.commit() {
            Ok(()) => Ok(outcomes),
            Err(e) if is_full(&e) => Err(CommitError::Full),
            Err(e) => Err(CommitError::Unknown(e.into())),
        }
    }

    fn log_state(db: &Connection, log: &LogId) -> Result<Option<LogState>, StoreError> {
        let mut query =
            db.prepare_cached("SELECT n, head, oldest, lapsed FROM log WHERE id = ?1")?;
        let row = query.query_row([log.to_bytes()], |r| {
            Ok(LogState {
                n: r.get(0)?,
                head: uint(r.get(1)?),
                oldest: uint(r.get(2)?),
                lapsed: uint(r.get(3)?),
            })
        });
        Ok(row.optional()?)
    }
}

/// A failure before `COMMIT`: SQLite rolls back when the transaction is dropped.
fn definite(e: StoreError) -> CommitError {
    match e {
        StoreError::Sqlite(e) if is_full(&e) => CommitError::Full,
        e => CommitError::Failed(e),
    }
}

fn is_full(e: &rusqlite::Error) -> bool {
    e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}
