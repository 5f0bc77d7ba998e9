//! New identifiers of a room: random, and never one that is in use.

use rand::{RngCore, SeedableRng, rngs::StdRng};

/// Draws session ids. Deterministic by its seed.
pub(crate) struct IdSource(StdRng);

impl IdSource {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(StdRng::from_seed(seed))
    }

    /// 32 lower-case hex characters that `taken` does not know.
    pub(crate) fn session(&mut self, taken: impl Fn(&str) -> bool) -> String {
        loop {
            let id = format!("{:016x}{:016x}", self.0.next_u64(), self.0.next_u64());
            if !taken(&id) {
                return id;
            }
        }
    }

    /// The digits of a number below 10¹⁸ that `taken` does not know.
    pub(crate) fn number(&mut self, taken: impl Fn(&str) -> bool) -> String {
        loop {
            let id = (self.0.next_u64() % 1_000_000_000_000_000_000).to_string();
            if !taken(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_in_use_is_drawn_again() {
        let first = IdSource::new([7; 32]).session(|_| false);
        let other = IdSource::new([7; 32]).session(|id| id == first);
        assert_ne!(first, other);
        assert_eq!(other.len(), 32);
        let number = IdSource::new([7; 32]).number(|_| false);
        assert!(number.len() <= 18 && number.bytes().all(|digit| digit.is_ascii_digit()));
    }
}
