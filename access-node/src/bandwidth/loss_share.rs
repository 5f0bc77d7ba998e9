//! The share of packets that the way to a client has lost lately.

/// How long a packet counts, in µs: after that time it is worth 1/e of a new one. Shorter sees changes earlier, and takes chance for loss.
const MEMORY: f64 = 2e6;
/// Packets of which a share can be told. Of fifty voice packets a second they are half a second.
const ENOUGH: f64 = 25.0;

/// A fading count.
#[derive(Debug, Default)]
pub(super) struct LossShare {
    lost: f64,
    reported: f64,
    at: i64,
}

impl LossShare {
    /// At a time in µs so many packets were reported on, of which so many were lost. `found` are those that had been reported as lost before.
    pub(super) fn add(&mut self, now: i64, lost: u32, reported: u32, found: u32) {
        let fading = fading(now - self.at);
        self.lost = (self.lost * fading + f64::from(lost) - f64::from(found)).max(0.0);
        self.reported = self.reported * fading + f64::from(reported);
        self.at = now;
    }

    /// 0 to 1; `None` if too little was reported.
    pub(super) fn get(&self, now: i64) -> Option<f64> {
        (self.reported * fading(now - self.at) >= ENOUGH).then(|| (self.lost / self.reported).min(1.0))
    }
}

fn fading(elapsed: i64) -> f64 {
    (-(elapsed.max(0) as f64) / MEMORY).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_follows_what_is_lost() {
        let mut losses = LossShare::default();
        let mut now = 0;
        let mut run = |losses: &mut LossShare, lost: u32, seconds: i64| {
            for _ in 0..10 * seconds {
                now += 100_000;
                losses.add(now, lost, 10, 0);
            }
            losses.get(now)
        };
        assert_eq!(run(&mut losses, 0, 0), None);
        assert_eq!(run(&mut losses, 0, 5), Some(0.0));
        let soon = run(&mut losses, 2, 1).unwrap();
        assert!((0.05..0.1).contains(&soon), "{soon}");
        let then = run(&mut losses, 2, 10).unwrap();
        assert!((0.19..0.201).contains(&then), "{then}");
        assert!(run(&mut losses, 0, 10).unwrap() < 0.005);
    }

    #[test]
    fn what_was_late_only_is_not_lost_and_silence_says_nothing() {
        let mut losses = LossShare::default();
        losses.add(1_000_000, 10, 100, 0);
        losses.add(1_000_000, 0, 0, 10);
        assert_eq!(losses.get(1_000_000), Some(0.0));
        losses.add(1_000_000, 0, 0, 10);
        assert_eq!(losses.get(1_000_000), Some(0.0));
        assert_eq!(losses.get(10_000_000), None);
    }
}
