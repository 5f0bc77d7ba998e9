//! Analytics of a room.

use std::time::Duration;

use kaigi_proto::{
    ids::RoomId,
    v1::{Analytics, AnalyticsRequest, RoomRequest, StartAnalyticsRequest},
};

use super::{Backend, CallError, ROOM_TIMEOUT, request, rooms::if_running, within};

/// Longest wait for analytics to begin; the room itself may have to be started.
const START_TIMEOUT: Duration = Duration::from_secs(12);

impl Backend {
    /// Begins them, in a room that is started for it if need be.
    pub(crate) async fn start_analytics(
        &self,
        room: &RoomId,
        wanted: StartAnalyticsRequest,
    ) -> Result<Analytics, CallError> {
        let mut agent = self.schedule_room(room, "", "").await?;
        let call = agent.start_analytics(request(wanted, START_TIMEOUT));
        within(START_TIMEOUT, "conference.startAnalytics", call).await
    }

    /// Ends them.
    pub(crate) async fn stop_analytics(&self, room: &RoomId, id: &str) -> Result<(), CallError> {
        let mut agent = self.running_room(room).await?;
        let message = AnalyticsRequest { room_id: room.to_string(), analytics_id: id.to_owned() };
        let call = agent.stop_analytics(request(message, ROOM_TIMEOUT));
        within(ROOM_TIMEOUT, "conference.stopAnalytics", call).await.map(|_| ())
    }

    /// Those of the room; `None` if it is not running.
    pub(crate) async fn analytics(&self, room: &RoomId) -> Result<Option<Vec<Analytics>>, CallError> {
        let Some(mut agent) = self.lookup_room(room).await? else { return Ok(None) };
        let request = request(RoomRequest { room_id: room.to_string() }, ROOM_TIMEOUT);
        let reply = within(ROOM_TIMEOUT, "conference.listAnalytics", agent.list_analytics(request)).await;
        if_running(reply.map(|reply| reply.analytics))
    }
}
