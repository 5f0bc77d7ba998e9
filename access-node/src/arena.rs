//! A store whose keys stay unique: a key of something removed never finds what took its place.

use std::{fmt, marker::PhantomData};

/// Finds one entry of an [`Arena`] whose keys are marked with `T`.
pub struct Key<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}
impl<T> Eq for Key<T> {}
impl<T> std::hash::Hash for Key<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.index, self.generation).hash(state);
    }
}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

impl<T> Key<T> {
    /// The entry's place. Another entry may take it later.
    pub(crate) fn index(self) -> u32 {
        self.index
    }

    /// The key as a number.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key of such a number.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32, of: PhantomData }
    }
}

#[cfg(test)]
impl<T> Key<T> {
    /// A key of no arena.
    pub(crate) fn for_tests(index: u32) -> Self {
        Self { index, generation: 0, of: PhantomData }
    }
}

/// Entries in a vector, found by [`Key`]; `K` marks its keys, so that those of another arena do not fit.
#[derive(Debug)]
pub struct Arena<T, K = T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    of: PhantomData<fn() -> K>,
}

impl<T, K> Default for Arena<T, K> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), of: PhantomData }
    }
}

impl<T, K> Arena<T, K> {
    /// Puts an entry in.
    pub fn insert(&mut self, value: T) -> Key<K> {
        self.insert_with(|_| value)
    }

    /// Puts an entry in that knows its key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key<K>) -> T) -> Key<K> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 entries fit into memory")
        });
        let slot = &mut self.slots[index as usize];
        let key = Key { index, generation: slot.0, of: PhantomData };
        slot.1 = Some(make(key));
        key
    }

    /// The entry, if it is still there.
    #[must_use]
    pub fn get(&self, key: Key<K>) -> Option<&T> {
        self.slots.get(key.index as usize).filter(|slot| slot.0 == key.generation)?.1.as_ref()
    }

    /// The entry, if it is still there.
    pub fn get_mut(&mut self, key: Key<K>) -> Option<&mut T> {
        self.slots.get_mut(key.index as usize).filter(|slot| slot.0 == key.generation)?.1.as_mut()
    }

    /// Takes the entry out.
    pub fn remove(&mut self, key: Key<K>) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.0 == key.generation)?;
        let value = slot.1.take()?;
        slot.0 = slot.0.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (Key<K>, &T)> {
        (0..).zip(&self.slots).filter_map(|(index, (generation, value))| {
            Some((Key { index, generation: *generation, of: PhantomData }, value.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_finds_the_successor() {
        let mut arena: Arena<&str> = Arena::default();
        let first = arena.insert("a");
        assert_eq!(arena.remove(first), Some("a"));
        let second = arena.insert("b");
        assert_eq!((arena.get(first), arena.get(second), arena.len()), (None, Some(&"b"), 1));
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.iter().map(|(_, v)| *v).collect::<Vec<_>>(), ["b"]);
    }
}
