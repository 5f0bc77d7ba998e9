//! What happens in rooms, as services are told of it: its [types](EventType), [which of them](EventFilter) somebody wants to hear, the
//! [JSON](body) that webhooks and server-sent events have in common, and the stored [document of a webhook](WebhookDocument).

mod filter;
mod webhook;

use serde_json::{Value, json};

use crate::v1;

pub use filter::{EventFilter, FilterError};
pub use webhook::{RetiredSecret, SecretError, WebhookDocument, WebhookSecret};

/// Longest `data` of an event, in bytes: the description of a stream with everything that its publisher may attach to it.
pub const MAX_DATA: usize = 128 << 10;
/// Most events of one call to the hub.
pub const MAX_EVENTS: usize = 256;
/// Most bytes of `data` in one call; below the largest message that gRPC servers take (4 MiB).
pub const MAX_BATCH: usize = 2 << 20;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// By the management API.
    RoomCreated,
    /// By the management API.
    RoomUpdated,
    /// By the management API.
    RoomDeleted,
    /// Somebody is about to join a room that was not running.
    RoomStarted,
    /// The room does not run any more.
    RoomEnded,
    /// `{participant}`
    ParticipantJoined,
    /// `{participant, reason}`
    ParticipantLeft,
    /// `{participant}`: what it may do.
    ParticipantUpdated,
    /// `{stream}`
    StreamAdded,
    /// `{stream, change}`
    StreamUpdated,
    /// `{stream}`
    StreamRemoved,
    /// `{subscription}`
    SubscriptionAdded,
    /// `{subscription}`
    SubscriptionRemoved,
    /// `{recording}`
    RecordingUpdated,
    /// `{streamingOut}`
    StreamingOutUpdated,
    /// `{streamingIn}`
    StreamingInUpdated,
    /// `{analytics}`
    AnalyticsUpdated,
    /// To one webhook, on request: `{webhook}`.
    Ping,
}

impl EventType {
    /// All that one may ask for; a ping comes unasked.
    pub const ALL: [Self; 17] = [
        Self::RoomCreated,
        Self::RoomUpdated,
        Self::RoomDeleted,
        Self::RoomStarted,
        Self::RoomEnded,
        Self::ParticipantJoined,
        Self::ParticipantLeft,
        Self::ParticipantUpdated,
        Self::StreamAdded,
        Self::StreamUpdated,
        Self::StreamRemoved,
        Self::SubscriptionAdded,
        Self::SubscriptionRemoved,
        Self::RecordingUpdated,
        Self::StreamingOutUpdated,
        Self::StreamingInUpdated,
        Self::AnalyticsUpdated,
    ];

    /// Its name in requests and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoomCreated => "room.created",
            Self::RoomUpdated => "room.updated",
            Self::RoomDeleted => "room.deleted",
            Self::RoomStarted => "room.started",
            Self::RoomEnded => "room.ended",
            Self::ParticipantJoined => "participant.joined",
            Self::ParticipantLeft => "participant.left",
            Self::ParticipantUpdated => "participant.updated",
            Self::StreamAdded => "stream.added",
            Self::StreamUpdated => "stream.updated",
            Self::StreamRemoved => "stream.removed",
            Self::SubscriptionAdded => "subscription.added",
            Self::SubscriptionRemoved => "subscription.removed",
            Self::RecordingUpdated => "recording.updated",
            Self::StreamingOutUpdated => "streamingOut.updated",
            Self::StreamingInUpdated => "streamingIn.updated",
            Self::AnalyticsUpdated => "analytics.updated",
            Self::Ping => "ping",
        }
    }

    /// The type of that name; `None` for a ping, too.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What is sent of an event: the body of a webhook's request, the data of a server-sent event.
#[must_use]
pub fn body(event: &v1::Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
    let mut body = json!({
        "id": event.id.to_string(),
        "type": event.r#type,
        "time": event.time_ms,
        "service": event.service_id,
        "data": data,
    });
    if !event.room_id.is_empty() {
        body["room"] = event.room_id.clone().into();
    }
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_one_name_each() {
        for kind in EventType::ALL {
            assert_eq!(EventType::named(kind.as_str()), Some(kind));
        }
        assert_eq!(EventType::named("ping"), None);
        assert_eq!(EventType::named("room"), None);
    }

    #[test]
    fn the_body_of_an_event() {
        let event = v1::Event {
            id: 1_790_000_000_000_000,
            service_id: "s".into(),
            room_id: "r".into(),
            r#type: "participant.left".into(),
            time_ms: 1_790_000_000_000,
            data: r#"{"participant":{"id":"p"},"reason":"left"}"#.into(),
        };
        let told: Value = serde_json::from_str(&body(&event)).unwrap();
        assert_eq!(
            told,
            json!({
                "id": "1790000000000000", "type": "participant.left", "time": 1_790_000_000_000_u64, "service": "s", "room": "r",
                "data": {"participant": {"id": "p"}, "reason": "left"},
            })
        );
        let of_no_room = v1::Event { room_id: String::new(), ..event };
        assert_eq!(serde_json::from_str::<Value>(&body(&of_no_room)).unwrap().get("room"), None);
    }
}
