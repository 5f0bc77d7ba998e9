//! How much of a track has come by: sums, and rates of about the last two seconds ([`Tally`]).

use std::time::{Duration, Instant};

use kaigi_proto::v1;

/// Rates are summed up in slots of that length.
const SLOT: Duration = Duration::from_millis(250);
/// Two seconds, and the slot that is being filled.
const SLOTS: usize = 9;
/// Pictures whose packets may come in any order among each other and are counted once all the same.
const RECENT: usize = 8;

/// What a track carries at present.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// bit/s.
    pub bitrate: u64,
    /// Pictures a second.
    pub frame_rate: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    bytes: u32,
    frames: u32,
}

/// Sums of the last slots. Takes the same memory whatever comes.
#[derive(Clone, Debug, Default)]
struct Meter {
    slots: [Slot; SLOTS],
    current: usize,
    /// End of the current slot; none before the first packet.
    until: Option<Instant>,
    /// First packet after nothing.
    since: Option<Instant>,
}

impl Meter {
    fn add(&mut self, now: Instant, bytes: u32, frames: u32) {
        if self.until.is_none_or(|until| now >= until) {
            self.roll(now);
        }
        let slot = &mut self.slots[self.current];
        slot.bytes = slot.bytes.saturating_add(bytes);
        slot.frames = slot.frames.saturating_add(frames);
    }

    #[cold]
    fn roll(&mut self, now: Instant) {
        let (slots, until) = match (self.elapsed(now), self.until) {
            (Some(slots), Some(until)) if slots < SLOTS => (slots, until),
            _ => {
                *self = Self { until: Some(now + SLOT), since: Some(now), ..Self::default() };
                return;
            }
        };
        for _ in 0..slots {
            self.current = (self.current + 1) % SLOTS;
            self.slots[self.current] = Slot::default();
        }
        self.until = Some(until + SLOT * slots as u32);
    }

    /// How many slots have begun since the current one, at most so many as there are.
    fn elapsed(&self, now: Instant) -> Option<usize> {
        let Some(over) = now.checked_duration_since(self.until?) else { return Some(0) };
        let slots = over.as_nanos() / SLOT.as_nanos() + 1;
        Some(usize::try_from(slots).unwrap_or(SLOTS).min(SLOTS))
    }

    fn rates(&self, now: Instant) -> Option<Rates> {
        let (elapsed, until, since) = (self.elapsed(now)?, self.until?, self.since?);
        let kept = SLOTS - elapsed;
        if kept == 0 {
            return None;
        }
        let sums = (0..kept).map(|back| self.slots[(self.current + SLOTS - back) % SLOTS]);
        let (bytes, frames) = sums.fold((0u64, 0u64), |(bytes, frames), slot| {
            (bytes + u64::from(slot.bytes), frames + u64::from(slot.frames))
        });
        let begin = until.checked_sub(SLOT * kept as u32).map_or(since, |oldest| oldest.max(since));
        // The first packet says nothing of a rate.
        let seconds = now.saturating_duration_since(begin).max(SLOT).as_secs_f64();
        Some(Rates { bitrate: (bytes as f64 * 8.0 / seconds) as u64, frame_rate: frames as f64 / seconds })
    }
}

/// What has come by of one track.
#[derive(Clone, Debug)]
pub struct Tally {
    /// RTP packets, those sent again among them.
    pub packets: u64,
    /// Their bytes, headers among them.
    pub bytes: u64,
    /// Pictures; none of sound.
    pub frames: u64,
    /// Those that a decoder can begin with.
    pub key_frames: u64,
    video: bool,
    newest: Option<u32>,
    recent: [u32; RECENT],
    key_frame: Option<u32>,
    meter: Meter,
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new(kind: v1::MediaKind) -> Self {
        Self {
            packets: 0,
            bytes: 0,
            frames: 0,
            key_frames: 0,
            video: kind == v1::MediaKind::Video,
            newest: None,
            recent: [0; RECENT],
            key_frame: None,
            meter: Meter::default(),
        }
    }

    /// A packet of so many bytes with that RTP timestamp came by; `key_frame`: a key frame begins with it, or parts of its head are in it.
    #[inline]
    pub fn packet(&mut self, now: Instant, bytes: usize, timestamp: u32, key_frame: bool) {
        let new = self.video && self.newest != Some(timestamp) && self.is_new(timestamp);
        if key_frame && self.video && self.key_frame != Some(timestamp) {
            self.key_frame = Some(timestamp);
            self.key_frames += 1;
        }
        self.frames += u64::from(new);
        self.add(now, bytes, new.into());
    }

    /// A packet that did not come by was made of others.
    pub fn recovered(&mut self, now: Instant, timestamp: u32, key_frame: bool) {
        let (packets, bytes) = (self.packets, self.bytes);
        self.packet(now, 0, timestamp, key_frame);
        (self.packets, self.bytes) = (packets, bytes);
    }

    /// A packet that came by before did so again.
    pub fn again(&mut self, now: Instant, bytes: usize) {
        self.add(now, bytes, 0);
    }

    fn add(&mut self, now: Instant, bytes: usize, frames: u32) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.meter.add(now, u32::try_from(bytes).unwrap_or(u32::MAX), frames);
    }

    /// Whether it is the first packet of a picture. Of one that is older than all that are remembered it is not known, so it is not counted.
    fn is_new(&mut self, timestamp: u32) -> bool {
        let Some(newest) = self.newest else {
            self.recent = [timestamp; RECENT];
            self.newest = Some(timestamp);
            return true;
        };
        let ahead = |of: u32, before: u32| of.wrapping_sub(before) as i32;
        let place = if ahead(timestamp, newest) > 0 {
            self.newest = Some(timestamp);
            self.oldest()
        } else {
            let oldest = self.oldest();
            if ahead(timestamp, self.recent[oldest]) < 0 || self.recent.contains(&timestamp) {
                return false;
            }
            oldest
        };
        self.recent[place] = timestamp;
        true
    }

    fn oldest(&self) -> usize {
        let newest = self.newest.unwrap_or_default();
        (0..RECENT).max_by_key(|at| newest.wrapping_sub(self.recent[*at])).unwrap_or_default()
    }

    /// What it carries at present.
    #[must_use]
    pub fn rates(&self, now: Instant) -> Rates {
        self.meter.rates(now).unwrap_or_default()
    }

    /// Whether anything came by in the last two seconds.
    #[must_use]
    pub fn is_flowing(&self, now: Instant) -> bool {
        self.meter.rates(now).is_some()
    }

    /// As it is told: sums, rates and whether it flows; the rest is empty.
    #[must_use]
    pub fn to_message(&self, now: Instant) -> v1::TrackStats {
        let rates = self.meter.rates(now);
        let Rates { bitrate, frame_rate } = rates.unwrap_or_default();
        let kind = if self.video { v1::MediaKind::Video } else { v1::MediaKind::Audio };
        v1::TrackStats {
            kind: kind.into(),
            packets: self.packets,
            bytes: self.bytes,
            frames: self.frames,
            key_frames: self.key_frames,
            bitrate,
            frame_rate,
            flowing: rates.is_some(),
            ..v1::TrackStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video() -> Tally {
        Tally::new(v1::MediaKind::Video)
    }
    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn rates_are_of_the_last_two_seconds() {
        let (mut tally, start) = (video(), Instant::now());
        // 25 pictures a second of two packets of 500 bytes: 200 kbit/s; then of 1,000 bytes.
        for frame in 0..500u32 {
            let now = start + ms(40) * frame;
            let bytes = if frame < 250 { 500 } else { 1000 };
            tally.packet(now, bytes, frame * 3600, frame == 0);
            tally.packet(now, bytes, frame * 3600, false);
            if frame > 5 && !(250..=310).contains(&frame) {
                let Rates { bitrate, frame_rate } = tally.rates(now);
                let expected = bytes as u64 * 400;
                assert!(bitrate.abs_diff(expected) * 100 < expected * 20, "{bitrate} at {frame}");
                assert!((frame_rate - 25.0).abs() < 5.0, "{frame_rate} at {frame}");
            }
        }
        assert_eq!((tally.packets, tally.bytes, tally.frames, tally.key_frames), (1000, 750_000, 500, 1));
        let last = start + ms(40) * 499;
        assert!((tally.rates(last).frame_rate - 25.0).abs() < 1.0);
        assert!((tally.rates(last + ms(1000)).frame_rate - 13.0).abs() < 3.0, "it fades");
        assert!(tally.is_flowing(last + ms(2000)));
        assert!(!tally.is_flowing(last + ms(2300)));
        assert_eq!(tally.rates(last + ms(2300)), Rates::default());
    }

    #[test]
    fn what_flows_again_is_measured_from_then_on() {
        let (mut tally, start) = (video(), Instant::now());
        tally.packet(start, 1000, 0, true);
        let again = start + ms(60_000);
        for frame in 1..=25u32 {
            tally.packet(again + ms(40) * frame, 1000, frame * 3600, false);
        }
        let rates = tally.rates(again + ms(1000));
        assert!((195_000..=215_000).contains(&rates.bitrate), "{rates:?}");
    }

    #[test]
    fn a_picture_is_counted_once_in_whatever_order_its_packets_come() {
        let (mut tally, now) = (video(), Instant::now());
        let wrap = u32::MAX - 3000;
        for timestamp in [0, 3000, 3000, 9000, 6000, 9000, 6000, 12_000].map(|t: u32| t.wrapping_add(wrap)) {
            tally.packet(now, 10, timestamp, timestamp == wrap.wrapping_add(9000));
        }
        assert_eq!((tally.frames, tally.key_frames), (5, 1));
        for n in 5..40u32 {
            tally.packet(now, 10, wrap.wrapping_add(n * 3000), false);
        }
        tally.packet(now, 10, wrap, false);
        assert_eq!(tally.frames, 40, "one that is too old to tell is not counted again");
        tally.again(now, 10);
        assert_eq!((tally.frames, tally.packets), (40, 45));
    }

    #[test]
    fn sound_has_no_pictures() {
        let (mut tally, now) = (Tally::new(v1::MediaKind::Audio), Instant::now());
        for n in 0..50 {
            tally.packet(now + ms(20 * n), 100, n as u32 * 960, true);
        }
        let told = tally.to_message(now + ms(1000));
        assert_eq!((told.packets, told.frames, told.key_frames, told.frame_rate), (50, 0, 0, 0.0));
        assert!(told.flowing && told.bitrate.abs_diff(40_000) < 1000, "{}", told.bitrate);
    }
}
