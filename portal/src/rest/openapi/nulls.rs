//! Where `null` counts as left out, the schemas say so.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Marks a schema under which `null`s are dropped; see [`kaigi_room_config::RoomAttributes`].
const MARK: &str = "x-nulls-dropped";

/// Allows `null` in marked schemas and all that they refer to below `place`: as a member that may be left out, and as an item.
pub(super) fn allow(schemas: &mut Map<String, Value>, place: &str) {
    let marked = schemas.iter().filter(|(_, schema)| schema.get(MARK).is_some());
    let mut waiting: Vec<String> = marked.map(|(name, _)| name.clone()).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        let Some(schema) = schemas.get_mut(&name) else { continue };
        if !seen.insert(name) {
            continue;
        }
        if let Some(members) = schema.as_object_mut() {
            members.remove(MARK);
        }
        references(schema, place, &mut waiting);
        inside(schema);
    }
}

fn references(schema: &Value, place: &str, found: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            let name = members.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(place));
            found.extend(name.map(str::to_owned));
            members.values().for_each(|member| references(member, place, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, place, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Members and items of a schema.
fn inside(schema: &mut Value) {
    let required = schema["required"].clone();
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|n| n == name));
    let Value::Object(keywords) = schema else { return };
    if keywords.get("required").is_some_and(Value::is_null) {
        keywords.remove("required");
    }
    if let Some(Value::Object(properties)) = keywords.get_mut("properties") {
        for (name, member) in properties {
            inside(member);
            if !is_required(name) {
                or_null(member);
            }
        }
    }
    if let Some(items) = keywords.get_mut("items") {
        inside(items);
        or_null(items);
    }
    if let Some(Value::Array(choices)) = keywords.get_mut("anyOf") {
        choices.iter_mut().for_each(inside);
    }
}

/// Lets a schema allow `null`, too.
fn or_null(schema: &mut Value) {
    let Value::Object(keywords) = schema else { return };
    // Without any limit it does already.
    if keywords.keys().all(|keyword| ["description", "default"].contains(&keyword.as_str())) {
        return;
    }
    match keywords.get_mut("type") {
        Some(Value::Array(types)) if types.iter().any(|known| known == "null") => {}
        Some(Value::Array(types)) => types.push("null".into()),
        Some(Value::String(only)) => {
            let only = std::mem::take(only);
            keywords.insert("type".into(), json!([only, "null"]));
            if let Some(Value::Array(values)) = keywords.get_mut("enum") {
                values.push(Value::Null);
            }
        }
        _ => {
            let mut outer = Map::new();
            for keyword in ["description", "default"] {
                outer.extend(keywords.remove(keyword).map(|value| (keyword.to_owned(), value)));
            }
            let inner = std::mem::take(keywords);
            outer.insert("anyOf".into(), json!([inner, { "type": "null" }]));
            *keywords = outer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_left_out_may_be_null() {
        let mut schemas = Map::from_iter([
            (
                "A".to_owned(),
                json!({
                    "x-nulls-dropped": true,
                    "properties": {
                        "number": { "type": "integer" },
                        "list": { "type": "array", "items": { "$ref": "#/B" } },
                        "word": { "type": "string", "enum": ["a"] },
                        "any": { "description": "whatever" },
                    },
                }),
            ),
            (
                "B".to_owned(),
                json!({
                    "properties": { "needed": { "type": "string" }, "other": { "$ref": "#/B", "description": "d" } },
                    "required": ["needed"],
                }),
            ),
            ("C".to_owned(), json!({ "properties": { "number": { "type": "integer" } } })),
        ]);
        let other = schemas["C"].clone();
        allow(&mut schemas, "#/");
        let nothing = json!({ "type": "null" });
        assert_eq!(schemas["A"]["properties"]["number"]["type"], json!(["integer", "null"]));
        assert_eq!(schemas["A"]["properties"]["list"]["type"], json!(["array", "null"]));
        assert_eq!(schemas["A"]["properties"]["list"]["items"]["anyOf"], json!([{ "$ref": "#/B" }, nothing]));
        assert_eq!(schemas["A"]["properties"]["word"]["enum"], json!(["a", null]));
        assert_eq!(schemas["A"]["properties"]["any"], json!({ "description": "whatever" }));
        assert!(schemas["A"].get("x-nulls-dropped").is_none());
        assert_eq!(schemas["B"]["properties"]["needed"], json!({ "type": "string" }));
        assert_eq!(
            schemas["B"]["properties"]["other"],
            json!({ "anyOf": [{ "$ref": "#/B" }, nothing], "description": "d" })
        );
        assert_eq!(schemas["C"], other);
    }
}
