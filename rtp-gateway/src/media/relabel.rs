//! A device's RTP under one SSRC: what follows sees one unbroken stream even where the device begins anew.

use std::time::{Duration, Instant};

/// A jump by more than this is a device that began anew under the same SSRC (RFC 3550 A.1).
const MAX_DROPOUT: u16 = 3_000;
/// Packets that may come late by this much are late, and not a new beginning.
const MAX_MISORDER: u16 = 100;

/// What of a packet's header counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
}

/// The stream so far.
#[derive(Debug)]
struct Source {
    ssrc: u32,
    highest: u16,
    /// What is added to the device's.
    sequence: u16,
    timestamp: u32,
    last_timestamp: u32,
    last_arrival: Instant,
}

/// Gives packets numbers that go on. The first source keeps its own, so that what others say of them needs no translation.
#[derive(Debug)]
pub(crate) struct Relabel {
    clock_rate: u32,
    source: Option<Source>,
    received: u64,
    lost: u64,
}

impl Relabel {
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self { clock_rate, source: None, received: 0, lost: 0 }
    }

    /// The sequence number and timestamp under which a packet goes on.
    pub(crate) fn next(&mut self, packet: Arrival, now: Instant) -> (u16, u32) {
        self.received += 1;
        let known = self.source.as_mut().filter(|source| source.ssrc == packet.ssrc);
        if let Some(source) = known {
            let ahead = packet.sequence.wrapping_sub(source.highest);
            let behind = source.highest.wrapping_sub(packet.sequence);
            if ahead < MAX_DROPOUT || behind < MAX_MISORDER {
                if ahead > 0 && ahead < MAX_DROPOUT {
                    self.lost += u64::from(ahead - 1);
                    source.highest = packet.sequence;
                    source.last_timestamp = packet.timestamp;
                    source.last_arrival = now;
                } else if behind > 0 {
                    // It was counted as lost when the one behind it came.
                    self.lost = self.lost.saturating_sub(1);
                }
                return source.relabelled(packet);
            }
        }
        let (sequence, timestamp) = match &self.source {
            None => (0, 0),
            Some(before) => {
                let pause = now.saturating_duration_since(before.last_arrival).max(Duration::from_millis(1));
                let ticks = pause.as_secs_f64() * f64::from(self.clock_rate);
                let next = before.highest.wrapping_add(before.sequence).wrapping_add(1);
                let then = before.last_timestamp.wrapping_add(before.timestamp);
                // Of a pause of hours only the rest counts, as in any timestamp.
                let then = then.wrapping_add((ticks as u64 & u64::from(u32::MAX)) as u32);
                (next.wrapping_sub(packet.sequence), then.wrapping_sub(packet.timestamp))
            }
        };
        let source = Source {
            ssrc: packet.ssrc,
            highest: packet.sequence,
            sequence,
            timestamp,
            last_timestamp: packet.timestamp,
            last_arrival: now,
        };
        let relabelled = source.relabelled(packet);
        self.source = Some(source);
        relabelled
    }

    /// The device's own SSRC, as it was last.
    pub(crate) fn source(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.ssrc)
    }

    /// Packets that never came.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

impl Source {
    fn relabelled(&self, packet: Arrival) -> (u16, u32) {
        (packet.sequence.wrapping_add(self.sequence), packet.timestamp.wrapping_add(self.timestamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(ssrc: u32, sequence: u16, timestamp: u32) -> Arrival {
        Arrival { ssrc, sequence, timestamp }
    }

    #[test]
    fn the_first_source_keeps_its_numbers_over_their_end() {
        let (mut relabel, now) = (Relabel::new(90_000), Instant::now());
        assert_eq!(relabel.next(arrival(1, 65_535, u32::MAX), now), (65_535, u32::MAX));
        assert_eq!(relabel.next(arrival(1, 0, 2999), now), (0, 2999));
        assert_eq!(relabel.lost(), 0);
    }

    #[test]
    fn gaps_are_losses_until_the_late_ones_come() {
        let (mut relabel, now) = (Relabel::new(90_000), Instant::now());
        relabel.next(arrival(1, 10, 0), now);
        assert_eq!(relabel.next(arrival(1, 14, 0), now), (14, 0));
        assert_eq!(relabel.lost(), 3);
        assert_eq!(relabel.next(arrival(1, 12, 0), now), (12, 0));
        assert_eq!(relabel.lost(), 2);
    }

    #[test]
    fn another_source_goes_on_where_the_last_one_was() {
        let (mut relabel, now) = (Relabel::new(90_000), Instant::now());
        relabel.next(arrival(1, 100, 1000), now);
        let later = now + Duration::from_secs(2);
        assert_eq!(relabel.next(arrival(2, 7, 555), later), (101, 181_000));
        assert_eq!(relabel.source(), Some(2));
        assert_eq!(relabel.next(arrival(2, 8, 3555), later), (102, 184_000));
        assert_eq!(relabel.lost(), 0);
    }

    #[test]
    fn a_device_that_begins_anew_under_its_ssrc_goes_on_too() {
        let (mut relabel, now) = (Relabel::new(8_000), Instant::now());
        relabel.next(arrival(1, 100, 1000), now);
        assert_eq!(relabel.next(arrival(1, 30_000, 5), now + Duration::from_secs(1)), (101, 9000));
        assert_eq!(relabel.lost(), 0);
    }
}
