//! The documents of webhooks in the store, which the portals write.

use std::{sync::Arc, time::Duration};

use kaigi_proto::events::WebhookDocument;

use super::webhook::WebhookKey;
use crate::store::{Collection, Key, PutMode, Store, StoreError};

/// Longest wait for the store.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for all of them.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module's description; cheap to clone.
#[derive(Clone)]
pub(crate) struct Documents(Arc<dyn Store>);

impl Documents {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// All of them. What can't be read is left out.
    pub(crate) async fn all(&self) -> Result<Vec<WebhookDocument>, StoreError> {
        let listed = timely(LIST_TIMEOUT, self.0.list(Collection::Webhooks, None, usize::MAX)).await?;
        Ok(listed.iter().filter_map(|document| read(document.key.as_str(), &document.value)).collect())
    }

    /// One of them, if it is there.
    pub(crate) async fn get(&self, key: &WebhookKey) -> Result<Option<WebhookDocument>, StoreError> {
        let key = store_key(key)?;
        let value = timely(TIMEOUT, self.0.get(Collection::Webhooks, &key)).await?;
        Ok(value.and_then(|value| read(key.as_str(), &value)))
    }

    /// Writes down that an endpoint wants no more, unless somebody has changed the webhook meanwhile.
    pub(crate) async fn deactivate(&self, key: &WebhookKey, reason: &str) -> Result<(), StoreError> {
        let key = store_key(key)?;
        let Some(before) = timely(TIMEOUT, self.0.get(Collection::Webhooks, &key)).await? else {
            return Ok(());
        };
        let Some(document) = read(key.as_str(), &before) else { return Ok(()) };
        let document = WebhookDocument { active: false, deactivated: Some(reason.to_owned()), ..document };
        let value = serde_json::to_vec(&document).map_err(|e| StoreError::Failed(e.to_string()))?;
        let put = self.0.put(Collection::Webhooks, &key, value, None, PutMode::Swap(before));
        match timely(TIMEOUT, put).await {
            Ok(()) | Err(StoreError::Changed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn store_key(key: &WebhookKey) -> Result<Key, StoreError> {
    Key::new(&WebhookDocument::key(&key.0, &key.1)).map_err(|error| StoreError::Failed(error.to_string()))
}

fn read(key: &str, value: &[u8]) -> Option<WebhookDocument> {
    let read = serde_json::from_slice::<WebhookDocument>(value);
    let read = read.inspect_err(|error| tracing::warn!(key, %error, "a webhook can't be read"));
    read.ok().filter(|document| WebhookDocument::key(&document.service, &document.id) == key)
}

async fn timely<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(StoreError::Failed("no answer in time".into())))
}
