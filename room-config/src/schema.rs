//! JSON Schema of the document: what is given, and what is taken.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::RoomConfig;

/// Members that say who the room is; they are never changed.
const IDENTITY: [&str; 3] = ["_id", "__v", "service"];

/// A room's attributes as they are taken, with none required. The keyword `x-nulls-dropped` says that `null`, wherever a member may be
/// left out, counts as left out.
#[derive(Debug)]
pub struct RoomAttributes;

impl JsonSchema for RoomAttributes {
    fn schema_name() -> Cow<'static, str> {
        "RoomAttributes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RoomConfig::json_schema(generator);
        schema.remove("required");
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            for name in IDENTITY {
                properties.remove(name);
            }
        }
        schema.insert("description".into(), "Attributes of a room. What else is in it is ignored.".into());
        schema.insert("x-nulls-dropped".into(), true.into());
        schema
    }
}

/// A room as it is shown.
#[derive(Debug)]
pub struct RoomDocument;

impl JsonSchema for RoomDocument {
    fn schema_name() -> Cow<'static, str> {
        "Room".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RoomConfig::json_schema(generator);
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.remove("service");
            let id = json!({ "type": "string", "description": "The same as `_id`; in the answers to GET of one room it is not" });
            properties.insert("id".into(), id);
        }
        if let Some(Value::Array(required)) = schema.get_mut("required") {
            required.retain(|name| name != "service");
        }
        schema
    }
}

/// The value, or `false` for none. `true` is taken for the default value.
pub(crate) fn or_false<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let value = generator.subschema_for::<T>();
    if generator.contract().is_deserialize() {
        json_schema!({ "anyOf": [value, { "type": "boolean" }] })
    } else {
        json_schema!({ "anyOf": [value, { "const": false }] })
    }
}
