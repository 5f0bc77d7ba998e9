//! What a node and the process of a pipeline tell each other: a header of fixed size, and what follows it, over one socket.

use std::io::{self, Read, Write};

use crate::video::Size;

/// Kind, width, height, time, length.
pub(super) const HEADER: usize = 1 + 4 + 4 + 8 + 4;
/// Sides of pictures, at most.
const MAX_SIDE: u32 = 4096;
/// Bytes of what is no picture, at most.
const MAX_TEXT: usize = 64 * 1024;

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// To the process, first: what it is to do, as JSON.
    Setup(Vec<u8>),
    /// Either way: I420 in GStreamer's default layout, and its time in nanoseconds.
    Picture {
        /// Of the luma.
        size: Size,
        /// Since the node's own zero.
        at: u64,
        /// All planes.
        data: Vec<u8>,
    },
    /// From the process: the pipeline plays.
    Ready,
    /// From the process: it has taken a picture.
    Taken,
    /// From the process, last: why it ends.
    Failed(String),
}

impl Message {
    /// The header and what follows it.
    fn parts(&self) -> ([u8; HEADER], &[u8]) {
        let nothing = Size { width: 0, height: 0 };
        let (kind, size, at, data): (u8, Size, u64, &[u8]) = match self {
            Self::Setup(data) => (1, nothing, 0, data),
            Self::Picture { size, at, data } => (2, *size, *at, data),
            Self::Ready => (3, nothing, 0, &[]),
            Self::Taken => (4, nothing, 0, &[]),
            Self::Failed(text) => (5, nothing, 0, text.as_bytes()),
        };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut header = [0; HEADER];
        header[0] = kind;
        header[1..5].copy_from_slice(&size.width.to_le_bytes());
        header[5..9].copy_from_slice(&size.height.to_le_bytes());
        header[9..17].copy_from_slice(&at.to_le_bytes());
        header[17..].copy_from_slice(&length.to_le_bytes());
        (header, data)
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of `to`.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (header, data) = self.parts();
        to.write_all(&header)?;
        to.write_all(data)
    }

    /// Reads the next.
    ///
    /// # Errors
    /// Those of `from`; and if it is none, or larger than one may be, before any memory is taken for it.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let size = Size { width: number(1), height: number(5) };
        let at = u64::from(number(9)) | u64::from(number(13)) << 32;
        let length = number(17) as usize;
        let kind = header[0];
        let fits = match kind {
            1 | 5 => length <= MAX_TEXT,
            2 => picture_bytes(size) == Some(length),
            3 | 4 => length == 0,
            _ => false,
        };
        if !fits {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no message"));
        }
        let mut data = vec![0; length];
        from.read_exact(&mut data)?;
        Ok(match kind {
            1 => Self::Setup(data),
            2 => Self::Picture { size, at, data },
            3 => Self::Ready,
            4 => Self::Taken,
            _ => Self::Failed(String::from_utf8_lossy(&data).into_owned()),
        })
    }
}

/// Bytes of a picture; `None` for a size that none has.
fn picture_bytes(size: Size) -> Option<usize> {
    let sides = 1..=MAX_SIDE;
    let fits = sides.contains(&size.width) && sides.contains(&size.height);
    fits.then(|| crate::video::Canvas::bytes_of(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let size = Size { width: 6, height: 3 };
        let data = vec![7; crate::video::Canvas::bytes_of(size)];
        let all = [
            Message::Setup(b"{}".to_vec()),
            Message::Picture { size, at: u64::MAX - 3, data },
            Message::Ready,
            Message::Taken,
            Message::Failed("because".into()),
        ];
        let mut written = Vec::new();
        for message in &all {
            message.write(&mut written).unwrap();
        }
        let mut from = &written[..];
        for message in all {
            assert_eq!(Message::read(&mut from).unwrap(), message);
        }
        assert!(Message::read(&mut from).is_err());
    }

    #[test]
    fn what_is_no_message_is_refused_before_memory_is_taken() {
        let header = |kind: u8, width: u32, height: u32, length: u32| {
            let mut header = vec![kind];
            for number in [width, height, 0, 0, length] {
                header.extend(number.to_le_bytes());
            }
            header
        };
        for bad in [
            header(0, 0, 0, 0),
            header(9, 0, 0, 0),
            header(1, 0, 0, u32::MAX),
            header(2, 0, 4, 0),
            header(2, 5000, 4, 30_000),
            header(2, 4, 4, 25),
            header(4, 0, 0, 1),
        ] {
            let error = Message::read(&mut &bad[..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bad:?}");
        }
    }
}
