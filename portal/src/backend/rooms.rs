//! Live rooms, for the management API: calls to the agent that has the room.

use kaigi_proto::{
    ids::{ParticipantId, RoomId, StreamId},
    v1::{
        Participant, ParticipantRequest, RoomRequest, RoomStatsReply, RoomStatsRequest, Stream,
        StreamOperation, StreamRequest, UpdateParticipantRequest, UpdateStreamRequest,
    },
};

use kaigi_room_client::RoomAgent;

use super::{Backend, CallError, ROOM_TIMEOUT, new_request_id};

impl Backend {
    /// Who is in the room; `None` if it is not running.
    pub(crate) async fn participants(&self, room: &RoomId) -> Result<Option<Vec<Participant>>, CallError> {
        let Some(agent) = self.rooms.lookup(room).await? else { return Ok(None) };
        let message = RoomRequest { room_id: room.to_string() };
        let call = agent.call(
            ROOM_TIMEOUT,
            "conference.listParticipants",
            message,
            |mut agent, request| async move { agent.list_participants(request).await },
        );
        let reply = call.await;
        if_running(reply.map(|r| r.participants))
    }

    /// The streams of the room; `None` if it is not running.
    pub(crate) async fn streams(&self, room: &RoomId) -> Result<Option<Vec<Stream>>, CallError> {
        let Some(agent) = self.rooms.lookup(room).await? else { return Ok(None) };
        let message = RoomRequest { room_id: room.to_string() };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.listStreams", message, |mut agent, request| async move {
                agent.list_streams(request).await
            });
        let reply = call.await;
        if_running(reply.map(|r| r.streams))
    }

    /// Changes what a participant may do; gives it as it is then.
    pub(crate) async fn update_participant(
        &self,
        change: UpdateParticipantRequest,
        room: &RoomId,
    ) -> Result<Participant, CallError> {
        let agent = self.running_room(room).await?;
        let call = agent.call(
            ROOM_TIMEOUT,
            "conference.updateParticipant",
            change,
            |mut agent, request| async move { agent.update_participant(request).await },
        );
        call.await
    }

    /// Puts a participant out.
    pub(crate) async fn drop_participant(
        &self,
        room: &RoomId,
        participant: &ParticipantId,
    ) -> Result<(), CallError> {
        let agent = self.running_room(room).await?;
        let message = ParticipantRequest {
            room_id: room.to_string(),
            participant_id: participant.to_string(),
            request_id: new_request_id(),
        };
        let call = agent.call(
            ROOM_TIMEOUT,
            "conference.dropParticipant",
            message,
            |mut agent, request| async move { agent.drop_participant(request).await },
        );
        call.await.map(|_| ())
    }

    /// Changes a stream; gives it as it is then.
    pub(crate) async fn update_stream(
        &self,
        room: &RoomId,
        stream: &StreamId,
        operations: Vec<StreamOperation>,
    ) -> Result<Stream, CallError> {
        let agent = self.running_room(room).await?;
        let message =
            UpdateStreamRequest { room_id: room.to_string(), stream_id: stream.to_string(), operations };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.updateStream", message, |mut agent, request| async move {
                agent.update_stream(request).await
            });
        call.await
    }

    /// What is counted of the room's streams and subscriptions, or of the one that is named; `None` if the room is not running.
    pub(crate) async fn room_stats(
        &self,
        wanted: RoomStatsRequest,
        room: &RoomId,
    ) -> Result<Option<RoomStatsReply>, CallError> {
        let Some(agent) = self.rooms.lookup(room).await? else { return Ok(None) };
        let message = RoomStatsRequest { room_id: room.to_string(), ..wanted };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.roomStats", message, |mut agent, request| async move {
                agent.room_stats(request).await
            });
        if_running(call.await)
    }

    /// Ends a stream.
    pub(crate) async fn delete_stream(&self, room: &RoomId, stream: &StreamId) -> Result<(), CallError> {
        let agent = self.running_room(room).await?;
        let message = StreamRequest {
            room_id: room.to_string(),
            stream_id: stream.to_string(),
            request_id: new_request_id(),
        };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.deleteStream", message, |mut agent, request| async move {
                agent.delete_stream(request).await
            });
        call.await.map(|_| ())
    }

    /// Ends a room, if it is running.
    pub(crate) async fn destroy_room(&self, room: &RoomId) -> Result<(), CallError> {
        let Some(agent) = self.rooms.lookup(room).await? else { return Ok(()) };
        let message = RoomRequest { room_id: room.to_string() };
        let call =
            agent.call(ROOM_TIMEOUT, "conference.destroyRoom", message, |mut agent, request| async move {
                agent.destroy_room(request).await
            });
        if_running(call.await).map(|_| ())
    }

    pub(super) async fn running_room(&self, room: &RoomId) -> Result<RoomAgent, CallError> {
        self.rooms.lookup(room).await?.ok_or_else(|| CallError::Refused {
            code: tonic::Code::NotFound,
            message: "Room is not active".to_owned(),
        })
    }
}

/// An agent that does not have the room says NOT_FOUND: it has ended since it was looked up.
pub(super) fn if_running<T>(reply: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match reply {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
