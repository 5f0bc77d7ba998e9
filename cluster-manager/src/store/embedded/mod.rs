//! The store of a single machine: one file, kept by redb.
//!
//! Writes go through one thread that commits whatever has queued up as one transaction, so that many writers share the cost of
//! one sync to disk. Reads run on tokio's blocking threads, beside the writer (MVCC).

mod tables;
mod writer;

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use kaigi_proto::ids::{RoomId, WorkerId};

use super::{
    Collection, Epoch, Key, Page, PutMode, Query, RoomLease, SecretName, SecretValue, SnapshotChange,
    SnapshotPart, Store, StoreError,
};
use tables::{Reading, UnixMs};
use writer::Writer;

/// Memory for redb's page cache, in bytes. The whole of a busy server's state is a few megabytes.
const CACHE_BYTES: usize = 64 << 20;
/// Most expired documents removed in one sweep, so that a sweep does not hold up other writes.
const SWEEP_AT_MOST: usize = 10_000;

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store's file is in use by another process")]
    InUse,
    /// The disk, or the file's content.
    #[error("the store's file can't be opened: {0}")]
    Broken(String),
}

/// What time it is, for expiry; wall-clock time because it has to mean the same after a restart.
type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// See the module's description.
pub struct EmbeddedStore {
    writer: Writer,
    clock: Clock,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the file, or makes it. Blocks for the time that a repair takes if the last owner was killed (milliseconds per
    /// megabyte).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let path = path.to_owned();
        Self::open_with(
            Box::new(move || {
                let file = options().truncate(false).open(&path)?;
                redb::Database::builder().set_cache_size(CACHE_BYTES).create_file(file)
            }),
            Arc::new(SystemTime::now),
        )
    }

    /// Writes the file anew, without what was written over or deleted, which redb leaves where it was until it needs the place.
    /// Blocks, and holds all of it in memory; the file must not be open. An interruption leaves the old file as it is.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn rewrite(path: &Path) -> Result<(), OpenError> {
        let broken = |error: redb::Error| match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse,
            other => OpenError::Broken(other.to_string()),
        };
        let unfinished = path.with_extension("redb.new");
        copy(path, &unfinished).map_err(broken)?;
        let renamed = std::fs::rename(&unfinished, path).and_then(|()| {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            std::fs::File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
        });
        renamed.map_err(|e| broken(e.into()))
    }

    /// Opens whatever `opener` yields; it is asked again after the database failed.
    fn open_with(opener: writer::Opener, clock: Clock) -> Result<Self, OpenError> {
        Ok(Self { writer: Writer::start(opener)?, clock })
    }

    fn now(&self) -> UnixMs {
        UnixMs::from((self.clock)())
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = self.writer.database()?;
        tokio::task::spawn_blocking(move || read(&Reading::begin(&database)?))
            .await
            .map_err(|e| StoreError::Failed(e.to_string()))?
            .map_err(|e: redb::Error| StoreError::Failed(e.to_string()))
    }
}

/// Nobody but the owner reads it.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

fn copy(from: &Path, to: &Path) -> Result<(), redb::Error> {
    let old = redb::Database::builder().set_cache_size(CACHE_BYTES).open(from)?;
    // What an interrupted attempt left is nothing to build upon.
    let file = options().truncate(true).open(to)?;
    let new = redb::Database::builder().set_cache_size(CACHE_BYTES).create_file(file)?;
    let writing = new.begin_write()?;
    Reading::begin(&old)?.copy_to(&writing)?;
    writing.commit()?;
    Ok(())
}

impl From<SystemTime> for UnixMs {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn put(
        &self,
        collection: Collection,
        key: &Key,
        value: Vec<u8>,
        ttl: Option<Duration>,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        let (key, now) = (key.clone(), self.now());
        let expires = ttl.map(|ttl| now.after(ttl));
        self.writer.run(move |tables| tables.put(collection, &key, &value, expires, &mode, now)).await
    }

    async fn get(&self, collection: Collection, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let (key, now) = (key.clone(), self.now());
        self.read(move |tables| tables.get(collection, &key, now)).await
    }

    async fn page(&self, collection: Collection, query: &Query) -> Result<Page, StoreError> {
        let (query, now) = (query.clone(), self.now());
        self.read(move |tables| tables.page(collection, &query, now)).await
    }

    async fn delete(&self, collection: Collection, key: &Key) -> Result<bool, StoreError> {
        Ok(self.take(collection, key).await?.is_some())
    }

    async fn take(&self, collection: Collection, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let (key, now) = (key.clone(), self.now());
        self.writer.run(move |tables| tables.take(collection, &key, now)).await
    }

    async fn secret_or(&self, name: &SecretName, fresh: SecretValue) -> Result<SecretValue, StoreError> {
        let asked = name.clone();
        if let Some(known) = self.read(move |tables| tables.secret(&asked)).await? {
            return Ok(known);
        }
        let name = name.clone();
        self.writer.run(move |tables| tables.secret_or(&name, fresh)).await
    }

    async fn secrets(&self) -> Result<Vec<(SecretName, SecretValue)>, StoreError> {
        self.read(Reading::secrets).await
    }

    async fn swap_secret(
        &self,
        name: &SecretName,
        expected: &SecretValue,
        value: SecretValue,
    ) -> Result<(), StoreError> {
        let (name, expected) = (name.clone(), expected.clone());
        self.writer.run(move |tables| tables.swap_secret(&name, &expected, &value)).await
    }

    async fn room_lease(&self, room: &RoomId) -> Result<Option<RoomLease>, StoreError> {
        let room = room.clone();
        self.read(move |tables| tables.room_lease(&room)).await
    }

    async fn lease_room(
        &self,
        room: &RoomId,
        seen: Option<&RoomLease>,
        worker: &WorkerId,
    ) -> Result<Epoch, StoreError> {
        let (room, seen, worker) = (room.clone(), seen.cloned(), worker.clone());
        self.writer.run(move |tables| tables.lease_room(&room, seen.as_ref(), &worker)).await
    }

    async fn release_room(&self, room: &RoomId, worker: &WorkerId) -> Result<bool, StoreError> {
        let (room, worker) = (room.clone(), worker.clone());
        self.writer.run(move |tables| tables.release_room(&room, &worker)).await
    }

    async fn write_snapshot(
        &self,
        room: &RoomId,
        epoch: Epoch,
        change: SnapshotChange,
    ) -> Result<(), StoreError> {
        let room = room.clone();
        self.writer.run(move |tables| tables.write_snapshot(&room, epoch, &change)).await
    }

    async fn read_snapshot(&self, room: &RoomId) -> Result<Vec<SnapshotPart>, StoreError> {
        let room = room.clone();
        self.read(move |tables| tables.read_snapshot(&room)).await
    }

    async fn kept_rooms(&self) -> Result<Vec<(RoomId, RoomLease)>, StoreError> {
        self.read(Reading::kept_rooms).await
    }

    async fn sweep(&self) -> Result<usize, StoreError> {
        let now = self.now();
        // If reading fails, the write below makes the writer open the file again.
        if let Ok(false) = self.read(move |tables| tables.anything_expired(now)).await {
            return Ok(0);
        }
        self.writer.run(move |tables| tables.sweep(now, SWEEP_AT_MOST)).await
    }
}

#[cfg(test)]
mod tests;
