//! What was sent again of late: receivers that do not know how far away they are ask several times for what is under way already.

use std::time::{Duration, Instant};

/// Packets that are remembered of one stream: all that are lost in a second of bad network, and 768 bytes once there is one.
const REMEMBERED: usize = 64;
/// What is asked for again within that time is under way, where nothing is known of the round trip.
const UNKNOWN: Duration = Duration::from_millis(30);
/// Share of the round trip within which that is so: round trips differ.
const SHARE: f64 = 0.8;
/// Longest time for which it is believed.
const MOST: Duration = Duration::from_millis(500);

/// How lost packets are sent again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repair {
    /// How long it takes to the receiver and back, if that is known.
    pub round_trip: Option<Duration>,
    /// Each is sent twice: the way loses some of whatever is sent, and a decoder that waits for two round trips stands still.
    pub twice: bool,
    /// The receiver has asked for them.
    pub asked: bool,
}

/// The packets of one stream that were sent again last.
#[derive(Clone, Debug, Default)]
pub(super) struct Again {
    recent: Vec<(u16, Instant)>,
    next: usize,
}

impl Again {
    /// Whether a packet is to be sent again, now that it is asked for; if so, that is remembered.
    pub(super) fn is_due(&mut self, now: Instant, sequence: u16, repair: Repair) -> bool {
        let patience = repair.round_trip.map_or(UNKNOWN, |time| time.mul_f64(SHARE).min(MOST));
        if let Some(known) = self.recent.iter_mut().find(|(number, _)| *number == sequence) {
            let is_due = now >= known.1 + patience;
            if is_due {
                known.1 = now;
            }
            return is_due;
        }
        if self.recent.len() < REMEMBERED {
            self.recent.push((sequence, now));
        } else {
            self.recent[self.next] = (sequence, now);
            self.next = (self.next + 1) % REMEMBERED;
        }
        true
    }

    /// Whether it has been sent again this instant.
    pub(super) fn was_just_sent(&self, now: Instant, sequence: u16) -> bool {
        self.recent.contains(&(sequence, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_not_sent_once_more() {
        let (mut again, start) = (Again::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let far = Repair { round_trip: Some(Duration::from_millis(200)), ..Repair::default() };
        let asked: Vec<_> = [0, 20, 100, 159, 170, 300, 340].map(|ms| again.is_due(at(ms), 7, far)).into();
        assert_eq!(asked, [true, false, false, false, true, false, true]);
        assert!(again.is_due(at(341), 8, far), "another packet");
        assert!(again.is_due(at(380), 7, Repair::default()), "nothing is known of the way");
        for number in 100..100 + REMEMBERED as u16 {
            assert!(again.is_due(at(381), number, far));
        }
        assert!(again.is_due(at(381), 7, far), "long forgotten");
        assert_eq!(again.recent.len(), REMEMBERED);
    }
}
