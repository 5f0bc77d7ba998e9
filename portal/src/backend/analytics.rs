//! Analytics of a room.

use std::time::Duration;

use kaigi_proto::{
    ids::RoomId,
    v1::{Analytics, AnalyticsRequest, RoomRequest, StartAnalyticsRequest},
};

use super::{Backend, CallError, ROOM_TIMEOUT, rooms::if_running};

/// Longest wait for analytics to begin; the room itself may have to be started.
const START_TIMEOUT: Duration = Duration::from_secs(12);

impl Backend {
    /// Begins them, in a room that is started for it if need be.
    pub(crate) async fn start_analytics(
        &self,
        room: &RoomId,
        wanted: StartAnalyticsRequest,
    ) -> Result<Analytics, CallError> {
        let agent = self.rooms.schedule(room, "", "").await?;
        let call =
            agent.call(START_TIMEOUT, "conference.startAnalytics", wanted, |mut agent, request| async move {
                agent.start_analytics(request).await
            });
        call.await
    }

    /// Ends them.
    pub(crate) async fn stop_analytics(&self, room: &RoomId, id: &str) -> Result<(), CallError> {
        let agent = self.running_room(room).await?;
        let message = AnalyticsRequest { room_id: room.to_string(), analytics_id: id.to_owned() };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.stopAnalytics", message, |mut agent, request| async move {
                agent.stop_analytics(request).await
            });
        call.await.map(|_| ())
    }

    /// Those of the room; `None` if it is not running.
    pub(crate) async fn analytics(&self, room: &RoomId) -> Result<Option<Vec<Analytics>>, CallError> {
        let Some(agent) = self.rooms.lookup(room).await? else { return Ok(None) };
        let message = RoomRequest { room_id: room.to_string() };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.listAnalytics", message, |mut agent, request| async move {
                agent.list_analytics(request).await
            });
        if_running(call.await.map(|reply| reply.analytics))
    }
}
