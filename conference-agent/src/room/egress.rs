//! Streams that leave the conference: recordings and broadcasts. Each is described whole to a streaming-node, as views are to the mixer; what
//! changes meanwhile goes with the next description.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{ParticipantId, WorkerId},
    redact, v1,
};
use serde::{Deserialize, Serialize};

use super::{
    Room,
    calls::Pending,
    feeds::Tap,
    input::{CallError, EgressEvent, EgressMedia, RequestId, StartEgress, SubscriptionUpdate},
    media::{Feed, Format, Kind, Node},
    output::{CallRequest, Callee, Note, Output, Reply},
    refusal::{Refusal, Unsatisfied},
    state::{Origin, Track},
    wish::{Conversion, Wish},
};

/// Most of one room.
const MAX_EGRESSES: usize = 64;
/// First and longest pause between attempts to find a streaming-node.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EgressTarget {
    Recording { container: String },
    Broadcast { protocol: String, url: String },
}

impl EgressTarget {
    /// Whether a streaming-node takes that format as it is.
    fn takes(&self, kind: Kind, format: &Format) -> bool {
        match (kind, self) {
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

/// A recording or a broadcast.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Egress {
    target: EgressTarget,
    tracks: Vec<EgressTrack>,
    /// Of the last description.
    revision: u64,
    condition: Condition,
    host: String,
    file: String,
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

/// What is under way between a room and its streaming-node; rebuilt from the state when lost.
#[derive(Debug)]
pub(super) struct EgressLink {
    parts: BTreeMap<String, Part>,
    scheduling: bool,
    pause: Duration,
    retry_at: Option<Instant>,
    /// Whose own mix nobody has.
    nobody: ParticipantId,
}

#[derive(Debug, Default)]
struct Part {
    /// `None` = the node is to end it.
    wanted: Option<v1::OutputDescription>,
    in_flight: bool,
    acked: u64,
    /// To be replied to when it has begun, or has ended.
    request: Option<RequestId>,
}

impl Default for EgressLink {
    fn default() -> Self {
        Self {
            parts: BTreeMap::new(),
            scheduling: false,
            pause: RETRY.0,
            retry_at: None,
            nobody: ParticipantId::new("nobody").expect("letters are allowed"),
        }
    }
}

impl EgressLink {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Requests that wait for a node.
    pub(super) fn take_requests(&mut self) -> Vec<RequestId> {
        self.parts.values_mut().filter_map(|part| part.request.take()).collect()
    }

    fn retry_later(&mut self, now: Instant) {
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY.1);
    }

    fn forget_acks(&mut self) {
        for part in self.parts.values_mut() {
            (part.acked, part.in_flight) = (0, false);
        }
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
        let track = |media| self.egress_track(&start.target, media);
        let tracks = start.media.into_iter().map(track).collect::<Result<_, _>>()?;
        let taken = |id: &str| self.state.egresses.contains_key(id) || self.egress.parts.contains_key(id);
        let id = self.ids.session(taken);
        let egress = Egress {
            target: start.target,
            tracks,
            revision: 0,
            condition: Condition::Starting,
            host: String::new(),
            file: String::new(),
        };
        self.state.egresses.insert(id.clone(), egress);
        self.egress.parts.insert(id, Part { request: Some(request), ..Part::default() });
        self.views_changed = true;
        Ok(None)
    }

    fn egress_track(&self, target: &EgressTarget, media: EgressMedia) -> Result<EgressTrack, Refusal> {
        let EgressMedia { kind, from: named, wish } = media;
        let from = self.named_origin(&named, kind, None).ok_or(Refusal::NoSuchSource(kind))?;
        let from = self.largest_layer(from);
        let (own, _) = self.original(&from, kind).ok_or(Refusal::NoSuchSource(kind))?;
        let mut conversion = self.conversion(&from, kind, &wish)?;
        let formats = self.formats(&from, kind, &wish);
        let format = formats.into_iter().find(|format| target.takes(kind, format));
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
                wish.change(&change.parameters, change.bitrate_multiplier.as_deref());
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
        self.state.egresses.remove(id).ok_or(Refusal::UnknownEgress)?;
        self.views_changed = true;
        let part = self.egress.parts.entry(id.to_owned()).or_default();
        part.wanted = None;
        let older = part.request.replace(request);
        if let Some(older) = older {
            self.refuse(older, Refusal::UnknownEgress);
        }
        Ok(None)
    }

    /// Tells the streaming-node of what it does not have as it is to be.
    pub(super) fn advance_egresses(&mut self) {
        let ids: Vec<String> = self.state.egresses.keys().cloned().collect();
        for id in ids {
            self.refresh_egress(&id);
        }
        if self.egress.scheduling || self.egress.retry_at.is_some() || self.egress.parts.is_empty() {
            return;
        }
        let Some(node) = self.state.streaming.clone() else {
            self.egress.scheduling = true;
            let request = v1::ScheduleRequest {
                purpose: v1::Purpose::Streaming.into(),
                task: self.id.to_string(),
                ..v1::ScheduleRequest::default()
            };
            return self.call(Callee::Cluster, CallRequest::Schedule(request), Pending::PlaceStreaming);
        };
        let mut due = Vec::new();
        for (id, part) in self.egress.parts.iter_mut().filter(|(_, part)| !part.in_flight) {
            if part.wanted.as_ref().is_none_or(|wanted| wanted.revision > part.acked) {
                part.in_flight = true;
                due.push((id.clone(), part.wanted.clone()));
            }
        }
        for (egress, wanted) in due {
            let worker = node.worker.clone();
            let (request, pending) = match wanted {
                Some(description) => {
                    let revision = description.revision;
                    let pending = Pending::SetEgress { egress, revision, node: worker };
                    (CallRequest::SetOutput(Box::new(description)), pending)
                }
                None => {
                    let request = self.remove_output(&egress);
                    (request, Pending::RemoveEgress { egress, node: worker })
                }
            };
            self.call(Callee::Streaming(node.clone()), request, pending);
        }
    }

    fn remove_output(&self, id: &str) -> CallRequest {
        let (room_id, epoch) = (self.id.to_string(), self.settings.epoch);
        CallRequest::RemoveOutput(v1::RemoveOutputRequest { room_id, id: id.to_owned(), epoch })
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
                    Feed::Layers(..) => None,
                }
            });
            Some(v1::OutputLane {
                source: source.flatten().map(|source| source.to_wire()),
                capture: match &track.from {
                    Origin::View(label) => format!("view:{label}"),
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
                EgressTarget::Recording { container } => {
                    v1::output_description::Target::Recording(v1::RecordingTarget { container })
                }
                EgressTarget::Broadcast { protocol, url } => {
                    v1::output_description::Target::Broadcast(v1::BroadcastTarget { protocol, url })
                }
            }),
        };
        let part = self.egress.parts.entry(id.to_owned()).or_default();
        if part.wanted.as_ref() == Some(&description) {
            return;
        }
        description.revision += 1;
        if let Some(egress) = self.state.egresses.get_mut(id) {
            egress.revision = description.revision;
        }
        part.wanted = Some(description);
    }

    fn egress_tap(&self, track: &EgressTrack) -> Option<Tap> {
        self.tap(&self.egress.nobody, track.kind, &track.from, &track.conversion, Some(&track.format))
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

    pub(super) fn streaming_placed(&mut self, result: Result<Node, CallError>, now: Instant) {
        self.egress.scheduling = false;
        match result {
            Ok(node) => {
                self.state.streaming = Some(node);
                self.egress.pause = RETRY.0;
            }
            Err(error) => self.streaming_failed(&error, now),
        }
    }

    /// A node's reply to a description: host and file of a recording.
    pub(super) fn egress_set(
        &mut self,
        id: &str,
        revision: u64,
        node: &WorkerId,
        result: Result<(String, String), CallError>,
        now: Instant,
    ) {
        if self.state.streaming.as_ref().is_none_or(|known| known.worker != *node) {
            return;
        }
        let Some(part) = self.egress.parts.get_mut(id) else { return };
        part.in_flight = false;
        match result {
            Ok((host, file)) => {
                part.acked = part.acked.max(revision);
                self.egress.pause = RETRY.0;
                if part.wanted.is_none() {
                    return;
                }
                let request = part.request.take();
                if let Some(egress) = self.state.egresses.get_mut(id) {
                    (egress.host, egress.file) = (host, file);
                }
                if let (Some(request), Some(egress)) = (request, self.describe_egress(id)) {
                    self.reply(request, Ok(Reply::Egress(Box::new(egress))));
                }
            }
            Err(CallError::Refused(reason)) => self.egress_refused(id, reason),
            Err(error @ (CallError::Unavailable(_) | CallError::NotFound(_))) => {
                self.streaming_failed(&error, now);
            }
        }
    }

    /// The node will not make it: one that has not begun is refused, one that had begun elsewhere has failed.
    fn egress_refused(&mut self, id: &str, reason: String) {
        let note = Note::EgressFailed { egress: id.to_owned(), reason: reason.clone() };
        self.output(Output::Log(note));
        let Some(part) = self.egress.parts.get_mut(id) else { return };
        part.acked = u64::MAX;
        if let Some(request) = part.request.take() {
            self.egress.parts.remove(id);
            self.state.egresses.remove(id);
            self.views_changed = true;
            self.refuse(request, Refusal::NodeRefused(reason));
        } else if let Some(egress) = self.state.egresses.get_mut(id) {
            egress.condition = Condition::Failed(reason);
        }
    }

    pub(super) fn egress_removed(
        &mut self,
        id: &str,
        node: &WorkerId,
        result: Result<(), CallError>,
        now: Instant,
    ) {
        if self.state.streaming.as_ref().is_none_or(|known| known.worker != *node) {
            return;
        }
        let Some(part) = self.egress.parts.get_mut(id) else { return };
        part.in_flight = false;
        if let Err(error @ CallError::Unavailable(_)) = &result {
            return self.streaming_failed(error, now);
        }
        self.forget_egress(id);
    }

    /// It has ended: whoever asked for that is told.
    fn forget_egress(&mut self, id: &str) {
        if let Some(request) = self.egress.parts.remove(id).and_then(|part| part.request) {
            self.reply(request, Ok(Reply::Done));
        }
        if self.egress.parts.is_empty() && self.state.streaming.take().is_some() {
            self.release(v1::Purpose::Streaming, self.id.to_string());
        }
    }

    /// No node does what is wanted: those who wait to begin are refused, the others are tried again.
    fn streaming_failed(&mut self, error: &CallError, now: Instant) {
        let note = Note::EgressFailed { egress: String::new(), reason: error.to_string() };
        self.output(Output::Log(note));
        self.state.streaming = None;
        self.egress.forget_acks();
        self.egress.retry_later(now);
        let waits = |(id, part): (&String, &Part)| part.request.is_some().then(|| id.clone());
        let waiting: Vec<String> = self.egress.parts.iter().filter_map(waits).collect();
        for id in waiting {
            let Some(part) = self.egress.parts.remove(&id) else { continue };
            let begins = self.state.egresses.remove(&id).is_some();
            self.views_changed = true;
            if let Some(request) = part.request {
                let result = if begins { Err(Refusal::NoStreamingNode) } else { Ok(Reply::Done) };
                self.reply(request, result);
            }
        }
        let reason = error.to_string();
        for egress in self.state.egresses.values_mut() {
            if !matches!(egress.condition, Condition::Failed(_)) {
                egress.condition = Condition::Trouble(reason.clone());
            }
        }
    }

    pub(super) fn egress_event(&mut self, node: &WorkerId, event: EgressEvent) {
        if self.state.streaming.as_ref().is_none_or(|known| known.worker != *node) {
            return;
        }
        if let Condition::Failed(reason) | Condition::Trouble(reason) = &event.condition {
            let note = Note::EgressFailed { egress: event.egress.clone(), reason: reason.clone() };
            self.output(Output::Log(note));
        }
        if let Some(egress) = self.state.egresses.get_mut(&event.egress) {
            egress.condition = event.condition;
        }
    }

    /// The node is dead: what it made goes on at another, a recording in another file.
    pub(super) fn streaming_lost(&mut self, worker: &WorkerId) {
        if self.state.streaming.as_ref().is_none_or(|node| node.worker != *worker) {
            return;
        }
        self.state.streaming = None;
        self.egress.forget_acks();
        for egress in self.state.egresses.values_mut() {
            if !matches!(egress.condition, Condition::Failed(_)) {
                egress.condition = Condition::Trouble("Node lost".to_owned());
            }
        }
        let gone: Vec<String> = self.egress.parts.keys().cloned().collect();
        for id in gone.iter().filter(|id| !self.state.egresses.contains_key(*id)).collect::<Vec<_>>() {
            self.forget_egress(id);
        }
    }

    /// The node may have forgotten everything: it is told again.
    pub(super) fn streaming_resumed(&mut self, worker: &WorkerId) {
        if self.state.streaming.as_ref().is_some_and(|node| node.worker == *worker) {
            self.egress.forget_acks();
        }
    }

    pub(super) fn egress_timeout(&mut self, now: Instant) {
        if self.egress.retry_at.is_some_and(|at| at <= now) {
            self.egress.retry_at = None;
        }
    }

    /// Tells the node that the room is over.
    pub(super) fn leave_streaming(&mut self) {
        let parts = std::mem::take(&mut self.egress.parts);
        self.state.egresses.clear();
        if let Some(node) = self.state.streaming.take() {
            for id in parts.keys() {
                let request = self.remove_output(id);
                self.call(Callee::Streaming(node.clone()), request, Pending::Nothing);
            }
            self.release(v1::Purpose::Streaming, self.id.to_string());
        }
    }

    pub(super) fn describe_egresses(&self) -> Vec<v1::Egress> {
        self.state.egresses.keys().filter_map(|id| self.describe_egress(id)).collect()
    }

    fn describe_egress(&self, id: &str) -> Option<v1::Egress> {
        let egress = self.state.egresses.get(id)?;
        let (state, reason) = match &egress.condition {
            Condition::Starting => (v1::OutputState::Starting, ""),
            Condition::Active => (v1::OutputState::Active, ""),
            Condition::Trouble(reason) => (v1::OutputState::Trouble, reason.as_str()),
            Condition::Failed(reason) => (v1::OutputState::Failed, reason.as_str()),
        };
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
                EgressTarget::Recording { container } => {
                    v1::egress::Target::Recording(v1::RecordingTarget { container })
                }
                EgressTarget::Broadcast { protocol, url } => {
                    let url = redact::url(&url);
                    v1::egress::Target::Broadcast(v1::BroadcastTarget { protocol, url })
                }
            }),
            state: state.into(),
            reason: reason.to_owned(),
            host: egress.host.clone(),
            file: egress.file.clone(),
        })
    }
}
