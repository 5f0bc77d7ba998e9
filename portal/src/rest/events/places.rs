//! How many streams of events there may be.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Most of one service.
const MAX_OF_SERVICE: usize = 32;
/// Most of all services; each costs a call to the hub and some 10 kB.
const MAX: usize = 1024;

/// The streams that there are, by service; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<String, usize>>>);

/// A stream's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct TakenPlace {
    places: Places,
    service: String,
}

impl Places {
    /// A place for one more; `None` if there is none.
    pub(super) fn take(&self, service: &str) -> Option<TakenPlace> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(service).copied().unwrap_or(0);
        let all: usize = taken.values().sum();
        if own >= MAX_OF_SERVICE || all >= MAX {
            return None;
        }
        taken.insert(service.to_owned(), own + 1);
        metrics::gauge!("kaigi_portal_event_streams").set((all + 1) as f64);
        Some(TakenPlace { places: self.clone(), service: service.to_owned() })
    }
}

impl Drop for TakenPlace {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.service) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.service);
            }
        }
        metrics::gauge!("kaigi_portal_event_streams").set(taken.values().sum::<usize>() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_its_bound_and_all_together_have_one() {
        let places = Places::default();
        let mut own: Vec<_> = (0..MAX_OF_SERVICE).map(|_| places.take("a").unwrap()).collect();
        assert!(places.take("a").is_none());
        let others: Vec<_> = (MAX_OF_SERVICE..MAX)
            .map(|i| places.take(&format!("s{}", i / MAX_OF_SERVICE)).unwrap())
            .collect();
        assert!(places.take("z").is_none());
        own.pop();
        drop(others);
        assert!(places.take("a").is_some());
    }
}
