//! What is known of layers that are published on other nodes or by other workers of the process: those are asked about once a second, as
//! long as somebody chooses among them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kaigi_proto::{ids::TrackId, v1};

use super::{LinkCall, Node, Notice, TrackSource, ladder::Known};
use crate::forward::{Rates, TEMPORAL_LAYERS};

/// How often a node is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// What was said longer ago is not believed.
const STALE: Duration = Duration::from_secs(5);
/// Layers that nobody has chosen among for that long are not asked for any more.
const UNWANTED: Duration = Duration::from_secs(5);
/// Workers are asked as soon as something new is wanted, but not more often than so.
const HASTE: Duration = Duration::from_millis(50);
/// Most layers in one question; it bounds what both nodes do for it.
pub(super) const MAX_DESCRIBED: usize = 256;
/// The same between workers, which have large rooms between them.
const MAX_DESCRIBED_BY_WORKERS: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Layer {
    wanted: Instant,
    known: Option<(Instant, Known)>,
}

#[derive(Debug, Default)]
struct Producer {
    asked: Option<Instant>,
    /// Whether there are layers that were not asked for yet.
    has_new: bool,
    layers: HashMap<TrackId, Layer>,
}

impl Producer {
    fn look(&mut self, now: Instant, track: &TrackId, most: usize) -> Option<Known> {
        if let Some(entry) = self.layers.get_mut(track) {
            entry.wanted = now;
            return entry.known.filter(|(at, _)| now < *at + STALE).map(|(_, known)| known);
        }
        if self.layers.len() < most {
            self.layers.insert(track.clone(), Layer { wanted: now, known: None });
            self.has_new = true;
        }
        None
    }

    fn is_due(&self, now: Instant, interval: Duration) -> bool {
        self.asked.is_none_or(|at| now >= at + interval)
    }

    fn forget_unwanted(&mut self, now: Instant) {
        self.layers.retain(|_, layer| now < layer.wanted + UNWANTED);
    }
}

/// Layers on other nodes, by the nodes' endpoints, and those of other workers.
#[derive(Debug, Default)]
pub(super) struct RemoteLayers {
    producers: HashMap<String, Producer>,
    workers: Producer,
}

impl RemoteLayers {
    /// What is known of a layer of this process, but not of this worker, that somebody chooses among others.
    pub(super) fn look_among_workers(&mut self, now: Instant, layer: &TrackSource) -> Option<Known> {
        self.workers.look(now, &layer.track, MAX_DESCRIBED_BY_WORKERS)
    }

    /// What is known of a layer on another node that somebody chooses among others.
    pub(super) fn look(&mut self, now: Instant, layer: &TrackSource) -> Option<Known> {
        let producer = match self.producers.get_mut(&layer.endpoint) {
            Some(producer) => producer,
            None => self.producers.entry(layer.endpoint.clone()).or_default(),
        };
        producer.look(now, &layer.track, MAX_DESCRIBED)
    }

    /// The layers that the other workers are to be asked for now, if any.
    pub(super) fn question_to_workers(&mut self, now: Instant) -> Option<Vec<TrackId>> {
        let workers = &mut self.workers;
        if !workers.is_due(now, if workers.has_new { HASTE } else { INTERVAL }) {
            return None;
        }
        workers.forget_unwanted(now);
        workers.has_new = false;
        if workers.layers.is_empty() {
            return None;
        }
        workers.asked = Some(now);
        Some(workers.layers.keys().cloned().collect())
    }

    /// What another worker says of its layers.
    pub(super) fn described_by_worker(&mut self, now: Instant, layers: Vec<(TrackId, Option<Known>)>) {
        for (track, known) in layers {
            if let Some(layer) = self.workers.layers.get_mut(&track) {
                layer.known = known.map(|known| (now, known));
            }
        }
    }

    /// The questions that are due.
    pub(super) fn questions(&mut self, now: Instant) -> Vec<LinkCall> {
        self.producers.retain(|_, producer| {
            producer.forget_unwanted(now);
            !producer.layers.is_empty()
        });
        let due = self.producers.iter_mut().filter(|(_, producer)| producer.is_due(now, INTERVAL));
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
    /// Asks others what they send of the layers that are chosen among here.
    pub(super) fn ask_for_layers(&mut self, now: Instant) {
        let questions = self.net.remote.questions(now);
        self.net.output.calls.extend(questions);
        if let Some(tracks) = self.net.remote.question_to_workers(now) {
            self.net.tell_all(&Notice::Describe { tracks });
        }
    }

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
