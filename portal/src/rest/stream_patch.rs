//! Changes of a stream: mixing, muting, filters, layouts.

use kaigi_filters::Filter;
use kaigi_proto::{
    ids::StreamId,
    v1::{
        Layout, LayoutAssignment, LayoutRegion, MediaKind, StreamFilter, StreamOperation, TrackStatus,
        stream_operation::Operation,
    },
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::RestError;
use crate::protocol::request;

/// Most regions of a layout; the room takes as many.
const MAX_REGIONS: usize = 256;
/// Most operations of one request.
const MAX_OPERATIONS: usize = 64;
/// Longest label of a view, in characters.
const MAX_LABEL: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    op: String,
    path: String,
    value: Value,
}

/// Reads a patch. Muting comes after everything else, as in OWT.
pub(super) fn operations(body: &Value) -> Result<Vec<StreamOperation>, RestError> {
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
        ("replace", "/info/filter", _) => filter(value)?,
        ("replace", "/info/layout", _) => Operation::Layout(layout(value)?),
        ("replace", path, Some(stream)) if path.starts_with("/info/layout/") => {
            Operation::Assignment(assignment(path, stream)?)
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

/// A name, or an object of it and its parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterChoice {
    algorithm: String,
    #[serde(default)]
    parameters: Value,
}

fn filter(value: Value) -> Result<Operation, RestError> {
    let choice = match value {
        Value::String(algorithm) => FilterChoice { algorithm, parameters: Value::Null },
        value => request::read(value).map_err(|error| invalid(error.to_string()))?,
    };
    if choice.algorithm == "none" && choice.parameters.is_null() {
        return Ok(Operation::SetFilter(StreamFilter { name: choice.algorithm, parameters: String::new() }));
    }
    let filter =
        Filter::new(&choice.algorithm, choice.parameters).map_err(|error| invalid(error.to_string()))?;
    let (name, parameters) = (filter.name().to_owned(), filter.parameters().to_string());
    Ok(Operation::SetFilter(StreamFilter { name, parameters }))
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.chars().count())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayoutEntry {
    #[serde(default)]
    stream: Option<StreamId>,
    region: Region,
}

#[derive(Deserialize)]
struct Region {
    id: String,
    /// What OWT's clients may leave out.
    #[serde(default)]
    shape: Option<Shape>,
    area: Area,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shape {
    Rectangle,
}

/// Fractions of the picture: "0", "1" or "a/b".
#[derive(Deserialize)]
struct Area {
    left: String,
    top: String,
    width: String,
    height: String,
}

/// Reads a layout. Whether it makes a picture is the room's to know.
fn layout(value: Value) -> Result<Layout, RestError> {
    let entries: Vec<LayoutEntry> = request::read(value).map_err(|_| invalid("Invalid region"))?;
    if entries.len() > MAX_REGIONS {
        return Err(invalid("Too many regions"));
    }
    let region = |entry: LayoutEntry| {
        let Region { id, shape: None | Some(Shape::Rectangle), area } = entry.region;
        let Area { left, top, width, height } = area;
        let stream_id = entry.stream.map(String::from).unwrap_or_default();
        LayoutRegion { stream_id, region_id: id, left, top, width, height }
    };
    Ok(Layout { regions: entries.into_iter().map(region).collect() })
}

/// "/info/layout/2/stream": who is shown in the third region.
fn assignment(path: &str, stream: &str) -> Result<LayoutAssignment, RestError> {
    let index = path.strip_prefix("/info/layout/").and_then(|rest| rest.strip_suffix("/stream"));
    let index = index.filter(|i| i.bytes().all(|b| b.is_ascii_digit())).and_then(|i| i.parse().ok());
    let index = index.ok_or_else(|| invalid("Invalid path or value"))?;
    let stream = StreamId::new(stream).map_err(|_| invalid("Invalid input stream id"))?;
    Ok(LayoutAssignment { index, stream_id: stream.into() })
}

/// OWT answers an invalid patch like one that the room refuses.
fn invalid(text: impl Into<String>) -> RestError {
    RestError::Operation(text.into())
}

/// What [`operations`] takes, as a schema.
pub(super) struct StreamPatch;

impl JsonSchema for StreamPatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StreamPatch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let operation = |op: Value, path: Value, value: Value| {
            json!({
                "type": "object", "additionalProperties": false, "required": ["op", "path", "value"],
                "properties": { "op": op, "path": path, "value": value },
            })
        };
        let replace = json!({ "const": "replace" });
        let fraction = json!({ "type": "string" });
        let area = json!({
            "type": "object", "required": ["left", "top", "width", "height"],
            "properties": { "left": fraction, "top": fraction, "width": fraction, "height": fraction },
        });
        let region = json!({
            "type": "object", "required": ["id", "area"],
            "properties": { "id": { "type": "string" }, "shape": { "const": "rectangle" }, "area": area },
        });
        let stream = json!({ "type": "string", "pattern": "^[0-9A-Za-z_.:~-]{1,128}$" });
        let entry = json!({
            "type": "object", "additionalProperties": false, "required": ["region"],
            "properties": { "stream": stream, "region": region },
        });
        json_schema!({ "type": "array", "maxItems": MAX_OPERATIONS, "items": { "anyOf": [
            operation(
                json!({ "enum": ["add", "remove"] }),
                json!({ "const": "/info/inViews" }),
                json!({ "type": "string", "minLength": 1, "maxLength": MAX_LABEL, "description": "Label of a view" })
            ),
            operation(
                replace.clone(),
                json!({ "enum": ["/media/audio/status", "/media/video/status"] }),
                json!({ "enum": ["active", "inactive"] })
            ),
            operation(replace.clone(), json!({ "const": "/info/filter" }), filters(generator)),
            operation(
                replace.clone(),
                json!({ "const": "/info/layout" }),
                json!({ "type": "array", "maxItems": MAX_REGIONS, "items": entry })
            ),
            operation(replace, json!({ "type": "string", "pattern": "^/info/layout/[0-9]{1,9}/stream$" }), stream),
        ] } })
    }
}

/// What a filter may be, as a schema.
pub(super) fn filters(generator: &mut SchemaGenerator) -> Value {
    let names: Vec<&str> = std::iter::once("none").chain(Filter::NAMES).collect();
    let mut any = vec![json!({ "enum": names })];
    for name in Filter::NAMES {
        any.push(json!({
            "type": "object", "additionalProperties": false, "required": ["algorithm"],
            "properties": { "algorithm": { "const": name }, "parameters": parameters(name, generator) },
        }));
    }
    json!({ "anyOf": any })
}

/// What a filter's parameters may be, as a schema.
pub(super) fn parameters(name: &str, generator: &mut SchemaGenerator) -> Schema {
    match name {
        "edgedetect" => generator.subschema_for::<kaigi_filters::EdgeDetect>(),
        "cartoon" => generator.subschema_for::<kaigi_filters::Cartoon>(),
        _ => generator.subschema_for::<kaigi_filters::Rotate>(),
    }
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
                Operation::SetFilter(StreamFilter {
                    name: "edgedetect".into(),
                    parameters: Filter::parse("edgedetect", "").unwrap().parameters().to_string()
                }),
                Operation::Status(status)
            ]
        );
        assert_eq!(read(json!([])), []);
    }

    #[test]
    fn a_filter_has_parameters() {
        let value = json!({"algorithm": "rotate", "parameters": {"angle": 180}});
        let patch = json!([{"op": "replace", "path": "/info/filter", "value": value}]);
        let parameters = r#"{"angle":180,"flip":"none"}"#.to_owned();
        assert_eq!(read(patch), [Operation::SetFilter(StreamFilter { name: "rotate".into(), parameters })]);
        for value in [
            json!({"algorithm": "rotate", "parameters": {"angle": 400}}),
            json!({"algorithm": "rotate", "parameters": {"speed": 1}}),
            json!({"algorithm": "none", "parameters": {}}),
            json!({"parameters": {}}),
            json!(["rotate"]),
            json!(1),
        ] {
            assert!(operations(&json!([{"op": "replace", "path": "/info/filter", "value": value}])).is_err());
        }
    }

    fn region(id: &str) -> Value {
        let area = json!({"left": "0", "top": "0", "width": "1/2", "height": "1"});
        json!({"region": {"id": id, "shape": "rectangle", "area": area}})
    }

    #[test]
    fn a_patch_replaces_the_layout_or_who_is_in_a_region() {
        let mut first = region("1");
        first["stream"] = "a".into();
        let wire = |stream: &str, id: &str| LayoutRegion {
            stream_id: stream.into(),
            region_id: id.into(),
            left: "0".into(),
            top: "0".into(),
            width: "1/2".into(),
            height: "1".into(),
        };
        assert_eq!(
            read(json!([
                {"op": "replace", "path": "/info/layout", "value": [first, region("2")]},
                {"op": "replace", "path": "/info/layout/1/stream", "value": "b"},
            ])),
            [
                Operation::Layout(Layout { regions: vec![wire("a", "1"), wire("", "2")] }),
                Operation::Assignment(LayoutAssignment { index: 1, stream_id: "b".into() }),
            ]
        );
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
            json!([{"op": "replace", "path": "/info/layout", "value": "fluid"}]),
            json!([{"op": "replace", "path": "/info/layout", "value": [{"stream": "a"}]}]),
            json!([{"op": "replace", "path": "/info/layout", "value": [{"region": {"id": "1", "shape": "circle", "area": {"centerW": "0", "centerH": "0", "radius": "1"}}}]}]),
            json!([{"op": "replace", "path": "/info/layout", "value": vec![region("1"); 257]}]),
            json!([{"op": "add", "path": "/info/layout", "value": [region("1")]}]),
            json!([{"op": "replace", "path": "/info/layout/1", "value": "a"}]),
            json!([{"op": "replace", "path": "/info/layout/-1/stream", "value": "a"}]),
            json!([{"op": "replace", "path": "/info/layout//stream", "value": "a"}]),
            json!([{"op": "replace", "path": "/info/layout/99999999999/stream", "value": "a"}]),
            json!([{"op": "replace", "path": "/info/layout/1/stream", "value": "a b"}]),
            json!([{"op": "replace", "path": "/info/layout/1/stream", "value": 1}]),
            json!([{"op": "add", "path": "/info/inViews", "value": "a", "from": "x"}]),
            json!(vec![json!({"op": "add", "path": "/info/inViews", "value": "a"}); 65]),
        ] {
            assert!(operations(&bad).is_err(), "{bad}");
        }
    }
}
