//! What nodes tell.

use std::{collections::BTreeMap, time::Instant};

use kaigi_proto::{
    ids::{ParticipantId, TransportId, WorkerId},
    v1::{self, progress::Progress, stream_event::Change},
};

use super::{
    Room,
    input::{AccessChange, AccessEvent, MixerChange, MixerEvent},
    output::{Note, Output},
    sessions::SessionKey,
    state::{Placement, Transport},
};

/// What clients are told when the node that they are connected to dies (OWT's text).
pub(super) const NODE_LOST: &str = "Node lost";

impl Room {
    /// Events of transports that are gone, or that another node has, are old news.
    pub(super) fn access_event(&mut self, worker: &WorkerId, event: AccessEvent) {
        let id = event.transport;
        let Some(transport) = self.state.transports.get_mut(&id) else { return };
        if transport.node.as_ref().is_none_or(|node| node.worker != *worker) {
            return;
        }
        let owner = transport.owner.clone();
        match event.change {
            AccessChange::Answer(sdp) => {
                // Told again to who adopts a transport; SDKs take a second one for a fault.
                let is_news = event.answer == 0 || event.answer > transport.answers;
                transport.answers = transport.answers.max(event.answer);
                if is_news {
                    self.progress(&owner, &id, Progress::Answer(sdp));
                }
            }
            AccessChange::Ready => {
                if !std::mem::replace(&mut transport.ready, true) {
                    self.progress(&owner, &id, Progress::TransportReady(v1::TransportReady {}));
                }
            }
            AccessChange::Established { session, tracks } => {
                match self.session(&session).filter(|key| self.is_on(key, &id)) {
                    Some(SessionKey::Publication(stream)) => self.publication_established(&stream, tracks),
                    Some(SessionKey::Subscription(id)) => self.subscription_established(&id, tracks),
                    None => {}
                }
            }
            AccessChange::SessionFailed { session, reason } => {
                if let Some(key) = self.session(&session).filter(|key| self.is_on(key, &id)) {
                    self.end_session(&key, Some(&reason), false);
                }
            }
            AccessChange::Failed { reason } => {
                let node = self.state.transports.remove(&id).and_then(|transport| transport.node);
                for session in self.sessions_where(|_, transport| *transport == id) {
                    self.end_session(&session, Some(&reason), false);
                }
                // A session that was on its way to the node when the transport failed would make it anew.
                if let Some(node) = node {
                    self.close_transport(node, &id);
                }
                self.progress(&owner, &id, Progress::TransportError(reason));
            }
            AccessChange::Resolution { track, resolution, layers, temporal } => {
                self.track_resolution(&id, &track, resolution, layers, temporal);
            }
            AccessChange::WantedLayers { session, layers } => {
                match self.session(&session).filter(|key| self.is_on(key, &id)) {
                    Some(SessionKey::Publication(stream)) => self.tell_wanted_layers(&stream, &layers),
                    Some(SessionKey::Subscription(_)) | None => {}
                }
            }
        }
    }

    fn is_on(&self, session: &SessionKey, transport: &TransportId) -> bool {
        match session {
            SessionKey::Publication(id) => {
                self.state.publications.get(id).is_some_and(|p| p.transport() == Some(transport))
            }
            SessionKey::Subscription(id) => {
                self.state.subscriptions.get(id).is_some_and(|s| s.transport == *transport)
            }
        }
    }

    pub(super) fn mixer_event(&mut self, worker: &WorkerId, event: MixerEvent) {
        if self.state.mixer.as_ref().is_none_or(|node| node.worker != *worker) {
            return;
        }
        match event.change {
            MixerChange::ActiveInput(input) => self.set_active_input(&event.label, &input),
            MixerChange::InputFailed { stream, reason } => {
                let note = Note::InputFailed { view: event.label, stream: stream.to_string(), reason };
                self.output(Output::Log(note));
            }
            MixerChange::TranscoderFailed { transcoder, reason } => {
                self.analysis_event(&transcoder, &reason);
                if !reason.is_empty() {
                    self.output(Output::Log(Note::TranscoderFailed { transcoder, reason }));
                }
            }
        }
    }

    /// A dead access node takes its transports with it; a dead mixer is replaced.
    pub(super) fn node_lost(&mut self, worker: &WorkerId, now: Instant) {
        let on_it = |t: &Transport| t.node.as_ref().is_some_and(|node| node.worker == *worker);
        let transports = self.state.transports.iter().filter(|(_, t)| on_it(t));
        let lost: BTreeMap<TransportId, ParticipantId> =
            transports.map(|(id, transport)| (id.clone(), transport.owner.clone())).collect();
        self.state.transports.retain(|id, _| !lost.contains_key(id));
        self.state.visited.retain(|node| node.worker != *worker);
        for participant in self.state.participants.values_mut() {
            if matches!(&participant.access, Placement::At(node) if node.worker == *worker) {
                participant.access = Placement::Nowhere;
            }
        }
        for session in self.sessions_where(|_, transport| lost.contains_key(transport)) {
            self.end_session(&session, Some(NODE_LOST), false);
        }
        for (id, owner) in &lost {
            self.progress(owner, id, Progress::TransportError(NODE_LOST.to_owned()));
        }
        self.fail_calls_to(worker, now);
        self.mixer_lost(worker);
        self.streaming_lost(worker);
        self.moving_node_lost(worker);
    }

    /// The loudest input of a view.
    fn set_active_input(&mut self, label: &str, input: &kaigi_proto::ids::StreamId) {
        let Some(spec) = self.config.views.iter().find(|view| view.label == label) else { return };
        let to_primary = spec.video.as_ref().is_some_and(|video| video.keep_active_input_primary);
        let told = spec.audio.vad;
        let Some(view) = self.view_mut(label) else { return };
        if !view.inputs.contains(input) || view.active_input.as_ref() == Some(input) {
            return;
        }
        view.active_input = Some(input.clone());
        let stream = view.stream.clone();
        let moved = to_primary && view.picture.as_mut().is_some_and(|picture| picture.set_primary(input));
        if told {
            self.tell_stream(&stream, Change::ActiveInput(input.to_string()));
        }
        if moved {
            self.tell_layout(label);
        }
    }
}
