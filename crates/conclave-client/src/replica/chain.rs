//! Control chains of channels, and the pins that outlive them.

use super::{Replica, ReplicaError, blob, int, uint};
use conclave_proto::bytes::sha256;
use conclave_proto::channel_log::ParsedCtl;
use conclave_proto::id::{Blob, Hash, LogId};
use conclave_proto::time::UnixMs;
use rusqlite::{Connection, params};

/// What a channel is held to for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelPin {
    /// The hash of its first record.
    pub genesis: Hash,
    /// The number of the newest record that was seen.
    pub c: u64,
}

impl Replica {
    /// Returns a channel's control records up to and including the place `until`: seq, time, record.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn ctl(
        &self,
        log: LogId,
        until: u64,
    ) -> Result<Vec<(u64, UnixMs, Blob)>, ReplicaError> {
        self.call(move |db| {
            let mut query = db.prepare_cached(
                "SELECT seq, at, rec FROM ctl WHERE log = ?1 AND seq <= ?2 ORDER BY c",
            )?;
            let rows = query.query_map(params![log.to_bytes(), int(until)], |r| {
                Ok((uint(r.get(0)?), UnixMs(uint(r.get(1)?)), blob(r.get(2)?)))
            })?;
            rows.collect()
        })
        .await
    }

    /// Returns the logs that control records are held of.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn ctl_logs(&self) -> Result<Vec<LogId>, ReplicaError> {
        self.call(|db| {
            let mut query = db.prepare_cached("SELECT DISTINCT log FROM ctl")?;
            let rows = query.query_map([], |r| Ok(LogId::from_slice(r.get_ref(0)?.as_blob()?)))?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Returns what every channel ever verified here is held to.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn channel_pins(&self) -> Result<Vec<(LogId, ChannelPin)>, ReplicaError> {
        self.call(|db| {
            let mut query = db.prepare_cached("SELECT log, genesis, c FROM channel_pin")?;
            let rows = query.query_map([], |r| {
                let genesis = Hash::new(r.get(1)?);
                let c = uint(r.get(2)?);
                let log = LogId::from_slice(r.get_ref(0)?.as_blob()?);
                Ok(log.map(|log| (log, ChannelPin { genesis, c })))
            })?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Keeps a verified control record, and pins the channel to it.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn keep_ctl(
        &self,
        log: LogId,
        seq: u64,
        at: UnixMs,
        rec: Blob,
    ) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            put(&tx, log, seq, at, &rec)?;
            tx.commit()
        })
        .await
    }

    /// Forgets a chain that does not rebuild; the pin stays, and it is fetched again.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn drop_ctl(&self, log: LogId) -> Result<(), ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("DELETE FROM ctl WHERE log = ?1")?
                .execute([log.to_bytes()])
                .map(drop)
        })
        .await
    }
}

/// Keeps one record; the first one of its number stays. A chain has no holes here: what another process
/// took away is brought back from its beginning, not from where this one is.
pub(super) fn put(
    db: &Connection,
    log: LogId,
    seq: u64,
    at: UnixMs,
    rec: &Blob,
) -> Result<(), rusqlite::Error> {
    let Ok(c) = ParsedCtl::parse(rec).map(|parsed| parsed.c) else {
        return Ok(());
    };
    let (log, at) = (log.to_bytes(), at.0);
    db.prepare_cached(
        "INSERT OR IGNORE INTO ctl SELECT ?1, ?2, ?3, ?4, ?5
         WHERE ?2 = 0 OR EXISTS (SELECT 1 FROM ctl WHERE log = ?1 AND c = ?2 - 1)",
    )?
    .execute(params![log, int(c), int(seq), int(at), rec.as_slice()])?;
    if c == 0 {
        db.prepare_cached("INSERT OR IGNORE INTO channel_pin VALUES (?1, ?2, 0)")?
            .execute(params![log, sha256(rec).as_bytes()])?;
    }
    db.prepare_cached("UPDATE channel_pin SET c = max(c, ?2) WHERE log = ?1")?
        .execute(params![log, int(c)])
        .map(drop)
}
