//! Not too often.

use std::time::{Duration, Instant};

/// Lets one request through per interval; what is asked for in between is granted when the interval is over.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    last: Option<Instant>,
    wanted: bool,
}

impl Throttle {
    /// Nothing asked for yet.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: None, wanted: false }
    }

    /// Asks.
    pub fn request(&mut self) {
        self.wanted = true;
    }

    /// Whether [`poll`](Self::poll) would be true.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.wanted && self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval)
    }

    /// Whether to act now. True once per grant.
    pub fn poll(&mut self, now: Instant) -> bool {
        if !self.is_due(now) {
            return false;
        }
        self.wanted = false;
        self.last = Some(now);
        true
    }
}

/// Growing pauses between attempts.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        pause
    }

    /// It worked.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_granted_once_per_interval() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut throttle = Throttle::new(ms(500));
        assert!(!throttle.poll(start));
        throttle.request();
        assert!(throttle.poll(start));
        throttle.request();
        throttle.request();
        assert!(!throttle.poll(start + ms(499)));
        assert!(throttle.poll(start + ms(500)));
        assert!(!throttle.poll(start + ms(2000)));
    }

    #[test]
    fn pauses_double_up_to_two_seconds() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.pause().as_millis(), 100);
    }
}
