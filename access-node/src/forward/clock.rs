//! Wall-clock time in NTP format, reckoned from the monotonic clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds between 1900 and 1970.
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

/// Relates the two clocks once.
#[derive(Clone, Copy, Debug)]
pub struct NtpClock {
    at: Instant,
    ntp: u64,
}

impl NtpClock {
    /// The clock that shows `wall` at `at`.
    #[must_use]
    pub fn new(at: Instant, wall: SystemTime) -> Self {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at, ntp: (NTP_UNIX_OFFSET << 32).wrapping_add(fixed_point(since)) }
    }

    /// NTP time (RFC 3550 §4), 64 bits.
    #[must_use]
    pub fn ntp(&self, now: Instant) -> u64 {
        self.ntp.wrapping_add(fixed_point(now.saturating_duration_since(self.at)))
    }
}

/// Seconds in 32.32 fixed point.
#[must_use]
pub(super) fn fixed_point(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}
