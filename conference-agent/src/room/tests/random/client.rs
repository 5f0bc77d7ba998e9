//! A client's knowledge of the room.

use std::collections::{BTreeMap, BTreeSet};

use kaigi_proto::v1::{self, join_event::Event, participant_event, stream_event::Change};

/// What a client knows from its events.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) participants: BTreeSet<String>,
    pub(super) streams: BTreeMap<String, v1::Stream>,
}

impl Client {
    pub(super) fn hear(&mut self, event: Event) {
        match event {
            Event::Joined(joined) => {
                self.participants = joined.participants.into_iter().map(|p| p.id).collect();
                self.streams = joined.streams.into_iter().map(|s| (s.id.clone(), s)).collect();
            }
            Event::Participant(event) => match event.action.unwrap() {
                participant_event::Action::Joined(who) => assert!(self.participants.insert(who.id)),
                participant_event::Action::Left(who) => assert!(self.participants.remove(&who)),
            },
            Event::Stream(event) => self.hear_stream(&event.stream_id, event.change.unwrap()),
            Event::Text(_) | Event::Progress(_) | Event::Dropped(_) | Event::Layers(_) => {}
        }
    }

    fn hear_stream(&mut self, id: &str, change: Change) {
        let known = self.streams.get_mut(id);
        match change {
            Change::Added(stream) => assert!(self.streams.insert(id.to_owned(), stream).is_none()),
            Change::Removed(_) => assert!(self.streams.remove(id).is_some()),
            Change::Replaced(stream) => *known.unwrap() = stream,
            Change::Status(status) => {
                let tracks = known.unwrap().tracks.iter_mut().filter(|t| t.kind == status.kind);
                tracks.for_each(|track| track.active = status.active);
            }
            Change::Layout(layout) => known.unwrap().layout = Some(layout),
            Change::ActiveInput(input) => known.unwrap().active_input = input,
            Change::Speaker(speaker) => {
                assert!(self.streams.contains_key(&speaker.stream_id), "a speaker that nobody knows");
                self.streams.get_mut(id).unwrap().active_input = speaker.stream_id;
            }
        }
    }
}
