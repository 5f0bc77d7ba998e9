//! What happens in a room, as its service is told.

use kaigi_proto::{
    events::EventType,
    ids::RoomId,
    shape::{ApiVersion, stream_json},
    v1,
};
use kaigi_worker::EventQueue;
use serde_json::{Value, json};

use crate::room::{Condition, Happening, Streaming, StreamingFacts, SubscriptionFacts};

/// Tells the service of one room.
#[derive(Debug)]
pub(crate) struct RoomEvents {
    queue: EventQueue,
    service: String,
    name: String,
    room: RoomId,
}

impl RoomEvents {
    pub(crate) fn new(queue: EventQueue, room: RoomId, (service, name): (&str, &str)) -> Self {
        Self { queue, service: service.to_owned(), name: name.to_owned(), room }
    }

    /// The room begins to run.
    pub(crate) fn started(&self) {
        self.push(EventType::RoomStarted, &self.itself());
    }

    /// The room does not run any more.
    pub(crate) fn ended(&self) {
        self.push(EventType::RoomEnded, &self.itself());
    }

    /// Something has happened in it.
    pub(crate) fn happened(&self, happening: &Happening) {
        let (kind, data) = told(happening);
        self.push(kind, &data);
    }

    fn itself(&self) -> Value {
        json!({ "room": { "id": self.room.as_str(), "name": self.name } })
    }

    fn push(&self, kind: EventType, data: &Value) {
        self.queue.push(kind, &self.service, self.room.as_str(), data.to_string());
    }
}

/// The event's type and data.
fn told(happening: &Happening) -> (EventType, Value) {
    match happening {
        Happening::ParticipantJoined(participant) => {
            (EventType::ParticipantJoined, json!({ "participant": participant_json(participant) }))
        }
        Happening::ParticipantLeft { participant, why } => (
            EventType::ParticipantLeft,
            json!({ "participant": { "id": participant.as_str() }, "reason": why.name() }),
        ),
        Happening::ParticipantUpdated(participant) => {
            let mut shown = participant_json(participant);
            shown["permission"] = permission_json(participant.permission.as_ref());
            (EventType::ParticipantUpdated, json!({ "participant": shown }))
        }
        Happening::StreamAdded(stream) => {
            (EventType::StreamAdded, json!({ "stream": stream_json(ApiVersion::V1, stream) }))
        }
        Happening::StreamUpdated { stream, part } => (
            EventType::StreamUpdated,
            json!({ "stream": stream_json(ApiVersion::V1, stream), "change": part.name() }),
        ),
        Happening::StreamRemoved(stream) => {
            (EventType::StreamRemoved, json!({ "stream": { "id": stream.as_str() } }))
        }
        Happening::SubscriptionAdded(facts) => {
            (EventType::SubscriptionAdded, json!({ "subscription": subscription_json(facts) }))
        }
        Happening::SubscriptionRemoved { subscription, participant } => {
            let gone = json!({ "id": subscription.as_str(), "participant": participant.as_str() });
            (EventType::SubscriptionRemoved, json!({ "subscription": gone }))
        }
        Happening::StreamingUpdated(facts) => {
            let (kind, name) = match facts.what {
                Streaming::Recording => (EventType::RecordingUpdated, "recording"),
                Streaming::Out => (EventType::StreamingOutUpdated, "streamingOut"),
                Streaming::In => (EventType::StreamingInUpdated, "streamingIn"),
                Streaming::Analytics => (EventType::AnalyticsUpdated, "analytics"),
            };
            (kind, json!({ name: streaming_json(facts) }))
        }
    }
}

/// As the management API shows it; `ended` is told alone.
fn streaming_json(facts: &StreamingFacts) -> Value {
    let (state, reason) = match &facts.condition {
        None => ("ended", None),
        Some(Condition::Starting) => ("starting", None),
        Some(Condition::Active) => ("active", None),
        Some(Condition::Trouble(reason)) => ("trouble", Some(reason)),
        Some(Condition::Failed(reason)) => ("failed", Some(reason)),
    };
    let mut shown = json!({ "id": facts.id, "state": state });
    if let Some(reason) = reason {
        shown["reason"] = reason.clone().into();
    }
    if let Some(stream) = &facts.stream {
        shown["stream"] = stream.as_str().into();
    }
    shown
}

fn participant_json(participant: &v1::Participant) -> Value {
    let user: Value = serde_json::from_str(&participant.user).unwrap_or(Value::Null);
    json!({ "id": participant.id, "user": user, "role": participant.role })
}

fn permission_json(permission: Option<&v1::Permission>) -> Value {
    let flags = |flags: Option<v1::KindFlags>| {
        let flags = flags.unwrap_or_default();
        json!({ "audio": flags.audio, "video": flags.video })
    };
    let permission = permission.copied().unwrap_or_default();
    json!({ "publish": flags(permission.publish), "subscribe": flags(permission.subscribe) })
}

fn subscription_json(facts: &SubscriptionFacts) -> Value {
    let tracks =
        facts.tracks.iter().map(|(kind, from)| json!({ "kind": kind.name(), "from": from.as_str() }));
    let mut shown = json!({
        "id": facts.id.as_str(),
        "participant": facts.participant.as_str(),
        "tracks": tracks.collect::<Vec<_>>(),
    });
    if let Some(data) = &facts.data {
        shown["data"] = json!({ "from": data.as_str() });
    }
    shown
}

#[cfg(test)]
mod tests {
    use kaigi_proto::ids::{ParticipantId, StreamId, SubscriptionId};

    use super::*;
    use crate::room::{Kind, Leaving, StreamPart};

    fn participant() -> v1::Participant {
        let flags = v1::KindFlags { audio: true, video: false };
        v1::Participant {
            id: "p".into(),
            user: r#"{"name":"Ann"}"#.into(),
            role: "presenter".into(),
            permission: Some(v1::Permission { publish: Some(flags), subscribe: Some(flags) }),
        }
    }

    #[test]
    fn participants() {
        let (kind, data) = told(&Happening::ParticipantJoined(participant()));
        assert_eq!(kind, EventType::ParticipantJoined);
        let shown = json!({"id": "p", "user": {"name": "Ann"}, "role": "presenter"});
        assert_eq!(data, json!({ "participant": shown }));
        let (_, data) = told(&Happening::ParticipantUpdated(participant()));
        assert_eq!(
            data["participant"]["permission"],
            json!({"publish": {"audio": true, "video": false}, "subscribe": {"audio": true, "video": false}})
        );
        let left =
            Happening::ParticipantLeft { participant: ParticipantId::new("p").unwrap(), why: Leaving::Lost };
        assert_eq!(told(&left).1, json!({"participant": {"id": "p"}, "reason": "lost"}));
    }

    #[test]
    fn streams_are_shown_as_in_the_management_api() {
        let stream = v1::Stream { id: "s".into(), owner: "p".into(), ..v1::Stream::default() };
        let shown = stream_json(ApiVersion::V1, &stream);
        assert_eq!(told(&Happening::StreamAdded(Box::new(stream.clone()))).1, json!({ "stream": shown }));
        let (kind, data) =
            told(&Happening::StreamUpdated { stream: Box::new(stream), part: StreamPart::VideoStatus });
        assert_eq!(kind, EventType::StreamUpdated);
        assert_eq!(data, json!({ "stream": shown, "change": "video.status" }));
    }

    #[test]
    fn recordings_broadcasts_and_streams_from_elsewhere() {
        let facts = |what, stream: Option<&str>, condition| StreamingFacts {
            what,
            id: "r".into(),
            stream: stream.map(|stream| StreamId::new(stream).unwrap()),
            condition,
        };
        let trouble = facts(Streaming::In, None, Some(Condition::Trouble("gone".into())));
        let (kind, data) = told(&Happening::StreamingUpdated(trouble));
        assert_eq!(kind, EventType::StreamingInUpdated);
        assert_eq!(data, json!({"streamingIn": {"id": "r", "state": "trouble", "reason": "gone"}}));
        let apart = facts(Streaming::Recording, Some("s"), Some(Condition::Active));
        let (kind, data) = told(&Happening::StreamingUpdated(apart));
        assert_eq!(kind, EventType::RecordingUpdated);
        assert_eq!(data, json!({"recording": {"id": "r", "state": "active", "stream": "s"}}));
        let (_, data) = told(&Happening::StreamingUpdated(facts(Streaming::Out, None, None)));
        assert_eq!(data, json!({"streamingOut": {"id": "r", "state": "ended"}}));
    }

    #[test]
    fn subscriptions() {
        let facts = SubscriptionFacts {
            id: SubscriptionId::new("x").unwrap(),
            participant: ParticipantId::new("p").unwrap(),
            tracks: vec![(Kind::Audio, StreamId::new("s").unwrap())],
            data: None,
        };
        assert_eq!(
            told(&Happening::SubscriptionAdded(facts)).1,
            json!({"subscription": {"id": "x", "participant": "p", "tracks": [{"kind": "audio", "from": "s"}]}})
        );
    }
}
