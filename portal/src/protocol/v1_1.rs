//! What is particular to version 1.1 (OWT's SDKs 4.3 and, for Android, 5.0): media by kind, and a transport for each session.

use kaigi_proto::{
    ids::TrackId,
    v1::{MediaKind, Progress, PublishTrack, Stream, progress},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    request::{Publish, RequestError, Subscribe, not_null, read},
    stream_info,
    v1_2::{self, Format, Kind, Parameters, Source, SubscribeTrackBody},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Body<T> {
    media: T,
    #[serde(default)]
    attributes: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct PublishMedia {
    #[serde(deserialize_with = "unless_false")]
    audio: Option<Input>,
    #[serde(deserialize_with = "unless_false")]
    video: Option<Input>,
}

/// Parameters of what is published are the browser's business; they may be named and are not looked at.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Input {
    #[serde(default, deserialize_with = "not_null")]
    source: Option<Source>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SubscribeMedia {
    #[serde(deserialize_with = "unless_false")]
    audio: Option<Output>,
    #[serde(deserialize_with = "unless_false")]
    video: Option<Output>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Output {
    from: TrackId,
    #[serde(default, deserialize_with = "not_null")]
    format: Option<Format>,
    #[serde(default, deserialize_with = "not_null")]
    parameters: Option<Parameters>,
    #[serde(default, deserialize_with = "not_null")]
    simulcast_rid: Option<String>,
}

/// `false` for a kind that is not wanted. The member has to be there.
fn unless_false<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Option<T>, D::Error> {
    match Value::deserialize(d)? {
        Value::Bool(false) => Ok(None),
        value => serde_json::from_value(value).map(Some).map_err(serde::de::Error::custom),
    }
}

/// The kinds that are there, in the order of the client's m-lines, with their mids.
fn by_kind<T>(audio: Option<T>, video: Option<T>) -> Result<Vec<(Kind, String, T)>, RequestError> {
    let kinds = [(Kind::Audio, audio), (Kind::Video, video)];
    let there = kinds.into_iter().filter_map(|(kind, media)| Some((kind, media?)));
    let there: Vec<_> = there.enumerate().map(|(i, (kind, media))| (kind, i.to_string(), media)).collect();
    if there.is_empty() {
        return Err(RequestError::shape(".media", "should have audio or video"));
    }
    Ok(there)
}

/// Reads a `publish` request.
pub(super) fn publish(data: Value) -> Result<Publish, RequestError> {
    let Body { media, attributes } = read::<Body<PublishMedia>>(data)?;
    let track = |(kind, mid, input): (Kind, String, Input)| PublishTrack {
        kind: MediaKind::from(kind).into(),
        mid,
        source: input.source.map(Source::name).unwrap_or_default().to_owned(),
    };
    let tracks = by_kind(media.audio, media.video)?.into_iter().map(track).collect();
    Ok(Publish { tracks, data: false, attributes, transport: None, own_transport: true })
}

/// Reads a `subscribe` request.
pub(super) fn subscribe(data: Value) -> Result<Subscribe, RequestError> {
    let Body { media, .. } = read::<Body<SubscribeMedia>>(data)?;
    let mut tracks = Vec::new();
    for (kind, mid, output) in by_kind(media.audio, media.video)? {
        let place = if kind == Kind::Audio { ".media.audio" } else { ".media.video" };
        let rid = output.simulcast_rid.filter(|_| kind == Kind::Video).unwrap_or_default();
        let body = SubscribeTrackBody {
            r#type: kind,
            mid,
            from: output.from,
            format: output.format,
            // A layer is taken as it is.
            parameters: output.parameters.filter(|_| rid.is_empty()),
        };
        let mut track = v1_2::subscribe_track(place, body)?;
        track.rid = rid;
        tracks.push(track);
    }
    Ok(Subscribe { tracks, data_from: None, transport: None, own_transport: true })
}

/// A stream with its media by kind; a kind that it lacks is absent.
pub(super) fn stream_info(stream: &Stream) -> Value {
    let mut media = Map::new();
    if let Some(audio) = shown(stream, MediaKind::Audio).next() {
        media.insert("audio".into(), pick(&audio, &["status", "source", "format", "optional"]));
    }
    let layers: Vec<Value> = shown(stream, MediaKind::Video).collect();
    if let Some(first) = layers.first() {
        let mut video = pick(first, &["status", "source", "optional"]);
        video["original"] = layers.iter().map(original).collect();
        media.insert("video".into(), video);
    }
    json!({
        "id": stream.id,
        "type": stream_info::type_name(stream),
        "media": media,
        // These clients know nothing of data.
        "data": if stream_info::type_name(stream) == "mixed" { Value::Null } else { false.into() },
        "info": stream_info::info(stream),
    })
}

fn shown(stream: &Stream, kind: MediaKind) -> impl Iterator<Item = Value> {
    stream.tracks.iter().filter(move |t| t.kind() == kind).filter_map(|t| v1_2::track(stream, t))
}

fn original(layer: &Value) -> Value {
    let mut original = pick(layer, &["format", "parameters"]);
    if let Some(rid) = layer.get("rid") {
        original["simulcastRid"] = rid.clone();
    }
    original
}

fn pick(from: &Value, members: &[&str]) -> Value {
    let member = |name: &&str| Some(((*name).to_owned(), from.get(*name)?.clone()));
    members.iter().filter_map(member).collect::<Map<_, _>>().into()
}

/// A `progress` notification. SDKs take a session for established when its transport is, and do not know of anything else.
pub(super) fn progress(event: Progress) -> Option<(&'static str, Value)> {
    let of_session = matches!(event.progress, Some(progress::Progress::SessionReady(_)));
    let (name, data) = v1_2::progress(event)?;
    Some((if of_session { "session-progress" } else { name }, data))
}

#[cfg(test)]
mod tests {
    use kaigi_proto::v1::{MediaFormat, Resolution, Track, TransportReady, VideoParameters};

    use super::*;

    #[test]
    fn a_publication_has_its_mids_by_the_kinds_that_are_there() {
        let both = publish(json!({"media": {"audio": {"source": "mic"}, "video": {"source": "camera",
            "parameters": {"resolution": {"width": 640, "height": 480}, "framerate": 30}}}, "attributes": {"a": 1}}))
        .unwrap();
        let tracks = |publish: &Publish| {
            publish.tracks.iter().map(|t| (t.kind(), t.mid.clone(), t.source.clone())).collect::<Vec<_>>()
        };
        assert_eq!(
            tracks(&both),
            [
                (MediaKind::Audio, "0".to_owned(), "mic".to_owned()),
                (MediaKind::Video, "1".to_owned(), "camera".to_owned())
            ]
        );
        assert!(both.own_transport && both.transport.is_none());
        assert_eq!(both.attributes.unwrap()["a"], 1);
        let video = publish(json!({"media": {"audio": false, "video": {"source": "screen-cast"}}})).unwrap();
        assert_eq!(tracks(&video), [(MediaKind::Video, "0".to_owned(), "screen-cast".to_owned())]);
    }

    #[test]
    fn requests_of_another_shape_are_refused() {
        for bad in [
            Value::Null,
            json!({}),
            json!({"media": null}),
            json!({"media": {"audio": {"source": "mic"}}}),
            json!({"media": {"audio": false, "video": false}}),
            json!({"media": {"audio": true, "video": false}}),
            json!({"media": {"audio": null, "video": {"source": "camera"}}}),
            json!({"media": {"audio": false, "video": {"source": "tape"}}}),
            json!({"media": {"audio": false, "video": {}}, "transport": {"type": "webrtc"}}),
            json!({"media": {"tracks": []}}),
            json!({"media": {"audio": {"from": "s", "source": "mic"}, "video": false}, "data": true}),
            json!({"media": {"audio": {"from": "s", "source": "mic"}, "video": false}, "data": {"from": "s"}}),
            json!({"media": null, "data": true}),
        ] {
            assert!(publish(bad.clone()).is_err(), "{bad}");
            assert!(subscribe(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subscription_may_name_a_layer_or_parameters() {
        let request = subscribe(json!({"media": {
            "audio": {"from": "s", "format": {"codec": "opus", "sampleRate": 48000}},
            "video": {"from": "s", "parameters": {"bitrate": "x0.6", "framerate": 15}}}}))
        .unwrap();
        let format = request.tracks[0].format.clone().unwrap();
        assert_eq!((format.codec.as_str(), format.sample_rate), ("opus", 48000));
        assert_eq!(
            (request.tracks[1].mid.as_str(), request.tracks[1].bitrate_multiplier.as_str()),
            ("1", "x0.6")
        );
        assert_eq!(request.tracks[1].parameters.unwrap().framerate, 15);
        let layer = json!({"media": {"audio": false, "video": {"from": "s", "simulcastRid": "q",
            "parameters": {"framerate": 15}}}});
        let layer = subscribe(layer).unwrap().tracks[0].clone();
        assert_eq!((layer.mid.as_str(), layer.rid.as_str(), layer.parameters), ("0", "q", None));
        let bad = json!({"media": {"audio": false, "video": {"from": "s", "parameters": {"framerate": -1}}}});
        let text = subscribe(bad).unwrap_err().to_string();
        assert!(text.starts_with("request.media.video.parameters.framerate"), "{text}");
    }

    /// A stream with audio and two layers of video.
    pub(in crate::protocol) fn simulcast() -> Stream {
        let track = |kind: MediaKind, codec: &str, rid: &str, width: u32| Track {
            id: format!("t-{rid}"),
            kind: kind.into(),
            format: Some(MediaFormat { codec: codec.into(), ..MediaFormat::default() }),
            parameters: (width > 0).then(|| VideoParameters {
                resolution: Some(Resolution { width, height: width / 2 }),
                ..VideoParameters::default()
            }),
            rid: rid.into(),
            source: if kind == MediaKind::Audio { "mic" } else { "camera" }.into(),
            active: true,
            ..Track::default()
        };
        let tracks = vec![
            track(MediaKind::Audio, "opus", "", 0),
            track(MediaKind::Video, "vp8", "q", 320),
            track(MediaKind::Video, "vp8", "h", 640),
        ];
        Stream { id: "s".into(), owner: "p".into(), tracks, ..Stream::default() }
    }

    #[test]
    fn a_stream_shows_its_media_by_kind() {
        let shown = stream_info(&simulcast());
        let optional =
            json!({"parameters": {"resolution": [], "framerate": [], "bitrate": [], "keyFrameInterval": []}});
        assert_eq!(
            shown["media"],
            json!({
                "audio": {"status": "active", "source": "mic", "format": {"codec": "opus"}, "optional": {}},
                "video": {"status": "active", "source": "camera", "optional": optional, "original": [
                    {"format": {"codec": "vp8"}, "parameters": {"resolution": {"width": 320, "height": 160}}, "simulcastRid": "q"},
                    {"format": {"codec": "vp8"}, "parameters": {"resolution": {"width": 640, "height": 320}}, "simulcastRid": "h"},
                ]},
            })
        );
        let mut audio = simulcast();
        audio.tracks.truncate(1);
        assert_eq!(stream_info(&audio)["media"].get("video"), None);
    }

    #[test]
    fn the_transport_completes_a_session() {
        let event = |what| Progress { transport_id: "t".into(), progress: Some(what) };
        assert_eq!(
            progress(event(progress::Progress::TransportReady(TransportReady {}))),
            Some(("progress", json!({"id": "t", "status": "ready"})))
        );
        let (name, data) = progress(event(progress::Progress::SessionReady("t".into()))).unwrap();
        assert_eq!((name, &data["sessionId"]), ("session-progress", &json!("t")));
        let (name, data) = progress(event(progress::Progress::TransportError("why".into()))).unwrap();
        assert_eq!((name, &data["data"]), ("progress", &json!("why")));
    }
}
