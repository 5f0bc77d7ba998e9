//! Recordings and broadcasts of a room.

use std::time::Duration;

use kaigi_proto::{
    ids::RoomId,
    v1::{Egress, EgressRequest, RoomRequest, StartEgressRequest, UpdateEgressRequest},
};

use super::{Backend, CallError, ROOM_TIMEOUT, request, rooms::if_running, within};

/// Longest wait for an output to be taken, or for its files to be complete; the room itself may have to be started.
const EGRESS_TIMEOUT: Duration = Duration::from_secs(12);

impl Backend {
    /// Begins one, in a room that is started for it if need be.
    pub(crate) async fn start_egress(
        &self,
        room: &RoomId,
        wanted: StartEgressRequest,
    ) -> Result<Egress, CallError> {
        let mut agent = self.schedule_room(room, "", "").await?;
        let call = agent.start_egress(request(wanted, EGRESS_TIMEOUT));
        within(EGRESS_TIMEOUT, "conference.startEgress", call).await
    }

    /// Changes one; gives it as it is then.
    pub(crate) async fn update_egress(
        &self,
        room: &RoomId,
        change: UpdateEgressRequest,
    ) -> Result<Egress, CallError> {
        let mut agent = self.running_room(room).await?;
        let call = agent.update_egress(request(change, ROOM_TIMEOUT));
        within(ROOM_TIMEOUT, "conference.updateEgress", call).await
    }

    /// Ends one; its files are complete then.
    pub(crate) async fn stop_egress(&self, room: &RoomId, id: &str) -> Result<(), CallError> {
        let mut agent = self.running_room(room).await?;
        let message = EgressRequest { room_id: room.to_string(), egress_id: id.to_owned() };
        let call = agent.stop_egress(request(message, EGRESS_TIMEOUT));
        within(EGRESS_TIMEOUT, "conference.stopEgress", call).await.map(|_| ())
    }

    /// Those of the room; `None` if it is not running.
    pub(crate) async fn egresses(&self, room: &RoomId) -> Result<Option<Vec<Egress>>, CallError> {
        let Some(mut agent) = self.lookup_room(room).await? else { return Ok(None) };
        let request = request(RoomRequest { room_id: room.to_string() }, ROOM_TIMEOUT);
        let reply = within(ROOM_TIMEOUT, "conference.listEgresses", agent.list_egresses(request)).await;
        if_running(reply.map(|reply| reply.egresses))
    }
}
