//! Fractions of a picture's side.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 0..=1 as numerator and denominator; shown as "n/d", never as a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fraction {
    numerator: u32,
    denominator: u32,
}

/// Most digits after the point that a decimal fraction may have: what fits the denominator.
const MAX_DECIMALS: usize = 9;

impl Fraction {
    pub(super) const ZERO: Self = Self::new(0, 1);

    /// As given, not reduced. `denominator` is not 0.
    pub(super) const fn new(numerator: u32, denominator: u32) -> Self {
        Self { numerator, denominator }
    }

    /// Reads "1/3", "0", "1" or "0.25" and reduces it. `None` for anything else and for what is outside of 0..=1.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (numerator, denominator): (u32, u32) = if let Some((n, d)) = text.split_once('/') {
            (n.trim().parse().ok()?, d.trim().parse().ok()?)
        } else if let Some((whole, decimals)) = text.split_once('.') {
            let decimals = decimals.trim_end_matches('0');
            if decimals.len() > MAX_DECIMALS {
                return None;
            }
            let denominator = 10u32.pow(decimals.len() as u32);
            let part: u32 = if decimals.is_empty() { 0 } else { decimals.parse().ok()? };
            let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
            (whole.checked_mul(denominator)?.checked_add(part)?, denominator)
        } else {
            (text.parse().ok()?, 1)
        };
        if denominator == 0 || numerator > denominator {
            return None;
        }
        let divisor = gcd(numerator, denominator);
        Some(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    /// Whether it is a side that something can be shown in.
    pub(super) fn is_positive(self) -> bool {
        self.numerator > 0
    }

    #[cfg(test)]
    pub(crate) fn value(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_reduced_fractions() {
        let read = |text| Fraction::parse(text).map(|f| f.to_string());
        assert_eq!(read("0").as_deref(), Some("0/1"));
        assert_eq!(read("1").as_deref(), Some("1/1"));
        assert_eq!(read("2/4").as_deref(), Some("1/2"));
        assert_eq!(read("0.25").as_deref(), Some("1/4"));
        assert_eq!(read("1.0").as_deref(), Some("1/1"));
    }

    #[test]
    fn what_is_no_part_of_a_picture_is_refused() {
        for text in ["", "a", "1/0", "3/2", "-1/2", "1.5", "1/2/3", "0.12345678901", "٣"] {
            assert_eq!(Fraction::parse(text), None, "{text}");
        }
    }
}
