//! When what a source gives is due in the room: its presentation times on the clock of this process. Both kinds share one mapping, so that
//! sound and picture stay together.

use std::time::{Duration, Instant};

use crate::lanes::Kind;

/// A step of a source's own times beyond this is no gap but another time line.
const JUMP: Duration = Duration::from_secs(3);
/// What a live source gives at once when it is connected to is of the past: it is not ahead of the clock by more.
const AHEAD: Duration = Duration::from_millis(500);
/// What is later than that does not catch up any more.
const BEHIND: Duration = Duration::from_secs(10);
/// A file that can't be read in time goes on later; smaller delays are made good.
const STALL: Duration = Duration::from_millis(300);
/// Between two pictures, at least.
const STEP: Duration = Duration::from_millis(1);

/// How fast a source gives what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As it happens: nothing waits here.
    Live,
    /// As fast as it is taken: everything waits for its time.
    Stored,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pacer {
    pace: Pace,
    /// This presentation time is due then.
    anchor: Option<(Duration, Instant)>,
    kinds: [Last; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    time: Option<Duration>,
    due: Option<Instant>,
}

impl Pacer {
    /// Nothing has come yet.
    #[must_use]
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, anchor: None, kinds: [Last::default(); 2] }
    }

    /// The source begins anew, with times of its own.
    pub(super) fn restart(&mut self) {
        self.anchor = None;
        for last in &mut self.kinds {
            last.time = None;
        }
    }

    /// When what has that presentation time is due; never before what came earlier of its kind.
    pub(super) fn due(&mut self, kind: Kind, time: Duration, now: Instant) -> Instant {
        let last = self.kinds[kind as usize];
        let jumps = last.time.is_some_and(|before| before.abs_diff(time) > JUMP);
        let mut at = match self.anchor {
            Some((from, at)) if !jumps => shifted(at, from, time),
            _ => now,
        };
        let (behind, ahead) = (now.saturating_duration_since(at), at.saturating_duration_since(now));
        let beyond = match self.pace {
            Pace::Live => ahead > AHEAD || behind > BEHIND,
            Pace::Stored => ahead > JUMP + STALL || behind > STALL,
        };
        if self.anchor.is_none() || jumps || beyond {
            at = now;
            self.anchor = Some((time, now));
        }
        let due = last.due.map_or(at, |before| at.max(before + STEP));
        self.kinds[kind as usize] = Last { time: Some(time), due: Some(due) };
        due
    }
}

/// The instant of `time` where `from` is at `at`.
fn shifted(at: Instant, from: Duration, time: Duration) -> Instant {
    match time.checked_sub(from) {
        Some(later) => at + later,
        None => at.checked_sub(from.saturating_sub(time)).unwrap_or(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(40);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_live_source_keeps_its_own_intervals_however_it_arrives() {
        let (mut pacer, start) = (Pacer::new(Pace::Live), Instant::now());
        let hour = ms(3_600_000);
        assert_eq!(pacer.due(Kind::Video, hour, start), start);
        let late = start + FRAME + ms(30);
        assert_eq!(pacer.due(Kind::Video, hour + FRAME, late), start + FRAME);
        assert_eq!(pacer.due(Kind::Audio, hour + FRAME / 2, late), start + FRAME / 2);
    }

    #[test]
    fn a_stall_of_a_live_source_is_caught_up_with() {
        let (mut pacer, start) = (Pacer::new(Pace::Live), Instant::now());
        for frame in 0..50 {
            pacer.due(Kind::Video, FRAME * frame, start + FRAME * frame);
        }
        // Three seconds come at once.
        let burst = start + FRAME * 125;
        for frame in 50..125 {
            assert_eq!(pacer.due(Kind::Video, FRAME * frame, burst), start + FRAME * frame);
        }
    }

    #[test]
    fn what_a_live_server_has_kept_is_of_the_past() {
        let (mut pacer, start) = (Pacer::new(Pace::Live), Instant::now());
        let mut before = None;
        for frame in 0..100 {
            let due = pacer.due(Kind::Video, FRAME * frame, start);
            assert!(due <= start + AHEAD + STEP * 100);
            assert!(before.is_none_or(|before| due > before), "time went back");
            before = Some(due);
        }
    }

    #[test]
    fn stored_media_are_due_at_their_times() {
        let (mut pacer, start) = (Pacer::new(Pace::Stored), Instant::now());
        for frame in 0..10 {
            assert_eq!(pacer.due(Kind::Video, FRAME * frame, start), start + FRAME * frame);
        }
    }

    #[test]
    fn stored_media_that_stall_go_on_later_together() {
        let (mut pacer, start) = (Pacer::new(Pace::Stored), Instant::now());
        pacer.due(Kind::Video, ms(0), start);
        pacer.due(Kind::Audio, ms(0), start);
        let stalled = start + ms(2_000);
        assert_eq!(pacer.due(Kind::Video, ms(40), stalled), stalled);
        assert_eq!(pacer.due(Kind::Audio, ms(60), stalled), stalled + ms(20));
    }

    #[test]
    fn another_time_line_goes_on_without_going_back() {
        for pace in [Pace::Live, Pace::Stored] {
            let (mut pacer, start) = (Pacer::new(pace), Instant::now());
            pacer.due(Kind::Video, ms(60_000), start);
            let last = pacer.due(Kind::Video, ms(60_040), start);
            assert_eq!(pacer.due(Kind::Video, ms(0), start), last + STEP);
            pacer.restart();
            let later = start + ms(5_000);
            assert_eq!(pacer.due(Kind::Video, ms(999_999), later), later);
        }
    }
}
