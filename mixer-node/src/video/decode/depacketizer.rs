//! VP8 frames out of RTP packets that are in order (RFC 7741).

use kaigi_media::rtp::RtpHeader;

/// Largest frame, bytes.
const MAX_FRAME: usize = 4 << 20;
/// Frames that can't be decoded, after which another key frame is asked for.
const PATIENCE: u32 = 15;

/// What comes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A whole frame, which refers to nothing that was lost.
    Frame(Vec<u8>),
    /// Nothing can be decoded until a key frame comes.
    KeyFrameWanted,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Depacketizer {
    /// Of the next packet; none before the first.
    next: Option<u16>,
    /// The frame that is not complete, if none of it is missing.
    frame: Option<Vec<u8>>,
    /// How many frames were left out since the last was decodable; none while they are.
    skipped: Option<u32>,
}

impl Default for Depacketizer {
    fn default() -> Self {
        Self { next: None, frame: None, skipped: Some(0) }
    }
}

impl Depacketizer {
    /// Takes the next packet. What is malformed is ignored; what is missing is seen by the sequence numbers.
    pub(super) fn take(&mut self, packet: &[u8], mut out: impl FnMut(Outcome)) {
        let Ok(header) = RtpHeader::parse(packet) else { return };
        if self.next.replace(header.sequence.wrapping_add(1)) != Some(header.sequence) {
            self.lose(&mut out);
        }
        let Some((begins, body)) = descriptor(header.payload(packet)) else { return };
        if begins {
            // One whose last packet has no marker.
            if let Some(frame) = self.frame.take() {
                out(Outcome::Frame(frame));
            }
            self.begin(is_key_frame(body), &mut out);
        }
        let Some(frame) = &mut self.frame else { return };
        if frame.len() + body.len() > MAX_FRAME {
            self.lose(out);
            return;
        }
        frame.extend_from_slice(body);
        if header.marker
            && let Some(frame) = self.frame.take()
        {
            out(Outcome::Frame(frame));
        }
    }

    /// Something is missing: only a key frame can be decoded.
    pub(super) fn lose(&mut self, mut out: impl FnMut(Outcome)) {
        (self.frame, self.skipped) = (None, Some(0));
        out(Outcome::KeyFrameWanted);
    }

    fn begin(&mut self, is_key_frame: bool, mut out: impl FnMut(Outcome)) {
        match &mut self.skipped {
            Some(skipped) if !is_key_frame => {
                *skipped += 1;
                if *skipped % PATIENCE == 0 {
                    out(Outcome::KeyFrameWanted);
                }
            }
            _ => (self.skipped, self.frame) = (None, Some(Vec::new())),
        }
    }
}

/// Whether the payload begins a frame, and what follows its descriptor (§4.2); `None` if nothing does.
fn descriptor(payload: &[u8]) -> Option<(bool, &[u8])> {
    let (first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let (extended, tail) = rest.split_first()?;
        rest = tail;
        if extended & 0x80 != 0 {
            // The picture id has one byte or two.
            rest = rest.get(1 + usize::from(rest.first()? >> 7)..)?;
        }
        rest = rest.get(usize::from(extended >> 6 & 1)..)?;
        rest = rest.get(usize::from(extended & 0x30 != 0)..)?;
    }
    // The beginning of the first partition.
    (!rest.is_empty()).then_some((first & 0x17 == 0x10, rest))
}

/// By the frame tag (RFC 6386 §9.1).
pub(super) fn is_key_frame(frame: &[u8]) -> bool {
    frame.first().is_some_and(|tag| tag & 1 == 0)
}

#[cfg(test)]
mod tests {
    use kaigi_media::rtp::write_header;

    use super::*;

    const KEY: u8 = 0x10;
    const DELTA: u8 = 0x11;

    fn packet(sequence: u16, marker: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        write_header(&mut packet, marker, 96, sequence, 0, 7);
        packet.extend_from_slice(payload);
        packet
    }
    fn outcomes(packets: &[Vec<u8>]) -> Vec<Outcome> {
        let (mut depacketizer, mut outcomes) = (Depacketizer::default(), vec![]);
        packets.iter().for_each(|packet| depacketizer.take(packet, |outcome| outcomes.push(outcome)));
        outcomes
    }

    #[test]
    fn frames_are_put_together_whatever_their_descriptors_have() {
        let descriptors: [&[u8]; 6] = [
            &[0x10],
            &[0x90, 0x80, 5],
            &[0x90, 0x80, 0x85, 5],
            &[0x90, 0xc0, 0x85, 5, 9],
            &[0x90, 0x20, 0x40],
            &[0x90, 0xf0, 0x85, 5, 9, 0x41],
        ];
        for descriptor in descriptors {
            let mut rest = descriptor.to_vec();
            rest[0] &= 0x80;
            let packets = [
                packet(65_535, false, &[descriptor, &[KEY, 1]].concat()),
                packet(0, true, &[&rest[..], &[2, 3]].concat()),
            ];
            let frame = Outcome::Frame(vec![KEY, 1, 2, 3]);
            assert_eq!(outcomes(&packets), [Outcome::KeyFrameWanted, frame], "{descriptor:?}");
        }
    }

    #[test]
    fn after_a_loss_nothing_comes_until_a_key_frame() {
        let packets = [
            packet(1, true, &[0x10, KEY]),
            packet(2, true, &[0x10, DELTA]),
            packet(3, false, &[0x10, DELTA]),
            packet(5, true, &[0x10, DELTA]),
            packet(6, true, &[0x10, DELTA]),
            packet(7, true, &[0x10, KEY, 7]),
        ];
        let frame = |bytes: &[u8]| Outcome::Frame(bytes.to_vec());
        let wanted = Outcome::KeyFrameWanted;
        assert_eq!(
            outcomes(&packets),
            [wanted.clone(), frame(&[KEY]), frame(&[DELTA]), wanted, frame(&[KEY, 7])]
        );
    }

    #[test]
    fn a_key_frame_that_stays_away_is_asked_for_again() {
        let packets: Vec<_> = (0..40).map(|number| packet(number, true, &[0x10, DELTA])).collect();
        assert_eq!(outcomes(&packets).len(), 3);
    }

    #[test]
    fn a_frame_without_a_marker_ends_where_the_next_begins() {
        let packets = [packet(1, false, &[0x10, KEY]), packet(2, true, &[0x10, DELTA])];
        assert_eq!(outcomes(&packets)[1..], [Outcome::Frame(vec![KEY]), Outcome::Frame(vec![DELTA])]);
    }

    #[test]
    fn frames_do_not_grow_without_end() {
        let part = [&[0x00][..], &[1; 60_000]].concat();
        let mut packets = vec![packet(0, false, &[0x10, KEY])];
        packets.extend((1..100).map(|number| packet(number, false, &part)));
        packets.push(packet(100, true, &part));
        assert_eq!(outcomes(&packets), [Outcome::KeyFrameWanted, Outcome::KeyFrameWanted]);
    }
}
