//! Calls to the worker that they are for.

use std::{sync::Arc, time::Instant};

use kaigi_proto::ids::{RoomId, TransportId};

use super::{Placement, WorkerGone, WorkerHandle};
use crate::node::{Node, NodeError};

/// All workers of the process.
#[derive(Clone, Debug)]
pub struct Workers {
    handles: Arc<[WorkerHandle]>,
    placement: Placement,
}

impl Workers {
    /// Takes them in the order of their numbers.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn new(handles: Vec<WorkerHandle>, placement: Placement) -> Self {
        assert!(!handles.is_empty(), "a process has a worker");
        Self { handles: handles.into(), placement }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &WorkerHandle> {
        self.handles.iter()
    }

    /// Whose a transport is; any for one that is not there, which any will say.
    #[must_use]
    pub fn of(&self, transport: &TransportId) -> &WorkerHandle {
        &self.handles[self.placement.of(transport).unwrap_or(0)]
    }

    /// Has something opened on a transport of a room.
    ///
    /// # Errors
    /// If the worker has ended.
    pub async fn open<R: Send + 'static>(
        &self,
        room: &RoomId,
        transport: &TransportId,
        job: impl FnOnce(&mut Node, Instant) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        let opening = self.placement.open(room, transport);
        let (worker, transport) = (&self.handles[opening.worker], transport.clone());
        let job = move |node: &mut Node, now| {
            let result = job(node, now);
            if node.has_transport(&transport) {
                opening.done(&transport);
            }
            result
        };
        worker.call(job).await
    }

    /// Has a job done by the worker that has what it is about; the others answer `missing`.
    ///
    /// # Errors
    /// If a worker has ended.
    pub async fn find<R: Send + 'static>(
        &self,
        missing: NodeError,
        job: impl FnOnce(&mut Node, Instant) -> Result<R, NodeError> + Clone + Send + 'static,
    ) -> Result<Result<R, NodeError>, WorkerGone> {
        for worker in self.iter() {
            match worker.call(job.clone()).await? {
                Err(error) if error == missing => {}
                found => return Ok(found),
            }
        }
        Ok(Err(missing))
    }

    /// Has a job done by all.
    ///
    /// # Errors
    /// If a worker has ended.
    pub async fn all(
        &self,
        job: impl FnOnce(&mut Node, Instant) + Clone + Send + 'static,
    ) -> Result<(), WorkerGone> {
        for worker in self.iter() {
            worker.call(job.clone()).await?;
        }
        Ok(())
    }
}
