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
    /// The sequence number of the newest packet that is no padding.
    newest: Option<u64>,
    /// The last packets by their sequence numbers, where there is redundancy.
    known: Option<Box<[Known; KNOWN as usize]>>,
    first: u64,
    highest: u64,
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
        self.newest = self.newest.max(Some(sequence));
        self.number(sequence)
    }

    /// The last number so far.
    #[must_use]
    pub(super) fn last(&self) -> Option<u64> {
        self.number(self.newest?)
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

    /// There is no sound from `after` to `before`, both exclusive: what is missing there is padding.
    pub(super) fn is_silent_between(&mut self, after: u64, before: u64) {
        let first = after.max(before.saturating_sub(REACH)).saturating_add(1);
        for sequence in first..before {
            if self.newest < Some(sequence) && self.known(sequence).is_none() {
                self.leave_out(sequence);
            }
        }
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
        if self.newest.is_none_or(|newest| sequence < newest) {
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
