//! Events as specifications name them.

use super::*;

/// An event in short.
pub(super) fn words(event: &Event) -> String {
    match event {
        Event::Joined(_) => "joined".into(),
        Event::Participant(event) => match event.action.as_ref().unwrap() {
            participant_event::Action::Joined(who) => format!("join {}", who.id),
            participant_event::Action::Left(who) => format!("leave {who}"),
        },
        Event::Stream(event) => {
            let id = &event.stream_id;
            match event.change.as_ref().unwrap() {
                Change::Added(_) => format!("add {id}"),
                Change::Removed(_) => format!("remove {id}"),
                Change::Status(status) => {
                    let kind = Kind::from_wire(status.kind).unwrap().name();
                    format!("status {id} {kind} {}", if status.active { "active" } else { "inactive" })
                }
                Change::Layout(layout) => {
                    let shown: Vec<_> = layout.regions.iter().map(|r| r.stream_id.as_str()).collect();
                    format!("layout {id} [{}]", shown.join(","))
                }
                Change::ActiveInput(input) => format!("active-input {id} {input}"),
                Change::Speaker(v1::ActiveSpeaker { stream_id, major }) => {
                    format!("{id} has {stream_id}, {}", if *major { "major" } else { "minor" })
                }
                Change::Replaced(_) => format!("replaced {id}"),
            }
        }
        Event::Layers(event) => {
            let name =
                |layer: &v1::StreamLayer| format!("{}{}", if layer.wanted { "+" } else { "-" }, layer.rid);
            let layers: Vec<_> = event.layers.iter().map(name).collect();
            format!("layers {} {}", event.stream_id, layers.join(" "))
        }
        Event::Text(text) => {
            format!("text {} {} {}", text.from, if text.to_all { "all" } else { "me" }, text.message)
        }
        Event::Progress(progress) => match progress.progress.as_ref().unwrap() {
            Progress::Answer(sdp) => format!("answer {sdp}"),
            Progress::TransportReady(_) => "transport-ready".into(),
            Progress::SessionReady(session) => format!("ready {session}"),
            Progress::SessionError(error) => format!("error {} {}", error.session_id, error.reason),
            Progress::TransportError(reason) => format!("transport-error {reason}"),
            Progress::TransportMoving(_) => format!("moving {}", progress.transport_id),
        },
        Event::Dropped(dropped) => format!("dropped {}", dropped.reason),
    }
}
