//! Packets in the order in which they were sent. What is missing is asked for again, and waited for only so long.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::BytesMut;

/// How long a missing packet is waited for: several round trips to the publisher and back.
const PATIENCE: Duration = Duration::from_millis(400);
/// Between requests for the same packet.
const ASK_AGAIN: Duration = Duration::from_millis(60);
/// First wait for a packet that may just be overtaken.
const ASK_FIRST: Duration = Duration::from_millis(10);
/// A larger jump of sequence numbers is another stream, not a loss.
const MAX_GAP: i64 = 1000;
/// Packets held at most.
const MAX_HELD: usize = 2048;

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub enum Ordered {
    /// The next packet.
    Packet(BytesMut),
    /// Packets are missing here for good.
    Lost,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reorder {
    /// Extended sequence number of the next packet to come out.
    next: Option<i64>,
    held: BTreeMap<i64, BytesMut>,
    missing: BTreeMap<i64, Missing>,
    out: VecDeque<Ordered>,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    ask_at: Instant,
}

impl Reorder {
    /// Takes a packet.
    pub fn push(&mut self, now: Instant, sequence: u16, packet: BytesMut) {
        let Some(next) = self.next else {
            self.next = Some(i64::from(sequence) + 1);
            return self.out.push_back(Ordered::Packet(packet));
        };
        let newest = self.held.last_key_value().map_or(next - 1, |(newest, _)| *newest);
        let extended = newest + i64::from(sequence.wrapping_sub(newest as u16) as i16);
        if (extended - next).abs() > MAX_GAP || self.held.len() >= MAX_HELD {
            self.restart();
            self.next = Some(i64::from(sequence) + 1);
            self.out.push_back(Ordered::Lost);
            return self.out.push_back(Ordered::Packet(packet));
        }
        self.missing.remove(&extended);
        if extended < next {
            return;
        }
        for number in (newest + 1).max(next)..extended {
            self.missing.insert(number, Missing { since: now, ask_at: now + ASK_FIRST });
        }
        self.held.insert(extended, packet);
        self.release();
    }

    /// The next thing in order.
    pub fn pop(&mut self, now: Instant) -> Option<Ordered> {
        if self.out.is_empty() {
            self.give_up(now);
        }
        self.out.pop_front()
    }

    /// Which packets to ask for now, ascending.
    pub fn wanted(&mut self, now: Instant) -> Vec<u16> {
        let due = self.missing.iter_mut().filter(|(_, missing)| missing.ask_at <= now);
        due.map(|(number, missing)| {
            missing.ask_at = now + ASK_AGAIN;
            *number as u16
        })
        .collect()
    }

    /// What comes next has nothing to do with what came before.
    pub fn restart(&mut self) {
        self.next = None;
        self.held.clear();
        self.missing.clear();
    }

    /// Moves what is in order.
    fn release(&mut self) {
        let Some(next) = &mut self.next else { return };
        while let Some(packet) = self.held.remove(next) {
            *next += 1;
            self.out.push_back(Ordered::Packet(packet));
        }
    }

    /// Goes on without what has been missing for too long.
    fn give_up(&mut self, now: Instant) {
        let Some(next) = self.next else { return };
        let waits = |at: &i64| self.missing.get(at).is_some_and(|missing| now < missing.since + PATIENCE);
        let Some((first, _)) = self.held.first_key_value() else { return };
        let first = *first;
        if (next..first).any(|number| waits(&number)) {
            return;
        }
        self.missing.retain(|number, _| *number > first);
        self.next = Some(first);
        self.out.push_back(Ordered::Lost);
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u16) -> BytesMut {
        BytesMut::from(&number.to_be_bytes()[..])
    }
    fn pushed(reorder: &mut Reorder, now: Instant, numbers: &[u16]) -> Vec<Option<u16>> {
        for number in numbers {
            reorder.push(now, *number, packet(*number));
        }
        popped(reorder, now)
    }
    /// Numbers that come out; `None` = lost.
    fn popped(reorder: &mut Reorder, now: Instant) -> Vec<Option<u16>> {
        std::iter::from_fn(|| reorder.pop(now))
            .map(|ordered| match ordered {
                Ordered::Packet(packet) => Some(u16::from_be_bytes([packet[0], packet[1]])),
                Ordered::Lost => None,
            })
            .collect()
    }

    #[test]
    fn order_is_restored_over_the_wrap_and_doubles_are_dropped() {
        let (mut reorder, now) = (Reorder::default(), Instant::now());
        let out = pushed(&mut reorder, now, &[65534, 0, 65535, 65535, 0, 2, 1, 65534, 3]);
        assert_eq!(out, [65534, 65535, 0, 1, 2, 3].map(Some));
    }

    #[test]
    fn what_is_missing_is_asked_for_and_given_up_after_a_while() {
        let (mut reorder, now) = (Reorder::default(), Instant::now());
        assert_eq!(pushed(&mut reorder, now, &[7, 10, 11]), [Some(7)]);
        assert_eq!(reorder.wanted(now), [0u16; 0], "they may be on their way");
        assert_eq!(reorder.wanted(now + ASK_FIRST), [8, 9]);
        assert_eq!(reorder.wanted(now + ASK_FIRST), [0u16; 0]);
        reorder.push(now, 9, packet(9));
        assert_eq!(reorder.wanted(now + ASK_FIRST + ASK_AGAIN), [8]);
        assert_eq!(popped(&mut reorder, now + PATIENCE - ASK_FIRST), []);
        assert_eq!(popped(&mut reorder, now + PATIENCE), [None, Some(9), Some(10), Some(11)]);
        assert_eq!(reorder.wanted(now + PATIENCE * 2), [0u16; 0]);
    }

    #[test]
    fn another_stream_begins_anew() {
        let (mut reorder, now) = (Reorder::default(), Instant::now());
        assert_eq!(pushed(&mut reorder, now, &[7, 9]), [Some(7)]);
        assert_eq!(pushed(&mut reorder, now, &[30_000, 30_001]), [None, Some(30_000), Some(30_001)]);
        assert_eq!(reorder.wanted(now + PATIENCE), [0u16; 0]);
    }

    #[test]
    fn nothing_piles_up() {
        let (mut reorder, now) = (Reorder::default(), Instant::now());
        for number in 0..20_000u32 {
            // Every other one is missing, and nobody pops.
            reorder.push(now, (number * 2) as u16, packet(0));
        }
        assert!(reorder.held.len() <= MAX_HELD && reorder.missing.len() <= MAX_HELD * 2);
    }
}
