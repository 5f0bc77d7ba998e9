//! The layers of a picture that flow, from the smallest to the largest that is asked for.

use std::time::{Duration, Instant};

use kaigi_proto::v1;

use super::{LayerWish, TrackSource};
use crate::{
    allocate::Rung,
    forward::{Forwarder, LayerId, Rates, Size, Source, SpatialLayer, TEMPORAL_LAYERS},
};

/// A layer of which nothing came for that long has stopped. Screens that show nothing new are sent once a second.
const SILENCE: Duration = Duration::from_millis(1_500);

/// A rate that is measured over a second is off by a frame or two.
const FRAMES_SWING: f64 = 1.15;

/// The spatial layers of a track that flow, the smallest first; none if nothing does.
pub(super) fn flowing(now: Instant, source: &mut Source) -> Vec<SpatialLayer> {
    let heard = source.last_packet().is_some_and(|at| now < at + SILENCE);
    if !heard || !source.active || source.supply.is_none() {
        return Vec::new();
    }
    source.spatial_layers(now)
}

/// One of the layers of a picture: a track, or a spatial layer of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Which of the tracks named.
    pub(super) track: usize,
    /// The highest spatial layer of it that is sent; `None` = all that there are.
    pub(super) spatial: Option<u8>,
}

/// A layer that flows.
#[derive(Clone, Copy, Debug)]
struct Flowing {
    place: Place,
    size: Option<Size>,
    rates: Rates,
}

/// The layers that can be sent.
#[derive(Debug)]
pub(super) struct Ladder {
    layers: Vec<Place>,
    /// The highest temporal layer of each that is sent.
    temporal: Vec<u8>,
    rungs: Vec<Rung>,
    /// How many flow that are larger than what is asked for.
    larger: usize,
    /// How many of the tracks named have a layer here.
    tracks: usize,
}

impl Ladder {
    /// Looks at what flows now; `elsewhere` knows of what is not published here.
    pub(super) fn new(
        now: Instant,
        layers: &[TrackSource],
        wish: &LayerWish,
        forward: &mut Forwarder,
        mut elsewhere: impl FnMut(&TrackSource) -> Vec<SpatialLayer>,
    ) -> Self {
        let mut flowing = Vec::new();
        for (layer, track) in layers.iter().zip(0..) {
            let source = forward.find(&layer.track).and_then(|key| forward.source_mut(key));
            let is_here = source.as_ref().is_some_and(|source| source.is_published());
            let told = if is_here { Vec::new() } else { elsewhere(layer) };
            // The worker that has the publisher has counted for longer: what crosses begins with a large key frame.
            let crosses = source.as_ref().is_some_and(|source| source.crosses());
            let counted = source.map(|source| self::flowing(now, source)).unwrap_or_default();
            let (first, second) = if crosses { (told, counted) } else { (counted, told) };
            let known = if first.is_empty() { second } else { first };
            let highest = known.last().map(|layer| layer.spatial);
            flowing.extend(known.into_iter().map(|SpatialLayer { spatial, size, rates }| Flowing {
                place: Place { track, spatial: Some(spatial).filter(|_| Some(spatial) != highest) },
                size,
                rates,
            }));
        }
        let sized = flowing.iter().all(|layer| layer.size.is_some());
        let value = |layer: &Flowing| match layer.size {
            // What a picture shows grows with its sides rather than with its area: small ones become larger before large ones do.
            Some((width, height)) if sized => (f64::from(width) * f64::from(height)).sqrt(),
            _ => (layer.rates.bitrate() as f64).sqrt(),
        };
        flowing.sort_by(|a, b| value(a).total_cmp(&value(b)));
        let most = wanted(&flowing, wish);
        let temporal = |layer: &Flowing| temporal(&layer.rates, wish.framerate);
        let bitrate = |layer: &Flowing| layer.rates.bitrates[usize::from(temporal(layer))];
        let rung = |layer: &Flowing| Rung { bitrate: bitrate(layer), value: value(layer) };
        Self {
            layers: flowing.iter().take(most).map(|layer| layer.place).collect(),
            temporal: flowing.iter().take(most).map(temporal).collect(),
            rungs: flowing.iter().take(most).map(rung).collect(),
            larger: flowing.len() - most,
            tracks: (0..layers.len())
                .filter(|track| flowing.iter().any(|layer| layer.place.track == *track))
                .count(),
        }
    }

    pub(super) fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// The layer of a rung.
    pub(super) fn layer(&self, rung: usize) -> Option<Place> {
        self.layers.get(rung).copied()
    }

    /// The highest layers of that layer's track that are to be sent.
    pub(super) fn most(&self, layer: Place) -> Option<LayerId> {
        let temporal = *self.temporal.get(self.rung(layer)?)?;
        Some(LayerId { spatial: layer.spatial.unwrap_or(u8::MAX), temporal })
    }

    /// Whether anything of a track is among the layers.
    pub(super) fn has(&self, track: usize) -> bool {
        self.layers.iter().any(|layer| layer.track == track)
    }

    /// The rung of a layer, if it flows and is not larger than what is asked for.
    pub(super) fn rung(&self, layer: Place) -> Option<usize> {
        self.layers.iter().position(|known| *known == layer)
    }

    /// What keeps more from being sent than that rung, of so many tracks in all.
    pub(super) fn limit(&self, rung: Option<usize>, named: usize) -> v1::Limit {
        if self.rungs.is_empty() {
            v1::Limit::Source
        } else if rung.is_none_or(|rung| rung + 1 < self.rungs.len()) {
            v1::Limit::Bandwidth
        } else if self.larger > 0 {
            v1::Limit::Asked
        } else if self.tracks < named {
            v1::Limit::Source
        } else {
            v1::Limit::None
        }
    }
}

/// A track as it was when it last sent something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) size: Option<Size>,
    /// bit/s
    pub(super) bitrate: u64,
}

/// What is known of a track that is published elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// What flows of it.
    pub(super) layers: Vec<SpatialLayer>,
    pub(super) remembered: Remembered,
}

impl Known {
    pub(super) fn of(now: Instant, source: &mut Source) -> Self {
        let layers = flowing(now, source);
        Self { layers, remembered: Remembered { size: source.size(), bitrate: source.last_bitrate() } }
    }
}

/// Which tracks of several are asked for, whether or not they flow: the largest that is no more than wished, which comes first, and those
/// below; all if the size of one is not known.
pub(super) fn asked(tracks: &[Remembered], wish: &LayerWish) -> Vec<usize> {
    let mut known: Vec<_> = tracks
        .iter()
        .zip(0..)
        .map(|(Remembered { size, bitrate }, track)| Flowing {
            place: Place { track, spatial: None },
            size: *size,
            rates: Rates { bitrates: [*bitrate; TEMPORAL_LAYERS], ..Rates::default() },
        })
        .collect();
    if known.iter().any(|track| track.size.is_none()) {
        return known.iter().map(|track| track.place.track).collect();
    }
    known.sort_by_key(|track| track.size.map_or(0, |(width, height)| u64::from(width) * u64::from(height)));
    let most = wanted(&known, wish);
    known[..most].iter().rev().map(|track| track.place.track).collect()
}

/// How many of the layers, from the smallest on, are not more than what is asked for; the smallest always is.
fn wanted(flowing: &[Flowing], wish: &LayerWish) -> usize {
    let suffices = |layer: &Flowing| match (layer.size, wish.resolution) {
        (Some(size), Some(wished)) => fills(size, wished),
        _ => false,
    };
    let by_size = flowing.iter().position(suffices).map_or(flowing.len(), |place| place + 1);
    let fits = |layer: &Flowing| wish.bitrate.is_none_or(|most| layer.rates.bitrate() <= most);
    let by_bitrate = flowing[..by_size].iter().rposition(fits).map_or(1, |place| place + 1);
    by_bitrate.min(flowing.len())
}

/// The highest temporal layer with which there are not more frames than wished; the lowest always is sent.
fn temporal(rates: &Rates, wished: Option<u32>) -> u8 {
    let fits = |frames: &f64| wished.is_none_or(|wished| *frames <= f64::from(wished) * FRAMES_SWING);
    rates.framerates.iter().rposition(fits).unwrap_or(0) as u8
}

/// Whether a picture that is fitted into that size need not be enlarged.
fn fills((width, height): Size, (wished_width, wished_height): Size) -> bool {
    width >= wished_width || height >= wished_height
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(track: usize, size: Option<Size>, kbits: u64) -> Flowing {
        let place = Place { track, spatial: None };
        Flowing { place, size, rates: Rates { bitrates: [kbits * 1000; 4], ..Rates::default() } }
    }

    #[test]
    fn what_is_asked_for_does_not_depend_on_what_flows() {
        let track = |width, height, bitrate| Remembered { size: Some((width, height)), bitrate };
        let tracks = [track(1280, 720, 0), track(320, 180, 150_000), track(640, 360, 500_000)];
        let of =
            |resolution, bitrate| asked(&tracks, &LayerWish { resolution, bitrate, ..LayerWish::default() });
        assert_eq!(of(None, None), [0, 2, 1]);
        assert_eq!(of(Some((640, 360)), None), [2, 1]);
        assert_eq!(of(Some((100, 100)), None), [1]);
        assert_eq!(of(None, Some(200_000)), [0, 2, 1], "it is not known yet how much the largest is");
        let unknown = [track(320, 180, 1), Remembered::default()];
        assert_eq!(asked(&unknown, &LayerWish { resolution: Some((1, 1)), ..LayerWish::default() }), [0, 1]);
    }

    #[test]
    fn fewer_frames_are_had_by_fewer_temporal_layers() {
        let rates = Rates { framerates: [7.5, 15.0, 30.0, 30.0], ..Rates::default() };
        let most = |wished| temporal(&rates, wished);
        assert_eq!([None, Some(30), Some(24), Some(15), Some(12), Some(1)].map(most), [3, 3, 1, 1, 0, 0]);
    }

    #[test]
    fn the_nearest_that_need_not_be_enlarged_is_the_largest() {
        let flowing =
            [(320, 180, 150), (640, 360, 500), (1280, 720, 1500)].map(|(w, h, k)| layer(0, Some((w, h)), k));
        let wish = |resolution, bitrate| {
            wanted(&flowing, &LayerWish { resolution, bitrate, ..LayerWish::default() })
        };
        assert_eq!(wish(None, None), 3);
        assert_eq!(wish(Some((320, 240)), None), 1, "the picture fills the width");
        assert_eq!(wish(Some((400, 300)), None), 2);
        assert_eq!(wish(Some((640, 360)), None), 2);
        assert_eq!(wish(Some((1920, 1080)), None), 3, "there is no larger one");
        assert_eq!(wish(None, Some(600_000)), 2);
        assert_eq!(wish(None, Some(10_000)), 1, "something is sent");
        assert_eq!(wish(Some((320, 240)), Some(600_000)), 1);
        assert_eq!(wanted(&[], &LayerWish::default()), 0);
        let unknown = [layer(0, None, 100), layer(1, None, 500)];
        assert_eq!(wanted(&unknown, &LayerWish { resolution: Some((1, 1)), ..LayerWish::default() }), 2);
    }
}
