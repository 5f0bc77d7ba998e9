//! How much of what is sent to a client is sent twice: as much as its way loses, and carries besides.

mod level;
mod playout;

use std::time::{Duration, Instant};

pub use level::{Level, Steps};

use self::playout::Playout;
use crate::forward::MAX_DEPTH;

/// Least time between two looks at a transport. Feedback comes more often than shares of losses change.
const INTERVAL: Duration = Duration::from_millis(200);
/// What a receiver report says of losses holds for that long. Browsers report on sound every five seconds.
const REPORTED: Duration = Duration::from_secs(10);

/// Shares of losses from which sound carries one or two packets before each, and below which it does not any more. One doubles a voice of
/// 32 kbit/s and leaves a hundredth of a loss of a tenth; the second, for losses in a row, is worth its bits on bad ways only.
const SOUND: [Steps; MAX_DEPTH] = [Steps { up: 0.02, down: 0.005 }, Steps { up: 0.05, down: 0.025 }];

/// What is known of what a way loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Losses {
    /// The way is full: what is lost found no room in its queue, and would find less if more were sent.
    OfQueues,
    /// That share, 0 to 1, was lost lately.
    Share(f64),
    /// Nothing but what receiver reports say.
    AsReported,
}

/// The same of pictures, and after how many packets each there is a repair packet: of a tenth that is lost, a quarter more makes good two
/// thirds without a round trip. The rest is sent again, as all is that is lost where that takes less than [`QUICK`].
const PICTURES: [(Steps, usize); 3] = [
    (Steps { up: 0.01, down: 0.003 }, 10),
    (Steps { up: 0.03, down: 0.015 }, 6),
    (Steps { up: 0.08, down: 0.04 }, 4),
];
/// A round trip in which decoders can wait for what is sent again.
const QUICK: Duration = Duration::from_millis(40);

/// Redundancy of one transport.
#[derive(Debug, Default)]
pub struct Protection {
    sound: Level,
    pictures: Level,
    playout: Playout,
    looked: Option<Instant>,
    reported: Option<(Instant, f64)>,
}

impl Protection {
    /// A client's receiver report says that the share was lost.
    pub fn reported(&mut self, now: Instant, share: f64) {
        // Reports on several streams come one after the other; what the worst says counts until it fades.
        let before = self.reported.filter(|(at, _)| now < *at + REPORTED).map_or(0.0, |(_, share)| share);
        self.reported = Some((now, share.max(before / 2.0)));
    }

    /// Whether it is time to look again; if so, it is looked.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.looked.is_none_or(|at| now >= at + INTERVAL);
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// How many packets before it each packet of sound is to carry: as many as the losses ask for, and fewer if that is more than `fits`.
    pub fn sound(&mut self, now: Instant, losses: Losses, fits: impl Fn(usize) -> bool) -> usize {
        let share = self.share(now, losses);
        let wanted = share.map_or(self.sound.get(), |share| self.sound.update(now, share, &SOUND));
        (1..=wanted).rev().find(|depth| fits(*depth)).unwrap_or(0)
    }

    /// After how many packets of a picture each there is to be a repair packet; 0 = none.
    pub fn pictures(&mut self, now: Instant, losses: Losses, round_trip: Option<Duration>) -> usize {
        let share = self.share(now, losses).filter(|_| round_trip.is_some_and(|time| time >= QUICK));
        let steps = PICTURES.map(|(steps, _)| steps);
        let level = self.pictures.update(now, share.unwrap_or(0.0), &steps);
        // On a way that is full they would take what pictures need.
        let every = level.checked_sub(1).filter(|_| share.is_some()).map(|level| PICTURES[level].1);
        every.unwrap_or(0)
    }

    /// How long the client is to keep pictures before it shows them, at least.
    pub fn playout_delay(&mut self, now: Instant, losses: Losses, round_trip: Option<Duration>) -> Duration {
        let share = self.share(now, losses);
        self.playout.update(now, share, round_trip)
    }

    fn share(&self, now: Instant, losses: Losses) -> Option<f64> {
        let reported =
            || self.reported.filter(|(at, _)| now < *at + REPORTED).map_or(0.0, |(_, share)| share);
        match losses {
            Losses::OfQueues => None,
            Losses::Share(share) => Some(share),
            Losses::AsReported => Some(reported()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_protected_as_far_as_it_is_lost_and_fits() {
        let now = Instant::now();
        let mut protection = Protection::default();
        let share = Losses::Share;
        assert_eq!(protection.sound(now, share(0.01), |_| true), 0);
        assert_eq!(protection.sound(now, Losses::OfQueues, |_| true), 0);
        assert_eq!(protection.sound(now, share(0.03), |_| true), 1);
        assert_eq!(protection.sound(now, share(0.10), |_| true), 2);
        assert_eq!(protection.sound(now, share(0.10), |depth| depth < 2), 1);
        assert_eq!(protection.sound(now, Losses::OfQueues, |_| false), 0);
        assert_eq!(protection.sound(now, Losses::OfQueues, |_| true), 2, "as before it was full");
    }

    #[test]
    fn pictures_are_protected_where_sending_them_again_takes_long() {
        let now = Instant::now();
        let mut protection = Protection::default();
        let (near, far) = (Some(Duration::from_millis(10)), Some(Duration::from_millis(100)));
        let share = Losses::Share;
        assert_eq!(protection.pictures(now, share(0.005), far), 0);
        assert_eq!(protection.pictures(now, share(0.1), near), 0);
        assert_eq!(protection.pictures(now, share(0.1), None), 0, "it is not known how long it takes");
        assert_eq!(protection.pictures(now, share(0.02), far), 10);
        assert_eq!(protection.pictures(now, share(0.05), far), 6);
        assert_eq!(protection.pictures(now, share(0.1), far), 4);
        assert_eq!(protection.pictures(now, Losses::OfQueues, far), 0);
        assert_eq!(protection.pictures(now, share(0.05), far), 4);
    }

    #[test]
    fn without_feedback_reports_tell_of_losses() {
        let now = Instant::now();
        let mut protection = Protection::default();
        protection.reported(now, 0.1);
        protection.reported(now, 0.0);
        assert_eq!(protection.sound(now, Losses::AsReported, |_| true), 2, "another stream lost nothing");
        assert_eq!(protection.sound(now, Losses::Share(0.1), |_| true), 2);
        let later = now + REPORTED;
        for second in 0..60 {
            protection.sound(later + Duration::from_secs(second), Losses::AsReported, |_| true);
        }
        assert_eq!(protection.sound(later, Losses::AsReported, |_| true), 0, "nothing was reported any more");
    }
}
