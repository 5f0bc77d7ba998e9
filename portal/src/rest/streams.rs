//! Streams of a live room.

use axum::http::Method;
use kaigi_proto::{ids::StreamId, shape::stream_json};
use serde_json::Value;

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, Operation, empty_response, json_response, room},
    shapes::{Stream, StreamV1_1},
    stream_patch::{self, StreamPatch},
};

const TAG: &str = "streams";

/// What can be asked of streams.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/streams", "listStreams", list)
            .doc(TAG, "List the streams of the room")
            .gives_either::<Vec<Stream>, Vec<StreamV1_1>>(),
        room(Method::GET, "/streams/{stream}", "getStream", get)
            .doc(TAG, "Get a stream")
            .gives_either::<Stream, StreamV1_1>(),
        room(Method::PATCH, "/streams/{stream}", "updateStream", update)
            .doc(TAG, "Mix, mute, filter a stream, or lay a mix out")
            .more("The operations are carried out in their order, muting last; after the first that is refused no other is.")
            .takes::<StreamPatch>()
            .gives_either::<Stream, StreamV1_1>(),
        room(Method::DELETE, "/streams/{stream}", "deleteStream", delete).doc(TAG, "End a stream"),
    ]
}

async fn list(call: RoomCall) -> Answered {
    let streams = call.api.backend.streams(&call.id).await?.unwrap_or_default();
    Ok(json_response(streams.iter().map(|stream| stream_json(call.version, stream)).collect::<Value>()))
}

async fn get(call: RoomCall) -> Answered {
    let id: StreamId = call.id("stream")?;
    let streams = call.api.backend.streams(&call.id).await?.unwrap_or_default();
    let found = streams.iter().find(|s| s.id == id.as_str()).ok_or(RestError::StreamNotFound)?;
    Ok(json_response(stream_json(call.version, found)))
}

async fn update(call: RoomCall) -> Answered {
    let id: StreamId = call.id("stream")?;
    let operations = stream_patch::operations(&call.body)?;
    let stream = call.api.backend.update_stream(&call.id, &id, operations).await?;
    Ok(json_response(stream_json(call.version, &stream)))
}

/// Of streams and streaming-ins.
pub(super) async fn delete(call: RoomCall) -> Answered {
    let id: StreamId = call.id("stream")?;
    call.api.backend.delete_stream(&call.id, &id).await?;
    Ok(empty_response())
}
