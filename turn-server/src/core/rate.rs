//! A bound on what flows.

use std::time::Instant;

/// How much may come at once, in time at the full rate: what a picture's key frame takes.
const BURST_SECONDS: f64 = 1.0;

/// Bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitrate(pub u64);

/// A token bucket: what fits into the rate passes, the rest does not.
#[derive(Debug)]
pub(super) struct Bucket {
    bytes_per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Bitrate, now: Instant) -> Self {
        let bytes_per_second = rate.0 as f64 / 8.0;
        Self { bytes_per_second, tokens: bytes_per_second * BURST_SECONDS, filled: now }
    }

    /// Whether so many bytes pass now.
    pub(super) fn takes(&mut self, bytes: usize, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.bytes_per_second;
        self.tokens = (self.tokens + gained).min(self.bytes_per_second * BURST_SECONDS);
        self.filled = now;
        let passes = self.tokens >= bytes as f64;
        if passes {
            self.tokens -= bytes as f64;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_passes_is_the_rate_and_one_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Bitrate(80_000), start);
        let passed = (0..10_000u64)
            .filter(|millisecond| bucket.takes(100, start + Duration::from_millis(*millisecond)))
            .count();
        // 10 kB a second for ten seconds, and the burst.
        assert!((1090..=1100).contains(&passed), "{passed}");
    }
}
