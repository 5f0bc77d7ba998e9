//! The document's schemas: what is taken and what is given differ where a member has a default.

use schemars::{
    Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform},
};
use serde_json::{Map, Value, json};

use super::nulls;
use crate::rest::operation::SchemaOf;

/// Where schemas are in the document.
const PLACE: &str = "#/components/schemas/";

/// Collects what operations take and give.
pub(super) struct Schemas {
    input: SchemaGenerator,
    output: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
                settings.transforms = vec![Box::new(RecursiveTransform(bounded))];
            })
        };
        Self {
            input: settings().for_deserialize().into_generator(),
            output: settings().for_serialize().into_generator(),
        }
    }

    /// The schema of what is taken.
    pub(super) fn input(&mut self, schema: SchemaOf) -> Value {
        let schema = schema(&mut self.input);
        self.finished(schema, true)
    }

    /// The schema of what is given.
    pub(super) fn output(&mut self, schema: SchemaOf) -> Value {
        let schema = schema(&mut self.output);
        self.finished(schema, false)
    }

    /// The schema of errors.
    #[expect(clippy::unused_self, reason = "it is one of the schemas")]
    pub(super) fn error(&self) -> Value {
        json!({ "$ref": format!("{PLACE}Error") })
    }

    fn finished(&mut self, mut schema: Schema, is_input: bool) -> Value {
        RecursiveTransform(bounded).transform(&mut schema);
        let mut value = schema.to_value();
        if is_input {
            rename(&mut value);
        }
        value
    }

    /// All schemas by their names.
    pub(super) fn into_components(mut self) -> Value {
        let mut components: Map<String, Value> = self.output.take_definitions(true).into_iter().collect();
        let mut taken: Map<String, Value> = self.input.take_definitions(true).into_iter().collect();
        nulls::allow(&mut taken, PLACE);
        for (name, mut schema) in taken {
            rename(&mut schema);
            components.insert(renamed(&name), schema);
        }
        components.insert("Error".to_owned(), error());
        components.into()
    }
}

/// What is taken has names of its own.
fn renamed(name: &str) -> String {
    format!("{name}Input")
}

fn rename(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(PLACE)
            {
                *reference = format!("{PLACE}{}", renamed(name));
            }
            members.values_mut().for_each(rename);
        }
        Value::Array(items) => items.iter_mut().for_each(rename),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Says the bounds of integers, which are the types' here and a mere word in a schema.
fn bounded(schema: &mut Schema) {
    let Some(members) = schema.as_object_mut() else { return };
    let bounds: (Value, Value) = match members.get("format").and_then(Value::as_str) {
        Some("uint8") => (0.into(), u8::MAX.into()),
        Some("uint16") => (0.into(), u16::MAX.into()),
        Some("uint32") => (0.into(), u32::MAX.into()),
        Some("uint64" | "uint") => (0.into(), u64::MAX.into()),
        Some("int64") => (i64::MIN.into(), i64::MAX.into()),
        _ => return,
    };
    members.entry("minimum").or_insert(bounds.0);
    members.entry("maximum").or_insert(bounds.1);
    if members.get("format").is_some_and(|format| format != "int64") {
        members.remove("format");
    }
}

fn error() -> Value {
    json!({
        "type": "object",
        "description": "Why nothing was done. Codes: 1001 no such path, 1002 service, 1003 room, 1004 stream, 1005 participant; \
            1101 authentication; 1102 permission; 1201 bad request; 1301 the room or the cluster refused or failed; 2001 anything else.",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "code": { "type": "integer", "enum": [1001, 1002, 1003, 1004, 1005, 1101, 1102, 1201, 1301, 2001] },
                    "message": { "type": "string" },
                },
                "required": ["code", "message"],
            },
        },
        "required": ["error"],
    })
}
