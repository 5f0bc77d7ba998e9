//! What is particular to version 1.0 (OWT's SDKs 4.2): as 1.1, but a stream's video shows one encoding only.

use kaigi_proto::v1::Stream;
use serde_json::Value;

use super::v1_1;

/// A stream with the first of its video's encodings.
pub(super) fn stream_info(stream: &Stream) -> Value {
    let mut shown = v1_1::stream_info(stream);
    if let Some(video) = shown.pointer_mut("/media/video").and_then(Value::as_object_mut)
        && let Some(Value::Array(original)) = video.remove("original")
        && let Some(Value::Object(first)) = original.into_iter().next()
    {
        video.extend(first.into_iter().filter(|(name, _)| name != "simulcastRid"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use kaigi_proto::v1::{MediaFormat, MediaKind, Track};
    use serde_json::json;

    use super::*;

    #[test]
    fn video_has_one_format() {
        let track = |rid: &str| Track {
            kind: MediaKind::Video.into(),
            format: Some(MediaFormat { codec: "vp8".into(), ..MediaFormat::default() }),
            rid: rid.into(),
            active: true,
            ..Track::default()
        };
        let stream = Stream { id: "s".into(), tracks: vec![track("q"), track("h")], ..Stream::default() };
        let video = &stream_info(&stream)["media"]["video"];
        assert_eq!(video["format"], json!({"codec": "vp8"}));
        assert_eq!((video.get("original"), video.get("simulcastRid")), (None, None));
        assert!(video["optional"]["parameters"]["resolution"].is_array());
        let none = stream_info(&Stream::default());
        assert_eq!(none["media"], json!({}));
    }
}
