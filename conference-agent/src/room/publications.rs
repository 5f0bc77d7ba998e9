//! Forward streams: from the request to publish to their end.

use kaigi_proto::{
    ids::{ParticipantId, StreamId, TrackId, TransportId},
    v1::{self, join_event::Event, progress::Progress, stream_event::Change},
};
use kaigi_room_config::Resolution;

use super::{
    Room,
    calls::{Pending, node_refusal},
    input::{CallError, Negotiated, Publish, RequestId},
    media::{Format, Kind, Kinds},
    output::{CallRequest, Callee, Note, Output, Reply},
    refusal::Refusal,
    sessions::{NewSession, SessionKey},
    state::{Carrier, Phase, Placement, Publication, RequestedTrack, Track},
};

impl Room {
    pub(super) fn publish(&mut self, request: RequestId, publish: Publish) -> Result<Option<Reply>, Refusal> {
        let participant = self.participant(&publish.participant)?;
        let permitted = participant.publish;
        if publish.tracks.iter().any(|track| !permitted.has(track.kind)) || publish.data && !permitted.any() {
            return Err(Refusal::Unauthorized);
        }
        self.has_room_for_input()?;
        let owner = publish.participant;
        let mids = publish.tracks.iter().map(|track| track.mid.as_str()).collect();
        let new = NewSession {
            owner: &owner,
            transport: publish.transport.as_ref(),
            own_transport: publish.own_transport,
            mids,
        };
        let (session, transport) = self.admit_session(&new)?;
        let stream = StreamId::new(&session).expect("hex characters are allowed");
        let requested = publish.tracks.into_iter().map(|track| RequestedTrack {
            kind: track.kind,
            mid: track.mid,
            source: track.source,
        });
        let publication = Publication {
            arrival: self.state.arrivals,
            owner: owner.clone(),
            carrier: Carrier::Transport(transport),
            phase: Phase::Placing,
            requested: requested.collect(),
            tracks: Vec::new(),
            data: publish.data,
            any_label: publish.any_label,
            withheld: Kinds::default(),
            attributes: publish.attributes,
            early: None,
            asked: self.asking.clone(),
            wanted: Vec::new(),
        };
        self.state.arrivals += 1;
        self.state.publications.insert(stream, publication);
        self.opening.insert(session.try_into().expect("hex characters are allowed"), request);
        self.advance_sessions(&owner);
        Ok(None)
    }

    /// Whether one more may be published, or pulled.
    pub(super) fn has_room_for_input(&self) -> Result<(), Refusal> {
        let coming =
            self.state.ingests.keys().filter(|id| !self.state.publications.contains_key(*id)).count();
        let limit = usize::try_from(self.config.input_limit).ok();
        let is_made = |p: &&Publication| matches!(p.carrier, Carrier::Analysis { .. });
        let made = self.state.publications.values().filter(is_made).count();
        if limit.is_some_and(|limit| self.state.publications.len() - made + coming >= limit) {
            return Err(Refusal::TooManyInputs);
        }
        Ok(())
    }

    pub(super) fn open_publication(&mut self, id: &StreamId) {
        let selection = self.selection_to_wire();
        let Some(publication) = self.state.publications.get_mut(id) else { return };
        let Some(transport) = publication.transport().cloned() else { return };
        let Some(node) = self.state.transports.get(&transport).and_then(|t| t.node.clone()) else { return };
        publication.phase = Phase::Opening;
        let media_in = &self.config.media_in;
        let tracks = publication.requested.iter().map(|track| v1::PublicationTrack {
            track_id: format!("{transport}-{}", track.mid),
            kind: track.kind.to_wire(),
            mid: track.mid.clone(),
            accepted_formats: match track.kind {
                Kind::Audio => media_in.audio.iter().map(|f| Format::from(f).to_wire()).collect(),
                Kind::Video => media_in.video.iter().map(|f| Format::from(f).to_wire()).collect(),
            },
        });
        let call = v1::OpenPublicationRequest {
            agent_id: self.settings.agent.to_string(),
            room_id: self.id.to_string(),
            epoch: self.settings.epoch,
            participant_id: publication.owner.to_string(),
            transport_id: transport.to_string(),
            session_id: id.to_string(),
            tracks: tracks.collect(),
            data: publication.data,
            selection,
            any_label: publication.any_label,
        };
        self.visit(&node);
        let pending = Pending::OpenPublication(id.clone());
        self.call(Callee::Access(node), CallRequest::OpenPublication(call), pending);
    }

    pub(super) fn publication_opened(&mut self, id: &StreamId, result: Result<(), CallError>) {
        let Some(publication) = self.state.publications.get_mut(id) else { return };
        if publication.phase != Phase::Opening {
            return;
        }
        let Some(transport) = publication.transport().cloned() else { return };
        match result {
            Ok(()) => {
                publication.phase = Phase::Connecting;
                let early = publication.early.take();
                self.acknowledge(id.as_str(), &transport);
                if let Some(tracks) = early {
                    self.publication_established(id, tracks);
                }
            }
            Err(error) => {
                let owner = publication.owner.clone();
                self.unplace_after(&owner, &transport, &error);
                let session = SessionKey::Publication(id.clone());
                self.fail_opening(&session, node_refusal(error, &transport));
            }
        }
    }

    /// A node that could not be reached is asked for anew with the participant's next transport.
    pub(super) fn unplace_after(
        &mut self,
        owner: &ParticipantId,
        transport: &TransportId,
        error: &CallError,
    ) {
        let unreached = matches!(error, CallError::Unavailable(_) | CallError::Full(_));
        let node = self.node_of(transport);
        let others = self.state.transports.iter().filter(|(id, t)| t.owner == *owner && *id != transport);
        let keeps = others.filter(|(_, t)| t.node == node).count() > 0;
        if unreached
            && !keeps
            && let Some(participant) = self.state.participants.get_mut(owner)
        {
            participant.access = Placement::Nowhere;
        }
    }

    /// The publication's media flows: it becomes a stream of the room, then the publisher is told.
    pub(super) fn publication_established(&mut self, id: &StreamId, negotiated: Vec<Negotiated>) {
        let Some(publication) = self.state.publications.get_mut(id) else { return };
        match publication.phase {
            Phase::Placing | Phase::Established => return,
            Phase::Opening => {
                publication.early = Some(negotiated);
                return;
            }
            Phase::Connecting => {}
        }
        let tracks = match self.negotiated_tracks(id, negotiated) {
            Ok(tracks) => tracks,
            Err(reason) => return self.end_session(&SessionKey::Publication(id.clone()), Some(reason), true),
        };
        self.established(id, tracks);
    }

    /// It is a stream of the room from now on.
    pub(super) fn established(&mut self, id: &StreamId, tracks: Vec<Track>) {
        let Some(publication) = self.state.publications.get_mut(id) else { return };
        publication.tracks = tracks;
        publication.phase = Phase::Established;
        // What is made of a mix is not to be mixed into it by itself.
        let is_analysis = matches!(publication.carrier, Carrier::Analysis { .. });
        let mixable = !publication.is_data_only() && !publication.is_encrypted() && !is_analysis;
        let (owner, transport) = (publication.owner.clone(), publication.transport().cloned());
        self.stream_has_come(id);
        Kind::ALL.into_iter().for_each(|kind| self.order_flow(&SessionKey::Publication(id.clone()), kind));
        let changed = if self.config.auto_mix && mixable { self.mix_into_all(id) } else { Vec::new() };
        if let Some(stream) = self.describe_publication(id) {
            self.tell_stream(id, Change::Added(stream));
        }
        if let Some(transport) = transport {
            self.progress(&owner, &transport, Progress::SessionReady(id.to_string()));
        }
        for view in changed {
            self.tell_layout(&view);
        }
    }

    /// The tracks that the access node negotiated, or why they make no stream.
    fn negotiated_tracks(
        &self,
        id: &StreamId,
        negotiated: Vec<Negotiated>,
    ) -> Result<Vec<Track>, &'static str> {
        let Some(publication) = self.state.publications.get(id) else { return Ok(Vec::new()) };
        let mut tracks: Vec<Track> = Vec::new();
        for track in negotiated {
            let asked = publication.requested.iter().find(|r| r.mid == track.mid && r.kind == track.kind);
            let Some(asked) = asked else { continue };
            let within = |accepted: Format| track.format.is_within(&accepted);
            match track.kind {
                Kind::Audio if !self.config.media_in.audio.iter().any(|f| within(f.into())) => {
                    return Err("Audio format unacceptable");
                }
                Kind::Video if !self.config.media_in.video.iter().any(|f| within(f.into())) => {
                    return Err("Video format unacceptable");
                }
                Kind::Audio | Kind::Video => {}
            }
            let Some(id) = track.track else { continue };
            if tracks.iter().any(|other| other.id == id) || self.publication_of(&id).is_some() {
                continue;
            }
            tracks.push(Track {
                id,
                kind: track.kind,
                mid: track.mid,
                source: asked.source.clone(),
                format: track.format,
                resolution: None,
                active: !publication.withheld.has(track.kind),
                layers: Vec::new(),
                temporal: 0,
            });
        }
        if tracks.is_empty() && !publication.data { Err("No valid tracks in stream") } else { Ok(tracks) }
    }

    /// The stream that has a track.
    pub(super) fn publication_of(&self, track: &TrackId) -> Option<(&StreamId, &Track)> {
        self.state
            .publications
            .iter()
            .find_map(|(id, p)| p.tracks.iter().find(|t| t.id == *track).map(|track| (id, track)))
    }

    /// The publisher learns which layers somebody wants, so that it need not send the others.
    pub(super) fn tell_wanted_layers(&mut self, stream: &StreamId, layers: &[(TrackId, bool)]) {
        let Some(publication) = self.state.publications.get_mut(stream) else { return };
        if publication.wanted == layers {
            return;
        }
        let told_nothing = publication.wanted.is_empty() && layers.iter().all(|(_, wanted)| *wanted);
        layers.clone_into(&mut publication.wanted);
        if told_nothing {
            return;
        }
        let wanted = |track: &Track| {
            let (_, wanted) = layers.iter().find(|(id, _)| *id == track.id)?;
            (!track.rid().is_empty())
                .then(|| v1::StreamLayer { rid: track.rid().to_owned(), wanted: *wanted })
        };
        let layers = publication.tracks.iter().filter_map(wanted).collect();
        let owner = publication.owner.clone();
        self.notify(&owner, Event::Layers(v1::StreamLayers { stream_id: stream.to_string(), layers }));
    }

    pub(super) fn track_resolution(
        &mut self,
        transport: &TransportId,
        id: &TrackId,
        resolution: Resolution,
        layers: Vec<Resolution>,
        temporal: u32,
    ) {
        let has_it = |p: &Publication| {
            p.transport() == Some(transport) && p.tracks.iter().any(|track| track.id == *id)
        };
        let stream =
            self.state.publications.iter().find(|(_, p)| has_it(p)).map(|(stream, _)| stream.clone());
        let Some(stream) = stream else { return };
        let Some(publication) = self.state.publications.get_mut(&stream) else { return };
        let Some(track) = publication.tracks.iter_mut().find(|track| track.id == *id) else { return };
        let is_news = track.resolution != Some(resolution);
        let is_other = (&track.layers, track.temporal) != (&layers, temporal);
        (track.resolution, track.layers, track.temporal) = (Some(resolution), layers, temporal);
        let layered = !track.rid().is_empty();
        if is_news {
            // Mixers choose among layers by their sizes.
            self.views_changed |= layered || self.is_analysed(&stream);
            self.tell_replaced(&stream);
        }
        if is_other {
            // What of it was made by a mixer may be had by choosing now, or the other way round.
            self.views_changed = true;
            self.repoint_all_of(&stream);
        }
    }

    pub(super) fn unpublish(
        &mut self,
        participant: &ParticipantId,
        stream: &StreamId,
    ) -> Result<Reply, Refusal> {
        self.participant(participant)?;
        self.refuse_selecting(stream)?;
        let publication = self.state.publications.get(stream).ok_or(Refusal::UnknownStream)?;
        if publication.owner != *participant {
            return Err(Refusal::Unauthorized);
        }
        self.end_session(&SessionKey::Publication(stream.clone()), None, true);
        Ok(Reply::Done)
    }

    /// Ends a stream by order of the management: its publisher did not ask for it and is told.
    pub(super) fn delete_stream(&mut self, stream: &StreamId) -> Result<Reply, Refusal> {
        if self.state.views.iter().any(|view| view.stream == *stream) {
            return Err(Refusal::StreamIsMixed);
        }
        self.refuse_selecting(stream)?;
        if !self.state.publications.contains_key(stream) {
            return self.cancel_ingest(stream);
        }
        self.end_session(&SessionKey::Publication(stream.clone()), Some("Stream deleted"), true);
        Ok(Reply::Done)
    }

    /// Ends a publication in the order that clients rely on: the session at the access node, the publisher's notice, the
    /// subscriptions, the views, the stream.
    pub(super) fn remove_publication(&mut self, id: &StreamId, reason: Option<&str>, close: bool) {
        let Some(publication) = self.state.publications.remove(id) else { return };
        self.state.input_filters.remove(id);
        match &publication.carrier {
            Carrier::Transport(transport) => {
                if close && let Some(node) = self.node_of(transport) {
                    self.close_session(node, transport, id.as_str());
                }
                if let Some(reason) = reason {
                    self.session_error(&publication.owner, transport, id.as_str(), reason);
                }
            }
            Carrier::Ingest(_) => self.end_ingest(id),
            Carrier::Analysis { id, .. } => drop(self.forget_analysis(id)),
        }
        if let Some(reason) = reason {
            self.output(Output::Log(Note::SessionFailed {
                participant: publication.owner.to_string(),
                session: id.to_string(),
                reason: reason.to_owned(),
            }));
        }
        self.speaker_gone(&publication);
        self.end_subscriptions_of(id);
        self.end_analytics_of(id);
        for view in self.unmix_from_all(id) {
            self.tell_layout(&view);
        }
        if publication.phase == Phase::Established {
            let data_only = publication.data && publication.tracks.is_empty();
            self.tell_stream(id, Change::Removed(v1::RemovedStream { data_only }));
        }
    }

    /// Tells everybody of a change of a stream.
    pub(super) fn tell_stream(&mut self, stream: &StreamId, change: Change) {
        self.stream_happened(stream, &change);
        if self.config.notifying.stream_change {
            let event = v1::StreamEvent { stream_id: stream.to_string(), change: Some(change) };
            self.output(Output::Broadcast { except: None, event: Event::Stream(event) });
        }
    }

    /// Tells everybody how a stream is now, if it is there already.
    pub(super) fn tell_replaced(&mut self, stream: &StreamId) {
        if let Some(description) = self.describe_stream(stream) {
            self.tell_stream(stream, Change::Replaced(description));
        }
    }
}
