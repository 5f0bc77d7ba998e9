//! Streams as the management API shows them: by kind of media instead of by track. Versions differ in `media.video` only.

use serde_json::{Map, Value, json};

use super::parts;
use crate::v1::{MediaKind, Stream, Track};

/// A version of the management API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// `/v1`
    V1,
    /// `/v1.1`
    V1_1,
}

/// A stream in the shape of this version.
#[must_use]
pub fn stream_json(version: ApiVersion, stream: &Stream) -> Value {
    let mut media = Map::new();
    let of_kind = |kind| stream.tracks.iter().filter(move |t| t.kind() == kind).collect::<Vec<_>>();
    if let [audio, ..] = of_kind(MediaKind::Audio)[..] {
        let mut shown = common(stream, audio);
        shown["format"] = parts::format(audio.format.as_ref());
        media.insert("audio".into(), shown);
    }
    if let videos @ [first, ..] = &of_kind(MediaKind::Video)[..] {
        let mut shown = common(stream, first);
        match version {
            ApiVersion::V1 => {
                shown["format"] = parts::format(first.format.as_ref());
                if let Some(parameters) = parts::parameters(first.parameters.as_ref()) {
                    shown["parameters"] = parameters;
                }
            }
            ApiVersion::V1_1 => shown["original"] = videos.iter().map(|t| original(t)).collect(),
        }
        media.insert("video".into(), shown);
    }
    json!({
        "id": stream.id,
        "type": parts::type_name(stream),
        "media": media,
        "data": parts::data(stream),
        "info": parts::info(stream),
    })
}

fn common(stream: &Stream, track: &Track) -> Value {
    let mut shown =
        json!({ "status": parts::track_status(stream, track), "optional": parts::optional(track) });
    if !track.source.is_empty() {
        shown["source"] = track.source.clone().into();
    }
    shown
}

/// One layer of a video.
fn original(track: &Track) -> Value {
    let mut shown = json!({ "format": parts::format(track.format.as_ref()) });
    if let Some(parameters) = parts::parameters(track.parameters.as_ref()) {
        shown["parameters"] = parameters;
    }
    if !track.rid.is_empty() {
        shown["simulcastRid"] = track.rid.clone().into();
    }
    shown
}

#[cfg(test)]
mod tests {
    use crate::v1::{MediaFormat, Resolution, StreamType, VideoParameters};

    use super::*;

    fn layer(rid: &str, width: u32) -> Track {
        Track {
            kind: MediaKind::Video.into(),
            source: "camera".into(),
            format: Some(MediaFormat { codec: "vp8".into(), ..MediaFormat::default() }),
            parameters: Some(VideoParameters {
                resolution: Some(Resolution { width, height: width / 2 }),
                ..VideoParameters::default()
            }),
            active: true,
            rid: rid.into(),
            ..Track::default()
        }
    }

    fn stream(tracks: Vec<Track>) -> Stream {
        Stream { id: "s".into(), r#type: StreamType::Forward.into(), tracks, ..Stream::default() }
    }

    #[test]
    fn version_1_flattens_the_first_layer() {
        let shown = stream_json(ApiVersion::V1, &stream(vec![layer("q", 320), layer("h", 640)]));
        let video = &shown["media"]["video"];
        assert_eq!(video["format"], json!({"codec": "vp8"}));
        assert_eq!(video["parameters"], json!({"resolution": {"width": 320, "height": 160}}));
        assert_eq!(video["source"], "camera");
        assert!(video.get("original").is_none());
        assert!(shown["media"].get("audio").is_none() && shown["media"].get("tracks").is_none());
    }

    #[test]
    fn version_1_1_lists_the_layers() {
        let shown = stream_json(ApiVersion::V1_1, &stream(vec![layer("q", 320), layer("h", 640)]));
        let video = &shown["media"]["video"];
        assert_eq!(video["original"][1]["simulcastRid"], "h");
        assert_eq!(video["original"][1]["parameters"]["resolution"]["width"], 640);
        assert!(video.get("format").is_none());
        assert_eq!(video["optional"]["parameters"]["bitrate"], json!([]));
    }

    #[test]
    fn sources_are_shown_as_they_are() {
        let mut track = layer("", 0);
        (track.kind, track.source) = (MediaKind::Audio.into(), "raw-file".into());
        let shown = stream_json(ApiVersion::V1, &stream(vec![track]));
        assert_eq!(shown["media"]["audio"]["source"], "raw-file");
        assert!(shown["media"].get("video").is_none());
    }
}
