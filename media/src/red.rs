//! Redundant audio data (RFC 2198): a payload that carries, before its own packet's data, that of some packets before it.

/// Bytes of a redundant block's header.
const HEADER: usize = 4;
/// Most redundant blocks that are read of one payload. Browsers send one or two, nine at most.
const MAX_BLOCKS: usize = 32;
/// How far a redundant block's timestamp may lie before the packet's, exclusive: it has 14 bits. A third of a second of Opus.
pub const MAX_OFFSET: u32 = 1 << 14;
/// How long a redundant block may be, in bytes, exclusive: the length has ten bits.
pub const MAX_LENGTH: usize = 1 << 10;

/// Why a payload is not of this kind.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum RedError {
    /// Shorter than its headers say, or without the one that ends them.
    #[error("redundant payload too short")]
    TooShort,
    /// More blocks than anybody sends.
    #[error("redundant payload has more than {MAX_BLOCKS} blocks")]
    TooManyBlocks,
}

/// A payload, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedPayload<'p> {
    payload: &'p [u8],
    blocks: usize,
    /// Payload type of the packet's own data.
    pub payload_type: u8,
    /// Where the packet's own data begin.
    pub primary_start: usize,
}

/// The data of an earlier packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'p> {
    /// 0..127.
    pub payload_type: u8,
    /// How much earlier, in units of the timestamp; less than [`MAX_OFFSET`].
    pub offset: u32,
    /// Shorter than [`MAX_LENGTH`].
    pub data: &'p [u8],
}

impl<'p> RedPayload<'p> {
    /// Reads a payload.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(payload: &'p [u8]) -> Result<Self, RedError> {
        let mut blocks = 0;
        let mut lengths = 0;
        loop {
            let header = payload.get(blocks * HEADER..).unwrap_or_default();
            match header {
                [last, ..] if last & 0x80 == 0 => break,
                [_, _, third, fourth, ..] if blocks < MAX_BLOCKS => {
                    lengths += usize::from(u16::from_be_bytes([third & 0x03, *fourth]));
                    blocks += 1;
                }
                [_, _, _, _, ..] => return Err(RedError::TooManyBlocks),
                _ => return Err(RedError::TooShort),
            }
        }
        let primary_start = blocks * HEADER + 1 + lengths;
        if primary_start > payload.len() {
            return Err(RedError::TooShort);
        }
        Ok(Self { payload, blocks, payload_type: payload[blocks * HEADER] & 0x7f, primary_start })
    }

    /// The packet's own data.
    #[must_use]
    pub fn primary(&self) -> &'p [u8] {
        self.payload.get(self.primary_start..).unwrap_or_default()
    }

    /// How many blocks of earlier packets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// The blocks of earlier packets in their order: the earliest first, as everybody writes them.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'p>> + use<'p> {
        let headers = self.payload.get(..self.blocks * HEADER).unwrap_or_default();
        let mut data = self.payload.get(headers.len() + 1..self.primary_start).unwrap_or_default();
        headers.chunks_exact(HEADER).map(move |header| {
            let length = usize::from(u16::from_be_bytes([header[2] & 0x03, header[3]]));
            let (block, rest) = data.split_at(length.min(data.len()));
            data = rest;
            Block {
                payload_type: header[0] & 0x7f,
                offset: u32::from(u16::from_be_bytes([header[1], header[2]]) >> 2),
                data: block,
            }
        })
    }
}

/// Appends a payload of these blocks, the earliest first, and the packet's own data. Blocks that can't be written are left out: those that
/// lie too far back, not before the packet, or are too long.
pub fn write<'b>(
    out: &mut Vec<u8>,
    payload_type: u8,
    blocks: impl Iterator<Item = Block<'b>> + Clone,
    primary: &[u8],
) {
    let blocks =
        blocks.filter(|block| (1..MAX_OFFSET).contains(&block.offset) && block.data.len() < MAX_LENGTH);
    for block in blocks.clone().take(MAX_BLOCKS) {
        let numbers = block.offset << 10 | block.data.len() as u32;
        let [_, numbers @ ..] = numbers.to_be_bytes();
        out.push(0x80 | block.payload_type);
        out.extend_from_slice(&numbers);
    }
    out.push(payload_type & 0x7f);
    for block in blocks.take(MAX_BLOCKS) {
        out.extend_from_slice(block.data);
    }
    out.extend_from_slice(primary);
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn block(offset: u32, data: &[u8]) -> Block<'_> {
        Block { payload_type: 111, offset, data }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..2_000 {
            let count = random.random_range(0..5);
            let data: Vec<Vec<u8>> = (0..=count)
                .map(|_| (0..random.random_range(0..MAX_LENGTH)).map(|_| random.random()).collect())
                .collect();
            let offsets: Vec<u32> = (0..count).map(|_| random.random_range(1..MAX_OFFSET)).collect();
            let blocks: Vec<_> =
                offsets.iter().zip(&data).map(|(offset, data)| block(*offset, data)).collect();
            let mut payload = Vec::new();
            write(&mut payload, 111, blocks.iter().copied(), &data[count]);
            let read = RedPayload::parse(&payload).unwrap();
            assert_eq!((read.payload_type, read.primary(), read.len()), (111, &data[count][..], count));
            assert_eq!(read.blocks().collect::<Vec<_>>(), blocks);
        }
    }

    #[test]
    fn it_is_written_as_the_rfc_says() {
        let mut payload = Vec::new();
        write(&mut payload, 111, [block(960, &[1, 2]), block(480, &[3])].into_iter(), &[4, 5]);
        let headers = [0x80 | 111, 15, 0, 2, 0x80 | 111, 7, 0x80, 1, 111];
        assert_eq!(payload, [&headers[..], &[1, 2, 3, 4, 5]].concat());
    }

    #[test]
    fn what_has_no_room_in_a_header_is_left_out() {
        let long = [0; MAX_LENGTH];
        let blocks =
            [block(MAX_OFFSET, &[1]), block(0, &[2]), block(960, &long), block(MAX_OFFSET - 1, &[3])];
        let mut payload = Vec::new();
        write(&mut payload, 111, blocks.into_iter(), &[4]);
        let read = RedPayload::parse(&payload).unwrap();
        assert_eq!(read.blocks().collect::<Vec<_>>(), [block(MAX_OFFSET - 1, &[3])]);
        assert_eq!(read.primary(), [4]);
    }

    #[test]
    fn malformed_payloads_are_refused() {
        let table: [(&[u8], RedError); 5] = [
            (&[], RedError::TooShort),
            (&[0x80 | 111, 0, 4], RedError::TooShort),
            (&[0x80 | 111, 0, 4, 1], RedError::TooShort),
            (&[0x80 | 111, 0, 4, 2, 111, 9], RedError::TooShort),
            (&[0x80 | 111; 200], RedError::TooManyBlocks),
        ];
        for (payload, error) in table {
            assert_eq!(RedPayload::parse(payload), Err(error), "{payload:?}");
        }
        assert_eq!(RedPayload::parse(&[111]).unwrap().primary(), [0u8; 0]);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = StdRng::seed_from_u64(8);
        for _ in 0..100_000 {
            let payload: Vec<u8> = (0..random.random_range(0..40)).map(|_| random.random()).collect();
            if let Ok(read) = RedPayload::parse(&payload) {
                let sizes: usize = read.blocks().map(|block| block.data.len()).sum();
                assert_eq!(sizes + read.primary().len() + 4 * read.len() + 1, payload.len());
            }
        }
    }
}
