//! Which packets of a received source to ask for again (generic NACK, RFC 4585 §6.2.1).

use std::time::{Duration, Instant};

/// A hole is asked for only after this time, in case the packet is merely late. Costs that much delay for each loss.
const REORDERING: Duration = Duration::from_millis(10);
/// Time between two requests for the same packet: about a round trip over a continent.
const INTERVAL: Duration = Duration::from_millis(60);
/// Requests for one packet; together with [`INTERVAL`] 600 ms, after which no decoder waits any more.
const MAX_TRIES: u8 = 10;
/// Most holes remembered. A burst of more is a gap that a key frame heals better.
const MAX_MISSING: usize = 300;

#[derive(Debug)]
struct Hole {
    sequence: u64,
    due: Instant,
    tries: u8,
}

/// The holes of one source.
#[derive(Debug, Default)]
pub(super) struct NackTracker {
    /// Ascending.
    missing: Vec<Hole>,
}

impl NackTracker {
    /// A packet arrived with `gap` packets missing before it. Returns whether so much is missing that it is given up and a key
    /// frame is wanted instead.
    #[must_use]
    pub(super) fn arrived(&mut self, now: Instant, sequence: u64, gap: u64) -> bool {
        let found = self.missing.binary_search_by_key(&sequence, |hole| hole.sequence);
        if let Ok(place) = found {
            self.missing.remove(place);
        }
        if gap == 0 {
            return false;
        }
        if gap as usize + self.missing.len() > MAX_MISSING || gap > MAX_MISSING as u64 {
            self.missing.clear();
            return true;
        }
        // A gap is before the newest packet, so after all other holes.
        let hole = |sequence| Hole { sequence, due: now + REORDERING, tries: 0 };
        self.missing.extend((sequence - gap..sequence).map(hole));
        false
    }

    /// When [`Self::take_due`] has something to say.
    #[must_use]
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.missing.iter().map(|hole| hole.due).min()
    }

    /// The packets to ask for now, ascending.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<u16> {
        self.missing.retain(|hole| hole.due > now || hole.tries < MAX_TRIES);
        self.missing
            .iter_mut()
            .filter(|hole| hole.due <= now)
            .map(|hole| {
                hole.due = now + INTERVAL;
                hole.tries += 1;
                hole.sequence as u16
            })
            .collect()
    }

    /// Forgets all holes.
    pub(super) fn clear(&mut self) {
        self.missing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_asked_for_until_it_is_filled() {
        let now = Instant::now();
        let mut nack = NackTracker::default();
        assert!(!nack.arrived(now, 10, 2));
        assert_eq!(nack.take_due(now), [0; 0], "it may be merely late");
        let now = nack.next_timeout().unwrap();
        assert_eq!(nack.take_due(now), [8, 9]);
        assert!(!nack.arrived(now, 8, 0));
        let now = nack.next_timeout().unwrap();
        assert_eq!(nack.take_due(now), [9]);
        assert!(!nack.arrived(now, 9, 0));
        assert_eq!(nack.next_timeout(), None);
    }

    #[test]
    fn requests_are_limited_in_number() {
        let mut nack = NackTracker::default();
        let _ = nack.arrived(Instant::now(), 10, 1);
        let mut tries = 0;
        while let Some(now) = nack.next_timeout() {
            tries += nack.take_due(now).len();
        }
        assert_eq!(tries, usize::from(MAX_TRIES));
    }

    #[test]
    fn a_large_gap_wants_a_key_frame() {
        let now = Instant::now();
        let mut nack = NackTracker::default();
        assert!(nack.arrived(now, 100_000, 50_000));
        assert_eq!(nack.next_timeout(), None);
        assert!(!nack.arrived(now, 200_000, 200));
        assert!(nack.arrived(now, 200_301, 200));
    }
}
