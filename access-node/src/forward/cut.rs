//! How a source's frames are cut into packets. Encoders cut a frame into packets of about one size, of which the later ones are a byte longer
//! where it can't be divided evenly. Packets leave together only if all but the last are of one size ([`crate::worker`]), so the shorter ones
//! are padded (RFC 3550 §5.1) by what the longer ones have more.

/// Most bytes that a packet is padded by. What differs by more was not cut evenly.
const MOST: usize = 4;
/// After so many frames in which no packet was longer than the first one, none is expected to be. At 30 a second that is two seconds.
const REMEMBERED: u8 = 60;

/// The cut of a source's frames, as far as it is known before they are whole.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// Timestamp of the current frame.
    frame: Option<u32>,
    /// Length of the payload of the first packet of those that are of about one size.
    first: usize,
    /// To which payloads are padded.
    target: usize,
    /// What the later packets of a frame have more.
    growth: usize,
    /// Frames since that was seen.
    even: u8,
}

impl Cut {
    /// By how many bytes a packet is to be padded, the newest of its source, with a payload of that length. The last one of a frame may be
    /// shorter than the others.
    pub(super) fn padding(&mut self, timestamp: u32, is_last: bool, length: usize) -> usize {
        if self.frame.replace(timestamp) != Some(timestamp) {
            self.even = self.even.saturating_add(1);
            if self.even > REMEMBERED {
                self.growth = 0;
            }
            self.expect(length);
        }
        if let Some(more @ 1..=MOST) = length.checked_sub(self.first) {
            self.even = 0;
            self.growth = self.growth.max(more);
        }
        let is_about = self.target.checked_sub(length).is_some_and(|less| less <= MOST);
        if !is_about {
            self.expect(length);
        }
        if is_last { 0 } else { self.target - length }
    }

    fn expect(&mut self, first: usize) {
        (self.first, self.target) = (first, first + self.growth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of a frame's payloads with their padding.
    fn padded(cut: &mut Cut, timestamp: u32, lengths: &[usize]) -> Vec<usize> {
        let last = lengths.len() - 1;
        let pad = |(at, length): (usize, &usize)| length + cut.padding(timestamp, at == last, *length);
        lengths.iter().enumerate().map(pad).collect()
    }

    #[test]
    fn frames_whose_later_packets_are_longer_become_even() {
        let mut cut = Cut::default();
        padded(&mut cut, 0, &[1000, 1000, 1001, 1001]);
        assert_eq!(padded(&mut cut, 1, &[900, 900, 901, 901]), [901, 901, 901, 901]);
        assert_eq!(padded(&mut cut, 2, &[870, 871, 871]), [871, 871, 871]);
        assert_eq!(padded(&mut cut, 3, &[870, 870, 870]), [871, 871, 870], "it might have grown");
        assert_eq!(padded(&mut cut, 4, &[500]), [500], "there is nothing to leave with");
        assert_eq!(padded(&mut cut, 5, &[900, 900, 900, 30]), [901, 901, 901, 30]);
    }

    #[test]
    fn where_the_first_packet_carries_less_the_others_become_even() {
        let mut cut = Cut::default();
        padded(&mut cut, 0, &[980, 1000, 1000, 1001]);
        assert_eq!(padded(&mut cut, 1, &[880, 900, 900, 901, 901]), [881, 901, 901, 901, 901]);
    }

    #[test]
    fn what_is_cut_evenly_is_left_as_it_is() {
        let mut cut = Cut::default();
        for timestamp in 0..10 {
            assert_eq!(padded(&mut cut, timestamp, &[1200, 1200, 400]), [1200, 1200, 400]);
        }
        padded(&mut cut, 10, &[1000, 1001, 1001]);
        assert_eq!(padded(&mut cut, 11, &[1200, 1200]), [1201, 1200]);
        for timestamp in 12..100 {
            padded(&mut cut, timestamp, &[1200, 1200, 400]);
        }
        assert_eq!(padded(&mut cut, 100, &[1200, 1200, 400]), [1200, 1200, 400]);
    }

    #[test]
    fn no_packet_is_padded_by_much() {
        let (mut cut, mut length) = (Cut::default(), 7);
        for at in 0..10_000usize {
            length = (length * 31 + at) % 1200;
            assert!(cut.padding(at as u32 / 9, at % 9 == 8, length) <= MOST);
        }
    }
}
