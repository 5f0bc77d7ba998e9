//! The recovery table.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{
    LATE, Step,
    diary::{Diary, What},
};

/// What the guests noticed of one step. Times in seconds; `None`: not within the time that was looked at.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// What was done.
    pub step: Step,
    /// Requests of people in the conference.
    pub requests: usize,
    /// Of them those that were refused or not answered.
    pub failed: usize,
    /// Longest answer to one that was granted.
    pub slowest: f64,
    /// From the blow until everybody had a request granted that was made after it.
    pub control: Option<f64>,
    /// From the blow until somebody new was in.
    pub join: Option<f64>,
    /// Longest time without a frame of another's stream, of all who receive it.
    pub forward_gap: Option<f64>,
    /// Longest time without a frame of the mix.
    pub mixed_gap: Option<f64>,
    /// Packets that never came, of streams that went on.
    pub lost: u64,
    /// People who came back to a portal with their ticket.
    pub came_back: usize,
    /// People who had to publish or subscribe anew.
    pub began_anew: usize,
    /// What they were told.
    pub errors: Vec<String>,
}

/// Most errors that are told.
const MAX_ERRORS: usize = 5;

impl Row {
    pub(super) fn new(
        step: Step,
        struck: Instant,
        now: Instant,
        joined: Option<Duration>,
        pages: &[Diary],
    ) -> Self {
        let calls = || pages.iter().flat_map(|page| &page.calls);
        // The longest of all; none if one has none.
        let longest = |of: &dyn Fn(&Diary) -> Option<Duration>, pages: &[Diary]| {
            pages
                .iter()
                .map(of)
                .try_fold(Duration::ZERO, |most, one| Some(most.max(one?)))
                .map(|d| d.as_secs_f64())
        };
        let listeners = pages.get(1..).unwrap_or_default();
        let granted = calls().filter(|call| call.granted);
        let mut errors: Vec<String> = pages.iter().flat_map(|page| page.errors.clone()).collect();
        errors.sort();
        errors.dedup();
        errors.truncate(MAX_ERRORS);
        Self {
            step,
            requests: calls().count(),
            failed: calls().filter(|call| !call.granted).count(),
            slowest: granted.map(|call| call.answered - call.made).max().unwrap_or_default().as_secs_f64(),
            control: longest(&|page| page.control_after(struck), pages),
            join: joined.map(|after| after.as_secs_f64()),
            forward_gap: longest(&|page| page.longest_gap(What::Forward, now, LATE), listeners),
            mixed_gap: longest(&|page| page.longest_gap(What::Mixed, now, LATE), listeners),
            lost: pages.iter().map(Diary::lost).sum(),
            came_back: pages.iter().map(|page| page.came_back).sum(),
            began_anew: pages.iter().map(|page| page.began_anew).sum(),
            errors,
        }
    }

    /// Whether everything was back in the time that was looked at.
    #[must_use]
    pub fn recovered(&self) -> bool {
        [self.control, self.join, self.forward_gap, self.mixed_gap].iter().all(Option::is_some)
    }
}

/// All steps.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// In the order of the plan.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether everything was back after each step.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.rows.iter().all(Row::recovered)
    }
}

/// Columns behind the first, and how wide they are.
const COLUMNS: [(&str, usize); 9] = [
    ("requests", 9),
    ("failed", 7),
    ("slowest", 9),
    ("control", 9),
    ("join", 9),
    ("stream", 9),
    ("mix", 9),
    ("lost", 6),
    ("back/anew", 10),
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds =
            |time: Option<f64>| time.map_or_else(|| "never".to_owned(), |time| format!("{time:.2} s"));
        write!(f, "{:<22}", "")?;
        for (name, width) in COLUMNS {
            write!(f, "{name:>width$}")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            let cells = [
                row.requests.to_string(),
                row.failed.to_string(),
                seconds(Some(row.slowest)),
                seconds(row.control),
                seconds(row.join),
                seconds(row.forward_gap),
                seconds(row.mixed_gap),
                row.lost.to_string(),
                format!("{}/{}", row.came_back, row.began_anew),
            ];
            write!(f, "{:<22}", row.step.to_string())?;
            for (cell, (_, width)) in cells.iter().zip(COLUMNS) {
                write!(f, "{cell:>width$}")?;
            }
            writeln!(f)?;
            for error in &row.errors {
                writeln!(f, "  {error}")?;
            }
        }
        writeln!(
            f,
            "slowest: the longest answer; control, join: until requests, and joining, work again; stream, mix: longest"
        )?;
        writeln!(
            f,
            "time without a frame; lost: packets; back/anew: people who came back by their ticket, and who began anew"
        )?;
        writeln!(
            f,
            "verdict: {}",
            if self.recovered() { "everything came back" } else { "NOT everything came back" }
        )
    }
}
