//! The frames of a WebSocket (RFC 6455 §5.2), looked at as they pass, in pieces of any size.

/// Bytes of a payload that are kept to be looked at.
pub(super) const KEPT: usize = 16;
/// Longest header: two bytes, a length of eight, a mask of four.
const MAX_HEADER: usize = 14;

/// A text frame.
pub(super) const TEXT: u8 = 0x1;
/// A Ping frame.
pub(super) const PING: u8 = 0x9;
/// A Pong frame.
pub(super) const PONG: u8 = 0xa;

/// A frame that has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    /// Of the payload, unmasked.
    pub(super) begins: &'a [u8],
    /// Of the payload.
    pub(super) length: u64,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; MAX_HEADER],
    /// Bytes of the header that have passed.
    have: usize,
    /// Length of the payload and what of it has passed, once the header has.
    payload: Option<(u64, u64)>,
    kept: [u8; KEPT],
}

impl Frames {
    /// Whether what passes next begins a frame.
    pub(super) fn between(&self) -> bool {
        self.have == 0
    }

    /// These bytes pass; `ended` is called with each frame that ends in them.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut ended: impl FnMut(Frame<'_>)) {
        loop {
            let (length, passed) = match self.payload {
                Some(payload) => payload,
                None => {
                    let Some(rest) = self.take_header(bytes) else { return };
                    bytes = rest;
                    let payload = (self.length(), 0);
                    self.payload = Some(payload);
                    payload
                }
            };
            let now = usize::try_from(length - passed).unwrap_or(usize::MAX).min(bytes.len());
            let mask = self.mask();
            let begin = usize::try_from(passed).unwrap_or(usize::MAX);
            for (i, byte) in bytes[..now].iter().enumerate().take(KEPT.saturating_sub(begin)) {
                self.kept[begin + i] = byte ^ mask[(begin + i) % 4];
            }
            bytes = &bytes[now..];
            let passed = passed + now as u64;
            if passed < length {
                self.payload = Some((length, passed));
                return;
            }
            let kept = usize::try_from(length).unwrap_or(usize::MAX).min(KEPT);
            ended(Frame { opcode: self.header[0] & 0xf, begins: &self.kept[..kept], length });
            (self.have, self.payload) = (0, None);
            if bytes.is_empty() {
                return;
            }
        }
    }

    /// What follows the header; `None` if it is not whole yet.
    fn take_header<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut bytes = bytes;
        while self.have < 2 || self.have < self.header_length() {
            let (first, rest) = bytes.split_first()?;
            self.header[self.have] = *first;
            self.have += 1;
            bytes = rest;
        }
        Some(bytes)
    }

    fn is_masked(&self) -> bool {
        self.header[1] & 0x80 != 0
    }

    fn length_bytes(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn header_length(&self) -> usize {
        2 + self.length_bytes() + if self.is_masked() { 4 } else { 0 }
    }

    fn length(&self) -> u64 {
        match self.length_bytes() {
            0 => u64::from(self.header[1] & 0x7f),
            bytes => self.header[2..2 + bytes].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        }
    }

    fn mask(&self) -> [u8; 4] {
        let mut mask = [0; 4];
        if self.is_masked() {
            let at = 2 + self.length_bytes();
            mask.copy_from_slice(&self.header[at..at + 4]);
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let bit = if mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            short @ 0..126 => bytes.push(bit | short as u8),
            middle @ 126..65_536 => {
                bytes.push(bit | 126);
                bytes.extend((middle as u16).to_be_bytes());
            }
            long => {
                bytes.push(bit | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        let key = mask.unwrap_or_default();
        bytes.extend(mask.iter().flatten());
        bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
        bytes
    }

    fn seen(bytes: &[u8], piece: usize) -> Vec<(u8, Vec<u8>, u64)> {
        let (mut frames, mut seen) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            frames.pass(piece, |f| seen.push((f.opcode, f.begins.to_vec(), f.length)));
        }
        assert!(frames.between());
        seen
    }

    #[test]
    fn frames_of_all_lengths_are_seen_in_pieces_of_any_size() {
        for mask in [None, Some([1, 2, 3, 4])] {
            let payloads: Vec<Vec<u8>> = [0, 1, 15, 16, 17, 125, 126, 65_535, 65_536]
                .map(|n| (0..n).map(|i| i as u8).collect())
                .into();
            let bytes: Vec<u8> = payloads.iter().flat_map(|p| frame(TEXT, p, mask)).collect();
            let wanted: Vec<_> =
                payloads.iter().map(|p| (TEXT, p[..p.len().min(KEPT)].to_vec(), p.len() as u64)).collect();
            for piece in [1, 2, 7, 4096, bytes.len()] {
                assert_eq!(seen(&bytes, piece), wanted, "{mask:?} {piece}");
            }
        }
    }

    #[test]
    fn inside_of_a_frame_is_not_between_frames() {
        let mut frames = Frames::default();
        let bytes = frame(PONG, b"0123456789", None);
        for byte in &bytes[..bytes.len() - 1] {
            frames.pass(&[*byte], |f| panic!("{f:?}"));
            assert!(!frames.between());
        }
    }

    #[test]
    fn any_bytes_are_harmless() {
        let mut frames = Frames::default();
        frames.pass(&[0xff; 4096], |_| {});
        for seed in 0..200_u8 {
            let bytes: Vec<u8> =
                (0..300_u16).map(|i| (i as u8).wrapping_mul(seed).wrapping_add(seed)).collect();
            Frames::default().pass(&bytes, |_| {});
        }
    }
}
