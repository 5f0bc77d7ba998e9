//! When a frame is shown or heard, from RTP timestamps, arrivals and sender reports.
//!
//! A track's time runs with its RTP timestamps from where its first packet arrived. Tracks of one capture are then brought together: sender
//! reports (RFC 3550 §6.4.1) say when each was captured, and pictures follow the sound.

use std::time::{Duration, Instant};

/// A difference between RTP time and arrival beyond which the timestamps are of something else.
const MAX_DRIFT: f64 = 2.0;
/// Furthest that pictures are moved to fit the sound; clocks that differ by more are of different captures.
const MAX_SHIFT: f64 = 2.0;
/// What a picture's time is moved by at most, as a share of the time that has passed, once it is running.
const SLEW: f64 = 0.02;

/// The time of one track, in seconds from the beginning of the output.
#[derive(Debug)]
pub struct TrackTime {
    origin: Instant,
    rate: f64,
    anchor: Option<Anchor>,
    /// Of the last sender report: seconds by the capturing clock, at a timestamp counted without wraps.
    report: Option<(f64, i64)>,
    /// Time of the last frame; what follows is later.
    last: Option<f64>,
    shifted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    /// Newest timestamp, without wraps.
    newest: i64,
    /// `time = timestamp / rate + offset`.
    offset: f64,
}

impl TrackTime {
    /// A track of an output that began at `origin`; `rate` in Hz.
    #[must_use]
    pub fn new(origin: Instant, rate: u32) -> Self {
        Self { origin, rate: f64::from(rate), anchor: None, report: None, last: None, shifted: false }
    }

    /// What comes next has timestamps of another rate, in Hz.
    pub fn set_rate(&mut self, rate: u32) {
        self.restart();
        self.rate = f64::from(rate);
    }

    /// What comes next is another stream.
    pub fn restart(&mut self) {
        self.anchor = None;
        self.report = None;
        self.shifted = false;
    }

    /// The time of the frame with that timestamp, whose last packet came at `now`. Frames come in order; each is later than the one before.
    pub fn stamp(&mut self, now: Instant, timestamp: u32) -> Duration {
        let arrived = now.saturating_duration_since(self.origin).as_secs_f64();
        let extended = self.extend(timestamp);
        let mut anchor = match self.anchor {
            Some(anchor) => {
                let time = extended as f64 / self.rate + anchor.offset;
                if (time - arrived).abs() > MAX_DRIFT {
                    self.report = None;
                    self.shifted = false;
                    Anchor { newest: extended, offset: arrived - extended as f64 / self.rate }
                } else {
                    anchor
                }
            }
            None => Anchor { newest: extended, offset: arrived - extended as f64 / self.rate },
        };
        anchor.newest = extended.max(anchor.newest);
        self.anchor = Some(anchor);
        let time = extended as f64 / self.rate + anchor.offset;
        // A millisecond is the least that containers can tell apart.
        let time = self.last.map_or(time, |last| time.max(last + 0.001)).max(0.0);
        self.last = Some(time);
        Duration::from_secs_f64(time)
    }

    /// A sender report of the track.
    pub fn report(&mut self, ntp: u64, timestamp: u32) {
        if self.anchor.is_some() {
            let seconds = (ntp >> 32) as f64 + (ntp & 0xffff_ffff) as f64 / 4_294_967_296.0;
            self.report = Some((seconds, self.extend(timestamp)));
        }
    }

    /// How much later than captured it is told to be.
    fn delay(&self) -> Option<f64> {
        let (anchor, (captured, timestamp)) = (self.anchor?, self.report?);
        Some(timestamp as f64 / self.rate + anchor.offset - captured)
    }

    /// Moves this track, of pictures, towards the sound that was captured with it. `passed` = since the last call.
    pub fn follow(&mut self, sound: &Self, passed: Duration) {
        let (Some(own), Some(other)) = (self.delay(), sound.delay()) else { return };
        let wanted = other - own;
        if wanted.abs() > MAX_SHIFT {
            return;
        }
        let most = if self.shifted { passed.as_secs_f64() * SLEW } else { MAX_SHIFT };
        self.shifted = true;
        if let Some(anchor) = &mut self.anchor {
            anchor.offset += wanted.clamp(-most, most);
        }
    }

    fn extend(&self, timestamp: u32) -> i64 {
        match self.anchor {
            Some(anchor) => anchor.newest + i64::from(timestamp.wrapping_sub(anchor.newest as u32) as i32),
            None => i64::from(timestamp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 90_000;
    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    fn near(time: Duration, expected: u64) {
        let off = time.as_secs_f64() * 1000.0 - expected as f64;
        assert!(off.abs() < 1.0, "{time:?} is not {expected} ms");
    }
    fn ntp(seconds: f64) -> u64 {
        (seconds * 4_294_967_296.0) as u64
    }

    #[test]
    fn time_runs_with_the_timestamps_not_with_the_arrivals() {
        let origin = Instant::now();
        let mut track = TrackTime::new(origin, RATE);
        let first = u32::MAX - 4499;
        near(track.stamp(origin + ms(100), first), 100);
        near(track.stamp(origin + ms(190), first.wrapping_add(3000)), 133);
        near(track.stamp(origin + ms(200), first.wrapping_add(6000)), 167);
    }

    #[test]
    fn another_stream_goes_on_where_it_arrives_and_never_back() {
        let origin = Instant::now();
        let mut track = TrackTime::new(origin, RATE);
        near(track.stamp(origin + ms(100), 0), 100);
        near(track.stamp(origin + ms(5000), 777_777_777), 5000);
        track.restart();
        near(track.stamp(origin + ms(4900), 5), 5001);
    }

    #[test]
    fn pictures_follow_the_sound_that_was_captured_with_them() {
        let origin = Instant::now();
        let (mut video, mut audio) = (TrackTime::new(origin, RATE), TrackTime::new(origin, 48_000));
        // Captured together at 1000 s; the picture took 80 ms longer to come.
        near(audio.stamp(origin + ms(20), 0), 20);
        near(video.stamp(origin + ms(100), 0), 100);
        audio.report(ntp(1000.0), 0);
        video.report(ntp(1000.0), 0);
        video.follow(&audio, ms(0));
        near(video.stamp(origin + ms(200), 9000), 120);
        // Later they are moved a little at a time: of 100 ms, a fiftieth of the second that has passed.
        video.report(ntp(1000.2), 9000);
        video.follow(&audio, ms(1000));
        near(video.stamp(origin + ms(233), 12_000), 153 + 20);
    }

    #[test]
    fn over_an_hour_they_stay_together_though_the_clocks_that_number_them_do_not() {
        const SOUND: u32 = 48_000;
        // Of a sound card that is fast by 200 millionths, and a camera that is slow by as much: 1.4 s in an hour.
        let (fast, slow) = (1.0002, 0.9998);
        let origin = Instant::now();
        let (mut video, mut audio) = (TrackTime::new(origin, RATE), TrackTime::new(origin, SOUND));
        let timestamp =
            |captured: f64, rate: u32, error: f64| (captured * f64::from(rate) * error) as u64 as u32;
        let (mut most, mut before) = (0.0_f64, Duration::ZERO);
        for second in 0..3600_u32 {
            for frame in 0..25 {
                let captured = f64::from(second) + f64::from(frame) / 25.0;
                let arrives = |ms: f64| origin + Duration::from_secs_f64(captured + ms / 1000.0);
                let (sound, picture) = (timestamp(captured, SOUND, fast), timestamp(captured, RATE, slow));
                let heard = audio.stamp(arrives(20.0), sound);
                let seen = video.stamp(arrives(80.0), picture);
                if second % 5 == 0 && frame == 0 {
                    audio.report(ntp(1000.0 + captured), sound);
                    video.report(ntp(1000.0 + captured), picture);
                }
                video.follow(&audio, seen.saturating_sub(before));
                before = seen;
                if captured > 0.1 {
                    most = most.max((seen.as_secs_f64() - heard.as_secs_f64()).abs());
                }
            }
        }
        assert!(most < 0.005, "{most} s apart");
    }

    #[test]
    fn captures_by_different_clocks_are_left_as_they_came() {
        let origin = Instant::now();
        let (mut video, mut audio) = (TrackTime::new(origin, RATE), TrackTime::new(origin, 48_000));
        near(audio.stamp(origin + ms(20), 0), 20);
        near(video.stamp(origin + ms(100), 0), 100);
        audio.report(ntp(1000.0), 0);
        video.report(ntp(5000.0), 0);
        video.follow(&audio, ms(0));
        near(video.stamp(origin + ms(200), 9000), 200);
    }
}
