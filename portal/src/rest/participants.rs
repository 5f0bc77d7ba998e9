//! Participants of a live room.

use axum::response::Response;
use kaigi_proto::{
    ids::{ParticipantId, RoomId},
    v1::{KindFlags, Participant, UpdateParticipantRequest},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Management, empty_response, error::RestError, json_response};
use crate::protocol::{
    notification::{participant_info, permission},
    request,
};

/// Most changes of one request.
const MAX_CHANGES: usize = 64;

/// `GET participants`
pub(super) async fn list(api: &Management, room: &RoomId) -> Result<Response, RestError> {
    let participants = api.backend.participants(room).await?.unwrap_or_default();
    Ok(json_response(participants.iter().map(shown).collect()))
}

/// `GET participants/:participant`
pub(super) async fn get(api: &Management, room: &RoomId, id: &ParticipantId) -> Result<Response, RestError> {
    let participants = api.backend.participants(room).await?.unwrap_or_default();
    let found = participants.iter().find(|p| p.id == id.as_str()).ok_or(RestError::ParticipantNotFound)?;
    Ok(json_response(shown(found)))
}

/// `PATCH participants/:participant`
pub(super) async fn update(
    api: &Management,
    room: &RoomId,
    id: &ParticipantId,
    body: &Value,
) -> Result<Response, RestError> {
    let change = UpdateParticipantRequest {
        room_id: room.to_string(),
        participant_id: id.to_string(),
        ..changes(body)?
    };
    let participant = api.backend.update_participant(change, room).await?;
    tracing::info!(%room, participant = %id, "permissions changed by management");
    Ok(json_response(shown(&participant)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    op: String,
    path: String,
    value: Flags,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Flags {
    Both(bool),
    Each(EachFlag),
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
struct EachFlag {
    audio: bool,
    video: bool,
}

/// Reads a patch; of several changes of one thing the last counts.
fn changes(body: &Value) -> Result<UpdateParticipantRequest, RestError> {
    let refused = || RestError::Operation("Operation failed".to_owned());
    let items = body.as_array().filter(|items| items.len() <= MAX_CHANGES).ok_or_else(refused)?;
    let mut change = UpdateParticipantRequest::default();
    for item in items {
        let Patch { op, path, value } = request::read(item.clone()).map_err(|_| refused())?;
        let KindFlags { audio, video } = match value {
            Flags::Both(flag) => KindFlags { audio: flag, video: flag },
            Flags::Each(EachFlag { audio, video }) => KindFlags { audio, video },
        };
        match (op.as_str(), path.as_str(), value) {
            ("replace", "/permission/publish", _) => {
                (change.publish_audio, change.publish_video) = (Some(audio), Some(video));
            }
            ("replace", "/permission/subscribe", _) => {
                (change.subscribe_audio, change.subscribe_video) = (Some(audio), Some(video));
            }
            ("replace", "/permission/publish/audio", Flags::Both(flag)) => change.publish_audio = Some(flag),
            ("replace", "/permission/publish/video", Flags::Both(flag)) => change.publish_video = Some(flag),
            ("replace", "/permission/subscribe/audio", Flags::Both(flag)) => {
                change.subscribe_audio = Some(flag);
            }
            ("replace", "/permission/subscribe/video", Flags::Both(flag)) => {
                change.subscribe_video = Some(flag);
            }
            _ => return Err(refused()),
        }
    }
    Ok(change)
}

/// `DELETE participants/:participant`
pub(super) async fn drop(api: &Management, room: &RoomId, id: &ParticipantId) -> Result<Response, RestError> {
    api.backend.drop_participant(room, id).await?;
    tracing::info!(%room, participant = %id, "dropped by management");
    Ok(empty_response())
}

fn shown(participant: &Participant) -> Value {
    let mut shown = participant_info(participant);
    shown["permission"] = permission(participant.permission.as_ref());
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_names_kinds_or_both() {
        let patch = json!([
            {"op": "replace", "path": "/permission/publish", "value": false},
            {"op": "replace", "path": "/permission/publish/audio", "value": true},
            {"op": "replace", "path": "/permission/subscribe", "value": {"audio": true, "video": false}},
        ]);
        let change = changes(&patch).unwrap();
        assert_eq!((change.publish_audio, change.publish_video), (Some(true), Some(false)));
        assert_eq!((change.subscribe_audio, change.subscribe_video), (Some(true), Some(false)));
        assert_eq!(changes(&json!([])).unwrap(), UpdateParticipantRequest::default());
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        let one = |op: &str, path: &str, value: Value| json!([{"op": op, "path": path, "value": value}]);
        for bad in [
            json!({}),
            json!([1]),
            one("add", "/permission/publish", json!(true)),
            one("replace", "/permission", json!(true)),
            one("replace", "/permission/publish/audio", json!({"audio": true, "video": true})),
            one("replace", "/permission/publish", json!({"audio": true})),
            one("replace", "/permission/publish", json!("yes")),
            json!(vec![json!({"op": "replace", "path": "/permission/publish", "value": true}); 65]),
        ] {
            assert!(changes(&bad).is_err(), "{bad}");
        }
    }
}
