//! The gRPC service Cluster.

use std::{
    pin::Pin,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::{Stream, StreamExt, stream};
use kaigi_proto::{
    ids::{RoomId, WorkerId},
    v1::{self, cluster_event, cluster_server::Cluster},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    hub::{Hub, Watch},
    registry::{
        Event, InvalidInput, Liveness, Load, Measured, Preference, Purpose, ScheduleError, TaskId, Worker,
        parse_resources,
    },
    store::Store,
};

/// Most tasks in one heartbeat, far above what one worker can serve.
const MAX_REPORTED_TASKS: usize = 20_000;

/// See the module's description.
#[derive(Clone)]
pub(crate) struct ClusterService {
    hub: Hub,
    store: Arc<dyn Store>,
}

impl ClusterService {
    pub(crate) fn new(hub: Hub, store: Arc<dyn Store>) -> Self {
        Self { hub, store }
    }

    /// Where a room is, of which nobody has told this process yet: at the living holder of its lease. Only after a restart of the
    /// cluster-manager, and for a new room, does the store have to be asked.
    async fn room_at(&self, task: &TaskId) -> Result<Option<Worker>, Status> {
        if let Some(worker) = self.hub.lookup(Purpose::Conference, task) {
            return Ok(Some(worker));
        }
        let Ok(room) = RoomId::new(task.as_str()) else { return Ok(None) };
        let Some(lease) = self.store.room_lease(&room).await? else { return Ok(None) };
        match self.hub.settled_liveness(&lease.holder).await {
            Liveness::Alive => {
                // It may have gone in this very moment; then the caller's next step finds nobody.
                let _ = self.hub.place(task, &lease.holder);
                Ok(self.hub.lookup(Purpose::Conference, task))
            }
            Liveness::Unheard | Liveness::Gone => Ok(None),
        }
    }

    /// A room that was to begin at an agent which drains by now, and has not, begins elsewhere.
    async fn leave_draining(&self, task: &TaskId) -> Result<(), Status> {
        let Some(worker) = self.hub.lookup(Purpose::Conference, task).filter(|worker| worker.draining) else {
            return Ok(());
        };
        let Ok(room) = RoomId::new(task.as_str()) else { return Ok(()) };
        if self.store.room_lease(&room).await?.is_none_or(|lease| lease.holder != worker.id) {
            self.hub.release(Purpose::Conference, task);
        }
        Ok(())
    }

    /// A room that ran when its agent died goes on at another, which finds out what it was.
    async fn successor_for(&self, task: &TaskId) -> Result<Option<Worker>, Status> {
        let Ok(room) = RoomId::new(task.as_str()) else { return Ok(None) };
        let is_leased = self.store.room_lease(&room).await?.is_some();
        if is_leased && self.store.kept_rooms().await?.iter().any(|(kept, _)| *kept == room) {
            return Ok(Some(
                self.hub.schedule_when_heard(Purpose::Conference, task, &Preference::default()).await?,
            ));
        }
        Ok(None)
    }
}

impl From<InvalidInput> for Status {
    fn from(error: InvalidInput) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<ScheduleError> for Status {
    fn from(error: ScheduleError) -> Self {
        let text = error.to_string();
        match error {
            ScheduleError::AllFull => Self::resource_exhausted(text),
            ScheduleError::NoMatch => Self::failed_precondition(text),
            ScheduleError::NoneAlive(_) => Self::unavailable(text),
        }
    }
}

pub(crate) fn worker_id(text: &str) -> Result<WorkerId, Status> {
    WorkerId::new(text).map_err(|e| InvalidInput::from(e).into())
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn event(event: Event) -> v1::ClusterEvent {
    let event = match event {
        Event::Joined(worker) => cluster_event::Event::Joined(worker.into()),
        Event::Left(worker) => cluster_event::Event::Left(worker.into()),
    };
    v1::ClusterEvent { event: Some(event) }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        let worker = request.into_inner().worker.ok_or(InvalidInput::NoWorker)?;
        let worker = Worker { registered_ms: unix_ms(), ..Worker::try_from(worker)? };
        self.hub.register(worker).map_err(|e| Status::resource_exhausted(e.to_string()))?;
        let lease_ms = u32::try_from(self.hub.lease().as_millis()).unwrap_or(u32::MAX);
        Ok(Response::new(v1::RegisterReply { lease_ms }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatReply>, Status> {
        let beat = request.into_inner();
        if beat.tasks.len() > MAX_REPORTED_TASKS {
            return Err(InvalidInput::TooMany("tasks").into());
        }
        let tasks: Vec<TaskId> = beat.tasks.iter().map(|task| TaskId::new(task)).collect::<Result<_, _>>()?;
        let worker = worker_id(&beat.worker_id)?;
        let measured = Measured { load: Load::new(beat.load)?, resources: parse_resources(&beat.resources)? };
        self.hub.heartbeat(&worker, measured, &tasks).map_err(|e| Status::not_found(e.to_string()))?;
        Ok(Response::new(v1::HeartbeatReply { drain: self.hub.is_draining(&worker) }))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainReply>, Status> {
        let worker = worker_id(&request.into_inner().worker_id)?;
        self.hub.drain(&worker).map_err(|e| Status::not_found(e.to_string()))?;
        Ok(Response::new(v1::DrainReply {}))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveReply>, Status> {
        self.hub.leave(&worker_id(&request.into_inner().worker_id)?);
        Ok(Response::new(v1::LeaveReply {}))
    }

    async fn schedule(
        &self,
        request: Request<v1::ScheduleRequest>,
    ) -> Result<Response<v1::ScheduleReply>, Status> {
        let asked = request.into_inner();
        let purpose = Purpose::try_from(asked.purpose)?;
        let task = TaskId::new(&asked.task)?;
        if purpose == Purpose::Conference {
            self.leave_draining(&task).await?;
            self.room_at(&task).await?;
        }
        let preference = Preference { isp: asked.isp, region: asked.region };
        let outcome = self.hub.schedule_when_heard(purpose, &task, &preference).await;
        let label = match &outcome {
            Ok(_) => "placed",
            Err(ScheduleError::AllFull) => "all_full",
            Err(ScheduleError::NoMatch) => "no_match",
            Err(ScheduleError::NoneAlive(_)) => "none_alive",
        };
        metrics::counter!("kaigi_cluster_schedules_total", "purpose" => purpose.name(), "outcome" => label)
            .increment(1);
        let worker = outcome.inspect_err(|error| {
            tracing::warn!(purpose = purpose.name(), task = task.as_str(), %error, "not scheduled");
        })?;
        tracing::debug!(purpose = purpose.name(), task = task.as_str(), worker = %worker.id, "scheduled");
        Ok(Response::new(v1::ScheduleReply { worker: Some(worker.into()) }))
    }

    async fn can_fit(
        &self,
        request: Request<v1::CanFitRequest>,
    ) -> Result<Response<v1::CanFitReply>, Status> {
        let asked = request.into_inner();
        let preference = Preference { isp: asked.isp, region: asked.region };
        let workers = self.hub.can_fit(Purpose::try_from(asked.purpose)?, &preference)?;
        Ok(Response::new(v1::CanFitReply { workers: u32::try_from(workers).unwrap_or(u32::MAX) }))
    }

    async fn lookup(&self, request: Request<v1::LookupRequest>) -> Result<Response<v1::LookupReply>, Status> {
        let asked = request.into_inner();
        let purpose = Purpose::try_from(asked.purpose)?;
        let task = TaskId::new(&asked.task)?;
        let worker = match purpose {
            Purpose::Conference => match self.room_at(&task).await? {
                Some(worker) => Some(worker),
                None => self.successor_for(&task).await?,
            },
            Purpose::Portal | Purpose::Access | Purpose::Mixer | Purpose::Streaming | Purpose::Gateway => {
                self.hub.lookup(purpose, &task)
            }
        };
        Ok(Response::new(v1::LookupReply { worker: worker.map(Into::into) }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseReply>, Status> {
        let asked = request.into_inner();
        self.hub.release(Purpose::try_from(asked.purpose)?, &TaskId::new(&asked.task)?);
        Ok(Response::new(v1::ReleaseReply {}))
    }

    async fn list_workers(
        &self,
        _request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersReply>, Status> {
        let told = |(worker, tasks): (Worker, usize)| v1::Worker {
            tasks: u32::try_from(tasks).unwrap_or(u32::MAX),
            ..worker.into()
        };
        let workers = self.hub.workers().into_iter().map(told).collect();
        Ok(Response::new(v1::ListWorkersReply { workers }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::ClusterEvent, Status>> + Send>>;

    async fn watch(
        &self,
        _request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let Watch { alive, changes } =
            self.hub.watch().map_err(|e| Status::resource_exhausted(e.to_string()))?;
        let end = Status::unavailable("the watch has ended; open a new one");
        let events = stream::iter(alive)
            .map(Event::Joined)
            .chain(ReceiverStream::new(changes))
            .map(|e| Ok(event(e)))
            .chain(stream::iter([Err(end)]));
        Ok(Response::new(Box::pin(events)))
    }
}
