//! What streaming-outs, recordings and analytics have in common: subscriptions by the server itself, with OWT's rules.

use kaigi_room_config::strict;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::{Value, json};

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, json_response},
    shapes::resolution,
};

/// Most changes of one request.
const MAX_CHANGES: usize = 64;

/// What is taken: both kinds are named.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MediaRequest {
    pub(super) audio: OrFalse<AudioRequest>,
    pub(super) video: OrFalse<VideoRequest>,
}

/// A source of sound.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AudioRequest {
    /// Stream id.
    pub(super) from: String,
    pub(super) format: Option<AudioFormatRequest>,
}

/// A source of pictures.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VideoRequest {
    /// Stream id.
    pub(super) from: String,
    pub(super) format: Option<VideoFormatRequest>,
    pub(super) parameters: Option<ParametersRequest>,
}

/// A codec for sound.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AudioFormatRequest {
    pub(super) codec: AudioCodec,
    /// Hz.
    pub(super) sample_rate: Option<f64>,
    pub(super) channel_num: Option<f64>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AudioCodec {
    Pcmu,
    Pcma,
    Opus,
    G722,
    Isac,
    Ilbc,
    Aac,
    Ac3,
    Nellymoser,
}

/// A codec for pictures.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VideoFormatRequest {
    pub(super) codec: VideoCodec,
    pub(super) profile: Option<Profile>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum VideoCodec {
    H264,
    H265,
    Vp8,
    Vp9,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Profile {
    B,
    Cb,
    M,
    H,
    E,
}

/// What pictures are to be like.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ParametersRequest {
    pub(super) resolution: Option<SizeRequest>,
    pub(super) framerate: Option<f64>,
    pub(super) bitrate: Option<BitrateRequest>,
    /// Seconds.
    pub(super) key_frame_interval: Option<f64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SizeRequest {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// kbit/s, or a factor such as `x0.8`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum BitrateRequest {
    Number(f64),
    Factor(String),
}

/// Something, or `false` for none of it.
pub(super) enum OrFalse<T> {
    Wanted(T),
    Not,
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for OrFalse<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(false) => Ok(Self::Not),
            value => strict::from_value(value).map(Self::Wanted).map_err(D::Error::custom),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OrFalse<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}OrFalse", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "const": false }] })
    }
}

/// Of what is not made here there is none.
pub(super) async fn none(_: RoomCall) -> Answered {
    Ok(json_response(json!([])))
}

/// OWT tells no more of what is wrong.
pub(super) fn bad_request(_: String) -> RestError {
    RestError::BadRequest("Bad request".to_owned())
}

/// Checks a change of a subscription by the server; paths have `prefix` before them.
///
/// # Errors
/// OWT's answer to all that is none.
pub(super) fn check_changes(body: &Value, prefix: &str) -> Result<(), RestError> {
    let items = body.as_array().filter(|items| items.len() <= MAX_CHANGES);
    if items.is_some_and(|items| items.iter().all(|item| is_change(item, prefix))) {
        return Ok(());
    }
    Err(RestError::Operation("Operation failed".to_owned()))
}

fn is_change(item: &Value, prefix: &str) -> bool {
    let (Some(path), value) =
        (item["path"].as_str().and_then(|path| path.strip_prefix(prefix)), &item["value"])
    else {
        return false;
    };
    let is_one_of = |values: Value| values.as_array().is_some_and(|values| values.contains(value));
    let fits = match path {
        "/media/audio/status" | "/media/video/status" => is_one_of(json!(["active", "inactive"])),
        "/media/audio/from" | "/media/video/from" => value.is_string(),
        "/media/video/parameters/resolution" => strict::from_value::<SizeRequest>(value.clone()).is_ok(),
        "/media/video/parameters/framerate" => is_one_of(json!(FRAMERATES)),
        "/media/video/parameters/bitrate" => is_one_of(json!(FACTORS)),
        "/media/video/parameters/keyFrameInterval" => is_one_of(json!(INTERVALS)),
        _ => false,
    };
    fits && item["op"] == "replace" && item.as_object().is_some_and(|members| members.len() == 3)
}

const FRAMERATES: [u32; 7] = [6, 12, 15, 24, 30, 48, 60];
const FACTORS: [&str; 4] = ["x0.8", "x0.6", "x0.4", "x0.2"];
const INTERVALS: [u32; 5] = [1, 2, 5, 30, 100];

fn changes_schema(prefix: &str) -> Schema {
    let change = |paths: &[&str], value: Value| {
        let paths: Vec<String> = paths.iter().map(|path| format!("{prefix}/media/{path}")).collect();
        json!({
            "type": "object", "additionalProperties": false, "required": ["op", "path", "value"],
            "properties": { "op": { "const": "replace" }, "path": { "enum": paths }, "value": value },
        })
    };
    let mut size = resolution();
    size["additionalProperties"] = false.into();
    json_schema!({ "type": "array", "maxItems": MAX_CHANGES, "items": { "anyOf": [
        change(&["audio/status", "video/status"], json!({ "enum": ["active", "inactive"] })),
        change(&["audio/from", "video/from"], json!({ "type": "string" })),
        change(&["video/parameters/resolution"], size),
        change(&["video/parameters/framerate"], json!({ "enum": FRAMERATES })),
        change(&["video/parameters/bitrate"], json!({ "enum": FACTORS })),
        change(&["video/parameters/keyFrameInterval"], json!({ "enum": INTERVALS })),
    ] } })
}

macro_rules! changes {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                changes_schema($prefix)
            }
        }
    };
}

changes!(
    /// What [`check_changes`] takes.
    SubscriptionPatch, ""
);
changes!(
    /// The same of the output of a SIP call.
    SipCallPatch, "/output"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_follow_owts_rules() {
        let change = |path: &str, value: Value| json!([{ "op": "replace", "path": path, "value": value }]);
        for (path, value) in [
            ("/media/audio/status", json!("inactive")),
            ("/media/video/from", json!("s")),
            ("/media/video/parameters/resolution", json!({"width": 640, "height": 480})),
            ("/media/video/parameters/framerate", json!(24)),
            ("/media/video/parameters/bitrate", json!("x0.6")),
            ("/media/video/parameters/keyFrameInterval", json!(100)),
        ] {
            assert!(check_changes(&change(path, value.clone()), "").is_ok(), "{path}");
            assert!(check_changes(&change(&format!("/output{path}"), value.clone()), "/output").is_ok());
            assert!(check_changes(&change(path, value), "/output").is_err());
        }
        for bad in [
            json!({}),
            json!([1]),
            change("/media/audio/status", json!("loud")),
            change("/media/video/parameters/framerate", json!(25)),
            change("/media/video/parameters/resolution", json!({"width": 640})),
            change("/url", json!("rtmp://elsewhere")),
            json!([{ "op": "add", "path": "/media/audio/from", "value": "s" }]),
            json!([{ "op": "replace", "path": "/media/audio/from", "value": "s", "from": "x" }]),
        ] {
            assert!(check_changes(&bad, "").is_err(), "{bad}");
        }
    }
}
