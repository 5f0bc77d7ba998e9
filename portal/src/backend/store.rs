//! Documents in the store: services, rooms, tokens.

use kaigi_proto::{
    ids::{RoomId, ServiceId},
    v1::{Collection, DeleteRequest, GetRequest, ListRequest, PutRequest, TakeRequest},
};
use kaigi_room_config::RoomConfig;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tonic::Code;

use super::{Backend, CLUSTER_TIMEOUT, CallError, request, within};
use crate::token::{TOKEN_KEPT_MS, TokenRecord};

/// A tenant of the management API.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Service {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    /// What its requests are signed with, as text.
    pub(crate) key: String,
    /// What its JSON Web Tokens are checked with besides the key: an Ed25519 public key (PEM).
    #[serde(default, rename = "publicKey", skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<String>,
    /// Sees the rooms of all services, and the services.
    #[serde(default, rename = "super")]
    pub(crate) is_super: bool,
}

/// Without the key.
impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Backend {
    /// All services, in the order of their ids.
    pub(crate) async fn services(&self) -> Result<Vec<Service>, CallError> {
        self.all(Collection::Services).await
    }

    /// Stores a service, new or changed.
    pub(crate) async fn put_service(&self, service: &Service, create: bool) -> Result<(), CallError> {
        self.put(PutRequest {
            collection: Collection::Services.into(),
            key: service.id.clone(),
            value: document(service)?,
            ttl_ms: 0,
            create_only: create,
            expected: None,
        })
        .await
    }

    /// Whether there was such a service to delete.
    pub(crate) async fn delete_service(&self, id: &ServiceId) -> Result<bool, CallError> {
        self.delete(Collection::Services, id.as_str()).await
    }

    /// The service of that id.
    pub(crate) async fn service(&self, id: &ServiceId) -> Result<Option<Service>, CallError> {
        self.get(Collection::Services, id.as_str()).await
    }

    /// The room of that id.
    pub(crate) async fn room(&self, id: &RoomId) -> Result<Option<RoomConfig>, CallError> {
        self.get(Collection::Rooms, id.as_str()).await
    }

    /// All rooms, in the order of their ids. Documents that can't be read are left out.
    pub(crate) async fn rooms(&self) -> Result<Vec<RoomConfig>, CallError> {
        self.all(Collection::Rooms).await
    }

    /// Stores a room, new or changed.
    pub(crate) async fn put_room(&self, room: &RoomConfig, create: bool) -> Result<(), CallError> {
        self.put(PutRequest {
            collection: Collection::Rooms.into(),
            key: room.id.clone(),
            value: document(room)?,
            ttl_ms: 0,
            create_only: create,
            expected: None,
        })
        .await
    }

    /// Whether there was such a room to delete.
    pub(crate) async fn delete_room(&self, id: &RoomId) -> Result<bool, CallError> {
        self.delete(Collection::Rooms, id.as_str()).await
    }

    /// Stores a new token's record.
    pub(crate) async fn put_token(&self, id: &str, record: &TokenRecord) -> Result<(), CallError> {
        self.put(PutRequest {
            collection: Collection::Tokens.into(),
            key: id.to_owned(),
            value: document(record)?,
            ttl_ms: TOKEN_KEPT_MS,
            create_only: true,
            expected: None,
        })
        .await
    }

    /// Takes a token's record out: it is had once.
    pub(crate) async fn take_token(&self, id: &str) -> Result<Option<TokenRecord>, CallError> {
        let message = TakeRequest { collection: Collection::Tokens.into(), key: id.to_owned() };
        let call = async { self.store.clone().take(request(message, CLUSTER_TIMEOUT)).await };
        let value = within(CLUSTER_TIMEOUT, "store.take", call).await?.value;
        Ok(value.and_then(|value| read(id, &value)))
    }

    /// Uses something that is good once, which is remembered for `kept_ms`. Whether this was the first use.
    pub(crate) async fn use_once(&self, key: String, kept_ms: u64) -> Result<bool, CallError> {
        let message = PutRequest {
            collection: Collection::Nonces.into(),
            key,
            value: Vec::new(),
            ttl_ms: kept_ms.max(1),
            create_only: true,
            expected: None,
        };
        match self.put(message).await {
            Ok(()) => Ok(true),
            Err(CallError::Refused { code: Code::AlreadyExists, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A whole collection, in the order of its keys. Documents that can't be read are left out.
    async fn all<T: DeserializeOwned>(&self, collection: Collection) -> Result<Vec<T>, CallError> {
        let message = ListRequest { collection: collection.into(), ..ListRequest::default() };
        let call = async { self.store.clone().list(request(message, CLUSTER_TIMEOUT)).await };
        let entries = within(CLUSTER_TIMEOUT, "store.list", call).await?.entries;
        Ok(entries.iter().filter_map(|entry| read(&entry.key, &entry.value)).collect())
    }

    async fn delete(&self, collection: Collection, key: &str) -> Result<bool, CallError> {
        let message = DeleteRequest { collection: collection.into(), key: key.to_owned() };
        let call = async { self.store.clone().delete(request(message, CLUSTER_TIMEOUT)).await };
        Ok(within(CLUSTER_TIMEOUT, "store.delete", call).await?.existed)
    }

    async fn put(&self, message: PutRequest) -> Result<(), CallError> {
        let call = async { self.store.clone().put(request(message, CLUSTER_TIMEOUT)).await };
        within(CLUSTER_TIMEOUT, "store.put", call).await.map(|_| ())
    }

    async fn get<T: DeserializeOwned>(
        &self,
        collection: Collection,
        key: &str,
    ) -> Result<Option<T>, CallError> {
        let message = GetRequest { collection: collection.into(), key: key.to_owned() };
        let call = async { self.store.clone().get(request(message, CLUSTER_TIMEOUT)).await };
        let value = within(CLUSTER_TIMEOUT, "store.get", call).await?.value;
        Ok(value.and_then(|value| read(key, &value)))
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Option<T> {
    serde_json::from_slice(value)
        .inspect_err(|error| tracing::warn!(key, %error, "a stored document can't be read"))
        .ok()
}

fn document(value: &impl serde::Serialize) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(value).map_err(|e| CallError::Refused { code: Code::Internal, message: e.to_string() })
}
