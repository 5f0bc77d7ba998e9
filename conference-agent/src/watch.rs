//! News of the cluster: which workers came and went.

use std::{sync::Arc, time::Duration};

use kaigi_proto::{
    ids::WorkerId,
    v1::{self, cluster_event::Event},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{directory::News, rooms::Rooms, shared::Shared};

/// Pause between attempts to watch.
const RETRY: Duration = Duration::from_millis(500);

/// Tells the rooms of workers that leave, until `stop`. While the cluster-manager is away, nodes that die are noticed by the end of
/// their own event streams.
pub(crate) async fn watch_cluster(shared: Arc<Shared>, rooms: Arc<Rooms>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            result = watch(&shared, &rooms) => tracing::debug!(?result, "the watch of the cluster ended"),
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Rooms that look for a mixer need not wait out their pause.
fn tell_of_mixer(shared: &Shared, worker: &v1::Worker) {
    if worker.purpose() == v1::Purpose::Mixer
        && let Ok(id) = WorkerId::new(&worker.worker_id)
    {
        shared.directory.tell_all(&id, || News::MixersChanged);
    }
}

async fn watch(shared: &Shared, rooms: &Arc<Rooms>) -> Result<(), Status> {
    let mut events = shared.cluster.clone().watch(v1::WatchRequest {}).await?.into_inner();
    while let Some(event) = events.message().await? {
        match event.event {
            Some(Event::Left(worker)) => {
                if let Ok(id) = WorkerId::new(&worker.worker_id) {
                    shared.directory.left(&id);
                    shared.nodes.lost(&id);
                }
                tell_of_mixer(shared, &worker);
                if worker.purpose() == v1::Purpose::Conference {
                    rooms.take_over_orphans().await;
                }
            }
            Some(Event::Joined(worker)) => {
                if worker.draining
                    && let Ok(id) = WorkerId::new(&worker.worker_id)
                {
                    shared.directory.drains(&id);
                }
                tell_of_mixer(shared, &worker);
                if worker.worker_id == shared.agent.as_str() {
                    rooms.take_over_orphans().await;
                }
            }
            None => {}
        }
    }
    Ok(())
}
