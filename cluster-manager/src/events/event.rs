//! An event that was taken in.

use kaigi_proto::{
    events::MAX_DATA,
    ids::{IdError, RoomId, ServiceId},
    v1,
};

/// Longest type, in bytes.
const MAX_TYPE: usize = 64;

/// Number of an event: about the microseconds since 1970 at which it was taken in, and greater than all before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventId(pub(crate) u64);

impl EventId {
    /// When it was taken in, about.
    pub(crate) fn taken(self) -> UnixMillis {
        UnixMillis(self.0 / 1000)
    }
}

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixMillis(pub(crate) u64);

impl UnixMillis {
    pub(crate) fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Why an event is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum InvalidEvent {
    /// It belongs to nobody, or to no room.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The type is none.
    #[error("an event's type is 1 to {MAX_TYPE} letters and full stops")]
    Type,
    /// The data are none.
    #[error("an event's data are a JSON object of {MAX_DATA} bytes at most")]
    Data,
}

/// An event without its number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draft {
    service: ServiceId,
    event: v1::Event,
}

impl TryFrom<v1::Event> for Draft {
    type Error = InvalidEvent;

    fn try_from(event: v1::Event) -> Result<Self, InvalidEvent> {
        let service = ServiceId::new(&event.service_id)?;
        if !event.room_id.is_empty() {
            RoomId::new(&event.room_id)?;
        }
        let named = (1..=MAX_TYPE).contains(&event.r#type.len());
        if !named || !event.r#type.bytes().all(|b| b.is_ascii_alphabetic() || b == b'.') {
            return Err(InvalidEvent::Type);
        }
        let object = || serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&event.data);
        if event.data.len() > MAX_DATA || object().is_err() {
            return Err(InvalidEvent::Data);
        }
        Ok(Self { service, event })
    }
}

/// An event with its number.
#[derive(Debug, PartialEq)]
pub(crate) struct Event {
    service: ServiceId,
    wire: v1::Event,
}

impl Event {
    /// Numbers an event.
    pub(crate) fn new(id: EventId, draft: Draft) -> Self {
        Self { service: draft.service, wire: v1::Event { id: id.0, ..draft.event } }
    }

    pub(crate) fn id(&self) -> EventId {
        EventId(self.wire.id)
    }

    pub(crate) fn service(&self) -> &ServiceId {
        &self.service
    }

    pub(crate) fn kind(&self) -> &str {
        &self.wire.r#type
    }

    /// As others are told of it.
    pub(crate) fn wire(&self) -> &v1::Event {
        &self.wire
    }

    /// Bytes that it holds, about.
    pub(crate) fn size(&self) -> usize {
        let wire = &self.wire;
        size_of::<Self>() + wire.service_id.len() + wire.room_id.len() + wire.r#type.len() + wire.data.len()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn wire(service: &str, kind: &str, data: &str) -> v1::Event {
        v1::Event {
            service_id: service.into(),
            room_id: "r".into(),
            r#type: kind.into(),
            time_ms: 1,
            data: data.into(),
            ..v1::Event::default()
        }
    }

    pub(crate) fn event(id: u64, service: &str, kind: &str) -> std::sync::Arc<Event> {
        Event::new(EventId(id), Draft::try_from(wire(service, kind, "{}")).unwrap()).into()
    }

    #[test]
    fn what_is_no_event_is_refused() {
        assert!(Draft::try_from(wire("s", "room.started", r#"{"a":1}"#)).is_ok());
        assert!(matches!(Draft::try_from(wire("", "room.started", "{}")), Err(InvalidEvent::Id(_))));
        assert!(matches!(Draft::try_from(wire("a/b", "room.started", "{}")), Err(InvalidEvent::Id(_))));
        for kind in ["", "a b", "a\n", &"x".repeat(65)] {
            assert_eq!(Draft::try_from(wire("s", kind, "{}")), Err(InvalidEvent::Type), "{kind}");
        }
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_DATA));
        for data in ["", "[]", "{", "1", &large] {
            assert_eq!(Draft::try_from(wire("s", "room.started", data)), Err(InvalidEvent::Data));
        }
    }
}
