//! A store whose credentials are sealed: who reads the disk, a backup or Redis reads none of them.
//!
//! Documents of services and webhooks, the secrets and what is kept of live rooms (which has the addresses of broadcasts with their
//! keys) go through a [cipher](cipher) on their way; all else is left to the store below. Which key that is, the store itself [knows](ledger), so that another one is noticed before anything is written under it.

mod cipher;
mod key;
mod ledger;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use kaigi_proto::ids::{RoomId, WorkerId};

use super::{
    Collection, Document, Epoch, Key, Page, PutMode, Query, RoomLease, SecretName, SecretValue,
    SnapshotChange, SnapshotPart, Store, StoreError,
};
use cipher::{Cipher, Place};
pub use key::{KeyFileError, NoKey, SealKey};
pub(crate) use key::{make as make_key_file, read as read_key_file};
pub use ledger::{SealError, Sealed};
pub(crate) use ledger::{is_sealed, scrubbed};

/// Attempts to swap a document whose bytes change meanwhile although it stays the same, as when it is sealed anew.
const SWAP_ATTEMPTS: usize = 8;

/// See the module's description.
pub struct SealedStore {
    below: Arc<dyn Store>,
    cipher: Cipher,
}

impl std::fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedStore").finish_non_exhaustive()
    }
}

/// Whether documents of that collection hold credentials.
fn holds_credentials(collection: Collection) -> bool {
    match collection {
        Collection::Services | Collection::Webhooks => true,
        Collection::Rooms
        | Collection::Tokens
        | Collection::Nonces
        | Collection::Snapshots
        | Collection::Workers
        | Collection::Events
        | Collection::Seal => false,
    }
}

impl SealedStore {
    /// Seals what is in `below`, as far as it is not sealed yet. If anything was, or an earlier start did not get further, then
    /// [`Sealed::has_remains`] says so: the store below may still have on its disk what was written over.
    ///
    /// # Errors
    /// See [`SealError`].
    pub async fn open(below: Arc<dyn Store>, key: &SealKey) -> Result<(Self, Sealed), SealError> {
        let cipher = Cipher::new(key);
        let sealed = ledger::seal_all(&*below, &cipher).await?;
        Ok((Self { below, cipher }, sealed))
    }

    fn opened(&self, collection: Collection, key: &Key, stored: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.cipher.open(Place::Document(collection, key), stored).map_err(|_| {
            tracing::error!(
                ?collection,
                key = key.as_str(),
                "a document does not open: it was changed or moved"
            );
            StoreError::Unreadable
        })
    }

    async fn swap(
        &self,
        collection: Collection,
        key: &Key,
        value: &[u8],
        ttl: Option<Duration>,
        expected: &[u8],
    ) -> Result<(), StoreError> {
        for _ in 0..SWAP_ATTEMPTS {
            let stored = self.below.get(collection, key).await?.ok_or(StoreError::Changed)?;
            if self.opened(collection, key, stored.clone())? != expected {
                return Err(StoreError::Changed);
            }
            let sealed = self.cipher.seal(Place::Document(collection, key), value);
            match self.below.put(collection, key, sealed, ttl, PutMode::Swap(stored)).await {
                Err(StoreError::Changed) => {}
                done => return done,
            }
        }
        Err(StoreError::Changed)
    }
}

#[async_trait]
impl Store for SealedStore {
    async fn put(
        &self,
        collection: Collection,
        key: &Key,
        value: Vec<u8>,
        ttl: Option<Duration>,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        if !holds_credentials(collection) {
            return self.below.put(collection, key, value, ttl, mode).await;
        }
        match mode {
            PutMode::Swap(expected) => self.swap(collection, key, &value, ttl, &expected).await,
            PutMode::Replace | PutMode::Create => {
                let sealed = self.cipher.seal(Place::Document(collection, key), &value);
                self.below.put(collection, key, sealed, ttl, mode).await
            }
        }
    }

    async fn get(&self, collection: Collection, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = self.below.get(collection, key).await?;
        if !holds_credentials(collection) {
            return Ok(stored);
        }
        stored.map(|stored| self.opened(collection, key, stored)).transpose()
    }

    async fn page(&self, collection: Collection, query: &Query) -> Result<Page, StoreError> {
        let stored = self.below.page(collection, query).await?;
        if !holds_credentials(collection) {
            return Ok(stored);
        }
        let mut page = Page { documents: Vec::new(), ..stored };
        for Document { key, value } in stored.documents {
            match self.opened(collection, &key, value) {
                Ok(value) => page.documents.push(Document { key, value }),
                Err(_) => page.unreadable.push(key),
            }
        }
        Ok(page)
    }

    async fn delete(&self, collection: Collection, key: &Key) -> Result<bool, StoreError> {
        self.below.delete(collection, key).await
    }

    async fn take(&self, collection: Collection, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        if !holds_credentials(collection) {
            return self.below.take(collection, key).await;
        }
        // What does not open is not taken out: it would be lost to whoever looks into the matter.
        if self.get(collection, key).await?.is_none() {
            return Ok(None);
        }
        let stored = self.below.take(collection, key).await?;
        stored.map(|stored| self.opened(collection, key, stored)).transpose()
    }

    async fn secret_or(&self, name: &SecretName, fresh: SecretValue) -> Result<SecretValue, StoreError> {
        let place = Place::Secret(name);
        let sealed = SecretValue(self.cipher.seal(place, &fresh.0));
        let stored = self.below.secret_or(name, sealed).await?;
        self.cipher.open(place, stored.0).map(SecretValue).map_err(|_| {
            tracing::error!(name = name.as_str(), "a secret does not open: it was changed or moved");
            StoreError::Unreadable
        })
    }

    async fn secrets(&self) -> Result<Vec<(SecretName, SecretValue)>, StoreError> {
        let stored = self.below.secrets().await?;
        let opened = stored.into_iter().map(|(name, value)| {
            let value =
                self.cipher.open(Place::Secret(&name), value.0).map_err(|_| StoreError::Unreadable)?;
            Ok((name, SecretValue(value)))
        });
        opened.collect()
    }

    async fn swap_secret(
        &self,
        name: &SecretName,
        expected: &SecretValue,
        value: SecretValue,
    ) -> Result<(), StoreError> {
        let place = Place::Secret(name);
        let stored = self.below.secrets().await?.into_iter().find(|(kept, _)| kept == name);
        let (_, stored) = stored.ok_or(StoreError::Changed)?;
        let opened = self.cipher.open(place, stored.0.clone()).map_err(|_| StoreError::Unreadable)?;
        if opened != expected.0 {
            return Err(StoreError::Changed);
        }
        let sealed = SecretValue(self.cipher.seal(place, &value.0));
        self.below.swap_secret(name, &stored, sealed).await
    }

    async fn room_lease(&self, room: &RoomId) -> Result<Option<RoomLease>, StoreError> {
        self.below.room_lease(room).await
    }

    async fn lease_room(
        &self,
        room: &RoomId,
        seen: Option<&RoomLease>,
        worker: &WorkerId,
    ) -> Result<Epoch, StoreError> {
        self.below.lease_room(room, seen, worker).await
    }

    async fn release_room(&self, room: &RoomId, worker: &WorkerId) -> Result<bool, StoreError> {
        self.below.release_room(room, worker).await
    }

    async fn write_snapshot(
        &self,
        room: &RoomId,
        epoch: Epoch,
        change: SnapshotChange,
    ) -> Result<(), StoreError> {
        let sealed = change.parts.into_iter().map(|SnapshotPart { key, value }| SnapshotPart {
            value: self.cipher.seal(Place::Snapshot(room, &key), &value),
            key,
        });
        let (version, whole, removed) = (change.version, change.whole, change.removed);
        let change = SnapshotChange { version, whole, parts: sealed.collect(), removed };
        self.below.write_snapshot(room, epoch, change).await
    }

    async fn read_snapshot(&self, room: &RoomId) -> Result<Vec<SnapshotPart>, StoreError> {
        let stored = self.below.read_snapshot(room).await?;
        let opened = stored.into_iter().map(|SnapshotPart { key, value }| {
            let value = self.cipher.open(Place::Snapshot(room, &key), value).map_err(|_| {
                tracing::error!(%room, key = key.as_str(), "a part of a room does not open: it was changed or moved");
                StoreError::Unreadable
            })?;
            Ok(SnapshotPart { key, value })
        });
        opened.collect()
    }

    async fn kept_rooms(&self) -> Result<Vec<(RoomId, RoomLease)>, StoreError> {
        self.below.kept_rooms().await
    }

    async fn sweep(&self) -> Result<usize, StoreError> {
        self.below.sweep().await
    }
}
