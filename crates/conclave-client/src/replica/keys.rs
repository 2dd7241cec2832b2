//! Channel keys and what they opened, kept for every session of this machine.

use super::{Replica, ReplicaError, blob};
use conclave_e2ee::{Bundle, ChannelKey, Place};
use conclave_proto::codec;
use conclave_proto::id::{Blob, ChannelId};
use conclave_proto::key::HolderKey;
use rusqlite::params;
use zeroize::Zeroizing;

impl Replica {
    /// Returns the channel keys of one channel, or of all.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn channel_keys(
        &self,
        channel: Option<ChannelId>,
    ) -> Result<Vec<ChannelKey>, ReplicaError> {
        self.call(move |db| {
            let sql = "SELECT channel, e, key FROM channel_key WHERE ?1 IS NULL OR channel = ?1";
            let mut query = db.prepare_cached(sql)?;
            let one = channel.map(|id| id.as_bytes().to_vec());
            let rows = query.query_map([one], |r| {
                let channel = ChannelId::new(r.get(0)?);
                let place = Place {
                    channel,
                    e: r.get(1)?,
                };
                Ok(ChannelKey::new(
                    place,
                    &Zeroizing::new(r.get::<_, [u8; 32]>(2)?),
                ))
            })?;
            rows.collect()
        })
        .await
    }

    /// Keeps channel keys that were checked against their commitments.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn keep_channel_keys(&self, keys: Vec<ChannelKey>) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            for key in &keys {
                let Place { channel, e } = key.place();
                tx.prepare_cached("INSERT OR REPLACE INTO channel_key VALUES (?1, ?2, ?3)")?
                    .execute(params![channel.as_bytes(), e, key.bytes()])?;
            }
            tx.commit()
        })
        .await
    }

    /// Forgets the channel keys below an epoch, overwriting them on the disk.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn forget_channel_keys(
        &self,
        channel: ChannelId,
        below: u32,
    ) -> Result<(), ReplicaError> {
        self.call(move |db| {
            db.pragma_update(None, "secure_delete", "ON")?;
            db.prepare_cached("DELETE FROM channel_key WHERE channel = ?1 AND e < ?2")?
                .execute(params![channel.as_bytes(), below])?;
            // Old pages stay in the write-ahead log otherwise. Best effort: others may be reading.
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        })
        .await
    }

    /// Returns what is known of channels and sealed from the server.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn bundles(&self) -> Result<Vec<(ChannelId, Bundle)>, ReplicaError> {
        self.call(|db| {
            let mut query = db.prepare_cached("SELECT channel, bundle FROM channel_fact")?;
            let rows = query.query_map([], |r| {
                let bundle: Vec<u8> = r.get(1)?;
                Ok((
                    ChannelId::new(r.get(0)?),
                    codec::from_cbor::<Bundle>(&bundle).ok(),
                ))
            })?;
            let known = rows.filter_map(|row| match row {
                Ok((channel, bundle)) => bundle.map(|bundle| Ok((channel, bundle))),
                Err(error) => Some(Err(error)),
            });
            known.collect()
        })
        .await
    }

    /// Keeps what is known of a channel and sealed from the server.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn keep_bundle(
        &self,
        channel: ChannelId,
        bundle: &Bundle,
    ) -> Result<(), ReplicaError> {
        let bytes = codec::to_cbor(bundle).unwrap_or_default();
        self.call(move |db| {
            db.prepare_cached("INSERT OR REPLACE INTO channel_fact VALUES (?1, ?2)")?
                .execute(params![channel.as_bytes(), bytes])
                .map(drop)
        })
        .await
    }

    /// Returns the newest announcements of encryption keys that were seen.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn announcements(&self) -> Result<Vec<Blob>, ReplicaError> {
        self.call(|db| {
            let mut query = db.prepare_cached("SELECT rec FROM encryption_key")?;
            let rows = query.query_map([], |r| Ok(blob(r.get(0)?)))?;
            rows.collect()
        })
        .await
    }

    /// Keeps announcements, each in place of an older one of the same holder.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn keep_announcements(
        &self,
        recs: Vec<(HolderKey, u32, Blob)>,
    ) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            for (holder, generation, rec) in &recs {
                tx.prepare_cached(
                    "INSERT INTO encryption_key VALUES (?1, ?2, ?3) ON CONFLICT (holder)
                     DO UPDATE SET generation = excluded.generation, rec = excluded.rec
                     WHERE excluded.generation > generation",
                )?
                .execute(params![
                    holder.as_bytes(),
                    generation,
                    rec.as_slice()
                ])?;
            }
            tx.commit()
        })
        .await
    }
}
