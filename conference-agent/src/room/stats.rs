//! Statistics: what a room knows of its streams and subscriptions, whom to ask for the rest ([`StatsPlan`]), and both put together.

use std::collections::{BTreeMap, HashMap};

use kaigi_proto::{
    ids::{StreamId, SubscriptionId, TrackId, TransportId, WorkerId},
    v1,
};

use super::{
    Room,
    decisions::Served,
    media::{Node, Source},
    output::Reply,
    refusal::Refusal,
    state::{Carrier, Origin, SubscribedTrack, Subscription},
    views::View,
};

/// Of what.
#[derive(Clone, Debug)]
pub(crate) enum Counted {
    All,
    Stream(StreamId),
    Subscription(SubscriptionId),
}

/// What to ask of which nodes, and what is known without them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StatsPlan {
    pub(crate) questions: Vec<Question>,
    streams: Vec<PlannedStream>,
    subscriptions: Vec<PlannedSubscription>,
}

/// What a node is asked: of all that the room has there, so that it is the same for whoever asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    pub(crate) node: Node,
    pub(crate) of: Countable,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Countable {
    Transports(Vec<TransportId>),
    /// Those that a mixer makes.
    Tracks(Vec<TrackId>),
    /// Those that a streaming-node pulls.
    Pulled(Vec<TrackId>),
}

#[derive(Clone, Debug, PartialEq)]
struct PlannedStream {
    id: StreamId,
    subscriptions: u32,
    made: Made,
}

#[derive(Clone, Debug, PartialEq)]
enum Made {
    Published(TransportId),
    Mixed(Vec<TrackId>),
    Pulled(Vec<TrackId>),
}

#[derive(Clone, Debug, PartialEq)]
struct PlannedSubscription {
    /// All but what its node counts.
    known: v1::SubscriptionStats,
    /// Of each track, whether it flows and whether less was asked for than there is.
    tracks: Vec<PlannedTrack>,
}

#[derive(Clone, Debug, PartialEq)]
struct PlannedTrack {
    mid: String,
    active: bool,
    asks_for_less: bool,
}

/// What nodes have answered.
#[derive(Debug, Default)]
pub(crate) struct NodeStats {
    pub(crate) transports: HashMap<String, v1::TransportStats>,
    pub(crate) tracks: HashMap<String, v1::TrackStats>,
}

impl Room {
    /// `wall_ms` is the time of day, Unix ms.
    pub(super) fn plan_stats(&self, of: &Counted, wall_ms: u64) -> Result<Reply, Refusal> {
        let mut plan = StatsPlan::default();
        match of {
            Counted::All => {
                let takers = self.takers();
                let views = self.state.views.iter().map(|view| &view.stream);
                for id in views.chain(self.state.publications.keys()) {
                    plan.streams.extend(self.plan_stream(id, takers.get(id).copied().unwrap_or(0)));
                }
                let all = self.state.subscriptions.iter();
                plan.subscriptions = all.map(|(id, s)| self.plan_subscription(id, s, wall_ms)).collect();
            }
            Counted::Stream(id) => {
                let takers = self.takers().get(id).copied().unwrap_or(0);
                plan.streams.push(self.plan_stream(id, takers).ok_or(Refusal::UnknownStream)?);
            }
            Counted::Subscription(id) => {
                let subscription = self.state.subscriptions.get(id).ok_or(Refusal::UnknownSubscription)?;
                plan.subscriptions.push(self.plan_subscription(id, subscription, wall_ms));
            }
        }
        plan.questions = self.questions(&plan);
        Ok(Reply::Stats(Box::new(plan)))
    }

    /// How many subscriptions take each stream.
    fn takers(&self) -> BTreeMap<&StreamId, u32> {
        let mut takers = BTreeMap::new();
        for subscription in self.state.subscriptions.values() {
            let of = |track: &'_ SubscribedTrack| match &track.from {
                Origin::Track { stream, .. } => {
                    self.state.publications.get_key_value(stream).map(|(id, _)| id)
                }
                Origin::View(label) => self.view(label).map(|view| &view.stream),
                Origin::Selected(slot) => self.selecting_stream(*slot),
            };
            let mut taken: Vec<&StreamId> = subscription.tracks.iter().filter_map(of).collect();
            let data = subscription.data.as_ref().and_then(|id| self.state.publications.get_key_value(id));
            taken.extend(data.map(|(id, _)| id));
            taken.sort_unstable();
            taken.dedup();
            for stream in taken {
                *takers.entry(stream).or_default() += 1;
            }
        }
        takers
    }

    fn plan_stream(&self, id: &StreamId, subscriptions: u32) -> Option<PlannedStream> {
        let made = match self.state.views.iter().find(|view| view.stream == *id) {
            Some(view) => Made::Mixed(outputs(view).map(|source| source.track.clone()).collect()),
            None => {
                let publication = self.state.publications.get(id)?;
                match &publication.carrier {
                    Carrier::Transport(transport) => Made::Published(transport.clone()),
                    Carrier::Analysis { .. } => {
                        Made::Mixed(publication.tracks.iter().map(|t| t.id.clone()).collect())
                    }
                    Carrier::Ingest(_) => {
                        Made::Pulled(publication.tracks.iter().map(|t| t.id.clone()).collect())
                    }
                }
            }
        };
        Some(PlannedStream { id: id.clone(), subscriptions, made })
    }

    fn plan_subscription(
        &self,
        id: &SubscriptionId,
        subscription: &Subscription,
        wall_ms: u64,
    ) -> PlannedSubscription {
        let told = |track: &SubscribedTrack| v1::SubscribedTrackStats {
            kind: track.kind.to_wire(),
            from: self.origin_id(&track.from, track.kind),
            format: track.negotiated.as_ref().map(super::Format::to_wire),
            asked: track.wish.parameters.to_wire(),
            bitrate_multiplier: track.wish.bitrate_multiplier.clone().unwrap_or_default(),
            served: Served::of(&track.from, self.tap_of(subscription, track).as_ref()).name().to_owned(),
            sent: None,
            decisions: self.decisions.to_messages(id, track.kind, wall_ms),
        };
        let planned = |track: &SubscribedTrack| PlannedTrack {
            mid: track.mid.clone(),
            active: track.active,
            asks_for_less: !track.conversion.keeps_parameters(),
        };
        PlannedSubscription {
            known: v1::SubscriptionStats {
                subscription_id: id.to_string(),
                participant_id: subscription.owner.to_string(),
                transport_id: subscription.transport.to_string(),
                tracks: subscription.tracks.iter().map(told).collect(),
                ..v1::SubscriptionStats::default()
            },
            tracks: subscription.tracks.iter().map(planned).collect(),
        }
    }

    /// All that the room has at the nodes that what is planned is at.
    fn questions(&self, plan: &StatsPlan) -> Vec<Question> {
        let published = plan.streams.iter().filter_map(|stream| match &stream.made {
            Made::Published(transport) => Some(transport.as_str()),
            Made::Mixed(_) | Made::Pulled(_) => None,
        });
        let wanted = published.chain(plan.subscriptions.iter().map(|s| s.known.transport_id.as_str()));
        let place = |id: &str| self.state.transports.get(id).and_then(|transport| transport.node.as_ref());
        let mut access: BTreeMap<&WorkerId, (&Node, Vec<TransportId>)> =
            wanted.filter_map(place).map(|node| (&node.worker, (node, Vec::new()))).collect();
        for (id, transport) in &self.state.transports {
            let at = transport.node.as_ref().and_then(|node| access.get_mut(&node.worker));
            if let Some((_, transports)) = at {
                transports.push(id.clone());
            }
        }
        let mut mixers: BTreeMap<&WorkerId, (&Node, Vec<TrackId>)> = BTreeMap::new();
        if plan.streams.iter().any(|stream| matches!(stream.made, Made::Mixed(_))) {
            for source in self.state.views.iter().flat_map(outputs) {
                let (_, tracks) =
                    mixers.entry(&source.node.worker).or_insert_with(|| (&source.node, Vec::new()));
                tracks.push(source.track.clone());
            }
        }
        let pulled = plan.streams.iter().any(|stream| matches!(stream.made, Made::Pulled(_)));
        let pulled = self.state.streaming.as_ref().filter(|_| pulled).map(|node| {
            let ingests = self.state.ingests.keys().filter_map(|id| self.state.publications.get(id));
            let tracks = ingests.flat_map(|publication| &publication.tracks).map(|track| track.id.clone());
            Question { node: node.clone(), of: Countable::Pulled(tracks.collect()) }
        });
        let question = |node: &Node, of| Question { node: node.clone(), of };
        let access =
            access.into_values().map(|(node, transports)| question(node, Countable::Transports(transports)));
        let mixers = mixers.into_values().map(|(node, tracks)| question(node, Countable::Tracks(tracks)));
        access.chain(mixers).chain(pulled).collect()
    }
}

/// All that a mixer makes of a view.
fn outputs(view: &View) -> impl Iterator<Item = &Source> {
    view.outputs.iter().flat_map(|made| {
        let own = made.video.iter().chain(&made.audio);
        own.chain(made.minus.values()).chain(made.others.sources.values())
    })
}

impl StatsPlan {
    /// What is told: what the nodes did not answer is empty.
    pub(crate) fn complete(self, time_ms: u64, counted: &[impl AsRef<NodeStats>]) -> v1::RoomStatsReply {
        let transport = |id: &str| counted.iter().find_map(|node| node.as_ref().transports.get(id));
        let track = |id: &TrackId| counted.iter().find_map(|node| node.as_ref().tracks.get(id.as_str()));
        let streams = self.streams.into_iter().map(|stream| {
            let (rtt_us, tracks) = match &stream.made {
                Made::Published(id) => transport(id.as_str())
                    .map(|transport| (transport.rtt_us, session(transport, stream.id.as_str()).to_vec()))
                    .unwrap_or_default(),
                Made::Pulled(tracks) => (0, tracks.iter().filter_map(track).cloned().collect()),
                Made::Mixed(tracks) => {
                    let runs = |track: &&v1::TrackStats| track.takers > 0 || track.flowing;
                    (0, tracks.iter().filter_map(track).filter(runs).cloned().collect())
                }
            };
            v1::StreamStats {
                stream_id: stream.id.to_string(),
                rtt_us,
                tracks,
                subscriptions: stream.subscriptions,
            }
        });
        let subscriptions = self.subscriptions.into_iter().map(|planned| {
            let transport = transport(&planned.known.transport_id);
            planned.complete(transport)
        });
        v1::RoomStatsReply { time_ms, streams: streams.collect(), subscriptions: subscriptions.collect() }
    }
}

impl PlannedSubscription {
    fn complete(self, transport: Option<&v1::TransportStats>) -> v1::SubscriptionStats {
        let mut told = self.known;
        told.rtt_us = transport.map_or(0, |transport| transport.rtt_us);
        told.estimated_bitrate = transport.map_or(0, |transport| transport.estimated_bitrate);
        let counted = transport.map(|transport| session(transport, &told.subscription_id));
        for (track, planned) in told.tracks.iter_mut().zip(self.tracks) {
            let sent = counted.and_then(|tracks| tracks.iter().find(|sent| sent.kind == track.kind));
            track.sent = Some(planned.complete(track.kind, sent));
        }
        told
    }
}

impl PlannedTrack {
    fn complete(self, kind: i32, counted: Option<&v1::TrackStats>) -> v1::TrackStats {
        let Some(counted) = counted else {
            let limit = if self.active { v1::Limit::Unspecified } else { v1::Limit::Paused };
            return v1::TrackStats { kind, mid: self.mid, limit: limit.into(), ..v1::TrackStats::default() };
        };
        // The node sends all of what it is given, which may be made smaller on purpose.
        let limit = match counted.limit() {
            v1::Limit::None if self.asks_for_less => v1::Limit::Asked,
            limit => limit,
        };
        v1::TrackStats { limit: limit.into(), ..counted.clone() }
    }
}

fn session<'a>(transport: &'a v1::TransportStats, id: &str) -> &'a [v1::TrackStats] {
    let session = transport.sessions.iter().find(|session| session.session_id == id);
    session.map(|session| session.tracks.as_slice()).unwrap_or_default()
}
