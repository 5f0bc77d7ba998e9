//! A level that rises at once and falls when it was too high for a while.

use std::time::{Duration, Instant};

/// Losses must have been low for that long. They come in bursts, and what comes too late is of no use.
const CALM: Duration = Duration::from_secs(10);

/// Between which shares of losses a level stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// From here on it is taken.
    pub up: f64,
    /// Below it is left.
    pub down: f64,
}

/// Which of several levels is taken; 0 = none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Level {
    level: usize,
    /// Since when a lower one would do.
    calm: Option<Instant>,
}

impl Level {
    /// A share was lost. The level that follows, of those whose steps are given, ascending.
    pub fn update(&mut self, now: Instant, losses: f64, steps: &[Steps]) -> usize {
        let wanted = steps.iter().take_while(|step| losses >= step.up).count();
        if wanted > self.level {
            *self = Self { level: wanted, calm: None };
        }
        let Some(step) = self.level.checked_sub(1).and_then(|at| steps.get(at)) else { return self.level };
        if losses >= step.down {
            self.calm = None;
        } else if now >= *self.calm.get_or_insert(now) + CALM {
            *self = Self { level: self.level - 1, calm: None };
        }
        self.level
    }

    /// The same as before.
    #[must_use]
    pub fn get(&self) -> usize {
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Steps; 2] = [Steps { up: 0.02, down: 0.01 }, Steps { up: 0.1, down: 0.05 }];

    #[test]
    fn it_rises_at_once_and_falls_step_by_step() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut level = Level::default();
        let said = [(0, 0.019, 0), (0, 0.02, 1), (0, 0.3, 2), (1, 0.06, 2), (2, 0.04, 2), (11, 0.04, 2)];
        for (second, losses, expected) in said {
            assert_eq!(level.update(at(second), losses, &STEPS), expected, "{second} s, {losses}");
        }
        assert_eq!(level.update(at(12), 0.04, &STEPS), 1);
        assert_eq!(level.update(at(100), 0.015, &STEPS), 1);
        assert_eq!(level.update(at(101), 0.0, &STEPS), 1);
        assert_eq!(level.update(at(111), 0.0, &STEPS), 0);
    }

    #[test]
    fn it_does_not_flap_between_the_steps() {
        let start = Instant::now();
        let mut level = Level::default();
        let mut changes = 0;
        let mut last = 0;
        for tick in 0..3_000u64 {
            let losses = if tick / 10 % 2 == 0 { 0.03 } else { 0.0 };
            let now = level.update(start + Duration::from_millis(200 * tick), losses, &STEPS);
            changes += usize::from(now != last);
            last = now;
        }
        assert_eq!((changes, last), (1, 1));
    }
}
