//! The mixer of a room: where it is, and what it was told of the views. One description of a view is under way at a time; what
//! changes meanwhile goes with the next.

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
    calls::Pending,
    input::{CallError, CallReply},
    media::Node,
    output::{CallRequest, Callee, Note, Output},
    refusal::Refusal,
    sessions::SessionKey,
    state::{Origin, Phase, Subscription},
};

/// First and longest pause between attempts to find a mixer. A dead mixer's lease ends after about three seconds; until then
/// the cluster may name it again.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What is under way between a room and its mixer; rebuilt from the state when lost.
#[derive(Debug)]
pub(super) struct MixerLink {
    views: BTreeMap<String, ViewLink>,
    /// Whether a mixer was asked for.
    scheduling: bool,
    pause: Duration,
    retry_at: Option<Instant>,
    /// When subscriptions are pointed again at sources that they could not be pointed at.
    repoint_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct ViewLink {
    wanted: Option<v1::ViewDescription>,
    in_flight: bool,
    /// The revision that the mixer has; 0 = none.
    acked: u64,
    /// Whether the last attempt failed.
    failing: bool,
}

impl MixerLink {
    pub(super) fn new(config: &RoomConfig) -> Self {
        Self {
            views: config.views.iter().map(|view| (view.label.clone(), ViewLink::default())).collect(),
            scheduling: false,
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

    /// What was given up for a while is tried at once.
    pub(super) fn retry_now(&mut self) {
        self.retry_at = None;
        self.pause = RETRY.0;
    }

    fn forget_acks(&mut self) {
        for link in self.views.values_mut() {
            link.acked = 0;
            link.in_flight = false;
        }
    }
}

impl Room {
    /// Describes the views anew if something they are made of has changed.
    pub(super) fn refresh_views(&mut self) {
        if !std::mem::take(&mut self.views_changed) {
            return;
        }
        for index in 0..self.state.views.len() {
            let view = &self.state.views[index];
            let Some(mut description) = self.describe_view(view) else { continue };
            let Some(link) = self.mixer.views.get_mut(&view.label) else { continue };
            if link.wanted.as_ref() != Some(&description) {
                let view = &mut self.state.views[index];
                view.revision += 1;
                description.revision = view.revision;
                link.wanted = Some(description);
            }
        }
    }

    /// Finds a mixer if there is none, and tells it of views that it does not have as they are to be.
    pub(super) fn advance_mixer(&mut self) {
        if self.state.views.is_empty() || self.mixer.retry_at.is_some() || self.mixer.scheduling {
            return;
        }
        let Some(node) = self.state.mixer.clone() else {
            self.mixer.scheduling = true;
            let request = v1::ScheduleRequest {
                purpose: v1::Purpose::Mixer.into(),
                task: self.id.to_string(),
                ..v1::ScheduleRequest::default()
            };
            return self.call(Callee::Cluster, CallRequest::Schedule(request), Pending::PlaceMixer);
        };
        let mut due = Vec::new();
        for (label, link) in &mut self.mixer.views {
            if let Some(wanted) = &link.wanted
                && wanted.revision > link.acked
                && !link.in_flight
            {
                link.in_flight = true;
                due.push((label.clone(), wanted.clone()));
            }
        }
        for (label, description) in due {
            let mixer = node.worker.clone();
            let pending = Pending::SetView { label, revision: description.revision, mixer };
            self.call(Callee::Mixer(node.clone()), CallRequest::SetView(Box::new(description)), pending);
        }
    }

    pub(super) fn mixer_placed(&mut self, result: Result<Node, CallError>, now: Instant) {
        self.mixer.scheduling = false;
        match result {
            Ok(node) => {
                let elsewhere = |old: &super::media::Source| old.node.worker != node.worker;
                for view in &mut self.state.views {
                    let outputs = view.outputs.as_ref();
                    if outputs.is_some_and(|o| o.audio.iter().chain(&o.video).any(elsewhere)) {
                        view.outputs = None;
                    }
                }
                self.state.mixer = Some(node);
            }
            Err(error) => self.mixer_failed(None, error, now),
        }
    }

    pub(super) fn view_set(
        &mut self,
        label: &str,
        revision: u64,
        mixer: &WorkerId,
        result: Result<CallReply, CallError>,
        now: Instant,
    ) {
        if self.state.mixer.as_ref().is_none_or(|node| node.worker != *mixer) {
            return;
        }
        let Some(link) = self.mixer.views.get_mut(label) else { return };
        link.in_flight = false;
        let outputs = match result {
            Ok(CallReply::View(outputs)) => outputs,
            Ok(CallReply::Done | CallReply::Scheduled(_)) => {
                let error = CallError::Refused("unexpected reply".into());
                return self.mixer_failed(Some(label), error, now);
            }
            Err(error) => return self.mixer_failed(Some(label), error, now),
        };
        link.acked = link.acked.max(revision);
        let latest = link.wanted.as_ref().is_none_or(|wanted| wanted.revision <= revision);
        link.failing = false;
        self.mixer.pause = RETRY.0;
        if let Some(view) = self.view_mut(label) {
            view.outputs = Some(*outputs);
        }
        self.resume_subscriptions(label);
        if latest {
            // What the mixer did not make of this description it will not make later.
            self.refuse_waiting(|origin| origin.is_view(label));
        }
    }

    /// Subscriptions of a view that waited for it are opened, others are pointed at where it is now.
    fn resume_subscriptions(&mut self, label: &str) {
        let of_view =
            self.state.subscriptions.iter().filter(|(_, s)| s.tracks.iter().any(|t| t.from.is_view(label)));
        let all: Vec<(SubscriptionId, Phase)> =
            of_view.map(|(id, s)| (id.clone(), s.phase.clone())).collect();
        for (id, phase) in all {
            match phase {
                Phase::Placing => self.open_subscription(&id),
                Phase::Opening | Phase::Connecting | Phase::Established => self.repoint(&id),
            }
        }
    }

    /// Those who wait for a view are refused, and it is tried again later, on whichever mixer there is then.
    fn mixer_failed(&mut self, label: Option<&str>, error: CallError, now: Instant) {
        let note = Note::MixerFailed { view: label.map(str::to_owned), reason: error.to_string() };
        self.output(Output::Log(note));
        match (&error, label) {
            (CallError::Refused(_), Some(label)) => {
                // A mixer that has something newer takes only what is newer still.
                if let Some(view) = self.state.views.iter_mut().find(|view| view.label == label) {
                    view.revision += 1;
                    if let Some(wanted) =
                        self.mixer.views.get_mut(label).and_then(|link| link.wanted.as_mut())
                    {
                        wanted.revision = view.revision;
                    }
                }
            }
            (CallError::Refused(_) | CallError::Unavailable(_) | CallError::NotFound(_), _) => {
                self.state.mixer = None;
                self.mixer.forget_acks();
            }
        }
        self.mixer.retry_later(now);
        for (of, link) in &mut self.mixer.views {
            if label.is_none_or(|label| label == of) {
                link.failing = true;
            }
        }
        let failed = label.map(str::to_owned);
        self.refuse_waiting(|origin| match origin {
            Origin::Track { .. } => false,
            Origin::View(view) => failed.as_ref().is_none_or(|failed| failed == view),
        });
    }

    /// Refuses subscriptions that wait for a mixed stream.
    fn refuse_waiting(&mut self, of: impl Fn(&Origin) -> bool) {
        let waits = |s: &Subscription| {
            s.tracks.iter().any(|t| of(&t.from) && self.source(&s.owner, t.kind, &t.from).is_none())
        };
        let all = self.state.subscriptions.iter();
        let waiting: Vec<SubscriptionId> =
            all.filter(|(_, s)| s.phase == Phase::Placing && waits(s)).map(|(id, _)| id.clone()).collect();
        for id in waiting {
            self.fail_opening(&SessionKey::Subscription(id), Refusal::MixerUnavailable);
        }
    }

    /// Whether there is no use in waiting for a mixed stream.
    pub(super) fn is_mixer_failing(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Track { .. } => false,
            Origin::View(label) => self.mixer.views.get(label).is_some_and(|link| link.failing),
        }
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
        for view in &mut self.state.views {
            let lost = |source: &super::media::Source| source.node.worker == *worker;
            if view.outputs.as_ref().is_some_and(|o| o.audio.iter().chain(&o.video).any(lost)) {
                view.outputs = None;
            }
        }
    }

    /// The mixer may have forgotten the views: it is told again.
    pub(super) fn mixer_resumed(&mut self, worker: &WorkerId) {
        if self.state.mixer.as_ref().is_some_and(|node| node.worker == *worker) {
            for link in self.mixer.views.values_mut() {
                link.acked = 0;
            }
        }
    }

    /// Tells the mixer that the room is over.
    pub(super) fn remove_views(&mut self) {
        let labels: Vec<String> = self.state.views.iter().map(|view| view.label.clone()).collect();
        if let Some(node) = self.state.mixer.take() {
            for label in labels {
                let (room_id, epoch) = (self.id.to_string(), self.settings.epoch);
                let request = v1::RemoveViewRequest { room_id, label, epoch };
                self.call(Callee::Mixer(node.clone()), CallRequest::RemoveView(request), Pending::Nothing);
            }
        }
        if !self.state.views.is_empty() {
            self.release(v1::Purpose::Mixer, self.id.to_string());
        }
    }
}
