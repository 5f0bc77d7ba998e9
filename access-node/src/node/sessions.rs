//! Opening, changing and closing sessions and transports.

use std::{collections::HashMap, time::Instant};

use kaigi_proto::{
    ids::{RoomId, SessionId, TrackId, TransportId, WorkerId},
    v1::{self, access_event::Event},
};
use rand::RngCore;

use super::{
    Feed, Node, NodeError, Opened, PublicationTrack, SubscriptionTrack,
    adoption::Answers,
    data::{SessionData, TransportData},
    interest::Interest,
    layers::{Fed, Layering},
    net::Room,
    repairs::Repairs,
    speakers::{Selected, Taker},
    transport::{Incoming, Layer, Role, RoundTrip, Session, SessionTrack, Transport},
};
use crate::{
    bandwidth::BandwidthEstimator,
    forward::TransportCcReceiver,
    ids::Mid,
    keys::{SinkKey, TransportKey},
    pacing::Pacer,
    protect::Protection,
    sdp::{Binding, Kind, LocalDescription, Negotiated, Negotiation, Wish},
    transport::IceLite,
};

/// Randomness of ICE credentials in bytes; RFC 8445 §5.3 asks for 24 and 128 bits.
pub(super) const UFRAG_BYTES: usize = 6;
/// See [`UFRAG_BYTES`].
pub(super) const PASSWORD_BYTES: usize = 16;

impl Node {
    /// Announces a publication. Doing so again changes nothing, but that a newer agent learns what is established.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub fn open_publication(
        &mut self,
        now: Instant,
        opened: &Opened,
        tracks: Vec<PublicationTrack>,
    ) -> Result<(), NodeError> {
        let mids: Vec<Mid> = tracks.iter().map(|track| track.mid.clone()).collect();
        let Some(key) = self.admitted(now, opened, &mids)? else { return Ok(()) };
        let taken = tracks.iter().any(|track| {
            self.forward
                .find(&track.track)
                .and_then(|k| self.forward.source(k))
                .is_some_and(|s| s.supply.is_some())
        });
        if taken {
            return Err(NodeError::InUse("track"));
        }
        let mut session = Session::new(opened);
        for track in tracks {
            let source = self.forward.source_of(&track.track, track.kind);
            self.end_crossing(source);
            self.forward.claim(source);
            self.bind(key, &track.mid, &opened.session, track.kind, Wish::Receive(track.accepted));
            session.tracks.push(SessionTrack {
                kind: track.kind,
                mid: track.mid,
                role: Role::Published(vec![Layer { rid: None, track: track.track, source }]),
            });
        }
        self.insert_session(now, key, &opened.session, session);
        Ok(())
    }

    /// Announces a subscription. Doing so again changes nothing, but that a newer agent learns what is established.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub fn open_subscription(
        &mut self,
        now: Instant,
        opened: &Opened,
        tracks: Vec<SubscriptionTrack>,
    ) -> Result<(), NodeError> {
        let mids: Vec<Mid> = tracks.iter().map(|track| track.mid.clone()).collect();
        let Some(key) = self.admitted(now, opened, &mids)? else { return Ok(()) };
        let mut session = Session::new(opened);
        for track in tracks {
            let wish = Wish::Send { formats: track.formats, client_order: track.client_order };
            self.bind(key, &track.mid, &opened.session, track.kind, wish);
            session.tracks.push(SessionTrack {
                kind: track.kind,
                mid: track.mid,
                role: Role::Subscribed { from: track.feed.map(Fed::new), active: true, sink: None },
            });
        }
        self.insert_session(now, key, &opened.session, session);
        Ok(())
    }

    /// Says or changes where a track of a subscription comes from. Before the track is negotiated, a source of any of the formats that may
    /// be negotiated is taken, and flows if its format is the one that is.
    ///
    /// # Errors
    /// If there is no such track, or the source's format is not the negotiated one.
    pub fn set_source(
        &mut self,
        now: Instant,
        transport: &TransportId,
        session: &SessionId,
        kind: Kind,
        feed: impl Into<Feed>,
    ) -> Result<(), NodeError> {
        let feed = feed.into();
        let key = *self.by_id.get(transport).ok_or(NodeError::UnknownTransport)?;
        let entry = self.net.transports.get_mut(key).ok_or(NodeError::UnknownTransport)?;
        let track = track_of(entry.sessions.get_mut(session), kind)?;
        let Role::Subscribed { from, sink, .. } = &mut track.role else {
            return Err(NodeError::Invalid("a publication has no source".to_owned()));
        };
        if !feed.format().is_some_and(|format| entry.negotiation.may_carry(&track.mid, format)) {
            return Err(NodeError::OtherFormat);
        }
        match (feed, &mut *from) {
            (Feed::Layers(layers, wish), Some(Fed::Layers(layered))) => layered.update(layers, wish),
            (feed, _) => *from = Some(Fed::new(feed)),
        }
        if let Some(sink) = *sink {
            self.net.rooms.get_mut(&entry.room).into_iter().for_each(|room| room.selected.release(sink));
        }
        match (&*from, *sink) {
            (Some(Fed::Track(source)), Some(sink)) => {
                let source = source.clone();
                self.connect(now, sink, kind, &source);
            }
            (Some(Fed::Layers(_)), Some(_)) => self.allocate(now, key),
            (&Some(Fed::Selected(slot, format)), Some(sink)) => {
                self.take_selected(now, slot, Taker { transport: key, sink, format });
            }
            (_, None) | (None, _) => {}
        }
        self.net.schedule(key);
        Ok(())
    }

    /// Stops or restarts the flow of a track.
    ///
    /// # Errors
    /// If there is no such track.
    pub fn set_active(
        &mut self,
        now: Instant,
        transport: &TransportId,
        session: &SessionId,
        kind: Kind,
        active: bool,
    ) -> Result<(), NodeError> {
        let key = *self.by_id.get(transport).ok_or(NodeError::UnknownTransport)?;
        let entry = self.net.transports.get_mut(key).ok_or(NodeError::UnknownTransport)?;
        let track = track_of(entry.sessions.get_mut(session), kind)?;
        match &mut track.role {
            Role::Published(layers) => {
                let sources: Vec<_> = layers.iter().map(|layer| layer.source).collect();
                for source in sources {
                    self.set_published_active(now, source, active);
                }
            }
            Role::Subscribed { active: wanted, sink, from } => {
                *wanted = active;
                if let Some(Fed::Layers(layered)) = from {
                    layered.is_eager |= active;
                }
                if let Some(sink) = *sink {
                    self.forward.set_sink_active(now, sink, active, &mut self.net);
                    self.allocate(now, key);
                }
            }
        }
        self.release_left();
        Ok(())
    }

    /// What the way to a transport's client is estimated to carry, in bit/s.
    ///
    /// # Errors
    /// If there is no such transport, or no feedback to estimate it from.
    pub fn estimate_bandwidth(&self, now: Instant, transport: &TransportId) -> Result<u64, NodeError> {
        let key = *self.by_id.get(transport).ok_or(NodeError::UnknownTransport)?;
        let entry = self.net.transports.get(key).ok_or(NodeError::UnknownTransport)?;
        entry.bandwidth.estimate(now).ok_or(NodeError::NoEstimate)
    }

    /// Ends a session, if there is one.
    pub fn close_session(&mut self, transport: &TransportId, session: &SessionId) {
        if let Some(key) = self.by_id.get(transport) {
            self.end_session(*key, session);
        }
    }

    /// Ends a transport and its sessions, if there is one.
    pub fn close_transport(&mut self, now: Instant, transport: &TransportId) {
        if let Some(key) = self.by_id.get(transport) {
            self.end_transport(now, *key, None);
        }
    }

    /// Ends all transports of the rooms that an agent serves: it is gone and no other has taken over.
    pub fn close_agent(&mut self, now: Instant, agent: &WorkerId) {
        let keys: Vec<_> = self
            .net
            .transports
            .iter()
            .filter(|(_, t)| self.net.rooms.get(&t.room).is_some_and(|room| room.agent == *agent))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.end_transport(now, key, None);
        }
    }

    /// A newer agent serves a room.
    pub fn serve(&mut self, room: &RoomId, agent: &WorkerId, epoch: u64) {
        if let Some(room) = self.net.rooms.get_mut(room) {
            room.serve(agent, epoch);
        }
    }

    /// Ends all transports: the node is about to end. Clients are told, so that they need not wait until their checks fail.
    pub fn close(&mut self, now: Instant) {
        let keys: Vec<_> = self.by_id.values().copied().collect();
        for key in keys {
            self.end_transport(now, key, None);
        }
    }

    /// Whether any room is served by that agent.
    #[must_use]
    pub fn serves(&self, agent: &WorkerId) -> bool {
        self.net.rooms.values().any(|room| room.agent == *agent)
    }

    /// The same as [`Self::admit`]; takes what the call says of the room, too.
    fn admitted(
        &mut self,
        now: Instant,
        opened: &Opened,
        mids: &[Mid],
    ) -> Result<Option<TransportKey>, NodeError> {
        let admitted = self.admit(now, opened, mids)?;
        if let Some(selection) = &opened.selection {
            self.select_audio(now, &opened.room, opened.epoch, selection)?;
        }
        Ok(admitted)
    }

    /// Checks that a session may be opened and finds or makes its transport. `None` if the session is there already.
    fn admit(
        &mut self,
        now: Instant,
        opened: &Opened,
        mids: &[Mid],
    ) -> Result<Option<TransportKey>, NodeError> {
        if let Some(room) = self.net.rooms.get_mut(&opened.room) {
            if opened.epoch < room.epoch {
                return Err(NodeError::OldEpoch(room.epoch));
            }
            room.serve(&opened.agent, opened.epoch);
        }
        let Some(&key) = self.by_id.get(&opened.transport) else {
            return self.create_transport(now, opened).map(Some);
        };
        let transport = self.net.transports.get_mut(key).ok_or(NodeError::UnknownTransport)?;
        if transport.room != opened.room {
            return Err(NodeError::WrongRoom);
        }
        if let Some(session) = transport.sessions.get_mut(&opened.session) {
            let same = session.tracks.iter().all(|track| mids.contains(&track.mid));
            let role = session.data.as_ref().map(|data| &data.role);
            if !same || session.tracks.len() != mids.len() || role != opened.data.as_ref() {
                return Err(NodeError::InUse("session"));
            }
            if session.epoch < opened.epoch {
                (session.epoch, session.established) = (opened.epoch, false);
                self.establish(key);
            }
            return Ok(None);
        }
        if transport.sessions.len() >= self.config.limits.sessions {
            return Err(NodeError::TooMany("sessions"));
        }
        if mids.iter().any(|mid| transport.negotiation.is_bound(mid)) {
            return Err(NodeError::InUse("mid"));
        }
        Ok(Some(key))
    }

    fn create_transport(&mut self, now: Instant, opened: &Opened) -> Result<TransportKey, NodeError> {
        if self.net.transports.len() >= self.config.limits.transports {
            return Err(NodeError::TooMany("transports"));
        }
        let (ufrag, password) = (self.random_text(UFRAG_BYTES), self.random_text(PASSWORD_BYTES));
        // RFC 8829 §5.2.1: 63 bits.
        let session_id = self.rng.next_u64() >> 1;
        let local = LocalDescription {
            ufrag: ufrag.clone(),
            password: password.clone(),
            fingerprint: self.config.certificate.fingerprint(),
            candidates: self.config.candidates.clone(),
            session_id,
        };
        let transport = Transport {
            id: opened.transport.clone(),
            room: opened.room.clone(),
            participant: opened.participant.clone(),
            negotiation: Negotiation::new(local),
            answers: Answers::default(),
            ice: IceLite::new(now, ufrag.clone(), password),
            remote_ice: None,
            dtls: None,
            srtp: None,
            handshake_since: None,
            data: TransportData::default(),
            sessions: HashMap::new(),
            incoming: HashMap::new(),
            outgoing: HashMap::new(),
            transport_cc: TransportCcReceiver::new(now),
            next_transport_cc: 1,
            bandwidth: BandwidthEstimator::new(now),
            round_trip: RoundTrip::default(),
            protection: Protection::default(),
            pacer: Pacer::default(),
            repairs: Repairs::default(),
            layering: Layering::default(),
            interest: Interest::default(),
            ssrc: self.rng.next_u32(),
            name: session_id.to_string(),
            next_report: None,
        };
        let key = self.net.transports.insert(transport);
        self.net.by_ufrag.insert(ufrag, key);
        self.by_id.insert(opened.transport.clone(), key);
        let room = self.net.rooms.entry(opened.room.clone()).or_insert_with(|| Room {
            agent: opened.agent.clone(),
            epoch: opened.epoch,
            transports: 0,
            selected: Selected::default(),
        });
        room.transports += 1;
        self.net.schedule(key);
        tracing::info!(room = %opened.room, participant = %opened.participant, transport = %opened.transport, "transport opened");
        Ok(key)
    }

    fn bind(&mut self, key: TransportKey, mid: &Mid, session: &SessionId, kind: Kind, wish: Wish) {
        if let Some(transport) = self.net.transports.get_mut(key) {
            transport.negotiation.bind(mid.clone(), Binding { session: session.clone(), kind, wish });
        }
    }

    fn insert_session(&mut self, now: Instant, key: TransportKey, id: &SessionId, session: Session) {
        if let Some(transport) = self.net.transports.get_mut(key) {
            transport.sessions.insert(id.clone(), session);
        }
        self.data_session_opened(now, key, id);
    }

    /// Tells the agent of each session whose m-lines are all negotiated, once the transport is connected.
    pub(super) fn establish(&mut self, key: TransportKey) {
        let Some(transport) = self.net.transports.get_mut(key).filter(|t| t.is_connected()) else { return };
        let mut events = Vec::new();
        for (id, session) in transport.sessions.iter_mut().filter(|(_, session)| !session.established) {
            let negotiated = |track: &SessionTrack| transport.negotiation.negotiated(&track.mid);
            let tracks: Option<Vec<_>> =
                session.tracks.iter().map(|track| Some(told(track, negotiated(track)?))).collect();
            let has_data = session.data.as_ref().is_none_or(SessionData::is_ready);
            if let Some(tracks) = tracks.filter(|_| has_data) {
                session.established = true;
                events.push(v1::SessionEstablished { session_id: id.to_string(), tracks: tracks.concat() });
            }
        }
        for event in events {
            self.net.event(key, Event::SessionEstablished(event));
        }
    }

    /// Takes a session off a transport; its m-lines are inactive from the next answer on.
    pub(super) fn end_session(&mut self, key: TransportKey, id: &SessionId) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let Some(session) = transport.sessions.remove(id) else { return };
        transport.negotiation.release(id);
        let mut sinks: Vec<SinkKey> = Vec::new();
        let mut published = Vec::new();
        for track in session.tracks {
            match track.role {
                Role::Published(layers) => {
                    transport.incoming.retain(|_, incoming| {
                        let (Incoming::Primary(of) | Incoming::Rtx(of) | Incoming::Repair(of)) = *incoming;
                        layers.iter().all(|layer| layer.source != of)
                    });
                    published.extend(layers.iter().map(|layer| layer.source));
                }
                Role::Subscribed { sink, .. } => sinks.extend(sink),
            }
        }
        transport.outgoing.retain(|_, sink| !sinks.contains(sink));
        if let Some(room) = self.net.rooms.get_mut(&transport.room) {
            sinks.iter().for_each(|sink| room.selected.release(*sink));
        }
        for source in published {
            self.unpublish(source);
        }
        if let Some(data) = session.data {
            self.data_session_closed(key, id, data);
        }
        for sink in sinks {
            for source in self.forward.remove_sink(sink) {
                self.release_source(source);
            }
        }
    }

    /// Ends a transport; the agent is told if it failed.
    pub(super) fn end_transport(&mut self, now: Instant, key: TransportKey, failure: Option<String>) {
        let Some(transport) = self.net.transports.get(key) else { return };
        let sessions: Vec<_> = transport.sessions.keys().cloned().collect();
        for session in sessions {
            self.end_session(key, &session);
        }
        if let Some(dtls) = self.net.transports.get_mut(key).and_then(|t| t.dtls.as_mut()) {
            dtls.close(now);
        }
        self.net.say_farewell(key);
        let Some(transport) = self.net.transports.remove(key) else { return };
        self.by_id.remove(&transport.id);
        self.net.output.ended.push(transport.id.clone());
        for ufrag in transport.ice.ufrags() {
            self.net.by_ufrag.remove(ufrag);
        }
        for path in transport.ice.peers() {
            if self.net.by_peer.get(&path.peer) == Some(&key) {
                self.net.by_peer.remove(&path.peer);
            }
        }
        match failure {
            Some(reason) => {
                tracing::info!(room = %transport.room, participant = %transport.participant, transport = %transport.id, reason, "transport failed");
                self.net.counters.transports_failed += 1;
                self.net.event_of(
                    &transport.room,
                    &transport.participant,
                    &transport.id,
                    Event::TransportFailed(reason),
                );
            }
            None => {
                tracing::info!(room = %transport.room, participant = %transport.participant, transport = %transport.id, "transport closed");
            }
        }
        if let Some(room) = self.net.rooms.get_mut(&transport.room) {
            room.transports -= 1;
            if room.transports == 0 {
                self.net.rooms.remove(&transport.room);
            }
        }
    }
}

/// A track as the agent is told of it: each of its layers. A subscribed one without a source has no id.
fn told(track: &SessionTrack, negotiated: &Negotiated) -> Vec<v1::NegotiatedTrack> {
    let ids: Vec<Option<&TrackId>> = match &track.role {
        Role::Published(layers) => layers.iter().map(|layer| Some(&layer.track)).collect(),
        Role::Subscribed { from, .. } => vec![from.as_ref().and_then(Fed::track)],
    };
    let negotiated = |id: Option<&TrackId>| v1::NegotiatedTrack {
        mid: track.mid.to_string(),
        kind: v1::MediaKind::from(track.kind).into(),
        track_id: id.map(ToString::to_string).unwrap_or_default(),
        format: Some(negotiated.format.to_message()),
    };
    ids.into_iter().map(negotiated).collect()
}

fn track_of(session: Option<&mut Session>, kind: Kind) -> Result<&mut SessionTrack, NodeError> {
    session
        .ok_or(NodeError::UnknownSession)?
        .tracks
        .iter_mut()
        .find(|track| track.kind == kind)
        .ok_or(NodeError::UnknownTrack)
}
