//! The rest of the cluster, as the gateway calls it: services and rooms in the store, conference-agents, and the hub of peers.

mod call;
mod hub;
mod room;

use std::time::Duration;

use kaigi_proto::{
    ids::RoomId,
    v1::{
        Collection, GetRequest, LookupRequest, Purpose, ScheduleRequest, Worker,
        cluster_client::ClusterClient, conference_client::ConferenceClient,
        peer_rooms_client::PeerRoomsClient, store_client::StoreClient,
    },
};
use kaigi_worker::{Channel, Channels};
use serde::Deserialize;

pub(crate) use call::CallError;
use call::{request, within};
pub(crate) use hub::{HubNews, Seat};
pub(crate) use room::{Lines, RoomError, RoomNews, RoomPlace, RoomWish};

/// Longest wait for the cluster-manager.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(2);

/// A tenant of the management API, as far as it concerns peers.
#[derive(Clone, Deserialize)]
pub(crate) struct Service {
    pub(crate) id: String,
    /// What credentials are signed with.
    pub(crate) key: String,
    /// Whether it may be in the rooms of all services.
    #[serde(default, rename = "super")]
    pub(crate) is_super: bool,
}

/// Without the key.
impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What has to be known of a room document.
#[derive(Debug, Deserialize)]
struct RoomOwner {
    service: String,
}

/// The cluster; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    channels: Channels,
    cluster: ClusterClient<Channel>,
    store: StoreClient<Channel>,
    peers: PeerRoomsClient<Channel>,
    /// This worker, as rooms know it.
    worker_id: String,
}

impl Cluster {
    /// Reaches the cluster through `cluster`, the channel to the cluster-manager.
    pub(crate) fn new(channels: Channels, cluster: Channel, worker_id: String) -> Self {
        Self {
            channels,
            cluster: ClusterClient::new(cluster.clone()),
            store: StoreClient::new(cluster.clone()),
            peers: PeerRoomsClient::new(cluster),
            worker_id,
        }
    }

    /// The cluster-manager's client, for registration.
    pub(crate) fn manager(&self) -> ClusterClient<Channel> {
        self.cluster.clone()
    }

    /// The service of that id.
    pub(crate) async fn service(&self, id: &str) -> Result<Option<Service>, CallError> {
        self.document(Collection::Services, id).await
    }

    /// Whether there is such a room that the service may be in.
    pub(crate) async fn has_room(&self, service: &Service, room: &RoomId) -> Result<bool, CallError> {
        let found: Option<RoomOwner> = self.document(Collection::Rooms, room.as_str()).await?;
        Ok(found.is_some_and(|room| service.is_super || room.service == service.id))
    }

    async fn document<T: serde::de::DeserializeOwned>(
        &self,
        collection: Collection,
        key: &str,
    ) -> Result<Option<T>, CallError> {
        let message = GetRequest { collection: collection.into(), key: key.to_owned() };
        let call = async { self.store.clone().get(request(message, CLUSTER_TIMEOUT)).await };
        let value = within(CLUSTER_TIMEOUT, call).await?.value;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// The agent that has the room, or is to have it.
    async fn schedule_room(&self, room: &RoomId) -> Result<ConferenceClient<Channel>, CallError> {
        let message = ScheduleRequest {
            purpose: Purpose::Conference.into(),
            task: room.to_string(),
            ..ScheduleRequest::default()
        };
        let call = async { self.cluster.clone().schedule(request(message, CLUSTER_TIMEOUT)).await };
        self.agent(within(CLUSTER_TIMEOUT, call).await?.worker)
    }

    /// The agent that has the room now.
    async fn find_room(&self, room: &RoomId) -> Result<ConferenceClient<Channel>, CallError> {
        let message = LookupRequest { purpose: Purpose::Conference.into(), task: room.to_string() };
        let call = async { self.cluster.clone().lookup(request(message, CLUSTER_TIMEOUT)).await };
        self.agent(within(CLUSTER_TIMEOUT, call).await?.worker)
    }

    fn agent(&self, worker: Option<Worker>) -> Result<ConferenceClient<Channel>, CallError> {
        let worker = worker.ok_or(CallError::Unreachable)?;
        let channel = self.channels.to(&worker.endpoint).map_err(|_| CallError::Unreachable)?;
        Ok(ConferenceClient::new(channel))
    }
}
