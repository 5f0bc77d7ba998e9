//! The rest of the cluster, as the portal calls it: every call has a deadline and a typed error.

mod agent;
mod analytics;
mod call;
mod data;
mod egress;
mod events;
mod ingest;
mod join;
mod peers;
mod rooms;
mod store;
mod told;
mod turns;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use kaigi_proto::{
    ids::{RoomId, WorkerId},
    v1::{
        LookupRequest, Purpose, ScheduleRequest, Worker, cluster_client::ClusterClient, cluster_event::Event,
        conference_client::ConferenceClient, events_client::EventsClient, peer_rooms_client::PeerRoomsClient,
        store_client::StoreClient,
    },
};
use kaigi_worker::{Channel, Channels, EventPublisher, EventQueue};
use tokio_util::sync::CancellationToken;

pub(crate) use agent::{Located, RoomAgent};
pub(crate) use call::{CallError, request, within};
pub(crate) use join::{Newcomer, Seated, leave_room};
pub(crate) use store::Service;
pub(crate) use told::Events;

/// Longest wait for the cluster-manager.
pub(crate) const CLUSTER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a room to do what it is asked (OWT's default for calls between its parts).
pub(crate) const ROOM_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause before the cluster-manager is asked again to tell who is alive.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// A client of one conference-agent.
pub(crate) type Conference = ConferenceClient<Channel>;

/// The rest of the cluster; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    channels: Channels,
    cluster: ClusterClient<Channel>,
    store: StoreClient<Channel>,
    hub: EventsClient<Channel>,
    peers: PeerRoomsClient<Channel>,
    /// What this portal does, for the services.
    told: EventQueue,
    turns: turns::Turns,
    /// By the ids of agents: cancelled when they are gone.
    lost: Arc<Mutex<HashMap<String, CancellationToken>>>,
    /// Secrets never change while the cluster lives.
    secrets: Arc<RwLock<HashMap<&'static str, Arc<str>>>>,
}

impl Backend {
    /// Reaches the cluster through `cluster`, the channel to the cluster-manager.
    pub(crate) fn new(channels: Channels, cluster: Channel) -> Self {
        Self {
            channels,
            cluster: ClusterClient::new(cluster.clone()),
            hub: EventsClient::new(cluster.clone()),
            peers: PeerRoomsClient::new(cluster.clone()),
            told: EventQueue::default(),
            store: StoreClient::new(cluster),
            turns: turns::Turns::default(),
            lost: Arc::default(),
            secrets: Arc::default(),
        }
    }

    /// The cluster-manager's client, for registration.
    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        self.cluster.clone()
    }

    /// What brings the events of this portal to the hub.
    pub(crate) fn event_publisher(&self, publisher: WorkerId) -> EventPublisher {
        EventPublisher { queue: self.told.clone(), hub: self.hub.clone(), publisher }
    }

    /// All live workers.
    pub(crate) async fn workers(&self, limit: Duration) -> Result<Vec<Worker>, CallError> {
        let request = request(kaigi_proto::v1::ListWorkersRequest {}, limit);
        Ok(within(limit, "cluster.listWorkers", self.cluster.clone().list_workers(request)).await?.workers)
    }

    /// Has a worker hand over what it has, and end.
    pub(crate) async fn drain(&self, worker: &WorkerId) -> Result<(), CallError> {
        let message = kaigi_proto::v1::DrainRequest { worker_id: worker.to_string() };
        let call = async { self.cluster.clone().drain(request(message, CLUSTER_TIMEOUT)).await };
        within(CLUSTER_TIMEOUT, "cluster.drain", call).await.map(|_| ())
    }

    /// How many workers of a purpose could be given something new; at least one.
    pub(crate) async fn can_fit(
        &self,
        purpose: Purpose,
        isp: String,
        region: String,
    ) -> Result<u32, CallError> {
        let message = kaigi_proto::v1::CanFitRequest { purpose: purpose.into(), isp, region };
        let call = async { self.cluster.clone().can_fit(request(message, CLUSTER_TIMEOUT)).await };
        Ok(within(CLUSTER_TIMEOUT, "cluster.canFit", call).await?.workers)
    }

    /// The conference-agent that has the room, or is to have it.
    pub(crate) async fn schedule_room(
        &self,
        room: &RoomId,
        isp: &str,
        region: &str,
    ) -> Result<RoomAgent, CallError> {
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

    /// The conference-agent that has the room; `None` if the room is not running.
    pub(crate) async fn lookup_room(&self, room: &RoomId) -> Result<Option<RoomAgent>, CallError> {
        let give_up = tokio::time::Instant::now() + agent::TAKE_OVER;
        loop {
            match self.locate_room(room).await {
                // It runs, and its next agent is being started.
                Err(CallError::Refused { code: tonic::Code::Unavailable, .. })
                    if tokio::time::Instant::now() < give_up =>
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

    async fn locate_room(&self, room: &RoomId) -> Result<Option<Located>, CallError> {
        let message = LookupRequest { purpose: Purpose::Conference.into(), task: room.to_string() };
        let call = async { self.cluster.clone().lookup(request(message, CLUSTER_TIMEOUT)).await };
        let reply = within(CLUSTER_TIMEOUT, "cluster.lookup", call).await?;
        reply.worker.map(|worker| self.conference(&worker)).transpose()
    }

    /// Forgets the channels to workers that are gone, until `stop` is cancelled: each start of a process brings a new endpoint.
    pub(crate) async fn forget_the_dead(self, stop: CancellationToken) {
        let watch = async || -> Result<(), tonic::Status> {
            let mut events = self.cluster.clone().watch(kaigi_proto::v1::WatchRequest {}).await?.into_inner();
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

    /// A secret of the cluster as hex text, which is how it is used as a key.
    pub(crate) async fn secret(&self, name: &'static str) -> Result<Arc<str>, CallError> {
        if let Some(secret) = self.secrets.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(secret.clone());
        }
        let message = kaigi_proto::v1::SecretRequest { name: name.to_owned() };
        let call = async { self.store.clone().secret(request(message, CLUSTER_TIMEOUT)).await };
        let secret: Arc<str> = hex::encode(within(CLUSTER_TIMEOUT, "store.secret", call).await?.value).into();
        self.secrets.write().unwrap_or_else(PoisonError::into_inner).insert(name, secret.clone());
        Ok(secret)
    }

    fn conference(&self, worker: &Worker) -> Result<Located, CallError> {
        let channel = self.channels.to(&worker.endpoint).map_err(|_| CallError::unreachable("conference"))?;
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = lost.entry(worker.worker_id.clone()).or_default().clone();
        Ok(Located { conference: ConferenceClient::new(channel), lost })
    }
}
