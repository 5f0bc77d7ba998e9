//! Changes of a part of a room: JSON Merge Patch (RFC 7396), or JSON Patch (RFC 6902) as OWT's REST client has it.

use kaigi_room_config::{RoomAttributes, RoomConfig};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::error::RestError;

/// Most operations of a JSON Patch.
const MAX_OPERATIONS: usize = 256;
/// Largest room that a patch may make, in bytes: `copy` can double it with each operation.
const MAX_ROOM: usize = 256 * 1024;

/// The room with the change made, checked as a whole.
///
/// # Errors
/// [`RestError::BadRequest`] if the patch is none, does not fit the room, or makes a room that is none.
pub(super) fn patched(room: &RoomConfig, patch: &Value) -> Result<RoomConfig, RestError> {
    let refused = |text: String| RestError::BadRequest(text);
    let mut document = room.to_rest(true);
    match patch {
        Value::Array(_) => operate(&mut document, patch)?,
        Value::Object(_) => json_patch::merge(&mut document, patch),
        _ => return Err(refused("Invalid request body".to_owned())),
    }
    // What is stored has to be read again, and readers of JSON go only so deep.
    let text = document.to_string();
    if text.len() > MAX_ROOM || serde_json::from_str::<Value>(&text).is_err() {
        return Err(too_large());
    }
    let Value::Object(document) = document else { return Err(refused("Not a room".to_owned())) };
    room.replaced(document).map_err(|error| refused(error.to_string()))
}

fn too_large() -> RestError {
    RestError::BadRequest("Invalid patch: the room would be too large, or too deep".to_owned())
}

fn operate(document: &mut Value, patch: &Value) -> Result<(), RestError> {
    let refused = |why: &dyn std::fmt::Display| RestError::BadRequest(format!("Invalid patch: {why}"));
    if !patch.as_array().is_some_and(|operations| operations.iter().all(Value::is_object)) {
        return Err(refused(&"operations are objects"));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|error| refused(&error))?;
    if patch.0.len() > MAX_OPERATIONS {
        return Err(refused(&format!("more than {MAX_OPERATIONS} operations")));
    }
    for operation in &patch.0 {
        json_patch::patch(document, std::slice::from_ref(operation)).map_err(|error| refused(&error))?;
        if document.to_string().len() > MAX_ROOM {
            return Err(too_large());
        }
    }
    Ok(())
}

/// What [`patched`] takes, as a schema.
pub(super) struct RoomPatch;

impl JsonSchema for RoomPatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RoomPatch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let attributes = generator.subschema_for::<RoomAttributes>();
        let pointer = serde_json::json!({ "type": "string", "pattern": "^(/([^/~]|~[01])*)*$" });
        json_schema!({ "anyOf": [
            attributes,
            { "type": "array", "maxItems": MAX_OPERATIONS, "items": { "anyOf": [
                {
                    "type": "object", "required": ["op", "path", "value"],
                    "properties": { "op": { "enum": ["add", "replace", "test"] }, "path": pointer, "value": {} },
                },
                { "type": "object", "required": ["op", "path"], "properties": { "op": { "const": "remove" }, "path": pointer } },
                {
                    "type": "object", "required": ["op", "path", "from"],
                    "properties": { "op": { "enum": ["move", "copy"] }, "path": pointer, "from": pointer },
                },
            ] } },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn room() -> RoomConfig {
        RoomConfig::new("655b9af6e53c84ffd6004150", "r", "s")
    }

    fn after(patch: Value) -> RoomConfig {
        patched(&room(), &patch).unwrap()
    }

    #[test]
    fn an_object_is_merged_in_depth() {
        let room = after(json!({"inputLimit": 3, "notifying": {"streamChange": false}}));
        assert_eq!((room.input_limit, room.participant_limit), (3, -1));
        assert_eq!((room.notifying.stream_change, room.notifying.participant_activities), (false, true));
        let room = patched(&room, &json!({"inputLimit": null, "notifying": {"streamChange": null}})).unwrap();
        assert_eq!(
            (room.input_limit, room.notifying.stream_change),
            (-1, true),
            "null brings the default back"
        );
        assert_eq!(after(json!({})), super::tests::room());
    }

    #[test]
    fn a_list_is_carried_out_in_order() {
        let room = after(json!([
            {"op": "replace", "path": "/participantLimit", "value": 5},
            {"op": "test", "path": "/participantLimit", "value": 5},
            {"op": "replace", "path": "/views/0/video/maxInput", "value": 4},
            {"op": "add", "path": "/views/-", "value": {"label": "small"}},
            {"op": "remove", "path": "/roles/4"},
        ]));
        assert_eq!((room.participant_limit, room.views.len(), room.roles.len()), (5, 2, 4));
        assert_eq!(room.views[0].video.as_ref().unwrap().max_input, 4);
    }

    #[test]
    fn who_the_room_is_stays() {
        for patch in [
            json!({"_id": "x", "id": "x", "service": "x", "__v": 7}),
            json!([{"op": "replace", "path": "/_id", "value": "x"}, {"op": "add", "path": "/service", "value": "x"}]),
        ] {
            assert_eq!(after(patch), room());
        }
    }

    #[test]
    fn what_makes_no_room_is_refused() {
        let mut doubled = vec![json!({"op": "add", "path": "/sip", "value": {"a": "x".repeat(100)}})];
        for i in 0..40 {
            doubled.push(json!({"op": "copy", "from": "/sip", "path": format!("/sip/{i}")}));
        }
        let mut deepened = vec![json!({"op": "add", "path": "/sip", "value": {}})];
        for _ in 0..200 {
            deepened.push(json!({"op": "copy", "from": "/sip", "path": "/sip/a"}));
        }
        for bad in [
            json!("x"),
            json!([1]),
            json!([["replace", "/inputLimit", 3]]),
            json!([{"op": "replace", "path": "/enableMixing", "value": 0}]),
            json!([{"op": "test", "path": "/name", "value": "other"}]),
            json!([{"op": "replace", "path": "", "value": 1}]),
            json!({"views": [{"label": "a"}, {"label": "a"}]}),
            json!({"name": null}),
            json!({"name": ""}),
            json!({"mediaOut": {"video": {"format": []}}}),
            json!(doubled),
            json!(deepened),
            json!({"sip": {"a": "x".repeat(300_000)}}),
            json!(vec![json!({"op": "test", "path": "/name", "value": "r"}); 257]),
        ] {
            assert!(patched(&room(), &bad).is_err(), "{bad}");
        }
    }
}
