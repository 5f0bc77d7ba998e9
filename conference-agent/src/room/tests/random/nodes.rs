//! What the nodes know.

use std::collections::{BTreeMap, BTreeSet};

use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1,
};

use crate::room::{CallReply, CallRequest, FeedOnWire, Kind};

/// What the nodes know from the calls that they were made.
#[derive(Debug, Default)]
pub(super) struct NodeModel {
    /// Sessions of each transport.
    pub(super) transports: BTreeMap<String, BTreeSet<String>>,
    pub(super) views: BTreeMap<String, v1::ViewDescription>,
    pub(super) transcoders: BTreeMap<String, v1::TranscoderDescription>,
    /// Where each kind of a subscription is taken.
    pub(super) feeds: BTreeMap<(String, i32), FeedOnWire>,
    /// Session and kind of what does not flow.
    pub(super) stopped: BTreeSet<(String, i32)>,
    /// Where the data of subscriptions comes from.
    pub(super) data: BTreeMap<String, Option<v1::DataSource>>,
    /// Who is in the room's slots.
    pub(super) selection: Option<v1::AudioSelection>,
}

impl NodeModel {
    /// What it answers to an agent that takes over.
    pub(super) fn adopt(&mut self, request: &CallRequest) -> Option<CallReply> {
        match request {
            CallRequest::AdoptRoom(call) => {
                self.transports.retain(|id, _| call.transport_ids.contains(id));
                let there = self.transports.keys().map(|id| TransportId::new(id).unwrap());
                Some(CallReply::Adopted(there.collect()))
            }
            CallRequest::AdoptTransports(call) => {
                let mut missing = Vec::new();
                for transport in &call.transports {
                    let named: Vec<&String> = transport.sessions.iter().map(|s| &s.session_id).collect();
                    let there = self.transports.get_mut(&transport.transport_id);
                    let there = there.map(|sessions| {
                        sessions.retain(|id| named.contains(&id));
                        sessions.clone()
                    });
                    let there = there.unwrap_or_default();
                    for session in &transport.sessions {
                        if there.contains(&session.session_id) {
                            self.adopt_session(session);
                        } else {
                            missing.push(SessionId::new(&session.session_id).unwrap());
                        }
                    }
                }
                Some(CallReply::Missing(missing))
            }
            _ => None,
        }
    }

    fn adopt_session(&mut self, session: &v1::AdoptedSession) {
        for kind in Kind::ALL {
            let key = (session.session_id.clone(), kind.to_wire());
            let stopped = session.stopped.unwrap_or_default();
            let stops = if kind == Kind::Audio { stopped.audio } else { stopped.video };
            if stops {
                self.stopped.insert(key)
            } else {
                self.stopped.remove(&key)
            };
        }
        for call in &session.sources {
            self.take(&CallRequest::SetSource(call.clone()));
        }
    }

    pub(super) fn take(&mut self, request: &CallRequest) {
        let mut open = |transport: &str, session: &str| {
            self.transports.entry(transport.to_owned()).or_default().insert(session.to_owned());
        };
        let mut select = |selection: &Option<v1::AudioSelection>| {
            let known = self.selection.as_ref().map(|known| known.revision);
            assert!(known <= selection.as_ref().map(|selection| selection.revision), "an older selection");
            self.selection.clone_from(selection);
        };
        match request {
            CallRequest::OpenPublication(call) => {
                open(&call.transport_id, &call.session_id);
                select(&call.selection);
            }
            CallRequest::SelectAudio(call) => select(&call.selection),
            CallRequest::OpenSubscription(call) => {
                select(&call.selection);
                open(&call.transport_id, &call.session_id);
                self.data.insert(call.session_id.clone(), call.data.clone());
                for track in &call.tracks {
                    let told = FeedOnWire {
                        source: track.source.clone(),
                        layers: track.layers.clone(),
                        wanted: track.wanted,
                        selected: track.selected.clone(),
                    };
                    self.feeds.insert((call.session_id.clone(), track.kind), told);
                }
            }
            CallRequest::CloseSession(call) => {
                if let Some(sessions) = self.transports.get_mut(&call.transport_id) {
                    sessions.remove(&call.session_id);
                }
            }
            CallRequest::CloseTransport(call) => drop(self.transports.remove(&call.transport_id)),
            CallRequest::SetActive(call) => {
                let key = (call.session_id.clone(), call.kind);
                let known = self.transports.get(&call.transport_id).is_some_and(|s| s.contains(&key.0));
                if known && !call.active {
                    self.stopped.insert(key);
                } else {
                    self.stopped.remove(&key);
                }
            }
            CallRequest::SetView(view) => {
                let before = self.views.insert(view.label.clone(), (**view).clone());
                assert!(before.is_none_or(|before| before.revision <= view.revision));
            }
            CallRequest::SetTranscoder(transcoder) => {
                let before = self.transcoders.insert(transcoder.id.clone(), (**transcoder).clone());
                assert!(before.is_none_or(|before| before.revision <= transcoder.revision));
            }
            CallRequest::RemoveTranscoder(call) => drop(self.transcoders.remove(&call.id)),
            CallRequest::SetSource(call) => {
                let told = FeedOnWire {
                    source: call.source.clone(),
                    layers: call.layers.clone(),
                    wanted: call.wanted,
                    selected: call.selected.clone(),
                };
                self.feeds.insert((call.session_id.clone(), call.kind), told);
            }
            CallRequest::AdoptRoom(_) | CallRequest::AdoptTransports(_) => {}
            CallRequest::RemoveView(call) => drop(self.views.remove(&call.label)),
            CallRequest::SetOutput(_)
            | CallRequest::RemoveOutput(_)
            | CallRequest::Schedule(_)
            | CallRequest::Release(_)
            | CallRequest::EstimateBandwidth(_)
            | CallRequest::Signal(_)
            | CallRequest::SetInput(_)
            | CallRequest::RemoveInput(_) => {}
        }
    }
}
