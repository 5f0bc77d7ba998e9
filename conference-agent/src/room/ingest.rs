//! Streams that come from elsewhere: pulled by a streaming-node, and to everybody in the room publications like any other, though nobody's. A
//! source that breaks is tried again by the node, and its stream stays.

use kaigi_proto::{
    ids::{ParticipantId, StreamId},
    redact, v1,
};
use serde::{Deserialize, Serialize};

use super::{
    Room,
    egress::{
        Condition,
        link::{Part, Work},
    },
    input::{PulledTrack, RequestId, RequestKey, StartIngest},
    media::{Format, Kind, Node, Source},
    output::Reply,
    refusal::Refusal,
    state::{Carrier, Phase, Publication, Track},
};

/// Whose streams are that nobody publishes (OWT's name).
pub(super) const OWNER: &str = "admin";
/// Most of one room.
const MAX_INGESTS: usize = 64;

/// Where a stream comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IngestSource {
    /// With credentials. Empty if it is pushed.
    pub(crate) url: String,
    /// With which it is pushed.
    pub(crate) listen: Option<Listen>,
    pub(crate) udp: bool,
    /// Bytes; 0 = the system's.
    pub(crate) buffer: u32,
    pub(crate) audio: IngestWish,
    pub(crate) video: IngestWish,
}

/// How an encoder pushes a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listen {
    pub(crate) key: String,
    /// As in `InputDescription`.
    pub(crate) protocol: String,
}

/// Whether a kind is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IngestWish {
    IfThere,
    Needed,
    Not,
}

impl IngestWish {
    fn to_wire(self) -> v1::InputWish {
        match self {
            Self::IfThere => v1::InputWish::Auto,
            Self::Needed => v1::InputWish::Needed,
            Self::Not => v1::InputWish::None,
        }
    }

    pub(crate) fn from_wire(wish: v1::InputWish) -> Self {
        match wish {
            v1::InputWish::Auto => Self::IfThere,
            v1::InputWish::Needed => Self::Needed,
            v1::InputWish::None => Self::Not,
        }
    }
}

/// A stream that is pulled, or about to be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ingest {
    from: IngestSource,
    attributes: Option<String>,
    /// Where it is pushed to, if a node waits for it.
    listen_url: String,
    /// Of the last description.
    revision: u64,
    pub(super) condition: Condition,
    /// By which request it was made.
    #[serde(default)]
    pub(super) asked: Option<RequestKey>,
}

impl Room {
    pub(super) fn start_ingest(
        &mut self,
        request: RequestId,
        start: StartIngest,
    ) -> Result<Option<Reply>, Refusal> {
        if self.state.ingests.len() >= MAX_INGESTS {
            return Err(Refusal::TooManyIngests);
        }
        self.has_room_for_input()?;
        let (state, parts) = (&self.state, &self.egress.parts);
        let taken = |id: &str| state.publications.contains_key(id) || parts.contains_key(id);
        let id = StreamId::new(self.ids.number(taken)).expect("digits are allowed");
        let StartIngest { from, attributes } = start;
        let part = Part::pulling(request);
        self.egress.parts.insert(id.to_string(), part);
        let (listen_url, condition, asked) = (String::new(), Condition::Starting, self.asking.clone());
        let ingest = Ingest { from, attributes, listen_url, revision: 0, condition, asked };
        self.state.ingests.insert(id, ingest);
        Ok(None)
    }

    /// Describes anew what has changed.
    pub(super) fn refresh_ingests(&mut self) {
        let ids: Vec<StreamId> = self.state.ingests.keys().cloned().collect();
        for id in ids {
            self.refresh_ingest(&id);
        }
    }

    fn refresh_ingest(&mut self, id: &StreamId) {
        let Some(ingest) = self.state.ingests.get(id) else { return };
        if let Condition::Failed(_) = ingest.condition {
            return;
        }
        let publication = self.state.publications.get(id);
        let paused = |kind| {
            let track = publication.and_then(|publication| publication.first_track(kind));
            track.is_some_and(|track| !track.active)
        };
        let tracks = publication.map(|publication| publication.tracks.iter());
        let track = |track: &Track| v1::InputTrack {
            source: Some(v1::TrackSource {
                track_id: track.id.to_string(),
                kind: track.kind.to_wire(),
                format: Some(track.format.to_wire()),
                ..v1::TrackSource::default()
            }),
            // It is the node that tells it.
            resolution: None,
        };
        let media_in = &self.config.media_in;
        let mut description = v1::InputDescription {
            agent_id: self.settings.agent.to_string(),
            room_id: self.id.to_string(),
            id: id.to_string(),
            epoch: self.settings.epoch,
            revision: ingest.revision,
            url: ingest.from.url.clone(),
            udp: ingest.from.udp,
            buffer_size: ingest.from.buffer,
            audio: ingest.from.audio.to_wire().into(),
            video: ingest.from.video.to_wire().into(),
            audio_formats: media_in.audio.iter().map(|format| Format::from(format).to_wire()).collect(),
            video_formats: media_in.video.iter().map(|format| Format::from(format).to_wire()).collect(),
            tracks: tracks.into_iter().flatten().map(track).collect(),
            audio_paused: paused(Kind::Audio),
            video_paused: paused(Kind::Video),
            ..v1::InputDescription::default()
        };
        if let Some(Listen { key, protocol }) = ingest.from.listen.clone() {
            (description.listen_key, description.listen_protocol) = (key, protocol);
        }
        let Some(part) = self.egress.parts.get_mut(id.as_str()) else { return };
        if matches!(&part.wanted, Some(Work::Input(known)) if **known == description) {
            return;
        }
        description.revision += 1;
        if let Some(ingest) = self.state.ingests.get_mut(id) {
            ingest.revision = description.revision;
        }
        part.wanted = Some(Work::Input(Box::new(description)));
    }

    /// A node waits for who pushes it: whoever asked for that is told where to.
    pub(super) fn ingest_listens(&mut self, id: &StreamId, listen_url: String) {
        let Some(ingest) = self.state.ingests.get_mut(id) else { return };
        if ingest.from.listen.is_none() {
            return;
        }
        ingest.listen_url = listen_url;
        let described = describe(id, ingest);
        let request = self.egress.parts.get_mut(id.as_str()).and_then(|part| part.request.take());
        if let Some(request) = request {
            self.reply(request, Ok(Reply::Ingest(Box::new(described))));
        }
    }

    /// What its node tells of an input, whose tracks are there if it has any.
    pub(super) fn ingest_event(&mut self, id: &StreamId, condition: Condition, tracks: Vec<PulledTrack>) {
        let Some(ingest) = self.state.ingests.get_mut(id) else { return };
        ingest.condition = condition.clone();
        if self.state.publications.contains_key(id) {
            return self.ingest_goes_on(id, tracks);
        }
        let request = self.egress.parts.get_mut(id.as_str());
        match condition {
            Condition::Failed(reason) => {
                let request = request.and_then(|part| part.request.take());
                self.end_ingest(id);
                if let Some(request) = request {
                    self.refuse(request, Refusal::NodeRefused(reason));
                }
            }
            Condition::Active if !tracks.is_empty() => {
                let request = request.and_then(|part| part.request.take());
                self.ingest_begins(id, tracks);
                if let (Some(request), Some(stream)) = (request, self.describe_publication(id)) {
                    self.reply(request, Ok(Reply::Stream(Box::new(stream))));
                }
            }
            Condition::Starting | Condition::Active | Condition::Trouble(_) => {}
        }
    }

    fn ingest_begins(&mut self, id: &StreamId, tracks: Vec<PulledTrack>) {
        let attributes = self.state.ingests.get(id).and_then(|ingest| ingest.attributes.clone());
        let publication = Publication {
            arrival: self.state.arrivals,
            owner: ParticipantId::new(OWNER).expect("letters are allowed"),
            carrier: Carrier::Ingest(self.state.streaming.clone()),
            phase: Phase::Connecting,
            requested: Vec::new(),
            tracks: Vec::new(),
            data: false,
            any_label: false,
            withheld: super::Kinds::default(),
            attributes,
            early: None,
            asked: None,
            wanted: Vec::new(),
        };
        self.state.arrivals += 1;
        self.state.publications.insert(id.clone(), publication);
        let track = |pulled: PulledTrack| Track {
            id: pulled.id,
            kind: pulled.kind,
            mid: String::new(),
            source: None,
            format: pulled.format,
            resolution: pulled.resolution,
            active: true,
            layers: Vec::new(),
            temporal: 0,
        };
        self.established(id, tracks.into_iter().map(track).collect());
    }

    /// It may come from another node now, or in another size.
    fn ingest_goes_on(&mut self, id: &StreamId, tracks: Vec<PulledTrack>) {
        let node = self.state.streaming.clone();
        let Some(publication) = self.state.publications.get_mut(id) else { return };
        if tracks.is_empty() {
            return;
        }
        let carrier = Carrier::Ingest(node);
        let moved = std::mem::replace(&mut publication.carrier, carrier.clone()) != carrier;
        let mut resized = false;
        for pulled in tracks {
            let track = publication.tracks.iter_mut().find(|track| track.id == pulled.id);
            if let Some(track) = track.filter(|_| pulled.resolution.is_some()) {
                resized |= track.resolution != pulled.resolution;
                track.resolution = pulled.resolution;
            }
        }
        if resized {
            self.tell_replaced(id);
        }
        if moved {
            self.views_changed = true;
            self.repoint_all_of(id);
        }
    }

    /// The node that pulled them is dead; another is told to go on.
    pub(super) fn ingests_lost(&mut self, node: &Node) {
        let carriers = self.state.publications.values_mut().map(|publication| &mut publication.carrier);
        let gone = Carrier::Ingest(Some(node.clone()));
        carriers.filter(|carrier| **carrier == gone).for_each(|carrier| *carrier = Carrier::Ingest(None));
        self.state.ingests.values_mut().for_each(|ingest| ingest.listen_url.clear());
    }

    /// Ends one of which there is no stream yet.
    pub(super) fn cancel_ingest(&mut self, id: &StreamId) -> Result<Reply, Refusal> {
        if !self.state.ingests.contains_key(id) {
            return Err(Refusal::UnknownStream);
        }
        let request = self.egress.parts.get_mut(id.as_str()).and_then(|part| part.request.take());
        self.end_ingest(id);
        if let Some(request) = request {
            self.refuse(request, Refusal::UnknownStream);
        }
        Ok(Reply::Done)
    }

    /// It is to be pulled no more.
    pub(super) fn end_ingest(&mut self, id: &StreamId) {
        self.state.ingests.remove(id);
        if let Some(part) = self.egress.parts.get_mut(id.as_str()) {
            part.wanted = None;
        }
    }

    /// What that request has made, if it is there.
    pub(super) fn ingest_of(&self, key: &RequestKey) -> Option<Reply> {
        let (id, ingest) =
            self.state.ingests.iter().find(|(_, ingest)| ingest.asked.as_ref() == Some(key))?;
        if ingest.from.listen.is_some() {
            return Some(Reply::Ingest(Box::new(describe(id, ingest))));
        }
        self.describe_publication(id).map(|stream| Reply::Stream(Box::new(stream)))
    }

    pub(super) fn describe_ingests(&self) -> Vec<v1::Ingest> {
        self.state.ingests.iter().map(|(id, ingest)| describe(id, ingest)).collect()
    }
}

fn describe(id: &StreamId, ingest: &Ingest) -> v1::Ingest {
    let (state, reason) = ingest.condition.to_wire();
    let listen = ingest.from.listen.as_ref();
    v1::Ingest {
        id: id.to_string(),
        url: if listen.is_some() { ingest.listen_url.clone() } else { redact::url(&ingest.from.url) },
        udp: ingest.from.udp,
        audio: ingest.from.audio.to_wire().into(),
        video: ingest.from.video.to_wire().into(),
        state: state.into(),
        reason: reason.to_owned(),
        listens: listen.is_some(),
        listen_protocol: listen.map(|listen| listen.protocol.clone()).unwrap_or_default(),
    }
}

impl PulledTrack {
    /// `None` if a member is missing or is no identifier.
    pub(crate) fn from_wire(track: v1::InputTrack) -> Option<Self> {
        let Source { track: id, kind, format, .. } = Source::from_wire(track.source?)?;
        let resolution = track.resolution.and_then(super::resolution_from_wire);
        Some(Self { id, kind, format, resolution })
    }
}
