//! How much a source sends: bits and frames of about the last second.

use std::time::{Duration, Instant};

/// Time that is counted together.
const SLOT: Duration = Duration::from_millis(250);
/// Whole slots that a rate is taken from.
const SLOTS: usize = 4;
/// Temporal layers that are told apart; VP8's two bits.
pub const TEMPORAL_LAYERS: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// By temporal layer, as the frames.
    bytes: [u32; TEMPORAL_LAYERS],
    frames: [u16; TEMPORAL_LAYERS],
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
    timestamp: Option<u32>,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, current: 0, slots: Default::default(), timestamp: None }
    }

    /// A packet came, of a frame of that timestamp and temporal layer.
    pub(super) fn packet(&mut self, now: Instant, bytes: usize, timestamp: u32, temporal: u8) {
        self.advance(now);
        let is_frame = self.timestamp.is_none_or(|last| (timestamp.wrapping_sub(last) as i32) > 0);
        let slot = &mut self.slots[self.current as usize % (SLOTS + 1)];
        let layer = usize::from(temporal) % TEMPORAL_LAYERS;
        slot.bytes[layer] = slot.bytes[layer].saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if is_frame {
            self.timestamp = Some(timestamp);
            slot.frames[layer] = slot.frames[layer].saturating_add(1);
        }
    }

    /// `None` until there was time to count.
    pub(super) fn rates(&mut self, now: Instant) -> Option<Rates> {
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
                bytes += u64::from(slot.bytes[layer]);
                frames += u32::from(slot.frames[layer]);
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
        assert_eq!(meter.rates(at(100)), None, "too early");
        for frame in 0..60 {
            // Two packets of 500 bytes every 50 ms: 160 kbit/s; every second frame is of the upper layer.
            for _ in 0..2 {
                meter.packet(at(50 * frame), 500, 4_500 * frame as u32, (frame % 2) as u8);
            }
        }
        let rates = meter.rates(at(3_000)).unwrap();
        assert_eq!((rates.bitrates[0], rates.bitrate()), (80_000, 160_000));
        assert_eq!(rates.framerates, [10.0, 20.0, 20.0, 20.0]);
        assert_eq!(meter.rates(at(3_500)).map(|rates| rates.bitrate()), Some(80_000));
        assert_eq!(meter.rates(at(60_000)), Some(Rates::default()));
    }

    #[test]
    fn late_packets_are_no_frames_of_their_own() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        for timestamp in [u32::MAX - 10, 5, u32::MAX - 10, 5] {
            meter.packet(start, 100, timestamp, 0);
        }
        let rates = meter.rates(start + SLOT).unwrap();
        assert_eq!((rates.bitrate(), rates.framerates[3]), (12_800, 8.0));
    }
}
