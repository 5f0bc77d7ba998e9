//! An agent takes a room over, or has missed what was told: the node ends what the room does not have, makes the rest what it is to be without
//! touching what is so already, and tells again how it is.

use std::time::Instant;

use kaigi_proto::{
    ids::{RoomId, SessionId, TransportId, WorkerId},
    v1::{self, access_event::Event},
};

use super::{Feed, Node, NodeError, layers::Fed, transport::Role};
use crate::{
    forward::{Origin, Outlet},
    keys::TransportKey,
    sdp::Kind,
};

/// A transport as it is to be.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// Its id.
    pub transport: TransportId,
    /// All that is on it.
    pub sessions: Vec<AdoptedSession>,
}

/// A session as it is to be.
#[derive(Clone, Debug)]
pub struct AdoptedSession {
    /// Its id.
    pub session: SessionId,
    /// Kinds that do not flow.
    pub stopped: Vec<Kind>,
    /// Where its tracks come from, as far as it is known.
    pub feeds: Vec<(Kind, Feed)>,
}

/// What was answered on a transport, to be told again.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// How many.
    pub(super) count: u64,
    /// The last one.
    pub(super) last: String,
    /// What the agent called the request with the offer; empty = nothing.
    pub(super) request: String,
}

impl Node {
    /// A room is that agent's from now on, and has these transports and no others here. Gives those of them that are here.
    ///
    /// # Errors
    /// If a newer agent serves it.
    pub fn adopt_room(
        &mut self,
        now: Instant,
        room: &RoomId,
        agent: &WorkerId,
        epoch: u64,
        named: &[TransportId],
    ) -> Result<Vec<TransportId>, NodeError> {
        let Some(entry) = self.net.rooms.get_mut(room) else { return Ok(Vec::new()) };
        if epoch < entry.epoch {
            return Err(NodeError::OldEpoch(entry.epoch));
        }
        entry.serve(agent, epoch);
        let of_room: Vec<(TransportKey, TransportId)> = self
            .net
            .transports
            .iter()
            .filter(|(_, transport)| transport.room == *room)
            .map(|(key, transport)| (key, transport.id.clone()))
            .collect();
        let (there, others): (Vec<_>, Vec<_>) = of_room.into_iter().partition(|(_, id)| named.contains(id));
        for (key, _) in others {
            self.end_transport(now, key, None);
        }
        Ok(there.into_iter().map(|(_, id)| id).collect())
    }

    /// A transport is to be so. Gives the sessions that are missing. Then its agent is told how it is.
    ///
    /// # Errors
    /// If a newer agent serves the room.
    pub fn adopt_transport(
        &mut self,
        now: Instant,
        room: &RoomId,
        epoch: u64,
        adopted: &Adopted,
    ) -> Result<Vec<SessionId>, NodeError> {
        if let Some(entry) = self.net.rooms.get(room)
            && epoch < entry.epoch
        {
            return Err(NodeError::OldEpoch(entry.epoch));
        }
        let key = self.by_id.get(&adopted.transport).copied();
        let transport = key.and_then(|key| self.net.transports.get(key)).filter(|t| t.room == *room);
        let (Some(key), Some(transport)) = (key, transport) else {
            return Ok(adopted.sessions.iter().map(|session| session.session.clone()).collect());
        };
        let named = |id: &SessionId| adopted.sessions.iter().any(|session| session.session == *id);
        let others: Vec<SessionId> = transport.sessions.keys().filter(|id| !named(id)).cloned().collect();
        let missing = adopted.sessions.iter().map(|session| &session.session);
        let missing = missing.filter(|id| !transport.sessions.contains_key(*id)).cloned().collect();
        for session in others {
            self.end_session(key, &session);
        }
        for session in &adopted.sessions {
            self.adopt_session(now, key, &adopted.transport, session, epoch);
        }
        self.tell_again(key);
        Ok(missing)
    }

    fn adopt_session(
        &mut self,
        now: Instant,
        key: TransportKey,
        transport: &TransportId,
        adopted: &AdoptedSession,
        epoch: u64,
    ) {
        for (kind, feed) in &adopted.feeds {
            if !self.is_fed(key, &adopted.session, *kind, feed) {
                // One of another format than was negotiated is told anew when the agent has heard of that.
                let _: Result<_, _> = self.set_source(now, transport, &adopted.session, *kind, feed.clone());
            }
        }
        let Some(entry) = self.net.transports.get_mut(key) else { return };
        let Some(session) = entry.sessions.get_mut(&adopted.session) else { return };
        session.epoch = session.epoch.max(epoch);
        // It is told again that it is established.
        session.established = false;
        let mut flows: Vec<(Kind, bool)> = Vec::new();
        for track in &session.tracks {
            let flowing = match &track.role {
                Role::Published(layers) => layers
                    .iter()
                    .filter_map(|layer| self.forward.source(layer.source))
                    .all(|source| source.active),
                Role::Subscribed { active, .. } => *active,
            };
            let wanted = !adopted.stopped.contains(&track.kind);
            if flowing != wanted {
                flows.push((track.kind, wanted));
            }
        }
        for (kind, active) in flows {
            let _: Result<_, _> = self.set_active(now, transport, &adopted.session, kind, active);
        }
    }

    fn is_fed(&self, key: TransportKey, session: &SessionId, kind: Kind, feed: &Feed) -> bool {
        let session = self.net.transports.get(key).and_then(|transport| transport.sessions.get(session));
        let track = session.and_then(|session| session.tracks.iter().find(|track| track.kind == kind));
        let Some(Role::Subscribed { from: Some(from), .. }) = track.map(|track| &track.role) else {
            return false;
        };
        match (from, feed) {
            (Fed::Track(known), Feed::Track(source)) => known == source,
            (Fed::Selected(known, _), Feed::Selected(slot, _)) => known == slot,
            // Changes only what is another.
            (Fed::Layers(_), Feed::Layers(..)) => false,
            (Fed::Track(_) | Fed::Selected(..) | Fed::Layers(_), _) => false,
        }
    }

    /// Tells how a transport is, to an agent that may know nothing of it.
    fn tell_again(&mut self, key: TransportKey) {
        let Some(transport) = self.net.transports.get(key) else { return };
        let (answer, connected) = (transport.answers.last.clone(), transport.is_connected());
        let mut wanted = Vec::new();
        let mut sizes = Vec::new();
        for (id, session) in &transport.sessions {
            for track in &session.tracks {
                let Role::Published(layers) = &track.role else { continue };
                let sources = || layers.iter().filter_map(|layer| self.forward.source(layer.source));
                sizes.extend(sources().filter_map(|source| {
                    source
                        .told_sizes()
                        .map(|(size, sizes, temporal)| (source.track.clone(), size, sizes, temporal))
                }));
                if sources().any(|source| !source.is_wanted) {
                    let layer = |source: &crate::forward::Source| v1::WantedLayer {
                        track_id: source.track.to_string(),
                        wanted: source.is_wanted,
                    };
                    let layers = sources().map(layer).collect();
                    wanted.push(v1::WantedLayers { session_id: id.to_string(), layers });
                }
            }
        }
        if !answer.is_empty() {
            self.net.event(key, Event::Answer(answer));
        }
        if connected {
            self.net.event(key, Event::TransportReady(v1::TransportReady {}));
        }
        self.establish(key);
        for (track, size, sizes, temporal) in sizes {
            self.net.picture_size(Origin::Publisher(key), &track, size, &sizes, temporal);
        }
        for layers in wanted {
            self.net.event(key, Event::WantedLayers(layers));
        }
    }
}
