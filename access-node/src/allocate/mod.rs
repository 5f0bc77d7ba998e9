//! Divides what the way to a client carries over the pictures that the client wants: sound first, then each picture in its smallest
//! layer, then larger ones where a bit shows most. Down at once, up only after patience that grows with each time it was wrong, so that a
//! way that swings does not make pictures swing.

mod fill;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::fill::{Filling, need};

/// A larger layer is taken if this times what is needed then is there. Less, and what layers send by turns makes it fall again; more,
/// and pictures stay small on ways that carry large ones.
const MARGIN: f64 = 1.15;
/// The same for as long as it waits: what layers send swings by some percent, and each time it would have to wait from the beginning.
const KEPT_MARGIN: f64 = 1.05;
/// A layer is left if more than this times what is there is needed. Estimates swing by some percent around what is sent.
const TOLERANCE: f64 = 1.08;
/// How long there must be enough for larger layers: at first, and before the way was ever too narrow.
const PATIENCE: Duration = Duration::from_secs(2);
/// See [`PATIENCE`]: in the beginning the estimate only follows what is sent.
const FIRST_PATIENCE: Duration = Duration::from_millis(300);
/// Longest patience, after failures.
const MAX_PATIENCE: Duration = Duration::from_secs(40);
/// Larger layers that have to be left within this time were a mistake: the patience doubles.
const FAILURE: Duration = Duration::from_secs(15);
/// Without having to leave a layer for that long, patience is what it was at first.
const FORGET: Duration = Duration::from_secs(60);

/// A picture in its smallest layer is taken away only when there was not enough for it for so long. An estimate falls below what arrives
/// when packets are held up for a moment, and rises to it again when they no longer are.
const GRACE: Duration = Duration::from_millis(600);
/// If more than this times what is there is needed it is taken away at once, before it harms sound.
const RUIN: f64 = 1.7;
/// The same as [`GRACE`] of a picture that has one size only, of which nothing is left then; where far too much is needed, that is its time.
/// A stand-still of the way, and what comes of it, is over by then.
const LONG_GRACE: Duration = Duration::from_millis(1_500);

/// One layer that could be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rung {
    /// bit/s
    pub bitrate: u64,
    /// How much it shows, in any unit that all demands share.
    pub value: f64,
}

/// One picture that the client wants.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// The layers there are and that are not more than what is asked for; each shows more than the one before.
    pub rungs: Vec<Rung>,
    /// Higher ones get their share first.
    pub priority: u32,
    /// What is sent now; `None` = nothing.
    pub current: Option<usize>,
    /// It was asked for just now: it need not wait for what is there.
    pub eager: bool,
    /// It has one size only.
    pub single: bool,
}

impl Demand {
    /// What is sent now, in bit/s.
    #[must_use]
    pub fn bitrate(&self) -> Option<u64> {
        self.rungs.get(self.current?).map(|rung| rung.bitrate)
    }
}

/// What is to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Of each demand.
    pub rungs: Vec<Option<usize>>,
    /// What the next larger layer needs, and what all that is wanted needs, in bit/s with everything else and some reserve; `None` if
    /// nothing is lacking.
    pub lacking: Option<(u64, u64)>,
}

/// What one transport's allocations have come to.
#[derive(Clone, Copy, Debug)]
pub struct Allocator {
    /// Since when there is enough for larger layers.
    enough_since: Option<Instant>,
    patience: Duration,
    raised: Option<Instant>,
    lowered: Option<Instant>,
    /// Since when there is not enough for what is shown.
    short_since: Option<Instant>,
}

impl Default for Allocator {
    fn default() -> Self {
        Self { enough_since: None, patience: FIRST_PATIENCE, raised: None, lowered: None, short_since: None }
    }
}

impl Allocator {
    /// Decides what is sent when so much is there, in bit/s (`None` = that is not known), of which `reserved` goes to what is no
    /// layered picture.
    pub fn allocate(
        &mut self,
        now: Instant,
        estimate: Option<u64>,
        reserved: u64,
        demands: &[Demand],
    ) -> Allocation {
        let Some(estimate) = estimate else {
            self.enough_since = None;
            return Allocation {
                rungs: demands.iter().map(|demand| demand.rungs.len().checked_sub(1)).collect(),
                lacking: None,
            };
        };
        let mut filling = Filling::new(demands);
        let budget = |scale: f64| ((estimate as f64 * scale) as u64).saturating_sub(reserved);
        if filling.need() > budget(TOLERANCE) {
            let before = filling.clone();
            filling.refill(budget(1.0));
            self.spare(now, &mut filling, budget(RUIN));
            if filling != before {
                self.has_lowered(now);
            }
        } else {
            self.has_enough();
        }
        filling.raise(budget(1.0 / MARGIN), |demand| demand.eager);
        let mut raised = filling.clone();
        let margin = if self.enough_since.is_some() { KEPT_MARGIN } else { MARGIN };
        raised.raise(budget(1.0 / margin), |_| true);
        if raised == filling {
            self.enough_since = None;
        } else if now >= *self.enough_since.get_or_insert(now) + self.patience {
            (self.enough_since, self.raised) = (None, Some(now));
            filling = raised;
        }
        let scaled = |need: u64| ((need + reserved) as f64 * MARGIN).round() as u64;
        let lacking = filling.next().map(|next| (scaled(next), scaled(need(demands, filling.most()))));
        Allocation { rungs: filling.into_rungs(), lacking }
    }

    /// Goes on with pictures for which there is not enough any more, if it has not been so for long; `most` is what is needed at most that
    /// is not far too much.
    fn spare(&mut self, now: Instant, filling: &mut Filling<'_>, most: u64) {
        if !filling.hides() {
            return;
        }
        let short = now.saturating_duration_since(*self.short_since.get_or_insert(now));
        let mut shown = filling.clone();
        shown.show(|_| true);
        let ruins = shown.need() > most;
        filling.show(|demand| match (demand.single, ruins) {
            (false, true) => false,
            (false, false) | (true, true) => short < GRACE,
            (true, false) => short < LONG_GRACE,
        });
    }

    /// There is enough for what is shown.
    pub fn has_enough(&mut self) {
        self.short_since = None;
    }

    fn has_lowered(&mut self, now: Instant) {
        let within = |at: Option<Instant>, time| at.is_some_and(|at| now < at + time);
        self.patience = if within(self.raised, FAILURE) {
            // One mistake counts once, however many steps it takes to undo it.
            self.raised = None;
            (self.patience.max(PATIENCE / 2) * 2).min(MAX_PATIENCE)
        } else if within(self.lowered, FORGET) {
            self.patience.max(PATIENCE)
        } else {
            PATIENCE
        };
        self.lowered = Some(now);
        self.enough_since = None;
    }
}
