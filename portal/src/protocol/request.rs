//! Requests that are the same in all versions of the protocol, and the types that the others are read into.

use kaigi_proto::{
    ids::{ParticipantId, SessionId, StreamId, TransportId},
    v1::{IceCandidate, KindFlags, PublishTrack, SubscribeTrack},
};
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
/// Longest message to participants, in bytes. OWT documents 2048 characters and enforces nothing.
const MAX_TEXT_LENGTH: usize = 64 * 1024;

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
    #[error("Message is longer than {MAX_TEXT_LENGTH} bytes")]
    TextLength,
    #[error("Update subscription failed")]
    Update,
    /// Legal in the protocol, but not served here.
    #[error("{0} is not available")]
    NotAvailable(&'static str),
}

impl RequestError {
    /// The thing at `path` (".media.tracks", empty for the request itself) has a problem.
    pub(crate) fn shape(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Shape { path: path.into(), problem: problem.into() }
    }
}

/// Reads `data` into `T`; the error names the path of what doesn't fit.
pub(crate) fn read<T: DeserializeOwned>(data: Value) -> Result<T, RequestError> {
    serde_path_to_error::deserialize(data).map_err(|error| {
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
    /// Absent for the first session of a transport.
    pub(crate) transport: Option<TransportId>,
    /// Whether the session has a transport of its own, which ends with it.
    pub(crate) own_transport: bool,
}

/// A `subscribe` request.
#[derive(Debug, PartialEq)]
pub(crate) struct Subscribe {
    pub(crate) tracks: Vec<SubscribeTrack>,
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

/// What a control request asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Operation {
    Pause(KindFlags),
    Play(KindFlags),
    /// Into the view of this label.
    Mix(String),
    Unmix(String),
    /// An update without content.
    Nothing,
}

/// A `stream-control` request.
#[derive(Debug, PartialEq)]
pub(crate) struct StreamControl {
    pub(crate) id: StreamId,
    pub(crate) operation: Operation,
}

/// A `subscription-control` request.
#[derive(Debug, PartialEq)]
pub(crate) struct SubscriptionControl {
    pub(crate) id: SessionId,
    pub(crate) operation: Operation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct StreamControlBody {
    id: StreamId,
    operation: StreamOperation,
    data: Value,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum StreamOperation {
    Pause,
    Play,
    Mix,
    Unmix,
    SetRegion,
    GetRegion,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SubscriptionControlBody {
    id: SessionId,
    operation: SubscriptionOperation,
    data: Value,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum SubscriptionOperation {
    Pause,
    Play,
    Update,
}

/// Reads a `stream-control` request.
pub(crate) fn stream_control(data: Value) -> Result<StreamControl, RequestError> {
    let StreamControlBody { id, operation, data } = read(data)?;
    let operation = match operation {
        StreamOperation::Pause => Operation::Pause(kinds(&data)?),
        StreamOperation::Play => Operation::Play(kinds(&data)?),
        StreamOperation::Mix => Operation::Mix(view_label(data)?),
        StreamOperation::Unmix => Operation::Unmix(view_label(data)?),
        StreamOperation::SetRegion => return Err(RequestError::NotAvailable("set-region")),
        StreamOperation::GetRegion => return Err(RequestError::NotAvailable("get-region")),
    };
    Ok(StreamControl { id, operation })
}

/// Reads a `subscription-control` request.
pub(crate) fn subscription_control(data: Value) -> Result<SubscriptionControl, RequestError> {
    let SubscriptionControlBody { id, operation, data } = read(data)?;
    let operation = match operation {
        SubscriptionOperation::Pause => Operation::Pause(kinds(&data)?),
        SubscriptionOperation::Play => Operation::Play(kinds(&data)?),
        SubscriptionOperation::Update => update(&data)?,
    };
    Ok(SubscriptionControl { id, operation })
}

/// An update that asks for nothing is fine; one that asks for a change can't be served.
fn update(data: &Value) -> Result<Operation, RequestError> {
    let Value::Object(members) = data else { return Err(RequestError::shape(".data", "should be object")) };
    if let Some(unknown) = members.keys().find(|k| !matches!(k.as_str(), "audio" | "video")) {
        return Err(RequestError::shape(".data", format!("should NOT have additional property {unknown}")));
    }
    if members.values().all(asks_for_nothing) { Ok(Operation::Nothing) } else { Err(RequestError::Update) }
}

fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.values().all(asks_for_nothing),
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => false,
    }
}

fn kinds(data: &Value) -> Result<KindFlags, RequestError> {
    match data.as_str() {
        Some("audio") => Ok(KindFlags { audio: true, video: false }),
        Some("video") => Ok(KindFlags { audio: false, video: true }),
        Some("av") => Ok(KindFlags { audio: true, video: true }),
        Some(_) | None => Err(RequestError::shape(".data", "should be audio, video or av")),
    }
}

fn view_label(data: Value) -> Result<String, RequestError> {
    match data {
        Value::String(label) if !label.is_empty() && label.len() <= 64 => Ok(label),
        _ => Err(RequestError::shape(".data", "should be the label of a view")),
    }
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

/// Reads a `text` request. A message that is no string is sent as JSON text.
pub(crate) fn text(mut data: Value) -> Result<Text, RequestError> {
    let to = match data.get("to").and_then(Value::as_str) {
        Some("all") => Receiver::All,
        Some(id) => Receiver::One(ParticipantId::new(id).map_err(|_| RequestError::Receiver)?),
        None => return Err(RequestError::Receiver),
    };
    let message = match data.get_mut("message").map(Value::take) {
        Some(Value::String(message)) => message,
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    if message.len() > MAX_TEXT_LENGTH {
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
    fn controls_name_kinds_and_views() {
        let control = |operation: &str, data: Value| {
            stream_control(json!({"id": "s", "operation": operation, "data": data}))
        };
        assert_eq!(
            control("pause", json!("av")).unwrap().operation,
            Operation::Pause(KindFlags { audio: true, video: true })
        );
        assert_eq!(control("mix", json!("common")).unwrap().operation, Operation::Mix("common".into()));
        for (operation, data) in
            [("pause", json!("text")), ("play", json!(1)), ("mix", json!("")), ("unmix", Value::Null)]
        {
            assert!(matches!(control(operation, data), Err(RequestError::Shape { .. })), "{operation}");
        }
        assert_eq!(control("get-region", json!("common")), Err(RequestError::NotAvailable("get-region")));
        let refused = control("explode", json!("av")).unwrap_err().to_string();
        assert!(refused.starts_with("request.operation unknown variant"), "{refused}");
        assert!(stream_control(json!({"id": "s", "operation": "pause"})).is_err());
        assert!(stream_control(json!({"id": "s", "operation": "pause", "data": "av", "more": 1})).is_err());
    }

    #[test]
    fn an_update_that_changes_nothing_is_fine() {
        let update =
            |data: Value| subscription_control(json!({"id": "s", "operation": "update", "data": data}));
        assert_eq!(update(json!({"video": {"parameters": {}}})).unwrap().operation, Operation::Nothing);
        assert_eq!(update(json!({"video": {"from": "t"}})), Err(RequestError::Update));
        assert!(matches!(update(json!({"text": {}})), Err(RequestError::Shape { .. })));
        assert!(matches!(update(json!("x")), Err(RequestError::Shape { .. })));
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
        assert_eq!(text(json!({"to": "all", "message": {"a": 1}})).unwrap().message, r#"{"a":1}"#);
        assert_eq!(text(json!({"to": "all"})).unwrap().message, "");
        for bad in [json!({"to": ""}), json!({"to": 1}), json!({}), Value::Null] {
            assert_eq!(text(bad), Err(RequestError::Receiver));
        }
        assert_eq!(
            text(json!({"to": "all", "message": "x".repeat(MAX_TEXT_LENGTH + 1)})),
            Err(RequestError::TextLength)
        );
    }
}
