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

    /// How many bits were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
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

/// Writes bits behind whole bytes.
#[derive(Debug, Default)]
pub struct BitsWriter {
    bytes: Vec<u8>,
    begin: usize,
    /// Bits that were written.
    at: usize,
}

impl BitsWriter {
    /// Behind those bytes.
    #[must_use]
    pub fn onto(bytes: Vec<u8>) -> Self {
        Self { begin: bytes.len(), bytes, at: 0 }
    }

    /// The lowest bits of a number, 32 at most.
    pub fn fixed(&mut self, value: u32, count: usize) {
        for bit in (0..count).rev() {
            let (byte, place) = (self.begin + self.at / 8, 7 - self.at % 8);
            if byte == self.bytes.len() {
                self.bytes.push(0);
            }
            if let Some(byte) = self.bytes.get_mut(byte) {
                *byte |= ((value >> bit & 1) as u8) << place;
            }
            self.at += 1;
        }
    }

    /// Those bits of other bytes, as far as there are any.
    pub fn copy(&mut self, from: &[u8], bits: std::ops::Range<usize>) {
        for at in bits {
            let Some(byte) = from.get(at / 8) else { return };
            self.fixed(u32::from(byte >> (7 - at % 8) & 1), 1);
        }
    }

    /// All bytes, the last filled up with zeros, and how many bits were written.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, usize) {
        (self.bytes, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = BitsWriter::onto(vec![9]);
        writer.fixed(5, 3);
        writer.fixed(0x1_ffff, 17);
        writer.copy(&[0b0101_1111], 1..4);
        let (bytes, bits) = writer.finish();
        assert_eq!((bytes.len(), bits, bytes[0]), (4, 23, 9));
        let mut read = Bits::new(&bytes[1..]);
        assert_eq!([3, 17, 3].map(|count| read.fixed(count)), [Some(5), Some(0x1_ffff), Some(0b101)]);
        assert_eq!(read.position(), 23);
    }

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
