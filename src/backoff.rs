//! How long to wait before a process that ended is started again.

use std::time::Duration;

/// The first pause: a process that died once is back before its clients notice much.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause: one that can't start costs little and is back soon after its trouble is mended.
const LONGEST: Duration = Duration::from_secs(5);
/// After running this long a process counts as sound again.
const SOUND_AFTER: Duration = Duration::from_secs(10);

/// Pauses that double while the process keeps ending early.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The pause after a process that ran for `ran`.
    pub fn pause_after(&mut self, ran: Duration) -> Duration {
        if ran >= SOUND_AFTER {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_seconds() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> =
            (0..8).map(|_| backoff.pause_after(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn a_process_that_ran_ten_seconds_starts_over_at_once() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.pause_after(Duration::from_secs(9));
        }
        assert_eq!(backoff.pause_after(Duration::from_secs(10)), FIRST);
        assert_eq!(backoff.pause_after(Duration::from_secs(1)), FIRST * 2);
    }
}
