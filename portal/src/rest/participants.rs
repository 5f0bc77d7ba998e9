//! Participants of a live room.

use axum::http::Method;
use kaigi_proto::{
    ids::ParticipantId,
    v1::{KindFlags, Participant, UpdateParticipantRequest},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, Operation, empty_response, json_response, room},
    shapes,
};
use crate::protocol::{
    notification::{participant_info, permission},
    request,
};

/// Most changes of one request.
const MAX_CHANGES: usize = 64;
const TAG: &str = "participants";

/// What can be asked of participants.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/participants", "listParticipants", list)
            .doc(TAG, "List who is in the room")
            .gives::<Vec<shapes::Participant>>(),
        room(Method::GET, "/participants/{participant}", "getParticipant", get)
            .doc(TAG, "Get a participant")
            .gives::<shapes::Participant>(),
        room(Method::PATCH, "/participants/{participant}", "updateParticipant", update)
            .doc(TAG, "Change what a participant may do; it acts at once")
            .takes::<ParticipantPatch>()
            .gives::<shapes::Participant>(),
        room(Method::DELETE, "/participants/{participant}", "dropParticipant", drop)
            .doc(TAG, "Put a participant out"),
    ]
}

async fn list(call: RoomCall) -> Answered {
    let participants = call.api.backend.participants(&call.id).await?.unwrap_or_default();
    Ok(json_response(participants.iter().map(shown).collect::<Value>()))
}

async fn get(call: RoomCall) -> Answered {
    let id: ParticipantId = call.id("participant")?;
    let participants = call.api.backend.participants(&call.id).await?.unwrap_or_default();
    let found = participants.iter().find(|p| p.id == id.as_str()).ok_or(RestError::ParticipantNotFound)?;
    Ok(json_response(shown(found)))
}

async fn update(call: RoomCall) -> Answered {
    let id: ParticipantId = call.id("participant")?;
    let change = UpdateParticipantRequest {
        room_id: call.id.to_string(),
        participant_id: id.to_string(),
        ..changes(&call.body)?
    };
    let participant = call.api.backend.update_participant(change, &call.id).await?;
    tracing::info!(room = %call.id, participant = %id, "permissions changed by management");
    Ok(json_response(shown(&participant)))
}

async fn drop(call: RoomCall) -> Answered {
    let id: ParticipantId = call.id("participant")?;
    call.api.backend.drop_participant(&call.id, &id).await?;
    tracing::info!(room = %call.id, participant = %id, "dropped by management");
    Ok(empty_response())
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

fn shown(participant: &Participant) -> Value {
    let mut shown = participant_info(participant);
    shown["permission"] = permission(participant.permission.as_ref());
    shown
}

/// What [`changes`] takes, as a schema.
struct ParticipantPatch;

impl JsonSchema for ParticipantPatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ParticipantPatch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let flag = json!({ "type": "boolean" });
        let change = |paths: Value, value: Value| {
            json!({
                "type": "object", "additionalProperties": false, "required": ["op", "path", "value"],
                "properties": { "op": { "const": "replace" }, "path": { "enum": paths }, "value": value },
            })
        };
        let both = json!({ "anyOf": [flag, {
            "type": "object", "additionalProperties": false, "required": ["audio", "video"],
            "properties": { "audio": flag, "video": flag },
        }] });
        json_schema!({ "type": "array", "maxItems": MAX_CHANGES, "items": { "anyOf": [
            change(json!(["/permission/publish", "/permission/subscribe"]), both),
            change(
                json!([
                    "/permission/publish/audio", "/permission/publish/video",
                    "/permission/subscribe/audio", "/permission/subscribe/video",
                ]),
                flag
            ),
        ] } })
    }
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
