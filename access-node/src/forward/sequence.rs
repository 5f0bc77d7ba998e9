//! Sequence numbers that don't wrap.

/// Extends 16-bit sequence numbers to 64 bits: each is taken for the nearest to the highest so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unwrapper {
    highest: Option<u64>,
}

impl Unwrapper {
    /// The extended number. The first is extended so that there is room for earlier ones.
    pub(super) fn unwrap(&mut self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            let first = u64::from(sequence) + (1 << 16);
            self.highest = Some(first);
            return first;
        };
        let extended = nearest(highest, sequence);
        self.highest = Some(highest.max(extended));
        extended
    }

    /// The same for a source that counts anew from that number: it is taken for one ahead, however far.
    pub(super) fn unwrap_anew(&mut self, sequence: u16) -> u64 {
        let extended = self.unwrap(sequence);
        match self.highest {
            Some(highest) if extended < highest => {
                let ahead = extended + (1 << 16);
                self.highest = Some(ahead);
                ahead
            }
            _ => extended,
        }
    }

    /// The highest so far.
    #[must_use]
    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }
}

/// The extended number next to `reference` that ends in `sequence`.
#[must_use]
pub(super) fn nearest(reference: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub(reference as u16);
    if ahead < 0x8000 {
        reference + u64::from(ahead)
    } else {
        reference.saturating_sub(u64::from(ahead.wrapping_neg()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_over_the_wrap_in_any_order() {
        let mut unwrapper = Unwrapper::default();
        let first = unwrapper.unwrap(65_534);
        let rest: Vec<_> = [65_535, 1, 0, 65_533, 2].map(|s| unwrapper.unwrap(s)).into();
        assert_eq!(rest, [first + 1, first + 3, first + 2, first - 1, first + 4]);
        assert_eq!(unwrapper.highest(), Some(first + 4));
        assert_eq!(unwrapper.unwrap_anew(0), first + 2 + (1 << 16), "one before the highest");
        assert_eq!(unwrapper.unwrap(1), first + 3 + (1 << 16));
    }
}
