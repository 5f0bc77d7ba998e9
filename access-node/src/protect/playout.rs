//! How long a client is to keep pictures before it shows them. What is lost of them is sent again, which takes a round trip or, if that is
//! lost too, two. Browsers do not wait for that by themselves: frames that were sent again are left aside where they measure how unevenly
//! frames come, and one that only receives does not know how long a round trip takes. So each such frame stands still, or is told of here.

use std::time::{Duration, Instant};

use super::{Level, Steps};

/// From which share of losses on how many round trips are waited for. Of a twentieth that is lost every fourth second sees a packet that
/// is lost twice; waiting for it costs that much delay.
const LEVELS: [(Steps, u32); 2] = [(Steps { up: 0.02, down: 0.01 }, 1), (Steps { up: 0.05, down: 0.025 }, 2)];
/// Round trips in which nobody sees a frame being late.
const QUICK: Duration = Duration::from_millis(40);
/// Most that is waited: who talks to each other from further away than that sees pictures stand still.
const MOST: Duration = Duration::from_millis(500);
/// Changes of less are not told: browsers take a second to get used to a tenth of one.
const STEP: Duration = Duration::from_millis(40);
/// Weight of a new round trip among those before it.
const WEIGHT: f64 = 0.125;

/// What one client is told.
#[derive(Debug, Default)]
pub(super) struct Playout {
    level: Level,
    /// Seconds.
    round_trip: Option<f64>,
    told: Duration,
}

impl Playout {
    /// That share is lost (`None` = nothing is known of it), and it takes so long there and back. What the client is told from now on.
    pub(super) fn update(
        &mut self,
        now: Instant,
        share: Option<f64>,
        round_trip: Option<Duration>,
    ) -> Duration {
        if let Some(measured) = round_trip.map(|time| time.as_secs_f64()) {
            let before = self.round_trip.unwrap_or(measured);
            self.round_trip = Some(before + WEIGHT * (measured - before));
        }
        let level = share
            .map_or(self.level.get(), |share| self.level.update(now, share, &LEVELS.map(|(steps, _)| steps)));
        let round_trips = level.checked_sub(1).map_or(0, |at| LEVELS[at].1);
        let round_trip = Duration::from_secs_f64(self.round_trip.unwrap_or_default());
        let quick = if self.told.is_zero() { QUICK } else { QUICK * 3 / 4 };
        let wanted = if round_trip < quick { Duration::ZERO } else { (round_trip * round_trips).min(MOST) };
        if wanted.is_zero() || wanted.abs_diff(self.told) >= STEP {
            self.told = wanted;
        }
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Option<Duration> = Some(Duration::from_millis(100));

    #[test]
    fn pictures_wait_for_what_is_sent_again_where_much_is_lost_and_that_takes_long() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let told = |share, round_trip| Playout::default().update(now, Some(share), round_trip);
        assert_eq!(told(0.01, FAR), ms(0));
        assert_eq!(told(0.03, FAR), ms(100));
        assert_eq!(told(0.1, FAR), ms(200));
        assert_eq!(told(0.1, Some(ms(20))), ms(0), "near");
        assert_eq!(told(0.1, Some(ms(900))), MOST);
        assert_eq!(told(0.1, None), ms(0), "it is not known how far");
    }

    #[test]
    fn small_changes_are_not_told_and_it_ends_with_the_losses() {
        let start = Instant::now();
        let mut playout = Playout::default();
        let mut told = Vec::new();
        for tick in 0..600u32 {
            let now = start + Duration::from_millis(200) * tick;
            let share = if tick < 300 { 0.1 } else { 0.0 };
            let round_trip = FAR.map(|time| time + Duration::from_millis(10) * (tick % 3));
            told.push(playout.update(now, Some(share), round_trip).as_millis());
        }
        told.dedup();
        assert_eq!(told, [200, 110, 0]);
    }
}
