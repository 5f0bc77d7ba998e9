//! Fewer pictures a second than there are.

use std::time::{Duration, Instant};

/// Picks pictures so that on average no more than a rate of them come through, as evenly spaced as the pictures at hand allow.
#[derive(Debug, Default)]
pub struct Cadence {
    due: Option<Instant>,
}

impl Cadence {
    /// Whether the picture of the time `at` is one of `rate` a second.
    pub fn takes(&mut self, at: Instant, rate: u32) -> bool {
        let step = Duration::from_secs(1) / rate.max(1);
        // Sources jitter: a picture that is nearly due is the one that was meant.
        let slack = step / 4;
        let Some(due) = self.due else {
            self.due = Some(at + step);
            return true;
        };
        if at + slack < due {
            return false;
        }
        // After a pause the rhythm begins anew; it does not catch up.
        self.due = Some(if at > due + step { at + step } else { due + step });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in milliseconds that are taken of one second of pictures.
    fn taken(source: u32, rate: u32) -> Vec<u128> {
        let (start, mut cadence) = (Instant::now(), Cadence::default());
        let step = Duration::from_secs(1) / source;
        (0..source)
            .map(|number| step * number)
            .filter(|time| cadence.takes(start + *time, rate))
            .map(|time| time.as_millis())
            .collect()
    }

    #[test]
    fn any_rate_up_to_the_sources_comes_out() {
        for (source, rate) in
            [(30, 30), (30, 24), (30, 20), (30, 15), (30, 12), (30, 7), (30, 5), (30, 1), (24, 15), (60, 25)]
        {
            let times = taken(source, rate);
            assert!(times.len().abs_diff(rate as usize) <= 1, "{source} to {rate}: {times:?}");
            let gaps: Vec<u128> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let even = u128::from(1000 / source) + 2;
            assert!(
                gaps.iter().max().unwrap_or(&0) - gaps.iter().min().unwrap_or(&0) <= even,
                "{source} to {rate}: {gaps:?}"
            );
        }
    }

    #[test]
    fn sources_slower_than_the_rate_lose_nothing() {
        assert_eq!(taken(15, 30).len(), 15);
    }

    #[test]
    fn jitter_does_not_cost_pictures() {
        let (start, mut cadence) = (Instant::now(), Cadence::default());
        let jitter = [0i64, 5, -5, 4, -3, 6, -6, 2];
        let count = (1..=300i64)
            .filter(|number| {
                let ms = number * 1000 / 30 + jitter[(*number % 8) as usize];
                cadence.takes(start + Duration::from_millis(ms as u64), 15)
            })
            .count();
        assert!((148..=151).contains(&count), "{count}");
    }

    #[test]
    fn after_a_pause_nothing_is_caught_up() {
        let (start, mut cadence) = (Instant::now(), Cadence::default());
        let ms = Duration::from_millis;
        assert!(cadence.takes(start, 10));
        assert!(cadence.takes(start + ms(5000), 10));
        assert!(!cadence.takes(start + ms(5033), 10));
        assert!(cadence.takes(start + ms(5100), 10));
    }
}
