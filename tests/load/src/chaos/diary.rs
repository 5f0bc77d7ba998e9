//! What a guest experiences.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What a guest receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Another's stream, picture and sound.
    Forward,
    /// The picture of the room's mix.
    Mixed,
}

/// A request that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) made: Instant,
    pub(super) answered: Instant,
    pub(super) granted: bool,
}

/// How something comes in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    last: Option<Instant>,
    longest: Duration,
    lost: u64,
}

impl Line {
    /// What a receiver tells.
    pub(super) fn note(&mut self, now: Instant, told: &Told) {
        // Of another receiver than before, which goes on where that has ended.
        let between = match (self.last, told.first) {
            (Some(last), Some(first)) => first.saturating_duration_since(last),
            _ => Duration::ZERO,
        };
        self.last = self.last.max(told.last);
        self.lost += told.lost;
        let since = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.longest = self.longest.max(told.gap).max(between).max(since);
    }
}

/// What a receiver tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) what: What,
    /// When its first and its last frame came.
    pub(super) first: Option<Instant>,
    pub(super) last: Option<Instant>,
    /// The longest time between two frames since it told last.
    pub(super) gap: Duration,
    /// Packets that it lost since it told last.
    pub(super) lost: u64,
}

/// What a guest has experienced since it was read last.
#[derive(Clone, Debug, Default)]
pub(super) struct Diary {
    pub(super) calls: Vec<Call>,
    pub(super) lines: BTreeMap<What, Line>,
    /// Connections by a ticket, to another portal or the same one.
    pub(super) came_back: usize,
    /// Media, or everything, was begun anew.
    pub(super) began_anew: usize,
    pub(super) errors: Vec<String>,
}

/// Most errors that are kept.
const MAX_ERRORS: usize = 20;

impl Diary {
    pub(super) fn error(&mut self, what: impl ToString) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(what.to_string());
        }
    }

    /// What there is, and a new page: what stands still goes on standing still.
    pub(super) fn turn(&mut self) -> Self {
        let lines =
            self.lines.iter().map(|(what, line)| (*what, Line { last: line.last, ..Line::default() }));
        let next = Self { lines: lines.collect(), ..Self::default() };
        std::mem::replace(self, next)
    }

    /// From `killed` until a request that was made after it had been granted.
    pub(super) fn control_after(&self, killed: Instant) -> Option<Duration> {
        let granted = self.calls.iter().filter(|call| call.granted && call.made >= killed);
        granted.map(|call| call.answered - killed).min()
    }

    /// Longest time without a frame; `None` if it does not come any more.
    pub(super) fn longest_gap(&self, what: What, now: Instant, late: Duration) -> Option<Duration> {
        let line = self.lines.get(&what)?;
        let runs = line.last.is_some_and(|last| now.saturating_duration_since(last) < late);
        runs.then_some(line.longest)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lines.values().map(|line| line.lost).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn control_is_back_with_a_request_made_after_the_kill() {
        let killed = Instant::now();
        let call = |made: u32, answered: u32, granted| Call {
            // From 1 s before the kill on.
            made: killed - 1000 * MS + made * MS,
            answered: killed - 1000 * MS + answered * MS,
            granted,
        };
        let mut diary = Diary::default();
        diary.calls.push(call(900, 1100, true));
        assert_eq!(diary.control_after(killed), None);
        diary.calls.push(call(1100, 1200, false));
        diary.calls.push(call(1300, 1700, true));
        diary.calls.push(call(1800, 1900, true));
        assert_eq!(diary.control_after(killed), Some(700 * MS));
    }

    #[test]
    fn a_stand_still_is_as_long_over_several_pages() {
        let (began, mut diary) = (Instant::now(), Diary::default());
        let note = |diary: &mut Diary, at: u32, last: u32| {
            let last = Some(began + last * MS);
            let told = Told { what: What::Forward, first: Some(began), last, gap: 20 * MS, lost: 1 };
            diary.lines.entry(What::Forward).or_default().note(began + at * MS, &told);
        };
        note(&mut diary, 100, 90);
        diary.turn();
        note(&mut diary, 1500, 90);
        note(&mut diary, 1600, 1590);
        let page = diary.turn();
        assert_eq!(page.longest_gap(What::Forward, began + 1600 * MS, 500 * MS), Some(1410 * MS));
        assert_eq!(page.longest_gap(What::Forward, began + 3000 * MS, 500 * MS), None);
        assert_eq!((page.lost(), diary.lost()), (2, 0));
        assert_eq!(page.longest_gap(What::Mixed, began, 500 * MS), None);
    }

    #[test]
    fn from_one_receiver_to_the_next_nothing_comes() {
        let (began, mut diary) = (Instant::now(), Diary::default());
        for (at, first, last) in [(100, 0, 90), (2000, 1900, 1990)] {
            let [first, last] = [first, last].map(|ms: u32| Some(began + ms * MS));
            let told = Told { what: What::Mixed, first, last, gap: 20 * MS, lost: 0 };
            diary.lines.entry(What::Mixed).or_default().note(began + at * MS, &told);
        }
        assert_eq!(diary.turn().longest_gap(What::Mixed, began + 2000 * MS, 500 * MS), Some(1810 * MS));
    }
}
