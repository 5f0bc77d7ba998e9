//! The rest of the cluster, as the gateway calls it: services and rooms in the store, conference-agents, and the hub of peers.

mod room;

use kaigi_proto::{
    ids::RoomId,
    v1::{Collection, GetRequest, cluster_client::ClusterClient, store_client::StoreClient},
};
use kaigi_room_client::{CLUSTER_TIMEOUT, CallError, PeerHub, Rooms, request, within};
use kaigi_worker::{Channel, Channels};
use serde::Deserialize;

pub(crate) use room::{Lines, RoomError, RoomNews, RoomPlace, RoomWish};

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
    manager: ClusterClient<Channel>,
    store: StoreClient<Channel>,
    pub(crate) rooms: Rooms,
    pub(crate) peers: PeerHub,
    /// This worker, as rooms know it.
    worker_id: String,
}

impl Cluster {
    /// Reaches the cluster through `cluster`, the channel to the cluster-manager.
    pub(crate) fn new(channels: Channels, cluster: Channel, worker_id: String) -> Self {
        Self {
            manager: ClusterClient::new(cluster.clone()),
            store: StoreClient::new(cluster.clone()),
            rooms: Rooms::new(channels, cluster.clone()),
            peers: PeerHub::new(cluster),
            worker_id,
        }
    }

    /// The cluster-manager's client, for registration.
    pub(crate) fn manager(&self) -> ClusterClient<Channel> {
        self.manager.clone()
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
        let value = within(CLUSTER_TIMEOUT, "store.get", call).await?.value;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }
}
