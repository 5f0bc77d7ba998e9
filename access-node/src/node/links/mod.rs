//! Tracks that others get ([`Attachment`]) and tracks of others that clients here get ([`Flow`]). The others are nodes, to which packets go
//! as SRTP over UDP, and the other workers of the process, to which they go as they are.

mod attachment;
mod flow;
mod wants;
mod workers;

pub use attachment::Attachment;
pub(super) use attachment::Taker;
pub use flow::Flow;
pub use workers::{Notice, Supplied};

use std::{collections::HashMap, net::SocketAddr, time::Instant};

use bytes::BytesMut;
use kaigi_media::{
    link::{CONSUMER_TIMEOUT, LinkConsumer, LinkError},
    rtp::is_rtcp,
};

use self::{
    flow::{FlowState, NodeFlow, Way},
    wants::Wants,
};
use super::Node;
use crate::{
    arena::Arena,
    keys::{AttachmentKey, AttachmentTag, FlowKey, FlowTag, SourceKey},
    timers::Timers,
};

/// Both kinds of links of a worker.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) attachments: Arena<Attachment, AttachmentTag>,
    by_consumer: HashMap<(SocketAddr, u32), AttachmentKey>,
    flows: Arena<Flow, FlowTag>,
    flows_by_ssrc: HashMap<u32, FlowKey>,
    flows_by_source: HashMap<SourceKey, FlowKey>,
    wants: Wants,
    pub(super) timers: Timers<LinkTimer>,
}

/// What the links' deadlines are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LinkTimer {
    Attachment(AttachmentKey),
    Flow(FlowKey),
}

impl Links {
    /// Feedback of a flow to the node that produces it, protected, if the flow is attached.
    pub(super) fn feedback(
        &mut self,
        key: FlowKey,
        make: impl FnOnce(&mut LinkConsumer) -> Result<BytesMut, LinkError>,
    ) -> Option<(SocketAddr, BytesMut)> {
        let Way::Node(NodeFlow { state: FlowState::Attached { link, producer, .. }, .. }) =
            &mut self.flows.get_mut(key)?.way
        else {
            return None;
        };
        Some((*producer, make(&mut link.consumer).ok()?))
    }
}

impl Node {
    /// A sink has left the source: if it was the last, what comes from others is not needed any more.
    pub(super) fn release_source(&mut self, source: SourceKey) {
        let flow = self.net.links.flows_by_source.get(&source).copied();
        if self.forward.source(source).is_some_and(|source| !source.sinks().is_empty()) {
            if let Some(flow) = flow {
                self.tell_takers(flow);
            }
            return;
        }
        if let Some(flow) = flow {
            self.end_flow(flow);
        }
        self.forward.forget_if_unused(source);
    }

    /// Sinks have gone over to other sources.
    pub(super) fn release_left(&mut self) {
        while let Some(source) = self.forward.take_left() {
            self.release_source(source);
        }
    }

    fn end_flow(&mut self, key: FlowKey) {
        self.withdraw(key);
        if let Some(flow) = self.net.links.flows.remove(key) {
            self.net.links.flows_by_source.remove(&flow.source);
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

    pub(super) fn handle_link_timeouts(&mut self, now: Instant) {
        while let Some(timer) = self.net.links.timers.pop_due(now) {
            match timer {
                LinkTimer::Attachment(key) => match self.net.links.attachments.get(key).map(|a| &a.taker) {
                    Some(Taker::Node { producer, .. }) if producer.is_silent(now) => self.end_attachment(key),
                    Some(Taker::Node { .. }) => {
                        self.net.links.timers.set(timer, Some(now + CONSUMER_TIMEOUT / 4));
                    }
                    Some(Taker::Worker { .. }) | None => {}
                },
                LinkTimer::Flow(key) => self.flow_timeout(now, key),
            }
        }
    }
}
