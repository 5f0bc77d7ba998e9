//! What was placed on a worker a moment ago, and does not show in what it measures yet.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::worker::{Load, TaskId};

/// Until a task shows in the measured load: some time until it begins, the five seconds of which a worker's CPU use is the mean, and a heartbeat.
const SETTLING: Duration = Duration::from_secs(8);

/// Most tasks of a round that are counted; many more than make a worker the last choice.
const MAX_TASKS: usize = 10_000;

/// What was placed on one worker, in rounds from heartbeat to heartbeat.
#[derive(Debug, Default)]
pub(super) struct Expected {
    rounds: VecDeque<Round>,
    /// Whether the worker has reported since the last round began.
    is_over: bool,
}

#[derive(Debug)]
struct Round {
    began: Instant,
    /// The load before, or the lowest since: by then others have ended.
    measured: Load,
    tasks: Vec<TaskId>,
}

impl Expected {
    /// A task is placed on the worker, whose load was `measured` before.
    pub(super) fn place(&mut self, now: Instant, measured: Load, task: TaskId) {
        match self.rounds.back_mut().filter(|_| !self.is_over) {
            Some(round) if round.tasks.len() >= MAX_TASKS => {}
            Some(round) => round.tasks.push(task),
            None => self.rounds.push_back(Round { began: now, measured, tasks: vec![task] }),
        }
        self.is_over = false;
    }

    /// A task is not the worker's any more.
    pub(super) fn release(&mut self, task: &TaskId) {
        self.rounds.iter_mut().for_each(|round| round.tasks.retain(|placed| placed != task));
    }

    /// The worker has reported. What was placed long ago is in what it measures by now.
    pub(super) fn reported(&mut self, now: Instant, measured: Load) {
        self.is_over = true;
        for round in self.rounds.iter_mut().filter(|round| measured < round.measured) {
            round.measured = measured;
        }
        while self.rounds.front().is_some_and(|round| round.began + SETTLING <= now) {
            self.rounds.pop_front();
        }
    }

    /// The load that is to be expected if each task raises it by `share`. A task counts on top of what was measured before it, so that it counts once
    /// however much of it is measured already.
    pub(super) fn load(&self, measured: Load, share: Load) -> f64 {
        let mut tasks = 0;
        let since_each = self.rounds.iter().rev().map(|round| {
            tasks += round.tasks.len();
            round.measured.get() + tasks as f64 * share.get()
        });
        since_each.fold(measured.get(), f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: f64 = 0.25;

    /// A worker whose clock stands still unless it is told to go on.
    struct At {
        now: Instant,
        measured: Load,
        expected: Expected,
    }

    impl At {
        fn new(measured: f64) -> Self {
            Self {
                now: Instant::now(),
                measured: Load::new(measured).unwrap(),
                expected: Expected::default(),
            }
        }

        fn place(&mut self, task: &str) {
            self.expected.place(self.now, self.measured, TaskId::new(task).unwrap());
        }

        fn report(&mut self, after: Duration, measured: f64) {
            self.now += after;
            self.measured = Load::new(measured).unwrap();
            self.expected.reported(self.now, self.measured);
        }

        fn load(&self) -> f64 {
            self.expected.load(self.measured, Load::new(SHARE).unwrap())
        }
    }

    #[test]
    fn a_task_counts_at_once_and_not_twice() {
        let mut at = At::new(0.0);
        at.place("a");
        at.place("b");
        assert_eq!(at.load(), 0.5);
        at.report(Duration::ZERO, 0.25);
        assert_eq!(at.load(), 0.5, "half of it is measured");
        at.place("c");
        assert_eq!(at.load(), 0.75);
        at.report(Duration::ZERO, 0.9);
        assert_eq!(at.load(), 0.9, "they take more than was expected");
    }

    #[test]
    fn what_is_released_does_not_count() {
        let mut at = At::new(0.5);
        at.place("a");
        at.expected.release(&TaskId::new("a").unwrap());
        assert_eq!(at.load(), 0.5);
    }

    #[test]
    fn a_task_counts_on_top_of_what_is_left_of_others() {
        let mut at = At::new(0.75);
        at.place("a");
        at.report(Duration::ZERO, 0.25);
        assert_eq!(at.load(), 0.5);
    }

    #[test]
    fn after_a_while_only_what_is_measured_counts() {
        let mut at = At::new(0.0);
        at.place("a");
        at.report(SETTLING / 2, 0.0);
        at.place("b");
        assert_eq!(at.load(), 0.5);
        at.report(SETTLING / 2, 0.0);
        assert_eq!(at.load(), 0.25);
        at.report(SETTLING, 0.0);
        assert_eq!(at.load(), 0.0);
    }
}
