//! Access nodes learn that a room is this agent's, and what is to be there: after the room was taken over, and after what a node told was
//! interrupted. The node ends what the room does not have, and the room what the node does not have.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{SessionId, TransportId, WorkerId},
    v1::{self, progress::Progress},
};

use super::{
    Room,
    calls::Pending,
    events::NODE_LOST,
    input::CallError,
    media::{FeedOnWire, Kind, Kinds, Node},
    output::{CallRequest, Callee},
    state::{Phase, SubscribedTrack},
};

/// Pause before a node that has not answered is told again.
const RETELL: Duration = Duration::from_secs(1);
/// Sessions in one call, of about 500 bytes each, or those of one transport.
const SESSIONS_AT_ONCE: usize = 128;

impl Room {
    /// The node has something of the room from now on.
    pub(super) fn visit(&mut self, node: &Node) {
        if !self.state.visited.contains(node) {
            self.state.visited.push(node.clone());
        }
    }

    /// All access nodes that may have something of the room, be it what has ended meanwhile.
    pub(super) fn adopt_all(&mut self) {
        for node in self.state.visited.clone() {
            self.adopt(&node);
        }
    }

    /// The node may have told things that were not heard.
    pub(super) fn access_resumed(&mut self, worker: &WorkerId) {
        if let Some(node) = self.visited(worker) {
            self.adopt(&node);
        }
    }

    fn visited(&self, worker: &WorkerId) -> Option<Node> {
        self.state.visited.iter().find(|node| node.worker == *worker).cloned()
    }

    /// Follows all calls to the node that were made before, so that what they open is there by then.
    fn adopt(&mut self, node: &Node) {
        let there = self.state.transports.iter().filter(|(_, t)| t.node.as_ref() == Some(node));
        let named: Vec<TransportId> = there.map(|(id, _)| id.clone()).collect();
        let (room_id, epoch) = (self.id.to_string(), self.settings.epoch);
        let request = v1::AdoptRoomRequest {
            agent_id: self.settings.agent.to_string(),
            room_id: room_id.clone(),
            epoch,
            transport_ids: named.iter().map(ToString::to_string).collect(),
        };
        let mut sessions: BTreeMap<&TransportId, Vec<v1::AdoptedSession>> =
            named.iter().map(|id| (id, Vec::new())).collect();
        for (id, publication) in &self.state.publications {
            let session = publication.transport().and_then(|transport| sessions.get_mut(transport));
            let stopped = publication.tracks.iter().filter(|track| !track.active).map(|track| track.kind);
            if let Some(session) = session.filter(|_| publication.phase != Phase::Placing) {
                session.push(adopted(id.as_str(), stopped, Vec::new()));
            }
        }
        for (id, subscription) in &self.state.subscriptions {
            let session = sessions.get_mut(&subscription.transport);
            let stopped = subscription.tracks.iter().filter(|track| !track.active).map(|track| track.kind);
            let source = |track: &SubscribedTrack| {
                let FeedOnWire { source, layers, wanted, selected } = track.feed.as_ref()?.to_wire();
                let (transport_id, session_id) = (subscription.transport.to_string(), id.to_string());
                let kind = track.kind.to_wire();
                Some(v1::SetSourceRequest {
                    transport_id,
                    session_id,
                    kind,
                    source,
                    layers,
                    wanted,
                    selected,
                })
            };
            let sources = subscription.tracks.iter().filter_map(source).collect();
            if let Some(session) = session.filter(|_| subscription.phase != Phase::Placing) {
                session.push(adopted(id.as_str(), stopped, sources));
            }
        }
        let mut calls = vec![v1::AdoptTransportsRequest { room_id, epoch, transports: Vec::new() }];
        let mut count = 0;
        for (transport, sessions) in sessions {
            if count > 0 && count + sessions.len() > SESSIONS_AT_ONCE {
                let next = v1::AdoptTransportsRequest {
                    room_id: self.id.to_string(),
                    epoch,
                    transports: Vec::new(),
                };
                calls.push(next);
                count = 0;
            }
            count += sessions.len();
            let transport = v1::AdoptedTransport { transport_id: transport.to_string(), sessions };
            calls.last_mut().into_iter().for_each(|call| call.transports.push(transport.clone()));
        }
        let callee = Callee::Access(node.clone());
        let pending = Pending::AdoptRoom { node: node.worker.clone(), named };
        self.call(callee.clone(), CallRequest::AdoptRoom(request), pending);
        for request in calls {
            let pending = Pending::AdoptTransports(node.worker.clone());
            self.call(callee.clone(), CallRequest::AdoptTransports(request), pending);
        }
    }

    /// A node has said which of the transports are there; the others are lost as if with their node.
    pub(super) fn room_adopted(
        &mut self,
        worker: &WorkerId,
        named: &[TransportId],
        result: Result<Vec<TransportId>, CallError>,
        now: Instant,
    ) {
        let there: BTreeSet<TransportId> = match result {
            Ok(there) => there.into_iter().collect(),
            Err(error) => return self.not_adopted(worker, &error, now),
        };
        for id in named.iter().filter(|id| !there.contains(*id)) {
            let is_there = |node: &Node| node.worker == *worker;
            let Some(transport) = self.state.transports.get(id) else { continue };
            if !transport.node.as_ref().is_some_and(is_there) {
                continue;
            }
            let owner = transport.owner.clone();
            self.state.transports.remove(id);
            for session in self.sessions_where(|_, transport| transport == id) {
                self.end_session(&session, Some(NODE_LOST), false);
            }
            self.progress(&owner, id, Progress::TransportError(NODE_LOST.to_owned()));
        }
    }

    /// A node has said which sessions are not there.
    pub(super) fn transports_adopted(
        &mut self,
        worker: &WorkerId,
        result: Result<Vec<SessionId>, CallError>,
        now: Instant,
    ) {
        let missing = match result {
            Ok(missing) => missing,
            Err(error) => return self.not_adopted(worker, &error, now),
        };
        for session in missing {
            let Some(key) = self.session(&session) else { continue };
            let transport = self.transport_of_session(&key);
            let node = transport.and_then(|transport| self.node_of(transport));
            if node.is_some_and(|node| node.worker == *worker) {
                self.end_session(&key, Some(NODE_LOST), false);
            }
        }
    }

    /// A node that has another agent is right: the room is that one's, as will show when it is written down.
    fn not_adopted(&mut self, worker: &WorkerId, error: &CallError, now: Instant) {
        match error {
            CallError::Unavailable(_) | CallError::Full(_) => {
                self.adopting.entry(worker.clone()).or_insert(now + RETELL);
            }
            CallError::NotFound(_) | CallError::Refused(_) => {}
        }
    }

    pub(super) fn adoption_timeout(&mut self, now: Instant) {
        let due: Vec<WorkerId> =
            self.adopting.iter().filter(|(_, at)| **at <= now).map(|(worker, _)| worker.clone()).collect();
        for worker in due {
            self.adopting.remove(&worker);
            if let Some(node) = self.visited(&worker) {
                self.adopt(&node);
            }
        }
    }
}

fn adopted(
    session: &str,
    stopped: impl Iterator<Item = Kind>,
    sources: Vec<v1::SetSourceRequest>,
) -> v1::AdoptedSession {
    let mut kinds = Kinds::default();
    stopped.for_each(|kind| kinds.set(kind, true));
    v1::AdoptedSession { session_id: session.to_owned(), stopped: Some(kinds.to_wire()), sources }
}
