//! RTP timestamps of what this node produces.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds from 1900, where NTP time begins, to 1970.
const NTP_OFFSET: u64 = 2_208_988_800;

/// Relates the monotonic clock to one track's RTP timestamps, for as long as the track lives.
#[derive(Clone, Copy, Debug)]
pub struct MediaClock {
    /// When the media time is zero.
    pub origin: Instant,
    /// RTP timestamp at the origin; random, RFC 3550 §5.1.
    pub offset: u32,
    /// Hz.
    pub rate: u32,
    /// How old what is shown or heard is when it is given its timestamp: since it was captured, as far as this node is to blame.
    pub age: Duration,
}

impl MediaClock {
    /// A clock of `rate` Hz from `origin`, with a random offset.
    #[must_use]
    pub fn new(origin: Instant, rate: u32) -> Self {
        Self { origin, offset: rand::random(), rate, age: Duration::ZERO }
    }

    /// The same of something that is that old.
    #[must_use]
    pub fn aged(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// The RTP timestamp of what is captured at `now`, which comes later.
    #[must_use]
    pub(crate) fn timestamp_of_capture(&self, now: Instant) -> u32 {
        self.timestamp_at(now + self.age)
    }

    /// The RTP timestamp of a media time.
    #[must_use]
    pub fn timestamp(&self, media: Duration) -> u32 {
        let units = media.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        self.offset.wrapping_add(units as u32)
    }

    /// The RTP timestamp at `now`.
    #[must_use]
    pub fn timestamp_at(&self, now: Instant) -> u32 {
        self.timestamp(now.saturating_duration_since(self.origin))
    }
}

/// NTP time, 32 bits of seconds and 32 of fractions (RFC 3550 §4).
#[must_use]
pub(crate) fn ntp(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs().wrapping_add(NTP_OFFSET) << 32) | fraction
}

/// NTP time of seconds since 1900.
#[must_use]
pub(crate) fn ntp_of(seconds: f64) -> u64 {
    (seconds * 4_294_967_296.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_advance_by_the_rate_and_wrap() {
        let clock =
            MediaClock { origin: Instant::now(), offset: u32::MAX, rate: 90_000, age: Duration::ZERO };
        assert_eq!(clock.timestamp(Duration::from_secs(1)), 89_999);
        assert_eq!(clock.timestamp_at(clock.origin + Duration::from_millis(10)), 899);
        let days = Duration::from_secs(90 * 86_400);
        assert_eq!(clock.timestamp(days), (90 * 86_400 * 90_000u64 - 1) as u32);
    }

    #[test]
    fn what_is_captured_now_has_a_later_timestamp() {
        let origin = Instant::now();
        let clock = MediaClock { origin, offset: 5, rate: 48_000, age: Duration::from_millis(90) };
        assert_eq!((clock.timestamp_at(origin), clock.timestamp_of_capture(origin)), (5, 5 + 90 * 48));
    }

    #[test]
    fn ntp_time_begins_in_1900() {
        let half_past = UNIX_EPOCH + Duration::from_millis(1500);
        assert_eq!(ntp(half_past), (2_208_988_801 << 32) | 0x8000_0000);
    }
}
