//! Rooms of an agent that ends go on at another one: each is written down, given up, and taken at once by the next, before anybody is told.

use std::{sync::Arc, time::Duration};

use kaigi_proto::{
    ids::RoomId,
    v1::{self, conference_client::ConferenceClient},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{rooms::Rooms, shared::Shared};

/// Longest wait for the cluster-manager.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the next agent to have a room. Without an answer portals find out by themselves.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked whether there is another agent.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for rooms that are being handed over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(6);

impl Rooms {
    /// Starts no more rooms, and hands over those that run: at once if there is another agent, otherwise when one comes. After `limit`, or
    /// when `stop` is cancelled, whoever comes later takes them.
    pub(crate) async fn hand_over(
        self: &Arc<Self>,
        shared: &Shared,
        limit: Duration,
        stop: &CancellationToken,
    ) {
        self.close_door();
        let others = async {
            while !self.is_empty() && !has_others(shared).await {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = others => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep(limit) => {
                tracing::warn!("there is no other agent; the rooms wait for the next one");
            }
        }
        if tokio::time::timeout(HAND_OVER_TIMEOUT, self.let_go()).await.is_err() {
            // Whoever sees that this agent is gone takes them.
            tracing::warn!("some rooms were not handed over in time");
        }
    }
}

/// Whether there is another agent that takes rooms. This one does not count any more by then.
async fn has_others(shared: &Shared) -> bool {
    let listed = timely(shared.cluster.clone().list_workers(v1::ListWorkersRequest {})).await;
    let Ok(workers) = listed.map(|reply| reply.into_inner().workers) else { return false };
    let takes_rooms = |worker: &v1::Worker| worker.purpose() == v1::Purpose::Conference && !worker.draining;
    !workers.iter().any(|worker| takes_rooms(worker) && worker.worker_id == shared.agent.as_str())
        && workers.iter().any(takes_rooms)
}

/// Ends this agent's lease of a room that is written down, and has the next agent take it. Whether the lease is ended; the next agent, if
/// there is one, is waited for a while.
pub(crate) async fn give_up(shared: &Shared, room: &RoomId) -> bool {
    let release = v1::ReleaseRoomRequest {
        room_id: room.to_string(),
        worker_id: shared.agent.to_string(),
        hand_over: true,
    };
    if let Err(status) = timely(shared.store.clone().release_room(release)).await {
        tracing::warn!(%room, %status, "the room can't be handed over");
        return false;
    }
    match tokio::time::timeout(TAKE_OVER_TIMEOUT, pass_to_next(shared, room)).await {
        Ok(Ok(next)) => tracing::info!(%room, %next, "room handed over"),
        Ok(Err(status)) => tracing::info!(%room, %status, "room handed over to whoever comes"),
        Err(_) => tracing::info!(%room, "room handed over; the next agent takes long"),
    }
    true
}

/// The next agent has the room; its id.
async fn pass_to_next(shared: &Shared, room: &RoomId) -> Result<String, Status> {
    let ask = v1::ScheduleRequest {
        purpose: v1::Purpose::Conference.into(),
        task: room.to_string(),
        ..v1::ScheduleRequest::default()
    };
    let placed = shared.cluster.clone().schedule(ask).await?.into_inner().worker;
    let next = placed.filter(|worker| worker.worker_id != shared.agent.as_str());
    let next = next.ok_or_else(|| Status::unavailable("there is no other agent"))?;
    let mut agent = ConferenceClient::new(shared.channels.to(&next.endpoint)?);
    agent.take_over(v1::RoomRequest { room_id: room.to_string() }).await?;
    Ok(next.worker_id)
}

async fn timely<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<tonic::Response<T>, Status> {
    let late = || Status::unavailable("no answer in time");
    tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| late())?
}
