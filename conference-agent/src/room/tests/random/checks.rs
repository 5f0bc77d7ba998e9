//! What flows, and whether it may.

use std::collections::{BTreeMap, BTreeSet};

use super::Play;
use crate::room::{Kind, state::Phase};

impl Play {
    /// Nothing flows, or could flow, that is not permitted.
    pub(super) fn check_permissions(&self) {
        let state = &self.world.room.state;
        for (id, publication) in &state.publications {
            let permitted = state.participants[&publication.owner].publish;
            let kinds: Vec<Kind> = if publication.phase == Phase::Established {
                publication.tracks.iter().map(|track| track.kind).collect()
            } else {
                publication.requested.iter().map(|track| track.kind).collect()
            };
            let data = publication.data && permitted.any();
            assert!(data || kinds.iter().any(|kind| permitted.has(*kind)), "{id} may not be");
            assert!(publication.tracks.iter().all(|track| permitted.has(track.kind) || !track.active));
            let withheld = publication.withheld;
            assert!(Kind::ALL.into_iter().all(|kind| !(permitted.has(kind) && withheld.has(kind))));
        }
        for (id, subscription) in &state.subscriptions {
            let permitted = state.participants[&subscription.owner].subscribe;
            let data = subscription.data.is_some() && permitted.any();
            let media = subscription.tracks.iter().any(|track| permitted.has(track.kind));
            assert!(data || media, "{id} may not be");
            assert!(subscription.tracks.iter().all(|track| permitted.has(track.kind) || !track.active));
            let withheld = subscription.withheld;
            assert!(Kind::ALL.into_iter().all(|kind| !(permitted.has(kind) && withheld.has(kind))));
        }
    }

    /// The access nodes stop what is inactive in the room, and nothing else.
    pub(super) fn check_flows(&self) {
        let state = &self.world.room.state;
        let publications = state.publications.iter().flat_map(|(id, publication)| {
            let tracks = publication.tracks.iter().filter(|track| !track.active);
            tracks.map(move |track| {
                (id.to_string(), publication.transport().expect("nobody pulls"), track.kind)
            })
        });
        let subscriptions = state.subscriptions.iter().flat_map(|(id, subscription)| {
            let tracks = subscription.tracks.iter().filter(|track| !track.active);
            tracks.map(move |track| (id.to_string(), &subscription.transport, track.kind))
        });
        let mut expected: BTreeMap<String, BTreeSet<(String, i32)>> = BTreeMap::new();
        for (id, transport, kind) in publications.chain(subscriptions) {
            let at = state.transports[transport].node.as_ref().unwrap().worker.to_string();
            expected.entry(at).or_default().insert((id, kind.to_wire()));
        }
        for (name, model) in &self.nodes {
            let there =
                |(session, _): &&(String, i32)| model.transports.values().any(|s| s.contains(session));
            let stopped: BTreeSet<_> = model.stopped.iter().filter(there).cloned().collect();
            assert_eq!(stopped, expected.remove(name).unwrap_or_default(), "what does not flow at {name}");
        }
        assert!(expected.is_empty(), "flows at no node: {expected:?}");
    }
}
