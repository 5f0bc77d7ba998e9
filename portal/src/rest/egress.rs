//! Recordings and broadcasts, between OWT's JSON and the room's words.

use kaigi_proto::{
    ids::StreamId,
    shape::parts,
    v1::{
        Egress, EgressMedia, EgressStream, EgressTrack, KindFlags, MediaFormat, MediaKind, OutputState,
        Resolution, StartEgressRequest, SubscriptionUpdate, TrackUpdate, UpdateEgressRequest,
        VideoParameters, egress, start_egress_request::Target,
    },
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, empty_response, json_response},
    server_side::{
        AudioRequest, BitrateRequest, MediaRequest, OrFalse, ParametersRequest, VideoRequest, bad_request,
        check_changes,
    },
    shapes,
};

/// Which of them a path is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Recording,
    Broadcast,
}

impl Class {
    fn has(self, egress: &Egress) -> bool {
        match &egress.target {
            Some(egress::Target::Recording(_)) => self == Self::Recording,
            Some(egress::Target::Broadcast(_)) => self == Self::Broadcast,
            None => false,
        }
    }
}

/// `GET`
pub(super) async fn list(call: RoomCall, class: Class) -> Answered {
    let all = call.api.backend.egresses(&call.id).await?.unwrap_or_default();
    Ok(json_response(all.iter().filter(|egress| class.has(egress)).map(shown).collect::<Value>()))
}

/// `POST`, once its target is known.
pub(super) async fn start(call: RoomCall, media: MediaRequest, target: Target) -> Answered {
    let request = StartEgressRequest {
        room_id: call.id.to_string(),
        media: wanted(media, matches!(target, Target::Broadcast(_)))?,
        target: Some(target),
        each: None,
        // Given when it is made.
        request_id: String::new(),
    };
    begin(call, request).await
}

/// `POST` of what is recorded of each stream apart.
pub(super) async fn start_each(call: RoomCall, kinds: KindFlags, target: Target) -> Answered {
    let request = StartEgressRequest {
        room_id: call.id.to_string(),
        media: Vec::new(),
        target: Some(target),
        each: Some(kinds),
        // Given when it is made.
        request_id: String::new(),
    };
    begin(call, request).await
}

async fn begin(call: RoomCall, request: StartEgressRequest) -> Answered {
    let egress = call.api.backend.start_egress(&call.id, request).await?;
    tracing::info!(room = %call.id, egress = egress.id, "recording or broadcast begun");
    Ok(json_response(shown(&egress)))
}

/// `PATCH`; `name` is the path's parameter.
pub(super) async fn update(call: RoomCall, class: Class, name: &str) -> Answered {
    check_changes(&call.body, "")?;
    let id = known(&call, class, name).await?;
    let change = UpdateEgressRequest { room_id: call.id.to_string(), egress_id: id, ..changes(&call.body) };
    Ok(json_response(shown(&call.api.backend.update_egress(&call.id, change).await?)))
}

/// `DELETE`; `name` is the path's parameter.
pub(super) async fn stop(call: RoomCall, class: Class, name: &str) -> Answered {
    let id = known(&call, class, name).await?;
    call.api.backend.stop_egress(&call.id, &id).await?;
    tracing::info!(room = %call.id, egress = id, "recording or broadcast ended");
    Ok(empty_response())
}

/// The id in the path, if it is of that class.
async fn known(call: &RoomCall, class: Class, name: &str) -> Result<String, RestError> {
    let id: StreamId = call.id(name).map_err(|_| RestError::Operation("Egress does NOT exist".to_owned()))?;
    let all = call.api.backend.egresses(&call.id).await?.unwrap_or_default();
    match all.iter().find(|egress| egress.id == id.as_str()) {
        Some(egress) if class.has(egress) => Ok(id.to_string()),
        // OWT's words.
        Some(_) => Err(RestError::Operation("Delete type not match".to_owned())),
        None => Err(RestError::Operation("Egress does NOT exist".to_owned())),
    }
}

/// What is taken. Broadcasts make AAC of any sound themselves.
fn wanted(media: MediaRequest, is_broadcast: bool) -> Result<Vec<EgressMedia>, RestError> {
    let mut wanted = Vec::new();
    if let OrFalse::Wanted(AudioRequest { from, format }) = media.audio {
        let format = format.map(|format| MediaFormat {
            codec: name(&format.codec),
            sample_rate: whole(format.sample_rate),
            channels: whole(format.channel_num),
            profile: String::new(),
        });
        wanted.push(EgressMedia {
            kind: MediaKind::Audio.into(),
            from,
            format: format.filter(|format| !(is_broadcast && format.codec == "aac")),
            ..EgressMedia::default()
        });
    }
    if let OrFalse::Wanted(video) = media.video {
        wanted.push(video_media(video));
    }
    if wanted.is_empty() {
        return Err(bad_request(String::new()));
    }
    Ok(wanted)
}

/// A picture that is taken.
pub(super) fn video_media(video: VideoRequest) -> EgressMedia {
    let VideoRequest { from, format, parameters } = video;
    let format = format.map(|format| MediaFormat {
        codec: name(&format.codec),
        profile: format.profile.as_ref().map(name).unwrap_or_default(),
        ..MediaFormat::default()
    });
    let (parameters, factor) = parameters.map(video_parameters).unwrap_or_default();
    EgressMedia { kind: MediaKind::Video.into(), from, format, parameters, bitrate_multiplier: factor }
}

fn video_parameters(wanted: ParametersRequest) -> (Option<VideoParameters>, String) {
    let mut parameters = VideoParameters {
        resolution: wanted
            .resolution
            .map(|size| Resolution { width: whole(Some(size.width)), height: whole(Some(size.height)) }),
        framerate: whole(wanted.framerate),
        bitrate: 0,
        key_frame_interval: whole(wanted.key_frame_interval),
    };
    let factor = match wanted.bitrate {
        Some(BitrateRequest::Factor(factor)) => factor,
        Some(BitrateRequest::Number(kbps)) => {
            parameters.bitrate = whole(Some(kbps));
            String::new()
        }
        None => String::new(),
    };
    (Some(parameters), factor)
}

/// The name that a codec or profile has in JSON.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Casts from floats saturate; what is no size is not offered either.
fn whole(number: Option<f64>) -> u32 {
    number.map_or(0, |number| number as u32)
}

/// A patch that was checked; of several changes of one thing the last counts.
fn changes(body: &Value) -> UpdateEgressRequest {
    let mut request = UpdateEgressRequest::default();
    let (mut audio, mut video) = (TrackUpdate::default(), TrackUpdate::default());
    for item in body.as_array().into_iter().flatten() {
        let value = &item["value"];
        let text = || value.as_str().unwrap_or_default().to_owned();
        let number = || whole(value.as_f64());
        let parameters = video.parameters.get_or_insert_default();
        match item["path"].as_str().unwrap_or_default() {
            "/media/audio/status" => request.audio_active = Some(value == "active"),
            "/media/video/status" => request.video_active = Some(value == "active"),
            "/media/audio/from" => audio.from = text(),
            "/media/video/from" => video.from = text(),
            "/media/video/parameters/resolution" => {
                let side = |name: &str| whole(value[name].as_f64());
                parameters.resolution = Some(Resolution { width: side("width"), height: side("height") });
            }
            "/media/video/parameters/framerate" => parameters.framerate = number(),
            "/media/video/parameters/keyFrameInterval" => parameters.key_frame_interval = number(),
            "/media/video/parameters/bitrate" => video.bitrate_multiplier = text(),
            _ => {}
        }
    }
    let given = |update: TrackUpdate| {
        let nothing = TrackUpdate {
            parameters: update.parameters.as_ref().map(|_| VideoParameters::default()),
            ..TrackUpdate::default()
        };
        (update != nothing).then_some(update)
    };
    request.update = Some(SubscriptionUpdate { audio: given(audio), video: given(video) });
    request
}

fn shown(egress: &Egress) -> Value {
    let mut object = Map::new();
    object.insert("id".into(), egress.id.clone().into());
    let is_broadcast = matches!(egress.target, Some(egress::Target::Broadcast(_)));
    let media = egress.tracks.iter().filter_map(|track| {
        Some((parts::kind_name(track.kind())?.to_owned(), shown_track(track, is_broadcast)))
    });
    object.insert("media".into(), media.collect::<Map<_, _>>().into());
    match &egress.target {
        Some(egress::Target::Broadcast(broadcast)) => {
            object.insert("protocol".into(), broadcast.protocol.clone().into());
            object.insert("url".into(), broadcast.url.clone().into());
        }
        Some(egress::Target::Recording(recording)) => {
            object.insert("container".into(), recording.container.clone().into());
            object.insert("storage".into(), json!({ "host": egress.host, "file": egress.file }));
        }
        None => {}
    }
    if let Some(KindFlags { audio, video }) = egress.each {
        object.insert("each".into(), json!({ "audio": audio, "video": video }));
        object.insert("streams".into(), egress.streams.iter().map(shown_stream).collect());
    }
    object.insert("state".into(), condition(egress.state()).into());
    if !egress.reason.is_empty() {
        object.insert("reason".into(), egress.reason.clone().into());
    }
    object.into()
}

/// A recording of a stream among those of all.
fn shown_stream(stream: &EgressStream) -> Value {
    let mut shown =
        json!({ "stream": stream.stream_id, "file": stream.file, "state": condition(stream.state()) });
    if !stream.reason.is_empty() {
        shown["reason"] = stream.reason.clone().into();
    }
    shown
}

/// How it is, in JSON.
pub(super) fn condition(state: OutputState) -> &'static str {
    match state {
        OutputState::Unspecified | OutputState::Starting => "starting",
        OutputState::Active => "active",
        OutputState::Trouble => "trouble",
        OutputState::Failed => "failed",
    }
}

/// Schemas of that, and of its reason.
pub(super) fn condition_schema() -> (Value, Value) {
    let state = json!({
        "enum": ["starting", "active", "trouble", "failed"],
        "description": "`trouble`: interrupted, and tried again; `failed`: over",
    });
    (state, json!({ "type": "string", "description": "Of trouble or failure" }))
}

pub(super) fn shown_track(track: &EgressTrack, is_broadcast: bool) -> Value {
    let aac = MediaFormat { codec: "aac".into(), sample_rate: 48_000, channels: 2, profile: String::new() };
    let encoded = is_broadcast && track.kind() == MediaKind::Audio;
    let format = if encoded { Some(&aac) } else { track.format.as_ref() };
    let mut shown = json!({
        "from": track.from,
        "format": parts::format(format),
        "status": parts::status(track.active),
    });
    if let Some(mut parameters) = parts::parameters(track.parameters.as_ref()) {
        if !track.bitrate_multiplier.is_empty() {
            parameters["bitrate"] = track.bitrate_multiplier.clone().into();
        }
        shown["parameters"] = parameters;
    }
    shown
}

fn schema(more: Value, required: &[&str]) -> Schema {
    let track = json!({
        "type": "object",
        "properties": {
            "from": { "type": "string" },
            "format": shapes::format(),
            "parameters": { "type": "object" },
            "status": { "enum": ["active", "inactive"] },
        },
        "required": ["from", "format", "status"],
    });
    let (state, reason) = condition_schema();
    let mut properties = json!({
        "id": { "type": "string" },
        "media": { "type": "object", "properties": { "audio": track, "video": track } },
        "state": state,
        "reason": reason,
    });
    if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
        properties.extend(more);
    }
    let required: Vec<&str> = ["id", "media", "state"].iter().chain(required).copied().collect();
    json_schema!({ "type": "object", "properties": properties, "required": required })
}

macro_rules! shape {
    ($(#[$doc:meta])* $name:ident, $more:tt, $required:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schema(json!($more), &$required)
            }
        }
    };
}

shape!(
    /// A broadcast.
    StreamingOut,
    {
        "protocol": { "type": "string" },
        "url": { "type": "string", "description": "Without credentials and stream key" },
    },
    ["protocol", "url"]
);
shape!(
    /// A recording.
    Recording,
    {
        "container": { "type": "string" },
        "storage": {
            "type": "object",
            "properties": { "host": { "type": "string" }, "file": { "type": "string" } },
            "required": ["host", "file"],
            "description": "The first file; with `each` the manifest",
        },
        "each": {
            "type": "object",
            "properties": { "audio": { "type": "boolean" }, "video": { "type": "boolean" } },
            "description": "What is recorded of each stream; absent = it is one recording",
        },
        "streams": {
            "type": "array",
            "description": "With `each`: the recordings under way",
            "items": {
                "type": "object",
                "properties": {
                    "stream": { "type": "string" },
                    "file": { "type": "string" },
                    "state": { "enum": ["starting", "active", "trouble", "failed"] },
                    "reason": { "type": "string" },
                },
                "required": ["stream", "file", "state"],
            },
        },
    },
    ["container", "storage"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_sources_parameters_and_what_flows() {
        let change = |path: &str, value: Value| json!({ "op": "replace", "path": path, "value": value });
        let request = changes(&json!([
            change("/media/audio/status", json!("inactive")),
            change("/media/video/from", json!("s")),
            change("/media/video/parameters/resolution", json!({"width": 640, "height": 480})),
            change("/media/video/parameters/bitrate", json!("x0.6")),
        ]));
        assert_eq!((request.audio_active, request.video_active), (Some(false), None));
        let update = request.update.unwrap();
        assert_eq!(update.audio, None);
        let video = update.video.unwrap();
        assert_eq!((video.from.as_str(), video.bitrate_multiplier.as_str()), ("s", "x0.6"));
        let size = Resolution { width: 640, height: 480 };
        assert_eq!(video.parameters.unwrap().resolution, Some(size));
        assert_eq!(changes(&json!([])).update.unwrap(), SubscriptionUpdate::default());
    }

    #[test]
    fn a_broadcasts_sound_is_shown_as_aac() {
        let track = EgressTrack {
            kind: MediaKind::Audio.into(),
            from: "r-common".into(),
            format: Some(MediaFormat { codec: "opus".into(), ..MediaFormat::default() }),
            active: true,
            ..EgressTrack::default()
        };
        let aac = json!({"codec": "aac", "sampleRate": 48000, "channelNum": 2});
        assert_eq!(shown_track(&track, true)["format"], aac);
        assert_eq!(shown_track(&track, false)["format"], json!({"codec": "opus"}));
    }
}
