//! Bits of a bitstream's headers, the most significant first.

/// Reads from the first bit on.
#[derive(Debug)]
pub struct Bits<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Bits<'b> {
    /// From the first bit.
    #[must_use]
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// A number of so many bits, 32 at most; `None` at the end.
    pub fn fixed(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// Exp-Golomb, unsigned (ITU-T H.264 §9.1).
    pub fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.fixed(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.fixed(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_fixed_and_of_variable_length() {
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0000]);
        assert_eq!(bits.fixed(3), Some(5));
        // 00110 is 5, 010 is 1.
        assert_eq!((bits.unsigned(), bits.unsigned()), (Some(5), Some(1)));
        assert_eq!(Bits::new(&[0; 5]).unsigned(), None);
        assert_eq!(Bits::new(&[]).fixed(1), None);
    }
}
