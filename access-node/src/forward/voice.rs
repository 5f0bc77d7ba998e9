//! How loud the publications of rooms that select their audio are, from the levels that packets carry (RFC 6464). Loudness is looked at over
//! three spans of time, as in Volfin and Cohen, "Dominant speaker identification for multipoint videoconferencing" (2012): a word, a
//! phrase and a turn, so that neither a noise nor a pause makes or unmakes a speaker.
//!
//! A packet costs reading its level. Those who are silent are not looked at otherwise: only who is heard is evaluated.

use std::time::{Duration, Instant};

use kaigi_proto::ids::TrackId;

use super::{Forwarder, Origin};
use crate::{
    keys::{SourceKey, TransportKey},
    sdp::Kind,
};

/// How often it is evaluated who is heard. Shorter finds speakers sooner and costs that many more events.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// Levels of that many dB below overload, or quieter, are silence: what microphones give in quiet rooms.
const SILENCE: u8 = 60;
/// A packet's level holds until the next packet, for that long at most: the longest that one of Opus lasts. Publishers that are silent send
/// one each 400 ms (DTX).
const HOLD: Duration = Duration::from_millis(120);
/// Intervals of the spans.
const MEDIUM: usize = 2;
/// See [`MEDIUM`].
const LONG: usize = 5;

/// Mean loudness of the last spans, in tenths of a decibel above silence; pauses count as silence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loudness {
    /// Of one interval.
    pub immediate: u32,
    /// Of two.
    pub medium: u32,
    /// Of five.
    pub long: u32,
}

impl Loudness {
    /// Whether nothing was heard for the longest span.
    #[must_use]
    pub fn is_silent(self) -> bool {
        self == Self::default()
    }
}

/// What is heard of one source.
#[derive(Debug, Default)]
pub(super) struct Voice {
    /// Of the newest packet, in dB above silence.
    loudness: u8,
    /// Up to when it is counted.
    counted: Option<Instant>,
    /// Up to when it holds.
    until: Option<Instant>,
    /// Decibels by microseconds since the last evaluation.
    gathered: u64,
    /// Tenths of a decibel, the newest first.
    intervals: [u32; LONG],
    is_heard: bool,
}

impl Voice {
    /// A packet has that level, as the extension has it. Returns whether the source is heard from now on.
    pub(super) fn packet(&mut self, now: Instant, level: u8) -> bool {
        // The highest bit says whether it is speech, as some publishers tell and others don't.
        let loudness = SILENCE.saturating_sub(level & 0x7f);
        if loudness == 0 && !self.is_heard {
            return false;
        }
        self.count(now);
        (self.loudness, self.counted, self.until) = (loudness, Some(now), Some(now + HOLD));
        !std::mem::replace(&mut self.is_heard, true)
    }

    fn count(&mut self, now: Instant) {
        let (Some(counted), Some(until)) = (self.counted, self.until) else { return };
        let end = now.min(until);
        let time = end.saturating_duration_since(counted).as_micros();
        self.gathered += u64::from(self.loudness) * u64::try_from(time).unwrap_or(u64::MAX >> 8);
        self.counted = Some(end.max(counted));
    }

    /// What was heard, `span` after the last evaluation.
    fn evaluate(&mut self, now: Instant, span: Duration) -> Loudness {
        self.count(now);
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
        let mean = std::mem::take(&mut self.gathered).saturating_mul(10) / span;
        self.intervals.rotate_right(1);
        self.intervals[0] = u32::try_from(mean).unwrap_or(u32::MAX).min(10 * u32::from(SILENCE));
        let mean = |of: usize| self.intervals[..of].iter().sum::<u32>() / of as u32;
        let loudness = Loudness { immediate: mean(1), medium: mean(MEDIUM), long: mean(LONG) };
        if loudness.is_silent() {
            *self = Self::default();
        }
        loudness
    }
}

/// The sources that are heard, and when that is evaluated.
#[derive(Debug, Default)]
pub(super) struct Voices {
    heard: Vec<SourceKey>,
    evaluated: Option<Instant>,
    due: Option<Instant>,
}

impl Voices {
    /// One more is heard.
    pub(super) fn begins(&mut self, now: Instant, source: SourceKey) {
        self.heard.push(source);
        if self.due.is_none() {
            (self.evaluated, self.due) = (Some(now), Some(now + INTERVAL));
        }
    }
}

/// A publication of this node that is heard, or that was until now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its track.
    pub track: TrackId,
    /// Who publishes it.
    pub from: TransportKey,
    /// How loud it is.
    pub loudness: Loudness,
}

impl Forwarder {
    /// From now on it is evaluated how loud a source is.
    pub fn listen_to(&mut self, key: SourceKey) {
        if let Some(source) = self.sources.get_mut(key).filter(|source| source.kind == Kind::Audio) {
            source.voice.get_or_insert_default();
        }
    }

    /// When [`Self::evaluate_voices`] is due; `None` while nobody is heard.
    #[must_use]
    pub fn voices_due(&self) -> Option<Instant> {
        self.voices.due
    }

    /// Who is heard. Those who have fallen silent are named a last time.
    pub fn evaluate_voices(&mut self, now: Instant) -> Vec<Heard> {
        let Self { sources, voices, .. } = self;
        let span = voices.evaluated.map_or(INTERVAL, |at| now.saturating_duration_since(at)).max(INTERVAL);
        let mut all = Vec::with_capacity(voices.heard.len());
        voices.heard.retain(|key| {
            let Some(source) = sources.get_mut(*key) else { return false };
            let Some(voice) = &mut source.voice else { return false };
            let loudness = voice.evaluate(now, span);
            if let Some(Origin::Publisher(from)) = source.supply.as_ref().map(|supply| supply.origin) {
                all.push(Heard { track: source.track.clone(), from, loudness });
            }
            !loudness.is_silent()
        });
        voices.evaluated = Some(now);
        voices.due = (!voices.heard.is_empty()).then_some(now + INTERVAL);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    /// One publisher, and the time.
    struct Speaker {
        voice: Voice,
        now: Instant,
    }

    impl Speaker {
        fn new() -> Self {
            Self { voice: Voice::default(), now: Instant::now() }
        }

        /// An interval in which packets with that level come; what is heard then.
        fn interval(&mut self, level: u8) -> Loudness {
            for _ in 0..10 {
                self.voice.packet(self.now, level);
                self.now += FRAME;
            }
            self.voice.evaluate(self.now, INTERVAL)
        }

        /// An interval in which nothing comes.
        fn pause(&mut self) -> Loudness {
            self.now += INTERVAL;
            self.voice.evaluate(self.now, INTERVAL)
        }
    }

    #[test]
    fn a_steady_voice_fills_one_span_after_the_other() {
        let mut speaker = Speaker::new();
        let first = speaker.interval(20);
        assert_eq!(first, Loudness { immediate: 400, medium: 200, long: 80 });
        assert_eq!(speaker.interval(20).medium, 400);
        for _ in 0..2 {
            speaker.interval(20);
        }
        assert_eq!(speaker.interval(20), Loudness { immediate: 400, medium: 400, long: 400 });
    }

    #[test]
    fn whether_it_is_speech_does_not_change_how_loud_it_is() {
        let (mut told, mut untold) = (Speaker::new(), Speaker::new());
        assert_eq!(told.interval(0x80 | 30), untold.interval(30));
    }

    #[test]
    fn silence_is_not_evaluated_at_all() {
        let mut voice = Voice::default();
        let now = Instant::now();
        assert!([127, 90, SILENCE, 0xff].iter().all(|level| !voice.packet(now, *level)));
        assert!(voice.packet(now, SILENCE - 1), "it is heard");
        assert!(!voice.packet(now, 10), "it was heard already");
    }

    #[test]
    fn a_pause_is_forgotten_after_a_second_and_then_it_is_silent() {
        let mut speaker = Speaker::new();
        for _ in 0..5 {
            speaker.interval(20);
        }
        let paused = speaker.pause();
        // The last packet holds for six intervals of packets in place of one.
        assert_eq!((paused.immediate, paused.long), (200, 360));
        let silent: Vec<bool> = (0..5).map(|_| speaker.pause().is_silent()).collect();
        assert_eq!(silent, [false, false, false, false, true]);
        assert!(speaker.voice.packet(speaker.now, 20), "it is heard anew");
    }

    #[test]
    fn a_short_noise_is_little_however_loud() {
        let mut speaker = Speaker::new();
        speaker.voice.packet(speaker.now, 0);
        speaker.now += FRAME;
        let noise = speaker.interval(127);
        assert_eq!(noise, Loudness { immediate: 60, medium: 30, long: 12 });
    }

    #[test]
    fn comfort_noise_between_words_is_silence() {
        let mut speaker = Speaker::new();
        speaker.voice.packet(speaker.now, 20);
        speaker.now += FRAME;
        // A packet each 400 ms.
        speaker.voice.packet(speaker.now, 127);
        assert_eq!(speaker.pause().immediate, 40);
        assert_eq!(speaker.pause().immediate, 0);
    }
}
