//! Streams from other servers. Nothing brings them in here yet: what is asked is checked, and refused.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, Operation, Reply, room},
    streams,
};

const TAG: &str = "streaming";

/// What can be asked of streaming-ins.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::POST, "/streaming-ins", "createStreamingIn", create)
            .doc(TAG, "Bring a stream in from another server")
            .more("Not available yet.")
            .takes::<StreamingInRequest>()
            .replies(Reply::Never),
        room(Method::DELETE, "/streaming-ins/{stream}", "deleteStreamingIn", streams::delete)
            .doc(TAG, "End a stream; the same as of any other stream"),
    ]
}

/// OWT's rules.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct StreamingInRequest {
    r#type: Option<Streaming>,
    connection: Connection,
    media: Media,
    attributes: Option<Map<String, Value>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Streaming {
    Streaming,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "StreamingInConnection")]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct Connection {
    url: String,
    /// `tcp` if not given.
    transport_protocol: Option<Transport>,
    /// Bytes, for UDP; 8,192 if not given.
    buffer_size: Option<f64>,
    /// Where the source is.
    origin: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Transport {
    Tcp,
    Udp,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StreamingInMedia")]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct Media {
    audio: Wanted,
    video: Wanted,
}

/// Whether a kind is needed; `auto` takes it if it is there.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
enum Wanted {
    Needed(bool),
    IfThere(Auto),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Auto {
    Auto,
}

async fn create(call: RoomCall) -> Answered {
    // OWT answers what is none as it does what fails.
    call.read::<StreamingInRequest>(|_| RestError::Operation("Operation failed".to_owned()))?;
    Err(RestError::NotAvailable("streaming-ins"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_follow_owts_rules() {
        let reads = |value: Value| serde_json::from_value::<StreamingInRequest>(value).is_ok();
        let media = json!({"audio": "auto", "video": true});
        assert!(reads(json!({"connection": {"url": "rtsp://a"}, "media": media})));
        assert!(reads(json!({
            "type": "streaming", "attributes": {"a": 1}, "media": media,
            "connection": {"url": "rtsp://a", "transportProtocol": "udp", "bufferSize": 1, "origin": {"isp": "a"}},
        })));
        for bad in [
            json!({}),
            json!({"connection": {}, "media": media}),
            json!({"connection": {"url": "rtsp://a"}, "media": {"audio": "auto"}}),
            json!({"connection": {"url": "rtsp://a"}, "media": {"audio": "maybe", "video": true}}),
            json!({"connection": {"url": "rtsp://a", "transportProtocol": "quic"}, "media": media}),
            json!({"connection": {"url": "rtsp://a"}, "media": media, "more": 1}),
        ] {
            assert!(!reads(bad.clone()), "{bad}");
        }
    }
}
