//! The media link: tracks of this node that other nodes get ([`Attachment`]), and tracks of other nodes that clients here get
//! ([`Flow`]).

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use kaigi_media::{
    link::{
        CONSUMER_TIMEOUT, Feedback, FromProducer, LinkConsumer, LinkError, LinkKeys, LinkProducer,
        REPORT_INTERVAL,
    },
    rtp::{RtpHeader, is_rtcp},
};
use kaigi_proto::{
    ids::{AttachmentId, TrackId, WorkerId},
    v1,
};
use rand::RngCore;

use super::{LinkCall, Node, NodeError, TrackSource};
use crate::{
    arena::Arena,
    forward::{Origin, Supply},
    keys::{AttachmentKey, AttachmentTag, FlowKey, FlowTag, SinkKey, SourceKey},
    sdp::{Extensions, Format, Kind},
    timers::Timers,
};

/// Payload types on the link, where each flow has one format only.
const AUDIO_PAYLOAD: u8 = 111;
/// See [`AUDIO_PAYLOAD`].
const VIDEO_PAYLOAD: u8 = 96;
/// First and longest pause before a track is asked for again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A flow that is silent that long may have ended at the producer: it is asked for anew. A muted track is silent too, so
/// the pause doubles each time, up to [`MAX_SILENCE`].
const SILENCE: Duration = Duration::from_secs(5);
/// See [`SILENCE`].
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// A flow to another node.
#[derive(Debug)]
pub struct Attachment {
    id: AttachmentId,
    pub(super) producer: LinkProducer,
    sink: SinkKey,
}

/// A flow from another node.
pub struct Flow {
    track: TrackId,
    kind: Kind,
    source: SourceKey,
    /// The producer: a process that was started again has the endpoint of the one before, and none of its flows.
    worker: WorkerId,
    endpoint: String,
    state: FlowState,
    failures: u32,
    /// Silence after which it is asked for anew.
    patience: Duration,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow")
            .field("track", &self.track)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

enum FlowState {
    /// Asked for.
    Attaching(Box<Attached>),
    /// Flowing.
    Attached { link: Box<Attached>, producer: SocketAddr, last_packet: Instant, next_report: Instant },
    /// To be asked for again.
    Waiting(Instant),
    /// Neither asked for nor to be.
    Withdrawn,
}

struct Attached {
    id: AttachmentId,
    ssrc: u32,
    consumer: LinkConsumer,
}

/// Both kinds of flows of a node.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) attachments: Arena<Attachment, AttachmentTag>,
    by_consumer: HashMap<(SocketAddr, u32), AttachmentKey>,
    flows: Arena<Flow, FlowTag>,
    flows_by_ssrc: HashMap<u32, FlowKey>,
    flows_by_source: HashMap<SourceKey, FlowKey>,
    pub(super) timers: Timers<LinkTimer>,
}

/// What the links' deadlines are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LinkTimer {
    Attachment(AttachmentKey),
    Flow(FlowKey),
}

impl Links {
    /// Feedback of a flow to its producer, protected, if the flow is attached.
    pub(super) fn feedback(
        &mut self,
        key: FlowKey,
        make: impl FnOnce(&mut LinkConsumer) -> Result<BytesMut, LinkError>,
    ) -> Option<(SocketAddr, BytesMut)> {
        let FlowState::Attached { link, producer, .. } = &mut self.flows.get_mut(key)?.state else {
            return None;
        };
        Some((*producer, make(&mut link.consumer).ok()?))
    }
}

impl Flow {
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

impl Node {
    /// Another node wants a track of this one.
    ///
    /// # Errors
    /// If the track is not published here (yet), or the request is unusable.
    pub fn attach(
        &mut self,
        now: Instant,
        request: &v1::AttachRequest,
    ) -> Result<v1::AttachReply, NodeError> {
        let id = AttachmentId::new(&request.attachment_id)?;
        let track = TrackId::new(&request.track_id)?;
        let source_key = self.forward.find(&track).ok_or(NodeError::UnknownTrack)?;
        let source = self.forward.source(source_key).ok_or(NodeError::UnknownTrack)?;
        let supply = source.supply.as_ref().ok_or(NodeError::UnknownTrack)?;
        let Origin::Publisher(_) = supply.origin else { return Err(NodeError::UnknownTrack) };
        let (kind, format) = (source.kind, supply.format);
        let payload_type = match kind {
            Kind::Audio => AUDIO_PAYLOAD,
            Kind::Video => VIDEO_PAYLOAD,
        };
        let reply = v1::AttachReply {
            producer_address: self.config.link_address.to_string(),
            format: Some(format.to_message()),
            payload_type: payload_type.into(),
            clock_rate: format.clock_rate(),
        };
        if self.by_attachment.contains_key(&id) {
            return Ok(reply);
        }
        if self.net.links.attachments.len() >= self.config.limits.links {
            return Err(NodeError::TooMany("attachments"));
        }
        let producer = LinkProducer::new(now, request, payload_type)
            .map_err(|error| NodeError::Invalid(error.to_string()))?;
        let consumer = (producer.consumer_address(), producer.ssrc());
        if self.net.links.by_consumer.contains_key(&consumer) {
            return Err(NodeError::InUse("SSRC"));
        }
        // The sink is made first so that the attachment never lacks one; its key is filled in once the attachment has one.
        let links = &mut self.net.links;
        let key = links.attachments.insert_with(|key| {
            let sink = self.forward.add_link_sink(kind, key);
            Attachment { id: id.clone(), producer, sink }
        });
        links.by_consumer.insert(consumer, key);
        links.timers.set(LinkTimer::Attachment(key), Some(now + CONSUMER_TIMEOUT));
        self.by_attachment.insert(id, key);
        if let Some(sink) = self.net.links.attachments.get(key).map(|a| a.sink) {
            self.forward.connect(now, sink, source_key, &mut self.net);
        }
        tracing::debug!(%track, consumer = %consumer.0, "attached");
        Ok(reply)
    }

    /// Another node wants a track no more.
    pub fn detach(&mut self, id: &AttachmentId) {
        if let Some(key) = self.by_attachment.get(id) {
            self.end_attachment(*key);
        }
    }

    fn end_attachment(&mut self, key: AttachmentKey) {
        let Some(attachment) = self.net.links.attachments.remove(key) else { return };
        self.by_attachment.remove(&attachment.id);
        let consumer = (attachment.producer.consumer_address(), attachment.producer.ssrc());
        self.net.links.by_consumer.remove(&consumer);
        for source in self.forward.remove_sink(attachment.sink) {
            self.release_source(source);
        }
    }

    /// Sees to it that a track of another node comes in.
    pub(super) fn ensure_flow(&mut self, now: Instant, source: SourceKey, from: &TrackSource) {
        if let Some(&key) = self.net.links.flows_by_source.get(&source) {
            let same = self.net.links.flows.get(key).is_some_and(|flow| flow.worker == from.worker);
            if same {
                return;
            }
            self.end_flow(key);
        }
        if self.net.links.flows.len() >= self.config.limits.links {
            tracing::warn!(track = %from.track, "too many flows from other nodes");
            return;
        }
        let Some(kind) = self.forward.source(source).map(|source| source.kind) else { return };
        let key = self.net.links.flows.insert(Flow {
            track: from.track.clone(),
            kind,
            source,
            worker: from.worker.clone(),
            endpoint: from.endpoint.clone(),
            state: FlowState::Withdrawn,
            failures: 0,
            patience: SILENCE,
        });
        self.net.links.flows_by_source.insert(source, key);
        self.ask(now, key);
    }

    /// Asks the producer for the track under new keys.
    fn ask(&mut self, now: Instant, key: FlowKey) {
        let (random, ssrc) = (self.random_text(16), self.rng.next_u32().max(2));
        let links = &mut self.net.links;
        let Some(flow) = links.flows.get_mut(key) else { return };
        let keys = LinkKeys::random();
        let consumer = LinkConsumer::new(&keys, ssrc);
        let (Ok(id), Ok(consumer)) = (AttachmentId::new(random), consumer) else { return };
        let request = keys.attach_request(id.as_str(), flow.track.as_str(), self.config.link_address, ssrc);
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
        let Some(flow) = links.flows.get_mut(key) else {
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
            let format = Format::from_message(&reply.format.unwrap_or_default());
            match (producer, format.filter(|f| f.codec.is_video() == (flow.kind == Kind::Video))) {
                (Ok(producer), Some(format)) => Ok((producer, format)),
                _ => Err(tonic::Status::internal("the producer's reply is unusable")),
            }
        });
        let (producer, format) = match parsed {
            Ok(parsed) => parsed,
            Err(status) => {
                tracing::debug!(track = %flow.track, endpoint = flow.endpoint, %status, "track not attached");
                return self.retry(now, key);
            }
        };
        flow.failures = 0;
        let state = std::mem::replace(&mut flow.state, FlowState::Withdrawn);
        let FlowState::Attaching(link) = state else { return };
        flow.state = FlowState::Attached { link, producer, last_packet: now, next_report: now };
        let source = flow.source;
        links.timers.set(LinkTimer::Flow(key), Some(now));
        let supply = Supply {
            origin: Origin::Flow(key),
            format,
            extensions: Extensions::default(),
            nack: true,
            red: None,
            ssrc: None,
        };
        self.forward.supply(now, source, supply, &mut self.net);
    }

    fn retry(&mut self, now: Instant, key: FlowKey) {
        self.withdraw(key);
        let links = &mut self.net.links;
        let Some(flow) = links.flows.get_mut(key) else { return };
        let pause = RETRY.1.min(RETRY.0 * 2u32.saturating_pow(flow.failures.min(10)));
        flow.failures = flow.failures.saturating_add(1);
        flow.state = FlowState::Waiting(now + pause);
        links.timers.set(LinkTimer::Flow(key), Some(now + pause));
    }

    /// Takes back what was asked for.
    fn withdraw(&mut self, key: FlowKey) {
        let links = &mut self.net.links;
        let Some(flow) = links.flows.get_mut(key) else { return };
        let link = match std::mem::replace(&mut flow.state, FlowState::Withdrawn) {
            FlowState::Attaching(link) => link,
            FlowState::Attached { link, .. } => link,
            FlowState::Waiting(_) | FlowState::Withdrawn => return,
        };
        links.flows_by_ssrc.remove(&link.ssrc);
        self.net.output.calls.push(LinkCall::Detach { endpoint: flow.endpoint.clone(), attachment: link.id });
        self.forward.end_supply(flow.source);
    }

    fn end_flow(&mut self, key: FlowKey) {
        self.withdraw(key);
        if let Some(flow) = self.net.links.flows.remove(key) {
            self.net.links.flows_by_source.remove(&flow.source);
        }
    }

    /// A sink has left the source: if it was the last, what comes from another node is not needed any more.
    pub(super) fn release_source(&mut self, source: SourceKey) {
        let wanted = self.forward.source(source).is_some_and(|source| !source.sinks().is_empty());
        if wanted {
            return;
        }
        if let Some(&key) = self.net.links.flows_by_source.get(&source) {
            self.end_flow(key);
        }
        self.forward.forget_if_unused(source);
    }

    /// Sinks have gone over to other sources.
    pub(super) fn release_left(&mut self) {
        while let Some(source) = self.forward.take_left() {
            self.release_source(source);
        }
    }

    /// A datagram came in from another node.
    pub fn handle_link_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let ssrc = if is_rtcp(bytes) { word(4) } else { word(8) };
        let Some(ssrc) = ssrc else {
            self.net.counters.strangers += 1;
            return;
        };
        if is_rtcp(bytes)
            && let Some(&key) = self.net.links.by_consumer.get(&(from, ssrc))
        {
            return self.handle_feedback(now, key, bytes);
        }
        if let Some(&key) = self.net.links.flows_by_ssrc.get(&ssrc) {
            self.handle_flow(now, key, bytes);
        } else {
            self.net.counters.strangers += 1;
        }
    }

    fn handle_feedback(&mut self, now: Instant, key: AttachmentKey, bytes: &[u8]) {
        let Some(attachment) = self.net.links.attachments.get_mut(key) else { return };
        let sink = attachment.sink;
        let Ok(feedback) = attachment.producer.unprotect_rtcp(now, bytes) else {
            self.net.counters.malformed += 1;
            return;
        };
        for feedback in feedback {
            match feedback {
                Feedback::Report => {}
                Feedback::KeyFrameRequest => self.forward.key_frame_request(now, sink, &mut self.net),
                Feedback::Nack(missing) => {
                    self.forward.retransmit(now, sink, missing.into_iter(), &mut self.net);
                }
            }
        }
    }

    fn handle_flow(&mut self, now: Instant, key: FlowKey, bytes: &[u8]) {
        let Some(flow) = self.net.links.flows.get_mut(key) else { return };
        let source = flow.source;
        // Before the reply to the request is here there is no format to forward it as.
        let FlowState::Attached { link, last_packet, .. } = &mut flow.state else { return };
        match link.consumer.unprotect(bytes) {
            Ok(FromProducer::Rtp(packet)) => {
                *last_packet = now;
                flow.patience = SILENCE;
                self.net.counters.link_packets_in += 1;
                if let Ok(header) = RtpHeader::parse(&packet) {
                    self.forward.receive(now, source, &packet, &header, false, &mut self.net);
                    self.release_left();
                }
            }
            Ok(FromProducer::SenderReport { ntp, rtp }) => {
                self.forward.sender_report(now, source, ntp, rtp, &mut self.net);
            }
            Ok(FromProducer::Other) => {}
            Err(error) => {
                tracing::trace!(%error, "link datagram dropped");
                self.net.counters.malformed += 1;
            }
        }
    }

    pub(super) fn handle_link_timeouts(&mut self, now: Instant) {
        while let Some(timer) = self.net.links.timers.pop_due(now) {
            match timer {
                LinkTimer::Attachment(key) => {
                    let silent = self.net.links.attachments.get(key).map(|a| a.producer.is_silent(now));
                    match silent {
                        Some(true) => self.end_attachment(key),
                        Some(false) => {
                            self.net.links.timers.set(timer, Some(now + CONSUMER_TIMEOUT / 4));
                        }
                        None => {}
                    }
                }
                LinkTimer::Flow(key) => self.flow_timeout(now, key),
            }
        }
    }

    fn flow_timeout(&mut self, now: Instant, key: FlowKey) {
        let Some(flow) = self.net.links.flows.get_mut(key) else { return };
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
                if now >= *next_report {
                    *next_report = now + REPORT_INTERVAL;
                    if let Ok(report) = link.consumer.report() {
                        self.net.output.link_datagrams.push((*producer, report));
                    }
                }
                let next = flow.next_timeout();
                self.net.links.timers.set(LinkTimer::Flow(key), next);
            }
        }
    }
}
