//! Streams that come into a room from other servers.

use std::time::Duration;

use kaigi_proto::{
    ids::RoomId,
    v1::{Ingest, RoomRequest, StartIngestRequest, Stream},
};

use super::{Backend, CallError, ROOM_TIMEOUT, new_request_id, rooms::if_running};

/// Longest wait for a stream to flow: a little more than rooms wait; the room itself may have to be started.
const INGEST_TIMEOUT: Duration = Duration::from_secs(48);

impl Backend {
    /// Brings one in, into a room that is started for it if need be; gives it when it flows.
    pub(crate) async fn start_ingest(
        &self,
        room: &RoomId,
        wanted: StartIngestRequest,
    ) -> Result<Stream, CallError> {
        let agent = self.rooms.schedule(room, "", "").await?;
        let wanted = StartIngestRequest { request_id: new_request_id(), ..wanted };
        let call =
            agent.call(INGEST_TIMEOUT, "conference.startIngest", wanted, |mut agent, request| async move {
                agent.start_ingest(request).await
            });
        call.await
    }

    /// Has a node wait for one that is pushed, for a room that is started if need be.
    pub(crate) async fn listen_ingest(
        &self,
        room: &RoomId,
        wanted: StartIngestRequest,
    ) -> Result<Ingest, CallError> {
        let agent = self.rooms.schedule(room, "", "").await?;
        let wanted = StartIngestRequest { request_id: new_request_id(), ..wanted };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.listenIngest", wanted, |mut agent, request| async move {
                agent.listen_ingest(request).await
            });
        call.await
    }

    /// Those of the room; `None` if it is not running.
    pub(crate) async fn ingests(&self, room: &RoomId) -> Result<Option<Vec<Ingest>>, CallError> {
        let Some(agent) = self.rooms.lookup(room).await? else { return Ok(None) };
        let message = RoomRequest { room_id: room.to_string() };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.listIngests", message, |mut agent, request| async move {
                agent.list_ingests(request).await
            });
        if_running(call.await.map(|reply| reply.ingests))
    }
}
