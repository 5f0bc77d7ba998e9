//! The tables of the file and what is done with them in one transaction.

use std::time::Duration;

use kaigi_proto::ids::{RoomId, WorkerId};
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, WriteTransaction,
};

use crate::store::{
    Collection, Document, Epoch, Key, MAX_DOCUMENTS, MAX_SECRETS, Page, PutMode, Query, RoomLease,
    SecretName, SecretValue, SnapshotChange, SnapshotPart, StoreError,
};

/// Collection and key to expiry ([`UnixMs`], 0 = never) and value.
const DOCUMENTS: TableDefinition<'static, (u8, &str), (u64, &[u8])> = TableDefinition::new("documents");
/// Expiry, collection and key of each document that expires, so that a sweep finds them without a scan.
const EXPIRY: TableDefinition<'static, (u64, u8, &str), ()> = TableDefinition::new("expiry");
const SECRETS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("secrets");
/// Room to epoch and holder.
const LEASES: TableDefinition<'static, &str, (u64, &str)> = TableDefinition::new("room-leases");
/// Room and part to value.
const SNAPSHOTS: TableDefinition<'static, (&str, &str), &[u8]> = TableDefinition::new("snapshots");
/// Room to the version of its snapshot.
const SNAPSHOT_VERSIONS: TableDefinition<'static, &str, u64> = TableDefinition::new("snapshot-versions");
const COUNTERS: TableDefinition<'static, &str, u64> = TableDefinition::new("counters");
/// The last epoch given out. One counter for all rooms, so that the lease of a room that ended leaves nothing behind.
const EPOCH: &str = "epoch";

/// Milliseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnixMs(pub(super) u64);

impl UnixMs {
    /// Rounded up to at least a millisecond later, since 0 stands for "never" in the file.
    pub(super) fn after(self, ttl: Duration) -> Self {
        let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        Self(self.0.saturating_add(ms))
    }

    fn is_past(expires: u64, now: Self) -> bool {
        expires != 0 && expires <= now.0
    }
}

/// Why a write did not happen.
#[derive(Debug)]
pub(super) enum WriteError {
    /// For a reason of its own; the rest of the transaction goes on.
    Refused(StoreError),
    /// Because the database failed; the transaction is lost.
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A consistent view for reading.
pub(super) struct Reading(ReadTransaction);

impl Reading {
    pub(super) fn begin(database: &Database) -> Result<Self, redb::Error> {
        Ok(Self(database.begin_read()?))
    }

    pub(super) fn get(
        &self,
        collection: Collection,
        key: &Key,
        now: UnixMs,
    ) -> Result<Option<Vec<u8>>, redb::Error> {
        let documents = self.0.open_table(DOCUMENTS)?;
        let found = documents.get((collection.number(), key.as_str()))?;
        Ok(found.and_then(|found| {
            let (expires, value) = found.value();
            (!UnixMs::is_past(expires, now)).then(|| value.to_vec())
        }))
    }

    pub(super) fn page(
        &self,
        collection: Collection,
        query: &Query,
        now: UnixMs,
    ) -> Result<Page, redb::Error> {
        let documents: ReadOnlyTable<(u8, &str), (u64, &[u8])> = self.0.open_table(DOCUMENTS)?;
        let number = collection.number();
        let after = query.after.as_ref().map_or("", Key::as_str);
        let from = (number, after.max(&query.prefix));
        let (mut page, mut bytes) = (Page::default(), 0);
        for entry in documents.range(from..(number + 1, ""))? {
            let (key, value) = entry?;
            let (key, (expires, value)) = (key.value().1, value.value());
            if !key.starts_with(&query.prefix) {
                break;
            }
            if key == after || UnixMs::is_past(expires, now) {
                continue;
            }
            let Ok(key) = Key::new(key) else { continue };
            bytes += Document::cost(key.as_str().len(), value.len());
            let is_full = page.documents.len() >= query.limit
                || (bytes > query.max_bytes && !page.documents.is_empty());
            if is_full {
                page.next = page.documents.last().map(|last| last.key.clone());
                break;
            }
            page.documents.push(Document { key, value: value.to_vec() });
        }
        Ok(page)
    }

    pub(super) fn secret(&self, name: &SecretName) -> Result<Option<SecretValue>, redb::Error> {
        let secrets = self.0.open_table(SECRETS)?;
        Ok(secrets.get(name.as_str())?.map(|value| SecretValue(value.value().to_vec())))
    }

    pub(super) fn secrets(&self) -> Result<Vec<(SecretName, SecretValue)>, redb::Error> {
        let mut found = Vec::new();
        for entry in self.0.open_table(SECRETS)?.iter()? {
            let (name, value) = entry?;
            if let Ok(name) = SecretName::new(name.value()) {
                found.push((name, SecretValue(value.value().to_vec())));
            }
        }
        Ok(found)
    }

    /// Writes all that is there into another database.
    pub(super) fn copy_to(&self, other: &WriteTransaction) -> Result<(), redb::Error> {
        self.copy_table(other, DOCUMENTS)?;
        self.copy_table(other, EXPIRY)?;
        self.copy_table(other, SECRETS)?;
        self.copy_table(other, LEASES)?;
        self.copy_table(other, SNAPSHOTS)?;
        self.copy_table(other, SNAPSHOT_VERSIONS)?;
        self.copy_table(other, COUNTERS)
    }

    fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        other: &WriteTransaction,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), redb::Error> {
        let from = self.0.open_table(table)?;
        let mut to = other.open_table(table)?;
        for entry in from.iter()? {
            let (key, value) = entry?;
            to.insert(key.value(), value.value())?;
        }
        Ok(())
    }

    pub(super) fn room_lease(&self, room: &RoomId) -> Result<Option<RoomLease>, redb::Error> {
        let leases = self.0.open_table(LEASES)?;
        Ok(leases.get(room.as_str())?.and_then(|lease| as_lease(lease.value())))
    }

    pub(super) fn read_snapshot(&self, room: &RoomId) -> Result<Vec<SnapshotPart>, redb::Error> {
        let mut parts = Vec::new();
        for entry in self.0.open_table(SNAPSHOTS)?.range((room.as_str(), "")..)? {
            let (place, value) = entry?;
            let (of, key) = place.value();
            if of != room.as_str() {
                break;
            }
            let Ok(key) = Key::new(key) else { continue };
            parts.push(SnapshotPart { key, value: value.value().to_vec() });
        }
        Ok(parts)
    }

    pub(super) fn kept_rooms(&self) -> Result<Vec<(RoomId, RoomLease)>, redb::Error> {
        let leases = self.0.open_table(LEASES)?;
        let mut kept = Vec::new();
        for entry in self.0.open_table(SNAPSHOT_VERSIONS)?.iter()? {
            let (room, _) = entry?;
            let lease = leases.get(room.value())?.and_then(|lease| as_lease(lease.value()));
            kept.extend(RoomId::new(room.value()).ok().zip(lease));
        }
        Ok(kept)
    }

    pub(super) fn anything_expired(&self, now: UnixMs) -> Result<bool, redb::Error> {
        let expiry = self.0.open_table(EXPIRY)?;
        let first = expiry.first()?;
        Ok(first.is_some_and(|(key, _)| UnixMs::is_past(key.value().0, now)))
    }
}

fn as_lease((epoch, holder): (u64, &str)) -> Option<RoomLease> {
    Some(RoomLease { holder: WorkerId::new(holder).ok()?, epoch: Epoch(epoch) })
}

/// The tables, open for writing.
pub(super) struct Writing<'t> {
    documents: Table<'t, (u8, &'static str), (u64, &'static [u8])>,
    expiry: Table<'t, (u64, u8, &'static str), ()>,
    secrets: Table<'t, &'static str, &'static [u8]>,
    leases: Table<'t, &'static str, (u64, &'static str)>,
    counters: Table<'t, &'static str, u64>,
    snapshots: Table<'t, (&'static str, &'static str), &'static [u8]>,
    snapshot_versions: Table<'t, &'static str, u64>,
    changed: bool,
    /// Whether snapshots alone have changed: they need not be on disk at once.
    can_wait: bool,
}

impl<'t> Writing<'t> {
    pub(super) fn create_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
        Writing::open(transaction).map(drop)
    }

    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            documents: transaction.open_table(DOCUMENTS)?,
            expiry: transaction.open_table(EXPIRY)?,
            secrets: transaction.open_table(SECRETS)?,
            leases: transaction.open_table(LEASES)?,
            counters: transaction.open_table(COUNTERS)?,
            snapshots: transaction.open_table(SNAPSHOTS)?,
            snapshot_versions: transaction.open_table(SNAPSHOT_VERSIONS)?,
            changed: false,
            can_wait: false,
        })
    }

    /// Whether there is anything to commit.
    pub(super) fn changed(&self) -> bool {
        self.changed || self.can_wait
    }

    /// Whether what there is to commit has to be on disk at once.
    pub(super) fn is_urgent(&self) -> bool {
        self.changed
    }

    /// Acknowledged before it is on disk: it outlives the agent whose room it is of, not this process at the same moment. What a
    /// successor of this process lacks shows in the version.
    pub(super) fn write_snapshot(
        &mut self,
        room: &RoomId,
        epoch: Epoch,
        change: &SnapshotChange,
    ) -> Result<(), WriteError> {
        let room = room.as_str();
        if self.leases.get(room)?.is_none_or(|lease| lease.value().0 != epoch.0) {
            return Err(WriteError::Refused(StoreError::Fenced));
        }
        let version = self.snapshot_versions.get(room)?.map(|version| version.value());
        if change.whole {
            self.forget_snapshot(room)?;
        } else if version.is_none_or(|version| version.checked_add(1) != Some(change.version)) {
            return Err(WriteError::Refused(StoreError::OtherVersion));
        }
        self.can_wait = true;
        self.snapshot_versions.insert(room, change.version)?;
        for SnapshotPart { key, value } in &change.parts {
            self.snapshots.insert((room, key.as_str()), value.as_slice())?;
        }
        for key in &change.removed {
            self.snapshots.remove((room, key.as_str()))?;
        }
        Ok(())
    }

    fn forget_snapshot(&mut self, room: &str) -> Result<(), WriteError> {
        if self.snapshot_versions.remove(room)?.is_some() {
            // Behind every character of which keys are made.
            self.snapshots.retain_in((room, "")..=(room, "\u{10ffff}"), |_, _| false)?;
        }
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        collection: Collection,
        key: &Key,
        value: &[u8],
        expires: Option<UnixMs>,
        mode: &PutMode,
        now: UnixMs,
    ) -> Result<(), WriteError> {
        let place = (collection.number(), key.as_str());
        let (present, is_expected) = match self.documents.get(place)? {
            Some(found) => {
                let (expires, kept) = found.value();
                (Some(expires), matches!(mode, PutMode::Swap(expected) if expected == kept))
            }
            None => (None, false),
        };
        let is_there = present.is_some_and(|expires| !UnixMs::is_past(expires, now));
        match mode {
            PutMode::Create if is_there => return Err(WriteError::Refused(StoreError::AlreadyExists)),
            PutMode::Swap(_) if !(is_there && is_expected) => {
                return Err(WriteError::Refused(StoreError::Changed));
            }
            PutMode::Replace | PutMode::Create | PutMode::Swap(_) => {}
        }
        if present.is_none() && self.documents.len()? >= MAX_DOCUMENTS {
            return Err(WriteError::Refused(StoreError::Full("documents")));
        }
        self.changed = true;
        if let Some(old) = present.filter(|&old| old != 0) {
            self.expiry.remove((old, place.0, place.1))?;
        }
        let expires = expires.map_or(0, |at| at.0);
        if expires != 0 {
            self.expiry.insert((expires, place.0, place.1), ())?;
        }
        self.documents.insert(place, (expires, value))?;
        Ok(())
    }

    pub(super) fn take(
        &mut self,
        collection: Collection,
        key: &Key,
        now: UnixMs,
    ) -> Result<Option<Vec<u8>>, WriteError> {
        let place = (collection.number(), key.as_str());
        let Some((expires, value)) = self.documents.remove(place)?.map(|found| {
            let (expires, value) = found.value();
            (expires, value.to_vec())
        }) else {
            return Ok(None);
        };
        self.changed = true;
        if expires != 0 {
            self.expiry.remove((expires, place.0, place.1))?;
        }
        Ok((!UnixMs::is_past(expires, now)).then_some(value))
    }

    /// The secret, or `fresh` made the secret: another caller may have been faster.
    pub(super) fn secret_or(
        &mut self,
        name: &SecretName,
        fresh: SecretValue,
    ) -> Result<SecretValue, WriteError> {
        if let Some(known) = self.secrets.get(name.as_str())? {
            return Ok(SecretValue(known.value().to_vec()));
        }
        if self.secrets.len()? >= MAX_SECRETS {
            return Err(WriteError::Refused(StoreError::Full("secrets")));
        }
        self.changed = true;
        self.secrets.insert(name.as_str(), fresh.0.as_slice())?;
        Ok(fresh)
    }

    pub(super) fn swap_secret(
        &mut self,
        name: &SecretName,
        expected: &SecretValue,
        value: &SecretValue,
    ) -> Result<(), WriteError> {
        let is_expected =
            self.secrets.get(name.as_str())?.is_some_and(|kept| kept.value() == expected.0.as_slice());
        if !is_expected {
            return Err(WriteError::Refused(StoreError::Changed));
        }
        self.changed = true;
        self.secrets.insert(name.as_str(), value.0.as_slice())?;
        Ok(())
    }

    pub(super) fn lease_room(
        &mut self,
        room: &RoomId,
        seen: Option<&RoomLease>,
        worker: &WorkerId,
    ) -> Result<Epoch, WriteError> {
        let lease = self.leases.get(room.as_str())?.and_then(|lease| as_lease(lease.value()));
        if lease.as_ref() != seen {
            return Err(WriteError::Refused(StoreError::LeaseChanged));
        }
        let last = self.counters.get(EPOCH)?.map_or(0, |epoch| epoch.value());
        let epoch = last + 1;
        self.changed = true;
        self.counters.insert(EPOCH, epoch)?;
        self.leases.insert(room.as_str(), (epoch, worker.as_str()))?;
        Ok(Epoch(epoch))
    }

    pub(super) fn release_room(&mut self, room: &RoomId, worker: &WorkerId) -> Result<bool, WriteError> {
        let holds = self.leases.get(room.as_str())?.is_some_and(|lease| lease.value().1 == worker.as_str());
        if holds {
            self.changed = true;
            self.leases.remove(room.as_str())?;
            self.forget_snapshot(room.as_str())?;
        }
        Ok(holds)
    }

    pub(super) fn sweep(&mut self, now: UnixMs, at_most: usize) -> Result<usize, WriteError> {
        let mut expired = Vec::new();
        for entry in self.expiry.range(..=(now.0, u8::MAX, ""))?.take(at_most) {
            let (key, _) = entry?;
            let (at, collection, key) = key.value();
            expired.push((at, collection, key.to_owned()));
        }
        for (at, collection, key) in &expired {
            self.changed = true;
            self.expiry.remove((*at, *collection, key.as_str()))?;
            self.documents.remove((*collection, key.as_str()))?;
        }
        Ok(expired.len())
    }
}
