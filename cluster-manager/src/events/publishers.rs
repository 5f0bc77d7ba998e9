//! Who publishes, and how far each is, so that an event that is published again is not taken again.

use std::{collections::HashMap, time::Instant};

use kaigi_proto::ids::WorkerId;

/// Most publishers remembered; far above the processes of a cluster. The one silent for longest is forgotten.
const MAX_PUBLISHERS: usize = 10_000;

#[derive(Debug)]
struct Known {
    /// The number of the next event.
    next: u64,
    heard: Instant,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Publishers(HashMap<WorkerId, Known>);

impl Publishers {
    /// How many of `count` events, the first of which has the number `first`, were taken before. They count as taken from now on.
    pub(crate) fn take(&mut self, publisher: &WorkerId, first: u64, count: usize, now: Instant) -> usize {
        let end = first.saturating_add(count as u64);
        if self.0.len() >= MAX_PUBLISHERS && !self.0.contains_key(publisher) {
            let silent = self.0.iter().min_by_key(|(_, known)| known.heard).map(|(id, _)| id.clone());
            silent.and_then(|id| self.0.remove(&id));
        }
        let known = self.0.entry(publisher.clone()).or_insert(Known { next: first, heard: now });
        let repeated = known.next.saturating_sub(first).min(count as u64);
        known.next = known.next.max(end);
        known.heard = now;
        usize::try_from(repeated).unwrap_or(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_again_is_known() {
        let now = Instant::now();
        let mut publishers = Publishers::default();
        let (a, b) = (WorkerId::new("a").unwrap(), WorkerId::new("b").unwrap());
        assert_eq!(publishers.take(&a, 1, 3, now), 0);
        assert_eq!(publishers.take(&a, 1, 3, now), 3);
        assert_eq!(publishers.take(&a, 3, 2, now), 1);
        assert_eq!(publishers.take(&a, 5, 1, now), 0);
        assert_eq!(publishers.take(&b, 1, 1, now), 0, "each counts for itself");
        assert_eq!(publishers.take(&a, u64::MAX, 5, now), 0);
    }

    #[test]
    fn a_hub_that_knows_nothing_takes_what_comes() {
        assert_eq!(Publishers::default().take(&WorkerId::new("a").unwrap(), 700, 3, Instant::now()), 0);
    }

    #[test]
    fn the_number_of_publishers_is_bounded() {
        let start = Instant::now();
        let mut publishers = Publishers::default();
        for i in 0..=MAX_PUBLISHERS {
            let now = start + std::time::Duration::from_millis(i as u64);
            publishers.take(&WorkerId::new(format!("w{i}")).unwrap(), 1, 1, now);
        }
        assert_eq!(publishers.0.len(), MAX_PUBLISHERS);
        assert!(!publishers.0.contains_key("w0"));
    }
}
