//! A jitter buffer: packets in as they come, in order and one at a time out.
//!
//! It fills up to [`TARGET`] before it begins, then gives a packet whenever the mixer has used up the last one. Since both clocks
//! drift, it begins anew when it ran dry for a while, and leaves out packets when it has been too full for a while.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

/// How long the first packet waits. More hides more jitter, and is heard as delay by everybody.
pub(super) const TARGET: Duration = Duration::from_millis(60);
/// Most packets kept, a second's worth; the oldest go first.
const MAX_PACKETS: usize = 50;
/// Missing packets in a row that are concealed; behind more, the buffer jumps.
const MAX_GAP: i64 = 5;
/// Times that nothing was there before the buffer fills up anew: 100 ms, about as long as concealment sounds natural.
const MAX_DRY: u32 = 5;
/// A sequence number this far from the last is a new start of the stream, not a late or early packet.
const NEW_START: i64 = 1000;
/// Packets given over which the fill is watched: 2 s.
const WATCH: u32 = 100;
/// Packets left in the buffer, at the least, during all of [`WATCH`], from which on some are left out: 80 ms.
const TOO_FULL: usize = 4;

/// What is next to be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A payload.
    Packet(Bytes),
    /// A packet that did not come in time, and the one behind it, which may hold redundancy.
    Lost(Option<Bytes>),
    /// Nothing came, but it should go on at once: hide it.
    Dry,
    /// Nothing is being said, or the buffer fills up.
    Idle,
}

/// See the module.
#[derive(Debug, Default)]
pub struct JitterBuffer {
    /// By extended sequence number.
    waiting: BTreeMap<i64, Bytes>,
    highest: Option<i64>,
    state: State,
    fullness: Watch,
}

#[derive(Debug, Default)]
enum State {
    /// Since the first packet came.
    Filling(Instant),
    Playing {
        next: i64,
        dry: u32,
    },
    #[default]
    Empty,
}

/// The least fill during some time.
#[derive(Debug)]
struct Watch {
    least: usize,
    left: u32,
}

impl Default for Watch {
    fn default() -> Self {
        Self { least: usize::MAX, left: WATCH }
    }
}

impl JitterBuffer {
    /// Takes a packet. Late, doubled and surplus ones are dropped.
    pub fn insert(&mut self, sequence: u16, payload: Bytes, now: Instant) {
        let index = self.extend(sequence);
        if let State::Playing { next, .. } = self.state
            && index < next
        {
            return;
        }
        if let State::Empty = self.state {
            self.state = State::Filling(now);
        }
        self.highest = self.highest.max(Some(index));
        self.waiting.entry(index).or_insert(payload);
        if self.waiting.len() > MAX_PACKETS {
            self.leave_one_out();
        }
    }

    /// What to play now; called whenever the last packet is used up.
    pub fn take(&mut self, now: Instant) -> Next {
        self.begin(now);
        let State::Playing { next, dry } = &mut self.state else {
            return Next::Idle;
        };
        let Some((&first, _)) = self.waiting.first_key_value() else {
            *dry += 1;
            if *dry > MAX_DRY {
                self.state = State::Empty;
                self.fullness = Watch::default();
                return Next::Idle;
            }
            return Next::Dry;
        };
        *dry = 0;
        let gap = first - *next;
        if (1..=MAX_GAP).contains(&gap) {
            *next += 1;
            let following = (gap == 1).then(|| self.waiting.get(&first).cloned()).flatten();
            return Next::Lost(following);
        }
        *next = first + 1;
        let packet = self.waiting.remove(&first).unwrap_or_default();
        for _ in 0..self.fullness.surplus(self.waiting.len()) {
            self.leave_one_out();
        }
        Next::Packet(packet)
    }

    /// Packets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn begin(&mut self, now: Instant) {
        if let State::Filling(since) = self.state
            && now.saturating_duration_since(since) >= TARGET
            && let Some((&first, _)) = self.waiting.first_key_value()
        {
            self.state = State::Playing { next: first, dry: 0 };
        }
    }

    /// Drops the oldest packet.
    fn leave_one_out(&mut self) {
        if let (Some((index, _)), State::Playing { next, .. }) = (self.waiting.pop_first(), &mut self.state) {
            *next = (*next).max(index + 1);
        }
    }

    /// Extends a sequence number by what wrapped around; forgets all if the stream has begun anew.
    fn extend(&mut self, sequence: u16) -> i64 {
        let Some(highest) = self.highest else {
            return i64::from(sequence);
        };
        let step = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        if step.abs() > NEW_START {
            *self = Self::default();
            return i64::from(sequence);
        }
        highest + step
    }
}

impl Watch {
    /// How many packets too many there have been all the time: one where clocks drift, and many where the mixer stood still for a while, whose
    /// sound would be late by so much from then on.
    fn surplus(&mut self, now: usize) -> usize {
        self.least = self.least.min(now);
        self.left -= 1;
        if self.left > 0 {
            return 0;
        }
        let surplus = (self.least + 1).saturating_sub(TOO_FULL);
        *self = Self::default();
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    fn payload(sequence: u16) -> Bytes {
        Bytes::copy_from_slice(&sequence.to_be_bytes())
    }
    fn packet(sequence: u16) -> Next {
        Next::Packet(payload(sequence))
    }
    /// Inserts the packets at the start and returns the buffer when it has begun to play.
    fn playing(sequences: &[u16]) -> (JitterBuffer, Instant) {
        let now = Instant::now();
        let mut buffer = JitterBuffer::default();
        for sequence in sequences {
            buffer.insert(*sequence, payload(*sequence), now);
        }
        (buffer, now + TARGET)
    }

    #[test]
    fn begins_when_the_first_packet_has_waited_long_enough() {
        let now = Instant::now();
        let mut buffer = JitterBuffer::default();
        assert_eq!(buffer.take(now), Next::Idle);
        buffer.insert(7, payload(7), now);
        assert_eq!(buffer.take(now + STEP), Next::Idle);
        assert_eq!(buffer.take(now + TARGET), packet(7));
    }

    #[test]
    fn puts_packets_in_order_also_where_numbers_wrap() {
        let (mut buffer, now) = playing(&[65534, 0, 65535, 2, 1]);
        let played: Vec<Next> = (0..5).map(|_| buffer.take(now)).collect();
        assert_eq!(played, [65534, 65535, 0, 1, 2].map(packet));
    }

    #[test]
    fn drops_doubled_and_late_packets() {
        let (mut buffer, now) = playing(&[1, 1, 2]);
        assert_eq!((buffer.take(now), buffer.take(now)), (packet(1), packet(2)));
        buffer.insert(1, payload(1), now);
        assert_eq!(buffer.take(now), Next::Dry);
    }

    #[test]
    fn tells_of_a_lost_packet_and_what_follows_it() {
        let (mut buffer, now) = playing(&[1, 3, 6]);
        assert_eq!(buffer.take(now), packet(1));
        assert_eq!(buffer.take(now), Next::Lost(Some(payload(3))));
        assert_eq!(buffer.take(now), packet(3));
        assert_eq!(buffer.take(now), Next::Lost(None));
        assert_eq!(buffer.take(now), Next::Lost(Some(payload(6))));
        assert_eq!(buffer.take(now), packet(6));
    }

    #[test]
    fn jumps_over_a_long_gap() {
        let (mut buffer, now) = playing(&[1, 30]);
        assert_eq!((buffer.take(now), buffer.take(now)), (packet(1), packet(30)));
    }

    #[test]
    fn fills_up_anew_after_running_dry() {
        let (mut buffer, mut now) = playing(&[1]);
        assert_eq!(buffer.take(now), packet(1));
        for _ in 0..MAX_DRY {
            now += STEP;
            assert_eq!(buffer.take(now), Next::Dry);
        }
        assert_eq!(buffer.take(now), Next::Idle);
        buffer.insert(2, payload(2), now);
        assert_eq!(buffer.take(now), Next::Idle);
        assert_eq!(buffer.take(now + TARGET), packet(2));
    }

    #[test]
    fn a_late_packet_is_played_if_nothing_went_past_it() {
        let (mut buffer, now) = playing(&[1]);
        assert_eq!((buffer.take(now), buffer.take(now)), (packet(1), Next::Dry));
        buffer.insert(2, payload(2), now);
        assert_eq!(buffer.take(now), packet(2));
    }

    #[test]
    fn starts_anew_with_a_new_stream() {
        let (mut buffer, now) = playing(&[1, 2]);
        assert_eq!(buffer.take(now), packet(1));
        buffer.insert(40_000, payload(40_000), now);
        assert_eq!(buffer.take(now), Next::Idle);
        assert_eq!(buffer.take(now + TARGET), packet(40_000));
    }

    #[test]
    fn never_keeps_more_than_a_second() {
        let (mut buffer, now) = playing(&[]);
        for sequence in 0..900 {
            buffer.insert(sequence, payload(sequence), now);
            assert!(buffer.len() <= MAX_PACKETS);
        }
        assert_eq!(buffer.take(now + TARGET), packet(850));
    }

    #[test]
    fn is_in_time_again_soon_after_the_mixer_stood_still() {
        let mut buffer = JitterBuffer::default();
        let mut now = Instant::now();
        for sequence in 0..45 {
            buffer.insert(sequence, payload(sequence), now);
        }
        now += TARGET;
        for sequence in 45..45 + 2 * WATCH as u16 {
            assert!(matches!(buffer.take(now), Next::Packet(_)));
            buffer.insert(sequence, payload(sequence), now);
            now += STEP;
        }
        assert!(buffer.len() <= TOO_FULL, "{} wait", buffer.len());
    }

    #[test]
    fn sheds_what_a_faster_sender_piles_up() {
        let mut buffer = JitterBuffer::default();
        let mut now = Instant::now();
        for sequence in 0..8 {
            buffer.insert(sequence, payload(sequence), now);
        }
        now += TARGET;
        for sequence in 8..1000 {
            assert!(matches!(buffer.take(now), Next::Packet(_)));
            buffer.insert(sequence, payload(sequence), now);
            now += STEP;
        }
        assert!(buffer.len() <= TOO_FULL, "{} wait", buffer.len());
    }
}
