//! Streams to other servers.

use axum::http::Method;
use kaigi_proto::v1::{BroadcastTarget, SegmentOptions, start_egress_request::Target};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    call::RoomCall,
    egress::{self, Class, StreamingOut},
    operation::{Answered, Operation, room},
    server_side::{MediaRequest, SubscriptionPatch, bad_request},
};

const TAG: &str = "streaming";

/// What can be asked of streaming-outs.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/streaming-outs", "listStreamingOuts", list)
            .doc(TAG, "List what is sent to other servers")
            .gives::<Vec<StreamingOut>>(),
        room(Method::POST, "/streaming-outs", "createStreamingOut", create)
            .doc(TAG, "Send a stream to another server")
            .more("By RTMP, SRT, RTSP, HLS or DASH.")
            .takes::<StreamingOutRequest>()
            .gives::<StreamingOut>()
            .makes("streamingOut"),
        room(Method::PATCH, "/streaming-outs/{streamingOut}", "updateStreamingOut", update)
            .doc(TAG, "Change what is sent")
            .takes::<SubscriptionPatch>()
            .gives::<StreamingOut>(),
        room(Method::DELETE, "/streaming-outs/{streamingOut}", "deleteStreamingOut", delete)
            .doc(TAG, "Send no more"),
    ]
}

/// OWT's rules.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("anyOf" = [
    { "required": ["protocol"], "properties": { "protocol": { "type": "string" } } },
    { "properties": { "url": { "pattern": r"^rtmps?://|^rtsps?://|^srt://|\.m3u8$|\.mpd$" } } },
]))]
struct StreamingOutRequest {
    /// If not given, the URL says it: `rtmp://…`, `rtsp://…`, `srt://…`, `….m3u8` or `….mpd`.
    protocol: Option<Protocol>,
    url: String,
    /// Of HLS and DASH.
    parameters: Option<SegmentParameters>,
    media: MediaRequest,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Rtmp,
    Srt,
    Rtsp,
    Hls,
    Dash,
}

/// How segments are stored.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SegmentParameters {
    /// `PUT` if not given.
    method: Option<StoreMethod>,
    /// Seconds; 2 if not given.
    hls_time: Option<f64>,
    /// 5 if not given.
    hls_list_size: Option<f64>,
    /// `mpegts` if not given, or `fmp4` with `hlsPartTime`. Not of OWT.
    hls_segment_type: Option<SegmentType>,
    /// Seconds of the parts that segments come in; there are none if not given. Not of OWT.
    hls_part_time: Option<f64>,
    /// Seconds; 2 if not given.
    dash_seg_duration: Option<f64>,
    /// 5 if not given.
    dash_window_size: Option<f64>,
}

impl SegmentParameters {
    fn of_hls(self) -> SegmentOptions {
        let container = match self.hls_segment_type {
            None => "",
            Some(SegmentType::Mpegts) => "mpegts",
            Some(SegmentType::Fmp4) => "fmp4",
        };
        SegmentOptions {
            container: container.to_owned(),
            part_ms: self.hls_part_time.map_or(0, milliseconds),
            ..self.cut(self.hls_time, self.hls_list_size)
        }
    }

    fn of_dash(self) -> SegmentOptions {
        self.cut(self.dash_seg_duration, self.dash_window_size)
    }

    fn cut(&self, seconds: Option<f64>, count: Option<f64>) -> SegmentOptions {
        SegmentOptions {
            method: match self.method {
                Some(StoreMethod::Post) => "POST",
                Some(StoreMethod::Put) | None => "PUT",
            }
            .to_owned(),
            duration_ms: seconds.map_or(0, milliseconds),
            window: count.map_or(0, |count| count.max(1.0) as u32),
            ..SegmentOptions::default()
        }
    }
}

/// Casts from floats saturate; what is no sensible length is refused where it is cut.
fn milliseconds(seconds: f64) -> u32 {
    (seconds * 1000.0).max(1.0) as u32
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SegmentType {
    Mpegts,
    Fmp4,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum StoreMethod {
    Put,
    Post,
}

impl StreamingOutRequest {
    /// What is given, or what the URL looks like.
    fn protocol(&self) -> Option<Protocol> {
        let by_url = || match self.url.as_str() {
            url if url.starts_with("rtmp://") || url.starts_with("rtmps://") => Some(Protocol::Rtmp),
            url if url.starts_with("rtsp://") || url.starts_with("rtsps://") => Some(Protocol::Rtsp),
            url if url.starts_with("srt://") => Some(Protocol::Srt),
            url if url.ends_with(".m3u8") => Some(Protocol::Hls),
            url if url.ends_with(".mpd") => Some(Protocol::Dash),
            _ => None,
        };
        self.protocol.or_else(by_url)
    }
}

async fn list(call: RoomCall) -> Answered {
    egress::list(call, Class::Broadcast).await
}

async fn create(call: RoomCall) -> Answered {
    let request: StreamingOutRequest = call.read(bad_request)?;
    let (protocol, segments) = match request.protocol().ok_or_else(|| bad_request(String::new()))? {
        Protocol::Rtmp => ("rtmp", None),
        Protocol::Srt => ("srt", None),
        Protocol::Rtsp => ("rtsp", None),
        Protocol::Hls => ("hls", Some(request.parameters.unwrap_or_default().of_hls())),
        Protocol::Dash => ("dash", Some(request.parameters.unwrap_or_default().of_dash())),
    };
    let broadcast = BroadcastTarget { protocol: protocol.to_owned(), url: request.url, segments };
    egress::start(call, request.media, Target::Broadcast(broadcast)).await
}

async fn update(call: RoomCall) -> Answered {
    egress::update(call, Class::Broadcast, "streamingOut").await
}

async fn delete(call: RoomCall) -> Answered {
    egress::stop(call, Class::Broadcast, "streamingOut").await
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn protocol(value: Value) -> Option<Protocol> {
        serde_json::from_value::<StreamingOutRequest>(value).unwrap().protocol()
    }

    #[test]
    fn the_protocol_is_given_or_guessed() {
        let media = json!({"audio": {"from": "s"}, "video": false});
        let of = |url: &str| protocol(json!({"url": url, "media": media}));
        assert_eq!(of("rtmp://a/b"), Some(Protocol::Rtmp));
        assert_eq!(of("rtsp://a/b"), Some(Protocol::Rtsp));
        assert_eq!(of("srt://a:1?streamid=b"), Some(Protocol::Srt));
        assert_eq!(of("https://a/b.m3u8"), Some(Protocol::Hls));
        assert_eq!(of("https://a/b.mpd"), Some(Protocol::Dash));
        assert_eq!(of("https://a/b"), None);
        let given = json!({"protocol": "hls", "url": "https://a/b", "parameters": {"method": "POST"}, "media": media});
        assert_eq!(protocol(given), Some(Protocol::Hls));
    }

    #[test]
    fn segments_are_owts() {
        let options = |value: Value| serde_json::from_value::<SegmentParameters>(value).unwrap().of_hls();
        let expected = SegmentOptions {
            method: "POST".into(),
            duration_ms: 2_500,
            window: 7,
            ..SegmentOptions::default()
        };
        assert_eq!(options(json!({"method": "POST", "hlsTime": 2.5, "hlsListSize": 7})), expected);
        let usual = SegmentOptions { method: "PUT".into(), ..SegmentOptions::default() };
        assert_eq!(options(json!({})), usual);
        let in_parts = options(json!({"hlsSegmentType": "fmp4", "hlsPartTime": 0.5}));
        assert_eq!((in_parts.container.as_str(), in_parts.part_ms), ("fmp4", 500));
        let dash = json!({"dashSegDuration": 4, "dashWindowSize": 3, "hlsTime": 9, "hlsPartTime": 1});
        let dash = serde_json::from_value::<SegmentParameters>(dash).unwrap().of_dash();
        assert_eq!((dash.duration_ms, dash.window, dash.part_ms), (4_000, 3, 0));
        // What is given is never taken for what is not.
        assert_eq!(options(json!({"hlsTime": 0})).duration_ms, 1);
    }

    #[test]
    fn requests_follow_owts_rules() {
        let video = json!({"from": "s", "format": {"codec": "h264", "profile": "CB"}, "parameters": {
            "resolution": {"width": 640, "height": 480}, "framerate": 30, "bitrate": "x0.8", "keyFrameInterval": 5,
        }});
        let audio = json!({"from": "s", "format": {"codec": "aac", "sampleRate": 48000, "channelNum": 2}});
        let media = json!({"audio": audio, "video": video});
        assert!(serde_json::from_value::<MediaRequest>(media.clone()).is_ok());
        for (place, value) in [
            ("/audio", json!(true)),
            ("/audio/from", json!(1)),
            ("/audio/format/codec", json!("mp3")),
            ("/video/format/profile", json!("X")),
            ("/video/parameters/resolution", json!({"width": 1})),
            ("/video/parameters/bitrate", json!([])),
            ("/video/parameters/more", json!(1)),
        ] {
            let mut bad = media.clone();
            match bad.pointer_mut(place) {
                Some(there) => *there = value,
                None => bad["video"]["parameters"]["more"] = value,
            }
            assert!(serde_json::from_value::<MediaRequest>(bad).is_err(), "{place}");
        }
        assert!(serde_json::from_value::<MediaRequest>(json!({"audio": false})).is_err(), "both are named");
    }
}
