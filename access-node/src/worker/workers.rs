//! Calls to the worker that they are for.

use std::{sync::Arc, time::Instant};

use kaigi_proto::ids::{RoomId, TransportId, WorkerId};

use super::{Placement, WorkerGone, WorkerHandle};
use crate::node::{Node, NodeError, Opened};

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
    /// If a worker has ended.
    pub async fn open<R: Send + 'static>(
        &self,
        opened: &Opened,
        job: impl FnOnce(&mut Node, Instant) -> Result<R, NodeError> + Send + 'static,
    ) -> Result<Result<R, NodeError>, WorkerGone> {
        let mut opening = match self.placement.open(opened) {
            Ok(opening) => opening,
            Err(error) => return Ok(Err(error)),
        };
        for worker in std::mem::take(&mut opening.unaware) {
            let (room, agent, epoch) = (opened.room.clone(), opened.agent.clone(), opened.epoch);
            self.handles[worker].call(move |node, _| node.serve(&room, &agent, epoch)).await?;
        }
        let (worker, transport) = (&self.handles[opening.worker], opened.transport.clone());
        let job = move |node: &mut Node, now| {
            let result = job(node, now);
            if node.has_transport(&transport) {
                opening.done();
            }
            result
        };
        worker.call(job).await
    }

    /// A room is that agent's from now on, and has these transports and no others. Gives those of them that are there.
    ///
    /// # Errors
    /// If a worker has ended.
    pub async fn adopt_room(
        &self,
        room: &RoomId,
        agent: &WorkerId,
        epoch: u64,
        named: Vec<TransportId>,
    ) -> Result<Result<Vec<TransportId>, NodeError>, WorkerGone> {
        if let Err(error) = self.placement.adopt(room, agent, epoch) {
            return Ok(Err(error));
        }
        let mut there = Vec::new();
        for worker in self.iter() {
            let (room, agent, named) = (room.clone(), agent.clone(), named.clone());
            let adopt = move |node: &mut Node, now| node.adopt_room(now, &room, &agent, epoch, &named);
            match worker.call(adopt).await? {
                Ok(here) => there.extend(here),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(there))
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
