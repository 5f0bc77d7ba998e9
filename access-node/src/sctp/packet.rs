//! SCTP packets as they are on the wire (RFC 9260 §3), as far as has to be known of them.

use bytes::{Bytes, BytesMut};

/// Source port, destination port, verification tag and checksum.
const COMMON_HEADER: usize = 12;
/// Chunks that a packet may have. One of 1,200 bytes has 75 at most.
const MAX_CHUNKS: usize = 128;

pub(super) const DATA: u8 = 0;
pub(super) const INIT: u8 = 1;
pub(super) const INIT_ACK: u8 = 2;
pub(super) const SACK: u8 = 3;
pub(super) const RECONFIG: u8 = 130;
pub(super) const FORWARD_TSN: u8 = 192;

/// Bits of a DATA chunk's flags (RFC 9260 §3.3.1).
const END: u8 = 1;
const BEGIN: u8 = 2;
const UNORDERED: u8 = 4;

/// The parameter of an INIT that lists the chunk types of extensions (RFC 5061 §4.2.7).
const SUPPORTED_EXTENSIONS: u16 = 0x8008;

/// Parameters of a RE-CONFIG chunk (RFC 6525 §4).
const RESET_REQUEST: u16 = 13;
const RESET_RESPONSE: u16 = 16;
/// RFC 6525 §4.4.
const IN_PROGRESS: u32 = 6;

/// The packet's chunks can't be told apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'p> {
    pub(super) kind: u8,
    flags: u8,
    /// Where it begins in the packet.
    at: usize,
    value: &'p [u8],
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

/// The chunks of a packet.
pub(super) fn chunks(packet: &[u8]) -> Result<Vec<Chunk<'_>>, Malformed> {
    let mut chunks = Vec::new();
    let mut at = COMMON_HEADER;
    while at < packet.len() {
        let length = usize::from(half(packet, at + 2).ok_or(Malformed)?);
        let value = packet.get(at + 4..at + length).ok_or(Malformed)?;
        if chunks.len() >= MAX_CHUNKS {
            return Err(Malformed);
        }
        chunks.push(Chunk { kind: packet[at], flags: packet[at + 1], at, value });
        at += length.next_multiple_of(4);
    }
    if chunks.is_empty() { Err(Malformed) } else { Ok(chunks) }
}

/// The verification tag of a packet.
pub(super) fn tag(packet: &[u8]) -> Option<u32> {
    word(packet, 4)
}

/// What an INIT or INIT ACK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Init {
    /// The verification tag of packets to its sender.
    pub(super) tag: u32,
    pub(super) first_tsn: u32,
    /// Whether its sender knows FORWARD-TSN (RFC 3758).
    pub(super) can_forward: bool,
}

/// A DATA chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    pub(super) tsn: u32,
    pub(super) stream: u16,
    pub(super) begin: bool,
    pub(super) end: bool,
    pub(super) length: usize,
}

impl Chunk<'_> {
    pub(super) fn data(&self) -> Option<Data> {
        let length = self.value.len().checked_sub(12).filter(|length| *length > 0)?;
        Some(Data {
            tsn: word(self.value, 0)?,
            stream: half(self.value, 4)?,
            begin: self.flags & BEGIN != 0,
            end: self.flags & END != 0,
            length,
        })
    }

    pub(super) fn init(&self) -> Option<Init> {
        let (tag, first_tsn) = (word(self.value, 0)?, word(self.value, 12)?);
        let mut extensions =
            parameters(self.value.get(16..)?).filter(|(kind, _)| *kind == SUPPORTED_EXTENSIONS);
        let can_forward = extensions.any(|(_, types)| types.contains(&FORWARD_TSN));
        Some(Init { tag, first_tsn, can_forward })
    }

    /// The cumulative TSN of a SACK or FORWARD-TSN.
    pub(super) fn cumulative(&self) -> Option<u32> {
        word(self.value, 0)
    }

    /// The window that a SACK announces.
    pub(super) fn window(&self) -> Option<u32> {
        word(self.value, 4)
    }

    /// Whether a SACK's gap blocks rise and are apart, as every SCTP writes them: then they name each TSN once.
    pub(super) fn has_tidy_gaps(&self) -> bool {
        let Some(count) = half(self.value, 8) else { return false };
        let mut last = 0;
        (0..usize::from(count)).all(|index| {
            let at = 12 + 4 * index;
            let (Some(start), Some(end)) = (half(self.value, at), half(self.value, at + 2)) else {
                return false;
            };
            let tidy = start > last && end >= start;
            last = end;
            tidy
        })
    }

    /// The numbers of a RE-CONFIG's requests to reset streams.
    pub(super) fn reset_requests(&self) -> impl Iterator<Item = u32> {
        parameters(self.value)
            .filter(|(kind, _)| *kind == RESET_REQUEST)
            .filter_map(|(_, value)| word(value, 0))
    }

    /// The numbers of the requests that a RE-CONFIG answers for good.
    pub(super) fn reset_answers(&self) -> impl Iterator<Item = u32> {
        parameters(self.value).filter(|(kind, _)| *kind == RESET_RESPONSE).filter_map(|(_, value)| {
            word(value, 4).filter(|result| *result != IN_PROGRESS).and_then(|_| word(value, 0))
        })
    }
}

/// The parameters of a chunk: type and value.
fn parameters(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, length) = (half(rest, 0)?, usize::from(half(rest, 2)?));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The packet with the data of some streams made stale: as if each were of a message that was received long ago, `last` being the
/// number of the last one that was. It is acknowledged then, and thrown away.
pub(super) fn with_stale(packet: &Bytes, last: impl Fn(u16) -> Option<u16>) -> Bytes {
    let Ok(chunks) = chunks(packet) else { return packet.clone() };
    let stale: Vec<_> = chunks
        .iter()
        .filter(|chunk| chunk.kind == DATA)
        .filter_map(|chunk| Some((chunk.at, last(chunk.data()?.stream)?)))
        .collect();
    if stale.is_empty() {
        return packet.clone();
    }
    let mut copy = BytesMut::from(&packet[..]);
    for (at, last) in stale {
        copy[at + 1] &= !UNORDERED;
        copy[at + 10..at + 12].copy_from_slice(&last.to_be_bytes());
    }
    seal(&mut copy);
    copy.freeze()
}

/// Writes the checksum (RFC 9260 §6.8).
fn seal(packet: &mut [u8]) {
    packet[8..12].fill(0);
    let sum = crc32c::crc32c(packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
}

/// Whether `a` comes before `b` (RFC 1982).
pub(super) fn before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn packet(chunks: &[(u8, u8, &[u8])]) -> Bytes {
        sealed(1, chunks)
    }

    /// A packet of chunks: type, flags and value.
    pub(in crate::sctp) fn sealed(tag: u32, chunks: &[(u8, u8, &[u8])]) -> Bytes {
        let mut bytes = vec![0x13, 0x88, 0x13, 0x88];
        bytes.extend_from_slice(&tag.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for (kind, flags, value) in chunks {
            let [high, low] = (value.len() as u16 + 4).to_be_bytes();
            bytes.extend_from_slice(&[*kind, *flags, high, low]);
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        seal(&mut bytes);
        bytes.into()
    }

    #[test]
    fn chunks_are_told_apart_however_they_are_cut() {
        let whole = packet(&[
            (DATA, 3, &[0, 0, 0, 9, 0, 7, 0, 1, 0, 0, 0, 51, b'h', b'i']),
            (SACK, 0, &[0, 0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3]),
        ]);
        let parsed = chunks(&whole).unwrap();
        let data = parsed[0].data().unwrap();
        assert_eq!((data.tsn, data.stream, data.begin, data.end, data.length), (9, 7, true, true, 2));
        assert_eq!((parsed[1].cumulative(), parsed[1].window()), (Some(5), Some(65_536)));
        assert!(parsed[1].has_tidy_gaps());
        for length in 0..whole.len() {
            let _ = chunks(&whole[..length]).map(|chunks| chunks.len());
        }
        assert_eq!(chunks(&whole[..12]).unwrap_err(), Malformed);
    }

    #[test]
    fn gaps_that_name_a_number_twice_are_untidy() {
        let sack = |gaps: &[u8]| {
            let value = [&[0, 0, 0, 5, 0, 1, 0, 0, 0, (gaps.len() / 4) as u8, 0, 0], gaps].concat();
            let packet = packet(&[(SACK, 0, &value)]);
            chunks(&packet).unwrap()[0].has_tidy_gaps()
        };
        assert!(sack(&[]) && sack(&[0, 2, 0, 2, 0, 4, 0, 9]));
        assert!(!sack(&[0, 2, 0, 9, 0, 3, 0, 9]) && !sack(&[0, 9, 0, 2]) && !sack(&[0, 0, 0, 2]));
    }

    #[test]
    fn stale_data_keeps_its_number_and_gets_a_checksum() {
        let whole = packet(&[
            (DATA, 7, &[0, 0, 0, 9, 0, 7, 0, 0, 0, 0, 0, 51, b'h', b'i']),
            (DATA, 3, &[0, 0, 0, 10, 0, 8, 0, 5, 0, 0, 0, 51, b'h', b'i']),
        ]);
        let stale = with_stale(&whole, |stream| (stream == 7).then_some(3));
        assert_ne!(stale, whole);
        assert_eq!(stale[12..20], [0, 3, 0, 18, 0, 0, 0, 9]);
        assert_eq!(stale[20..24], [0, 7, 0, 3]);
        assert_eq!(stale[32..], whole[32..]);
        let mut again = stale.to_vec();
        seal(&mut again);
        assert_eq!(again, stale);
    }
}
