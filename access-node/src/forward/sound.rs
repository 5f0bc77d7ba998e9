//! The numbering of a publisher's sound. Browsers probe their way by packets of nothing but padding, which take numbers among those of the
//! sound (RFC 3550 §5.1) and the timestamp of the packet before them. Nobody else is to know of them: what comes out of here is numbered
//! without them, and what was lost of the sound leaves its gap.
//!
//! Redundancy names packets by their timestamps alone (RFC 2198 §3). Which number one had that is lost is found here, too.

use std::collections::VecDeque;

/// Packets that are known by their numbers: a second of sound with some padding.
const KNOWN: u64 = 64;
/// How far from the packet that carries it a lost one is looked for, in numbers. A block reaches back a third of a second.
const REACH: u64 = 48;
/// Runs of padding that are remembered. What comes from before them is too late.
const MAX_RUNS: usize = 64;

/// A packet that is there.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    sequence: u64,
    timestamp: u32,
    is_padding: bool,
}

/// Numbers that no sound has.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    end: u64,
    /// Such numbers before it.
    before: u64,
}

/// What became of a packet of sound with some timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is there.
    There(u64),
    /// It is missing; it had that number or one below it of padding that is missing, too.
    Missing(u64),
    /// There is no number that it can have had.
    Nowhere,
}

/// The numbering of one source. All sequence numbers are extended ones; those of the sound alone are called its numbers.
#[derive(Debug, Default)]
pub(super) struct Sound {
    runs: VecDeque<Run>,
    /// Nothing is known of what came before.
    floor: u64,
    /// Sequence number and timestamp of the newest packet that is no padding.
    newest: Option<(u64, u32)>,
    /// The last packets by their sequence numbers, where there is redundancy.
    known: Option<Box<[Known; KNOWN as usize]>>,
    first: u64,
    highest: u64,
    /// The least between two packets of sound that follow each other, in units of the timestamp.
    step: Option<u32>,
}

impl Sound {
    /// A packet is there for the first time. Its number; `None` if it is not to be heard: it is padding, or has been heard under another
    /// number, or is too late. `has_copies`: there may be others that carry it.
    pub(super) fn arrived(
        &mut self,
        sequence: u64,
        timestamp: u32,
        is_padding: bool,
        has_copies: bool,
    ) -> Option<u64> {
        let is_first = self.newest.is_none();
        let is_late = !is_first && sequence < self.highest;
        let is_double = is_late && !is_padding && self.is_there(sequence, timestamp);
        if is_first {
            (self.first, self.highest) = (sequence, sequence);
        }
        self.highest = self.highest.max(sequence);
        if has_copies {
            let known = self.known.get_or_insert_with(|| Box::new([Known::default(); KNOWN as usize]));
            known[(sequence % KNOWN) as usize] = Known { sequence, timestamp, is_padding };
        }
        if is_padding {
            self.leave_out(sequence);
            return None;
        }
        if is_double {
            return None;
        }
        if let Some(newest) = self.newest.filter(|(newest, _)| *newest < sequence) {
            self.follows(newest, sequence, timestamp);
        }
        if self.newest.is_none_or(|(newest, _)| newest < sequence) {
            self.newest = Some((sequence, timestamp));
        }
        self.number(sequence)
    }

    /// The last number so far.
    #[must_use]
    pub(super) fn last(&self) -> Option<u64> {
        self.number(self.newest?.0)
    }

    /// Which sequence number a packet of sound had that `carrier` carries, and of which it is known that it was before `before`.
    #[must_use]
    pub(super) fn place(&self, carrier: u64, before: u64, timestamp: u32) -> Place {
        if self.newest.is_none() {
            return Place::Nowhere;
        }
        // If the carrier is late, what it carries may have been found under a later number.
        let later = (carrier + 1..=self.highest.min(carrier.saturating_add(REACH)))
            .find(|sequence| self.is_sound(*sequence, timestamp));
        if let Some(sequence) = later {
            return Place::There(sequence);
        }
        let mut missing = None;
        for sequence in (before.saturating_sub(REACH).max(self.first)..before).rev() {
            match self.known(sequence) {
                Some(known) if known.timestamp == timestamp && !known.is_padding => {
                    return Place::There(sequence);
                }
                Some(known) if is_after(timestamp, known.timestamp) => break,
                // Padding comes after the sound whose timestamp it has.
                Some(_) => missing = None,
                None if self.lacks(sequence) => missing = missing.or(Some(sequence)),
                None => break,
            }
        }
        missing.map_or(Place::Nowhere, Place::Missing)
    }

    /// The number of a packet of sound; `None` of what is left out, or too long ago.
    fn number(&self, sequence: u64) -> Option<u64> {
        if sequence < self.floor {
            return None;
        }
        match self.runs.iter().rev().find(|run| run.start <= sequence) {
            Some(run) if sequence < run.end => None,
            Some(run) => Some(sequence - run.before - (run.end - run.start)),
            None => Some(sequence - self.runs.front().map_or(0, |run| run.before)),
        }
    }

    /// No sound has that number. Those that come after it must not have been asked for yet.
    fn leave_out(&mut self, sequence: u64) {
        if self.newest.is_none_or(|(newest, _)| sequence < newest) {
            return;
        }
        let at = self.runs.iter().rposition(|run| run.start <= sequence).map_or(0, |at| at + 1);
        let earlier = at.checked_sub(1).and_then(|at| self.runs.get_mut(at));
        match earlier {
            Some(run) if sequence < run.end => return,
            Some(run) if sequence == run.end => run.end += 1,
            earlier => {
                let before = match earlier {
                    Some(run) => run.before + (run.end - run.start),
                    None => self.runs.front().map_or(0, |run| run.before),
                };
                self.runs.insert(at, Run { start: sequence, end: sequence + 1, before });
            }
        }
        for run in self.runs.iter_mut().filter(|run| run.start > sequence) {
            run.before += 1;
        }
        if self.runs.len() > MAX_RUNS
            && let Some(run) = self.runs.pop_front()
        {
            self.floor = run.end;
        }
    }

    /// A packet of sound comes after all others. If no sound lasts less than from the one before it, what is missing between them is padding.
    fn follows(&mut self, (before, earlier): (u64, u32), sequence: u64, timestamp: u32) {
        if !is_after(timestamp, earlier) {
            return;
        }
        let step = timestamp.wrapping_sub(earlier);
        if sequence == before + 1 {
            self.step = Some(self.step.map_or(step, |least| least.min(step)));
        } else if sequence - before <= REACH && self.step.is_some_and(|least| step <= least) {
            (before + 1..sequence).for_each(|missing| self.leave_out(missing));
        }
    }

    fn known(&self, sequence: u64) -> Option<Known> {
        let known = self.known.as_ref()?.get((sequence % KNOWN) as usize)?;
        (known.sequence == sequence).then_some(*known)
    }

    fn is_sound(&self, sequence: u64, timestamp: u32) -> bool {
        self.known(sequence).is_some_and(|known| known.timestamp == timestamp && !known.is_padding)
    }

    /// Whether a packet with that timestamp is there, of about that sequence number.
    fn is_there(&self, sequence: u64, timestamp: u32) -> bool {
        self.known.is_some()
            && (sequence.saturating_sub(REACH)..=sequence + REACH)
                .any(|other| self.is_sound(other, timestamp))
    }

    /// Whether a packet that is not known is missing, and not merely forgotten.
    fn lacks(&self, sequence: u64) -> bool {
        sequence > self.first && self.highest < sequence.saturating_add(KNOWN)
    }
}

fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u32 = 960;

    /// Sounds are what their timestamps say, in steps; padding has that of the sound before it.
    fn arrive(sound: &mut Sound, packets: &[(u64, u32, bool)]) -> Vec<Option<u64>> {
        let numbers = packets
            .iter()
            .map(|(sequence, steps, is_padding)| sound.arrived(*sequence, STEP * steps, *is_padding, true));
        numbers.collect()
    }

    #[test]
    fn padding_takes_no_number_and_what_is_missing_leaves_its_place() {
        let mut sound = Sound::default();
        let packets = [
            (100, 0, false),
            (101, 0, true),
            (102, 1, false),
            (105, 2, true),
            (106, 3, false),
            (104, 2, false),
        ];
        let numbers = arrive(&mut sound, &packets);
        assert_eq!(numbers, [Some(100), None, Some(101), None, Some(104), Some(103)]);
        assert_eq!(sound.last(), Some(104));
        assert_eq!(arrive(&mut sound, &[(101, 0, false)]), [None], "a number that was padding's");
    }

    #[test]
    fn a_lost_packet_is_found_between_those_that_its_timestamp_lies_between() {
        let mut sound = Sound::default();
        // 103 to 105 are missing: a sound, and padding before or after it.
        arrive(&mut sound, &[(100, 0, false), (101, 1, false), (102, 1, true)]);
        assert_eq!(sound.place(106, 106, 2 * STEP), Place::Missing(105));
        assert_eq!(sound.place(106, 106, STEP), Place::There(101));
        assert_eq!(sound.place(103, 103, 2 * STEP), Place::Nowhere);
        // Padding that follows it has its timestamp.
        arrive(&mut sound, &[(104, 2, true)]);
        assert_eq!(sound.place(106, 106, 2 * STEP), Place::Missing(103));
        assert_eq!(arrive(&mut sound, &[(103, 2, false)]), [Some(102)]);
        assert_eq!(arrive(&mut sound, &[(106, 3, false)]), [Some(103)], "105 was padding");
    }

    #[test]
    fn what_was_found_under_another_number_is_not_heard_again() {
        let mut sound = Sound::default();
        arrive(&mut sound, &[(100, 0, false), (101, 1, false), (104, 3, false)]);
        assert_eq!(sound.place(104, 104, 2 * STEP), Place::Missing(103));
        assert_eq!(arrive(&mut sound, &[(103, 2, false), (102, 2, false)]), [Some(103), None]);
        assert_eq!(sound.place(102, 102, 2 * STEP), Place::There(103));
    }

    #[test]
    fn padding_is_remembered_for_a_while_only() {
        let mut sound = Sound::default();
        for number in 0..10_000u64 {
            let sequence = 100 + 2 * number;
            let numbers =
                arrive(&mut sound, &[(sequence, number as u32, false), (sequence + 1, number as u32, true)]);
            assert_eq!(numbers, [Some(100 + number), None]);
        }
        assert_eq!(sound.runs.len(), MAX_RUNS);
        assert_eq!(arrive(&mut sound, &[(101, 0, false)]), [None], "too late");
    }
}
