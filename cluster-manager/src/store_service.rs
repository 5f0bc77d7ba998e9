//! The gRPC service Store.

use std::{sync::Arc, time::Duration};

use kaigi_proto::{
    ids::{RoomId, WorkerId},
    v1::{self, store_server::Store as StoreRpc},
};
use tonic::{Request, Response, Status};

use crate::{
    cluster_service::worker_id,
    hub::Hub,
    registry::{Liveness, TaskId},
    store::{Collection, Key, KeyError, PutMode, SecretName, Store, StoreError},
};

/// Largest document in bytes; the snapshot of a room with hundreds of participants stays below.
const MAX_VALUE: usize = 3 << 20;
/// Documents read from the store at a time for one list.
const LIST_PAGE: usize = 1_000;
/// Most bytes of keys and values in one list, which bounds this process's memory per call.
const MAX_LIST: usize = 64 << 20;
/// Attempts to take a lease that others take meanwhile. Each failure means that another agent succeeded.
const LEASE_ATTEMPTS: usize = 5;

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
            StoreError::LeaseChanged => Self::aborted(text),
            StoreError::Full(_) => Self::resource_exhausted(text),
            StoreError::Failed(_) => Self::unavailable(text),
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
        let mode = if put.create_only { PutMode::Create } else { PutMode::Replace };
        self.store.put(collection(put.collection)?, &Key::new(&put.key)?, put.value, ttl, mode).await?;
        Ok(Response::new(v1::PutReply {}))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        let asked = request.into_inner();
        let value = self.store.get(collection(asked.collection)?, &Key::new(&asked.key)?).await?;
        Ok(Response::new(v1::GetReply { value }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        let collection = collection(request.into_inner().collection)?;
        let (mut entries, mut bytes, mut after) = (Vec::new(), 0, None::<Key>);
        loop {
            let page = self.store.list(collection, after.as_ref(), LIST_PAGE).await?;
            let is_last = page.len() < LIST_PAGE;
            after = page.last().map(|document| document.key.clone());
            bytes += page.iter().map(|d| d.key.as_str().len() + d.value.len()).sum::<usize>();
            if bytes > MAX_LIST {
                return Err(Status::resource_exhausted("the collection is too large to be listed"));
            }
            entries.extend(
                page.into_iter()
                    .map(|d| v1::list_reply::Entry { key: d.key.as_str().to_owned(), value: d.value }),
            );
            if is_last {
                return Ok(Response::new(v1::ListReply { entries, more: false }));
            }
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
        if self.store.release_room(&room, &worker).await? {
            tracing::info!(%room, %worker, "room released");
        }
        Ok(Response::new(v1::ReleaseRoomReply {}))
    }
}
