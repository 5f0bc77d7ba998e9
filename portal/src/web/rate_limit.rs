//! How often one source may ask for something: a bucket of tokens for each, filled steadily.

use std::{collections::HashMap, hash::Hash, time::Instant};

/// Sources remembered at most; a source that is forgotten begins with a full bucket.
const MAX_SOURCES: usize = 10_000;

/// Buckets by source.
#[derive(Debug)]
pub(crate) struct RateLimit<K> {
    /// Requests that a source may make at once.
    burst: f64,
    /// Requests a second in the long run.
    rate: f64,
    buckets: HashMap<K, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl<K: Eq + Hash> RateLimit<K> {
    pub(crate) fn new(burst: u32, rate: f64) -> Self {
        Self { burst: burst.into(), rate, buckets: HashMap::new() }
    }

    /// Whether `source` may make a request now; counts it if so.
    pub(crate) fn allows(&mut self, source: K, now: Instant) -> bool {
        if self.buckets.len() >= MAX_SOURCES && !self.buckets.contains_key(&source) {
            let (burst, rate) = (self.burst, self.rate);
            self.buckets.retain(|_, bucket| level(*bucket, now, burst, rate) < burst);
            if self.buckets.len() >= MAX_SOURCES {
                return false;
            }
        }
        let bucket = self.buckets.entry(source).or_insert(Bucket { level: self.burst, at: now });
        let level = level(*bucket, now, self.burst, self.rate);
        let allowed = level >= 1.0;
        *bucket = Bucket { level: if allowed { level - 1.0 } else { level }, at: now };
        allowed
    }
}

fn level(bucket: Bucket, now: Instant, burst: f64, rate: f64) -> f64 {
    (bucket.level + now.saturating_duration_since(bucket.at).as_secs_f64() * rate).min(burst)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_then_one_at_a_time() {
        let mut limit = RateLimit::new(3, 2.0);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!([0; 4].map(|ms| limit.allows("a", after(ms))), [true, true, true, false]);
        assert!(limit.allows("b", after(0)), "another source has its own bucket");
        assert!(!limit.allows("a", after(400)));
        assert!(limit.allows("a", after(600)));
        assert!(!limit.allows("a", after(600)));
    }

    #[test]
    fn many_sources_take_no_more_memory() {
        let mut limit = RateLimit::new(2, 1.0);
        let start = Instant::now();
        assert!((0..MAX_SOURCES).all(|source| limit.allows(source, start)));
        assert!(!limit.allows(MAX_SOURCES, start), "no place for another one yet");
        assert!(limit.allows(MAX_SOURCES, start + Duration::from_secs(2)), "full buckets are forgotten");
        assert_eq!(limit.buckets.len(), 1);
    }
}
