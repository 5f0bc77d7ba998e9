//! How long the packets of a frame wait for the rest of it, so that all leave together. A decoder can't begin before the last, which never
//! waits, so this delays no frame, unless its last packet is lost or out of order.

use std::time::{Duration, Instant};

/// They wait so long for the next one.
const PATIENCE: Duration = Duration::from_millis(1);
/// And so long for all. Of a large room it takes a worker that long to write a frame.
const MOST: Duration = Duration::from_millis(4);

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Hold(Option<Held>);

#[derive(Debug)]
struct Held {
    count: usize,
    until: Instant,
    latest: Instant,
}

impl Hold {
    /// So many wait now: whether they go on waiting.
    pub(super) fn goes_on(&mut self, now: Instant, count: usize) -> bool {
        let held = self.0.get_or_insert(Held { count, until: now + PATIENCE, latest: now + MOST });
        if count > held.count {
            (held.count, held.until) = (count, (now + PATIENCE).min(held.latest));
        }
        now < held.until
    }

    /// They leave. Whether any have waited.
    pub(super) fn end(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// When they leave if no more come.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.as_ref().map(|held| held.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_wait_for_each_next_one_and_not_for_ever() {
        let (mut hold, start) = (Hold::default(), Instant::now());
        let at = |micros| start + Duration::from_micros(micros);
        assert!(hold.goes_on(start, 10));
        assert_eq!(hold.until(), Some(at(1000)));
        assert!(hold.goes_on(at(999), 10));
        assert!(!hold.goes_on(at(1000), 10), "nothing came");
        assert!(hold.end() && !hold.end());
        let waited = (0..100).take_while(|n| hold.goes_on(at(900 * n), *n as usize + 1)).count();
        assert_eq!(waited, 5, "until 4 ms are over");
    }
}
