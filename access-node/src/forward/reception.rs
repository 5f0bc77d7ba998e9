//! What is known of one received RTP source: order, losses, jitter (RFC 3550 §6.4.1, appendix A).

use std::time::Instant;

use rtc_rtcp::reception_report::ReceptionReport;

use super::sequence::{Unwrapper, nearest};

/// How far back duplicates are known, in packets. Older packets are dropped: no subscriber waits for them any more.
const WINDOW: u64 = 1024;
const WORDS: usize = WINDOW as usize / 64;

/// What a packet is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Not seen before. `gap` packets directly before it have not arrived (yet).
    New {
        /// Extended sequence number.
        sequence: u64,
        /// How many between it and the highest before it; 0 for one that fills a gap.
        gap: u64,
    },
    /// It was late only, and has been made good meanwhile.
    MadeGood,
    /// Seen before, or too old to tell.
    Stale,
}

/// Reception of one source.
#[derive(Debug)]
pub struct Reception {
    clock_rate: u32,
    unwrapper: Unwrapper,
    seen: [u64; WORDS],
    /// Those among them that the way has brought.
    came: [u64; WORDS],
    base: u64,
    /// The number that would tell that the source counts anew (RFC 3550 appendix A.1).
    anew_at: Option<u16>,
    /// Without those that were sent again, which are of a stream of their own (RFC 4588 §4): what the way loses is lost, even if it is
    /// made up for.
    received: u64,
    reported: (u64, u64),
    fraction_lost: u8,
    /// In timestamp units, times 16.
    jitter: u32,
    transit: Option<u32>,
    last_timestamp: Option<u32>,
    epoch: Instant,
    sender_report: Option<(u32, Instant)>,
}

impl Reception {
    /// Nothing received yet of a source with that clock rate (Hz).
    #[must_use]
    pub fn new(now: Instant, clock_rate: u32) -> Self {
        Self {
            clock_rate,
            unwrapper: Unwrapper::default(),
            seen: [0; WORDS],
            came: [0; WORDS],
            base: 0,
            anew_at: None,
            received: 0,
            reported: (0, 0),
            fraction_lost: 0,
            jitter: 0,
            transit: None,
            last_timestamp: None,
            epoch: now,
            sender_report: None,
        }
    }

    /// Highest extended sequence number so far.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.unwrapper.highest()
    }

    /// Packets that the way has lost: cumulative (RFC 3550 §6.4.1).
    #[must_use]
    pub fn lost(&self) -> u64 {
        let expected = self.unwrapper.highest().map_or(0, |highest| highest - self.base + 1);
        expected.saturating_sub(self.received)
    }

    /// The share that was lost in the interval of the last [`Self::report`].
    #[must_use]
    pub fn fraction_lost(&self) -> f64 {
        f64::from(self.fraction_lost) / 256.0
    }

    /// Interarrival jitter in timestamp units.
    #[must_use]
    pub fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    /// Whether a packet is missing, and not too old for anybody to wait for it.
    #[must_use]
    pub fn lacks(&self, sequence: u64) -> bool {
        let Some(highest) = self.unwrapper.highest() else { return false };
        sequence > highest
            || (sequence > self.base && highest - sequence < WINDOW && !is_set(&self.seen, sequence))
    }

    /// A packet arrived. One that was retransmitted, or made of others, says nothing about jitter and losses.
    pub fn receive(&mut self, now: Instant, sequence: u16, timestamp: u32, made_good: bool) -> Arrival {
        let before = self.unwrapper.highest();
        let sequence = match self.counts_anew(sequence, made_good) {
            true => self.unwrapper.unwrap_anew(sequence),
            false => self.unwrapper.unwrap(sequence),
        };
        let gap = match before {
            None => {
                self.base = sequence;
                0
            }
            Some(before) if sequence > before => {
                let advance = sequence - before;
                if advance >= WINDOW {
                    (self.seen, self.came) = ([0; WORDS], [0; WORDS]);
                    // It counts anew, or was away for longer than anybody waits: nothing that the way loses.
                    self.base += advance - 1;
                } else {
                    for cleared in before + 1..=sequence {
                        set(&mut self.seen, cleared, false);
                        set(&mut self.came, cleared, false);
                    }
                }
                advance - 1
            }
            Some(before) if before - sequence >= WINDOW => return Arrival::Stale,
            Some(_) if is_set(&self.seen, sequence) => {
                if made_good || is_set(&self.came, sequence) {
                    return Arrival::Stale;
                }
                set(&mut self.came, sequence, true);
                self.received += 1;
                return Arrival::MadeGood;
            }
            Some(_) => 0,
        };
        set(&mut self.seen, sequence, true);
        self.base = self.base.min(sequence);
        if !made_good {
            set(&mut self.came, sequence, true);
            self.received += 1;
            self.measure_jitter(now, timestamp);
        }
        Arrival::New { sequence, gap }
    }

    /// Whether a packet that seems older than anybody waits for is one of a source that counts anew: two that follow each other are.
    fn counts_anew(&mut self, sequence: u16, made_good: bool) -> bool {
        let Some(highest) = self.unwrapper.highest().filter(|_| !made_good) else { return false };
        let behind = highest.saturating_sub(nearest(highest, sequence));
        if behind < WINDOW {
            self.anew_at = None;
            return false;
        }
        self.anew_at.replace(sequence.wrapping_add(1)) == Some(sequence)
    }

    /// The source's sender report arrived with that NTP time.
    pub fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.sender_report = Some(((ntp >> 16) as u32, now));
    }

    /// The report block on this source; resets what counts since the last one. `None` before the first packet.
    pub fn report(&mut self, now: Instant, ssrc: u32) -> Option<ReceptionReport> {
        let highest = self.unwrapper.highest()?;
        let expected = highest - self.base + 1;
        let (expected_before, received_before) = self.reported;
        self.reported = (expected, self.received);
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now.saturating_sub(self.received - received_before);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0);
        self.fraction_lost = u8::try_from(fraction).unwrap_or(u8::MAX);
        let lost = self.lost().min(0x7f_ffff);
        let (last_sender_report, delay) = self.sender_report.map_or((0, 0), |(ntp, at)| {
            let delay = now.saturating_duration_since(at).as_secs_f64() * 65_536.0;
            (ntp, delay as u32)
        });
        Some(ReceptionReport {
            ssrc,
            fraction_lost: self.fraction_lost,
            total_lost: lost as u32,
            // The first number was extended by 2^16, so that cycles count from 0 again here.
            last_sequence_number: (highest - (1 << 16)) as u32,
            jitter: self.jitter(),
            last_sender_report,
            delay,
        })
    }

    fn measure_jitter(&mut self, now: Instant, timestamp: u32) {
        // What has the timestamp of the packet before it, as padding and the rest of a frame, is sent at any time: browsers don't count it, either.
        if self.last_timestamp.replace(timestamp) == Some(timestamp) {
            return;
        }
        let elapsed = now.saturating_duration_since(self.epoch).as_micros();
        let arrival = (elapsed * u128::from(self.clock_rate) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(last) = self.transit {
            let difference = (transit.wrapping_sub(last) as i32).unsigned_abs().min(self.clock_rate);
            self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
        }
        self.transit = Some(transit);
    }
}

fn is_set(window: &[u64; WORDS], sequence: u64) -> bool {
    let at = (sequence % WINDOW) as usize;
    window[at / 64] & 1 << (at % 64) != 0
}

fn set(window: &mut [u64; WORDS], sequence: u64, value: bool) {
    let at = (sequence % WINDOW) as usize;
    if value {
        window[at / 64] |= 1 << (at % 64);
    } else {
        window[at / 64] &= !(1 << (at % 64));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn new(arrival: Arrival) -> u64 {
        match arrival {
            Arrival::New { gap, .. } => gap,
            Arrival::MadeGood | Arrival::Stale => panic!("not new"),
        }
    }

    #[test]
    fn gaps_late_packets_and_duplicates_are_told_apart() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 90_000);
        assert_eq!(new(reception.receive(now, 65_535, 0, false)), 0);
        assert_eq!(new(reception.receive(now, 2, 0, false)), 2);
        assert_eq!(new(reception.receive(now, 0, 0, false)), 0);
        assert_eq!(reception.receive(now, 0, 0, false), Arrival::Stale);
        assert_eq!(reception.receive(now, 2, 0, false), Arrival::Stale);
        assert_eq!(new(reception.receive(now, 1026, 0, false)), 1023);
        assert_eq!(reception.receive(now, 1, 0, false), Arrival::Stale, "too old to tell");
        assert_eq!(new(reception.receive(now, 3, 0, false)), 0);
    }

    #[test]
    fn the_report_counts_losses_since_the_last_one() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 90_000);
        assert!(reception.report(now, 1).is_none());
        for sequence in (10..110).filter(|s| s % 4 != 3) {
            reception.receive(now, sequence, 0, false);
        }
        let report = reception.report(now, 1).unwrap();
        assert_eq!((report.total_lost, report.fraction_lost, report.last_sequence_number), (25, 64, 109));
        for sequence in 110..120 {
            reception.receive(now, sequence, 0, false);
        }
        let report = reception.report(now, 1).unwrap();
        assert_eq!((report.total_lost, report.fraction_lost), (25, 0));
    }

    #[test]
    fn a_source_that_counts_anew_has_lost_nothing() {
        let now = Instant::now();
        for jump in [-20_000_i32, -1_100, 1_100, 20_000] {
            let mut reception = Reception::new(now, 48_000);
            for sequence in 30_000..30_100 {
                reception.receive(now, sequence, 0, false);
            }
            let first = (30_099 + jump) as u16;
            let taken = (first..first + 100)
                .filter(|sequence| reception.receive(now, *sequence, 0, false) != Arrival::Stale)
                .count();
            assert!(taken >= 99, "{jump}: {taken} are taken");
            assert_eq!(reception.lost(), 0, "{jump}");
            reception.receive(now, first + 101, 0, false);
            assert_eq!(reception.report(now, 1).unwrap().total_lost, 1, "{jump}");
        }
    }

    #[test]
    fn one_old_packet_or_many_that_are_sent_again_do_not_make_a_source_count_anew() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 90_000);
        for sequence in 0..5_000 {
            reception.receive(now, sequence, 0, false);
        }
        assert_eq!(reception.receive(now, 100, 0, false), Arrival::Stale);
        assert_eq!(reception.receive(now, 300, 0, false), Arrival::Stale);
        for sequence in 301..400 {
            assert_eq!(reception.receive(now, sequence, 0, true), Arrival::Stale);
        }
        assert_eq!(new(reception.receive(now, 5_000, 0, false)), 0);
        assert_eq!(reception.lost(), 0);
    }

    #[test]
    fn what_is_sent_again_was_lost_all_the_same() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 90_000);
        for sequence in (0..100).filter(|s| s % 10 != 5) {
            reception.receive(now, sequence, 0, false);
        }
        for sequence in (0..100).filter(|s| s % 10 == 5) {
            assert_eq!(new(reception.receive(now, sequence, 0, true)), 0);
        }
        let report = reception.report(now, 1).unwrap();
        assert_eq!((report.total_lost, report.fraction_lost), (10, 25));
        assert_eq!(reception.lost(), 10);
        assert!((reception.fraction_lost() - 0.1).abs() < 0.01);
    }

    #[test]
    fn what_is_made_good_and_comes_after_all_is_not_lost() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 90_000);
        for sequence in [10, 12] {
            reception.receive(now, sequence, 0, false);
        }
        assert_eq!(new(reception.receive(now, 11, 0, true)), 0);
        assert_eq!(reception.lost(), 1);
        assert_eq!(reception.receive(now, 11, 0, true), Arrival::Stale);
        assert_eq!(reception.receive(now, 11, 0, false), Arrival::MadeGood);
        assert_eq!(reception.receive(now, 11, 0, false), Arrival::Stale);
        assert_eq!(reception.lost(), 0);
    }

    #[test]
    fn jitter_is_that_of_arrival_against_timestamps() {
        let start = Instant::now();
        let mut reception = Reception::new(start, 90_000);
        for i in 0..200u16 {
            let late = if i % 2 == 0 { 0 } else { 10 };
            let now = start + Duration::from_millis(u64::from(i) * 20 + late);
            reception.receive(now, i, u32::from(i) * 1800, false);
        }
        let jitter = reception.report(start, 1).unwrap().jitter;
        assert!((850..950).contains(&jitter), "10 ms are 900 units: {jitter}");
    }
}
