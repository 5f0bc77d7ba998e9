//! VP8's payload descriptor (RFC 7741 §4.2).

/// What is in a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Begins the first partition.
    pub(crate) start: bool,
    /// 15 bits.
    pub(crate) picture: Option<u16>,
    pub(crate) tl0: Option<u8>,
    pub(crate) temporal: u8,
}

impl Descriptor {
    /// Appends it, with all fields.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let [high, low] = self.picture.unwrap_or(0).to_be_bytes();
        let start = u8::from(self.start) << 4;
        out.extend_from_slice(&[
            0x80 | start,
            0xe0,
            0x80 | high,
            low,
            self.tl0.unwrap_or(0),
            self.temporal << 6,
        ]);
    }

    /// Reads it, with its length.
    pub(crate) fn read(payload: &[u8]) -> Option<(Self, usize)> {
        let first = *payload.first()?;
        let mut found = Self { start: first & 0x1f == 0x10, picture: None, tl0: None, temporal: 0 };
        if first & 0x80 == 0 {
            return Some((found, 1));
        }
        let fields = *payload.get(1)?;
        let mut at = 2;
        if fields & 0x80 != 0 {
            let high = *payload.get(at)?;
            found.picture = Some(if high & 0x80 == 0 {
                at += 1;
                high.into()
            } else {
                at += 2;
                u16::from_be_bytes([high & 0x7f, *payload.get(at - 1)?])
            });
        }
        if fields & 0x40 != 0 {
            found.tl0 = Some(*payload.get(at)?);
            at += 1;
        }
        if fields & 0x30 != 0 {
            found.temporal = *payload.get(at)? >> 6;
            at += 1;
        }
        (at <= payload.len()).then_some((found, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the descriptor as it is written: with picture id of 15 bits, TL0PICIDX and TID.
    const DESCRIPTOR: usize = 6;

    #[test]
    fn what_is_written_is_read() {
        for (start, picture) in [(true, 0), (false, 0x7fff), (true, 200)] {
            let descriptor = Descriptor { start, picture: Some(picture), tl0: Some(9), temporal: 2 };
            let mut bytes = Vec::new();
            descriptor.write(&mut bytes);
            assert_eq!(Descriptor::read(&bytes), Some((descriptor, DESCRIPTOR)));
            for length in 0..DESCRIPTOR {
                assert_eq!(Descriptor::read(&bytes[..length]), None);
            }
        }
    }

    #[test]
    fn short_forms_are_read_too() {
        let plain = Descriptor { start: true, picture: None, tl0: None, temporal: 0 };
        assert_eq!(Descriptor::read(&[0x10, 7]), Some((plain, 1)));
        assert_eq!(
            Descriptor::read(&[0x90, 0x80, 0x11]),
            Some((Descriptor { picture: Some(0x11), ..plain }, 3))
        );
    }
}
