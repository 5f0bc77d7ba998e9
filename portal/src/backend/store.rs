//! Documents in the store: services, rooms, tokens.

use std::{ops::ControlFlow, time::Duration};

use kaigi_proto::{
    ids::{RoomId, ServiceId},
    v1::{Collection, DeleteRequest, GetRequest, ListRequest, PutRequest, TakeRequest},
};
use kaigi_room_config::RoomConfig;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tonic::Code;

use super::{Backend, CLUSTER_TIMEOUT, CallError, request, within};
use crate::token::{TOKEN_KEPT_MS, TokenRecord};

/// Longest wait for those of this portal who change the same document.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts to change a document that other portals change meanwhile. Each failure means that one of them succeeded.
const ATTEMPTS: u32 = 20;
/// Longest pause between two of them, in milliseconds. They begin with one and double, each at random below that.
const MAX_PAUSE_MS: u64 = 64;

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
        self.all(Collection::Services, "").await
    }

    /// Stores a new service.
    pub(crate) async fn create_service(&self, service: &Service) -> Result<(), CallError> {
        self.create(Collection::Services, &service.id, service).await
    }

    /// Changes a service as it is when it is written: `change` may be asked several times, each time with what others made of it
    /// meanwhile. Gives it as stored; `None` if there is none.
    pub(crate) async fn update_service<E: From<CallError>>(
        &self,
        id: &ServiceId,
        change: impl FnMut(Service) -> Result<Service, E>,
    ) -> Result<Option<Service>, E> {
        self.update(Collection::Services, id.as_str(), change).await
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

    /// Shows one room after the other, in the order of their ids, until `visit` has seen enough. There may be many: what is not needed
    /// should not be kept. Documents that can't be read are left out.
    pub(crate) async fn visit_rooms(
        &self,
        visit: impl FnMut(RoomConfig) -> ControlFlow<()>,
    ) -> Result<(), CallError> {
        self.visit(Collection::Rooms, "", visit).await
    }

    /// Stores a new room.
    pub(crate) async fn create_room(&self, room: &RoomConfig) -> Result<(), CallError> {
        self.create(Collection::Rooms, &room.id, room).await
    }

    /// Changes a room as it is when it is written: `change` may be asked several times, each time with what others made of it
    /// meanwhile. Gives it as stored; `None` if there is none.
    pub(crate) async fn update_room<E: From<CallError>>(
        &self,
        id: &RoomId,
        change: impl FnMut(RoomConfig) -> Result<RoomConfig, E>,
    ) -> Result<Option<RoomConfig>, E> {
        self.update(Collection::Rooms, id.as_str(), change).await
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

    /// A token's record, which stays where it is.
    pub(crate) async fn token(&self, id: &str) -> Result<Option<TokenRecord>, CallError> {
        self.get(Collection::Tokens, id).await
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

    /// What of a collection has keys that begin so, in their order. Documents that can't be read are left out.
    pub(super) async fn all<T: DeserializeOwned>(
        &self,
        collection: Collection,
        prefix: &str,
    ) -> Result<Vec<T>, CallError> {
        let mut all = Vec::new();
        let keep = |document| {
            all.push(document);
            ControlFlow::Continue(())
        };
        self.visit(collection, prefix, keep).await?;
        Ok(all)
    }

    /// A collection, page by page.
    async fn visit<T: DeserializeOwned>(
        &self,
        collection: Collection,
        prefix: &str,
        mut visit: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), CallError> {
        let prefix = prefix.to_owned();
        let mut message = ListRequest { collection: collection.into(), prefix, ..ListRequest::default() };
        loop {
            let asked = request(message.clone(), CLUSTER_TIMEOUT);
            let call = async { self.store.clone().list(asked).await };
            let page = within(CLUSTER_TIMEOUT, "store.list", call).await?;
            let mut documents = page.entries.iter().filter_map(|entry| read(&entry.key, &entry.value));
            if documents.try_for_each(&mut visit).is_break() {
                return Ok(());
            }
            match page.entries.last() {
                Some(last) if page.more => message.after.clone_from(&last.key),
                Some(_) | None => return Ok(()),
            }
        }
    }

    pub(super) async fn create(
        &self,
        collection: Collection,
        key: &str,
        value: &impl Serialize,
    ) -> Result<(), CallError> {
        self.put(PutRequest {
            collection: collection.into(),
            key: key.to_owned(),
            value: document(value)?,
            ttl_ms: 0,
            create_only: true,
            expected: None,
        })
        .await
    }

    /// Reads, changes and writes over exactly what was read; from the beginning if somebody else was faster.
    pub(super) async fn update<T: DeserializeOwned + Serialize, E: From<CallError>>(
        &self,
        collection: Collection,
        key: &str,
        mut change: impl FnMut(T) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let turn = self.turns.take(collection, key, TURN_TIMEOUT).await;
        let _turn = turn.ok_or(CallError::Conflict)?;
        for attempt in 0..ATTEMPTS {
            let Some(seen) = self.bytes(collection, key).await? else { return Ok(None) };
            let Some(value) = read(key, &seen) else { return Ok(None) };
            let changed = change(value)?;
            let message = PutRequest {
                collection: collection.into(),
                key: key.to_owned(),
                value: document(&changed)?,
                ttl_ms: 0,
                create_only: false,
                expected: Some(seen),
            };
            match self.put(message).await {
                Ok(()) => return Ok(Some(changed)),
                Err(CallError::Refused { code: Code::Aborted, .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let pause = (1u64 << attempt.min(16)).min(MAX_PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..=pause))).await;
        }
        tracing::warn!(
            ?collection,
            key,
            "a change is given up: others change the same document all the time"
        );
        Err(CallError::Conflict.into())
    }

    pub(super) async fn delete(&self, collection: Collection, key: &str) -> Result<bool, CallError> {
        let message = DeleteRequest { collection: collection.into(), key: key.to_owned() };
        let call = async { self.store.clone().delete(request(message, CLUSTER_TIMEOUT)).await };
        Ok(within(CLUSTER_TIMEOUT, "store.delete", call).await?.existed)
    }

    async fn put(&self, message: PutRequest) -> Result<(), CallError> {
        let call = async { self.store.clone().put(request(message, CLUSTER_TIMEOUT)).await };
        within(CLUSTER_TIMEOUT, "store.put", call).await.map(|_| ())
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        collection: Collection,
        key: &str,
    ) -> Result<Option<T>, CallError> {
        Ok(self.bytes(collection, key).await?.and_then(|value| read(key, &value)))
    }

    async fn bytes(&self, collection: Collection, key: &str) -> Result<Option<Vec<u8>>, CallError> {
        let message = GetRequest { collection: collection.into(), key: key.to_owned() };
        let call = async { self.store.clone().get(request(message, CLUSTER_TIMEOUT)).await };
        Ok(within(CLUSTER_TIMEOUT, "store.get", call).await?.value)
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
