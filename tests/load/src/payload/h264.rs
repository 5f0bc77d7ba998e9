//! H.264 in packets (RFC 6184, packetization mode 1): parameter sets together in a STAP-A, large units in FU-As.

use super::{MAX_CHUNK, about_equal};
use crate::recording::units;

/// Packet types (RFC 6184 §5.2).
const STAP_A: u8 = 24;
/// See [`STAP_A`].
const FU_A: u8 = 28;
/// Bytes before a fragment.
const FU_HEADERS: usize = 2;

/// The payloads of an access unit with start codes.
pub(crate) fn packets(unit: &[u8]) -> Vec<Box<[u8]>> {
    let mut packets = Vec::new();
    let mut together: Vec<&[u8]> = Vec::new();
    let size = |units: &[&[u8]]| 1 + units.iter().map(|unit| 2 + unit.len()).sum::<usize>();
    for unit in units(unit) {
        if size(&together) + 2 + unit.len() > MAX_CHUNK {
            packets.extend(aggregate(&together));
            together.clear();
        }
        if unit.len() > MAX_CHUNK {
            packets.extend(fragments(unit));
        } else {
            together.push(unit);
        }
    }
    packets.extend(aggregate(&together));
    packets
}

/// One packet of several units; a single one is its own.
fn aggregate(units: &[&[u8]]) -> Option<Box<[u8]>> {
    match units {
        [] => None,
        [unit] => Some((*unit).into()),
        units => {
            let importance = units.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
            let mut packet = vec![importance | STAP_A];
            for unit in units {
                packet.extend_from_slice(&u16::try_from(unit.len()).unwrap_or(u16::MAX).to_be_bytes());
                packet.extend_from_slice(unit);
            }
            Some(packet.into())
        }
    }
}

fn fragments(unit: &[u8]) -> Vec<Box<[u8]>> {
    let (header, rest) = (unit[0], &unit[1..]);
    let piece = |(from, to): (usize, usize)| {
        let start = u8::from(from == 0) << 7;
        let end = u8::from(to == rest.len()) << 6;
        [&[header & 0xe0 | FU_A, start | end | header & 0x1f], &rest[from..to]].concat().into()
    };
    about_equal(rest.len(), MAX_CHUNK - FU_HEADERS).map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_go_together_and_large_units_in_fragments() {
        let mut slice = vec![0x65];
        slice.extend((0..3000).map(|at| (at % 255) as u8 | 1));
        let unit = [&[0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 1][..], &slice].concat();
        let packets = packets(&unit);
        assert_eq!(*packets[0], [0x60 | STAP_A, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3]);
        assert_eq!(packets.len(), 4);
        let heads: Vec<_> = packets[1..].iter().map(|packet| (packet[0], packet[1])).collect();
        assert_eq!(heads, [(0x7c, 0x85), (0x7c, 0x05), (0x7c, 0x45)]);
        let joined: Vec<u8> = packets[1..].iter().flat_map(|packet| packet[2..].to_vec()).collect();
        assert_eq!(joined, slice[1..]);
        assert!(packets.iter().all(|packet| packet.len() <= MAX_CHUNK));
    }

    #[test]
    fn a_small_unit_is_its_own_packet() {
        assert_eq!(packets(&[0, 0, 1, 0x41, 9, 8]), [Box::from([0x41, 9, 8])]);
    }
}
