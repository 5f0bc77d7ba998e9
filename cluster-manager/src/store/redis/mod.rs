//! The store of several machines: Redis 6.2 or newer.
//!
//! Every operation is one script, which Redis runs as a whole, on keys of one hash slot, so that it works on a cluster too. A
//! collection is a hash of values, a sorted set of its keys (all of score 0: ordered bytewise) and a sorted set of expiries
//! (milliseconds since 1970 by the server's clock). What survives the death of a Redis server is a matter of its configuration
//! (`appendonly yes`, `appendfsync always`, replicas).

mod connection;
mod leadership;
mod url;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use kaigi_proto::ids::{RoomId, WorkerId};
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};
use tokio::sync::Notify;

use super::{
    Collection, Document, Epoch, Key, MAX_DOCUMENTS, MAX_SECRETS, Page, PutMode, Query, RoomLease,
    SecretName, SecretValue, SnapshotChange, SnapshotPart, Store, StoreError,
};
use connection::Connection;
pub use leadership::RedisLease;
pub use url::{RedisUrl, RedisUrlError};

/// Most expired documents removed by one script; Redis serves nobody else meanwhile.
const SWEEP_STEP: usize = 500;
/// Most expired documents of a collection removed in one sweep.
const SWEEP_AT_MOST: usize = 10_000;
/// Collections with documents that expire, or might.
const COLLECTIONS: [Collection; 9] = [
    Collection::Services,
    Collection::Rooms,
    Collection::Tokens,
    Collection::Nonces,
    Collection::Snapshots,
    Collection::Workers,
    Collection::Webhooks,
    Collection::Events,
    Collection::Seal,
];

/// See the module's description.
pub struct RedisStore {
    connection: Connection,
    prefix: String,
    scripts: Scripts,
    /// In which this process writes; 0 = it never led.
    term: AtomicU64,
    /// A write was refused, as another cluster-manager leads.
    fenced: Notify,
}

struct Scripts {
    put: Script,
    get: Script,
    page: Script,
    take: Script,
    sweep: Script,
    secret: Script,
    secrets: Script,
    swap_secret: Script,
    lease: Script,
    release: Script,
    snapshot: Script,
    read_snapshot: Script,
    kept_rooms: Script,
}

/// A script that writes: its last key is a [`RedisStore::fence`], its last argument the term.
fn fenced(script: &str) -> Script {
    Script::new(&[include_str!("fence.lua"), script].concat())
}

impl Scripts {
    fn new() -> Self {
        Self {
            put: fenced(include_str!("put.lua")),
            get: Script::new(include_str!("get.lua")),
            page: Script::new(include_str!("page.lua")),
            take: fenced(include_str!("take.lua")),
            sweep: fenced(include_str!("sweep.lua")),
            secret: fenced(include_str!("secret.lua")),
            secrets: Script::new("return redis.call('HGETALL', KEYS[1])"),
            swap_secret: fenced(include_str!("swap_secret.lua")),
            lease: fenced(include_str!("lease.lua")),
            release: fenced(include_str!("release.lua")),
            snapshot: fenced(include_str!("snapshot.lua")),
            read_snapshot: Script::new("return redis.call('HGETALL', KEYS[1])"),
            kept_rooms: Script::new(include_str!("kept_rooms.lua")),
        }
    }
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        if error.code() == Some("FENCED") {
            return Self::Deposed;
        }
        Self::Failed(format!("Redis: {error}"))
    }
}

impl RedisStore {
    /// Connects. All keys begin with `prefix`, so that several Kaigis can share a server.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if Redis can't be reached within some seconds.
    pub async fn open(url: &RedisUrl, prefix: &str) -> Result<Self, StoreError> {
        let connection = Connection::open(url).await?;
        Ok(Self {
            connection,
            prefix: prefix.to_owned(),
            scripts: Scripts::new(),
            term: AtomicU64::new(0),
            fenced: Notify::new(),
        })
    }

    /// A key of a group whose keys are all in one hash slot.
    fn key(&self, group: &str, what: &str) -> String {
        format!("{{{}:{group}}}:{what}", self.prefix)
    }

    /// What is kept of a room. Where the leases are: one script looks at both.
    fn snapshot(&self, room: &RoomId) -> String {
        self.key("leases", &format!("snapshot:{room}"))
    }

    fn values(&self, collection: Collection) -> String {
        self.key(&documents(collection), "values")
    }

    fn index(&self, collection: Collection) -> String {
        self.key(&documents(collection), "index")
    }

    fn expiries(&self, collection: Collection) -> String {
        self.key(&documents(collection), "expiries")
    }

    /// A call of a script on all of a collection.
    fn on<'a>(&self, script: &'a Script, collection: Collection) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(self.values(collection)).key(self.index(collection)).key(self.expiries(collection));
        call
    }

    /// The fence of a group of keys.
    fn fence(&self, group: &str) -> String {
        self.key(group, "fence")
    }

    async fn run<T: FromRedisValue>(&self, call: ScriptInvocation<'_>) -> Result<T, StoreError> {
        Ok(self.connection.run(call).await?)
    }

    /// A script that writes keys of that group, which are all given, as are its arguments.
    async fn write<T: FromRedisValue>(
        &self,
        group: &str,
        mut call: ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        call.key(self.fence(group)).arg(self.term.load(Ordering::Acquire));
        let written = self.run(call).await;
        if matches!(written, Err(StoreError::Deposed)) {
            self.fenced.notify_one();
        }
        written
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn put(
        &self,
        collection: Collection,
        key: &Key,
        value: Vec<u8>,
        ttl: Option<Duration>,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        let ttl = ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        let (mode, expected) = match mode {
            PutMode::Replace => ("replace", Vec::new()),
            PutMode::Create => ("create", Vec::new()),
            PutMode::Swap(expected) => ("swap", expected),
        };
        let mut call = self.on(&self.scripts.put, collection);
        call.arg(key.as_str()).arg(value).arg(ttl).arg(mode).arg(MAX_DOCUMENTS).arg(expected);
        match self.write::<String>(&documents(collection), call).await?.as_str() {
            "ok" => Ok(()),
            "exists" => Err(StoreError::AlreadyExists),
            "changed" => Err(StoreError::Changed),
            "full" => Err(StoreError::Full("documents")),
            other => Err(StoreError::Failed(format!("Redis: unexpected answer {other:?}"))),
        }
    }

    async fn get(&self, collection: Collection, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let mut call = self.scripts.get.prepare_invoke();
        call.key(self.values(collection)).key(self.expiries(collection)).arg(key.as_str());
        self.run(call).await
    }

    async fn page(&self, collection: Collection, query: &Query) -> Result<Page, StoreError> {
        let from = match &query.after {
            Some(after) if after.as_str() >= query.prefix.as_str() => format!("({}", after.as_str()),
            Some(_) | None if query.prefix.is_empty() => "-".to_owned(),
            Some(_) | None => format!("[{}", query.prefix),
        };
        let to = match query.prefix.as_str() {
            "" => b"+".to_vec(),
            // No key is behind it: UTF-8 has no such byte.
            prefix => [b"(", prefix.as_bytes(), &[0xff]].concat(),
        };
        let mut call = self.on(&self.scripts.page, collection);
        call.arg(from).arg(to).arg(query.limit).arg(query.max_bytes).arg(Document::OVERHEAD);
        let (more, found): (bool, Vec<(String, Vec<u8>)>) = self.run(call).await?;
        let documents = found.into_iter().map(|(key, value)| {
            let key = Key::new(&key).map_err(|e| StoreError::Failed(format!("Redis: {key:?}: {e}")))?;
            Ok(Document { key, value })
        });
        let documents: Vec<Document> = documents.collect::<Result<_, StoreError>>()?;
        let next = documents.last().filter(|_| more).map(|last| last.key.clone());
        Ok(Page { documents, unreadable: Vec::new(), next })
    }

    async fn delete(&self, collection: Collection, key: &Key) -> Result<bool, StoreError> {
        Ok(self.take(collection, key).await?.is_some())
    }

    async fn take(&self, collection: Collection, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let mut call = self.on(&self.scripts.take, collection);
        call.arg(key.as_str());
        self.write(&documents(collection), call).await
    }

    async fn secret_or(&self, name: &SecretName, fresh: SecretValue) -> Result<SecretValue, StoreError> {
        let mut call = self.scripts.secret.prepare_invoke();
        call.key(self.key("secrets", "values")).arg(name.as_str()).arg(fresh.into_bytes()).arg(MAX_SECRETS);
        self.write::<Option<Vec<u8>>>("secrets", call)
            .await?
            .map(SecretValue)
            .ok_or(StoreError::Full("secrets"))
    }

    async fn secrets(&self) -> Result<Vec<(SecretName, SecretValue)>, StoreError> {
        let mut call = self.scripts.secrets.prepare_invoke();
        call.key(self.key("secrets", "values"));
        let found: Vec<(String, Vec<u8>)> = self.run(call).await?;
        let named = found.into_iter().map(|(name, value)| {
            let name =
                SecretName::new(&name).map_err(|e| StoreError::Failed(format!("Redis: {name:?}: {e}")))?;
            Ok((name, SecretValue(value)))
        });
        named.collect()
    }

    async fn swap_secret(
        &self,
        name: &SecretName,
        expected: &SecretValue,
        value: SecretValue,
    ) -> Result<(), StoreError> {
        let mut call = self.scripts.swap_secret.prepare_invoke();
        call.key(self.key("secrets", "values"))
            .arg(name.as_str())
            .arg(expected.0.as_slice())
            .arg(value.into_bytes());
        if self.write::<u8>("secrets", call).await? == 1 { Ok(()) } else { Err(StoreError::Changed) }
    }

    async fn room_lease(&self, room: &RoomId) -> Result<Option<RoomLease>, StoreError> {
        let mut call = self.scripts.get.prepare_invoke();
        // Leases have no expiries of their own.
        call.key(self.key("leases", "holders")).key(self.key("leases", "expiries")).arg(room.as_str());
        self.run::<Option<String>>(call).await?.map(|lease| read_lease(&lease)).transpose()
    }

    async fn lease_room(
        &self,
        room: &RoomId,
        seen: Option<&RoomLease>,
        worker: &WorkerId,
    ) -> Result<Epoch, StoreError> {
        let seen = seen.map(|lease| format!("{} {}", lease.epoch.0, lease.holder)).unwrap_or_default();
        let mut call = self.scripts.lease.prepare_invoke();
        call.key(self.key("leases", "holders"))
            .key(self.key("leases", "epoch"))
            .arg(room.as_str())
            .arg(seen)
            .arg(worker.as_str());
        match self.write("leases", call).await? {
            0 => Err(StoreError::LeaseChanged),
            epoch => Ok(Epoch(epoch)),
        }
    }

    async fn release_room(&self, room: &RoomId, worker: &WorkerId) -> Result<bool, StoreError> {
        let mut call = self.scripts.release.prepare_invoke();
        call.key(self.key("leases", "holders")).key(self.snapshot(room)).key(self.key("leases", "snapshots"));
        call.arg(room.as_str()).arg(worker.as_str());
        Ok(self.write::<u8>("leases", call).await? == 1)
    }

    async fn write_snapshot(
        &self,
        room: &RoomId,
        epoch: Epoch,
        change: SnapshotChange,
    ) -> Result<(), StoreError> {
        let mut call = self.scripts.snapshot.prepare_invoke();
        call.key(self.key("leases", "holders")).key(self.snapshot(room)).key(self.key("leases", "snapshots"));
        call.arg(room.as_str()).arg(epoch.0).arg(change.version).arg(u8::from(change.whole));
        call.arg(change.parts.len());
        for SnapshotPart { key, value } in change.parts {
            call.arg(key.as_str()).arg(value);
        }
        for key in &change.removed {
            call.arg(key.as_str());
        }
        match self.write::<String>("leases", call).await?.as_str() {
            "ok" => Ok(()),
            "fenced" => Err(StoreError::Fenced),
            "other" => Err(StoreError::OtherVersion),
            other => Err(StoreError::Failed(format!("Redis: unexpected answer {other:?}"))),
        }
    }

    async fn read_snapshot(&self, room: &RoomId) -> Result<Vec<SnapshotPart>, StoreError> {
        let mut call = self.scripts.read_snapshot.prepare_invoke();
        call.key(self.snapshot(room));
        let found: Vec<(String, Vec<u8>)> = self.run(call).await?;
        let parts = found.into_iter().map(|(key, value)| {
            let key = Key::new(&key).map_err(|e| StoreError::Failed(format!("Redis: {key:?}: {e}")))?;
            Ok(SnapshotPart { key, value })
        });
        parts.collect()
    }

    async fn kept_rooms(&self) -> Result<Vec<(RoomId, RoomLease)>, StoreError> {
        let mut call = self.scripts.kept_rooms.prepare_invoke();
        call.key(self.key("leases", "holders")).key(self.key("leases", "snapshots"));
        let found: Vec<(String, String)> = self.run(call).await?;
        let rooms = found.into_iter().filter_map(|(room, lease)| {
            RoomId::new(room).ok().map(|room| read_lease(&lease).map(|lease| (room, lease)))
        });
        rooms.collect()
    }

    async fn sweep(&self) -> Result<usize, StoreError> {
        let mut all = 0;
        for collection in COLLECTIONS {
            for _ in 0..SWEEP_AT_MOST / SWEEP_STEP {
                let mut call = self.on(&self.scripts.sweep, collection);
                call.arg(SWEEP_STEP);
                let swept: usize = self.write(&documents(collection), call).await?;
                all += swept;
                if swept < SWEEP_STEP {
                    break;
                }
            }
        }
        Ok(all)
    }
}

/// The group of keys of a collection.
fn documents(collection: Collection) -> String {
    format!("documents-{}", collection.number())
}

/// "EPOCH HOLDER".
fn read_lease(text: &str) -> Result<RoomLease, StoreError> {
    let read = || {
        let (epoch, holder) = text.split_once(' ')?;
        Some(RoomLease { holder: WorkerId::new(holder).ok()?, epoch: Epoch(epoch.parse().ok()?) })
    };
    read().ok_or_else(|| StoreError::Failed(format!("Redis: {text:?} is no lease")))
}

#[cfg(test)]
mod tests;
