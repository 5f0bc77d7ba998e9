//! Streams from other servers.

use std::marker::PhantomData;

use axum::http::Method;
use kaigi_proto::{
    shape::stream_json,
    v1::{Ingest, InputWish, StartIngestRequest},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    call::RoomCall,
    egress::{condition, condition_schema},
    error::RestError,
    operation::{Answered, Operation, json_response, room},
    shapes::{Stream, StreamV1_1},
    streams,
};

const TAG: &str = "streaming";
/// Of stream keys.
const KEY_BYTES: usize = 16;

/// What can be asked of streaming-ins.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/streaming-ins", "listStreamingIns", list)
            .doc(TAG, "List what comes from other servers")
            .gives::<Vec<StreamingIn>>(),
        room(Method::POST, "/streaming-ins", "createStreamingIn", create)
            .doc(TAG, "Bring a stream in from another server, or let an encoder push one")
            .more("Pulled by RTSP, RTMP, SRT or HLS, or a file by HTTP: answered with the stream when it flows, which may take half a minute. With \
                   `listen` answered at once with the URL and the key that an encoder is to push with; the stream is there when it does.")
            .takes::<StreamingInRequest>()
            .gives_either::<Begun<Stream>, Begun<StreamV1_1>>()
            .makes("stream"),
        room(Method::DELETE, "/streaming-ins/{stream}", "deleteStreamingIn", streams::delete)
            .doc(TAG, "End a stream; the same as of any other stream"),
    ]
}

/// OWT's rules.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StreamingInRequest {
    #[expect(dead_code, reason = "there is but one")]
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
#[serde(untagged)]
#[schemars(rename = "StreamingInConnection")]
enum Connection {
    Pulled(Pulled),
    Pushed(Pushed),
}

/// Where an encoder pushes to is answered.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StreamingInPushed")]
struct Pushed {
    /// How.
    listen: Listen,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Listen {
    Rtmp,
    Srt,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "StreamingInPulled")]
struct Pulled {
    /// `rtsp://…`, `rtmp://…`, `srt://…`, `http://….m3u8`, another file by HTTP, or `file:///…` below the folder for that.
    url: String,
    /// Of RTSP; `tcp` if not given.
    transport_protocol: Option<Transport>,
    /// Bytes, for UDP; 8,192 if not given.
    buffer_size: Option<f64>,
    /// Where the source is; taken, and not looked at.
    #[expect(dead_code, reason = "the room's streaming-node pulls all of its streams")]
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
struct Media {
    audio: Wanted,
    video: Wanted,
}

/// Whether a kind is needed; `auto` takes it if it is there.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Wanted {
    Needed(bool),
    IfThere(Auto),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Auto {
    Auto,
}

impl Wanted {
    fn wish(&self) -> InputWish {
        match self {
            Self::Needed(true) => InputWish::Needed,
            Self::Needed(false) => InputWish::None,
            Self::IfThere(Auto::Auto) => InputWish::Auto,
        }
    }
}

impl StreamingInRequest {
    fn into_message(self, room: String) -> StartIngestRequest {
        let (pulled, listen_key, listen_protocol) = match self.connection {
            Connection::Pulled(pulled) => (Some(pulled), String::new(), ""),
            Connection::Pushed(Pushed { listen }) => {
                let protocol = match listen {
                    Listen::Rtmp => "rtmp",
                    Listen::Srt => "srt",
                };
                (None, hex::encode(rand::random::<[u8; KEY_BYTES]>()), protocol)
            }
        };
        let udp = |pulled: &Pulled| matches!(pulled.transport_protocol, Some(Transport::Udp));
        let buffer = pulled.as_ref().and_then(|pulled| pulled.buffer_size);
        StartIngestRequest {
            room_id: room,
            udp: pulled.as_ref().is_some_and(udp),
            url: pulled.map(|pulled| pulled.url).unwrap_or_default(),
            listen_key,
            listen_protocol: listen_protocol.to_owned(),
            // Casts from floats saturate.
            buffer_size: buffer.map_or(8192, |bytes| bytes as u32),
            audio: self.media.audio.wish().into(),
            video: self.media.video.wish().into(),
            attributes: self
                .attributes
                .map(|attributes| Value::Object(attributes).to_string())
                .unwrap_or_default(),
            // Given when it is made.
            request_id: String::new(),
        }
    }
}

async fn list(call: RoomCall) -> Answered {
    let all = call.api.backend.ingests(&call.id).await?.unwrap_or_default();
    Ok(json_response(all.iter().map(shown).collect::<Value>()))
}

async fn create(call: RoomCall) -> Answered {
    // OWT answers what is none as it does what fails.
    let failed = |_| RestError::Operation("Operation failed".to_owned());
    let request: StreamingInRequest = call.read(failed)?;
    let request = request.into_message(call.id.to_string());
    if !request.listen_key.is_empty() {
        let key = request.listen_key.clone();
        let ingest = call.api.backend.listen_ingest(&call.id, request).await?;
        tracing::info!(room = %call.id, stream = ingest.id, "streaming-in awaited");
        let mut answer = shown(&ingest);
        answer["connection"]["key"] = key.into();
        return Ok(json_response(answer));
    }
    let stream = call.api.backend.start_ingest(&call.id, request).await?;
    tracing::info!(room = %call.id, stream = stream.id, "streaming-in begun");
    Ok(json_response(stream_json(call.version, &stream)))
}

fn shown(ingest: &Ingest) -> Value {
    let wish = |wish: InputWish| match wish {
        InputWish::Auto => json!("auto"),
        InputWish::Needed => json!(true),
        InputWish::None => json!(false),
    };
    let connection = match ingest.listens {
        true => json!({ "listen": ingest.listen_protocol, "url": ingest.url }),
        false => json!({ "url": ingest.url, "transportProtocol": if ingest.udp { "udp" } else { "tcp" } }),
    };
    let mut shown = json!({
        "id": ingest.id,
        "connection": connection,
        "media": { "audio": wish(ingest.audio()), "video": wish(ingest.video()) },
        "state": condition(ingest.state()),
    });
    if !ingest.reason.is_empty() {
        shown["reason"] = ingest.reason.clone().into();
    }
    shown
}

/// What a request is answered with: the stream, or what an encoder is to push with.
struct Begun<S>(PhantomData<S>);

impl<S: JsonSchema> JsonSchema for Begun<S> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}OrStreamingIn", S::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (stream, awaited) = (generator.subschema_for::<S>(), generator.subschema_for::<StreamingIn>());
        json_schema!({ "anyOf": [stream, awaited] })
    }
}

/// A stream that comes from another server, or from an encoder.
struct StreamingIn;

impl JsonSchema for StreamingIn {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StreamingIn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let wish = json!({ "enum": ["auto", true, false] });
        let (state, reason) = condition_schema();
        json_schema!({
            "type": "object",
            "properties": {
                "id": { "type": "string", "description": "Of the stream, which is there when it flows" },
                "connection": {
                    "type": "object",
                    "properties": {
                        "url": { "type": "string", "description": "Without credentials and the last part of its path; where an encoder pushes to, empty while no streaming-node waits" },
                        "transportProtocol": { "enum": ["tcp", "udp"] },
                        "listen": { "enum": ["rtmp", "srt"], "description": "It is pushed" },
                        "key": { "type": "string", "description": "The stream key to push with by RTMP, or the passphrase by SRT; told once, when it is made" },
                    },
                    "required": ["url"],
                },
                "media": {
                    "type": "object",
                    "properties": { "audio": wish, "video": wish },
                    "required": ["audio", "video"],
                },
                "state": state,
                "reason": reason,
            },
            "required": ["id", "connection", "media", "state"],
        })
    }
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
            json!({"connection": {"listen": "rtmp", "url": "rtmp://a"}, "media": media}),
            json!({"connection": {"listen": "quic"}, "media": media}),
        ] {
            assert!(!reads(bad.clone()), "{bad}");
        }
    }

    #[test]
    fn a_request_says_what_is_taken() {
        let request: StreamingInRequest = serde_json::from_value(json!({
            "connection": {"url": "rtsp://a/b", "transportProtocol": "udp", "bufferSize": 4096},
            "media": {"audio": "auto", "video": true}, "attributes": {"a": 1},
        }))
        .unwrap();
        let message = request.into_message("r".into());
        assert_eq!(
            (message.udp, message.buffer_size, message.attributes.as_str()),
            (true, 4096, r#"{"a":1}"#)
        );
        assert_eq!((message.audio(), message.video()), (InputWish::Auto, InputWish::Needed));
        let media = json!({"audio": false, "video": "auto"});
        let request: StreamingInRequest =
            serde_json::from_value(json!({"connection": {"url": "rtsp://a/b"}, "media": media})).unwrap();
        let message = request.into_message("r".into());
        assert_eq!((message.udp, message.buffer_size, message.attributes.as_str()), (false, 8192, ""));
        assert_eq!((message.audio(), message.video()), (InputWish::None, InputWish::Auto));
    }

    #[test]
    fn what_is_pushed_gets_a_key() {
        let message = || {
            let media = json!({"audio": "auto", "video": "auto"});
            let request = json!({"connection": {"listen": "rtmp"}, "media": media});
            serde_json::from_value::<StreamingInRequest>(request).unwrap().into_message("r".into())
        };
        let (one, other) = (message(), message());
        assert_eq!((one.url.as_str(), one.listen_key.len()), ("", 32));
        assert_ne!(one.listen_key, other.listen_key);
    }
}
