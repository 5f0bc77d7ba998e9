//! The document's schemas: what is taken and what is given differ where a member has a default.

use std::collections::BTreeSet;

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
/// Where those of what is taken are until they have their names.
const INPUT_PLACE: &str = "#/components/input/";

/// Collects what operations take and give.
pub(super) struct Schemas {
    input: SchemaGenerator,
    output: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = |place: &str| {
            let path = place.trim_start_matches('#').trim_end_matches('/').to_owned();
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = path.into();
                settings.meta_schema = None;
                settings.transforms = vec![Box::new(RecursiveTransform(bounded))];
            })
        };
        Self {
            input: settings(INPUT_PLACE).for_deserialize().into_generator(),
            output: settings(PLACE).for_serialize().into_generator(),
        }
    }

    /// The schema of what is taken.
    pub(super) fn input(&mut self, schema: SchemaOf) -> Value {
        finished(schema(&mut self.input))
    }

    /// The schema of what is given.
    pub(super) fn output(&mut self, schema: SchemaOf) -> Value {
        finished(schema(&mut self.output))
    }

    /// All schemas by their names; gives what is taken its names in `paths`, too.
    pub(super) fn into_components(mut self, paths: &mut Value) -> Value {
        let mut components: Map<String, Value> = self.output.take_definitions(true).into_iter().collect();
        let mut taken: Map<String, Value> = self.input.take_definitions(true).into_iter().collect();
        nulls::allow(&mut taken, INPUT_PLACE);
        // What is taken and given under one name differs in what has to be there.
        let given: BTreeSet<String> = components.keys().cloned().collect();
        let name = |name: &str| if given.contains(name) { format!("{name}Input") } else { name.to_owned() };
        rename(paths, &name);
        for (known, mut schema) in taken {
            rename(&mut schema, &name);
            components.insert(name(&known), schema);
        }
        components.insert("Error".to_owned(), error());
        components.into()
    }
}

fn finished(mut schema: Schema) -> Value {
    RecursiveTransform(bounded).transform(&mut schema);
    schema.to_value()
}

/// Makes references to what is taken ones to its place in the document.
fn rename(value: &mut Value, name: &impl Fn(&str) -> String) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(known) = reference.strip_prefix(INPUT_PLACE)
            {
                *reference = format!("{PLACE}{}", name(known));
            }
            members.values_mut().for_each(|member| rename(member, name));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Says the bounds of integers, which are the types' here and a mere word in a schema, and no default that is none.
fn bounded(schema: &mut Schema) {
    let Some(members) = schema.as_object_mut() else { return };
    // A member that is left out is no `null`.
    if members.get("default").is_some_and(Value::is_null) {
        members.remove("default");
    }
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
