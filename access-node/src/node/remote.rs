//! What is known of layers that are published on other nodes or by other workers of the process: those are asked about once a second, as
//! long as somebody chooses among them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kaigi_proto::{ids::TrackId, v1};

use super::{
    LinkCall, Node, Notice, TrackSource,
    interest::ASKED,
    ladder::{Known, Remembered},
};
use crate::forward::{MAX_SPATIAL, Rates, Size, SpatialLayer, TEMPORAL_LAYERS};

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

#[derive(Clone, Debug)]
struct Layer {
    wanted: Instant,
    /// Whether it is asked for, and not only one of those to choose among.
    is_asked: bool,
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
    fn look(&mut self, now: Instant, track: &TrackId, most: usize) -> Vec<SpatialLayer> {
        if let Some(entry) = self.layers.get_mut(track) {
            entry.wanted = now;
            let known = entry.known.as_ref().filter(|(at, _)| now < *at + STALE);
            return known.map(|(_, known)| known.layers.clone()).unwrap_or_default();
        }
        if self.layers.len() < most {
            self.layers.insert(track.clone(), Layer { wanted: now, is_asked: false, known: None });
            self.has_new = true;
        }
        Vec::new()
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
    /// What flows of a track of this process, but not of this worker, that somebody chooses among others.
    pub(super) fn look_among_workers(&mut self, now: Instant, layer: &TrackSource) -> Vec<SpatialLayer> {
        self.workers.look(now, &layer.track, MAX_DESCRIBED_BY_WORKERS)
    }

    /// What flows of a track on another node that somebody chooses among others.
    pub(super) fn look(&mut self, now: Instant, layer: &TrackSource) -> Vec<SpatialLayer> {
        let producer = match self.producers.get_mut(&layer.endpoint) {
            Some(producer) => producer,
            None => self.producers.entry(layer.endpoint.clone()).or_default(),
        };
        producer.look(now, &layer.track, MAX_DESCRIBED)
    }

    /// As it was when it last flowed.
    pub(super) fn remembered(&self, layer: &TrackSource, among_workers: bool) -> Remembered {
        let producer = if among_workers { Some(&self.workers) } else { self.producers.get(&layer.endpoint) };
        let known = producer.and_then(|producer| producer.layers.get(&layer.track)?.known.as_ref());
        known.map(|(_, known)| known.remembered).unwrap_or_default()
    }

    /// Somebody wants it, whether or not ways carry it: its publisher's node or worker is told with the next question.
    pub(super) fn ask(&mut self, layer: &TrackSource, among_workers: bool) {
        let producer =
            if among_workers { Some(&mut self.workers) } else { self.producers.get_mut(&layer.endpoint) };
        if let Some(layer) = producer.and_then(|producer| producer.layers.get_mut(&layer.track)) {
            layer.is_asked = true;
        }
    }

    /// The layers that the other workers are to be asked for now, if any, and whether they are asked for.
    pub(super) fn question_to_workers(&mut self, now: Instant) -> Option<Vec<(TrackId, bool)>> {
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
        let layers = workers.layers.iter_mut();
        Some(layers.map(|(track, layer)| (track.clone(), std::mem::take(&mut layer.is_asked))).collect())
    }

    /// What another worker says of its layers.
    pub(super) fn described_by_worker(&mut self, now: Instant, layers: Vec<(TrackId, Known)>) {
        for (track, known) in layers {
            if let Some(layer) = self.workers.layers.get_mut(&track) {
                layer.known = Some((now, known));
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
            let asked = producer
                .layers
                .iter_mut()
                .filter_map(|(track, layer)| std::mem::take(&mut layer.is_asked).then(|| track.to_string()));
            let request = v1::DescribeLayersRequest { wanted_track_ids: asked.collect(), track_ids };
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

    /// Somebody elsewhere wants tracks, whether or not ways carry them.
    pub(super) fn asked_elsewhere(&mut self, now: Instant, tracks: impl Iterator<Item = TrackId>) {
        let mut woken = Vec::new();
        for track in tracks {
            let Some(key) = self.forward.find(&track) else { continue };
            let Some(source) = self.forward.source_mut(key) else { continue };
            source.ask(now + ASKED);
            woken.extend((!source.is_wanted).then_some(key));
        }
        self.wake(now, &woken);
    }

    /// Another node wants to know of layers here.
    #[must_use]
    pub fn describe_layers(
        &mut self,
        now: Instant,
        request: &v1::DescribeLayersRequest,
    ) -> v1::DescribeLayersReply {
        let wanted = request.wanted_track_ids.iter().take(MAX_DESCRIBED);
        self.asked_elsewhere(now, wanted.filter_map(|id| TrackId::new(id).ok()));
        let ids = request.track_ids.iter().take(MAX_DESCRIBED);
        let layers = ids.filter_map(|id| {
            let source = self.forward.find(&TrackId::new(id).ok()?)?;
            let known = Known::of(now, self.forward.source_mut(source)?);
            // A node that knows nothing of spatial layers takes all of them.
            let rates = known.layers.last().map(|layer| layer.rates).unwrap_or_default();
            Some(v1::LayerDescription {
                track_id: id.clone(),
                flowing: !known.layers.is_empty(),
                resolution: to_message(known.remembered.size),
                bitrates: rates.bitrates.into(),
                framerates: rates.framerates.into(),
                spatial_layers: known.layers.into_iter().map(told).collect(),
            })
        });
        v1::DescribeLayersReply { layers: layers.collect() }
    }

    /// What another node says of its layers.
    pub fn described(&mut self, now: Instant, endpoint: &str, reply: &v1::DescribeLayersReply) {
        let Some(producer) = self.net.remote.producers.get_mut(endpoint) else { return };
        for (track, layer) in &mut producer.layers {
            let told = reply.layers.iter().find(|told| told.track_id == track.as_str());
            let mut remembered = layer.known.as_ref().map(|(_, known)| known.remembered).unwrap_or_default();
            let layers = told.filter(|told| told.flowing).map(known).unwrap_or_default();
            remembered.size = told.and_then(|told| size(told.resolution)).or(remembered.size);
            remembered.bitrate = layers.last().map_or(remembered.bitrate, |last| last.rates.bitrate());
            layer.known = Some((now, Known { layers, remembered }));
        }
    }
}

fn to_message(size: Option<Size>) -> Option<v1::Resolution> {
    size.map(|(width, height)| v1::Resolution { width, height })
}

fn told(SpatialLayer { spatial, size, rates }: SpatialLayer) -> v1::SpatialLayerDescription {
    v1::SpatialLayerDescription {
        spatial: spatial.into(),
        resolution: to_message(size),
        bitrates: rates.bitrates.into(),
        framerates: rates.framerates.into(),
    }
}

fn known(told: &v1::LayerDescription) -> Vec<SpatialLayer> {
    let whole = v1::SpatialLayerDescription {
        spatial: 0,
        resolution: told.resolution,
        bitrates: told.bitrates.clone(),
        framerates: told.framerates.clone(),
    };
    let layers = if told.spatial_layers.is_empty() { &[whole][..] } else { &told.spatial_layers };
    let layers = layers.iter().filter(|layer| (layer.spatial as usize) < MAX_SPATIAL);
    let mut known: Vec<_> = layers.filter_map(spatial_layer).collect();
    known.sort_by_key(|layer| layer.spatial);
    known.dedup_by_key(|layer| layer.spatial);
    known
}

fn spatial_layer(told: &v1::SpatialLayerDescription) -> Option<SpatialLayer> {
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
    let size = size(told.resolution);
    let spatial = u8::try_from(told.spatial).ok()?;
    (rates.bitrate() > 0).then_some(SpatialLayer { spatial, size, rates })
}

/// If it can be one.
fn size(told: Option<v1::Resolution>) -> Option<Size> {
    let size = told.map(|size| (size.width, size.height));
    size.filter(|(w, h)| (1..=16_384).contains(w) && (1..=16_384).contains(h))
}
