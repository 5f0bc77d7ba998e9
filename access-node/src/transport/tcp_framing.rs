//! Datagrams on a TCP connection: each after its length in two bytes (RFC 4571).

use std::collections::VecDeque;

/// Longest frame accepted, in bytes. Whatever WebRTC sends fits into an Ethernet frame; DTLS handshakes are fragmented to that too.
pub const MAX_FRAME: usize = 2048;

/// A frame longer than [`MAX_FRAME`] was announced: the connection can't be read any further.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a frame of {0} bytes is longer than {MAX_FRAME}")]
pub struct FrameTooLong(pub usize);

/// Puts frames together from whatever pieces arrive. Holds at most one unfinished frame and the piece given last.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: VecDeque<u8>,
}

impl Deframer {
    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// Takes the next whole frame.
    ///
    /// # Errors
    /// If it is too long.
    pub fn pop(&mut self) -> Result<Option<Vec<u8>>, FrameTooLong> {
        let (Some(high), Some(low)) = (self.buffer.front(), self.buffer.get(1)) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length > MAX_FRAME {
            return Err(FrameTooLong(length));
        }
        if self.buffer.len() < 2 + length {
            return Ok(None);
        }
        Ok(Some(self.buffer.drain(..2 + length).skip(2).collect()))
    }
}

/// A datagram as a frame; `None` if it is too long for one.
#[must_use]
pub fn frame(datagram: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(datagram.len()).ok()?;
    Some([&length.to_be_bytes()[..], datagram].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_they_go_in() {
        let stream: Vec<u8> = [&b"one"[..], b"", b"three"].iter().flat_map(|d| frame(d).unwrap()).collect();
        for piece in 1..=stream.len() {
            let mut deframer = Deframer::default();
            let mut frames = Vec::new();
            for bytes in stream.chunks(piece) {
                deframer.push(bytes);
                while let Some(frame) = deframer.pop().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"one"[..], b"", b"three"]);
        }
    }

    #[test]
    fn a_long_frame_is_refused_before_it_is_stored() {
        let mut deframer = Deframer::default();
        deframer.push(&[0xff, 0xff, 1]);
        assert_eq!(deframer.pop(), Err(FrameTooLong(0xffff)));
    }
}
