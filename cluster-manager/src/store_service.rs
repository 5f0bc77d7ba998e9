//! The gRPC service Store.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use kaigi_proto::{
    ids::{RoomId, WorkerId},
    v1::{self, store_server::Store as StoreRpc},
};
use tonic::{Request, Response, Status};

use crate::{
    cluster_service::worker_id,
    hub::Hub,
    registry::{Liveness, Purpose, TaskId},
    store::{
        Collection, Document, Epoch, Key, KeyError, PutMode, Query, SecretName, SnapshotChange, SnapshotPart,
        Store, StoreError,
    },
};

/// Largest document in bytes; the snapshot of a room with hundreds of participants stays below.
const MAX_VALUE: usize = 3 << 20;
/// Largest message to this service: a document, what it is to be written over, and some names.
pub(crate) const MAX_MESSAGE: usize = 2 * MAX_VALUE + (64 << 10);
/// Most bytes of the parts in a page of a snapshot, unless one alone is larger.
const PAGE_BYTES: usize = 1 << 20;
/// Most entries of a page, whatever is asked for.
const MAX_LIMIT: usize = 10_000;
/// Longest prefix in bytes; no key is longer.
const MAX_PREFIX: usize = 256;
/// Attempts to take a lease that others take meanwhile. Each failure means that another agent succeeded.
const LEASE_ATTEMPTS: usize = 5;
/// Holder of the leases of rooms that were handed over and not taken yet. No worker registers under it.
const NOBODY: &str = "nobody";

/// See the module's description.
#[derive(Clone)]
pub(crate) struct StoreService {
    hub: Hub,
    store: Arc<dyn Store>,
}

impl StoreService {
    pub(crate) fn new(hub: Hub, store: Arc<dyn Store>) -> Self {
        Self { hub, store }
    }

    async fn acquire(&self, room: &RoomId, worker: &WorkerId) -> Result<u64, Status> {
        for _ in 0..LEASE_ATTEMPTS {
            if self.hub.liveness(worker) == Liveness::Gone {
                return Err(Status::unavailable("an agent has to be registered before it takes a room"));
            }
            let lease = self.store.room_lease(room).await?;
            if let Some(lease) = lease.as_ref().filter(|lease| lease.holder != *worker)
                && self.hub.settled_liveness(&lease.holder).await == Liveness::Alive
            {
                self.placed(room, &lease.holder);
                return Err(Status::failed_precondition(format!("the room is held by {}", lease.holder)));
            }
            match self.store.lease_room(room, lease.as_ref(), worker).await {
                Ok(epoch) => {
                    self.placed(room, worker);
                    tracing::info!(%room, %worker, epoch = epoch.0, "room leased");
                    return Ok(epoch.0);
                }
                Err(StoreError::LeaseChanged) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Status::aborted("the room's lease changes hands too fast"))
    }

    /// Leases the room to nobody, so that what is kept of it stays and whoever asks next gets it.
    async fn hand_over(&self, room: &RoomId, worker: &WorkerId) -> Result<(), Status> {
        let nobody = worker_id(NOBODY)?;
        let held = self.store.room_lease(room).await?.filter(|lease| lease.holder == *worker);
        if let Some(lease) = held {
            match self.store.lease_room(room, Some(&lease), &nobody).await {
                Ok(epoch) => tracing::info!(%room, %worker, epoch = epoch.0, "room handed over"),
                // It is somebody else's already.
                Err(StoreError::LeaseChanged) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Ok(task) = TaskId::new(room.as_str())
            && self.hub.lookup(Purpose::Conference, &task).is_some_and(|placed| placed.id == *worker)
        {
            self.hub.release(Purpose::Conference, &task);
        }
        Ok(())
    }

    /// The holder of the lease has the room, whatever was scheduled.
    fn placed(&self, room: &RoomId, worker: &WorkerId) {
        if let Ok(task) = TaskId::new(room.as_str()) {
            // A worker that is gone by now has no tasks.
            let _ = self.hub.place(&task, worker);
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::AlreadyExists => Self::already_exists(text),
            StoreError::Changed | StoreError::LeaseChanged | StoreError::OtherVersion => Self::aborted(text),
            StoreError::Fenced => Self::failed_precondition(text),
            StoreError::Unreadable => Self::data_loss(text),
            StoreError::Full(_) => Self::resource_exhausted(text),
            StoreError::Failed(_) | StoreError::Deposed => Self::unavailable(text),
        }
    }
}

impl From<KeyError> for Status {
    fn from(error: KeyError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

fn collection(number: i32) -> Result<Collection, Status> {
    Collection::from_wire(number)
        .ok_or_else(|| Status::invalid_argument(format!("{number} is no collection")))
}

fn room_id(text: &str) -> Result<RoomId, Status> {
    RoomId::new(text).map_err(|e| Status::invalid_argument(e.to_string()))
}

#[tonic::async_trait]
impl StoreRpc for StoreService {
    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::PutReply>, Status> {
        let put = request.into_inner();
        if put.value.len() > MAX_VALUE {
            return Err(Status::invalid_argument(format!("a document may have {MAX_VALUE} bytes at most")));
        }
        let ttl = (put.ttl_ms > 0).then(|| Duration::from_millis(put.ttl_ms));
        let mode = match (put.create_only, put.expected) {
            (true, Some(_)) => {
                return Err(Status::invalid_argument(
                    "a document that is to be created can't be expected to be there",
                ));
            }
            (true, None) => PutMode::Create,
            (false, Some(expected)) => PutMode::Swap(expected),
            (false, None) => PutMode::Replace,
        };
        self.store.put(collection(put.collection)?, &Key::new(&put.key)?, put.value, ttl, mode).await?;
        Ok(Response::new(v1::PutReply {}))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        let asked = request.into_inner();
        let value = self.store.get(collection(asked.collection)?, &Key::new(&asked.key)?).await?;
        Ok(Response::new(v1::GetReply { value }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        let asked = request.into_inner();
        let collection = collection(asked.collection)?;
        if asked.prefix.len() > MAX_PREFIX {
            return Err(Status::invalid_argument(format!("a prefix may have {MAX_PREFIX} bytes at most")));
        }
        let limit = match asked.limit {
            0 => Query::LIMIT,
            limit => usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT),
        };
        let after = if asked.after.is_empty() { None } else { Some(Key::new(&asked.after)?) };
        let mut query = Query { after, prefix: asked.prefix, limit, ..Query::default() };
        loop {
            let page = self.store.page(collection, &query).await?;
            for key in &page.unreadable {
                tracing::warn!(?collection, key = key.as_str(), "a document is left out: it can't be read");
            }
            query.after = page.next;
            // Without an entry the caller would not know where to go on.
            if page.documents.is_empty() && query.after.is_some() {
                continue;
            }
            let entry =
                |d: Document| v1::list_reply::Entry { key: d.key.as_str().to_owned(), value: d.value };
            let entries = page.documents.into_iter().map(entry).collect();
            return Ok(Response::new(v1::ListReply { entries, more: query.after.is_some() }));
        }
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteReply>, Status> {
        let asked = request.into_inner();
        let existed = self.store.delete(collection(asked.collection)?, &Key::new(&asked.key)?).await?;
        Ok(Response::new(v1::DeleteReply { existed }))
    }

    async fn take(&self, request: Request<v1::TakeRequest>) -> Result<Response<v1::TakeReply>, Status> {
        let asked = request.into_inner();
        let value = self.store.take(collection(asked.collection)?, &Key::new(&asked.key)?).await?;
        Ok(Response::new(v1::TakeReply { value }))
    }

    async fn secret(&self, request: Request<v1::SecretRequest>) -> Result<Response<v1::SecretReply>, Status> {
        let secret = self.store.secret(&SecretName::new(&request.into_inner().name)?).await?;
        Ok(Response::new(v1::SecretReply { value: secret.into_bytes() }))
    }

    async fn acquire_room(
        &self,
        request: Request<v1::AcquireRoomRequest>,
    ) -> Result<Response<v1::AcquireRoomReply>, Status> {
        let asked = request.into_inner();
        let epoch = self.acquire(&room_id(&asked.room_id)?, &worker_id(&asked.worker_id)?).await?;
        Ok(Response::new(v1::AcquireRoomReply { epoch }))
    }

    async fn release_room(
        &self,
        request: Request<v1::ReleaseRoomRequest>,
    ) -> Result<Response<v1::ReleaseRoomReply>, Status> {
        let asked = request.into_inner();
        let (room, worker) = (room_id(&asked.room_id)?, worker_id(&asked.worker_id)?);
        if asked.hand_over {
            self.hand_over(&room, &worker).await?;
        } else if self.store.release_room(&room, &worker).await? {
            tracing::info!(%room, %worker, "room released");
        }
        Ok(Response::new(v1::ReleaseRoomReply {}))
    }

    async fn write_snapshot(
        &self,
        request: Request<v1::WriteSnapshotRequest>,
    ) -> Result<Response<v1::WriteSnapshotReply>, Status> {
        let write = request.into_inner();
        let room = room_id(&write.room_id)?;
        let part = |part: v1::SnapshotPart| Ok(SnapshotPart { key: Key::new(&part.key)?, value: part.value });
        let change = SnapshotChange {
            version: write.version,
            whole: write.whole,
            parts: write.parts.into_iter().map(part).collect::<Result<_, KeyError>>()?,
            removed: write.removed.iter().map(|key| Key::new(key)).collect::<Result<_, _>>()?,
        };
        self.store.write_snapshot(&room, Epoch(write.epoch), change).await?;
        Ok(Response::new(v1::WriteSnapshotReply {}))
    }

    type ReadSnapshotStream = Pin<Box<dyn Stream<Item = Result<v1::SnapshotPage, Status>> + Send>>;

    async fn read_snapshot(
        &self,
        request: Request<v1::ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        let room = room_id(&request.into_inner().room_id)?;
        let (mut pages, mut bytes) = (vec![v1::SnapshotPage::default()], 0);
        for SnapshotPart { key, value } in self.store.read_snapshot(&room).await? {
            bytes += Document::cost(key.as_str().len(), value.len());
            if bytes > PAGE_BYTES {
                pages.push(v1::SnapshotPage::default());
                bytes = 0;
            }
            let part = v1::SnapshotPart { key: key.as_str().to_owned(), value };
            pages.last_mut().into_iter().for_each(|page| page.parts.push(part.clone()));
        }
        Ok(Response::new(Box::pin(stream::iter(pages.into_iter().map(Ok)))))
    }

    async fn list_orphans(
        &self,
        _request: Request<v1::ListOrphansRequest>,
    ) -> Result<Response<v1::ListOrphansReply>, Status> {
        let mut room_ids = Vec::new();
        for (room, lease) in self.store.kept_rooms().await? {
            if self.hub.settled_liveness(&lease.holder).await == Liveness::Gone {
                room_ids.push(room.to_string());
            }
        }
        Ok(Response::new(v1::ListOrphansReply { room_ids }))
    }
}
