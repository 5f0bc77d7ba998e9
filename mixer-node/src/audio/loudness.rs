//! How loud an input is, as its packets tell without being decoded: by the level that the sender measured (RFC 6464), or by being as
//! short as those of discontinuous transmission.

use std::time::{Duration, Instant};

/// −dBov from which an input is silent; nobody hears as little of him among others.
const SILENT: u8 = 60;
/// Opus packets up to this length hold no sound: the sender has nothing to say (RFC 6716 §2.1.9).
const NO_SOUND: usize = 2;
/// An input that has been silent for this long is not decoded. Pauses of speech are shorter, mostly, and cost no new beginning.
const PATIENCE: Duration = Duration::from_secs(1);
/// After this long without a packet nothing is being said.
const GONE: Duration = Duration::from_millis(200);
/// What is left of the loudest packet after the next: 0.2 dB less each 20 ms.
const DECAY: f32 = 0.95;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Loudness {
    /// Whether the last packet told.
    known: bool,
    /// When the last packet came that is not silent.
    loud: Option<Instant>,
    /// Mean square of the loudest packets of late, 0..=1.
    power: f32,
    /// The same of the last packet, and when it came.
    last: Option<(Instant, f32)>,
}

impl Loudness {
    /// A packet came, with that level (as the extension has it, if it has one) and a payload of so many bytes.
    pub(super) fn packet(&mut self, level: Option<u8>, payload: usize, now: Instant) {
        // The first bit is the sender's own guess whether it is speech.
        let level = level.map(|level| level & 0x7f);
        let quiet = payload <= NO_SOUND || level.is_some_and(|level| level >= SILENT);
        self.known = quiet || level.is_some();
        let power = match level {
            _ if quiet => 0.0,
            Some(level) => 10f32.powf(f32::from(level) / -10.0),
            None => 1.0,
        };
        self.last = Some((now, power));
        self.power = power.max(self.power * DECAY);
        if !quiet {
            self.loud = Some(now);
        }
    }

    /// Whether there has been nothing to hear for a while.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.known && self.loud.is_none_or(|loud| now.saturating_duration_since(loud) >= PATIENCE)
    }

    /// Whether it is told at all.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// To rank those who are heard.
    pub(super) fn power(&self) -> f32 {
        self.power
    }

    /// Mean square of the last packet, 0..=1.
    pub(super) fn last(&self, now: Instant) -> f32 {
        let last = self.last.filter(|(at, _)| now.saturating_duration_since(*at) < GONE);
        last.map_or(0.0, |(_, power)| power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    #[test]
    fn who_is_silent_for_a_while_is_silent_and_who_speaks_is_not() {
        let (mut now, mut loudness) = (Instant::now(), Loudness::default());
        assert!(!loudness.is_silent(now), "nothing is known yet");
        loudness.packet(Some(127), 40, now);
        assert!(loudness.is_silent(now));
        loudness.packet(Some(0x80 | 30), 40, now);
        assert!(!loudness.is_silent(now));
        let spoke = now;
        while now < spoke + PATIENCE {
            assert!(!loudness.is_silent(now));
            loudness.packet(Some(80), 40, now);
            now += STEP;
        }
        assert!(loudness.is_silent(now));
        loudness.packet(Some(SILENT - 1), 40, now);
        assert!(!loudness.is_silent(now));
    }

    #[test]
    fn without_a_level_only_packets_without_sound_tell() {
        let (now, mut loudness) = (Instant::now(), Loudness::default());
        loudness.packet(None, 40, now);
        assert!(!loudness.is_silent(now + PATIENCE) && !loudness.is_known());
        loudness.packet(None, 1, now + PATIENCE);
        assert!(loudness.is_silent(now + PATIENCE));
    }

    #[test]
    fn levels_are_powers() {
        let (now, mut loudness) = (Instant::now(), Loudness::default());
        loudness.packet(Some(20), 40, now);
        assert!((loudness.last(now) - 0.01).abs() < 1e-6 && (loudness.power() - 0.01).abs() < 1e-6);
        loudness.packet(Some(40), 40, now);
        assert!(loudness.last(now) < 0.001 && loudness.power() > 0.009, "it fades");
        loudness.packet(Some(70), 40, now);
        assert!(loudness.last(now) == 0.0);
        loudness.packet(Some(20), 40, now);
        assert!(loudness.last(now + GONE) == 0.0, "nothing comes any more");
    }
}
