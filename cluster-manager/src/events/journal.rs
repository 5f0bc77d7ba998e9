//! What of the events survives a restart: those that wait for a webhook, how far each webhook is, and up to which number numbers were
//! given.
//!
//! An event that no webhook wants is written nowhere. One that is wanted is written before its publisher has an answer, together with the
//! publisher's number, and removed when nobody waits for it any more.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kaigi_proto::v1;
use prost::Message;

use super::{
    event::EventId,
    webhook::{GIVE_UP_AFTER, Record},
};
use crate::store::{Collection, Key, PutMode, Store, StoreError};

/// Longest wait for the store. Without it events are delivered all the same, from memory.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The key of the number up to which numbers are reserved.
const RESERVED: &str = "reserved";
/// The key of how far the webhooks are.
const RECORDS: &str = "records";
/// What keys of events begin with.
const CHUNK: &str = "events:";
/// Most chunks removed at a time.
const SWEEP_AT_MOST: usize = 256;

/// The place where some events are written down, held by all that wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk(Key);

/// How far the webhooks are, by the keys of their documents.
pub(crate) type Records = BTreeMap<String, Record>;

/// What a predecessor has left.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    pub(crate) reserved: EventId,
    pub(crate) records: Records,
    /// In the order of their numbers.
    pub(crate) chunks: Vec<(Arc<Chunk>, v1::PublishEventsRequest)>,
}

/// See the module's description.
pub(crate) struct Journal {
    store: Arc<dyn Store>,
    chunks: Vec<Arc<Chunk>>,
}

impl Journal {
    /// Reads what a predecessor has left. What can't be read is left out.
    pub(crate) async fn open(store: Arc<dyn Store>) -> Result<(Self, Legacy), StoreError> {
        let mut legacy = Legacy::default();
        for document in store.list(Collection::Events, None, usize::MAX).await? {
            let (key, value) = (document.key.as_str(), &document.value[..]);
            if key == RESERVED {
                legacy.reserved =
                    EventId(std::str::from_utf8(value).ok().and_then(|t| t.parse().ok()).unwrap_or(0));
            } else if key == RECORDS {
                legacy.records = serde_json::from_slice(value).unwrap_or_default();
            } else if key.starts_with(CHUNK)
                && let Ok(chunk) = v1::PublishEventsRequest::decode(value)
            {
                legacy.chunks.push((Arc::new(Chunk(document.key)), chunk));
            } else {
                tracing::warn!(key, "an event of the store can't be read");
            }
        }
        let chunks = legacy.chunks.iter().map(|(chunk, _)| chunk.clone()).collect();
        Ok((Self { store, chunks }, legacy))
    }

    /// Writes down up to which number numbers are given.
    pub(crate) async fn reserve(&self, up_to: EventId) -> Result<(), StoreError> {
        self.put(&key(RESERVED)?, up_to.0.to_string().into_bytes(), None).await
    }

    /// Writes numbered events down, some publishers' at once.
    pub(crate) async fn keep(
        &mut self,
        taken: Vec<v1::PublishEventsRequest>,
    ) -> Vec<Result<Arc<Chunk>, StoreError>> {
        let ttl = Some(GIVE_UP_AFTER + Duration::from_secs(3600));
        let this = &*self;
        let keep = async |events: v1::PublishEventsRequest| {
            let first = events.events.first().map_or(0, |event| event.id);
            let key = key(&format!("{CHUNK}{first:020}"))?;
            this.put(&key, events.encode_to_vec(), ttl).await?;
            Ok(Arc::new(Chunk(key)))
        };
        let kept: Vec<Result<Arc<Chunk>, StoreError>> =
            futures::future::join_all(taken.into_iter().map(keep)).await;
        self.chunks.extend(kept.iter().flatten().cloned());
        kept
    }

    /// Writes down how far the webhooks are.
    pub(crate) async fn record(&self, records: &Records) -> Result<(), StoreError> {
        let document = serde_json::to_vec(records).map_err(|e| StoreError::Failed(e.to_string()))?;
        self.put(&key(RECORDS)?, document, None).await
    }

    /// Removes what nobody waits for any more, some of it at a time.
    pub(crate) async fn sweep(&mut self) {
        let mut over = Vec::new();
        self.chunks.retain(|chunk| {
            let keep = Arc::strong_count(chunk) > 1 || over.len() == SWEEP_AT_MOST;
            if !keep {
                over.push(chunk.clone());
            }
            keep
        });
        let store = &self.store;
        let remove = async |chunk: Arc<Chunk>| {
            let removed = tokio::time::timeout(TIMEOUT, store.delete(Collection::Events, &chunk.0)).await;
            // What stays there expires, and is known to be over.
            if !matches!(removed, Ok(Ok(_))) {
                tracing::debug!(key = chunk.0.as_str(), "an event that is over was not removed");
            }
        };
        futures::future::join_all(over.into_iter().map(remove)).await;
    }

    async fn put(&self, key: &Key, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), StoreError> {
        let put = self.store.put(Collection::Events, key, value, ttl, PutMode::Replace);
        tokio::time::timeout(TIMEOUT, put)
            .await
            .unwrap_or_else(|_| Err(StoreError::Failed("no answer in time".into())))
    }
}

fn key(text: &str) -> Result<Key, StoreError> {
    Key::new(text).map_err(|error| StoreError::Failed(error.to_string()))
}
