//! How much a source sends: bits and frames of about the last second.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use kaigi_media::dependency_descriptor::{LayerId, MAX_SPATIAL};

/// Time that is counted together.
const SLOT: Duration = Duration::from_millis(250);
/// Whole slots that a rate is taken from.
const SLOTS: usize = 4;
/// Temporal layers that are told apart; VP8's two bits.
pub const TEMPORAL_LAYERS: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// By spatial and temporal layer, as the frames.
    bytes: [[u32; TEMPORAL_LAYERS]; MAX_SPATIAL],
    frames: [[u16; TEMPORAL_LAYERS]; MAX_SPATIAL],
}

/// What a source sent lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// bit/s of RTP packets, without what encryption adds: of each temporal layer with those below.
    pub bitrates: [u64; TEMPORAL_LAYERS],
    /// Frames per second: of each temporal layer with those below.
    pub framerates: [f64; TEMPORAL_LAYERS],
}

impl Rates {
    /// bit/s of all there is.
    #[must_use]
    pub fn bitrate(&self) -> u64 {
        self.bitrates[TEMPORAL_LAYERS - 1]
    }
}

/// Counts what comes in.
#[derive(Debug)]
pub(super) struct Meter {
    began: Instant,
    /// The slot that is being filled, counted from the beginning.
    current: u64,
    slots: [Slot; SLOTS + 1],
    /// The newest frame of each spatial layer.
    timestamps: [Option<u32>; MAX_SPATIAL],
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, current: 0, slots: Default::default(), timestamps: [None; MAX_SPATIAL] }
    }

    /// A packet came, of a frame of that timestamp and layer.
    pub(super) fn packet(&mut self, now: Instant, bytes: usize, timestamp: u32, layer: LayerId) {
        self.advance(now);
        let spatial = usize::from(layer.spatial) % MAX_SPATIAL;
        let newest = &mut self.timestamps[spatial];
        let is_frame = newest.is_none_or(|last| (timestamp.wrapping_sub(last) as i32) > 0);
        let slot = &mut self.slots[self.current as usize % (SLOTS + 1)];
        let temporal = usize::from(layer.temporal) % TEMPORAL_LAYERS;
        let counted = &mut slot.bytes[spatial][temporal];
        *counted = counted.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if is_frame {
            *newest = Some(timestamp);
            let counted = &mut slot.frames[spatial][temporal];
            *counted = counted.saturating_add(1);
        }
    }

    /// What those spatial layers send together, with the frames of the last of them; `None` until there was time to count.
    pub(super) fn rates(&mut self, now: Instant, spatial: RangeInclusive<usize>) -> Option<Rates> {
        self.advance(now);
        let whole = self.current.min(SLOTS as u64);
        if whole == 0 {
            return None;
        }
        let seconds = SLOT.as_secs_f64() * whole as f64;
        let mut rates = Rates::default();
        let (mut bytes, mut frames) = (0u64, 0u32);
        for layer in 0..TEMPORAL_LAYERS {
            for back in 1..=whole {
                let slot = &self.slots[(self.current - back) as usize % (SLOTS + 1)];
                let of = slot.bytes.get(spatial.clone()).unwrap_or_default();
                bytes += of.iter().map(|bytes| u64::from(bytes[layer])).sum::<u64>();
                frames += slot.frames.get(*spatial.end()).map_or(0, |frames| u32::from(frames[layer]));
            }
            rates.bitrates[layer] = (bytes as f64 * 8.0 / seconds) as u64;
            rates.framerates[layer] = f64::from(frames) / seconds;
        }
        Some(rates)
    }

    fn advance(&mut self, now: Instant) {
        let slot = now.saturating_duration_since(self.began).as_millis() / SLOT.as_millis();
        let slot = u64::try_from(slot).unwrap_or(u64::MAX);
        if slot > self.current + SLOTS as u64 {
            self.slots = Default::default();
        } else {
            for passed in self.current + 1..=slot {
                self.slots[passed as usize % (SLOTS + 1)] = Slot::default();
            }
        }
        self.current = self.current.max(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_second() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(meter.rates(at(100), 0..=0), None, "too early");
        for frame in 0..60 {
            // Two packets of 500 bytes every 50 ms: 160 kbit/s; every second frame is of the upper layer.
            for _ in 0..2 {
                let layer = LayerId { spatial: 0, temporal: (frame % 2) as u8 };
                meter.packet(at(50 * frame), 500, 4_500 * frame as u32, layer);
            }
        }
        let rates = meter.rates(at(3_000), 0..=0).unwrap();
        assert_eq!((rates.bitrates[0], rates.bitrate()), (80_000, 160_000));
        assert_eq!(rates.framerates, [10.0, 20.0, 20.0, 20.0]);
        assert_eq!(meter.rates(at(3_500), 0..=0).map(|rates| rates.bitrate()), Some(80_000));
        assert_eq!(meter.rates(at(60_000), 0..=0), Some(Rates::default()));
    }

    #[test]
    fn late_packets_are_no_frames_of_their_own() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        for timestamp in [u32::MAX - 10, 5, u32::MAX - 10, 5] {
            meter.packet(start, 100, timestamp, LayerId::default());
        }
        let rates = meter.rates(start + SLOT, 0..=0).unwrap();
        assert_eq!((rates.bitrate(), rates.framerates[3]), (12_800, 8.0));
    }

    #[test]
    fn spatial_layers_are_counted_apart_and_together() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        for frame in 0..10u32 {
            let now = start + Duration::from_millis(u64::from(frame) * 100);
            for spatial in 0..2u8 {
                let bytes = 100 * (usize::from(spatial) + 1);
                meter.packet(now, bytes, frame * 9_000, LayerId { spatial, temporal: 0 });
            }
        }
        let mut rates = |spatial| {
            let rates = meter.rates(start + Duration::from_secs(1), spatial).unwrap();
            (rates.bitrate(), rates.framerates[0])
        };
        assert_eq!(
            [rates(0..=0), rates(1..=1), rates(0..=1)],
            [(8_000, 10.0), (16_000, 10.0), (24_000, 10.0)]
        );
    }
}
