//! The mixer of a room: where it is, and what it was told of the views and the transcoders. One description of each is under way at a
//! time; what changes meanwhile goes with the next.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{SubscriptionId, WorkerId},
    v1,
};
use kaigi_room_config::RoomConfig;

use super::{
    Room,
    analytics::transcoder_id,
    calls::Pending,
    input::CallError,
    media::{Node, Source},
    output::{CallRequest, Callee, Note, Output},
    refusal::Refusal,
    sessions::SessionKey,
    state::{Origin, Phase, Subscription},
    transcoded::Transcoded,
};

/// First and longest pause between attempts to find a mixer. A dead mixer's lease ends after about three seconds; until then
/// the cluster may name it again.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What a mixer has of a room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// By label.
    View(String),
    /// Of a forward track.
    Transcoder(Transcoded),
    /// Of the analytics of that id: a transcoder whose picture is a stream of its own.
    Analysis(String),
}

impl Part {
    /// Whether this makes outputs of `origin`.
    pub(super) fn is_of(&self, origin: &Origin) -> bool {
        match (self, origin) {
            (Self::View(label), Origin::View(other)) => label == other,
            (Self::Transcoder(of), Origin::Track { .. }) => Transcoded::of(origin).as_ref() == Some(of),
            (Self::View(_), Origin::Track { .. })
            | (Self::Transcoder(_), Origin::View(_))
            | (Self::Analysis(_), _)
            | (_, Origin::Selected(_)) => false,
        }
    }

    /// `None` if mixers make nothing of it.
    fn of(origin: &Origin) -> Option<Self> {
        match origin {
            Origin::View(label) => Some(Self::View(label.clone())),
            Origin::Track { .. } => Transcoded::of(origin).map(Self::Transcoder),
            Origin::Selected(_) => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::View(label) => format!("view {label}"),
            Self::Transcoder(of) => format!("transcoder of {}", of.track),
            Self::Analysis(id) => format!("analytics {id}"),
        }
    }
}

/// A part as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Description {
    View(Box<v1::ViewDescription>),
    Transcoder(Box<v1::TranscoderDescription>),
}

impl Description {
    pub(super) fn revision(&self) -> u64 {
        match self {
            Self::View(view) => view.revision,
            Self::Transcoder(transcoder) => transcoder.revision,
        }
    }

    fn revise(&mut self, revision: u64) {
        match self {
            Self::View(view) => view.revision = revision,
            Self::Transcoder(transcoder) => transcoder.revision = revision,
        }
    }

    /// Ids of the outputs beside a view's own.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &str> {
        let (video, audio) = match self {
            Self::View(view) => (&view.video_outputs, &view.audio_outputs),
            Self::Transcoder(transcoder) => (&transcoder.video_outputs, &transcoder.audio_outputs),
        };
        video.iter().map(|o| o.id.as_str()).chain(audio.iter().map(|o| o.id.as_str()))
    }
}

/// What is under way between a room and its mixer; rebuilt from the state when lost.
#[derive(Debug)]
pub(super) struct MixerLink {
    pub(super) parts: BTreeMap<Part, PartLink>,
    /// Whether a mixer was asked for.
    scheduling: bool,
    /// Whether all were full when one was looked for last.
    all_full: bool,
    pause: Duration,
    retry_at: Option<Instant>,
    /// When subscriptions are pointed again at sources that they could not be pointed at.
    repoint_at: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct PartLink {
    /// `None` = the mixer is to forget it.
    pub(super) wanted: Option<Description>,
    pub(super) in_flight: bool,
    /// The revision that the mixer has; 0 = none.
    pub(super) acked: u64,
    /// Whether the last attempt failed.
    pub(super) failing: bool,
    /// Who was told of it last.
    at: Option<WorkerId>,
}

impl MixerLink {
    pub(super) fn new(config: &RoomConfig) -> Self {
        let views = config.views.iter().map(|view| Part::View(view.label.clone()));
        Self {
            parts: views.map(|part| (part, PartLink::default())).collect(),
            scheduling: false,
            all_full: false,
            pause: RETRY.0,
            retry_at: None,
            repoint_at: None,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.retry_at.into_iter().chain(self.repoint_at).min()
    }

    pub(super) fn repoint_later(&mut self, now: Instant) {
        self.repoint_at.get_or_insert(now + RETRY.1);
    }

    fn retry_later(&mut self, now: Instant) {
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY.1);
    }

    /// The mixer does what it is asked.
    pub(super) fn is_well(&mut self) {
        self.pause = RETRY.0;
    }

    /// What was given up for a while is tried at once.
    pub(super) fn retry_now(&mut self) {
        self.retry_at = None;
        self.pause = RETRY.0;
    }

    /// Whether the mixer has everything as it is to be, as far as it ever will.
    pub(super) fn is_told(&self) -> bool {
        let has = |link: &PartLink| {
            link.wanted.as_ref().is_none_or(|wanted| link.failing || wanted.revision() <= link.acked)
        };
        self.parts.values().all(has)
    }

    pub(super) fn forget_acks(&mut self) {
        for link in self.parts.values_mut() {
            link.acked = 0;
            link.in_flight = false;
        }
    }
}

impl Room {
    /// Finds a mixer if one is needed, and tells it of what it does not have as it is to be.
    pub(super) fn advance_mixer(&mut self) {
        if self.mixer.retry_at.is_some() || self.mixer.scheduling {
            return;
        }
        let Some(node) = self.state.mixer.clone() else {
            if self.mixer.parts.is_empty() {
                return;
            }
            self.mixer.scheduling = true;
            let request = v1::ScheduleRequest {
                purpose: v1::Purpose::Mixer.into(),
                task: self.id.to_string(),
                ..v1::ScheduleRequest::default()
            };
            return self.call(Callee::Cluster, CallRequest::Schedule(request), Pending::PlaceMixer);
        };
        // Another mixer does not know what is to be forgotten.
        self.mixer.parts.retain(|_, link| {
            link.wanted.is_some() || link.in_flight || link.at.as_ref() == Some(&node.worker)
        });
        let mut due = Vec::new();
        for (part, link) in self.mixer.parts.iter_mut().filter(|(_, link)| !link.in_flight) {
            if link.wanted.as_ref().is_none_or(|wanted| wanted.revision() > link.acked) {
                link.in_flight = true;
                link.at = Some(node.worker.clone());
                due.push((part.clone(), link.wanted.clone()));
            }
        }
        for (part, wanted) in due {
            let mixer = node.worker.clone();
            let (request, pending) = match wanted {
                Some(description) => {
                    let pending = Pending::SetPart { part, revision: description.revision(), mixer };
                    let request = match description {
                        Description::View(view) => CallRequest::SetView(view),
                        Description::Transcoder(transcoder) => CallRequest::SetTranscoder(transcoder),
                    };
                    (request, pending)
                }
                None => (self.remove_request(&part), Pending::RemovePart { part, mixer }),
            };
            self.call(Callee::Mixer(node.clone()), request, pending);
        }
    }

    pub(super) fn remove_request(&self, part: &Part) -> CallRequest {
        let (room_id, epoch) = (self.id.to_string(), self.settings.epoch);
        match part {
            Part::View(label) => {
                CallRequest::RemoveView(v1::RemoveViewRequest { room_id, label: label.clone(), epoch })
            }
            Part::Transcoder(of) => {
                let request = v1::RemoveTranscoderRequest { room_id, id: of.id(), epoch };
                CallRequest::RemoveTranscoder(request)
            }
            Part::Analysis(id) => {
                let request = v1::RemoveTranscoderRequest { room_id, id: transcoder_id(id), epoch };
                CallRequest::RemoveTranscoder(request)
            }
        }
    }

    pub(super) fn mixer_placed(&mut self, result: Result<Node, CallError>, now: Instant) {
        self.mixer.scheduling = false;
        match result {
            Ok(node) => {
                self.mixer.all_full = false;
                self.forget_outputs(|source| source.node.worker != node.worker);
                self.state.mixer = Some(node);
            }
            Err(error) => self.mixer_failed(None, error, now),
        }
    }

    /// Forgets what mixers have made that are not the room's any more.
    fn forget_outputs(&mut self, lost: impl Fn(&Source) -> bool) {
        for view in &mut self.state.views {
            let all = |o: &super::views::ViewOutputs| {
                o.audio.iter().chain(&o.video).chain(o.others.sources.values()).any(&lost)
            };
            if view.outputs.as_ref().is_some_and(all) {
                view.outputs = None;
            }
        }
        for transcoder in self.state.transcoders.values_mut() {
            transcoder.outputs.sources.retain(|_, source| !lost(source));
        }
    }

    /// The mixer has forgotten a part, or never will.
    pub(super) fn part_removed(
        &mut self,
        part: &Part,
        mixer: &WorkerId,
        result: Result<(), CallError>,
        now: Instant,
    ) {
        if self.state.mixer.as_ref().is_none_or(|node| node.worker != *mixer) {
            return;
        }
        let Some(link) = self.mixer.parts.get_mut(part) else { return };
        (link.in_flight, link.acked, link.at) = (false, 0, None);
        if let Err(error @ (CallError::Unavailable(_) | CallError::Full(_))) = result {
            link.at = Some(mixer.clone());
            self.mixer_failed(Some(part), error, now);
        }
    }

    /// Those who wait for it are refused, and it is tried again later, on whichever mixer there is then.
    pub(super) fn mixer_failed(&mut self, part: Option<&Part>, error: CallError, now: Instant) {
        let note = Note::MixerFailed { part: part.map(Part::name), reason: error.to_string() };
        self.output(Output::Log(note));
        match (&error, part) {
            (CallError::Refused(reason), Some(part)) => {
                self.revise(part);
                // It is not for being old, then.
                let again = self.mixer.parts.get(part).is_some_and(|link| link.failing);
                if let Part::Transcoder(_) = part
                    && again
                {
                    self.give_up(part, reason);
                }
            }
            (
                CallError::Refused(_)
                | CallError::Unavailable(_)
                | CallError::Full(_)
                | CallError::NotFound(_),
                _,
            ) => {
                self.state.mixer = None;
                self.mixer.forget_acks();
            }
        }
        self.mixer.retry_later(now);
        for (of, link) in &mut self.mixer.parts {
            if part.is_none_or(|part| part == of) {
                link.failing = true;
            }
        }
        let concerns = |origin: &Origin| part.is_none_or(|part| part.is_of(origin));
        self.mixer.all_full = matches!(error, CallError::Full(_));
        let refusal = match &error {
            CallError::Refused(reason) => Refusal::NodeRefused(reason.clone()),
            CallError::Full(_) | CallError::Unavailable(_) | CallError::NotFound(_) => self.no_mixer(),
        };
        self.refuse_analytics(part, &refusal);
        self.refuse_waiting(|origin| matches!(origin, Origin::View(_)) && concerns(origin));
        self.fail_updates(concerns);
    }

    /// A mixer that has something newer takes only what is newer still.
    fn revise(&mut self, part: &Part) {
        let revision = match part {
            Part::View(label) => self.view_mut(label).map(|view| &mut view.revision),
            Part::Analysis(id) => {
                self.state.transcoder_revision += 1;
                let newest = self.state.transcoder_revision;
                self.state.analytics.get_mut(id).map(|analysis| analysis.revision_before(newest))
            }
            Part::Transcoder(of) => {
                self.state.transcoder_revision += 1;
                let newest = self.state.transcoder_revision;
                let transcoder = self.state.transcoders.get_mut(of);
                transcoder.map(|transcoder| {
                    transcoder.revision = newest - 1;
                    &mut transcoder.revision
                })
            }
        };
        let Some(revision) = revision else { return };
        *revision += 1;
        let revision = *revision;
        if let Some(wanted) = self.mixer.parts.get_mut(part).and_then(|link| link.wanted.as_mut()) {
            wanted.revise(revision);
        }
    }

    /// Refuses subscriptions that wait for a mixed stream.
    pub(super) fn refuse_waiting(&mut self, of: impl Fn(&Origin) -> bool) {
        let waits = |s: &Subscription| {
            s.tracks.iter().any(|t| of(&t.from) && self.source(&s.owner, t.kind, &t.from).is_none())
        };
        let all = self.state.subscriptions.iter();
        let waiting: Vec<SubscriptionId> =
            all.filter(|(_, s)| s.phase == Phase::Placing && waits(s)).map(|(id, _)| id.clone()).collect();
        for id in waiting {
            self.fail_opening(&SessionKey::Subscription(id), self.no_mixer());
        }
    }

    /// Why what mixers make is not to be had.
    pub(super) fn no_mixer(&self) -> Refusal {
        if self.mixer.all_full { Refusal::NoCapacity("mixer") } else { Refusal::MixerUnavailable }
    }

    /// Whether there is no use in waiting for what a mixer makes of `origin`.
    pub(super) fn is_mixer_failing(&self, origin: &Origin) -> bool {
        Part::of(origin).and_then(|part| self.mixer.parts.get(&part)).is_some_and(|link| link.failing)
    }

    pub(super) fn mixer_timeout(&mut self, now: Instant) {
        if self.mixer.retry_at.is_some_and(|at| at <= now) {
            self.mixer.retry_at = None;
        }
        if self.mixer.repoint_at.is_some_and(|at| at <= now) {
            self.mixer.repoint_at = None;
            let all: Vec<SubscriptionId> = self.state.subscriptions.keys().cloned().collect();
            for id in all {
                self.repoint(&id);
            }
        }
    }

    /// The mixer is dead: another one is looked for at once.
    pub(super) fn mixer_lost(&mut self, worker: &WorkerId) {
        if self.state.mixer.as_ref().is_some_and(|node| node.worker == *worker) {
            self.state.mixer = None;
            self.mixer.forget_acks();
        }
        self.forget_outputs(|source| source.node.worker == *worker);
        self.analytics_lost(worker);
    }

    /// The mixer may have forgotten everything: it is told again.
    pub(super) fn mixer_resumed(&mut self, worker: &WorkerId) {
        if self.state.mixer.as_ref().is_some_and(|node| node.worker == *worker) {
            for link in self.mixer.parts.values_mut() {
                link.acked = 0;
            }
        }
    }

    /// Tells the mixer that the room is over.
    pub(super) fn leave_mixer(&mut self) {
        let parts = std::mem::take(&mut self.mixer.parts);
        let was_placed = parts.values().any(|link| link.wanted.is_some()) || self.state.mixer.is_some();
        if let Some(node) = self.state.mixer.take() {
            for part in parts.keys() {
                let request = self.remove_request(part);
                self.call(Callee::Mixer(node.clone()), request, Pending::Nothing);
            }
        }
        if was_placed {
            self.release(v1::Purpose::Mixer, self.id.to_string());
        }
    }
}
