//! Pauses between attempts.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};

/// Longest pause that an endpoint may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// First and longest pause; each is twice the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

/// A factor, a fifth more or less than one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Jitter(f64);

impl Jitter {
    pub(crate) fn random(rng: &mut StdRng) -> Self {
        Self(rng.random_range(0.8..1.2))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The pause after so many failures in a row; longer if the endpoint wants it, up to an hour. `jitter`: by how much it is longer or
    /// shorter than the others', so that endpoints that failed together are not all asked again at the same moment.
    pub(crate) fn pause(&self, failures: u32, retry_after: Option<Duration>, jitter: Jitter) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest);
        doubled.mul_f64(jitter.0).max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut rng = StdRng::seed_from_u64(1);
        let backoff = Backoff::default();
        for (failures, seconds) in
            [(1, 1.0), (2, 2.0), (5, 16.0), (9, 256.0), (10, 300.0), (4_000_000, 300.0)]
        {
            let pause = backoff.pause(failures, None, Jitter::random(&mut rng)).as_secs_f64();
            assert!((seconds * 0.8..seconds * 1.2).contains(&pause), "{failures}: {pause}");
        }
    }

    #[test]
    fn an_endpoint_may_ask_for_more_but_not_for_less() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut pause = |failures, asked| {
            Backoff::default()
                .pause(failures, Some(Duration::from_secs(asked)), Jitter::random(&mut rng))
                .as_secs()
        };
        assert_eq!(pause(1, 90), 90);
        assert!(pause(10, 1) >= 240);
        assert_eq!(pause(1, 1_000_000), 3600);
    }
}
