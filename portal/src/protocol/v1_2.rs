//! What is particular to version 1.2: media as tracks, transports shared by sessions.

use kaigi_proto::{
    ids::{StreamId, TrackId, TransportId},
    v1::{
        MediaFormat, MediaKind, Progress, PublishTrack, Resolution, Stream, SubscribeTrack, Track,
        VideoParameters, progress,
    },
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    request::{MAX_TRACKS, Publish, RequestError, Subscribe, not_null, present, read},
    stream_info,
};

/// Longest mid, in bytes; browsers number m-lines.
const MAX_MID_LENGTH: usize = 32;
/// Highest frame rate and key frame interval that can be asked for.
const MAX_NUMBER: f64 = 10_000.0;
/// Highest priority of a subscription.
const MAX_PRIORITY: u32 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct PublishBody {
    #[serde(deserialize_with = "present")]
    media: Option<PublishMedia>,
    #[serde(default, deserialize_with = "not_null")]
    attributes: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "not_null")]
    transport: Option<Transport>,
    #[serde(default, deserialize_with = "not_null")]
    data: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct PublishMedia {
    tracks: Vec<PublishTrackBody>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct PublishTrackBody {
    r#type: Kind,
    mid: String,
    #[serde(default, deserialize_with = "not_null")]
    source: Option<Source>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Audio,
    Video,
}

impl From<Kind> for MediaKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Audio => Self::Audio,
            Kind::Video => Self::Video,
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Source {
    Mic,
    Camera,
    ScreenCast,
    RawFile,
    EncodedFile,
}

impl Source {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mic => "mic",
            Self::Camera => "camera",
            Self::ScreenCast => "screen-cast",
            Self::RawFile => "raw-file",
            Self::EncodedFile => "encoded-file",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Transport {
    #[serde(default, deserialize_with = "not_null")]
    r#type: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    id: Option<TransportId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SubscribeBody {
    #[serde(deserialize_with = "present")]
    media: Option<SubscribeMedia>,
    #[serde(default, deserialize_with = "not_null")]
    transport: Option<Transport>,
    #[serde(default, deserialize_with = "not_null")]
    data: Option<SubscribeData>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SubscribeData {
    from: StreamId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SubscribeMedia {
    tracks: Vec<SubscribeTrackBody>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct SubscribeTrackBody {
    pub(super) r#type: Kind,
    pub(super) mid: String,
    /// A stream's id has the same form.
    pub(super) from: TrackId,
    #[serde(default, deserialize_with = "not_null")]
    pub(super) format: Option<Format>,
    #[serde(default, deserialize_with = "not_null")]
    pub(super) parameters: Option<Parameters>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", expecting = "an object")]
pub(super) struct Format {
    codec: String,
    #[serde(default, deserialize_with = "not_null")]
    sample_rate: Option<u32>,
    #[serde(default, deserialize_with = "not_null")]
    channel_num: Option<u32>,
    #[serde(default, deserialize_with = "not_null")]
    profile: Option<Profile>,
}

#[derive(Deserialize, Debug, Clone, Copy)]
enum Profile {
    CB,
    B,
    M,
    E,
    H,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", expecting = "an object")]
pub(super) struct Parameters {
    #[serde(default, deserialize_with = "not_null")]
    resolution: Option<Size>,
    #[serde(default, deserialize_with = "not_null")]
    framerate: Option<f64>,
    #[serde(default, deserialize_with = "not_null")]
    bitrate: Option<Bitrate>,
    #[serde(default, deserialize_with = "not_null")]
    key_frame_interval: Option<f64>,
    /// Not OWT's.
    #[serde(default, deserialize_with = "not_null")]
    priority: Option<u32>,
}

/// What is wanted of a picture.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub(super) parameters: VideoParameters,
    /// The factor of its bitrate: "x0.6", empty if there is none.
    pub(super) multiplier: String,
    pub(super) priority: Option<u32>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Size {
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "should be a number or a text like x0.6")]
enum Bitrate {
    /// kbit/s
    Number(f64),
    /// "x0.6"
    Text(String),
}

/// Reads a `publish` request.
pub(super) fn publish(data: Value) -> Result<Publish, RequestError> {
    let body: PublishBody = read(data)?;
    let transport = webrtc(body.transport)?;
    let data = body.data == Some(true);
    let tracks = tracks(body.media.map(|media| media.tracks), data)?;
    let tracks = tracks
        .into_iter()
        .enumerate()
        .map(|(i, track)| {
            Ok(PublishTrack {
                kind: MediaKind::from(track.r#type).into(),
                mid: mid(&place(i), track.mid)?,
                source: track.source.map(Source::name).unwrap_or_default().to_owned(),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Publish { tracks, data, attributes: body.attributes, transport, own_transport: false })
}

/// Reads a `subscribe` request.
pub(super) fn subscribe(data: Value) -> Result<Subscribe, RequestError> {
    let body: SubscribeBody = read(data)?;
    let transport = webrtc(body.transport)?;
    let data_from = body.data.map(|data| data.from);
    let tracks = tracks(body.media.map(|media| media.tracks), data_from.is_some())?;
    let tracks = tracks
        .into_iter()
        .enumerate()
        .map(|(i, track)| subscribe_track(&place(i), track))
        .collect::<Result<_, _>>()?;
    Ok(Subscribe { tracks, data_from, transport, own_transport: false })
}

fn webrtc(transport: Option<Transport>) -> Result<Option<TransportId>, RequestError> {
    match transport {
        Some(Transport { r#type: Some(kind), .. }) if kind != "webrtc" => Err(RequestError::TransportType),
        Some(transport) => Ok(transport.id),
        None => Ok(None),
    }
}

/// The tracks that a request names. Without data there have to be some.
fn tracks<T>(tracks: Option<Vec<T>>, data: bool) -> Result<Vec<T>, RequestError> {
    match tracks {
        None if data => Ok(Vec::new()),
        None => Err(RequestError::shape(".media", "should be object where there is no data")),
        Some(tracks) if tracks.is_empty() && !data => {
            Err(RequestError::shape(".media.tracks", "should NOT have fewer than 1 items"))
        }
        Some(tracks) if tracks.len() > MAX_TRACKS => {
            Err(RequestError::shape(".media.tracks", format!("should NOT have more than {MAX_TRACKS} items")))
        }
        Some(tracks) => Ok(tracks),
    }
}

/// Where a track is in the request.
fn place(index: usize) -> String {
    format!(".media.tracks[{index}]")
}

fn mid(place: &str, mid: String) -> Result<String, RequestError> {
    if mid.len() <= MAX_MID_LENGTH && TrackId::new(&mid).is_ok() {
        Ok(mid)
    } else {
        Err(RequestError::shape(
            format!("{place}.mid"),
            "should be a mid of 1 to 32 letters, digits, '-', '_', '.', ':' and '~'",
        ))
    }
}

pub(super) fn subscribe_track(
    place: &str,
    track: SubscribeTrackBody,
) -> Result<SubscribeTrack, RequestError> {
    let kind = track.r#type;
    if kind == Kind::Audio && track.parameters.is_some() {
        return Err(RequestError::shape(format!("{place}.parameters"), "should be given for video only"));
    }
    let mut wanted = SubscribeTrack {
        kind: MediaKind::from(kind).into(),
        mid: mid(place, track.mid)?,
        from: track.from.into(),
        format: track.format.map(|f| format(place, kind, f)).transpose()?,
        ..SubscribeTrack::default()
    };
    if let Some(given) = track.parameters {
        let Wanted { parameters, multiplier, priority } = video_parameters(place, given)?;
        wanted.parameters = (parameters != VideoParameters::default()).then_some(parameters);
        // Asking for all of it is asking for nothing.
        wanted.bitrate_multiplier = Some(multiplier).filter(|m| !is_one(m)).unwrap_or_default();
        wanted.priority = priority.unwrap_or_default();
    }
    Ok(wanted)
}

/// Reads the parameters of what is at `place`.
pub(super) fn video_parameters(place: &str, given: Parameters) -> Result<Wanted, RequestError> {
    let number = |name: &str, value: Option<f64>| match value {
        Some(value) if value > 0.0 && value <= MAX_NUMBER => Ok(value.round().max(1.0) as u32),
        Some(_) => Err(RequestError::shape(format!("{place}.{name}"), "should be a positive number")),
        None => Ok(0),
    };
    let mut parameters = VideoParameters {
        resolution: given.resolution.map(|Size { width, height }| Resolution { width, height }),
        framerate: number("parameters.framerate", given.framerate)?,
        bitrate: 0,
        key_frame_interval: number("parameters.keyFrameInterval", given.key_frame_interval)?,
    };
    let factor = match given.bitrate {
        Some(Bitrate::Number(kbps)) if (1.0..=1e6).contains(&kbps) => {
            parameters.bitrate = kbps.round() as u32;
            String::new()
        }
        Some(Bitrate::Number(_)) => {
            let place = format!("{place}.parameters.bitrate");
            return Err(RequestError::shape(place, "should be a positive number"));
        }
        Some(Bitrate::Text(text)) => multiplier(place, text)?,
        None => String::new(),
    };
    if given.priority.is_some_and(|priority| priority > MAX_PRIORITY) {
        let problem = format!("should be a whole number from 0 to {MAX_PRIORITY}");
        return Err(RequestError::shape(format!("{place}.parameters.priority"), problem));
    }
    Ok(Wanted { parameters, multiplier: factor, priority: given.priority })
}

fn multiplier(place: &str, text: String) -> Result<String, RequestError> {
    match factor(&text) {
        Some(factor) if factor > 0.0 && text.len() <= 16 => Ok(text),
        _ => Err(RequestError::shape(
            format!("{place}.parameters.bitrate"),
            "should be a number or a text like x0.6",
        )),
    }
}

fn factor(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('x').filter(|f| f.bytes().all(|b| b.is_ascii_digit() || b == b'.'))?;
    digits.parse().ok()
}

pub(super) fn is_one(multiplier: &str) -> bool {
    factor(multiplier) == Some(1.0)
}

fn format(place: &str, kind: Kind, format: Format) -> Result<MediaFormat, RequestError> {
    const AUDIO: [&str; 9] = ["pcmu", "pcma", "opus", "g722", "isac", "ilbc", "aac", "ac3", "nellymoser"];
    const VIDEO: [&str; 5] = ["h264", "h265", "vp8", "vp9", "av1"];
    let codec = format.codec.to_ascii_lowercase();
    let known = match kind {
        Kind::Audio => AUDIO.contains(&codec.as_str()) && format.profile.is_none(),
        Kind::Video => {
            VIDEO.contains(&codec.as_str()) && format.sample_rate.is_none() && format.channel_num.is_none()
        }
    };
    if !known {
        return Err(RequestError::shape(format!("{place}.format"), "should be a format of that kind"));
    }
    Ok(MediaFormat {
        codec,
        sample_rate: format.sample_rate.unwrap_or_default(),
        channels: format.channel_num.unwrap_or_default(),
        profile: format.profile.map(|p| format!("{p:?}")).unwrap_or_default(),
    })
}

/// A stream as OWT's SDKs can read it. To the JavaScript SDK a stream is either of media or of data: one that has both is shown as of
/// media, as the SDK refuses to subscribe it otherwise.
pub(super) fn foreign_stream_info(stream: &Stream) -> Value {
    let mut shown = stream_info(stream);
    if stream.data && !stream.tracks.is_empty() {
        shown["data"] = false.into();
    }
    shown
}

/// A stream with its tracks.
pub(super) fn stream_info(stream: &Stream) -> Value {
    json!({
        "id": stream.id,
        "type": stream_info::type_name(stream),
        "media": { "tracks": stream.tracks.iter().filter_map(|t| track(stream, t)).collect::<Vec<_>>() },
        "data": stream_info::data(stream),
        "info": stream_info::info(stream),
    })
}

pub(super) fn track(stream: &Stream, track: &Track) -> Option<Value> {
    let kind = stream_info::kind_name(track.kind())?;
    let mut shown = json!({
        "type": kind,
        "status": stream_info::track_status(stream, track),
        "format": stream_info::format(track.format.as_ref()),
        "optional": stream_info::optional(track),
    });
    for (name, text) in [
        ("id", track.id.as_str()),
        ("source", readable_source(track)),
        ("mid", &track.mid),
        ("rid", &track.rid),
    ] {
        if !text.is_empty() {
            shown[name] = text.into();
        }
    }
    if track.kind() == MediaKind::Video
        && let Some(parameters) = stream_info::parameters(track.parameters.as_ref())
    {
        shown["parameters"] = parameters;
    }
    Some(shown)
}

/// The source, if the JavaScript SDK can read it: it throws at any other, and its `join()` then never ends.
fn readable_source(track: &Track) -> &str {
    const AUDIO: [&str; 4] = ["mic", "screen-cast", "file", "mixed"];
    const VIDEO: [&str; 6] = ["camera", "screen-cast", "file", "encoded-file", "raw-file", "mixed"];
    let source = track.source.as_str();
    let readable = match track.kind() {
        MediaKind::Audio => AUDIO.contains(&source),
        MediaKind::Video => VIDEO.contains(&source),
        MediaKind::Unspecified => false,
    };
    if readable { source } else { "" }
}

/// A `progress` notification.
pub(super) fn progress(event: Progress) -> Option<(&'static str, Value)> {
    use progress::Progress as What;
    let id = event.transport_id;
    let data = match event.progress? {
        What::Answer(sdp) => json!({ "id": id, "status": "soac", "data": { "type": "answer", "sdp": sdp } }),
        What::TransportReady(_) => json!({ "id": id, "status": "ready" }),
        What::SessionReady(session) => json!({ "id": id, "sessionId": session, "status": "ready" }),
        What::SessionError(error) => {
            json!({ "id": id, "sessionId": error.session_id, "status": "error", "data": error.reason })
        }
        What::TransportError(reason) => json!({ "id": id, "status": "error", "data": reason }),
        // OWT's SDKs don't know of that.
        What::TransportMoving(_) => return None,
    };
    Some(("progress", data))
}

#[cfg(test)]
mod tests;
