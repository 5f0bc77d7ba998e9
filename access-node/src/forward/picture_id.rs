//! The numbers by which VP8 and VP9 payloads name their picture: a subscriber must see them go on when its stream changes to another
//! source, as sequence numbers and timestamps do.

use crate::sdp::Codec;

/// Where a payload has its picture's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PictureId {
    at: usize,
    value: u16,
    /// 15 bits instead of 7.
    wide: bool,
}

/// The numbers of a payload, as far as it has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PictureIds {
    picture: Option<PictureId>,
    /// TL0PICIDX, which counts the pictures of the lowest temporal layer: where, and which.
    base: Option<(usize, u8)>,
    /// The number of the frame in its dependency descriptor.
    frame: Option<u16>,
    /// Pictures are counted as they are sent: other codecs name those that they depend on by how many are between.
    is_counted: bool,
}

/// What is changed of the numbers of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    picture: u16,
    base: u8,
    frame: u16,
    /// The spatial layer whose last packet is the last of the picture; above it nothing is sent.
    pub(super) top: Option<u8>,
}

/// The numbers that a subscriber got last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastIds {
    picture: Option<u16>,
    base: Option<u8>,
    frame: Option<u16>,
}

/// Finds the numbers of an RTP payload.
#[must_use]
pub(super) fn locate(codec: Codec, payload: &[u8]) -> PictureIds {
    match codec {
        Codec::Vp8 => vp8(payload),
        Codec::Vp9 => vp9(payload),
        _ => PictureIds::default(),
    }
}

/// RFC 7741 §4.2.
fn vp8(payload: &[u8]) -> PictureIds {
    let [first, extension, ..] = payload else { return PictureIds::default() };
    if first & 0x80 == 0 {
        return PictureIds::default();
    }
    let picture = (extension & 0x80 != 0).then(|| picture(payload, 2)).flatten();
    let at = 2 + picture.map_or(0, |picture| 1 + usize::from(picture.wide));
    let base = payload.get(at).filter(|_| extension & 0x40 != 0).map(|value| (at, *value));
    PictureIds { picture, base, is_counted: true, ..PictureIds::default() }
}

/// RFC 9628 §4.2.
fn vp9(payload: &[u8]) -> PictureIds {
    let Some(first) = payload.first() else { return PictureIds::default() };
    let picture = (first & 0x80 != 0).then(|| picture(payload, 1)).flatten();
    let at = 2 + picture.map_or(0, |picture| 1 + usize::from(picture.wide));
    let layered_in_order = first & 0x20 != 0 && first & 0x10 == 0;
    let base = payload.get(at).filter(|_| layered_in_order).map(|value| (at, *value));
    PictureIds { picture, base, ..PictureIds::default() }
}

fn picture(payload: &[u8], at: usize) -> Option<PictureId> {
    let first = *payload.get(at)?;
    if first & 0x80 == 0 {
        return Some(PictureId { at, value: first.into(), wide: false });
    }
    let value = u16::from_be_bytes([first & 0x7f, *payload.get(at + 1)?]);
    Some(PictureId { at, value, wide: true })
}

impl Shift {
    /// One picture fewer was sent than the source has.
    pub(super) fn one_less(self) -> Self {
        Self { picture: self.picture.wrapping_sub(1), ..self }
    }

    /// With another last layer.
    pub(super) fn with_top(self, top: Option<u8>) -> Self {
        Self { top, ..self }
    }

    /// The frame's number as it is sent.
    pub(super) fn frame(self, number: u16) -> u16 {
        number.wrapping_add(self.frame)
    }
}

impl PictureIds {
    /// With the number that the frame has in its dependency descriptor.
    pub(super) fn with_frame(self, frame: Option<u16>) -> Self {
        Self { frame, ..self }
    }

    /// The picture's number, if it is one of those that are counted.
    pub(super) fn counted(&self) -> Option<u16> {
        self.picture.filter(|_| self.is_counted).map(|picture| picture.value)
    }

    /// What lets these numbers follow directly on `last`.
    pub(super) fn shift_after(&self, last: &LastIds) -> Shift {
        let picture = self.picture.zip(last.picture);
        let base = self.base.zip(last.base);
        let frame = self.frame.zip(last.frame);
        Shift {
            frame: frame.map_or(0, |(number, last)| last.wrapping_add(1).wrapping_sub(number)),
            top: None,
            picture: picture.map_or(0, |(id, last)| last.wrapping_add(1).wrapping_sub(id.value)),
            base: base.map_or(0, |((_, value), last)| last.wrapping_add(1).wrapping_sub(value)),
        }
    }

    /// These numbers were sent, shifted.
    pub(super) fn sent(&self, shift: Shift, last: &mut LastIds) {
        if let Some(id) = self.picture {
            last.picture = Some(id.value.wrapping_add(shift.picture));
        }
        if let Some((_, value)) = self.base {
            last.base = Some(value.wrapping_add(shift.base));
        }
        if let Some(number) = self.frame {
            last.frame = Some(shift.frame(number));
        }
    }

    /// Shifts the numbers in a copy of the payload that they were found in.
    pub(super) fn write(&self, shift: Shift, payload: &mut [u8]) {
        if (shift.picture, shift.base) == (0, 0) {
            return;
        }
        if let Some(id) = self.picture {
            let [high, low] = id.value.wrapping_add(shift.picture).to_be_bytes();
            match payload.get_mut(id.at..id.at + 1 + usize::from(id.wide)) {
                Some([first, second]) => (*first, *second) = (high | 0x80, low),
                Some([only]) => *only = low & 0x7f,
                _ => {}
            }
        }
        if let Some((at, value)) = self.base
            && let Some(byte) = payload.get_mut(at)
        {
            *byte = value.wrapping_add(shift.base);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The payload as it goes out after `last` went out.
    fn follow(codec: Codec, last: &[u8], next: &[u8]) -> Vec<u8> {
        let mut ids = LastIds::default();
        locate(codec, last).sent(Shift::default(), &mut ids);
        let found = locate(codec, next);
        let mut out = next.to_vec();
        found.write(found.shift_after(&ids), &mut out);
        out
    }

    #[test]
    fn numbers_go_on_in_each_form() {
        // VP8: 15 bits and TL0PICIDX, over the wrap of both; 7 bits; none.
        let wide = |picture: u16, base: u8| {
            let [high, low] = picture.to_be_bytes();
            vec![0x90, 0xe0, high | 0x80, low, base, 0x20, 9]
        };
        assert_eq!(follow(Codec::Vp8, &wide(300, 7), &wide(5, 200)), wide(301, 8));
        assert_eq!(follow(Codec::Vp8, &wide(0x7fff, 255), &wide(77, 3)), wide(0, 0));
        assert_eq!(follow(Codec::Vp8, &wide(130, 0), &[0x90, 0x80, 5, 9]), [0x90, 0x80, 3, 9]);
        assert_eq!(follow(Codec::Vp8, &wide(130, 0), &[0x10, 9, 9]), [0x10, 9, 9]);
        // VP9 with layers, in order; flexible mode has no TL0PICIDX.
        assert_eq!(
            follow(Codec::Vp9, &[0xa8, 0x81, 0x00, 0x00, 9, 1], &[0xa8, 0x80, 0x10, 0x20, 40, 1]),
            [0xa8, 0x81, 0x01, 0x20, 10, 1]
        );
        assert_eq!(
            follow(Codec::Vp9, &[0xb8, 0x81, 0x00, 0x00, 9, 1], &[0xb8, 0x80, 0x10, 0x20, 40, 1]),
            [0xb8, 0x81, 0x01, 0x20, 40, 1]
        );
        assert_eq!(follow(Codec::H264, &[1, 2, 3], &[0x90, 0xe0, 9]), [0x90, 0xe0, 9]);
    }

    #[test]
    fn no_payload_is_too_short() {
        for codec in [Codec::Vp8, Codec::Vp9] {
            let whole = [0xff; 6];
            for length in 0..whole.len() {
                let cut = &whole[..length];
                assert_eq!(follow(codec, &whole, cut).len(), length);
            }
        }
    }
}
