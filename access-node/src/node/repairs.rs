//! On a way that loses much, requests for lost packets get lost, too. What transport-wide feedback tells of losses comes by other
//! packets: what either names is sent again, without another round trip.

use crate::ids::Ssrc;

/// Packets that are remembered: a second of 5 Mbit/s, in 4 kB, and only where many are lost.
const REMEMBERED: usize = 512;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    ssrc: u32,
    number: u16,
    sequence: u16,
}

/// What went out under which transport-wide number.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// Empty where not much is lost.
    sent: Vec<Entry>,
}

impl Repairs {
    /// Whether much is lost.
    pub(super) fn set_needed(&mut self, needed: bool) {
        match (needed, self.sent.is_empty()) {
            (true, true) => self.sent = vec![Entry::default(); REMEMBERED],
            (false, false) => self.sent = Vec::new(),
            (true, false) | (false, true) => {}
        }
    }

    /// A plain packet goes out under that number.
    pub(super) fn sent(&mut self, number: u16, packet: &[u8]) {
        if self.sent.is_empty() {
            return;
        }
        let [_, _, s0, s1, _, _, _, _, c0, c1, c2, c3, ..] = packet else { return };
        let ssrc = u32::from_be_bytes([*c0, *c1, *c2, *c3]);
        self.sent[usize::from(number) % REMEMBERED] =
            Entry { ssrc, number, sequence: u16::from_be_bytes([*s0, *s1]) };
    }

    /// Source and sequence number of the packet that had this number.
    pub(super) fn find(&self, number: u16) -> Option<(Ssrc, u16)> {
        let entry = self.sent.get(usize::from(number) % REMEMBERED)?;
        (entry.number == number && entry.ssrc != 0).then_some((Ssrc(entry.ssrc), entry.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_by_their_numbers_where_much_is_lost() {
        let mut repairs = Repairs::default();
        let packet = |sequence: u16| {
            let mut plain = Vec::new();
            kaigi_media::rtp::write_header(&mut plain, true, 96, sequence, 1, 77);
            plain
        };
        repairs.sent(5, &packet(100));
        assert_eq!(repairs.find(5), None);
        repairs.set_needed(true);
        assert_eq!(repairs.find(0), None);
        for number in 0..600u16 {
            repairs.sent(number, &packet(100 + number));
        }
        repairs.set_needed(true);
        assert_eq!((repairs.find(599), repairs.find(5)), (Some((Ssrc(77), 699)), None));
        repairs.sent(600, &[1; 5]);
        assert_eq!(repairs.find(600), None);
        repairs.set_needed(false);
        assert_eq!(repairs.find(599), None);
    }
}
