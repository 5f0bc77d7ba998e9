//! One unbroken stream towards a subscriber, whatever it is made of: pauses and changes of the source leave no gap in the
//! sequence numbers and no jump in the timestamps.

use std::{collections::VecDeque, time::Instant};

use super::{
    picture_id::{LastIds, PictureIds, Shift},
    sequence::nearest,
};
use crate::keys::SourceKey;

/// Segments kept to find retransmissions in: one pause, resumption, change or run of left out pictures each. Of half the pictures of 30 a
/// second that is four seconds, and 4 kB.
const MAX_SEGMENTS: usize = 64;

/// Which numbering of which source: a source that starts anew keeps its key and gets another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    /// The source.
    pub source: SourceKey,
    /// How often it started anew.
    pub restarts: u32,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    of: Numbering,
    first_in: u64,
    first_out: u64,
    timestamp_offset: u32,
    shift: Shift,
    /// Whether only what was left out lies between this one and the one before.
    continues: bool,
}

/// The numbering of one outgoing stream.
#[derive(Debug)]
pub(super) struct Continuity {
    clock_rate: u32,
    segments: VecDeque<Segment>,
    highest_out: u64,
    last_timestamp: u32,
    last_at: Option<Instant>,
    last_ids: LastIds,
    /// The picture that was left out last.
    left_out: Option<u16>,
    broken: bool,
}

/// Where an outgoing packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Numbering of its source.
    pub of: Numbering,
    /// Extended sequence number there.
    pub sequence_in: u64,
    /// Extended sequence number as sent.
    pub sequence_out: u64,
    /// To be added to the source's timestamp.
    pub timestamp_offset: u32,
    /// To be added to the numbers of its pictures.
    pub shift: Shift,
}

impl Continuity {
    /// A stream whose first packet will follow `sequence` and have `timestamp` as offset, both chosen at random (RFC 3550 §5.1).
    #[must_use]
    pub(super) fn new(clock_rate: u32, sequence: u16, timestamp: u32) -> Self {
        Self {
            clock_rate,
            segments: VecDeque::new(),
            // RFC 3711 §3.3.1 advises a start in the lower half, so that losses at the start don't confuse the roll-over counter.
            highest_out: u64::from(sequence & 0x7fff) + (1 << 16),
            last_timestamp: timestamp,
            last_at: None,
            last_ids: LastIds::default(),
            left_out: None,
            broken: true,
        }
    }

    /// The next packet begins a new segment: it follows the last one sent directly.
    pub(super) fn interrupt(&mut self) {
        self.broken = true;
    }

    /// Whether the next packet will begin a new segment, as one of `of`.
    #[must_use]
    pub(super) fn is_interrupted(&self, of: Numbering) -> bool {
        self.broken || self.segments.back().is_none_or(|segment| segment.of != of)
    }

    /// The numbers under which a packet goes out, with what is to be changed of those of its picture, which now ends with the spatial layer
    /// `top`; `None` if it is from before the segment began.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        of: Numbering,
        sequence: u64,
        timestamp: u32,
        ids: &PictureIds,
        top: Option<u8>,
    ) -> Option<(u16, u32, Shift)> {
        if self.is_interrupted(of) {
            let timestamp_offset = match (self.segments.back(), self.last_at) {
                (Some(last), _) if last.of == of => last.timestamp_offset,
                (_, Some(at)) => {
                    let elapsed = now.saturating_duration_since(at).as_micros() * u128::from(self.clock_rate);
                    let step = ((elapsed / 1_000_000) as u32).max(1);
                    self.last_timestamp.wrapping_add(step).wrapping_sub(timestamp)
                }
                (_, None) => self.last_timestamp.wrapping_sub(timestamp),
            };
            let shift = match self.segments.back() {
                Some(last) if last.of == of => last.shift,
                _ => ids.shift_after(&self.last_ids),
            };
            self.push(Segment {
                of,
                first_in: sequence,
                first_out: self.highest_out + 1,
                timestamp_offset,
                shift: shift.with_top(top),
                continues: false,
            });
            self.broken = false;
        } else {
            self.ends_with(sequence, top);
        }
        let segment = self.segment(sequence)?;
        let sequence_out = segment.first_out + sequence.checked_sub(segment.first_in)?;
        let timestamp_out = timestamp.wrapping_add(segment.timestamp_offset);
        if sequence_out > self.highest_out {
            self.highest_out = sequence_out;
            self.last_timestamp = timestamp_out;
            self.last_at = Some(now);
            ids.sent(segment.shift, &mut self.last_ids);
        }
        Some((sequence_out as u16, timestamp_out, segment.shift))
    }

    /// A packet of a picture that depends on nothing that follows is left out: what comes next takes its number, and the next picture that
    /// of its picture.
    pub(super) fn leave_out(&mut self, of: Numbering, sequence: u64, ids: &PictureIds) {
        if self.is_interrupted(of) {
            return;
        }
        let Some(last) = self.segments.back_mut().filter(|last| sequence >= last.first_in) else { return };
        let mut shift = last.shift;
        let picture = ids.counted();
        if picture.is_some() && std::mem::replace(&mut self.left_out, picture) != picture {
            shift = shift.one_less();
        }
        if sequence == last.first_in && last.continues {
            (last.first_in, last.shift) = (sequence + 1, shift);
            return;
        }
        let next = Segment {
            first_in: sequence + 1,
            first_out: last.first_out + (sequence - last.first_in),
            shift,
            continues: true,
            ..*last
        };
        self.push(next);
    }

    /// From this packet on, if it is the newest, the picture ends with that spatial layer.
    fn ends_with(&mut self, sequence: u64, top: Option<u8>) {
        let highest = self.highest_out;
        let is_newest =
            |last: &Segment| sequence >= last.first_in && last.first_out + sequence - last.first_in > highest;
        let Some(last) = self.segments.back_mut().filter(|last| is_newest(last)) else { return };
        if last.shift.top == top {
            return;
        }
        if sequence == last.first_in {
            last.shift.top = top;
            return;
        }
        let next = Segment {
            first_in: sequence,
            first_out: last.first_out + (sequence - last.first_in),
            shift: last.shift.with_top(top),
            continues: true,
            ..*last
        };
        self.push(next);
    }

    fn push(&mut self, segment: Segment) {
        if self.segments.len() == MAX_SEGMENTS {
            self.segments.pop_front();
        }
        self.segments.push_back(segment);
    }

    /// The segment of a packet, if it is of the current one or of those that it continues, and was not left out.
    fn segment(&self, sequence: u64) -> Option<Segment> {
        let mut end = u64::MAX;
        for segment in self.segments.iter().rev() {
            if let Some(ahead) = sequence.checked_sub(segment.first_in) {
                return (segment.first_out + ahead < end).then_some(*segment);
            }
            if !segment.continues {
                return None;
            }
            end = segment.first_out;
        }
        None
    }

    /// The timestamp of the newest packet.
    #[must_use]
    pub(super) fn last_timestamp(&self) -> u32 {
        self.last_timestamp
    }

    /// Where the packet sent under that number came from, if it is known still.
    #[must_use]
    pub(super) fn trace(&self, sequence: u16) -> Option<Origin> {
        let sequence_out = nearest(self.highest_out, sequence);
        let segment = self.segments.iter().rev().find(|segment| segment.first_out <= sequence_out)?;
        (sequence_out <= self.highest_out).then(|| Origin {
            of: segment.of,
            sequence_in: segment.first_in + (sequence_out - segment.first_out),
            sequence_out,
            timestamp_offset: segment.timestamp_offset,
            shift: segment.shift,
        })
    }

    /// To be added to the timestamps of a numbering, while it is the current one.
    #[must_use]
    pub(super) fn timestamp_offset(&self, of: Numbering) -> Option<u32> {
        self.segments.back().filter(|segment| segment.of == of).map(|segment| segment.timestamp_offset)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::arena::Key;

    fn two() -> (Numbering, Numbering) {
        let numbering = |index| Numbering { source: Key::for_tests(index), restarts: 0 };
        (numbering(0), numbering(1))
    }

    /// Without pictures.
    fn advance(
        stream: &mut Continuity,
        now: Instant,
        of: Numbering,
        sequence: u64,
        timestamp: u32,
    ) -> Option<(u16, u32)> {
        let numbers = stream.advance(now, of, sequence, timestamp, &PictureIds::default(), None);
        numbers.map(|(sequence, timestamp, _)| (sequence, timestamp))
    }

    #[test]
    fn a_pause_leaves_no_gap_and_time_goes_on() {
        let (a, _) = two();
        let start = Instant::now();
        let mut stream = Continuity::new(90_000, 10, 500);
        assert_eq!(advance(&mut stream, start, a, 1000, 7_000), Some((11, 500)));
        assert_eq!(advance(&mut stream, start, a, 1002, 7_000), Some((13, 500)), "losses stay visible");
        stream.interrupt();
        assert_eq!(
            advance(&mut stream, start + Duration::from_secs(5), a, 2000, 457_000),
            Some((14, 450_500))
        );
        assert_eq!(advance(&mut stream, start, a, 1001, 7_000), None, "from before the pause");
    }

    #[test]
    fn another_source_continues_where_the_first_ended() {
        let (a, b) = two();
        let start = Instant::now();
        let mut stream = Continuity::new(48_000, 10, 500);
        advance(&mut stream, start, a, 70_000, 1);
        let later = start + Duration::from_millis(20);
        assert_eq!(advance(&mut stream, later, b, 900_000, 123_456_789), Some((12, 500 + 960)));
        let restarted = Numbering { restarts: 1, ..b };
        assert_eq!(advance(&mut stream, later, restarted, 5, 9), Some((13, 500 + 961)));
    }

    #[test]
    fn what_is_left_out_leaves_no_gap_and_what_is_lost_does() {
        let (a, _) = two();
        let start = Instant::now();
        let mut stream = Continuity::new(90_000, 10, 0);
        let ids = PictureIds::default();
        let send = |stream: &mut Continuity, sequence| {
            advance(stream, start, a, sequence, 0).map(|(sequence, _)| sequence)
        };
        assert_eq!([100, 101].map(|s| send(&mut stream, s)), [Some(11), Some(12)]);
        for sequence in [102, 103] {
            stream.leave_out(a, sequence, &ids);
        }
        assert_eq!(send(&mut stream, 104), Some(13));
        // 105 is lost, 106 is left out, 107 comes, then 105.
        stream.leave_out(a, 106, &ids);
        assert_eq!(send(&mut stream, 107), Some(15));
        assert_eq!(send(&mut stream, 105), Some(14), "there is a place for it");
        assert_eq!(send(&mut stream, 103), None, "it was left out");
        assert_eq!(send(&mut stream, 101), Some(12));
        let traced = [11, 12, 13, 14, 15].map(|s| stream.trace(s).map(|o| o.sequence_in));
        assert_eq!(traced, [100, 101, 104, 105, 107].map(Some));
        stream.interrupt();
        assert_eq!(send(&mut stream, 200), Some(16));
        assert_eq!(send(&mut stream, 105), None, "from before the pause");
    }

    #[test]
    fn what_was_sent_can_be_traced_back() {
        let (a, b) = two();
        let start = Instant::now();
        let mut stream = Continuity::new(90_000, 10, 0);
        for sequence in 100..105 {
            advance(&mut stream, start, a, sequence, 0);
        }
        advance(&mut stream, start, b, 7, 0);
        assert_eq!(stream.trace(12).map(|o| (o.of, o.sequence_in)), Some((a, 101)));
        assert_eq!(stream.trace(16).map(|o| (o.of, o.sequence_in)), Some((b, 7)));
        assert_eq!(stream.trace(17), None, "not sent yet");
        assert_eq!(stream.trace(10), None, "before the first");
    }
}
