//! Durable state behind one trait, so that the rest does not know what keeps it.

mod embedded;
mod redis;
mod sealed;
#[cfg(test)]
mod suite;
mod types;

use std::time::Duration;

use async_trait::async_trait;
use kaigi_proto::ids::{RoomId, WorkerId};

pub use embedded::{EmbeddedStore, OpenError};
pub use redis::{RedisLease, RedisStore, RedisUrl, RedisUrlError};
pub use sealed::{KeyFileError, NoKey, SealError, SealKey, Sealed, SealedStore};
pub(crate) use sealed::{is_sealed, make_key_file, read_key_file, scrubbed};
pub use types::{
    Collection, Document, Epoch, Key, KeyError, Page, Query, RoomLease, SecretName, SecretValue,
    SnapshotChange, SnapshotPart,
};

/// Most documents, of all collections in a file, of each on a server: at a kilobyte each a gigabyte.
const MAX_DOCUMENTS: u64 = 1_000_000;
/// Most secrets; each is a name in the program text, so more mean a caller gone astray.
const MAX_SECRETS: u64 = 1_000;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Asked to create a document that is there already.
    #[error("a document with that key exists")]
    AlreadyExists,
    /// The document is not, or not any more, what the caller had seen.
    #[error("the document is not what was expected")]
    Changed,
    /// The document, or secret, is there and does not open: it was changed or moved by somebody who does not have the key.
    #[error("what is stored can't be read: it was changed, or belongs elsewhere")]
    Unreadable,
    /// The room's lease is no longer the one that the caller had seen.
    #[error("the room's lease changed meanwhile")]
    LeaseChanged,
    /// The room is not leased under the writer's epoch any more.
    #[error("the room is not leased under that epoch any more")]
    Fenced,
    /// Another cluster-manager leads, and this one writes nothing any more.
    #[error("another cluster-manager leads")]
    Deposed,
    /// What is kept of the room is not what the change is of.
    #[error("what is kept of the room is of another version")]
    OtherVersion,
    /// A limit on the number of documents or secrets is reached.
    #[error("the store holds as many {0} as it may")]
    Full(&'static str),
    /// What keeps the state (disk, server) failed. Worth trying again later. A change was made wholly or not at all; which of the
    /// two is not known if a server did not answer.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// What a put may replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Writes in any case.
    Replace,
    /// Fails with [`StoreError::AlreadyExists`] if there is a document that has not expired.
    Create,
    /// Fails with [`StoreError::Changed`] unless there is exactly this document, not expired. After a connection to a server was
    /// lost, that may also be said of a swap that did happen.
    Swap(Vec<u8>),
}

/// Documents, secrets and room leases. Every change is durable when its future is ready: it survives a SIGKILL of this process
/// and, as far as disk or server are honest, a loss of power. All futures may be dropped at any time; the change then happens wholly or
/// not at all.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes a document, which is gone after `ttl` if one is given.
    async fn put(
        &self,
        collection: Collection,
        key: &Key,
        value: Vec<u8>,
        ttl: Option<Duration>,
        mode: PutMode,
    ) -> Result<(), StoreError>;

    /// The document, unless there is none or it has expired.
    async fn get(&self, collection: Collection, key: &Key) -> Result<Option<Vec<u8>>, StoreError>;

    /// A page of documents, ordered by key (bytewise) ascending. Pages show what is there when each is asked for: between two of them
    /// others may write.
    async fn page(&self, collection: Collection, query: &Query) -> Result<Page, StoreError>;

    /// At most `limit` documents with keys greater than `after`, ordered by key (bytewise) ascending: for collections that are small.
    /// Those that can't be read are left out.
    async fn list(
        &self,
        collection: Collection,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Document>, StoreError> {
        let mut query = Query { after: after.cloned(), limit, ..Query::default() };
        let mut found = Vec::new();
        loop {
            let page = self.page(collection, &query).await?;
            for key in &page.unreadable {
                tracing::warn!(?collection, key = key.as_str(), "a document is left out: it can't be read");
            }
            found.extend(page.documents);
            query.limit = limit - found.len().min(limit);
            query.after = page.next;
            if query.after.is_none() || query.limit == 0 {
                return Ok(found);
            }
        }
    }

    /// Deletes a document; whether there was one.
    async fn delete(&self, collection: Collection, key: &Key) -> Result<bool, StoreError>;

    /// Returns and deletes a document in one step: of any number of callers at most one gets it.
    async fn take(&self, collection: Collection, key: &Key) -> Result<Option<Vec<u8>>, StoreError>;

    /// The secret of that name: 64 random bytes made at first use, the same ever after.
    async fn secret(&self, name: &SecretName) -> Result<SecretValue, StoreError> {
        self.secret_or(name, SecretValue::random()).await
    }

    /// The secret of that name, which `fresh` becomes if there is none.
    async fn secret_or(&self, name: &SecretName, fresh: SecretValue) -> Result<SecretValue, StoreError>;

    /// All secrets, of which there are a thousand at most.
    async fn secrets(&self) -> Result<Vec<(SecretName, SecretValue)>, StoreError>;

    /// Writes a secret over exactly what is expected; else [`StoreError::Changed`].
    async fn swap_secret(
        &self,
        name: &SecretName,
        expected: &SecretValue,
        value: SecretValue,
    ) -> Result<(), StoreError>;

    /// Who holds the room.
    async fn room_lease(&self, room: &RoomId) -> Result<Option<RoomLease>, StoreError>;

    /// Leases the room to `worker` under an epoch higher than any given out before, provided that the lease is still `seen`;
    /// else [`StoreError::LeaseChanged`].
    async fn lease_room(
        &self,
        room: &RoomId,
        seen: Option<&RoomLease>,
        worker: &WorkerId,
    ) -> Result<Epoch, StoreError>;

    /// Ends the room's lease, and what is kept of the room, if `worker` holds it; whether it did. Epochs go on rising afterwards.
    async fn release_room(&self, room: &RoomId, worker: &WorkerId) -> Result<bool, StoreError>;

    /// Changes what is kept of a live room, wholly or not at all: [`StoreError::Fenced`] unless the room is leased under `epoch`,
    /// [`StoreError::OtherVersion`] if what is kept is not of the version before (and the change is not whole). Ready when it can be
    /// read; a store in a file may have it on disk up to a second later.
    async fn write_snapshot(
        &self,
        room: &RoomId,
        epoch: Epoch,
        change: SnapshotChange,
    ) -> Result<(), StoreError>;

    /// All parts of what is kept of a room, in no order; empty if there is nothing.
    async fn read_snapshot(&self, room: &RoomId) -> Result<Vec<SnapshotPart>, StoreError>;

    /// The rooms of which something is kept, with their leases.
    async fn kept_rooms(&self) -> Result<Vec<(RoomId, RoomLease)>, StoreError>;

    /// Removes what has expired from the disk, at most a bounded number per call; how many. A store that does so by itself
    /// has nothing to do.
    async fn sweep(&self) -> Result<usize, StoreError> {
        Ok(0)
    }
}
