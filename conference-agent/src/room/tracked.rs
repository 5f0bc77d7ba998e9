//! Maps that know which of their entries may have changed, so that of a large room only what has changed is written down.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
};

use serde::Serialize;

/// What is to be written, and what is gone, by the names of parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) parts: Vec<(String, Vec<u8>)>,
    pub(crate) removed: Vec<String>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.removed.is_empty()
    }
}

/// A map of which every entry that was lent for a change, put in or taken out is known. To read, it is the map that it holds.
#[derive(Debug)]
pub(crate) struct Tracked<K, V> {
    entries: BTreeMap<K, V>,
    touched: BTreeSet<K>,
    written: BTreeMap<K, Digest>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), touched: BTreeSet::new(), written: BTreeMap::new() }
    }
}

impl<K, V> Deref for Tracked<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl<'t, K, V> IntoIterator for &'t Tracked<K, V> {
    type Item = (&'t K, &'t V);
    type IntoIter = std::collections::btree_map::Iter<'t, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

impl<K: Ord + Clone, V> FromIterator<(K, V)> for Tracked<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut tracked = Self { entries: entries.into_iter().collect(), ..Self::default() };
        tracked.touch_all();
        tracked
    }
}

impl<K: Ord + Clone, V> Tracked<K, V> {
    fn touch_all(&mut self) {
        self.touched.extend(self.entries.keys().cloned());
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.touched.insert(key.clone());
        self.entries.insert(key, value)
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (known, _) = self.entries.get_key_value(key)?;
        if !self.touched.contains(key) {
            self.touched.insert(known.clone());
        }
        self.entries.get_mut(key)
    }

    pub(crate) fn get_or_insert(&mut self, key: K, fresh: V) -> &mut V {
        self.touched.insert(key.clone());
        self.entries.entry(key).or_insert(fresh)
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (key, value) = self.entries.remove_entry(key)?;
        self.touched.insert(key);
        Some(value)
    }

    /// Of a large map the entry that is meant should be found first.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.touch_all();
        self.entries.values_mut()
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let touched = &mut self.touched;
        self.entries.retain(|key, value| {
            let kept = keep(key, value);
            if !kept {
                touched.insert(key.clone());
            }
            kept
        });
    }

    /// All of it, which leaves nothing.
    pub(crate) fn take_all(&mut self) -> BTreeMap<K, V> {
        self.touch_all();
        std::mem::take(&mut self.entries)
    }

    pub(crate) fn clear(&mut self) {
        self.take_all();
    }

    /// Nothing counts as written any more.
    pub(crate) fn forget_written(&mut self) {
        self.written.clear();
        self.touched.clear();
        self.touch_all();
    }
}

impl<K: Ord + Clone, V: Serialize> Tracked<K, V> {
    /// What has changed since this was last asked, under names that begin with `group`.
    pub(crate) fn changes(&mut self, group: &str, name: impl Fn(&K) -> String, changes: &mut Changes) {
        for key in std::mem::take(&mut self.touched) {
            let part = || format!("{group}/{}", name(&key));
            match self.entries.get(&key) {
                Some(value) => {
                    let (value, digest) = encoded(value);
                    if self.written.get(&key) != Some(&digest) {
                        changes.parts.push((part(), value));
                        self.written.insert(key, digest);
                    }
                }
                None => {
                    if self.written.remove(&key).is_some() {
                        changes.removed.push(part());
                    }
                }
            }
        }
    }
}

/// Tells one value from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digest(u64);

fn encoded(value: &impl Serialize) -> (Vec<u8>, Digest) {
    let value = serde_json::to_vec(value).expect("keys of maps are texts, and nothing else can fail");
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    (value, Digest(hasher.finish()))
}

/// A part by itself.
#[derive(Debug, Default)]
pub(crate) struct Single(Option<Digest>);

impl Single {
    /// The part, if it is another than was written last.
    pub(crate) fn changes(&mut self, name: &str, value: &impl Serialize, changes: &mut Changes) {
        let (value, digest) = encoded(value);
        if self.0.replace(digest) != Some(digest) {
            changes.parts.push((name.to_owned(), value));
        }
    }

    /// See [`Tracked::forget_written`].
    pub(crate) fn forget_written(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(map: &mut Tracked<String, u32>) -> String {
        let mut changes = Changes::default();
        map.changes("n", Clone::clone, &mut changes);
        let written =
            changes.parts.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
        written.chain(changes.removed.iter().map(|name| format!("-{name}"))).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_was_changed_is_written_once() {
        let mut map: Tracked<String, u32> = [("a".to_owned(), 1), ("b".to_owned(), 2)].into_iter().collect();
        assert_eq!(changed(&mut map), "n/a=1 n/b=2");
        assert_eq!(changed(&mut map), "");
        *map.get_mut("a").unwrap() = 3;
        map.insert("c".into(), 4);
        assert_eq!(changed(&mut map), "n/a=3 n/c=4");
        map.remove("b");
        map.retain(|_, value| *value != 4);
        assert_eq!(changed(&mut map), "-n/b -n/c");
    }

    #[test]
    fn what_was_lent_and_stayed_the_same_is_not_written() {
        let mut map: Tracked<String, u32> = [("a".to_owned(), 1), ("b".to_owned(), 2)].into_iter().collect();
        changed(&mut map);
        map.values_mut().for_each(|value| *value = 2);
        assert_eq!(changed(&mut map), "n/a=2");
        *map.get_mut("b").unwrap() = 2;
        assert_eq!(changed(&mut map), "");
    }

    #[test]
    fn what_came_and_went_between_two_writes_is_not_known_to_anybody() {
        let mut map: Tracked<String, u32> = Tracked::default();
        map.insert("a".into(), 1);
        map.remove("a");
        assert_eq!(changed(&mut map), "");
        map.insert("b".into(), 1);
        changed(&mut map);
        map.clear();
        map.insert("b".into(), 1);
        assert_eq!(changed(&mut map), "", "as it was");
        map.forget_written();
        assert_eq!(changed(&mut map), "n/b=1", "all of it once more");
    }
}
