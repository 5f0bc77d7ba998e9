//! Deadlines of many things in a heap, so that a wake-up costs what is due and not what exists.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::Hash,
    time::Instant,
};

struct Entry<K> {
    at: Instant,
    key: K,
}

impl<K> PartialEq for Entry<K> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl<K> Eq for Entry<K> {}
impl<K> PartialOrd for Entry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Entry<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// One deadline per key. A deadline can be brought forward but not put off: whoever is woken early looks again.
pub struct Timers<K> {
    heap: BinaryHeap<Reverse<Entry<K>>>,
    set: HashMap<K, Instant>,
}

impl<K> std::fmt::Debug for Timers<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers").field("set", &self.set.len()).finish_non_exhaustive()
    }
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), set: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Timers<K> {
    /// Wakes `key` at `at`, unless it is woken earlier anyway. `None` changes nothing.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        let Some(at) = at else { return };
        if self.set.get(&key).is_some_and(|set| *set <= at) {
            return;
        }
        self.set.insert(key, at);
        self.heap.push(Reverse(Entry { at, key }));
    }

    /// The next key whose deadline has come; its deadline is gone then.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            let current = self.set.get(&entry.key) == Some(&entry.at);
            if current && entry.at > now {
                return None;
            }
            let key = entry.key;
            self.heap.pop();
            if current {
                self.set.remove(&key);
                return Some(key);
            }
        }
        None
    }

    /// The earliest deadline.
    pub fn earliest(&mut self) -> Option<Instant> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if self.set.get(&entry.key) == Some(&entry.at) {
                return Some(entry.at);
            }
            self.heap.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_of_a_key_counts() {
        let start = Instant::now();
        let at = |s| Some(start + Duration::from_secs(s));
        let mut timers = Timers::default();
        timers.set('a', at(5));
        timers.set('b', at(3));
        timers.set('a', at(1));
        timers.set('a', at(9));
        timers.set('b', None);
        assert_eq!(timers.earliest(), at(1));
        assert_eq!(timers.pop_due(start), None);
        assert_eq!(timers.pop_due(start + Duration::from_secs(4)), Some('a'));
        assert_eq!(timers.pop_due(start + Duration::from_secs(4)), Some('b'));
        assert_eq!(timers.pop_due(start + Duration::from_secs(40)), None);
        assert_eq!(timers.earliest(), None);
    }
}
