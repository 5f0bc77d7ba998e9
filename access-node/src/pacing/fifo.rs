//! Packets that wait, one after another in one ring of bytes.

use std::{collections::VecDeque, time::Instant};

/// Room that is kept when nothing waits, in bytes: less than a usual key frame.
const KEPT: usize = 16 * 1024;

#[derive(Debug)]
struct Entry {
    since: Instant,
    length: usize,
    transport_cc_at: Option<usize>,
}

/// Packets in order. Allocates nothing for one once it has grown to what usually waits.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    bytes: VecDeque<u8>,
    entries: VecDeque<Entry>,
}

impl Fifo {
    pub(super) fn push(&mut self, now: Instant, packet: &[u8], transport_cc_at: Option<usize>) {
        self.bytes.extend(packet);
        self.entries.push_back(Entry { since: now, length: packet.len(), transport_cc_at });
    }

    /// Takes the first into an emptied buffer; gives the place of its transport-wide number.
    pub(super) fn pop(&mut self, packet: &mut Vec<u8>) -> Option<Option<usize>> {
        let entry = self.entries.pop_front()?;
        packet.clear();
        let (one, other) = self.bytes.as_slices();
        let split = entry.length.min(one.len());
        packet.extend_from_slice(&one[..split]);
        packet.extend_from_slice(&other[..entry.length - split]);
        self.bytes.drain(..entry.length);
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes.shrink_to(KEPT);
            self.entries.shrink_to(KEPT / 1024);
        }
        Some(entry.transport_cc_at)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Since when the first waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_as_they_went_in() {
        let (mut fifo, now, mut packet) = (Fifo::default(), Instant::now(), Vec::new());
        let mut next = 0;
        for n in 0..1000usize {
            fifo.push(now, &vec![n as u8; n % 50], Some(n));
            if n % 3 != 0 {
                assert_eq!(fifo.pop(&mut packet), Some(Some(next)));
                assert_eq!(packet, vec![next as u8; next % 50]);
                next += 1;
            }
        }
        while fifo.pop(&mut packet).is_some() {
            assert_eq!(packet, vec![next as u8; next % 50]);
            next += 1;
        }
        assert_eq!((next, fifo.bytes(), fifo.is_empty()), (1000, 0, true));
    }

    #[test]
    fn no_more_room_is_kept_than_for_what_usually_waits_and_none_of_that_is_made_twice() {
        let (mut fifo, now, mut packet) = (Fifo::default(), Instant::now(), Vec::new());
        let mut run = |count| {
            (0..count).for_each(|_| fifo.push(now, &[1; 1200], None));
            while fifo.pop(&mut packet).is_some() {}
            fifo.bytes.capacity()
        };
        assert!(run(1000) <= KEPT);
        run(10);
        assert_eq!(allocation_counter::measure(|| assert!(run(10) <= KEPT)).count_total, 0);
    }
}
