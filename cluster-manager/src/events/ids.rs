//! Numbers of events.

use std::time::Duration;

use super::event::{EventId, UnixMillis};

/// How far ahead numbers are reserved: at most this much of the store's time is asked for one write.
const RESERVED_AHEAD: Duration = Duration::from_secs(60);

/// Makes numbers from the clock that rise even if the clock does not, over restarts too: before numbers are given, it is written down
/// up to which ([`Self::reserve`]), and a successor begins there.
#[derive(Debug)]
pub(crate) struct EventIds {
    last: u64,
    reserved: u64,
}

impl EventIds {
    /// Goes on after all that a predecessor may have given: `reserved` is what it wrote down last. The clock alone does if there is none.
    pub(crate) fn after(reserved: EventId, now: UnixMillis) -> Self {
        let last = reserved.0.max(micros(now));
        Self { last, reserved: reserved.0 }
    }

    /// The number after which all are new.
    pub(crate) fn last(&self) -> EventId {
        EventId(self.last)
    }

    /// What is to be written down before `count` further numbers are given, if that is not done yet.
    pub(crate) fn reserve(&mut self, count: usize, now: UnixMillis) -> Option<EventId> {
        let needed = self.last.max(micros(now)).saturating_add(count as u64);
        if needed <= self.reserved {
            return None;
        }
        self.reserved = needed.saturating_add(u64::try_from(RESERVED_AHEAD.as_micros()).unwrap_or(u64::MAX));
        Some(EventId(self.reserved))
    }

    /// The next number.
    pub(crate) fn next(&mut self, now: UnixMillis) -> EventId {
        self.last = (self.last + 1).max(micros(now));
        EventId(self.last)
    }
}

fn micros(now: UnixMillis) -> u64 {
    now.0.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    #[test]
    fn numbers_rise_whatever_the_clock_does() {
        let mut ids = EventIds::after(EventId(0), NOW);
        let times = [NOW, NOW, UnixMillis(NOW.0 - 5000), UnixMillis(NOW.0 + 1)];
        let given: Vec<u64> = times.into_iter().map(|now| ids.next(now).0).collect();
        assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
        assert_eq!(given[3], (NOW.0 + 1) * 1000);
        assert!(given[3] < 1 << 53, "exact as a number of JavaScript, too");
    }

    #[test]
    fn a_successor_with_a_slow_clock_goes_on_where_numbers_were_reserved() {
        let mut ids = EventIds::after(EventId(0), NOW);
        let written = ids.reserve(10, NOW).unwrap();
        assert_eq!(ids.reserve(10, NOW), None, "not written for each");
        let last = (0..10).map(|_| ids.next(NOW)).last().unwrap();
        assert!(last <= written);
        let mut successor = EventIds::after(written, UnixMillis(NOW.0 - 3_600_000));
        assert!(successor.next(UnixMillis(NOW.0 - 3_600_000)) > written);
    }

    #[test]
    fn the_clock_runs_out_of_what_was_reserved() {
        let mut ids = EventIds::after(EventId(0), NOW);
        ids.reserve(1, NOW).unwrap();
        assert!(ids.reserve(1, UnixMillis(NOW.0 + 61_000)).is_some());
    }
}
