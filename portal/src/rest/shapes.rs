//! How participants and streams are shown, as schemas.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

macro_rules! shape {
    ($(#[$doc:meta])* $name:ident, $described:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let described: fn(&mut SchemaGenerator) -> Schema = $described;
                described(generator)
            }
        }
    };
}

shape!(
    /// Somebody in a room.
    Participant,
    |_| json_schema!({
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "user": { "description": "The value that the token was made with" },
            "role": { "type": "string" },
            "permission": {
                "type": "object",
                "properties": { "publish": flags(), "subscribe": flags() },
                "required": ["publish", "subscribe"],
            },
        },
        "required": ["id", "user", "role", "permission"],
    })
);

shape!(
    /// A stream in version 1.
    Stream,
    |generator| stream(generator, &json!({ "format": format(), "parameters": parameters() }), &["format"])
);

shape!(
    /// A stream in version 1.1.
    StreamV1_1,
    |generator| {
        let layer = json!({
            "type": "object",
            "properties": { "format": format(), "parameters": parameters(), "simulcastRid": { "type": "string" } },
            "required": ["format"],
        });
        stream(generator, &json!({ "original": { "type": "array", "items": layer } }), &["original"])
    }
);

shape!(
    /// Regions of a picture, and who is in them.
    Layout,
    |_| json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "stream": { "type": "string", "description": "Who is in the region; absent = nobody" },
                "region": {
                    "type": "object",
                    "properties": {
                        "id": { "type": "string" },
                        "shape": { "const": "rectangle" },
                        "area": {
                            "type": "object",
                            "description": "Fractions of the picture: `0`, `1`, `1/3`",
                            "properties": {
                                "left": { "type": "string" }, "top": { "type": "string" },
                                "width": { "type": "string" }, "height": { "type": "string" },
                            },
                            "required": ["left", "top", "width", "height"],
                        },
                    },
                    "required": ["id", "shape", "area"],
                },
            },
            "required": ["region"],
        },
    })
);

fn flags() -> Value {
    json!({
        "type": "object",
        "properties": { "audio": { "type": "boolean" }, "video": { "type": "boolean" } },
        "required": ["audio", "video"],
    })
}

/// A codec.
pub(super) fn format() -> Value {
    json!({
        "type": "object",
        "properties": {
            "codec": { "type": "string" },
            "sampleRate": { "type": "integer", "description": "Hz" },
            "channelNum": { "type": "integer" },
            "profile": { "type": "string", "description": "H.264: `CB`, `B`, `M`, `H`" },
        },
        "required": ["codec"],
    })
}

/// Video parameters, as far as they are known.
pub(super) fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "resolution": resolution(),
            "framerate": { "type": "integer" },
            "bitrate": { "type": "integer", "description": "kbit/s" },
            "keyFrameInterval": { "type": "integer", "description": "seconds" },
        },
    })
}

/// A picture's size in pixels.
pub(super) fn resolution() -> Value {
    json!({
        "type": "object",
        "properties": { "width": { "type": "integer" }, "height": { "type": "integer" } },
        "required": ["width", "height"],
    })
}

/// What subscribers may ask for instead.
fn optional() -> Value {
    let list = |items: Value| json!({ "type": "array", "items": items });
    json!({
        "type": "object",
        "properties": {
            "format": list(format()),
            "parameters": {
                "type": "object",
                "properties": {
                    "resolution": list(resolution()),
                    "framerate": list(json!({ "type": "integer" })),
                    "bitrate": list(json!({ "type": "string" })),
                    "keyFrameInterval": list(json!({ "type": "integer" })),
                },
                "required": ["resolution", "framerate", "bitrate", "keyFrameInterval"],
            },
        },
    })
}

/// A stream, whose video has these members of its own.
fn stream(generator: &mut SchemaGenerator, of_video: &Value, required: &[&str]) -> Schema {
    let layout = generator.subschema_for::<Layout>();
    let filters: Vec<&str> = std::iter::once("none").chain(kaigi_filters::Filter::NAMES).collect();
    let filter = json!({ "enum": filters, "description": "On its picture, or on what mixes show of it" });
    let kind = |of_kind: &Value, required: &[&str]| {
        let mut properties = json!({
            "status": { "enum": ["active", "inactive"] },
            "source": { "type": "string" },
            "optional": optional(),
        });
        for (name, schema) in of_kind.as_object().into_iter().flatten() {
            properties[name] = schema.clone();
        }
        let required: Vec<&str> =
            ["status", "optional"].into_iter().chain(required.iter().copied()).collect();
        json!({ "type": "object", "properties": properties, "required": required })
    };
    json_schema!({
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "type": { "enum": ["forward", "mixed"] },
            "media": {
                "type": "object",
                "description": "A kind that the stream has not is absent",
                "properties": { "audio": kind(&json!({ "format": format() }), &["format"]), "video": kind(of_video, required) },
            },
            "data": { "type": ["boolean", "null"], "description": "Whether it has data; `null` of mixes" },
            "info": { "anyOf": [
                {
                    "type": "object",
                    "description": "Of what is published",
                    "properties": {
                        "owner": { "type": "string" },
                        "type": { "type": "string" },
                        "inViews": { "type": "array", "items": { "type": "string" } },
                        "attributes": {},
                        "activeInput": { "type": "string" },
                        "filter": filter,
                        "filterParameters": { "type": "object" },
                    },
                    "required": ["owner", "type", "inViews"],
                },
                {
                    "type": "object",
                    "description": "Of mixes",
                    "properties": {
                        "label": { "type": "string" },
                        "activeInput": { "type": "string" },
                        "layout": layout,
                        "filter": filter,
                        "filterParameters": { "type": "object" },
                    },
                    "required": ["label", "activeInput", "layout"],
                },
            ] },
        },
        "required": ["id", "type", "media", "info"],
    })
}
