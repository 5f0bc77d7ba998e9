//! The selecting streams: three forward streams of the room in which the loudest publications are heard, whoever that is at the time. The
//! room decides for all its access nodes, from what each tells of its loudest publications; each node then sends its subscribers of a slot
//! whoever is in it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{StreamId, TrackId, WorkerId},
    v1::{self, stream_event::Change},
};
use kaigi_room_config::RoomConfig;
use serde::{Deserialize, Serialize};

use super::{
    Room,
    calls::Pending,
    describe::NOBODY_HEARD,
    input::CallError,
    judge::{Judge, Loudness, SLOTS, Speakers, told},
    media::{Format, Kind, Node},
    output::{CallRequest, Callee},
    refusal::Refusal,
    state::{Phase, Publication, Track},
};

/// Pause before a node that has not answered is told again.
const RETELL: Duration = Duration::from_secs(1);
/// What SDKs take for the owner of selecting streams.
const NO_OWNER: &str = "unknown";
/// The codec of streams that are now of one publication, now of another.
const NO_CODEC: &str = "unknown";

/// What a room selects.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Selection {
    /// Of the slots, in their order.
    pub(crate) streams: Vec<StreamId>,
    /// Of publications that take part.
    pub(crate) format: Format,
    pub(crate) speakers: Speakers,
    /// Rises with each change of who is in which slot.
    pub(crate) revision: u64,
}

impl Selection {
    /// `None` if the room is not to select, or takes no sound.
    pub(crate) fn new(config: &RoomConfig) -> Option<Self> {
        let accepted = &config.media_in.audio;
        let opus = accepted.iter().find(|format| format.codec.eq_ignore_ascii_case("opus"));
        let format = opus.or(accepted.first()).filter(|_| config.select_active_audio)?;
        let stream = |slot| StreamId::new(format!("active-audio-{slot}")).expect("letters are allowed");
        Some(Self {
            streams: (0..SLOTS).map(stream).collect(),
            format: format.into(),
            speakers: Speakers::default(),
            revision: 1,
        })
    }

    /// The slot of a stream.
    pub(crate) fn slot(&self, stream: &str) -> Option<usize> {
        self.streams.iter().position(|own| own.as_str() == stream)
    }
}

/// How loud publications are, and what nodes were told; found out anew when lost.
#[derive(Debug, Default)]
pub(super) struct SpeakersLink {
    judge: Judge,
    /// Somebody is gone.
    changed: bool,
    /// Of those that are being told or have to be: what they are told, and when again.
    telling: BTreeMap<WorkerId, Telling>,
}

#[derive(Debug)]
enum Telling {
    /// Revision.
    Asked(u64),
    Again(Instant),
}

impl SpeakersLink {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let again = |telling: &Telling| match telling {
            Telling::Asked(_) => None,
            Telling::Again(at) => Some(*at),
        };
        self.telling.values().filter_map(again).min()
    }
}

impl Room {
    /// The slot of a selecting stream.
    pub(super) fn selecting(&self, stream: &str) -> Option<usize> {
        self.state.selection.as_ref()?.slot(stream)
    }

    /// The stream of a slot.
    pub(super) fn selecting_stream(&self, slot: usize) -> Option<&StreamId> {
        self.state.selection.as_ref()?.streams.get(slot)
    }

    /// Nobody publishes a selecting stream, so that nobody can end, pause or mix it.
    ///
    /// # Errors
    /// If it is one.
    pub(super) fn refuse_selecting(&self, stream: &StreamId) -> Result<(), Refusal> {
        if self.selecting(stream.as_str()).is_some() { Err(Refusal::StreamIsSelecting) } else { Ok(()) }
    }

    /// Selecting streams as clients are told of them.
    pub(super) fn describe_selecting(&self) -> Vec<v1::Stream> {
        let slots = 0..self.state.selection.as_ref().map_or(0, |selection| selection.streams.len());
        slots.filter_map(|slot| self.describe_slot(slot)).collect()
    }

    pub(super) fn describe_slot(&self, slot: usize) -> Option<v1::Stream> {
        let selection = self.state.selection.as_ref()?;
        let speaker = selection.speakers.slots.get(slot)?.as_ref();
        let stream = speaker.and_then(|track| self.publication_of(track)).map(|(id, _)| id.to_string());
        let format = Format { codec: NO_CODEC.to_owned(), ..Format::default() };
        let track = v1::Track {
            kind: Kind::Audio.to_wire(),
            active: true,
            format: Some(format.to_wire()),
            ..v1::Track::default()
        };
        Some(v1::Stream {
            id: selection.streams.get(slot)?.to_string(),
            r#type: v1::StreamType::Forward.into(),
            tracks: vec![track],
            info_type: "selecting".to_owned(),
            owner: NO_OWNER.to_owned(),
            active_input: stream.unwrap_or_else(|| NOBODY_HEARD.to_owned()),
            ..v1::Stream::default()
        })
    }

    /// What access nodes are told with each session; `None` if the room does not select.
    pub(super) fn selection_to_wire(&self) -> Option<v1::AudioSelection> {
        let selection = self.state.selection.as_ref()?;
        let slot = |speaker: &Option<TrackId>| {
            let named = speaker.as_ref().and_then(|track| {
                let (id, _) = self.publication_of(track)?;
                Some((self.track_source(id, track)?, &self.state.publications.get(id)?.owner))
            });
            named.map_or_else(v1::SelectedAudio::default, |(source, owner)| v1::SelectedAudio {
                source: Some(source.to_wire()),
                owner: owner.to_string(),
            })
        };
        let slots = selection.speakers.slots.iter().map(slot).collect();
        Some(v1::AudioSelection { revision: selection.revision, slots })
    }

    /// An access node tells how loud its publications are.
    pub(super) fn speakers_heard(&mut self, node: &WorkerId, heard: Vec<(TrackId, Loudness)>, now: Instant) {
        if self.state.selection.is_none() {
            return;
        }
        for (track, loudness) in heard {
            if let Some(takes_part) = self.takes_part(node, &track) {
                let loudness = if takes_part { loudness } else { Loudness::default() };
                self.speakers.judge.hear(now, track, loudness);
            }
        }
        self.judge_speakers(now);
    }

    /// Whether a publication may be heard; `None` if the node has no such.
    fn takes_part(&self, node: &WorkerId, id: &TrackId) -> Option<bool> {
        let (stream, track) = self.publication_of(id)?;
        let publication = self.state.publications.get(stream)?;
        let at = self.state.transports.get(publication.transport()?)?.node.as_ref()?;
        if at.worker != *node {
            return None;
        }
        let format = &self.state.selection.as_ref()?.format;
        // Who subscribes a slot has no key of whoever comes to be in it.
        let is_there = publication.phase == Phase::Established && !publication.is_encrypted();
        Some(is_there && track.active && track.kind == Kind::Audio && track.format.is_within(format))
    }

    fn judge_speakers(&mut self, now: Instant) {
        let Some(selection) = &mut self.state.selection else { return };
        let before = told(&selection.speakers);
        self.speakers.judge.judge(now, &mut selection.speakers);
        let after = told(&selection.speakers);
        let track = |slot: &Option<(TrackId, bool)>| slot.as_ref().map(|(track, _)| track.clone());
        if before.iter().map(track).ne(after.iter().map(track)) {
            selection.revision += 1;
            self.tell_selection();
        }
        for (slot, (before, after)) in before.into_iter().zip(after).enumerate() {
            let Some((track, major)) = after.filter(|after| before.as_ref() != Some(after)) else { continue };
            let speaker = self.publication_of(&track).map(|(stream, _)| stream.to_string());
            let stream = self.selecting_stream(slot).cloned();
            if let Some((stream, stream_id)) = stream.zip(speaker) {
                self.tell_stream(&stream, Change::Speaker(v1::ActiveSpeaker { stream_id, major }));
            }
        }
    }

    /// A publication ends: its slots are free.
    pub(super) fn speaker_gone(&mut self, publication: &Publication) {
        let Some(selection) = &mut self.state.selection else { return };
        for Track { id, .. } in &publication.tracks {
            self.speakers.judge.forget(id);
            if selection.speakers.remove(id) {
                selection.revision += 1;
                self.speakers.changed = true;
            }
        }
    }

    /// Fills the slots that publications have left.
    pub(super) fn advance_speakers(&mut self, now: Instant) {
        if std::mem::take(&mut self.speakers.changed) {
            self.judge_speakers(now);
            self.tell_selection();
        }
    }

    /// Tells each access node of the room who is in the slots. One that has not answered is told what is new when it has.
    pub(super) fn tell_selection(&mut self) {
        let nodes = self.state.transports.values().filter_map(|transport| transport.node.as_ref());
        let nodes: BTreeMap<&WorkerId, &Node> = nodes.map(|node| (&node.worker, node)).collect();
        let nodes = nodes.into_values().filter(|node| !self.speakers.telling.contains_key(&node.worker));
        let nodes: Vec<Node> = nodes.cloned().collect();
        self.tell_selection_to(nodes);
    }

    fn tell_selection_to(&mut self, nodes: impl IntoIterator<Item = Node>) {
        let Some(selection) = self.selection_to_wire() else { return };
        for node in nodes {
            let request = v1::SelectAudioRequest {
                room_id: self.id.to_string(),
                epoch: self.settings.epoch,
                selection: Some(selection.clone()),
            };
            self.speakers.telling.insert(node.worker.clone(), Telling::Asked(selection.revision));
            let pending = Pending::SelectAudio(node.worker.clone());
            self.call(Callee::Access(node), CallRequest::SelectAudio(request), pending);
        }
    }

    /// A node has answered.
    pub(super) fn selection_told(&mut self, worker: &WorkerId, result: &Result<(), CallError>, now: Instant) {
        let Some(Telling::Asked(revision)) = self.speakers.telling.remove(worker) else { return };
        let newest = self.state.selection.as_ref().map_or(0, |selection| selection.revision);
        match result {
            // Whatever is opened there later says who is in the slots.
            Ok(()) | Err(CallError::NotFound(_)) if revision == newest => {}
            Ok(()) | Err(CallError::NotFound(_)) => self.tell_selection_to(self.access_node(worker)),
            Err(CallError::Unavailable(_) | CallError::Full(_) | CallError::Refused(_)) => {
                self.speakers.telling.insert(worker.clone(), Telling::Again(now + RETELL));
            }
        }
    }

    /// The access node, if the room has transports there.
    fn access_node(&self, worker: &WorkerId) -> Option<Node> {
        let nodes = self.state.transports.values().filter_map(|transport| transport.node.as_ref());
        nodes.into_iter().find(|node| node.worker == *worker).cloned()
    }

    pub(super) fn speakers_timeout(&mut self, now: Instant) {
        let due = |telling: &Telling| matches!(telling, Telling::Again(at) if *at <= now);
        let due = self.speakers.telling.extract_if(.., |_, telling| due(telling));
        let due: Vec<WorkerId> = due.map(|(worker, _)| worker).collect();
        for worker in due {
            self.tell_selection_to(self.access_node(&worker));
        }
    }
}
