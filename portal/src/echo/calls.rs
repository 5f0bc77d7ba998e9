//! What a session asks of its room.

use kaigi_proto::{
    ids::RoomId,
    v1::{
        ControlRequest, DataSource, PublishRequest, RoomStatsRequest, SessionReply, SubscribeRequest,
        control_request::Operation,
    },
};
use kaigi_room_client::{Line, Seat};

use super::session::Ids;
use crate::backend::{Backend, CallError, ROOM_TIMEOUT};

/// Publishes what the client sends; gives what the room calls it, and where its data are exchanged.
pub(super) async fn publish(seat: &Seat, lines: &[Line]) -> Result<(Ids, Option<DataSource>), CallError> {
    let with_data = PublishRequest { data: true, any_label: true, ..PublishRequest::default() };
    let SessionReply { session_id, transport_id, data } = seat.publish(lines, with_data).await?;
    Ok((Ids { transport: transport_id, publication: session_id, subscription: None }, data))
}

/// Subscribes what is published; gives the subscription's id.
pub(super) async fn subscribe(seat: &Seat, ids: &Ids, lines: &[Line]) -> Result<String, CallError> {
    let there = SubscribeRequest { transport_id: ids.transport.clone(), ..SubscribeRequest::default() };
    Ok(seat.subscribe(&ids.publication, lines, there).await?.session_id)
}

/// Changes what is had back.
pub(super) async fn control(seat: &Seat, subscription: &str, operation: Operation) -> Result<(), CallError> {
    let message = ControlRequest {
        room_id: seat.room.to_string(),
        participant_id: seat.participant.to_string(),
        id: subscription.to_owned(),
        operation: Some(operation),
    };
    let call =
        seat.conference.call(ROOM_TIMEOUT, "conference.control", message, |mut room, request| async move {
            room.control_subscription(request).await
        });
    call.await.map(|_| ())
}

/// How many packets the client of a publication has sent.
pub(super) async fn published(backend: &Backend, room: &RoomId, stream: &str) -> Option<u64> {
    let wanted = RoomStatsRequest { stream_id: stream.to_owned(), ..RoomStatsRequest::default() };
    let stats = backend.room_stats(wanted, room).await.ok()??;
    Some(stats.streams.iter().flat_map(|stream| &stream.tracks).map(|track| track.packets).sum())
}
