//! Where rooms are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kaigi_proto::{
    ids::RoomId,
    v1::{
        LookupRequest, Purpose, ScheduleRequest, WatchRequest, Worker, cluster_client::ClusterClient,
        cluster_event::Event, conference_client::ConferenceClient,
    },
};
use kaigi_worker::{Channel, Channels};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{CLUSTER_TIMEOUT, CallError, Located, RoomAgent, TAKE_OVER, request, within};

/// Pause before the cluster-manager is asked again to tell who is alive.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// All rooms of the cluster; cheap to clone.
#[derive(Clone, Debug)]
pub struct Rooms {
    channels: Channels,
    cluster: ClusterClient<Channel>,
    /// By the ids of agents: cancelled when they are gone.
    lost: Arc<Mutex<HashMap<String, CancellationToken>>>,
}

impl Rooms {
    /// Rooms that `cluster`, the channel to the cluster-manager, knows of, with agents that are reached by `channels`.
    #[must_use]
    pub fn new(channels: Channels, cluster: Channel) -> Self {
        Self { channels, cluster: ClusterClient::new(cluster), lost: Arc::default() }
    }

    /// The conference-agent that has the room, or is to have it. Nodes of that internet service provider and region are preferred for a room
    /// that is not running; both may be empty.
    ///
    /// # Errors
    /// If the cluster-manager is away, or has no agent for it.
    pub async fn schedule(&self, room: &RoomId, isp: &str, region: &str) -> Result<RoomAgent, CallError> {
        let message = ScheduleRequest {
            purpose: Purpose::Conference.into(),
            task: room.to_string(),
            isp: isp.to_owned(),
            region: region.to_owned(),
        };
        let call = async { self.cluster.clone().schedule(request(message, CLUSTER_TIMEOUT)).await };
        let reply = within(CLUSTER_TIMEOUT, "cluster.schedule", call).await?;
        let located = self.conference(&reply.worker.ok_or_else(|| CallError::unreachable("conference"))?)?;
        Ok(RoomAgent::new(self.clone(), room.clone(), located))
    }

    /// The conference-agent that has the room; `None` if the room is not running. One whose next agent is being started is waited for.
    ///
    /// # Errors
    /// If the cluster-manager is away.
    pub async fn lookup(&self, room: &RoomId) -> Result<Option<RoomAgent>, CallError> {
        let give_up = Instant::now() + TAKE_OVER;
        loop {
            match self.locate(room).await {
                Err(CallError::Refused { code: tonic::Code::Unavailable, .. })
                    if Instant::now() < give_up =>
                {
                    RoomAgent::pause().await;
                }
                located => {
                    let found = located?;
                    return Ok(found.map(|located| RoomAgent::new(self.clone(), room.clone(), located)));
                }
            }
        }
    }

    pub(crate) async fn locate(&self, room: &RoomId) -> Result<Option<Located>, CallError> {
        let message = LookupRequest { purpose: Purpose::Conference.into(), task: room.to_string() };
        let call = async { self.cluster.clone().lookup(request(message, CLUSTER_TIMEOUT)).await };
        let reply = within(CLUSTER_TIMEOUT, "cluster.lookup", call).await?;
        reply.worker.map(|worker| self.conference(&worker)).transpose()
    }

    /// Forgets the channels to workers that are gone, until `stop` is cancelled: each start of a process brings a new endpoint. What waits for
    /// one of them learns it at once.
    pub async fn forget_the_dead(self, stop: CancellationToken) {
        let watch = async || -> Result<(), tonic::Status> {
            let mut events = self.cluster.clone().watch(WatchRequest {}).await?.into_inner();
            while let Some(event) = events.message().await? {
                if let Some(Event::Left(worker)) = event.event {
                    self.channels.forget(&worker.endpoint);
                    let lost =
                        self.lost.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker.worker_id);
                    lost.inspect(CancellationToken::cancel);
                }
            }
            Ok(())
        };
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = async {
                    if let Err(status) = watch().await {
                        tracing::debug!(%status, "the cluster is not watched");
                    }
                    tokio::time::sleep(WATCH_RETRY).await;
                } => {}
            }
        }
    }

    fn conference(&self, worker: &Worker) -> Result<Located, CallError> {
        let channel = self.channels.to(&worker.endpoint).map_err(|_| CallError::unreachable("conference"))?;
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = lost.entry(worker.worker_id.clone()).or_default().clone();
        Ok(Located { conference: ConferenceClient::new(channel), lost })
    }
}
