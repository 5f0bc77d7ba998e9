//! Recordings and broadcasts of a room.

use std::time::Duration;

use kaigi_proto::{
    ids::RoomId,
    v1::{Egress, EgressRequest, RoomRequest, StartEgressRequest, UpdateEgressRequest},
};

use super::{Backend, CallError, ROOM_TIMEOUT, new_request_id, rooms::if_running};

/// Longest wait for an output to be taken, or for its files to be complete; the room itself may have to be started.
const EGRESS_TIMEOUT: Duration = Duration::from_secs(12);

impl Backend {
    /// Begins one, in a room that is started for it if need be.
    pub(crate) async fn start_egress(
        &self,
        room: &RoomId,
        wanted: StartEgressRequest,
    ) -> Result<Egress, CallError> {
        let agent = self.rooms.schedule(room, "", "").await?;
        let wanted = StartEgressRequest { request_id: new_request_id(), ..wanted };
        let call =
            agent.call(EGRESS_TIMEOUT, "conference.startEgress", wanted, |mut agent, request| async move {
                agent.start_egress(request).await
            });
        call.await
    }

    /// Changes one; gives it as it is then.
    pub(crate) async fn update_egress(
        &self,
        room: &RoomId,
        change: UpdateEgressRequest,
    ) -> Result<Egress, CallError> {
        let agent = self.running_room(room).await?;
        let call =
            agent.call(ROOM_TIMEOUT, "conference.updateEgress", change, |mut agent, request| async move {
                agent.update_egress(request).await
            });
        call.await
    }

    /// Ends one; its files are complete then.
    pub(crate) async fn stop_egress(&self, room: &RoomId, id: &str) -> Result<(), CallError> {
        let agent = self.running_room(room).await?;
        let (room_id, egress_id) = (room.to_string(), id.to_owned());
        let message = EgressRequest { room_id, egress_id, request_id: new_request_id() };
        let call =
            agent.call(EGRESS_TIMEOUT, "conference.stopEgress", message, |mut agent, request| async move {
                agent.stop_egress(request).await
            });
        call.await.map(|_| ())
    }

    /// Those of the room; `None` if it is not running.
    pub(crate) async fn egresses(&self, room: &RoomId) -> Result<Option<Vec<Egress>>, CallError> {
        let Some(agent) = self.rooms.lookup(room).await? else { return Ok(None) };
        let message = RoomRequest { room_id: room.to_string() };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.listEgresses", message, |mut agent, request| async move {
                agent.list_egresses(request).await
            });
        if_running(call.await.map(|reply| reply.egresses))
    }
}
