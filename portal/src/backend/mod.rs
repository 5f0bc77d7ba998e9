//! The rest of the cluster, as the portal calls it: every call has a deadline and a typed error.

mod analytics;
mod data;
mod egress;
mod events;
mod ingest;
mod rooms;
mod store;
mod turns;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use kaigi_proto::{
    ids::WorkerId,
    v1::{
        Purpose, Worker, cluster_client::ClusterClient, events_client::EventsClient,
        store_client::StoreClient,
    },
};
use kaigi_room_client::{PeerHub, Rooms};
use kaigi_worker::{Channel, Channels, EventPublisher, EventQueue};

pub(crate) use kaigi_room_client::{
    CLUSTER_TIMEOUT, CallError, ROOM_TIMEOUT, new_request_id, request, within,
};
pub(crate) use store::Service;

/// The rest of the cluster; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    channels: Channels,
    cluster: ClusterClient<Channel>,
    store: StoreClient<Channel>,
    hub: EventsClient<Channel>,
    /// The rooms.
    pub(crate) rooms: Rooms,
    /// Who sends media to each other.
    pub(crate) peers: PeerHub,
    /// What this portal does, for the services.
    told: EventQueue,
    turns: turns::Turns,
    /// Secrets never change while the cluster lives.
    secrets: Arc<RwLock<HashMap<&'static str, Arc<str>>>>,
}

impl Backend {
    /// Reaches the cluster through `cluster`, the channel to the cluster-manager.
    pub(crate) fn new(channels: Channels, cluster: Channel) -> Self {
        Self {
            cluster: ClusterClient::new(cluster.clone()),
            hub: EventsClient::new(cluster.clone()),
            rooms: Rooms::new(channels.clone(), cluster.clone()),
            channels,
            peers: PeerHub::new(cluster.clone()),
            told: EventQueue::default(),
            store: StoreClient::new(cluster),
            turns: turns::Turns::default(),
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
}
