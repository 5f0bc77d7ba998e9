//! The parts of a stream's description that client protocol and management API share.

use serde_json::{Map, Value, json};

use crate::v1::{
    Layout, LayoutRegion, MediaFormat, MediaKind, Resolution, Stream, StreamType, Track, VideoParameters,
};

/// `audio` or `video`.
#[must_use]
pub fn kind_name(kind: MediaKind) -> Option<&'static str> {
    match kind {
        MediaKind::Audio => Some("audio"),
        MediaKind::Video => Some("video"),
        MediaKind::Unspecified => None,
    }
}

/// `active` or `inactive`.
#[must_use]
pub fn status(active: bool) -> &'static str {
    if active { "active" } else { "inactive" }
}

/// `forward` or `mixed`.
#[must_use]
pub fn type_name(stream: &Stream) -> &'static str {
    match stream.r#type() {
        StreamType::Mixed => "mixed",
        StreamType::Forward | StreamType::Unspecified => "forward",
    }
}

/// A track's status; those of mixed streams never pause.
#[must_use]
pub fn track_status(stream: &Stream, track: &Track) -> &'static str {
    status(track.active || stream.r#type() == StreamType::Mixed)
}

/// A codec. Always an object, because several SDKs read into it unasked.
#[must_use]
pub fn format(format: Option<&MediaFormat>) -> Value {
    let Some(format) = format.filter(|f| !f.codec.is_empty()) else { return json!({ "codec": "unknown" }) };
    let mut object = Map::new();
    object.insert("codec".into(), format.codec.clone().into());
    insert_number(&mut object, "sampleRate", format.sample_rate);
    insert_number(&mut object, "channelNum", format.channels);
    if !format.profile.is_empty() {
        object.insert("profile".into(), format.profile.clone().into());
    }
    object.into()
}

/// Video parameters as far as they are known; `None` if nothing is.
#[must_use]
pub fn parameters(parameters: Option<&VideoParameters>) -> Option<Value> {
    let parameters = parameters?;
    let mut object = Map::new();
    if let Some(size) = parameters.resolution.as_ref().filter(|r| r.width > 0 && r.height > 0) {
        object.insert("resolution".into(), resolution(size));
    }
    insert_number(&mut object, "framerate", parameters.framerate);
    insert_number(&mut object, "bitrate", parameters.bitrate);
    insert_number(&mut object, "keyFrameInterval", parameters.key_frame_interval);
    (!object.is_empty()).then(|| object.into())
}

/// What subscribers may ask for instead. A video track's `parameters` always has its four lists: SDKs read all of them once one is
/// there, and some read them even if none is.
#[must_use]
pub fn optional(track: &Track) -> Value {
    let mut object = Map::new();
    if !track.optional_formats.is_empty() {
        object.insert("format".into(), track.optional_formats.iter().map(|f| format(Some(f))).collect());
    }
    if track.kind() == MediaKind::Video {
        let lists = track.optional_parameters.clone().unwrap_or_default();
        object.insert(
            "parameters".into(),
            json!({
                "resolution": lists.resolutions.iter().map(resolution).collect::<Vec<_>>(),
                "framerate": lists.framerates,
                "bitrate": lists.bitrates,
                "keyFrameInterval": lists.key_frame_intervals,
            }),
        );
    }
    object.into()
}

/// The regions of a layout with the streams in them.
#[must_use]
pub fn layout(layout: &Layout) -> Value {
    let entry = |region: &LayoutRegion| {
        let mut entry = json!({ "region": {
            "id": region.region_id,
            "shape": "rectangle",
            "area": { "left": region.left, "top": region.top, "width": region.width, "height": region.height },
        }});
        if !region.stream_id.is_empty() {
            entry["stream"] = region.stream_id.clone().into();
        }
        entry
    };
    layout.regions.iter().map(entry).collect()
}

/// The `info` member.
#[must_use]
pub fn info(stream: &Stream) -> Value {
    match stream.r#type() {
        StreamType::Mixed => {
            let active = if stream.active_input.is_empty() { "unknown" } else { &stream.active_input };
            let mut info = json!({
                "label": stream.label,
                "activeInput": active,
                "layout": stream.layout.as_ref().map_or_else(|| json!([]), layout),
            });
            filter(stream, &mut info);
            info
        }
        StreamType::Forward | StreamType::Unspecified => {
            let mut info =
                json!({ "owner": stream.owner, "type": stream.info_type, "inViews": stream.in_views });
            if let Ok(attributes) = serde_json::from_str::<Value>(&stream.attributes) {
                info["attributes"] = attributes;
            }
            if !stream.active_input.is_empty() {
                info["activeInput"] = stream.active_input.clone().into();
            }
            filter(stream, &mut info);
            info
        }
    }
}

/// The filter on a picture, and its parameters if it has some.
fn filter(stream: &Stream, info: &mut Value) {
    if !stream.filter.is_empty() {
        info["filter"] = stream.filter.clone().into();
    }
    if let Ok(parameters) = serde_json::from_str::<Value>(&stream.filter_parameters) {
        info["filterParameters"] = parameters;
    }
}

/// The `data` member.
#[must_use]
pub fn data(stream: &Stream) -> Value {
    match stream.r#type() {
        StreamType::Mixed => Value::Null,
        StreamType::Forward | StreamType::Unspecified => stream.data.into(),
    }
}

fn resolution(size: &Resolution) -> Value {
    json!({ "width": size.width, "height": size.height })
}

fn insert_number(object: &mut Map<String, Value>, name: &str, number: u32) {
    if number > 0 {
        object.insert(name.into(), number.into());
    }
}
