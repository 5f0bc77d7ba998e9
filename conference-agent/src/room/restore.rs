//! A room goes on where another agent has left it: what nobody was told of is dropped, and the nodes are told what is to be.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use kaigi_proto::ids::{RoomId, StreamId, SubscriptionId, TransportId};

use super::{
    Decisions, EgressLink, FlowLink, IdSource, MixerLink, Moves, Room, Saved, Settings, Snapshot,
    SpeakersLink, Told,
    egress::link::Part,
    media::Kind,
    sessions::SessionKey,
    state::{Carrier, Phase, Placement, State},
};

impl Room {
    /// The room as it was written down, under the epoch of the one who takes it over.
    pub(crate) fn restore(id: RoomId, snapshot: Snapshot, settings: Settings, now: Instant) -> Self {
        let Snapshot { config, state, unanswered, ending } = snapshot;
        let mut room = Self {
            ids: IdSource::new(settings.seed),
            idle_until: state.participants.is_empty().then(|| now + settings.idle),
            mixer: MixerLink::new(&config),
            moves: Moves::default(),
            flows: FlowLink::default(),
            decisions: Decisions::new(now),
            egress: EgressLink::default(),
            analytics_requests: std::collections::BTreeMap::new(),
            told: Told::default(),
            speakers: SpeakersLink::default(),
            saved: Saved::default(),
            asking: None,
            adopting: std::collections::BTreeMap::new(),
            state,
            id,
            config,
            settings,
            outputs: VecDeque::new(),
            ended: false,
            next_call: 0,
            calls: std::collections::BTreeMap::new(),
            opening: std::collections::BTreeMap::new(),
            scripts: std::collections::BTreeMap::new(),
            updates: std::collections::BTreeMap::new(),
            lingering: std::collections::BTreeMap::new(),
            views_changed: true,
        };
        room.conditions_are_told();
        room.forget_unanswered(&unanswered);
        room.forget_half_open();
        for (id, input) in ending {
            room.egress.parts.insert(id, Part::left(input));
        }
        for id in room.state.ingests.keys() {
            room.egress.parts.insert(id.to_string(), Part::left(true));
        }
        room.assume_flows();
        room.adopt_all();
        room.tell_selection();
        room.settle(now);
        room
    }

    /// Recordings, broadcasts and streams from elsewhere whose requesters know nothing of them: if they ask again, they get others.
    fn forget_unanswered(&mut self, unanswered: &[String]) {
        for id in unanswered {
            self.state.analytics.remove(id);
            let member_of = self.state.egresses.get(id).and_then(|egress| egress.member().cloned());
            if let Some((collection, _)) = member_of {
                let of_it =
                    |member: Option<&(String, StreamId)>| member.is_some_and(|(of, _)| *of == collection);
                self.state.egresses.retain(|_, egress| !of_it(egress.member()));
                self.state.collections.remove(&collection);
            }
            let input = self.state.ingests.remove(id.as_str()).is_some();
            if self.state.egresses.remove(id).is_some() || input {
                // A node that has begun is to end it.
                self.egress.parts.insert(id.clone(), Part::left(input));
            }
        }
    }

    /// Sessions that their requesters don't know of, and transports that were made for them. What of it the nodes have ends when they
    /// are told what there is.
    fn forget_half_open(&mut self) {
        let half_open = |phase: &Phase| matches!(phase, Phase::Placing | Phase::Opening);
        let State { participants, transports, publications, subscriptions, .. } = &mut self.state;
        let dangling = |owner, transport: &TransportId| {
            !participants.contains_key(owner) || transports.get(transport).is_none_or(|t| t.node.is_none())
        };
        let mut gone: BTreeSet<String> = BTreeSet::new();
        for (id, publication) in publications.iter() {
            let astray = match &publication.carrier {
                Carrier::Transport(transport) => dangling(&publication.owner, transport),
                Carrier::Ingest(_) | Carrier::Analysis { .. } => false,
            };
            if half_open(&publication.phase) || astray {
                gone.insert(id.to_string());
            }
        }
        for (id, subscription) in subscriptions.iter() {
            if half_open(&subscription.phase) || dangling(&subscription.owner, &subscription.transport) {
                gone.insert(id.to_string());
            }
        }
        // Those that were there for nobody but the session that they were made for.
        publications.retain(|id, _| !gone.contains(id.as_str()));
        subscriptions.retain(|id, _| !gone.contains(id.as_str()));
        let used: BTreeSet<TransportId> = publications
            .values()
            .filter_map(|p| p.transport().cloned())
            .chain(subscriptions.values().map(|s| s.transport.clone()))
            .collect();
        transports.retain(|id, transport| {
            let owned = participants.contains_key(&transport.owner) && transport.node.is_some();
            owned && (used.contains(id) || !gone.contains(id.as_str()))
        });
        let scheduling: Vec<_> = participants
            .iter()
            .filter(|(_, participant)| participant.access == Placement::Scheduling)
            .map(|(id, _)| id.clone())
            .collect();
        for id in scheduling {
            if let Some(participant) = participants.get_mut(&id) {
                participant.access = Placement::Nowhere;
            }
        }
    }

    /// What does not flow has been stopped, or is by the adoption.
    fn assume_flows(&mut self) {
        let mut stopped: Vec<(SessionKey, Kind)> = Vec::new();
        for (id, publication) in &self.state.publications {
            let tracks = publication.tracks.iter().filter(|track| !track.active);
            stopped.extend(tracks.map(|track| (SessionKey::Publication(StreamId::clone(id)), track.kind)));
        }
        for (id, subscription) in &self.state.subscriptions {
            let tracks = subscription.tracks.iter().filter(|track| !track.active);
            stopped.extend(
                tracks.map(|track| (SessionKey::Subscription(SubscriptionId::clone(id)), track.kind)),
            );
        }
        for (session, kind) in stopped {
            self.flows.assume(&session, kind, false);
        }
    }
}
