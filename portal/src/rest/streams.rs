//! Streams of a live room.

use axum::response::Response;
use kaigi_proto::{
    ids::{RoomId, StreamId},
    v1::{MediaKind, StreamOperation, TrackStatus, stream_operation::Operation},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Management, empty_response,
    error::RestError,
    json_response,
    stream_shape::{ApiVersion, stream_json},
};
use crate::protocol::request;

/// Most operations of one request.
const MAX_OPERATIONS: usize = 64;

/// `GET streams`
pub(super) async fn list(
    api: &Management,
    version: ApiVersion,
    room: &RoomId,
) -> Result<Response, RestError> {
    let streams = api.backend.streams(room).await?.unwrap_or_default();
    Ok(json_response(streams.iter().map(|s| stream_json(version, s)).collect()))
}

/// `GET streams/:stream`
pub(super) async fn get(
    api: &Management,
    version: ApiVersion,
    room: &RoomId,
    id: &StreamId,
) -> Result<Response, RestError> {
    let streams = api.backend.streams(room).await?.unwrap_or_default();
    let found = streams.iter().find(|s| s.id == id.as_str()).ok_or(RestError::StreamNotFound)?;
    Ok(json_response(stream_json(version, found)))
}

/// `PATCH streams/:stream`
pub(super) async fn update(
    api: &Management,
    version: ApiVersion,
    room: &RoomId,
    id: &StreamId,
    body: &Value,
) -> Result<Response, RestError> {
    let stream = api.backend.update_stream(room, id, operations(body)?).await?;
    Ok(json_response(stream_json(version, &stream)))
}

/// `DELETE streams/:stream`
pub(super) async fn delete(api: &Management, room: &RoomId, id: &StreamId) -> Result<Response, RestError> {
    api.backend.delete_stream(room, id).await?;
    Ok(empty_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    op: String,
    path: String,
    value: Value,
}

/// Reads a patch. Muting comes after everything else, as in OWT.
fn operations(body: &Value) -> Result<Vec<StreamOperation>, RestError> {
    let Value::Array(items) = body else { return Err(invalid("request should be array")) };
    if items.len() > MAX_OPERATIONS {
        return Err(invalid(format!("request should NOT have more than {MAX_OPERATIONS} items")));
    }
    let mut operations = items.iter().cloned().map(operation).collect::<Result<Vec<_>, _>>()?;
    operations.sort_by_key(|o| matches!(o.operation, Some(Operation::Status(_))));
    Ok(operations)
}

fn operation(item: Value) -> Result<StreamOperation, RestError> {
    let Patch { op, path, value } = request::read(item).map_err(|e| invalid(e.to_string()))?;
    let text = value.as_str();
    let operation = match (op.as_str(), path.as_str(), text) {
        ("add", "/info/inViews", Some(label)) if is_label(label) => Operation::Mix(label.to_owned()),
        ("remove", "/info/inViews", Some(label)) if is_label(label) => Operation::Unmix(label.to_owned()),
        ("replace", "/media/audio/status", Some(status)) => mute(MediaKind::Audio, status)?,
        ("replace", "/media/video/status", Some(status)) => mute(MediaKind::Video, status)?,
        ("replace", "/info/filter", Some(filter @ ("none" | "edgedetect"))) => {
            Operation::Filter(filter.to_owned())
        }
        ("replace", path, _) if path.starts_with("/info/layout") => {
            return Err(RestError::NotAvailable("layout change"));
        }
        _ => return Err(invalid("Invalid path or value")),
    };
    Ok(StreamOperation { operation: Some(operation) })
}

fn mute(kind: MediaKind, status: &str) -> Result<Operation, RestError> {
    let active = match status {
        "active" => true,
        "inactive" => false,
        _ => return Err(invalid("Invalid path or value")),
    };
    Ok(Operation::Status(TrackStatus { kind: kind.into(), active }))
}

fn is_label(label: &str) -> bool {
    (1..=64).contains(&label.len())
}

/// OWT answers an invalid patch like one that the room refuses.
fn invalid(text: impl Into<String>) -> RestError {
    RestError::Operation(text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Vec<Operation> {
        operations(&body).unwrap().into_iter().filter_map(|o| o.operation).collect()
    }

    #[test]
    fn a_patch_mixes_mutes_and_filters_with_muting_last() {
        let patch = json!([
            {"op": "replace", "path": "/media/video/status", "value": "inactive"},
            {"op": "add", "path": "/info/inViews", "value": "common"},
            {"op": "remove", "path": "/info/inViews", "value": "other"},
            {"op": "replace", "path": "/info/filter", "value": "edgedetect"},
        ]);
        let status = TrackStatus { kind: MediaKind::Video.into(), active: false };
        assert_eq!(
            read(patch),
            [
                Operation::Mix("common".into()),
                Operation::Unmix("other".into()),
                Operation::Filter("edgedetect".into()),
                Operation::Status(status)
            ]
        );
        assert_eq!(read(json!([])), []);
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for bad in [
            json!({}),
            json!([1]),
            json!([{"op": "add", "path": "/info/inViews"}]),
            json!([{"op": "add", "path": "/info/inViews", "value": ""}]),
            json!([{"op": "add", "path": "/info/inViews", "value": 1}]),
            json!([{"op": "move", "path": "/info/inViews", "value": "common"}]),
            json!([{"op": "replace", "path": "/media/audio/status", "value": "loud"}]),
            json!([{"op": "replace", "path": "/info/filter", "value": "sepia"}]),
            json!([{"op": "replace", "path": "/info/layout", "value": []}]),
            json!([{"op": "add", "path": "/info/inViews", "value": "a", "from": "x"}]),
            json!(vec![json!({"op": "add", "path": "/info/inViews", "value": "a"}); 65]),
        ] {
            assert!(operations(&bad).is_err(), "{bad}");
        }
    }
}
