//! Streams that come into a room from other servers.

use std::time::Duration;

use kaigi_proto::{
    ids::RoomId,
    v1::{Ingest, RoomRequest, StartIngestRequest, Stream},
};

use super::{Backend, CallError, ROOM_TIMEOUT, request, rooms::if_running, within};

/// Longest wait for a stream to flow: a little more than rooms wait; the room itself may have to be started.
const INGEST_TIMEOUT: Duration = Duration::from_secs(48);

impl Backend {
    /// Brings one in, into a room that is started for it if need be; gives it when it flows.
    pub(crate) async fn start_ingest(
        &self,
        room: &RoomId,
        wanted: StartIngestRequest,
    ) -> Result<Stream, CallError> {
        let mut agent = self.schedule_room(room, "", "").await?;
        let call = agent.start_ingest(request(wanted, INGEST_TIMEOUT));
        within(INGEST_TIMEOUT, "conference.startIngest", call).await
    }

    /// Has a node wait for one that is pushed, for a room that is started if need be.
    pub(crate) async fn listen_ingest(
        &self,
        room: &RoomId,
        wanted: StartIngestRequest,
    ) -> Result<Ingest, CallError> {
        let mut agent = self.schedule_room(room, "", "").await?;
        let call = agent.listen_ingest(request(wanted, ROOM_TIMEOUT));
        within(ROOM_TIMEOUT, "conference.listenIngest", call).await
    }

    /// Those of the room; `None` if it is not running.
    pub(crate) async fn ingests(&self, room: &RoomId) -> Result<Option<Vec<Ingest>>, CallError> {
        let Some(mut agent) = self.lookup_room(room).await? else { return Ok(None) };
        let request = request(RoomRequest { room_id: room.to_string() }, ROOM_TIMEOUT);
        let reply = within(ROOM_TIMEOUT, "conference.listIngests", agent.list_ingests(request)).await;
        if_running(reply.map(|reply| reply.ingests))
    }
}
