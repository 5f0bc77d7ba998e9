//! Puts packets in order: what comes in order goes on at once, what comes too early waits for what is missing, but not for long.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a missing packet is waited for, retransmissions included.
const PATIENCE: Duration = Duration::from_millis(100);
/// Packets that wait at most; more than two key frames of a large picture have.
const MAX_HELD: usize = 512;
/// A sequence number this far from the expected one is a new start of the stream, not a late or early packet.
const NEW_START: i16 = 2000;

/// See the module.
#[derive(Debug)]
pub(super) struct Reorder<P> {
    /// Extended number of the packet that is to go on next; none before the first.
    next: Option<i64>,
    /// Those after it, with their arrival.
    held: BTreeMap<i64, (Instant, P)>,
}

impl<P> Default for Reorder<P> {
    fn default() -> Self {
        Self { next: None, held: BTreeMap::new() }
    }
}

impl<P> Reorder<P> {
    /// Takes a packet and gives `out` those whose turn it is. Late and doubled ones are dropped.
    pub(super) fn insert(&mut self, sequence: u16, packet: P, now: Instant, mut out: impl FnMut(P)) {
        let expected = *self.next.get_or_insert(i64::from(sequence));
        let step = sequence.wrapping_sub(expected as u16) as i16;
        if step.unsigned_abs() > NEW_START.unsigned_abs() {
            while let Some((_, (_, held))) = self.held.pop_first() {
                out(held);
            }
            self.next = Some(i64::from(sequence) + 1);
            out(packet);
            return;
        }
        let index = expected + i64::from(step);
        if step == 0 {
            out(packet);
            self.next = Some(index + 1);
            self.go_on(&mut out);
        } else if step > 0 {
            self.held.entry(index).or_insert((now, packet));
            if self.held.len() > MAX_HELD {
                self.skip(&mut out);
            }
        }
        self.poll(now, out);
    }

    /// Gives up what has been waited for long enough, and gives `out` what comes after it. The gap is seen in the sequence numbers.
    pub(super) fn poll(&mut self, now: Instant, mut out: impl FnMut(P)) {
        while let Some((_, (since, _))) = self.held.first_key_value()
            && now.saturating_duration_since(*since) >= PATIENCE
        {
            self.skip(&mut out);
        }
    }

    /// Goes on behind the gap.
    fn skip(&mut self, out: &mut impl FnMut(P)) {
        if let Some((first, _)) = self.held.first_key_value() {
            self.next = Some(*first);
            self.go_on(out);
        }
    }

    fn go_on(&mut self, out: &mut impl FnMut(P)) {
        while let Some(next) = self.next
            && let Some((_, packet)) = self.held.remove(&next)
        {
            out(packet);
            self.next = Some(next + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of packets that come in at these milliseconds.
    fn played(packets: &[(u64, u16)]) -> Vec<u16> {
        let (start, mut reorder, mut out) = (Instant::now(), Reorder::default(), vec![]);
        for (ms, sequence) in packets {
            reorder
                .insert(*sequence, *sequence, start + Duration::from_millis(*ms), |packet| out.push(packet));
        }
        out
    }

    #[test]
    fn what_comes_in_order_goes_on_at_once() {
        assert_eq!(played(&[(0, 65_534), (0, 65_535), (33, 0), (66, 1)]), [65_534, 65_535, 0, 1]);
    }

    #[test]
    fn packets_are_put_in_order_also_where_numbers_wrap() {
        let order = [65_534, 0, 65_535, 3, 2, 1].map(|sequence| (0, sequence));
        assert_eq!(played(&order), [65_534, 65_535, 0, 1, 2, 3]);
    }

    #[test]
    fn late_and_doubled_ones_are_dropped() {
        assert_eq!(played(&[(0, 5), (0, 5), (0, 7), (0, 7), (0, 4), (0, 6), (0, 6)]), [5, 6, 7]);
    }

    #[test]
    fn a_missing_packet_is_waited_for_and_then_given_up() {
        let mut reorder = Reorder::default();
        let (start, mut out) = (Instant::now(), vec![]);
        for (ms, sequence) in [(0, 1), (10, 3), (40, 4), (60, 6)] {
            reorder.insert(sequence, sequence, start + Duration::from_millis(ms), |packet| out.push(packet));
        }
        assert_eq!(out, [1]);
        reorder.poll(start + Duration::from_millis(109), |packet| out.push(packet));
        assert_eq!(out, [1]);
        reorder.poll(start + Duration::from_millis(110), |packet| out.push(packet));
        assert_eq!(out, [1, 3, 4]);
        reorder.insert(2, 2, start + Duration::from_millis(120), |packet| out.push(packet));
        reorder.insert(5, 5, start + Duration::from_millis(120), |packet| out.push(packet));
        assert_eq!(out, [1, 3, 4, 5, 6]);
    }

    #[test]
    fn a_stream_that_begins_anew_is_followed() {
        assert_eq!(played(&[(0, 10), (0, 12), (0, 40_000), (0, 40_001)]), [10, 12, 40_000, 40_001]);
    }

    #[test]
    fn no_more_than_so_many_wait() {
        let (now, mut reorder, mut out) = (Instant::now(), Reorder::default(), vec![]);
        reorder.insert(0, 0, now, |packet| out.push(packet));
        for sequence in 2..1500u16 {
            reorder.insert(sequence, sequence, now, |packet| out.push(packet));
            assert!(reorder.held.len() <= MAX_HELD);
        }
        assert_eq!(out.len(), 1499, "but for the missing one");
    }
}
