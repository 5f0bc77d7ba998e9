//! What publications and subscriptions have in common: transports, their access node, and the way to the end.

use kaigi_proto::{
    ids::{ParticipantId, SessionId, StreamId, SubscriptionId, TransportId},
    v1::{self, join_event::Event, progress::Progress, signal_transport_request},
};

use super::{
    Room,
    calls::Pending,
    input::{CallError, RequestId},
    media::{Kind, Node},
    output::{CallRequest, Callee, Reply},
    refusal::Refusal,
    state::{Carrier, Phase, Placement, Publication, Subscription, Transport},
};

/// Most publications and subscriptions of one participant together. A page that shows everybody of a large room stays well
/// below; each costs a session at an access node.
const MAX_SESSIONS: usize = 512;
/// Most transports of one participant. Clients use one, or a new one after each loss of the network.
const MAX_TRANSPORTS: usize = 64;

/// What is wanted of a new session.
pub(super) struct NewSession<'a> {
    pub(super) owner: &'a ParticipantId,
    pub(super) transport: Option<&'a TransportId>,
    /// Whether a new transport ends with the session.
    pub(super) own_transport: bool,
    pub(super) mids: Vec<&'a str>,
}

impl Room {
    /// Makes room for a session: its id, and its transport, which is made if none is given.
    pub(super) fn admit_session(&mut self, new: &NewSession<'_>) -> Result<(String, TransportId), Refusal> {
        let publications = self.state.publications.values().filter(|p| p.owner == *new.owner).count();
        let subscriptions = self.state.subscriptions.values().filter(|s| s.owner == *new.owner).count();
        if publications + subscriptions >= MAX_SESSIONS {
            return Err(Refusal::TooManySessions);
        }
        if let Some(transport) = new.transport {
            self.transport_of(new.owner, transport)?;
            if let Some(mid) = new.mids.iter().find(|mid| self.mid_in_use(transport, mid)) {
                return Err(Refusal::MidInUse((*mid).to_owned()));
            }
        } else if self.state.transports.values().filter(|t| t.owner == *new.owner).count() >= MAX_TRANSPORTS {
            return Err(Refusal::TooManySessions);
        }
        let state = &self.state;
        let session = self.ids.session(|id| {
            state.publications.contains_key(id)
                || state.subscriptions.contains_key(id)
                || state.transports.contains_key(id)
        });
        let transport = match new.transport {
            Some(transport) => transport.clone(),
            None => {
                let id = TransportId::new(&session).expect("hex characters are allowed");
                let (owner, own) = (new.owner.clone(), new.own_transport);
                let transport = Transport { owner, node: None, ready: false, own, answers: 0 };
                self.state.transports.insert(id.clone(), transport);
                id
            }
        };
        Ok((session, transport))
    }

    /// The node of a transport that the participant owns and knows of: the session that it was made for is acknowledged.
    pub(super) fn transport_of(&self, owner: &ParticipantId, id: &TransportId) -> Result<&Node, Refusal> {
        let known = |t: &&Transport| t.owner == *owner && !self.opening.contains_key(id.as_str());
        let transport = self.state.transports.get(id).filter(known);
        transport.and_then(|t| t.node.as_ref()).ok_or_else(|| Refusal::UnknownTransport(id.to_string()))
    }

    /// The node that has a transport, if it is placed.
    pub(super) fn node_of(&self, transport: &TransportId) -> Option<Node> {
        self.state.transports.get(transport).and_then(|t| t.node.clone())
    }

    /// The node where the media of a publication come in, if it is placed.
    pub(super) fn node_of_publication(&self, publication: &Publication) -> Option<Node> {
        match &publication.carrier {
            Carrier::Transport(transport) => self.node_of(transport),
            Carrier::Ingest(node) | Carrier::Analysis { node, .. } => node.clone(),
        }
    }

    fn mid_in_use(&self, transport: &TransportId, mid: &str) -> bool {
        let publications = self.state.publications.values().filter(|p| p.transport() == Some(transport));
        let subscriptions = self.state.subscriptions.values().filter(|s| s.transport == *transport);
        publications.flat_map(|p| &p.requested).any(|track| track.mid == mid)
            || subscriptions.flat_map(|s| &s.tracks).any(|track| track.mid == mid)
    }

    /// Takes a participant's sessions that wait as far as they can go now.
    pub(super) fn advance_sessions(&mut self, owner: &ParticipantId) {
        let Some(participant) = self.state.participants.get(owner) else { return };
        match participant.access.clone() {
            Placement::Nowhere => {
                if self.state.transports.values().any(|t| t.owner == *owner && t.node.is_none()) {
                    self.schedule_access(owner);
                }
            }
            Placement::Scheduling => {}
            Placement::At(node) => {
                let unplaced = |transport: &Transport| transport.owner == *owner && transport.node.is_none();
                let ids = self.state.transports.iter().filter(|(_, transport)| unplaced(transport));
                for id in ids.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
                    if let Some(transport) = self.state.transports.get_mut(&id) {
                        transport.node = Some(node.clone());
                    }
                }
            }
        }
        let placing = |phase: &Phase, of: &ParticipantId| *phase == Phase::Placing && of == owner;
        let publications = self.state.publications.iter().filter(|(_, p)| placing(&p.phase, &p.owner));
        let publications: Vec<StreamId> = publications.map(|(id, _)| id.clone()).collect();
        let subscriptions = self.state.subscriptions.iter().filter(|(_, s)| placing(&s.phase, &s.owner));
        let subscriptions: Vec<SubscriptionId> = subscriptions.map(|(id, _)| id.clone()).collect();
        for id in publications {
            self.open_publication(&id);
        }
        for id in subscriptions {
            self.open_subscription(&id);
        }
    }

    fn schedule_access(&mut self, owner: &ParticipantId) {
        let Some(participant) = self.state.participants.get_mut(owner) else { return };
        participant.access = Placement::Scheduling;
        let pending = Pending::PlaceParticipant { participant: owner.clone(), arrival: participant.arrival };
        let request = v1::ScheduleRequest {
            purpose: v1::Purpose::Access.into(),
            task: owner.to_string(),
            isp: participant.isp.clone(),
            region: participant.region.clone(),
        };
        self.call(Callee::Cluster, CallRequest::Schedule(request), pending);
    }

    pub(super) fn participant_placed(
        &mut self,
        owner: &ParticipantId,
        arrival: u64,
        result: Result<Node, CallError>,
    ) {
        let Some(participant) = self.state.participants.get_mut(owner).filter(|p| p.arrival == arrival)
        else {
            return;
        };
        match result {
            Ok(node) => {
                participant.access = Placement::At(node);
                self.advance_sessions(owner);
            }
            Err(error) => {
                participant.access = Placement::Nowhere;
                let refusal = match error {
                    CallError::Full(_) => Refusal::NoCapacity("access"),
                    CallError::Unavailable(_) | CallError::NotFound(_) | CallError::Refused(_) => {
                        Refusal::NoAccessNode
                    }
                };
                let unplaced = |id: &TransportId| self.node_of(id).is_none();
                let sessions = self.sessions_where(|of, transport| of == owner && unplaced(transport));
                for session in sessions {
                    self.fail_opening(&session, refusal.clone());
                }
            }
        }
    }

    /// Sessions by owner and transport; subscriptions first, so that nobody is told of the loss of its own stream.
    pub(super) fn sessions_where(
        &self,
        wanted: impl Fn(&ParticipantId, &TransportId) -> bool,
    ) -> Vec<SessionKey> {
        let subscriptions = self.state.subscriptions.iter().filter(|(_, s)| wanted(&s.owner, &s.transport));
        let publications = self.state.publications.iter();
        let publications =
            publications.filter(|(_, p)| p.transport().is_some_and(|transport| wanted(&p.owner, transport)));
        let subscriptions = subscriptions.map(|(id, _)| SessionKey::Subscription(id.clone()));
        subscriptions.chain(publications.map(|(id, _)| SessionKey::Publication(id.clone()))).collect()
    }

    /// The session of that id.
    pub(super) fn session(&self, id: &SessionId) -> Option<SessionKey> {
        if let Some((id, _)) = self.state.publications.get_key_value(id.as_str()) {
            return Some(SessionKey::Publication(id.clone()));
        }
        self.state
            .subscriptions
            .get_key_value(id.as_str())
            .map(|(id, _)| SessionKey::Subscription(id.clone()))
    }

    /// The transport of a session that clients have.
    pub(super) fn transport_of_session(&self, session: &SessionKey) -> Option<&TransportId> {
        match session {
            SessionKey::Publication(id) => self.state.publications.get(id)?.transport(),
            SessionKey::Subscription(id) => self.state.subscriptions.get(id).map(|s| &s.transport),
        }
    }

    /// Acknowledges a session to the client that asked for it.
    pub(super) fn acknowledge(&mut self, session: &str, transport: &TransportId) {
        let Ok(session) = SessionId::new(session) else { return };
        if let Some(request) = self.opening.remove(&session) {
            let data = self.own_data(&session);
            self.reply(request, Ok(Reply::Session { session, transport: transport.clone(), data }));
        }
    }

    /// Ends a session that was not acknowledged yet, and its transport if it was made for it.
    pub(super) fn fail_opening(&mut self, session: &SessionKey, refusal: Refusal) {
        if let Some(request) = self.take_opening(session) {
            self.refuse(request, refusal);
        }
        let transport = match session {
            SessionKey::Publication(id) => {
                self.state.publications.get(id).and_then(|p| p.transport().cloned())
            }
            SessionKey::Subscription(id) => self.state.subscriptions.get(id).map(|s| s.transport.clone()),
        };
        let Some(transport) = transport else { return };
        let made_for_it = transport.as_str() == session.as_str();
        self.remove_session(session, None, !made_for_it);
        if made_for_it
            && let Some(Transport { node: Some(node), .. }) = self.state.transports.remove(&transport)
        {
            self.close_transport(node, &transport);
        }
    }

    /// The request that waits for this session, which is not to be answered otherwise then.
    fn take_opening(&mut self, session: &SessionKey) -> Option<RequestId> {
        SessionId::new(session.as_str()).ok().and_then(|id| self.opening.remove(&id))
    }

    fn is_opening(&self, session: &SessionKey) -> bool {
        self.opening.contains_key(session.as_str())
    }

    /// Ends a session. The owner is told `reason`, if given; one who still waits for the session is refused instead. `close`: the
    /// access node still has it.
    pub(super) fn end_session(&mut self, session: &SessionKey, reason: Option<&str>, close: bool) {
        if self.is_opening(session) {
            let reason = reason.unwrap_or("Session early released").to_owned();
            self.fail_opening(session, Refusal::SessionFailed(reason));
        } else {
            self.remove_session(session, reason, close);
        }
    }

    fn remove_session(&mut self, session: &SessionKey, reason: Option<&str>, close: bool) {
        match session {
            SessionKey::Publication(id) => self.remove_publication(id, reason, close),
            SessionKey::Subscription(id) => self.remove_subscription(id, reason, close),
        }
        self.flows.forget(session);
        self.end_own_transport(session);
    }

    /// Ends the transport that was made for a session alone, when the session has ended.
    pub(super) fn end_own_transport(&mut self, session: &SessionKey) {
        let Some((id, _)) = self.state.transports.get_key_value(session.as_str()).filter(|(_, t)| t.own)
        else {
            return;
        };
        let id = id.clone();
        if let Some(Transport { node: Some(node), .. }) = self.state.transports.remove(&id) {
            self.close_transport(node, &id);
        }
    }

    /// Ends the subscriptions of a stream that goes away.
    pub(super) fn end_subscriptions_of(&mut self, stream: &StreamId) {
        self.fail_updates_to(stream);
        let released = |s: &Subscription| {
            let track = s.tracks.iter().find(|track| track.from.is_of(stream));
            let data = s.data.as_ref().filter(|data| *data == stream);
            track.map(|track| Refusal::SourceReleased(track.kind)).or(data.map(|_| Refusal::DataReleased))
        };
        let using: Vec<(SessionKey, Refusal)> = self
            .state
            .subscriptions
            .iter()
            .filter_map(|(id, s)| released(s).map(|refusal| (SessionKey::Subscription(id.clone()), refusal)))
            .collect();
        for (session, refusal) in using {
            if self.is_opening(&session) {
                self.fail_opening(&session, refusal);
            } else {
                self.remove_session(&session, Some("Source stream loss"), true);
            }
        }
    }

    /// Ends what a participant that left had at access nodes.
    pub(super) fn end_sessions_of(&mut self, owner: &ParticipantId) {
        let own: Vec<TransportId> = self
            .state
            .transports
            .iter()
            .filter(|(_, t)| t.owner == *owner)
            .map(|(id, _)| id.clone())
            .collect();
        for id in own {
            if let Some(Transport { node: Some(node), .. }) = self.state.transports.remove(&id) {
                self.close_transport(node, &id);
            }
        }
        for session in self.sessions_where(|of, _| of == owner) {
            if let Some(request) = self.take_opening(&session) {
                self.refuse(request, Refusal::EarlyLeft);
            }
            self.remove_session(&session, None, false);
        }
    }

    /// Ends a session whose requester will never learn its id.
    pub(super) fn abandon(&mut self, participant: &ParticipantId, session: &SessionId) {
        if let Some(key) = self.session(session)
            && self.owner_of(&key).is_some_and(|owner| owner == participant)
        {
            self.end_session(&key, None, true);
        }
    }

    pub(super) fn owner_of(&self, session: &SessionKey) -> Option<&ParticipantId> {
        match session {
            SessionKey::Publication(id) => self.state.publications.get(id).map(|p| &p.owner),
            SessionKey::Subscription(id) => self.state.subscriptions.get(id).map(|s| &s.owner),
        }
    }

    pub(super) fn signal(
        &mut self,
        request: RequestId,
        participant: &ParticipantId,
        transport: &TransportId,
        signal: signal_transport_request::Signal,
    ) -> Result<Option<Reply>, Refusal> {
        self.participant(participant)?;
        let node = self.transport_of(participant, transport)?.clone();
        let call = v1::SignalTransportRequest {
            transport_id: transport.to_string(),
            signal: Some(signal),
            request_id: self.asking.as_ref().map(|key| key.as_str().to_owned()).unwrap_or_default(),
        };
        let pending = Pending::Signal { request, transport: transport.clone() };
        self.call(Callee::Access(node), CallRequest::Signal(call), pending);
        Ok(None)
    }

    pub(super) fn progress(&mut self, to: &ParticipantId, transport: &TransportId, progress: Progress) {
        let progress = v1::Progress { transport_id: transport.to_string(), progress: Some(progress) };
        self.notify(to, Event::Progress(progress));
    }

    pub(super) fn session_error(
        &mut self,
        to: &ParticipantId,
        transport: &TransportId,
        session: &str,
        reason: &str,
    ) {
        let error = v1::SessionError { session_id: session.to_owned(), reason: reason.to_owned() };
        self.progress(to, transport, Progress::SessionError(error));
    }

    pub(super) fn set_active_request(
        transport: &TransportId,
        session: &str,
        kind: Kind,
        active: bool,
    ) -> CallRequest {
        CallRequest::SetActive(v1::SetActiveRequest {
            transport_id: transport.to_string(),
            session_id: session.to_owned(),
            kind: kind.to_wire(),
            active,
        })
    }
}

/// A session of either kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SessionKey {
    Publication(StreamId),
    Subscription(SubscriptionId),
}

impl SessionKey {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Publication(id) => id.as_str(),
            Self::Subscription(id) => id.as_str(),
        }
    }
}
