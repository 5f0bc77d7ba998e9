//! Messages in a stream (RFC 8656 §3.1, §12.5): each begins with its length, ChannelData is filled up to four bytes.

/// Longest message that is taken. Media and what negotiates them are in datagrams of at most some 1500 bytes.
pub const MAX_MESSAGE: usize = 4096;

/// Why a stream is none of messages; nothing after it can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Neither STUN nor ChannelData.
    #[error("a message begins as none does")]
    Unknown,
    /// Longer than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes")]
    TooLong(usize),
}

/// Finds messages in what comes by a stream. Holds one at most.
#[derive(Debug, Default)]
pub struct Deframer {
    waiting: Vec<u8>,
}

impl Deframer {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next message, as it would be in a datagram.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(&[first, _, high, low]) = self.waiting.first_chunk() else { return Ok(None) };
        let stated = usize::from(u16::from_be_bytes([high, low]));
        let (message, frame) = match first >> 6 {
            0 => (20 + stated, 20 + stated),
            1 => (4 + stated, 4 + stated.next_multiple_of(4)),
            _ => return Err(FrameError::Unknown),
        };
        if message > MAX_MESSAGE {
            return Err(FrameError::TooLong(message));
        }
        if self.waiting.len() < frame {
            return Ok(None);
        }
        let rest = self.waiting.split_off(frame);
        let mut found = std::mem::replace(&mut self.waiting, rest);
        found.truncate(message);
        Ok(Some(found))
    }
}

/// Fills a message up to what a stream wants.
pub(super) fn pad(message: &mut Vec<u8>) {
    message.resize(message.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let stun = [&[0, 1, 0, 4][..], &[7; 20]].concat();
        let data = [0x40, 0, 0, 5, 1, 2, 3, 4, 5];
        let stream = [&stun[..], &data, &[0; 3], &stun].concat();
        for size in 1..stream.len() {
            let (mut deframer, mut found) = (Deframer::default(), Vec::new());
            for piece in stream.chunks(size) {
                deframer.push(piece);
                while let Some(message) = deframer.next_message().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, [stun.clone(), data.to_vec(), stun.clone()], "by {size}");
        }
    }

    #[test]
    fn what_is_no_message_ends_the_stream() {
        let refused = |bytes: &[u8]| {
            let mut deframer = Deframer::default();
            deframer.push(bytes);
            deframer.next_message().unwrap_err()
        };
        assert_eq!(
            refused(b"GET / HTTP/1.1"),
            FrameError::TooLong(4 + usize::from(u16::from_be_bytes(*b"T ")))
        );
        assert_eq!(refused(&[0xff; 4]), FrameError::Unknown);
        assert_eq!(refused(&[0, 1, 0xff, 0xff]), FrameError::TooLong(65_555));
        assert_eq!(refused(&[0x40, 0, 0xff, 0xff]), FrameError::TooLong(65_539));
    }
}
