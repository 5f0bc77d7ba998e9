//! Repair packets as browsers make and take them: FlexFEC of draft-ietf-payload-flexible-fec-scheme-03 with flexible masks, for one source.
//! Each is the exclusive or of some packets, so that one of them that is lost is what is left of it and the others.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |R|F|P|X|  CC   |M| PT recovery |        length recovery        |
//! |                          TS recovery                          |
//! |  SSRC count   |                    reserved                   |
//! |                             SSRC                              |
//! |            SN base            |k|          mask 0-14          |
//! |k|                   mask 15-45, if k was 0                    |
//! |k|                   mask 46-108, if k was 0                   |
//! ```
//!
//! Header extensions that change on the way out of a sender, as transport-wide numbers do, count as zeros.

use std::ops::Range;

use crate::rtp::FIXED_HEADER;

/// Where the mask begins.
const MASK: usize = 18;
/// Bits of the mask by how many of its parts there are, and bytes of the header with them.
const PARTS: [(u32, usize); 3] = [(15, MASK + 2), (46, MASK + 6), (109, MASK + 14)];
/// How far from the first the last packet of one repair packet may be, exclusive, where this node makes it.
pub const SPAN: u16 = 15;
/// Largest packet that anything is made of, in bytes.
const MAX_PACKET: usize = 1_500;

/// Why a payload is no repair packet that can be used, or a packet none that can be protected.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum FecError {
    /// Shorter than its header, or longer than any packet.
    #[error("repair packet of a wrong size")]
    BadSize,
    /// A retransmission, of a fixed mask, or of more sources than one.
    #[error("repair packet of a kind that is not used")]
    Unsupported,
    /// What is left is no packet.
    #[error("repair packet that fits no packet")]
    NoPacket,
}

/// A repair packet that is being made.
#[derive(Debug, Default)]
pub struct Parity {
    head: [u8; 8],
    body: Vec<u8>,
    ssrc: [u8; 4],
    first: u16,
    mask: u16,
    count: usize,
}

impl Parity {
    /// How many packets are in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds a packet. Returns whether that could be done: it is of another source than those before it, not within [`SPAN`] after the
    /// first, there already, or no packet.
    pub fn add(&mut self, packet: &[u8]) -> bool {
        let Some((header, body)) = packet.split_first_chunk::<FIXED_HEADER>() else { return false };
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let ssrc = [header[8], header[9], header[10], header[11]];
        if self.count == 0 {
            (self.first, self.ssrc) = (sequence, ssrc);
        }
        let place = sequence.wrapping_sub(self.first);
        let bit = 1u16.checked_shl(u32::from(SPAN - 1).wrapping_sub(place.into())).unwrap_or(0);
        if self.ssrc != ssrc || place >= SPAN || self.mask & bit != 0 || packet.len() > MAX_PACKET {
            return false;
        }
        self.mask |= bit;
        self.count += 1;
        xor_head(&mut self.head, packet, header);
        if self.body.len() < body.len() {
            self.body.resize(body.len(), 0);
        }
        xor(&mut self.body, body);
        true
    }

    /// Whether a packet comes after all that there is room for.
    #[must_use]
    pub fn is_behind(&self, packet: &[u8]) -> bool {
        let sequence = packet.get(2..4).map_or(0, |at| u16::from_be_bytes([at[0], at[1]]));
        (SPAN..0x8000).contains(&sequence.wrapping_sub(self.first))
    }

    /// Appends the payload of the repair packet.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.head[0] & 0x3f);
        out.extend_from_slice(&self.head[1..]);
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&self.ssrc);
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&(0x8000 | self.mask).to_be_bytes());
        out.extend_from_slice(&self.body);
    }

    /// Begins a new one.
    pub fn clear(&mut self) {
        (self.head, self.mask, self.count) = ([0; 8], 0, 0);
        self.body.clear();
    }
}

/// What a repair packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repair {
    /// Source of the packets that it protects.
    pub ssrc: u32,
    /// The number from which the places count.
    pub first: u16,
    /// A bit for each packet, the first lowest.
    mask: u128,
    /// Where the rest of the packets begins.
    body: usize,
}

impl Repair {
    /// Reads the payload of a repair packet.
    ///
    /// # Errors
    /// If it can't be used.
    pub fn parse(payload: &[u8]) -> Result<Self, FecError> {
        if payload.len() < PARTS[0].1 || payload.len() > MAX_PACKET {
            return Err(FecError::BadSize);
        }
        if payload[0] & 0xc0 != 0 || payload[8] != 1 {
            return Err(FecError::Unsupported);
        }
        let part = |at: usize, length: usize| {
            let bytes = payload.get(at..at + length).ok_or(FecError::BadSize)?;
            let bits = bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            let width = 8 * length as u32 - 1;
            // The first packet is the highest bit of a part.
            let mask = (bits << (64 - width)).reverse_bits();
            Ok((bits >> width & 1 == 1, u128::from(mask)))
        };
        let (mut last, mut mask) = part(MASK, 2)?;
        let mut parts = 0;
        for (at, length) in [(MASK + 2, 4), (MASK + 6, 8)] {
            if last {
                break;
            }
            let (ends, more) = part(at, length)?;
            mask |= more << PARTS[parts].0;
            (last, parts) = (ends, parts + 1);
        }
        let word = |at: usize| [payload[at], payload[at + 1], payload[at + 2], payload[at + 3]];
        let first = u16::from_be_bytes([payload[16], payload[17]]);
        Ok(Self { ssrc: u32::from_be_bytes(word(12)), first, mask, body: PARTS[parts].1 })
    }

    /// How far after the first the packets are that it protects, ascending.
    pub fn places(&self) -> impl Iterator<Item = u64> + use<> {
        let mut rest = self.mask;
        std::iter::from_fn(move || {
            let place = (rest != 0).then(|| rest.trailing_zeros())?;
            rest &= rest - 1;
            Some(place.into())
        })
    }

    /// Begins to make the missing packet of the payload, in the place of what is in `out`.
    pub fn begin(&self, payload: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(payload.get(..8).unwrap_or_default());
        out.resize(FIXED_HEADER, 0);
        out.extend_from_slice(payload.get(self.body..).unwrap_or_default());
    }

    /// Takes one of the others away, in which `zeros` count as such.
    pub fn take(out: &mut [u8], packet: &[u8], zeros: Option<Range<usize>>) {
        let Some((header, body)) = packet.split_first_chunk::<FIXED_HEADER>() else { return };
        let Some((head, rest)) = out.split_first_chunk_mut::<8>() else { return };
        xor_head(head, packet, header);
        let Some(rest) = rest.get_mut(FIXED_HEADER - 8..) else { return };
        xor(rest, body);
        let zeros = zeros.filter(|zeros| zeros.start >= FIXED_HEADER);
        if let Some(zeros) = zeros
            && let Some(again) = packet.get(zeros.clone())
            && let Some(rest) = rest.get_mut(zeros.start - FIXED_HEADER..)
        {
            xor(rest, again);
        }
    }

    /// Ends it: what is in `out` is the packet with that number.
    ///
    /// # Errors
    /// If it can't be one.
    pub fn finish(&self, out: &mut Vec<u8>, sequence: u16) -> Result<(), FecError> {
        let length = out.get(2..4).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
        let length = length.ok_or(FecError::NoPacket)? + FIXED_HEADER;
        if length > out.len() {
            return Err(FecError::NoPacket);
        }
        out.truncate(length);
        out[0] = out[0] & 0x3f | 0x80;
        out[2..4].copy_from_slice(&sequence.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        Ok(())
    }
}

/// The first eight bytes: flags and types, length after the fixed header, timestamp.
fn xor_head(head: &mut [u8; 8], packet: &[u8], header: &[u8; FIXED_HEADER]) {
    let length = (packet.len() - FIXED_HEADER) as u16;
    let [high, low] = length.to_be_bytes();
    let of = [header[0], header[1], high, low, header[4], header[5], header[6], header[7]];
    xor(head, &of);
}

fn xor(into: &mut [u8], from: &[u8]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into ^= from;
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::rtp::{RtpHeader, write_header};

    fn packet(random: &mut StdRng, sequence: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        let (marker, timestamp) = (random.random(), random.random());
        write_header(&mut packet, marker, random.random_range(0..128), sequence, timestamp, 7);
        packet.extend((0..random.random_range(0..1_300)).map(|_| random.random::<u8>()));
        packet
    }

    fn recovered(payload: &[u8], others: &[&Vec<u8>], sequence: u16) -> Result<Vec<u8>, FecError> {
        let repair = Repair::parse(payload)?;
        let mut out = Vec::new();
        repair.begin(payload, &mut out);
        for other in others {
            Repair::take(&mut out, other, None);
        }
        repair.finish(&mut out, sequence)?;
        Ok(out)
    }

    #[test]
    fn any_one_that_is_lost_is_made_of_the_others() {
        let mut random = StdRng::seed_from_u64(1);
        let mut parity = Parity::default();
        for _ in 0..500 {
            let first: u16 = random.random();
            parity.clear();
            let mut packets = Vec::new();
            for place in 0..SPAN {
                let packet = packet(&mut random, first.wrapping_add(place));
                if place == 0 || random.random_bool(0.6) {
                    assert!(parity.add(&packet));
                    packets.push((place, packet));
                }
            }
            assert_eq!(parity.count(), packets.len());
            let mut payload = Vec::new();
            parity.write(&mut payload);
            let repair = Repair::parse(&payload).unwrap();
            assert_eq!((repair.ssrc, repair.first), (7, first));
            let places: Vec<_> = packets.iter().map(|(place, _)| u64::from(*place)).collect();
            assert_eq!(repair.places().collect::<Vec<_>>(), places);
            let lost = random.random_range(0..packets.len());
            let (place, packet) = packets.remove(lost);
            let others: Vec<_> = packets.iter().map(|(_, packet)| packet).collect();
            assert_eq!(recovered(&payload, &others, first.wrapping_add(place)), Ok(packet));
        }
    }

    #[test]
    fn what_changes_on_the_way_counts_as_zeros() {
        let mut random = StdRng::seed_from_u64(2);
        let packets = [packet(&mut random, 1), packet(&mut random, 2)].map(|mut packet| {
            packet.resize(200, 1);
            packet[20..22].fill(0);
            packet
        });
        let mut parity = Parity::default();
        assert!(packets.iter().all(|packet| parity.add(packet)));
        let mut payload = Vec::new();
        parity.write(&mut payload);
        let mut sent = packets[0].clone();
        sent[20..22].copy_from_slice(&[0xab, 0xcd]);
        let repair = Repair::parse(&payload).unwrap();
        let mut out = Vec::new();
        repair.begin(&payload, &mut out);
        Repair::take(&mut out, &sent, Some(20..22));
        assert_eq!(repair.finish(&mut out, 2), Ok(()));
        assert_eq!(out, packets[1]);
    }

    #[test]
    fn what_does_not_belong_together_is_not_put_together() {
        let mut random = StdRng::seed_from_u64(3);
        let mut parity = Parity::default();
        assert!(parity.add(&packet(&mut random, 65_530)));
        let mut other = packet(&mut random, 65_531);
        other[11] = 8;
        let table = [
            ("the same", packet(&mut random, 65_530)),
            ("one before it", packet(&mut random, 65_529)),
            ("too far after it", packet(&mut random, 9)),
            ("another source's", other),
            ("no packet", vec![0x80; 11]),
        ];
        for (why, packet) in table {
            assert!(!parity.add(&packet), "{why}");
        }
        assert!(parity.add(&packet(&mut random, 8)), "over the wrap");
        assert_eq!(parity.count(), 2);
    }

    /// As another implementation would write it: the mask in all its lengths.
    #[test]
    fn masks_of_all_lengths_are_read() {
        let header = |mask: &[u8]| [&[0; 8][..], &[1, 0, 0, 0, 0, 0, 0, 7, 0, 100], mask, &[0; 40]].concat();
        let table: [(&[u8], &[u64], usize); 4] = [
            (&[0xc0, 0x01], &[0, 14], 20),
            (&[0x40, 0x00, 0xc0, 0, 0, 0x01], &[0, 15, 45], 24),
            (&[0, 0, 0x40, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x01], &[15, 46, 108], 32),
            (&[0, 0x01, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0, 0], &[14, 45], 32),
        ];
        for (mask, places, body) in table {
            let repair = Repair::parse(&header(mask)).unwrap();
            assert_eq!(repair.places().collect::<Vec<_>>(), places, "{mask:x?}");
            assert_eq!((repair.first, repair.body), (100, body));
        }
    }

    #[test]
    fn what_can_not_be_used_is_refused() {
        let mut good = [0; 40];
        (good[8], good[18]) = (1, 0xc0);
        assert!(Repair::parse(&good).is_ok());
        let change = |at: usize, to: u8| {
            let mut bad = good;
            bad[at] = to;
            Repair::parse(&bad).unwrap_err()
        };
        assert_eq!(Repair::parse(&good[..19]), Err(FecError::BadSize));
        assert_eq!(Repair::parse(&[0; 1_501]), Err(FecError::BadSize));
        assert_eq!(change(0, 0x80), FecError::Unsupported);
        assert_eq!(change(0, 0x40), FecError::Unsupported);
        assert_eq!(change(8, 2), FecError::Unsupported);
        good[18] = 0;
        assert_eq!(Repair::parse(&good[..22]), Err(FecError::BadSize));
        good[2] = 0xff;
        assert_eq!(recovered(&good, &[], 0), Err(FecError::NoPacket));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = StdRng::seed_from_u64(4);
        for _ in 0..50_000 {
            let mut payload: Vec<u8> = (0..random.random_range(0..80)).map(|_| random.random()).collect();
            if payload.len() > 8 && random.random_bool(0.9) {
                (payload[0], payload[8]) = (payload[0] & 0x3f, 1);
            }
            let others: Vec<Vec<u8>> = (0..random.random_range(0..3))
                .map(|_| (0..random.random_range(0..100)).map(|_| random.random()).collect())
                .collect();
            if let Ok(packet) = recovered(&payload, &others.iter().collect::<Vec<_>>(), 1) {
                let _ = RtpHeader::parse(&packet);
            }
        }
    }
}
