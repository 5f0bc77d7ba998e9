//! Tracks of others that clients here get, and those of other nodes in particular.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kaigi_media::{
    link::{FromProducer, LinkConsumer, LinkError, LinkKeys, REPORT_INTERVAL},
    rtp::{RtpHeader, is_rtcp},
};
use kaigi_proto::{
    ids::{AttachmentId, TrackId, WorkerId},
    v1,
};
use rand::RngCore;

use super::{LinkTimer, Links, Node, workers::Giver};
use crate::{
    forward::{Origin, Supply},
    keys::{FlowKey, SourceKey},
    node::{LinkCall, TrackSource},
    sdp::{Extensions, Format, Kind},
};

/// First and longest pause before a track is asked for again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A flow that is silent that long may have ended at the producer: it is asked for anew. A muted track is silent too, so
/// the pause doubles each time, up to [`MAX_SILENCE`].
const SILENCE: Duration = Duration::from_secs(5);
/// See [`SILENCE`].
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// A flow from others.
pub struct Flow {
    pub(super) track: TrackId,
    pub(super) kind: Kind,
    pub(super) source: SourceKey,
    pub(super) way: Way,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("track", &self.track).finish_non_exhaustive()
    }
}

/// How it comes.
pub(super) enum Way {
    /// From another node.
    Node(NodeFlow),
    /// From another worker of the process, if one has it.
    Worker(Option<Giver>),
}

/// What is known of a flow from another node.
pub(super) struct NodeFlow {
    /// The producer: a process that was started again has the endpoint of the one before, and none of its flows.
    worker: WorkerId,
    endpoint: String,
    pub(super) state: FlowState,
    failures: u32,
    /// Silence after which it is asked for anew.
    patience: Duration,
}

pub(super) enum FlowState {
    /// Asked for.
    Attaching(Box<Attached>),
    /// Flowing.
    Attached { link: Box<Attached>, producer: SocketAddr, last_packet: Instant, next_report: Instant },
    /// To be asked for again.
    Waiting(Instant),
    /// Neither asked for nor to be.
    Withdrawn,
}

pub(super) struct Attached {
    id: AttachmentId,
    ssrc: u32,
    pub(super) consumer: LinkConsumer,
}

impl NodeFlow {
    fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            FlowState::Attaching(_) | FlowState::Withdrawn => None,
            FlowState::Attached { last_packet, next_report, .. } => {
                Some((*next_report).min(*last_packet + self.patience))
            }
            FlowState::Waiting(until) => Some(*until),
        }
    }
}

impl Links {
    /// A flow from another node.
    fn node_flow(&mut self, key: FlowKey) -> Option<(SourceKey, &TrackId, Kind, &mut NodeFlow)> {
        let flow = self.flows.get_mut(key)?;
        match &mut flow.way {
            Way::Node(node) => Some((flow.source, &flow.track, flow.kind, node)),
            Way::Worker(_) => None,
        }
    }
}

impl Node {
    /// Sees to it that a track of another node comes in.
    pub(in crate::node) fn ensure_flow(&mut self, now: Instant, source: SourceKey, from: &TrackSource) {
        if let Some(&key) = self.net.links.flows_by_source.get(&source) {
            let same = self.net.links.node_flow(key).is_some_and(|(.., flow)| flow.worker == from.worker);
            if same {
                return;
            }
            self.end_flow(key);
        }
        let way = Way::Node(NodeFlow {
            worker: from.worker.clone(),
            endpoint: from.endpoint.clone(),
            state: FlowState::Withdrawn,
            failures: 0,
            patience: SILENCE,
        });
        if let Some(key) = self.add_flow(source, &from.track, way) {
            self.ask(now, key);
        }
    }

    pub(super) fn add_flow(&mut self, source: SourceKey, track: &TrackId, way: Way) -> Option<FlowKey> {
        let links = &mut self.net.links;
        if links.flows.len() >= self.config.limits.links {
            tracing::warn!(%track, "too many flows from others");
            return None;
        }
        let kind = self.forward.source(source)?.kind;
        let key = links.flows.insert(Flow { track: track.clone(), kind, source, way });
        links.flows_by_source.insert(source, key);
        Some(key)
    }

    /// Asks the producer for the track under new keys.
    fn ask(&mut self, now: Instant, key: FlowKey) {
        let (random, ssrc) = (self.random_text(16), self.rng.next_u32().max(2));
        let links = &mut self.net.links;
        let Some((_, track, _, flow)) = links.node_flow(key) else { return };
        let keys = LinkKeys::random();
        let consumer = LinkConsumer::new(&keys, ssrc);
        let (Ok(id), Ok(consumer)) = (AttachmentId::new(random), consumer) else { return };
        let request = keys.attach_request(id.as_str(), track.as_str(), self.config.link_address, ssrc);
        let endpoint = flow.endpoint.clone();
        flow.state = FlowState::Attaching(Box::new(Attached { id, ssrc, consumer }));
        links.flows_by_ssrc.insert(ssrc, key);
        links.timers.set(LinkTimer::Flow(key), Some(now + RETRY.1));
        self.net.output.calls.push(LinkCall::Attach { flow: key, endpoint, request });
    }

    /// What came of asking another node for a track.
    pub fn attached(
        &mut self,
        now: Instant,
        key: FlowKey,
        request: &v1::AttachRequest,
        reply: Result<v1::AttachReply, tonic::Status>,
    ) {
        let links = &mut self.net.links;
        let Some((source, track, kind, flow)) = links.node_flow(key) else {
            // Nobody wants it any more.
            return;
        };
        let current =
            matches!(&flow.state, FlowState::Attaching(a) if a.id.as_str() == request.attachment_id);
        if !current {
            return;
        }
        let parsed = reply.and_then(|reply| {
            let producer = reply.producer_address.parse::<SocketAddr>();
            let extension = |id| u8::try_from(id).ok().filter(|id| (1..=14).contains(id));
            let dependency = extension(reply.dependency_descriptor_id);
            let audio_level = extension(reply.audio_level_id);
            let format = Format::from_message(&reply.format.unwrap_or_default());
            match (producer, format.filter(|f| f.codec.is_video() == (kind == Kind::Video))) {
                (Ok(producer), Some(format)) => {
                    Ok((producer, format, Extensions { dependency, audio_level, ..Extensions::default() }))
                }
                _ => Err(tonic::Status::internal("the producer's reply is unusable")),
            }
        });
        let (producer, format, extensions) = match parsed {
            Ok(parsed) => parsed,
            Err(status) => {
                tracing::debug!(%track, endpoint = flow.endpoint, %status, "track not attached");
                return self.retry(now, key);
            }
        };
        flow.failures = 0;
        let state = std::mem::replace(&mut flow.state, FlowState::Withdrawn);
        let FlowState::Attaching(link) = state else { return };
        flow.state = FlowState::Attached { link, producer, last_packet: now, next_report: now };
        links.timers.set(LinkTimer::Flow(key), Some(now));
        let supply =
            Supply { origin: Origin::Flow(key), format, extensions, nack: true, red: None, ssrc: None };
        self.forward.supply(now, source, supply, &mut self.net);
    }

    fn retry(&mut self, now: Instant, key: FlowKey) {
        self.withdraw(key);
        let links = &mut self.net.links;
        let Some((.., flow)) = links.node_flow(key) else { return };
        let pause = RETRY.1.min(RETRY.0 * 2u32.saturating_pow(flow.failures.min(10)));
        flow.failures = flow.failures.saturating_add(1);
        flow.state = FlowState::Waiting(now + pause);
        links.timers.set(LinkTimer::Flow(key), Some(now + pause));
    }

    /// Takes back what was asked for.
    pub(super) fn withdraw(&mut self, key: FlowKey) {
        let links = &mut self.net.links;
        let Some(flow) = links.flows.get_mut(key) else { return };
        let source = flow.source;
        match &mut flow.way {
            Way::Node(node) => {
                let link = match std::mem::replace(&mut node.state, FlowState::Withdrawn) {
                    FlowState::Attaching(link) => link,
                    FlowState::Attached { link, .. } => link,
                    FlowState::Waiting(_) | FlowState::Withdrawn => return,
                };
                links.flows_by_ssrc.remove(&link.ssrc);
                let endpoint = node.endpoint.clone();
                self.net.output.calls.push(LinkCall::Detach { endpoint, attachment: link.id });
            }
            Way::Worker(giver) => {
                *giver = None;
                let track = flow.track.clone();
                self.want_no_more(key, &track);
            }
        }
        self.forward.end_supply(source);
    }

    pub(super) fn handle_flow(&mut self, now: Instant, key: FlowKey, bytes: &[u8]) {
        let Some((source, _, _, flow)) = self.net.links.node_flow(key) else { return };
        // Before the reply to the request is here there is no format to forward it as.
        let FlowState::Attached { link, last_packet, .. } = &mut flow.state else { return };
        if is_rtcp(bytes) {
            match link.consumer.unprotect(bytes) {
                Ok(FromProducer::SenderReport { ntp, rtp }) => {
                    self.forward.sender_report(now, source, ntp, rtp, &mut self.net);
                }
                Ok(FromProducer::Rtp(_) | FromProducer::Other) => {}
                Err(error) => self.link_datagram_dropped(&error),
            }
            return;
        }
        let mut plain = std::mem::take(&mut self.plain);
        match link.consumer.unprotect_rtp_into(bytes, &mut plain) {
            Ok(()) => {
                *last_packet = now;
                flow.patience = SILENCE;
                self.net.counters.link_packets_in += 1;
                if let Ok(header) = RtpHeader::parse(&plain) {
                    self.forward.receive(now, source, &plain, &header, false, &mut self.net);
                }
            }
            Err(error) => self.link_datagram_dropped(&error),
        }
        self.plain = plain;
    }

    fn link_datagram_dropped(&mut self, error: &LinkError) {
        tracing::trace!(%error, "link datagram dropped");
        self.net.counters.malformed += 1;
    }

    pub(super) fn flow_timeout(&mut self, now: Instant, key: FlowKey) {
        let Some((.., flow)) = self.net.links.node_flow(key) else { return };
        match &mut flow.state {
            // The call has a deadline of its own; this is for the case that its answer gets lost.
            FlowState::Attaching(_) => self.net.links.timers.set(LinkTimer::Flow(key), Some(now + RETRY.1)),
            FlowState::Withdrawn => {}
            FlowState::Waiting(until) if *until <= now => self.ask(now, key),
            FlowState::Waiting(until) => {
                let until = *until;
                self.net.links.timers.set(LinkTimer::Flow(key), Some(until));
            }
            FlowState::Attached { last_packet, .. } if now >= *last_packet + flow.patience => {
                flow.patience = (flow.patience * 2).min(MAX_SILENCE);
                self.withdraw(key);
                self.ask(now, key);
            }
            FlowState::Attached { link, producer, next_report, .. } => {
                let mut report = None;
                if now >= *next_report {
                    *next_report = now + REPORT_INTERVAL;
                    report = link.consumer.report().ok().map(|report| (*producer, report));
                }
                let next = flow.next_timeout();
                if let Some((to, report)) = report {
                    self.net.output.link_datagrams.push(to, &report);
                }
                self.net.links.timers.set(LinkTimer::Flow(key), next);
            }
        }
    }
}
