//! IVF: a header, then frames with their length before them.

use super::Encoded;

/// Bytes of the file's header, whose own length stands in it, and of a frame's.
const HEADER: usize = 32;
/// See [`HEADER`].
const FRAME_HEADER: usize = 12;

/// VP8 frames; `None` if it is no IVF.
pub(super) fn read(file: &[u8]) -> Option<Vec<Encoded>> {
    if file.get(..4)? != b"DKIF" || file.get(8..12)? != b"VP80" {
        return None;
    }
    let mut rest = file.get(HEADER..)?;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let bytes = rest.get(FRAME_HEADER..FRAME_HEADER + length)?.to_vec();
        rest = &rest[FRAME_HEADER + length..];
        // RFC 6386 §9.1.
        let key = bytes.first()? & 1 == 0;
        frames.push(Encoded { key, bytes });
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_and_what_is_cut_off_is_refused() {
        let mut file = [&b"DKIF\0\0\x20\0VP80"[..], &[0; 20]].concat();
        for frame in [&[0x10, 1, 2][..], &[0x11]] {
            file.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            file.extend_from_slice(&[0; 8]);
            file.extend_from_slice(frame);
        }
        let frames = read(&file).unwrap();
        assert_eq!(
            frames.iter().map(|f| (f.key, f.bytes.len())).collect::<Vec<_>>(),
            [(true, 3), (false, 1)]
        );
        assert_eq!(read(&file[..file.len() - 1]), None);
        assert_eq!(read(b"RIFF"), None);
    }
}
