//! Whether work goes on, judged by looking at its counters from time to time.

use std::time::{Duration, Instant};

/// What a single look counts for at most: when the looks themselves are late, the whole machine stood still.
const LONGEST_LOOK: Duration = Duration::from_millis(400);

/// Tells work that stands still from work that has nothing to do.
#[derive(Debug)]
pub struct Watchdog {
    patience: Duration,
    last: Option<(Instant, u64)>,
    still: Duration,
}

impl Watchdog {
    /// For work that may take `patience` for a step.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { patience, last: None, still: Duration::ZERO }
    }

    /// Looks. `owed`: whether there is something to be done; `progress`: a counter that changes with each step. Whether no step was made
    /// for longer than patience allows; true once for each such time.
    pub fn look(&mut self, owed: bool, progress: u64, now: Instant) -> bool {
        let before = self.last.replace((now, progress));
        match before {
            Some((at, seen)) if owed && seen == progress => {
                self.still += now.saturating_duration_since(at).min(LONGEST_LOOK);
            }
            _ => self.still = Duration::ZERO,
        }
        let gone = self.still >= self.patience;
        if gone {
            self.still = Duration::ZERO;
        }
        gone
    }
}

/// How long a codec may take for one picture.
const CODEC: Duration = Duration::from_millis(1200);
/// So many pictures given, and none made of them: more than any codec holds back in real time.
const BARREN: u64 = 5;

/// What is counted of a codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodecCount {
    /// Whether something waits to be taken by it.
    pub waiting: bool,
    /// Pictures that it was given.
    pub given: u64,
    /// Pictures that it made.
    pub made: u64,
}

/// What is wrong with a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ailment {
    /// It takes nothing any more.
    #[error("it stands still")]
    StandsStill,
    /// It takes pictures and makes none.
    #[error("nothing comes of what it is given")]
    Barren,
}

/// Watches one codec; looked at some times a second.
#[derive(Debug)]
pub struct CodecWatch {
    entrance: Watchdog,
    exit: Watchdog,
    /// Count at the last look, and how much was given when something was made last.
    made: u64,
    given: u64,
}

impl Default for CodecWatch {
    fn default() -> Self {
        Self { entrance: Watchdog::new(CODEC), exit: Watchdog::new(CODEC), made: 0, given: 0 }
    }
}

impl CodecWatch {
    /// What is wrong with it, if anything is; told once.
    pub fn look(&mut self, count: CodecCount, now: Instant) -> Option<Ailment> {
        if count.made != self.made {
            (self.made, self.given) = (count.made, count.given);
        }
        if self.entrance.look(count.waiting, count.given, now) {
            return Some(Ailment::StandsStill);
        }
        let in_vain = count.given.saturating_sub(self.given) >= BARREN;
        self.exit.look(in_vain, count.made, now).then_some(Ailment::Barren)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);
    const SECOND: Duration = Duration::from_secs(1);

    /// When the watchdog barks within `time`, looked at every 100 ms; `work` says what is owed and done at a step.
    fn barks(time: Duration, mut work: impl FnMut(u64) -> (bool, u64)) -> Vec<Duration> {
        let (start, mut dog) = (Instant::now(), Watchdog::new(SECOND));
        let steps = (time.as_millis() / STEP.as_millis()) as u32;
        let mut look = |step: u32| {
            let (owed, progress) = work(step.into());
            dog.look(owed, progress, start + STEP * step)
        };
        (0..steps).filter(|step| look(*step)).map(|step| STEP * step).collect()
    }

    #[test]
    fn work_that_stands_still_is_told_once_in_its_patience() {
        assert_eq!(barks(SECOND * 3, |_| (true, 7)), [SECOND, SECOND * 2]);
        assert_eq!(barks(SECOND * 3, |step| (true, step.min(10))), [SECOND * 2]);
    }

    #[test]
    fn slow_work_and_rest_are_no_standstill() {
        assert!(barks(SECOND * 60, |step| (true, step / 9)).is_empty());
        assert!(barks(SECOND * 60, |_| (false, 7)).is_empty());
        assert!(barks(SECOND * 60, |step| (step % 9 > 0, 7)).is_empty());
    }

    #[test]
    fn a_machine_that_stood_still_is_none() {
        let (start, mut dog) = (Instant::now(), Watchdog::new(SECOND));
        assert!(!dog.look(true, 1, start));
        assert!(!dog.look(true, 1, start + SECOND * 30));
        assert!(!dog.look(true, 1, start + SECOND * 60));
        assert!(dog.look(true, 1, start + SECOND * 90), "whoever looks late looks again");
    }

    /// What is found within 10 s of a codec that is looked at every 100 ms.
    fn found(count: impl Fn(u64) -> CodecCount) -> Option<(u64, Ailment)> {
        let (start, mut watch) = (Instant::now(), CodecWatch::default());
        (0..100u64).find_map(|step| {
            let now = start + STEP * u32::try_from(step).unwrap();
            watch.look(count(step), now).map(|ailment| (step, ailment))
        })
    }

    #[test]
    fn codecs_that_work_are_left_alone() {
        let usual = |step| CodecCount { waiting: step % 2 > 0, given: step * 3, made: step * 3 };
        assert_eq!(found(usual), None);
        assert_eq!(found(|_| CodecCount::default()), None, "nothing comes");
        let slow = |step| CodecCount { waiting: true, given: step / 10, made: step / 10 };
        assert_eq!(found(slow), None);
        let four_late = |step: u64| CodecCount { waiting: false, given: step, made: step.saturating_sub(4) };
        assert_eq!(found(four_late), None);
        let few = |_| CodecCount { waiting: false, given: 4, made: 0 };
        assert_eq!(found(few), None, "the first of them may be those that say how many wait");
    }

    #[test]
    fn one_that_takes_nothing_more_and_one_that_makes_nothing_are_found_within_two_seconds() {
        let stuck =
            |step: u64| CodecCount { waiting: step > 10, given: step.min(10) + 1, made: step.min(10) };
        assert!(matches!(found(stuck), Some((..30, Ailment::StandsStill))), "{:?}", found(stuck));
        let barren = |step: u64| CodecCount { waiting: false, given: step * 3, made: step.min(10) * 3 };
        assert!(matches!(found(barren), Some((..30, Ailment::Barren))), "{:?}", found(barren));
    }
}
