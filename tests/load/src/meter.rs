//! What is measured: times in a histogram, and counts that can be added up.

use std::time::Duration;

/// Buckets of each doubling; a value is off by at most a 32nd.
const STEPS: usize = 32;
/// Doublings, from 1 µs to over an hour.
const DOUBLINGS: usize = 28;

/// Times, by logarithmic buckets.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    most: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; STEPS * DOUBLINGS], count: 0, most: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts a time.
    pub fn add(&mut self, time: Duration) {
        let micros = usize::try_from(time.as_micros()).unwrap_or(usize::MAX);
        let bucket = match micros / STEPS {
            0 => micros,
            ratio => {
                let doubling = ratio.ilog2() as usize;
                (doubling + 1) * STEPS + (micros >> doubling) - STEPS
            }
        };
        let last = self.buckets.len() - 1;
        self.buckets[bucket.min(last)] += 1;
        self.count += 1;
        self.most = self.most.max(time);
    }

    /// The time that so many of a hundred do not exceed; `None` if there are none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let wanted = ((self.count as f64) * percent / 100.0).ceil().max(1.0) as u64;
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += count;
            below >= wanted
        })?;
        let micros = match bucket / STEPS {
            0 => bucket,
            doubling => ((bucket % STEPS) + STEPS + 1) << (doubling - 1),
        };
        Some(Duration::from_micros(micros as u64).min(self.most))
    }

    /// The longest.
    #[must_use]
    pub fn most(&self) -> Duration {
        self.most
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(one, more)| *one += more);
        self.count += other.count;
        self.most = self.most.max(other.most);
    }
}

/// What came to receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Received {
    /// Packets, each once, retransmitted ones too.
    pub packets: u64,
    /// Bytes of them, with the headers of RTP.
    pub bytes: u64,
    /// Packets that were missing when later ones came.
    pub missed: u64,
    /// Missing packets that were retransmitted.
    pub retransmitted: u64,
    /// Missing packets that never came.
    pub lost: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that are not what was published.
    pub corrupt: u64,
    /// Whole frames that could be decoded.
    pub frames: u64,
    /// Of them key frames.
    pub key_frames: u64,
    /// Frames that could not be decoded because of what was missing before.
    pub undecodable: u64,
    /// Frames whose packets do not belong together or lack an end, or that don't follow the one before.
    pub broken: u64,
    /// Picture ids, or TL0PICIDX, that don't follow the one before.
    pub picture_ids: u64,
    /// Changes of the layer.
    pub switches: u64,
    /// Requests for key frames.
    pub key_frame_requests: u64,
    /// Requests for packets.
    pub nacks: u64,
}

impl Received {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.missed += other.missed;
        self.retransmitted += other.retransmitted;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.corrupt += other.corrupt;
        self.frames += other.frames;
        self.key_frames += other.key_frames;
        self.undecodable += other.undecodable;
        self.broken += other.broken;
        self.picture_ids += other.picture_ids;
        self.switches += other.switches;
        self.key_frame_requests += other.key_frame_requests;
        self.nacks += other.nacks;
    }

    /// Whether all that came was whole and in order.
    #[must_use]
    pub fn is_flawless(&self) -> bool {
        let flaws = [self.lost, self.corrupt, self.undecodable, self.broken, self.picture_ids];
        flaws.iter().all(|flaw| *flaw == 0)
    }
}

/// What publishers sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    /// Packets, without retransmissions.
    pub packets: u64,
    /// Bytes of them, with the headers of RTP.
    pub bytes: u64,
    /// Frames.
    pub frames: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Key frames that were asked for.
    pub key_frames_asked: u64,
}

impl Sent {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.frames += other.frames;
        self.retransmitted += other.retransmitted;
        self.key_frames_asked += other.key_frames_asked;
    }
}

/// Times that all peers of a thread share.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    /// From the publisher's sending to the arrival of a packet of a picture, and of a sound; retransmissions do not count.
    pub picture: Histogram,
    /// See [`Self::picture`].
    pub sound: Histogram,
    /// From one whole picture to the next.
    pub gaps: Histogram,
}

impl Meters {
    /// Adds those of another thread.
    pub fn merge(&mut self, other: &Self) {
        self.picture.merge(&other.picture);
        self.sound.merge(&other.sound);
        self.gaps.merge(&other.gaps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_off_by_little() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50.0), None);
        for micros in 1..=100_000u64 {
            histogram.add(Duration::from_micros(micros));
        }
        for (percent, exact) in [(1.0, 1000.0), (50.0, 50_000.0), (99.0, 99_000.0), (100.0, 100_000.0)] {
            let found = histogram.percentile(percent).unwrap().as_micros() as f64;
            assert!((found / exact - 1.0).abs() < 0.04, "{percent}: {found}");
        }
        histogram.add(Duration::from_secs(100_000_000));
        assert_eq!(histogram.most(), Duration::from_secs(100_000_000));
    }

    #[test]
    fn small_times_are_exact() {
        let mut histogram = Histogram::default();
        [3, 3, 7].iter().for_each(|micros| histogram.add(Duration::from_micros(*micros)));
        assert_eq!(histogram.percentile(50.0), Some(Duration::from_micros(3)));
        assert_eq!(histogram.percentile(100.0), Some(Duration::from_micros(7)));
        let mut both = histogram.clone();
        both.merge(&histogram);
        assert_eq!((both.count(), both.percentile(60.0)), (6, Some(Duration::from_micros(3))));
    }
}
