//! Streams that leave the conference: recordings and broadcasts. Each is described whole to a streaming-node, as views are to the mixer; what
//! changes meanwhile goes with the next description.

mod collection;
pub(super) mod link;

use kaigi_proto::{
    ids::{ParticipantId, StreamId},
    redact, v1,
};
use serde::{Deserialize, Serialize};

use super::{
    Room,
    feeds::Tap,
    input::{EgressMedia, EgressWhat, RequestId, RequestKey, StartEgress, SubscriptionUpdate},
    media::{Feed, Format, Kind},
    output::Reply,
    refusal::{Refusal, Unsatisfied},
    state::{Origin, Track},
    wish::{Conversion, Wish},
};
pub(super) use collection::Collection;
pub(super) use link::EgressLink;
use link::{Part, Work};

/// Most of one room.
const MAX_EGRESSES: usize = 64;

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EgressTarget {
    Recording {
        container: String,
        /// What names of files begin with.
        #[serde(default)]
        name: String,
    },
    Broadcast {
        protocol: String,
        url: String,
        segments: Option<Segments>,
    },
}

/// How a broadcast by files is cut; as in `SegmentOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segments {
    pub(crate) method: String,
    pub(crate) duration_ms: u32,
    pub(crate) window: u32,
    #[serde(default)]
    pub(crate) container: String,
    #[serde(default)]
    pub(crate) part_ms: u32,
}

impl Segments {
    fn to_wire(&self) -> v1::SegmentOptions {
        let Self { method, duration_ms, window, container, part_ms } = self.clone();
        v1::SegmentOptions { method, duration_ms, window, container, part_ms }
    }

    pub(crate) fn from_wire(options: v1::SegmentOptions) -> Self {
        let v1::SegmentOptions { method, duration_ms, window, container, part_ms } = options;
        Self { method, duration_ms, window, container, part_ms }
    }
}

impl EgressTarget {
    /// Whether a streaming-node takes that format as it is.
    fn takes(&self, kind: Kind, format: &Format) -> bool {
        match (kind, self) {
            (Kind::Audio, Self::Recording { container, .. }) if container == "mp4" => format.codec == "opus",
            (Kind::Video, Self::Recording { container, .. }) if container == "mp4" => {
                matches!(format.codec.as_str(), "h264" | "vp9")
            }
            (Kind::Audio, _) => matches!(format.codec.as_str(), "opus" | "pcmu" | "pcma"),
            (Kind::Video, Self::Recording { .. }) => matches!(format.codec.as_str(), "vp8" | "vp9" | "h264"),
            (Kind::Video, Self::Broadcast { .. }) => format.codec == "h264",
        }
    }
}

/// How it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Condition {
    Starting,
    Active,
    Trouble(String),
    Failed(String),
}

impl Condition {
    /// With the reason of what is no success.
    pub(super) fn to_wire(&self) -> (v1::OutputState, &str) {
        match self {
            Self::Starting => (v1::OutputState::Starting, ""),
            Self::Active => (v1::OutputState::Active, ""),
            Self::Trouble(reason) => (v1::OutputState::Trouble, reason),
            Self::Failed(reason) => (v1::OutputState::Failed, reason),
        }
    }
}

/// A recording or a broadcast.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Egress {
    target: EgressTarget,
    tracks: Vec<EgressTrack>,
    /// Of the last description.
    revision: u64,
    condition: Condition,
    recorded: Recorded,
    /// The collection that it belongs to, and the stream that it is of.
    member: Option<(String, StreamId)>,
    /// By which request it was made.
    #[serde(default)]
    pub(super) asked: Option<RequestKey>,
}

/// Where a recording is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub(super) host: String,
    /// The first.
    pub(super) file: String,
    pub(super) manifest: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct EgressTrack {
    kind: Kind,
    /// As it was named.
    named: String,
    from: Origin,
    wish: Wish,
    conversion: Conversion,
    format: Format,
    active: bool,
}

impl Egress {
    pub(super) fn target(&self) -> &EgressTarget {
        &self.target
    }

    /// The collection that it belongs to, and the stream that it is of.
    pub(super) fn member(&self) -> Option<&(String, StreamId)> {
        self.member.as_ref()
    }

    pub(super) fn condition(&self) -> &Condition {
        &self.condition
    }
}

impl Room {
    pub(super) fn start_egress(
        &mut self,
        request: RequestId,
        start: StartEgress,
    ) -> Result<Option<Reply>, Refusal> {
        if self.state.egresses.len() >= MAX_EGRESSES {
            return Err(Refusal::TooManyEgresses);
        }
        let media = match start.what {
            EgressWhat::Media(media) => media,
            EgressWhat::Each(kinds) => return Ok(self.start_collection(request, start.target, kinds)),
        };
        let track = |media| self.egress_track(&start.target, media);
        let tracks = media.into_iter().map(track).collect::<Result<_, _>>()?;
        let id = self.new_egress(start.target, tracks, None);
        self.egress.parts.insert(id, Part::beginning(request));
        Ok(None)
    }

    fn new_egress(
        &mut self,
        target: EgressTarget,
        tracks: Vec<EgressTrack>,
        member: Option<(String, StreamId)>,
    ) -> String {
        let (parts, collections) = (&self.egress.parts, &self.state.collections);
        let id = self.ids.session(|id| parts.contains_key(id) || collections.contains_key(id));
        let (condition, recorded) = (Condition::Starting, Recorded::default());
        let asked = self.asking.clone().filter(|_| member.is_none());
        let egress = Egress { target, tracks, revision: 0, condition, recorded, member, asked };
        self.state.egresses.insert(id.clone(), egress);
        self.views_changed = true;
        id
    }

    fn egress_track(&self, target: &EgressTarget, media: EgressMedia) -> Result<EgressTrack, Refusal> {
        let EgressMedia { kind, from: named, wish } = media;
        // Streaming nodes take tracks, not whoever is in a slot.
        let from = self.named_origin(&named, kind, None).filter(|from| !matches!(from, Origin::Selected(_)));
        let from = from.ok_or(Refusal::NoSuchSource(kind))?;
        let from = self.largest_layer(from);
        if self.is_encrypted(&from) {
            return Err(Refusal::StreamIsEncrypted);
        }
        let (own, _) = self.original(&from, kind).ok_or(Refusal::NoSuchSource(kind))?;
        let mut conversion = self.conversion(&from, kind, &wish)?;
        let formats = self.formats(&from, kind, &wish);
        let taken = formats.into_iter().filter(|format| target.takes(kind, format));
        // What is encoded for it alone should cost little: its own, else H.264 where there is a choice.
        let format = taken.min_by_key(|format| (*format != own, format.codec != "h264"));
        let format = format.ok_or(Refusal::Unsatisfied(kind, Unsatisfied::Format))?;
        conversion.format = !own.is_within(&format);
        Ok(EgressTrack { kind, named, from, wish, conversion, format, active: true })
    }

    /// Of several layers of a picture the one that is worth keeping.
    fn largest_layer(&self, from: Origin) -> Origin {
        let area = |layer: &&Track| layer.resolution.map_or(0, |size| size.width * size.height);
        let largest = self.layers(&from).max_by_key(area).map(|layer| layer.id.clone());
        match (from, largest) {
            (Origin::Track { stream, .. }, Some(track)) => Origin::Track { stream, track, layered: false },
            (from, _) => from,
        }
    }

    /// Takes it from another source, in another size…; all or nothing.
    pub(super) fn update_egress(
        &mut self,
        id: &str,
        update: &SubscriptionUpdate,
        active: [Option<bool>; 2],
    ) -> Result<Reply, Refusal> {
        let egress = self.state.egresses.get(id).ok_or(Refusal::UnknownEgress)?;
        let mut tracks = egress.tracks.clone();
        for (kind, active) in Kind::ALL.into_iter().zip(active) {
            let change = update.of(kind);
            if change.is_none() && active.is_none() {
                continue;
            }
            let track = tracks.iter_mut().find(|track| track.kind == kind);
            let track = track.ok_or(Refusal::SubscriptionLacks(kind))?;
            if let Some(change) = change {
                let named = change.from.clone().unwrap_or_else(|| track.named.clone());
                let mut wish = if named == track.named { track.wish.clone() } else { Wish::default() };
                wish.change(change);
                let media = EgressMedia { kind, from: named, wish };
                *track = EgressTrack { active: track.active, ..self.egress_track(&egress.target, media)? };
            }
            track.active = active.unwrap_or(track.active);
        }
        if let Some(egress) = self.state.egresses.get_mut(id) {
            egress.tracks = tracks;
        }
        self.views_changed = true;
        self.describe_egress(id).map(|egress| Reply::Egress(Box::new(egress))).ok_or(Refusal::UnknownEgress)
    }

    pub(super) fn stop_egress(&mut self, request: RequestId, id: &str) -> Result<Option<Reply>, Refusal> {
        if self.state.collections.contains_key(id) {
            return Ok(self.stop_collection(request, id));
        }
        let ends_already = self.egress.parts.get(id).is_some_and(|part| part.wanted.is_none() && !part.input);
        if self.state.egresses.remove(id).is_none() && !ends_already {
            return Err(Refusal::UnknownEgress);
        }
        self.views_changed = true;
        let part = self.egress.parts.entry(id.to_owned()).or_default();
        part.wanted = None;
        let older = part.request.replace(request);
        if let Some(older) = older {
            self.refuse(older, Refusal::UnknownEgress);
        }
        Ok(None)
    }

    /// Describes it anew if something that it is made of has changed.
    fn refresh_egress(&mut self, id: &str) {
        let Some(egress) = self.state.egresses.get(id) else { return };
        if let Condition::Failed(_) = egress.condition {
            return;
        }
        let lane = |kind: Kind| {
            let track = egress.tracks.iter().find(|track| track.kind == kind)?;
            let source = track.active.then(|| {
                let tap = self.egress_tap(track)?;
                match self.feed_of_tap(&self.egress.nobody, kind, &track.from, &tap)? {
                    Feed::Track(source) => Some(source),
                    Feed::Layers(..) | Feed::Selected(..) => None,
                }
            });
            Some(v1::OutputLane {
                source: source.flatten().map(|source| source.to_wire()),
                capture: match &track.from {
                    Origin::View(label) => format!("view:{label}"),
                    Origin::Selected(slot) => format!("slot:{slot}"),
                    Origin::Track { stream, .. } => stream.to_string(),
                },
            })
        };
        let mut description = v1::OutputDescription {
            agent_id: self.settings.agent.to_string(),
            room_id: self.id.to_string(),
            id: id.to_owned(),
            epoch: self.settings.epoch,
            revision: egress.revision,
            audio: lane(Kind::Audio),
            video: lane(Kind::Video),
            target: Some(match egress.target.clone() {
                EgressTarget::Recording { container, name } => {
                    let group =
                        egress.member.as_ref().map(|(group, stream)| self.recording_group(group, stream));
                    v1::output_description::Target::Recording(v1::RecordingTarget { container, group, name })
                }
                EgressTarget::Broadcast { protocol, url, segments } => {
                    let segments = segments.as_ref().map(Segments::to_wire);
                    v1::output_description::Target::Broadcast(v1::BroadcastTarget { protocol, url, segments })
                }
            }),
        };
        let part = self.egress.parts.entry(id.to_owned()).or_default();
        if matches!(&part.wanted, Some(Work::Output(known)) if **known == description) {
            return;
        }
        description.revision += 1;
        if let Some(egress) = self.state.egresses.get_mut(id) {
            egress.revision = description.revision;
        }
        part.wanted = Some(Work::Output(Box::new(description)));
    }

    fn egress_tap(&self, track: &EgressTrack) -> Option<Tap> {
        let tap =
            self.tap(&self.egress.nobody, track.kind, &track.from, &track.conversion, Some(&track.format))?;
        // What a view is recorded in does not depend on a way.
        let is_view = matches!(track.from, Origin::View(_));
        Some(if is_view && matches!(tap, Tap::Layers(_)) { Tap::Plain } else { tap })
    }

    pub(super) fn for_each_egress_tap(&self, each: &mut impl FnMut(&ParticipantId, Kind, &Origin, Tap)) {
        let tracks = self.state.egresses.values().flat_map(|egress| &egress.tracks);
        for track in tracks.filter(|track| track.active) {
            if let Some(tap) = self.egress_tap(track) {
                each(&self.egress.nobody, track.kind, &track.from, tap);
            }
        }
    }

    /// What some take can't be made, and why.
    pub(super) fn egress_lacks(&mut self, why: impl Fn(Kind, &Origin, &Tap) -> Option<String>) {
        let lacks = |egress: &Egress| {
            let mut tracks = egress.tracks.iter().filter_map(|track| Some((track, self.egress_tap(track)?)));
            tracks.find_map(|(track, tap)| why(track.kind, &track.from, &tap))
        };
        let all = self.state.egresses.iter();
        let lacking: Vec<(String, String)> =
            all.filter_map(|(id, egress)| Some((id.clone(), lacks(egress)?))).collect();
        for (id, reason) in lacking {
            if let Some(egress) = self.state.egresses.get_mut(&id) {
                egress.condition = Condition::Trouble(reason);
            }
        }
    }

    pub(super) fn has_running_egress(&self) -> bool {
        let runs = |egress: &Egress| !matches!(egress.condition, Condition::Failed(_));
        // What waits for streams of people waits for people.
        self.state.egresses.values().any(|egress| egress.member.is_none() && runs(egress))
    }

    pub(super) fn describe_egresses(&self) -> Vec<v1::Egress> {
        let apart = self.state.egresses.iter().filter(|(_, egress)| egress.member.is_none());
        let apart = apart.filter_map(|(id, _)| self.describe_egress(id));
        apart.chain(self.describe_collections()).collect()
    }

    fn describe_egress(&self, id: &str) -> Option<v1::Egress> {
        let egress = self.state.egresses.get(id)?;
        let (state, reason) = egress.condition.to_wire();
        let tracks = egress.tracks.iter().map(|track| {
            let (_, mut parameters) = self.original(&track.from, track.kind).unwrap_or_default();
            let wanted = &track.wish.parameters;
            parameters.resolution = wanted.resolution.or(parameters.resolution);
            parameters.framerate = wanted.framerate.or(parameters.framerate);
            parameters.key_frame_interval = wanted.key_frame_interval.or(parameters.key_frame_interval);
            v1::EgressTrack {
                kind: track.kind.to_wire(),
                from: track.named.clone(),
                format: Some(track.format.to_wire()),
                parameters: parameters.to_wire().filter(|_| track.kind == Kind::Video),
                bitrate_multiplier: track.wish.bitrate_multiplier.clone().unwrap_or_default(),
                active: track.active,
            }
        });
        Some(v1::Egress {
            id: id.to_owned(),
            tracks: tracks.collect(),
            target: Some(match egress.target.clone() {
                EgressTarget::Recording { container, name } => {
                    v1::egress::Target::Recording(v1::RecordingTarget { container, group: None, name })
                }
                EgressTarget::Broadcast { protocol, url, segments } => {
                    let (url, segments) = (redact::url(&url), segments.as_ref().map(Segments::to_wire));
                    v1::egress::Target::Broadcast(v1::BroadcastTarget { protocol, url, segments })
                }
            }),
            state: state.into(),
            reason: reason.to_owned(),
            host: egress.recorded.host.clone(),
            file: egress.recorded.file.clone(),
            ..v1::Egress::default()
        })
    }
}
