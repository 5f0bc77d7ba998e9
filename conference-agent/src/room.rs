//! The core of a room: who is in it, what is published, subscribed and mixed. Synchronous and without clock, sockets or
//! global randomness: [`Input`]s and the time go in, [`Output`]s and the next deadline come out.

mod adoption;
mod analytics;
mod calls;
mod conditions;
mod controls;
mod data;
mod decisions;
mod describe;
mod egress;
mod encryption;
mod events;
mod feeds;
mod filters;
mod flow;
mod happenings;
mod ids;
mod ingest;
mod input;
mod judge;
mod layout;
mod making;
mod media;
mod mixer;
mod mixing;
mod moving;
mod output;
mod outputs;
mod participants;
mod permissions;
mod publications;
mod refusal;
mod regions;
mod restore;
mod retries;
mod returned;
mod sessions;
mod snapshot;
mod speakers;
mod state;
mod stats;
mod stream_info;
mod subscriptions;
mod tracked;
mod transcoded;
mod updates;
mod view_layers;
mod views;
mod wish;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{RoomId, SessionId, SubscriptionId, WorkerId},
    v1::{self, join_event::Event},
};
use kaigi_room_config::RoomConfig;

pub(crate) use conditions::{Streaming, StreamingFacts};
pub(crate) use egress::{Condition, EgressTarget, Segments};
pub(crate) use filters::Filter;
#[cfg(test)]
pub(crate) use happenings::StreamPart;
pub(crate) use happenings::{Happening, Leaving, SubscriptionFacts};
pub(crate) use ingest::{IngestSource, IngestWish, Listen};
pub(crate) use input::{
    AccessChange, AccessEvent, CallError, CallReply, Command, EgressEvent, EgressMedia, EgressWhat, Input,
    Join, LayoutAssignment, MixerChange, MixerEvent, Negotiated, PermissionChange, Publish, PublishTrack,
    PulledTrack, Receiver, RequestId, RequestKey, StartAnalytics, StartEgress, StartIngest, StreamOperation,
    Subscribe, SubscribeTrack, SubscriptionUpdate, TrackUpdate,
};
pub(crate) use judge::Loudness;
pub(crate) use layout::RequestedLayout;
pub use layout::built_in_layouts;
#[cfg(test)]
pub(crate) use media::{Feed, FeedOnWire};
pub(crate) use media::{Format, Kind, Kinds, Node, Source, VideoParameters, resolution_from_wire};
pub(crate) use output::{CallId, CallRequest, Callee, Note, Output, Reply};
pub(crate) use outputs::MadeOutputs;
pub(crate) use refusal::{Class, Refusal};
pub(crate) use snapshot::Snapshot;
pub(crate) use stats::{Countable, Counted, NodeStats, Question};
pub(crate) use tracked::{Changes, Tracked};
pub(crate) use views::ViewOutputs;
pub(crate) use wish::Wish;

use calls::Pending;
use conditions::Told;
use controls::Script;
use decisions::Decisions;
use egress::EgressLink;
use flow::FlowLink;
use ids::IdSource;
use mixer::MixerLink;
use moving::Moves;
use snapshot::Saved;
use speakers::{Selection, SpeakersLink};
use state::State;
use updates::{Lingering, Update};
use views::View;

/// What a room is started with beside its configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// This process, whom nodes send their events.
    pub(crate) agent: WorkerId,
    /// Of the lease on the room; nodes refuse older ones.
    pub(crate) epoch: u64,
    /// How long a room without participants is kept.
    pub(crate) idle: Duration,
    /// For the room's ids.
    pub(crate) seed: [u8; 32],
}

/// Why a room can't be started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoomError {
    /// The label or the room's id can't be part of a stream's id, or the label is there twice.
    #[error("view {0:?} can't be named")]
    View(String),
}

/// One room.
pub(crate) struct Room {
    id: RoomId,
    config: RoomConfig,
    settings: Settings,
    state: State,
    saved: Saved,
    ids: IdSource,
    outputs: VecDeque<Output>,
    ended: bool,
    next_call: u64,
    calls: BTreeMap<CallId, (Callee, Pending)>,
    /// Publish and subscribe requests not answered yet, by the session that they made.
    opening: BTreeMap<SessionId, RequestId>,
    /// Changes of streams that wait for a node.
    scripts: BTreeMap<RequestId, Script>,
    /// Updates of subscriptions that wait for a node.
    updates: BTreeMap<SubscriptionId, Update>,
    /// What subscriptions took before their last updates.
    lingering: BTreeMap<SubscriptionId, Lingering>,
    mixer: MixerLink,
    moves: Moves,
    flows: FlowLink,
    decisions: Decisions,
    egress: EgressLink,
    /// Who waits for analytics to begin, by their ids.
    analytics_requests: BTreeMap<String, RequestId>,
    told: Told,
    speakers: SpeakersLink,
    /// Something that the descriptions of views and transcoders are made of has changed.
    views_changed: bool,
    /// When the room ends if nobody joins.
    idle_until: Option<Instant>,
    /// The request that is being handled, by its requester's own name for it.
    asking: Option<RequestKey>,
    /// Access nodes that have to be told once more that the room is this agent's, and when.
    adopting: BTreeMap<WorkerId, Instant>,
}

impl Room {
    /// A room nobody is in yet.
    ///
    /// # Errors
    /// If a view can't be named.
    pub(crate) fn new(
        id: RoomId,
        config: RoomConfig,
        settings: Settings,
        now: Instant,
    ) -> Result<Self, RoomError> {
        let mut views: Vec<View> = Vec::new();
        let mut notes = VecDeque::new();
        for spec in &config.views {
            let (view, unreadable) =
                View::new(&id, spec).ok_or_else(|| RoomError::View(spec.label.clone()))?;
            if views.iter().any(|other| other.label == view.label) {
                return Err(RoomError::View(spec.label.clone()));
            }
            if unreadable > 0 {
                let note = Note::UnreadableTemplates { view: view.label.clone(), count: unreadable };
                notes.push_back(Output::Log(note));
            }
            views.push(view);
        }
        let mut room = Self {
            ids: IdSource::new(settings.seed),
            idle_until: Some(now + settings.idle),
            mixer: MixerLink::new(&config),
            moves: Moves::default(),
            flows: FlowLink::default(),
            decisions: Decisions::new(now),
            egress: EgressLink::default(),
            analytics_requests: BTreeMap::new(),
            told: Told::default(),
            speakers: SpeakersLink::default(),
            saved: Saved::default(),
            asking: None,
            adopting: BTreeMap::new(),
            state: State { views, selection: Selection::new(&config), ..State::default() },
            id,
            config,
            settings,
            outputs: notes,
            ended: false,
            next_call: 0,
            calls: BTreeMap::new(),
            opening: BTreeMap::new(),
            scripts: BTreeMap::new(),
            updates: BTreeMap::new(),
            lingering: BTreeMap::new(),
            views_changed: true,
        };
        room.refresh_views();
        room.advance_mixer();
        Ok(room)
    }

    /// Takes an input. What is to be done then comes out of [`Self::poll_output`].
    pub(crate) fn handle(&mut self, input: Input, now: Instant) {
        if self.ended {
            if let Input::Request { request, .. } = input {
                self.refuse(request, Refusal::RoomEnds);
            }
            return;
        }
        self.decisions.set_time(now);
        match input {
            Input::Request { request, key, command } => self.command(request, key, command, now),
            Input::CallDone { call, result } => self.call_done(call, result, now),
            Input::Access { node, event } => self.access_event(&node, event),
            Input::Speakers { node, heard } => self.speakers_heard(&node, heard, now),
            Input::Mixer { node, event } => self.mixer_event(&node, event),
            Input::Streaming { node, event } => self.streaming_event(&node, event),
            Input::NodeLost(worker) => self.node_lost(&worker, now),
            Input::NodeResumed(worker) => {
                self.access_resumed(&worker);
                self.mixer_resumed(&worker);
                self.streaming_resumed(&worker);
            }
            Input::NodeDrains(worker) => self.node_drains(&worker),
            Input::MixersChanged => {
                self.mixer.retry_now();
                self.moves.retry_now();
            }
            Input::Gone(participant) => self.remove_participant(&participant, Leaving::Lost, now),
            Input::Abandoned { participant, session } => self.abandon(&participant, &session),
        }
        self.settle(now);
    }

    /// Lets time pass. Call it at [`Self::next_deadline`].
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        self.decisions.set_time(now);
        if self.idle_until.is_some_and(|deadline| deadline <= now) {
            if !self.is_streaming() {
                self.destroy(None);
                return;
            }
            self.idle_until = Some(now + self.settings.idle);
        }
        self.mixer_timeout(now);
        self.moves_timeout(now);
        self.flow_timeout(now);
        self.egress_timeout(now);
        self.linger_timeout(now);
        self.speakers_timeout(now);
        self.adoption_timeout(now);
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let links = self.mixer.next_deadline().into_iter().chain(self.flows.next_deadline());
        let links = links.chain(self.egress.next_deadline()).chain(self.speakers.next_deadline());
        let links = links.chain(self.moves.next_deadline());
        let links = links.chain(self.linger_deadline()).chain(self.adopting.values().min().copied());
        self.idle_until.into_iter().chain(links).min()
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The service that it belongs to, and its name there.
    pub(crate) fn owner(&self) -> (&str, &str) {
        (&self.config.service, &self.config.name)
    }

    /// Participants, streams and subscriptions there are.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.state.participants.len(), self.state.publications.len(), self.state.subscriptions.len())
    }

    /// Whether something goes on that needs nobody in the room.
    fn is_streaming(&self) -> bool {
        !self.state.ingests.is_empty() || self.has_running_egress() || !self.state.analytics.is_empty()
    }

    /// Ends the room: everybody is dropped (if there is a reason to tell), nodes forget it.
    pub(crate) fn destroy(&mut self, reason: Option<&str>) {
        if self.ended {
            return;
        }
        for participant in self.participants_by_arrival() {
            if let Some(reason) = reason {
                self.notify(&participant, Event::Dropped(v1::Dropped { reason: reason.to_owned() }));
            }
            self.output(Output::Close { participant: participant.clone() });
            self.release(v1::Purpose::Access, participant.to_string());
        }
        self.refuse_all_waiting(&Refusal::RoomEnds);
        for (id, transport) in self.state.transports.take_all() {
            if let Some(node) = transport.node {
                self.close_transport(node, &id);
            }
        }
        self.leave_mixer();
        self.leave_streaming();
        self.end_all_left();
        self.all_gone();
        self.ended = true;
        self.output(Output::Ended);
    }

    fn command(&mut self, request: RequestId, key: Option<RequestKey>, command: Command, now: Instant) {
        if let Some(key) = &key
            && self.is_done_before(request, key, &command)
        {
            return;
        }
        let may_be_remembered = command.is_done_at_once();
        self.asking.clone_from(&key);
        let result = self.begin(request, command, now);
        self.asking = None;
        if let (Some(key), Some(Ok(Some(Reply::Done))), true) = (key, &result, may_be_remembered) {
            self.remember_done(key);
        }
        match result {
            Some(Ok(Some(reply))) => self.reply(request, Ok(reply)),
            Some(Err(refusal)) => self.refuse(request, refusal),
            // Replied to when a node has answered, or already.
            Some(Ok(None)) | None => {}
        }
    }

    /// `None` if it is replied to already.
    fn begin(
        &mut self,
        request: RequestId,
        command: Command,
        now: Instant,
    ) -> Option<Result<Option<Reply>, Refusal>> {
        Some(match command {
            Command::Join(join) => {
                self.join(request, join);
                return None;
            }
            Command::Publish(publish) => self.publish(request, publish),
            Command::Subscribe(subscribe) => self.subscribe(request, subscribe),
            Command::Signal { participant, transport, signal } => {
                self.signal(request, &participant, &transport, signal)
            }
            Command::ControlStream { participant, stream, operations } => {
                self.control_stream(request, &participant, stream, operations)
            }
            Command::GetRegion { participant, stream, view } => {
                self.get_region(&participant, &stream, &view).map(Some)
            }
            Command::UpdateStream { stream, operations } => self.update_stream(request, stream, operations),
            Command::ControlSubscription { participant, subscription, kinds, active } => {
                self.control_subscription(request, &participant, &subscription, kinds, active)
            }
            Command::UpdateSubscription { by, subscription, update } => {
                self.update_subscription(request, by.as_ref(), &subscription, update)
            }
            Command::QueryBandwidth { participant, subscription } => {
                self.query_bandwidth(request, &participant, &subscription)
            }
            Command::Leave { participant } => self.leave(&participant, now).map(Some),
            Command::DropParticipant { participant } => self.drop_participant(&participant, now).map(Some),
            Command::UpdateParticipant { participant, change } => {
                self.update_participant(&participant, change).map(Some)
            }
            Command::Unpublish { participant, stream } => self.unpublish(&participant, &stream).map(Some),
            Command::Unsubscribe { participant, subscription } => {
                self.unsubscribe(&participant, &subscription).map(Some)
            }
            Command::DeleteStream { stream } => self.delete_stream(&stream).map(Some),
            Command::StartEgress(start) => self.start_egress(request, start),
            Command::UpdateEgress { egress, update, active } => {
                self.update_egress(&egress, &update, active).map(Some)
            }
            Command::StopEgress { egress } => self.stop_egress(request, &egress),
            Command::ListEgresses => Ok(Some(Reply::Egresses(self.describe_egresses()))),
            Command::StartAnalytics(start) => self.start_analytics(request, start),
            Command::StopAnalytics { analytics } => self.stop_analytics(&analytics).map(Some),
            Command::ListAnalytics => Ok(Some(Reply::AllAnalytics(self.describe_analytics()))),
            Command::StartIngest(start) => self.start_ingest(request, start),
            Command::ListIngests => Ok(Some(Reply::Ingests(self.describe_ingests()))),
            Command::Text { from, to, message } => self.text(&from, to, &message).map(Some),
            Command::ListParticipants => Ok(Some(Reply::Participants(self.describe_participants()))),
            Command::Stats { of, wall_ms } => self.plan_stats(&of, wall_ms).map(Some),
            Command::ListStreams => Ok(Some(Reply::Streams(self.describe_streams()))),
            Command::Destroy { reason } => {
                self.reply(request, Ok(Reply::Done));
                self.destroy(Some(&reason));
                return None;
            }
        })
    }

    /// Brings the descriptions of views and transcoders in line with what an input changed, and fills slots that are free.
    fn settle(&mut self, now: Instant) {
        if !self.ended {
            self.advance_speakers(now);
            self.refresh_views();
            self.advance_mixer();
            self.advance_egresses();
            self.advance_moves(now);
            self.tell_conditions();
        }
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn reply(&mut self, request: RequestId, result: Result<Reply, Refusal>) {
        self.output(Output::Reply { request, result });
    }

    fn refuse(&mut self, request: RequestId, refusal: Refusal) {
        self.reply(request, Err(refusal));
    }

    fn notify(&mut self, to: &kaigi_proto::ids::ParticipantId, event: Event) {
        self.output(Output::Notify { to: to.clone(), event });
    }

    /// Replies to everything that waits.
    fn refuse_all_waiting(&mut self, refusal: &Refusal) {
        let opening = std::mem::take(&mut self.opening).into_values();
        let scripts = std::mem::take(&mut self.scripts).into_keys();
        let calls = std::mem::take(&mut self.calls).into_values().filter_map(|(_, p)| p.request());
        let updates = self.take_updates();
        let egresses = self.egress.take_requests();
        let analytics = std::mem::take(&mut self.analytics_requests).into_values();
        let waiting: Vec<RequestId> =
            opening.chain(scripts).chain(calls).chain(updates).chain(egresses).chain(analytics).collect();
        for request in waiting {
            self.refuse(request, refusal.clone());
        }
    }
}
