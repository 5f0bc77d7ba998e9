//! Requests that are the same in all versions of the protocol, and the types that the others are read into.

use kaigi_proto::{
    ids::{ParticipantId, SessionId, StreamId, TransportId},
    v1::{IceCandidate, PublishTrack, SubscribeTrack},
};
use kaigi_room_config::strict::Strict;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Most tracks of one publication or subscription.
pub(crate) const MAX_TRACKS: usize = 8;
/// Longest SDP, in bytes; 200 m-lines stay below.
const MAX_SDP_LENGTH: usize = 512 * 1024;
/// Most candidates withdrawn at once.
const MAX_CANDIDATES: usize = 256;
/// Longest candidate line, in bytes.
const MAX_CANDIDATE_LENGTH: usize = 1024;
/// Longest message to participants, in UTF-16 code units, as the clients' languages count (OWT's documented limit).
const MAX_TEXT_LENGTH: usize = 2048;

/// Why a request is refused before it reaches a room. The text is what the client is told.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// Has not the shape that the protocol gives it; `path` is where.
    #[error("request{path} {problem}")]
    Shape { path: String, problem: String },
    #[error("Invalid stream id")]
    StreamId,
    #[error("Invalid subscription id")]
    SubscriptionId,
    #[error("Invalid soac id")]
    SoacId,
    #[error("Invalid signaling object")]
    SignalingObject,
    #[error("Invalid signaling type")]
    SignalingType,
    #[error("Invalid receiver")]
    Receiver,
    #[error("Message is not a string")]
    TextType,
    #[error("Message is longer than {MAX_TEXT_LENGTH} characters")]
    TextLength,
    /// QUIC, or what a client invents.
    #[error("Only transports of type webrtc are available")]
    TransportType,
}

impl RequestError {
    /// The thing at `path` (".media.tracks", empty for the request itself) has a problem.
    pub(crate) fn shape(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Shape { path: path.into(), problem: problem.into() }
    }
}

/// Reads `data` into `T`; the error names the path of what doesn't fit.
pub(crate) fn read<T: DeserializeOwned>(data: Value) -> Result<T, RequestError> {
    serde_path_to_error::deserialize(Strict(data)).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." => String::new(),
            path => format!(".{path}"),
        };
        RequestError::shape(path, error.inner().to_string())
    })
}

/// For a member that may be `null` but not absent.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(d)
}

/// For a member that may be absent but not `null`.
pub(crate) fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// A `publish` request.
#[derive(Debug, PartialEq)]
pub(crate) struct Publish {
    pub(crate) tracks: Vec<PublishTrack>,
    pub(crate) attributes: Option<Map<String, Value>>,
    /// Whether it has data, beside the tracks or alone.
    pub(crate) data: bool,
    /// Absent for the first session of a transport.
    pub(crate) transport: Option<TransportId>,
    /// Whether the session has a transport of its own, which ends with it.
    pub(crate) own_transport: bool,
}

/// A `subscribe` request.
#[derive(Debug, PartialEq)]
pub(crate) struct Subscribe {
    pub(crate) tracks: Vec<SubscribeTrack>,
    /// The stream whose data is wanted, beside the tracks or alone.
    pub(crate) data_from: Option<StreamId>,
    pub(crate) transport: Option<TransportId>,
    /// Whether the session has a transport of its own, which ends with it.
    pub(crate) own_transport: bool,
}

#[derive(Deserialize)]
struct IdBody {
    id: String,
}

/// Reads an `unpublish` request.
pub(crate) fn unpublish(data: Value) -> Result<SessionId, RequestError> {
    session_id(data).ok_or(RequestError::StreamId)
}

/// Reads an `unsubscribe` request.
pub(crate) fn unsubscribe(data: Value) -> Result<SessionId, RequestError> {
    session_id(data).ok_or(RequestError::SubscriptionId)
}

fn session_id(data: Value) -> Option<SessionId> {
    let id = read::<IdBody>(data).ok()?.id;
    let allowed = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    SessionId::new(id).ok().filter(|_| allowed)
}

/// A `soac` request: signaling of a transport.
#[derive(Debug, PartialEq)]
pub(crate) struct Soac {
    pub(crate) transport: TransportId,
    pub(crate) signal: Signal,
}

/// What is signaled.
#[derive(Debug, PartialEq)]
pub(crate) enum Signal {
    /// SDP.
    Offer(String),
    Candidate(IceCandidate),
    RemovedCandidates(Vec<IceCandidate>),
    /// A client's answer: legal, and without meaning where the client always offers.
    Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CandidateBody {
    #[serde(default)]
    candidate: Option<String>,
    #[serde(default)]
    sdp_mid: Option<String>,
    #[serde(default, rename = "sdpMLineIndex")]
    sdp_mline_index: Option<u32>,
}

/// Reads a `soac` request.
pub(crate) fn soac(mut data: Value) -> Result<Soac, RequestError> {
    let id = data.get("id").and_then(Value::as_str).ok_or(RequestError::SoacId)?;
    let transport = TransportId::new(id).map_err(|_| RequestError::SoacId)?;
    let Some(Value::Object(mut signaling)) = data.get_mut("signaling").map(Value::take) else {
        return Err(RequestError::SignalingObject);
    };
    let signal = match signaling.get("type").and_then(Value::as_str) {
        Some("offer") => match signaling.remove("sdp") {
            Some(Value::String(sdp)) if sdp.len() <= MAX_SDP_LENGTH => Signal::Offer(sdp),
            _ => return Err(RequestError::SignalingObject),
        },
        Some("answer") => Signal::Answer,
        Some("candidate") => Signal::Candidate(candidate(signaling.remove("candidate").unwrap_or_default())?),
        Some("removed-candidates") => match signaling.remove("candidates") {
            Some(Value::Array(list)) if list.len() <= MAX_CANDIDATES => {
                Signal::RemovedCandidates(list.into_iter().map(candidate).collect::<Result<_, _>>()?)
            }
            _ => return Err(RequestError::SignalingObject),
        },
        Some(_) | None => return Err(RequestError::SignalingType),
    };
    Ok(Soac { transport, signal })
}

fn candidate(value: Value) -> Result<IceCandidate, RequestError> {
    let body: CandidateBody = read(value).map_err(|_| RequestError::SignalingObject)?;
    let candidate = IceCandidate {
        candidate: body.candidate.unwrap_or_default(),
        sdp_mid: body.sdp_mid.unwrap_or_default(),
        sdp_mline_index: body.sdp_mline_index.unwrap_or_default(),
    };
    if candidate.candidate.len() > MAX_CANDIDATE_LENGTH || candidate.sdp_mid.len() > MAX_CANDIDATE_LENGTH {
        return Err(RequestError::SignalingObject);
    }
    Ok(candidate)
}

/// Who gets a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Receiver {
    All,
    One(ParticipantId),
}

/// A `text` request.
#[derive(Debug, PartialEq)]
pub(crate) struct Text {
    pub(crate) to: Receiver,
    pub(crate) message: String,
}

/// Reads a `text` request.
pub(crate) fn text(mut data: Value) -> Result<Text, RequestError> {
    let to = match data.get("to").and_then(Value::as_str) {
        Some("all") => Receiver::All,
        Some(id) => Receiver::One(ParticipantId::new(id).map_err(|_| RequestError::Receiver)?),
        None => return Err(RequestError::Receiver),
    };
    let Some(Value::String(message)) = data.get_mut("message").map(Value::take) else {
        return Err(RequestError::TextType);
    };
    if message.encode_utf16().nth(MAX_TEXT_LENGTH).is_some() {
        return Err(RequestError::TextLength);
    }
    Ok(Text { to, message })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn session_ids_follow_owts_pattern() {
        assert_eq!(unpublish(json!({"id": "0a-B"})).unwrap().as_str(), "0a-B");
        for bad in [
            json!({"id": "a_b"}),
            json!({"id": ""}),
            json!({"id": 1}),
            json!({}),
            Value::Null,
            json!("x"),
            json!([]),
        ] {
            assert_eq!(unpublish(bad.clone()), Err(RequestError::StreamId), "{bad}");
            assert_eq!(unsubscribe(bad), Err(RequestError::SubscriptionId));
        }
    }

    #[test]
    fn signaling_says_what_is_wrong() {
        let signal = |signaling: Value| soac(json!({"id": "t", "signaling": signaling}));
        assert_eq!(
            signal(json!({"type": "offer", "sdp": "v=0"})).unwrap().signal,
            Signal::Offer("v=0".into())
        );
        assert_eq!(signal(json!({"type": "answer", "sdp": "v=0"})).unwrap().signal, Signal::Answer);
        let table = [
            (json!({"signaling": {"type": "offer", "sdp": ""}}), RequestError::SoacId),
            (json!({"id": 5, "signaling": {}}), RequestError::SoacId),
            (json!({"id": "a b", "signaling": {}}), RequestError::SoacId),
            (Value::Null, RequestError::SoacId),
            (json!({"id": "t"}), RequestError::SignalingObject),
            (json!({"id": "t", "signaling": "offer"}), RequestError::SignalingObject),
            (json!({"id": "t", "signaling": {"type": "offer"}}), RequestError::SignalingObject),
            (json!({"id": "t", "signaling": {"type": "candidate"}}), RequestError::SignalingObject),
            (
                json!({"id": "t", "signaling": {"type": "removed-candidates", "candidates": [1]}}),
                RequestError::SignalingObject,
            ),
            (json!({"id": "t", "signaling": {"type": "pranswer"}}), RequestError::SignalingType),
            (json!({"id": "t", "signaling": {}}), RequestError::SignalingType),
        ];
        for (data, error) in table {
            assert_eq!(soac(data.clone()), Err(error), "{data}");
        }
    }

    #[test]
    fn candidates_may_lack_what_clients_leave_out() {
        let signaling = json!({"type": "removed-candidates", "candidates": [{"candidate": "a=candidate:1"}, {"candidate": "", "sdpMid": null}]});
        let Signal::RemovedCandidates(list) =
            soac(json!({"id": "t", "signaling": signaling})).unwrap().signal
        else {
            panic!()
        };
        assert_eq!(list[0].candidate, "a=candidate:1");
        assert_eq!(list[1].sdp_mid, "");
    }

    #[test]
    fn text_needs_a_receiver() {
        assert_eq!(
            text(json!({"to": "all", "message": "hi"})).unwrap(),
            Text { to: Receiver::All, message: "hi".into() }
        );
        for bad in [json!({"to": ""}), json!({"to": 1}), json!({}), Value::Null] {
            assert_eq!(text(bad), Err(RequestError::Receiver));
        }
    }

    #[test]
    fn a_message_is_a_string_of_2048_characters_as_clients_count() {
        let say = |message: Value| text(json!({"to": "all", "message": message}));
        for bad in [json!({"a": 1}), json!(1), Value::Null] {
            assert_eq!(say(bad), Err(RequestError::TextType));
        }
        assert_eq!(text(json!({"to": "all"})), Err(RequestError::TextType));
        assert_eq!(say(json!("")).unwrap().message, "");
        for (good, bad) in [
            ("x".repeat(2048), "x".repeat(2049)),
            ("🎉".repeat(1024), "🎉".repeat(1024) + "x"),
            ("会".repeat(2048), "会".repeat(2049)),
        ] {
            assert_eq!(say(json!(good)).unwrap().message, good);
            assert_eq!(say(json!(bad)), Err(RequestError::TextLength));
        }
    }
}
