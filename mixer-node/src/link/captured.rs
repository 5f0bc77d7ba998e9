//! When that was captured which comes in of a source: written by whoever takes its packets, read by whoever brings it together with others.

use std::time::{Duration, Instant};

use kaigi_supply::Captured;
use parking_lot::Mutex;

/// What was said longer ago is of something that does not come any more.
const STALE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub struct CaptureTime(Mutex<Option<Captured>>);

impl CaptureTime {
    /// What came at that time was captured then, in seconds since 1900 by the publisher's clock.
    pub fn set(&self, came: Instant, seconds: f64) {
        *self.0.lock() = Some(Captured { came, seconds });
    }

    /// What is known at `now`; nothing of sources that say nothing of it, or do not come.
    #[must_use]
    pub fn get(&self, now: Instant) -> Option<Captured> {
        self.0.lock().filter(|captured| now.saturating_duration_since(captured.came) < STALE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_any_more_says_nothing() {
        let (time, now) = (CaptureTime::default(), Instant::now());
        assert_eq!(time.get(now), None);
        time.set(now, 7.0);
        let told = time.get(now + STALE / 2).map(|captured| captured.at(now + STALE / 2));
        assert_eq!(told, Some(7.0 + STALE.as_secs_f64() / 2.0));
        assert_eq!(time.get(now + STALE), None);
    }
}
