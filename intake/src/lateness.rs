//! When what comes was captured, by the clock of whoever captured it.
//!
//! Sender reports (RFC 3550 §6.4.1) say which time an RTP timestamp stands for, and packets when what has that timestamp is here. Both clocks run
//! alike but for some millionths, so a moving mean of what the packets say follows them, and evens out how unevenly packets come.

use std::time::Instant;

/// Weight of the latest packet in the mean: that of some 16 counts, a third of a second of sound and half a second of pictures.
const WEIGHT: f64 = 1.0 / 16.0;
/// A packet that is further from the mean, in seconds, is of another clock: the mean begins anew.
const JUMP: f64 = 0.5;

/// Follows one track.
#[derive(Debug)]
pub struct Lateness {
    /// Of RTP timestamps, in Hz.
    rate: f64,
    /// The last sender report: seconds since 1900, and the timestamp of then.
    report: Option<(f64, u32)>,
    mean: Option<Capture>,
}

/// What came at a time, and when it was captured.
#[derive(Clone, Copy, Debug)]
struct Capture {
    at: Instant,
    /// Seconds since 1900, by the publisher's clock.
    captured: f64,
}

impl Capture {
    fn at(self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.captured + since - self.at.saturating_duration_since(now).as_secs_f64()
    }
}

impl Lateness {
    /// Of a track whose RTP timestamps have that rate, in Hz.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { rate: f64::from(rate), report: None, mean: None }
    }

    /// A sender report came: 32 bits of seconds since 1900 and 32 of fractions, and the RTP timestamp of then.
    pub fn report(&mut self, ntp: u64, rtp: u32) {
        self.report = Some(((ntp >> 32) as f64 + (ntp & 0xffff_ffff) as f64 / 4_294_967_296.0, rtp));
    }

    /// A packet with that timestamp came at `now`: when what comes now was captured, in seconds since 1900; `None` before the first report.
    pub fn packet(&mut self, timestamp: u32, now: Instant) -> Option<f64> {
        let (reported, rtp) = self.report?;
        let captured = reported + f64::from(timestamp.wrapping_sub(rtp) as i32) / self.rate;
        let expected = self.mean.map(|mean| mean.at(now)).filter(|mean| (captured - mean).abs() < JUMP);
        let captured = expected.map_or(captured, |expected| expected + (captured - expected) * WEIGHT);
        self.mean = Some(Capture { at: now, captured });
        Some(captured)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: u32 = 90_000;
    const NTP: u64 = 4_000_000_000 << 32;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    /// Milliseconds after the first report.
    fn told(captured: Option<f64>) -> f64 {
        (captured.unwrap() - 4_000_000_000.0) * 1000.0
    }

    #[test]
    fn nothing_is_known_before_a_report() {
        assert_eq!(Lateness::new(RATE).packet(7, Instant::now()), None);
    }

    #[test]
    fn what_comes_was_captured_when_the_report_says() {
        let (mut track, now) = (Lateness::new(RATE), Instant::now());
        track.report(NTP, u32::MAX - 44);
        // 90 units, a millisecond, later by its clock; here it may be any time.
        assert!((told(track.packet(45, now + ms(80))) - 1.0).abs() < 0.01);
        track.report(NTP + (5 << 32), (5 * RATE).wrapping_sub(45));
        let captured = track.packet((5 * RATE).wrapping_sub(45), now + ms(5079));
        assert!((told(captured) - 5000.0).abs() < 0.1, "{captured:?}");
    }

    #[test]
    fn packets_that_come_unevenly_are_evened_out() {
        let (mut track, start) = (Lateness::new(RATE), Instant::now());
        track.report(NTP, 0);
        for picture in 0..1000_u32 {
            let (captured, jitter) = (u64::from(picture) * 40, u64::from(picture % 5) * 10);
            let told = told(track.packet(picture * 3600, start + ms(captured + 100 + jitter)));
            if picture > 50 {
                // What comes now was captured 120 ms before, on the mean.
                let late = (captured + 100 + jitter) as f64 - told;
                assert!((late - 120.0).abs() < 5.0, "{late} at {picture}");
            }
        }
    }

    #[test]
    fn another_clock_counts_at_once() {
        let (mut track, now) = (Lateness::new(RATE), Instant::now());
        track.report(NTP, 0);
        assert!(told(track.packet(0, now)).abs() < 0.01);
        track.report(NTP + (100 << 32), 0);
        assert!((told(track.packet(0, now)) - 100_000.0).abs() < 0.01);
    }
}
