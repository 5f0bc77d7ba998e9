//! What is known of layers that are published on other nodes: their nodes are asked about once a second, as long as somebody chooses
//! among them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kaigi_proto::{ids::TrackId, v1};

use super::{LinkCall, Node, TrackSource, ladder::Known};
use crate::forward::{Rates, TEMPORAL_LAYERS};

/// How often a node is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// What was said longer ago is not believed.
const STALE: Duration = Duration::from_secs(5);
/// Layers that nobody has chosen among for that long are not asked for any more.
const UNWANTED: Duration = Duration::from_secs(5);
/// Most layers in one question; it bounds what both nodes do for it.
pub(super) const MAX_DESCRIBED: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Layer {
    wanted: Instant,
    known: Option<(Instant, Known)>,
}

#[derive(Debug, Default)]
struct Producer {
    asked: Option<Instant>,
    layers: HashMap<TrackId, Layer>,
}

/// Layers on other nodes, by the nodes' endpoints.
#[derive(Debug, Default)]
pub(super) struct RemoteLayers {
    producers: HashMap<String, Producer>,
}

impl RemoteLayers {
    /// What is known of a layer that somebody chooses among others.
    pub(super) fn look(&mut self, now: Instant, layer: &TrackSource) -> Option<Known> {
        let producer = match self.producers.get_mut(&layer.endpoint) {
            Some(producer) => producer,
            None => self.producers.entry(layer.endpoint.clone()).or_default(),
        };
        if let Some(entry) = producer.layers.get_mut(&layer.track) {
            entry.wanted = now;
            return entry.known.filter(|(at, _)| now < *at + STALE).map(|(_, known)| known);
        }
        if producer.layers.len() < MAX_DESCRIBED {
            producer.layers.insert(layer.track.clone(), Layer { wanted: now, known: None });
        }
        None
    }

    /// The questions that are due.
    pub(super) fn questions(&mut self, now: Instant) -> Vec<LinkCall> {
        self.producers.retain(|_, producer| {
            producer.layers.retain(|_, layer| now < layer.wanted + UNWANTED);
            !producer.layers.is_empty()
        });
        let due = |producer: &Producer| producer.asked.is_none_or(|at| now >= at + INTERVAL);
        let due = self.producers.iter_mut().filter(|(_, producer)| due(producer));
        due.map(|(endpoint, producer)| {
            producer.asked = Some(now);
            let track_ids = producer.layers.keys().map(ToString::to_string).collect();
            let request = v1::DescribeLayersRequest { track_ids };
            LinkCall::Describe { endpoint: endpoint.clone(), request }
        })
        .collect()
    }
}

impl Node {
    /// Another node wants to know of layers here.
    #[must_use]
    pub fn describe_layers(
        &mut self,
        now: Instant,
        request: &v1::DescribeLayersRequest,
    ) -> v1::DescribeLayersReply {
        let ids = request.track_ids.iter().take(MAX_DESCRIBED);
        let layers = ids.filter_map(|id| {
            let source = self.forward.find(&TrackId::new(id).ok()?)?;
            let source = self.forward.source_mut(source)?;
            let known = Known::of(now, source);
            let rates = known.map(|known| known.rates).unwrap_or_default();
            let resolution = source.size().map(|(width, height)| v1::Resolution { width, height });
            Some(v1::LayerDescription {
                track_id: id.clone(),
                flowing: known.is_some(),
                resolution,
                bitrates: rates.bitrates.into(),
                framerates: rates.framerates.into(),
            })
        });
        v1::DescribeLayersReply { layers: layers.collect() }
    }

    /// What another node says of its layers.
    pub fn described(&mut self, now: Instant, endpoint: &str, reply: &v1::DescribeLayersReply) {
        let Some(producer) = self.net.remote.producers.get_mut(endpoint) else { return };
        for layer in &mut producer.layers {
            let told = reply.layers.iter().find(|told| told.track_id == layer.0.as_str() && told.flowing);
            layer.1.known = told.and_then(known).map(|known| (now, known));
        }
    }
}

fn known(told: &v1::LayerDescription) -> Option<Known> {
    let mut rates = Rates {
        bitrates: *told.bitrates.first_chunk::<TEMPORAL_LAYERS>()?,
        framerates: *told.framerates.first_chunk::<TEMPORAL_LAYERS>()?,
    };
    // Whatever a node says, it is nothing to calculate with if it is no number.
    for rate in &mut rates.framerates {
        *rate = if rate.is_finite() { rate.clamp(0.0, 1_000.0) } else { 0.0 };
    }
    for rate in &mut rates.bitrates {
        *rate = (*rate).min(1 << 40);
    }
    let size = told.resolution.map(|size| (size.width, size.height));
    let size = size.filter(|(w, h)| (1..=16_384).contains(w) && (1..=16_384).contains(h));
    (rates.bitrate() > 0).then_some(Known { size, rates })
}
