//! H.264 as a byte stream (ITU-T H.264 Annex B), divided into access units by the delimiters in it.

use super::Encoded;

/// NAL unit types (table 7-1).
pub(crate) const SLICE_IDR: u8 = 5;
/// See [`SLICE_IDR`].
const DELIMITER: u8 = 9;

/// The NAL units of a byte stream, without start codes.
pub(crate) fn units(stream: &[u8]) -> Vec<&[u8]> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(found) = stream.get(at..).and_then(|rest| rest.windows(3).position(|w| w == [0, 0, 1])) {
        starts.push(at + found);
        at += found + 3;
    }
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let unit = |(start, end): (&usize, usize)| {
        let unit = &stream[start + 3..end];
        // A start code of four bytes and padding leave zeros behind, which no unit ends with.
        let trailing = unit.iter().rev().take_while(|byte| **byte == 0).count();
        &unit[..unit.len() - trailing]
    };
    starts.iter().zip(ends).map(unit).filter(|unit| !unit.is_empty()).collect()
}

/// The access units of a stream with delimiters, without these.
pub(super) fn read(stream: &[u8]) -> Option<Vec<Encoded>> {
    let mut frames: Vec<Encoded> = Vec::new();
    for unit in units(stream) {
        let kind = unit[0] & 0x1f;
        if kind == DELIMITER {
            frames.push(Encoded { key: false, bytes: Vec::new() });
            continue;
        }
        let frame = frames.last_mut()?;
        frame.key |= kind == SLICE_IDR;
        frame.bytes.extend_from_slice(&[0, 0, 1]);
        frame.bytes.extend_from_slice(unit);
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_units_are_divided_by_delimiters() {
        let stream = [
            &[0, 0, 0, 1, 9, 16][..],
            &[0, 0, 0, 1, 0x67, 1, 2],
            &[0, 0, 0, 1, 0x68, 3],
            &[0, 0, 1, 0x65, 4, 5],
            &[0, 0, 0, 1, 9, 48],
            &[0, 0, 1, 0x41, 6, 0, 0],
        ]
        .concat();
        let frames = read(&stream).unwrap();
        assert_eq!(frames.iter().map(|frame| frame.key).collect::<Vec<_>>(), [true, false]);
        assert_eq!(units(&frames[0].bytes), [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 4, 5]]);
        assert_eq!(units(&frames[1].bytes), [[0x41, 6]]);
        assert_eq!(read(&[0, 0, 1, 0x65]), None, "no delimiter");
    }
}
