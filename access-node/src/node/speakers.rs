//! Rooms that select their audio: the agent is told how loud the loudest publications here are, and says which of the room's publications
//! are in its slots; who subscribes a slot gets whoever is in it.

use std::time::Instant;

use kaigi_proto::{
    ids::{ParticipantId, RoomId, TrackId},
    v1::{self, access_event::Event},
};

use super::{AudioSelection, Node, NodeError, SelectedAudio, Slot, request::MAX_SLOTS};
use crate::{
    forward::{Heard, Loudness},
    keys::{SinkKey, TransportKey},
    sdp::{Format, Kind},
};

/// Publications that are told of beside those that are selected: no more of one node can be among the room's loudest, of which there are
/// three.
const CANDIDATES: usize = 3;

/// Who is in a room's slots, and who gets them.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// Epoch and revision; `None` if the room selects nothing.
    version: Option<(u64, u64)>,
    slots: [SelectedSlot; MAX_SLOTS],
    /// Publications that the agent takes for heard.
    told: Vec<TrackId>,
}

#[derive(Debug, Default)]
struct SelectedSlot {
    audio: Option<SelectedAudio>,
    takers: Vec<Taker>,
}

/// A subscription of a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taker {
    pub(super) transport: TransportKey,
    pub(super) sink: SinkKey,
    pub(super) format: Format,
}

impl Selected {
    /// Whether the room selects audio.
    pub(super) fn is_on(&self) -> bool {
        self.version.is_some()
    }

    /// The sink takes no slot any more.
    pub(super) fn release(&mut self, sink: SinkKey) {
        for slot in &mut self.slots {
            if let Some(at) = slot.takers.iter().position(|taker| taker.sink == sink) {
                slot.takers.swap_remove(at);
            }
        }
    }

    fn has(&self, track: &TrackId) -> bool {
        self.slots.iter().filter_map(|slot| slot.audio.as_ref()).any(|audio| audio.source.track == *track)
    }

    /// What the agent is to be told of those who are heard here; nothing if all are silent, and it knows.
    fn report(&mut self, mut heard: Vec<(TrackId, Loudness)>) -> Option<v1::SpeakerLevels> {
        // Those who are selected first, then the loudest.
        heard.sort_by_cached_key(|(track, loudness)| {
            let Loudness { immediate, medium, long } = *loudness;
            (!self.has(track), std::cmp::Reverse(immediate + medium + long))
        });
        let selected = heard.iter().take_while(|(track, _)| self.has(track)).count();
        let candidate = |(_, loudness): &&(TrackId, Loudness)| !loudness.is_silent();
        let candidates = heard[selected..].iter().filter(candidate).take(CANDIDATES);
        let mut levels: Vec<(TrackId, Loudness)> =
            heard[..selected].iter().chain(candidates).cloned().collect();
        let now_heard = levels.iter().filter(|(_, loudness)| !loudness.is_silent());
        let now_heard: Vec<TrackId> = now_heard.map(|(track, _)| track.clone()).collect();
        let before = std::mem::replace(&mut self.told, now_heard);
        for track in before {
            if levels.iter().all(|(other, _)| *other != track) {
                let told = heard.iter().find(|(other, _)| *other == track).map(|(_, loudness)| *loudness);
                levels.push((track, told.unwrap_or_default()));
            }
        }
        let speaker = |(track, loudness): (TrackId, Loudness)| v1::SpeakerLevel {
            track_id: track.to_string(),
            immediate: loudness.immediate,
            medium: loudness.medium,
            long: loudness.long,
        };
        (!levels.is_empty())
            .then(|| v1::SpeakerLevels { speakers: levels.into_iter().map(speaker).collect() })
    }
}

impl Node {
    /// The agent says who is in a room's slots. What is older than what it said last changes nothing.
    ///
    /// # Errors
    /// If no transport of the room is here, or a newer agent serves it.
    pub fn select_audio(
        &mut self,
        now: Instant,
        room: &RoomId,
        epoch: u64,
        selection: &AudioSelection,
    ) -> Result<(), NodeError> {
        let Some(entry) = self.net.rooms.get_mut(room) else { return Err(NodeError::UnknownRoom) };
        if epoch < entry.epoch {
            return Err(NodeError::OldEpoch(entry.epoch));
        }
        let version = Some((epoch, selection.revision));
        if version <= entry.selected.version {
            return Ok(());
        }
        entry.selected.version = version;
        let mut moved = Vec::new();
        let audio = selection.slots.iter().cloned().chain(std::iter::repeat(None));
        for (slot, audio) in entry.selected.slots.iter_mut().zip(audio) {
            if slot.audio != audio {
                slot.audio.clone_from(&audio);
                moved.push((slot.takers.clone(), audio));
            }
        }
        for (takers, audio) in moved {
            for taker in takers {
                self.give(now, taker, audio.as_ref());
            }
        }
        Ok(())
    }

    /// A subscription takes a slot from now on.
    pub(super) fn take_selected(&mut self, now: Instant, slot: Slot, taker: Taker) {
        let Some(transport) = self.net.transports.get(taker.transport) else { return };
        let room = self.net.rooms.get_mut(&transport.room);
        let Some(slot) = room.and_then(|room| room.selected.slots.get_mut(slot.0)) else { return };
        slot.takers.push(taker);
        let audio = slot.audio.clone();
        self.give(now, taker, audio.as_ref());
    }

    /// Sends a subscriber who is in its slot, unless that is the subscriber itself.
    fn give(&mut self, now: Instant, taker: Taker, audio: Option<&SelectedAudio>) {
        let Some(transport) = self.net.transports.get(taker.transport) else { return };
        let is_own = |owner: &ParticipantId| *owner == transport.participant;
        let audio = audio.filter(|audio| !is_own(&audio.owner) && taker.format.carries(audio.source.format));
        match audio {
            Some(audio) => self.connect(now, taker.sink, Kind::Audio, &audio.source),
            None => {
                self.forward.disconnect(taker.sink);
                self.release_left();
            }
        }
    }

    /// Tells the agents who is heard, if it is time to.
    pub(super) fn speakers_timeout(&mut self, now: Instant) {
        if self.forward.voices_due().is_none_or(|due| due > now) {
            return;
        }
        let mut rooms: Vec<(RoomId, Vec<(TrackId, Loudness)>)> = Vec::new();
        for Heard { track, from, loudness } in self.forward.evaluate_voices(now) {
            let Some(transport) = self.net.transports.get(from) else { continue };
            match rooms.iter_mut().find(|(room, _)| *room == transport.room) {
                Some((_, heard)) => heard.push((track, loudness)),
                None => rooms.push((transport.room.clone(), vec![(track, loudness)])),
            }
        }
        for (id, heard) in rooms {
            let Some(room) = self.net.rooms.get_mut(&id) else { continue };
            let Some(levels) = room.selected.report(heard) else { continue };
            let event = v1::AccessEvent {
                room_id: id.to_string(),
                event: Some(Event::Speakers(levels)),
                ..v1::AccessEvent::default()
            };
            self.net.output.events.push((room.agent.clone(), event));
        }
    }
}
