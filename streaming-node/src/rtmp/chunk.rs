//! Chunks: the pieces that messages are sent in (RTMP 1.0, 5.3).

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};

/// Until a peer says another (5.4.1).
const FIRST_SIZE: usize = 128;
/// Of what is written here.
pub(super) const OWN_SIZE: usize = 4096;
/// Chunk streams of one peer, at most. Encoders use about five.
const MAX_STREAMS: usize = 32;
/// Longest header: basic, message, extended timestamp.
const MAX_HEADER: usize = 3 + 11 + 4;
/// From this on a timestamp is in a field of its own.
const EXTENDED: u32 = 0xff_ffff;

/// Why chunks can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// It refers to what was not sent.
    #[error("a chunk refers to a header that there is not")]
    NoHeader,
    /// More than a peer that means well.
    #[error("more chunk streams than are taken")]
    TooManyStreams,
    /// Longer than anything that is taken now.
    #[error("a message of {0} bytes is more than is taken")]
    TooLong(usize),
    /// A message begins before another of its chunk stream has ended.
    #[error("a message begins within another")]
    Within,
    /// No size.
    #[error("{0} is no size of chunks")]
    Size(u32),
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// Of messages.
    pub(super) stream: u32,
    /// Milliseconds.
    pub(super) timestamp: u32,
    pub(super) payload: Bytes,
}

/// Puts messages together.
#[derive(Debug)]
pub(super) struct ChunkReader {
    unread: BytesMut,
    size: usize,
    limit: usize,
    streams: HashMap<u32, ChunkStream>,
    /// The chunk stream whose payload is being read, and how much of the chunk is left.
    within: Option<(u32, usize)>,
    /// Bytes of messages that are not whole yet.
    held: usize,
}

/// The last header of a chunk stream, and what has come of its message.
#[derive(Debug, Default)]
struct ChunkStream {
    timestamp: u32,
    delta: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    payload: BytesMut,
}

impl ChunkReader {
    /// Takes messages of that many bytes at most, and holds no more of unfinished ones.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            unread: BytesMut::new(),
            size: FIRST_SIZE,
            limit,
            streams: HashMap::new(),
            within: None,
            held: 0,
        }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// What the peer says of its chunks.
    pub(super) fn set_size(&mut self, size: u32) -> Result<(), ChunkError> {
        match size {
            1..=0x7fff_ffff => {
                self.size = size as usize;
                Ok(())
            }
            _ => Err(ChunkError::Size(size)),
        }
    }

    /// What of a chunk stream has come is not wanted any more.
    pub(super) fn abort(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.held -= stream.payload.len();
            stream.payload.clear();
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next message that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Message>, ChunkError> {
        loop {
            let (id, left) = match self.within {
                Some(within) => within,
                None => match self.header()? {
                    Some(within) => within,
                    None => return Ok(None),
                },
            };
            let part = self.unread.split_to(left.min(self.unread.len()));
            let Some(stream) = self.streams.get_mut(&id) else { return Err(ChunkError::NoHeader) };
            stream.payload.extend_from_slice(&part);
            self.held += part.len();
            let left = left - part.len();
            if left > 0 {
                self.within = Some((id, left));
                return Ok(None);
            }
            self.within = None;
            if stream.payload.len() == stream.length {
                self.held -= stream.length;
                return Ok(Some(Message {
                    kind: stream.kind,
                    stream: stream.stream,
                    timestamp: stream.timestamp,
                    payload: stream.payload.split().freeze(),
                }));
            }
        }
    }

    /// The chunk stream that a chunk is of, and how many bytes of it follow; `None` if its header has not come yet.
    fn header(&mut self) -> Result<Option<(u32, usize)>, ChunkError> {
        let mut reader = Header(&self.unread[..self.unread.len().min(MAX_HEADER)]);
        let Some(read) = reader.read(&self.streams) else { return Ok(None) };
        let (id, header) = read?;
        let length = self.unread.len().min(MAX_HEADER) - reader.0.len();
        self.unread.advance(length);
        if !self.streams.contains_key(&id) && self.streams.len() == MAX_STREAMS {
            return Err(ChunkError::TooManyStreams);
        }
        let stream = self.streams.entry(id).or_default();
        let begun = !stream.payload.is_empty();
        if begun && !header.continues {
            return Err(ChunkError::Within);
        }
        if !begun {
            if header.length > self.limit || header.length > self.limit.saturating_sub(self.held) {
                return Err(ChunkError::TooLong(header.length));
            }
            stream.timestamp = header.timestamp;
        }
        stream.delta = header.delta;
        stream.extended = header.extended;
        stream.length = header.length;
        stream.kind = header.kind;
        stream.stream = header.stream;
        Ok(Some((id, self.size.min(stream.length - stream.payload.len()))))
    }
}

/// What a chunk says of its message.
struct Said {
    /// It says nothing, so that it may go on with a message.
    continues: bool,
    timestamp: u32,
    delta: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
}

struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn number(&mut self, bytes: usize) -> Option<u32> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// `None` if more has to come.
    fn read(&mut self, streams: &HashMap<u32, ChunkStream>) -> Option<Result<(u32, Said), ChunkError>> {
        let first = self.number(1)?;
        let id = match first & 0x3f {
            0 => 64 + self.number(1)?,
            1 => 64 + self.number(1)? + 256 * self.number(1)?,
            id => id,
        };
        let form = first >> 6;
        let before = streams.get(&id);
        if form != 0 && before.is_none() {
            return Some(Err(ChunkError::NoHeader));
        }
        let mut field = if form < 3 { self.number(3)? } else { 0 };
        let (length, kind) = match (form, before) {
            (0 | 1, _) => (self.number(3)? as usize, self.number(1)? as u8),
            (_, Some(before)) => (before.length, before.kind),
            (_, None) => (0, 0),
        };
        let stream = match (form, before) {
            (0, _) => self.number(4)?.swap_bytes(),
            (_, before) => before.map_or(0, |before| before.stream),
        };
        let extended =
            if form < 3 { field == EXTENDED } else { before.is_some_and(|before| before.extended) };
        let extension = if extended { Some(self.number(4)?) } else { None };
        field = extension.unwrap_or(field);
        let (timestamp, delta) = match (form, before) {
            (0, _) | (_, None) => (field, 0),
            (3, Some(before)) => (before.timestamp.wrapping_add(before.delta), before.delta),
            (_, Some(before)) => (before.timestamp.wrapping_add(field), field),
        };
        Some(Ok((id, Said { continues: form == 3, timestamp, delta, extended, length, kind, stream })))
    }
}

/// Writes a message, which is not longer than [`OWN_SIZE`] once that was said, and than [`FIRST_SIZE`] before.
pub(super) fn write(out: &mut Vec<u8>, chunk_stream: u8, kind: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.push(chunk_stream);
    out.extend([0; 3]);
    out.extend(&length.to_be_bytes()[1..]);
    out.push(kind);
    out.extend(stream.to_le_bytes());
    out.extend(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(form: u8, id: u8, header: &[u8], payload: &[u8]) -> Vec<u8> {
        [&[form << 6 | id][..], header, payload].concat()
    }
    fn all(reader: &mut ChunkReader, bytes: &[u8]) -> Result<Vec<(u8, u32, Vec<u8>)>, ChunkError> {
        let mut found = Vec::new();
        // Byte by byte: wherever it is cut.
        for byte in bytes {
            reader.push(&[*byte]);
            while let Some(message) = reader.next()? {
                found.push((message.kind, message.timestamp, message.payload.to_vec()));
            }
        }
        Ok(found)
    }

    #[test]
    fn messages_are_put_together_whatever_is_sent_between() {
        let mut reader = ChunkReader::new(1000);
        let long: Vec<u8> = (0..200).collect();
        let bytes = [
            chunk(0, 6, &[0, 0, 100, 0, 0, 200, 9, 1, 0, 0, 0], &long[..128]),
            chunk(0, 4, &[0, 0, 90, 0, 0, 2, 8, 1, 0, 0, 0], &[1, 2]),
            chunk(3, 6, &[], &long[128..]),
            chunk(1, 4, &[0, 0, 20, 0, 0, 1, 8], &[3]),
            chunk(2, 4, &[0, 0, 21], &[4]),
            chunk(3, 4, &[], &[5]),
        ]
        .concat();
        let found = all(&mut reader, &bytes).unwrap();
        let expected =
            [(8, 90, vec![1, 2]), (9, 100, long), (8, 110, vec![3]), (8, 131, vec![4]), (8, 152, vec![5])];
        assert_eq!(found, expected);
        assert_eq!(reader.held, 0);
    }

    #[test]
    fn large_timestamps_have_a_field_of_their_own() {
        let mut reader = ChunkReader::new(1000);
        let payload = [7; 130];
        let time = 0x0100_0000_u32.to_be_bytes();
        let bytes = [
            chunk(0, 6, &[0xff, 0xff, 0xff, 0, 0, 130, 9, 1, 0, 0, 0], &time),
            payload[..128].to_vec(),
            chunk(3, 6, &time, &payload[128..]),
            chunk(1, 6, &[0, 0, 40, 0, 0, 1, 9], &[1]),
        ]
        .concat();
        let found = all(&mut reader, &bytes).unwrap();
        assert_eq!((found[0].1, found[1].1), (0x0100_0000, 0x0100_0028));
    }

    #[test]
    fn chunk_streams_with_large_numbers_are_known() {
        let mut reader = ChunkReader::new(1000);
        let header = [0, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0];
        let bytes = [&[0, 10][..], &header, &[1], &[1, 10, 3], &header, &[2]].concat();
        assert_eq!(all(&mut reader, &bytes).unwrap().len(), 2);
        assert!(reader.streams.contains_key(&74) && reader.streams.contains_key(&(64 + 10 + 3 * 256)));
    }

    #[test]
    fn what_would_take_too_much_is_refused() {
        let begin = |id: u8, length: [u8; 3]| {
            let header = [&[0, 0, 0][..], &length, &[9, 0, 0, 0, 0]].concat();
            chunk(0, id, &header, &[])
        };
        let refused = |bytes: &[u8]| all(&mut ChunkReader::new(1000), bytes).unwrap_err();
        assert_eq!(refused(&begin(5, [0xff, 0xff, 0xff])), ChunkError::TooLong(0xff_ffff));
        assert_eq!(refused(&[0xc5]), ChunkError::NoHeader);
        let two = [&begin(5, [0, 3, 0])[..], &[0; 128], &begin(6, [0, 3, 232])].concat();
        assert_eq!(refused(&two), ChunkError::TooLong(1000), "together they are more than is held");
        let within = [&begin(5, [0, 3, 0])[..], &[0; 128], &begin(5, [0, 0, 1])].concat();
        assert_eq!(refused(&within), ChunkError::Within);
        let many: Vec<u8> = (2..63).flat_map(|id| begin(id, [0, 0, 0])).collect();
        assert_eq!(refused(&many), ChunkError::TooManyStreams);
        assert_eq!(ChunkReader::new(1).set_size(0), Err(ChunkError::Size(0)));
        assert_eq!(ChunkReader::new(1).set_size(u32::MAX), Err(ChunkError::Size(u32::MAX)));
    }

    #[test]
    fn what_is_aborted_begins_anew() {
        let mut reader = ChunkReader::new(1000);
        let header = [0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
        assert_eq!(all(&mut reader, &chunk(0, 6, &header, &[1; 128])), Ok(vec![]));
        reader.abort(6);
        let again = [chunk(0, 6, &header, &[2; 128]), chunk(3, 6, &[], &[2; 72])].concat();
        assert_eq!(all(&mut reader, &again), Ok(vec![(9, 0, vec![2; 200])]));
    }
}
