//! RTP packets out of VP8 frames (RFC 7741).

use std::time::Duration;

use kaigi_media::rtp::write_header;

use super::Continuity;

/// Bytes of an RTP packet on the link, before protection. Leaves room for SRTP, UDP and a tunnel in 1,500.
const MTU: usize = 1200;
/// Bytes of the RTP header.
const HEADER: usize = 12;
/// Bytes of the payload descriptor.
const DESCRIPTOR: usize = 4;
/// Hz of RTP timestamps.
pub(super) const CLOCK_RATE: u32 = 90_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Packetizer {
    payload_type: u8,
    from: Continuity,
    /// Fifteen bits.
    picture: u16,
    packet: Vec<u8>,
}

impl Packetizer {
    /// `picture` is the first picture's id, of fifteen bits.
    pub(super) fn new(payload_type: u8, from: Continuity, picture: u16) -> Self {
        Self { payload_type, from, picture: picture & 0x7fff, packet: Vec::with_capacity(MTU) }
    }

    /// Cuts a frame into packets that differ by a byte at most.
    pub(super) fn cut(&mut self, frame: &[u8], at: Duration, mut out: impl FnMut(&[u8])) {
        let count = frame.len().div_ceil(MTU - HEADER - DESCRIPTOR).max(1);
        let (each, longer) = (frame.len() / count, frame.len() % count);
        let timestamp = self.from.timestamp_offset.wrapping_add(ticks(at) as u32);
        let id = (0x8000 | self.picture).to_be_bytes();
        let mut rest = frame;
        for part in 0..count {
            let (body, after) = rest.split_at(each + usize::from(part >= count - longer));
            rest = after;
            self.packet.clear();
            let ends = part + 1 == count;
            write_header(&mut self.packet, ends, self.payload_type, self.from.sequence, timestamp, 0);
            // X, S; I (§4.2)
            self.packet.extend([0x80 | u8::from(part == 0) << 4, 0x80, id[0], id[1]]);
            self.packet.extend_from_slice(body);
            self.from.sequence = self.from.sequence.wrapping_add(1);
            out(&self.packet);
        }
        self.picture = (self.picture + 1) & 0x7fff;
    }
}

/// Of RTP's clock.
pub(super) fn ticks(at: Duration) -> u64 {
    at.as_secs() * u64::from(CLOCK_RATE)
        + u64::from(at.subsec_nanos()) * u64::from(CLOCK_RATE) / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use kaigi_media::rtp::RtpHeader;

    use super::*;

    const FROM: Continuity = Continuity { sequence: 65_535, timestamp_offset: u32::MAX };

    fn cut(packetizer: &mut Packetizer, frame: &[u8]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        packetizer.cut(frame, Duration::from_millis(100), |packet| packets.push(packet.to_vec()));
        packets
    }
    fn bodies(packets: &[Vec<u8>]) -> Vec<u8> {
        packets.iter().flat_map(|packet| packet[HEADER + DESCRIPTOR..].to_vec()).collect()
    }

    #[test]
    fn frames_become_packets_of_nearly_the_same_size() {
        let frame: Vec<u8> = (0..5003u32).map(|i| i as u8).collect();
        let mut packetizer = Packetizer::new(96, FROM, 0x7fff);
        let packets = cut(&mut packetizer, &frame);
        let sizes: Vec<usize> = packets.iter().map(Vec::len).collect();
        assert!(sizes.iter().all(|size| *size <= MTU), "{sizes:?}");
        assert!(sizes.windows(2).all(|pair| pair[0] <= pair[1]) && sizes[sizes.len() - 1] - sizes[0] <= 1);
        let headers: Vec<_> = packets.iter().map(|packet| RtpHeader::parse(packet).unwrap()).collect();
        let numbers: Vec<u16> = headers.iter().map(|header| header.sequence).collect();
        assert_eq!(numbers, [65_535, 0, 1, 2, 3]);
        assert!(headers.iter().all(|header| (header.timestamp, header.payload_type) == (8999, 96)));
        let marked: Vec<bool> = headers.iter().map(|header| header.marker).collect();
        assert_eq!(marked, [false, false, false, false, true]);
        assert_eq!(bodies(&packets), frame);
        assert_eq!(packets[0][HEADER..HEADER + 4], [0x90, 0x80, 0xff, 0xff]);
        assert_eq!(packets[1][HEADER..HEADER + 4], [0x80, 0x80, 0xff, 0xff]);
        assert_eq!(cut(&mut packetizer, &[1])[0][HEADER..], [0x90, 0x80, 0x80, 0x00, 1]);
    }
}
