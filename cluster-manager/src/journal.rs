//! Keeps the store's list of workers equal to the registry's, so that after a restart of the cluster-manager its workers are known
//! and those that died meanwhile are told of.

use std::{collections::HashSet, sync::Arc, time::Duration};

use kaigi_proto::v1;
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Hub, Watch},
    registry::{Event, Worker},
    store::{Collection, Key, PutMode, Store, StoreError},
};

/// Pause after the store failed.
const RETRY: Duration = Duration::from_secs(1);
/// Above the registry's limit on workers.
const ALL: usize = 100_000;

/// The workers that the previous cluster-manager knew when it ended. What can't be read is left out.
pub(crate) async fn known_workers(store: &dyn Store) -> Result<Vec<Worker>, StoreError> {
    let documents = store.list(Collection::Workers, None, ALL).await?;
    let decode = |bytes: &[u8]| Worker::try_from(v1::Worker::decode(bytes).ok()?).ok();
    Ok(documents.iter().filter_map(|document| decode(&document.value)).collect())
}

/// Writes every change until the hub ends all watches at `stop`. If the store fails or this falls behind, it starts over from what
/// is so.
pub(crate) async fn keep(hub: Hub, store: Arc<dyn Store>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let kept = match hub.watch() {
            Ok(watch) => follow(watch, &*store).await,
            Err(error) => Err(StoreError::Failed(error.to_string())),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "workers are not recorded");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn follow(mut watch: Watch, store: &dyn Store) -> Result<(), StoreError> {
    let alive: HashSet<&str> = watch.alive.iter().map(|worker| worker.id.as_str()).collect();
    for document in store.list(Collection::Workers, None, ALL).await? {
        if !alive.contains(document.key.as_str()) {
            store.delete(Collection::Workers, &document.key).await?;
        }
    }
    for worker in watch.alive {
        record(Event::Joined(worker), store).await?;
    }
    while let Some(event) = watch.changes.recv().await {
        record(event, store).await?;
    }
    Ok(())
}

async fn record(event: Event, store: &dyn Store) -> Result<(), StoreError> {
    let key = |worker: &Worker| Key::new(worker.id.as_str()).map_err(|e| StoreError::Failed(e.to_string()));
    match event {
        Event::Joined(worker) => {
            let key = key(&worker)?;
            let value = v1::Worker::from(worker).encode_to_vec();
            store.put(Collection::Workers, &key, value, None, PutMode::Replace).await
        }
        Event::Left(worker) => store.delete(Collection::Workers, &key(&worker)?).await.map(drop),
    }
}
