//! What rooms tell participants, as Socket.IO events.

use kaigi_proto::v1::{
    ActiveSpeaker, JoinEvent, Participant, ParticipantEvent, Permission, StreamEvent, StreamLayers,
    TextEvent, join_event, participant_event, stream_event,
};
use serde_json::{Value, json};

use super::{Version, stream_info};

/// What to do with an event of a room.
#[derive(Debug, PartialEq)]
pub(crate) enum Notification {
    /// Send this event with this data to the client.
    Emit(&'static str, Value),
    /// The room has dropped the participant, for this reason.
    Dropped(String),
    /// Nothing that clients are told.
    Silent,
}

/// Translates an event of the room for a client of this version.
pub(crate) fn notification(version: Version, event: JoinEvent) -> Notification {
    use join_event::Event;
    match event.event {
        Some(Event::Participant(event)) => participant(event),
        Some(Event::Stream(event)) => stream(version, event),
        Some(Event::Text(event)) => Notification::Emit("text", text(event)),
        Some(Event::Progress(event)) => match version.progress(event) {
            Some((name, data)) => Notification::Emit(name, data),
            None => Notification::Silent,
        },
        Some(Event::Layers(event)) if version == Version::Kaigi => {
            Notification::Emit("layers", layers(event))
        }
        Some(Event::Dropped(dropped)) => Notification::Dropped(dropped.reason),
        Some(Event::Joined(_) | Event::Layers(_)) | None => Notification::Silent,
    }
}

/// A participant in lists and notifications.
pub(crate) fn participant_info(participant: &Participant) -> Value {
    json!({ "id": participant.id, "user": user(&participant.user), "role": participant.role })
}

/// The user value given with the token, which is any JSON.
pub(crate) fn user(json_text: &str) -> Value {
    serde_json::from_str(json_text).unwrap_or_else(|_| Value::String(json_text.to_owned()))
}

/// A permission as clients and management see it.
pub(crate) fn permission(permission: Option<&Permission>) -> Value {
    let Permission { publish, subscribe } = permission.copied().unwrap_or_default();
    let (publish, subscribe) = (publish.unwrap_or_default(), subscribe.unwrap_or_default());
    json!({
        "publish": { "audio": publish.audio, "video": publish.video },
        "subscribe": { "audio": subscribe.audio, "video": subscribe.video },
    })
}

fn participant(event: ParticipantEvent) -> Notification {
    use participant_event::Action;
    let data = match event.action {
        Some(Action::Joined(participant)) => {
            json!({ "action": "join", "data": participant_info(&participant) })
        }
        Some(Action::Left(id)) => json!({ "action": "leave", "data": id }),
        None => return Notification::Silent,
    };
    Notification::Emit("participant", data)
}

fn stream(version: Version, event: StreamEvent) -> Notification {
    use stream_event::Change;
    let update =
        |field: &str, value: Value| json!({ "status": "update", "data": { "field": field, "value": value } });
    let mut data = match event.change {
        Some(Change::Added(stream) | Change::Replaced(stream)) if !version.shows(&stream) => {
            return Notification::Silent;
        }
        Some(Change::Removed(removed)) if removed.data_only && !version.knows_data() => {
            return Notification::Silent;
        }
        Some(Change::Added(stream)) => json!({ "status": "add", "data": version.stream_info(&stream) }),
        Some(Change::Removed(_)) => json!({ "status": "remove" }),
        Some(Change::Status(status)) => {
            let Some(kind) = stream_info::kind_name(status.kind()) else { return Notification::Silent };
            update(&format!("{kind}.status"), stream_info::status(status.active).into())
        }
        Some(Change::Layout(layout)) => update("video.layout", stream_info::layout(&layout)),
        Some(Change::ActiveInput(input)) => update("activeInput", input.into()),
        // SDKs of earlier versions take every value for the id of a mixed stream's input, and some end over an object.
        Some(Change::Speaker(_)) if !version.knows_speakers() => return Notification::Silent,
        Some(Change::Speaker(ActiveSpeaker { stream_id, major })) => {
            let volume = if major { "major" } else { "minor" };
            update("activeInput", json!({ "id": stream_id, "volume": volume }))
        }
        Some(Change::Replaced(stream)) => update(".", version.stream_info(&stream)),
        None => return Notification::Silent,
    };
    data["id"] = event.stream_id.into();
    Notification::Emit("stream", data)
}

/// Which layers of a stream its publisher is to send; only the own SDK knows of that.
fn layers(event: StreamLayers) -> Value {
    let layers = event.layers.into_iter().map(|layer| json!({ "rid": layer.rid, "wanted": layer.wanted }));
    json!({ "id": event.stream_id, "layers": layers.collect::<Vec<_>>() })
}

fn text(event: TextEvent) -> Value {
    json!({ "from": event.from, "to": if event.to_all { "all" } else { "me" }, "message": event.message })
}

#[cfg(test)]
mod tests {
    use kaigi_proto::v1::{
        Dropped, Layout, LayoutRegion, MediaKind, RemovedStream, StreamLayer, TrackStatus,
    };

    use super::*;

    fn told(event: join_event::Event) -> (&'static str, Value) {
        match notification(Version::V1_2, JoinEvent { seq: 1, event: Some(event) }) {
            Notification::Emit(name, data) => (name, data),
            other => panic!("{other:?}"),
        }
    }

    fn stream_change(change: stream_event::Change) -> Value {
        told(join_event::Event::Stream(StreamEvent { stream_id: "s".into(), change: Some(change) })).1
    }

    #[test]
    fn participants_come_and_go() {
        let action = participant_event::Action::Joined(Participant {
            id: "p".into(),
            user: r#"{"name":"Aki"}"#.into(),
            role: "presenter".into(),
            permission: None,
        });
        assert_eq!(
            told(join_event::Event::Participant(ParticipantEvent { action: Some(action) })),
            (
                "participant",
                json!({"action": "join", "data": {"id": "p", "user": {"name": "Aki"}, "role": "presenter"}})
            )
        );
        let action = participant_event::Action::Left("p".into());
        assert_eq!(
            told(join_event::Event::Participant(ParticipantEvent { action: Some(action) })).1,
            json!({"action": "leave", "data": "p"})
        );
    }

    #[test]
    fn stream_changes_name_their_field() {
        use stream_event::Change;
        assert_eq!(
            stream_change(Change::Removed(RemovedStream::default())),
            json!({"id": "s", "status": "remove"})
        );
        assert_eq!(
            stream_change(Change::Status(TrackStatus { kind: MediaKind::Video.into(), active: false })),
            json!({"id": "s", "status": "update", "data": {"field": "video.status", "value": "inactive"}})
        );
        assert_eq!(
            stream_change(Change::ActiveInput("t".into())),
            json!({"id": "s", "status": "update", "data": {"field": "activeInput", "value": "t"}})
        );
        let speaker = |major| Change::Speaker(ActiveSpeaker { stream_id: "t".into(), major });
        for (major, volume) in [(true, "major"), (false, "minor")] {
            let value = json!({"id": "t", "volume": volume});
            assert_eq!(
                stream_change(speaker(major)),
                json!({"id": "s", "status": "update", "data": {"field": "activeInput", "value": value}})
            );
        }
        let region = LayoutRegion {
            stream_id: String::new(),
            region_id: "1".into(),
            left: "0/1".into(),
            top: "0/1".into(),
            width: "1/2".into(),
            height: "1/1".into(),
        };
        let area = json!({"left": "0/1", "top": "0/1", "width": "1/2", "height": "1/1"});
        assert_eq!(
            stream_change(Change::Layout(Layout { regions: vec![region] }))["data"],
            json!({"field": "video.layout", "value": [{"region": {"id": "1", "shape": "rectangle", "area": area}}]})
        );
    }

    #[test]
    fn streams_of_data_alone_are_not_told_to_versions_without_data() {
        use stream_event::Change;
        let data = || kaigi_proto::v1::Stream { id: "s".into(), data: true, ..Default::default() };
        for change in [
            Change::Added(data()),
            Change::Replaced(data()),
            Change::Removed(RemovedStream { data_only: true }),
        ] {
            let told = |version| {
                let event = StreamEvent { stream_id: "s".into(), change: Some(change.clone()) };
                notification(version, JoinEvent { seq: 1, event: Some(join_event::Event::Stream(event)) })
            };
            for version in [Version::V1_0, Version::V1_1] {
                assert_eq!(told(version), Notification::Silent);
            }
            for version in [Version::V1_2, Version::Kaigi] {
                assert!(matches!(told(version), Notification::Emit("stream", _)));
            }
        }
    }

    #[test]
    fn who_speaks_is_not_told_to_versions_that_take_it_for_a_mixed_streams_input() {
        let speaker = ActiveSpeaker { stream_id: "t".into(), major: true };
        let event = StreamEvent {
            stream_id: "active-audio-0".into(),
            change: Some(stream_event::Change::Speaker(speaker)),
        };
        let told = |version| {
            let event = join_event::Event::Stream(event.clone());
            notification(version, JoinEvent { seq: 1, event: Some(event) })
        };
        for version in [Version::V1_0, Version::V1_1] {
            assert_eq!(told(version), Notification::Silent);
        }
        for version in [Version::V1_2, Version::Kaigi] {
            assert!(matches!(told(version), Notification::Emit("stream", _)));
        }
    }

    #[test]
    fn wanted_layers_are_told_to_the_own_sdk_alone() {
        let told = |version| {
            let layer = |rid: &str, wanted| StreamLayer { rid: rid.into(), wanted };
            let layers = vec![layer("q", true), layer("f", false)];
            let event = join_event::Event::Layers(StreamLayers { stream_id: "s".into(), layers });
            notification(version, JoinEvent { seq: 1, event: Some(event) })
        };
        for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
            assert_eq!(told(version), Notification::Silent);
        }
        let layers = json!([{"rid": "q", "wanted": true}, {"rid": "f", "wanted": false}]);
        assert_eq!(told(Version::Kaigi), Notification::Emit("layers", json!({"id": "s", "layers": layers})));
    }

    #[test]
    fn a_message_says_whether_it_went_to_all() {
        let event =
            |to_all| join_event::Event::Text(TextEvent { from: "p".into(), to_all, message: "hi".into() });
        assert_eq!(told(event(true)), ("text", json!({"from": "p", "to": "all", "message": "hi"})));
        assert_eq!(told(event(false)).1["to"], "me");
    }

    #[test]
    fn a_drop_is_no_ordinary_notification() {
        let event =
            JoinEvent { seq: 1, event: Some(join_event::Event::Dropped(Dropped { reason: "why".into() })) };
        assert_eq!(notification(Version::V1_2, event), Notification::Dropped("why".into()));
        assert_eq!(notification(Version::V1_2, JoinEvent { seq: 1, event: None }), Notification::Silent);
    }
}
