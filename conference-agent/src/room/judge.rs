//! Who is heard in a room's selecting streams, and who of them leads: judged by how loud publications are over three spans of time, as in
//! Volfin and Cohen, "Dominant speaker identification for multipoint videoconferencing" (2012). Whoever is to take a place has to be the
//! louder one over each span, so that neither a noise nor a pause for breath moves anybody.

use std::{
    array,
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kaigi_proto::ids::TrackId;
use serde::{Deserialize, Serialize};

/// How many are heard. More than three at once nobody understands, and each costs every subscriber a stream.
pub(crate) const SLOTS: usize = 3;
/// What is not told of again for that long is silent: access nodes tell five times a second.
const STALE: Duration = Duration::from_millis(1500);
/// Tenths of a decibel above silence that a speaker begins with, over the shortest span. A syllable has it, a click has not.
const BEGINS: u32 = 60;
/// Tenths of a decibel by which one has to be louder over the shorter spans to take another's place. More keeps the louder one out longer,
/// less makes equals take turns.
const MARGIN: u32 = 30;
/// The part of the other's loudness that one has to have over the longest span, in percent: a third of a second of a slammed door has
/// less. All of it would make whoever begins wait until the one who has stopped is forgotten.
const LONG_PERCENT: u32 = 50;

/// Mean loudness over three spans of time (0.2 s, 0.4 s, 1 s), in tenths of a decibel above silence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loudness {
    pub(crate) immediate: u32,
    pub(crate) medium: u32,
    pub(crate) long: u32,
}

impl Loudness {
    fn is_silent(self) -> bool {
        self == Self::default()
    }

    fn sum(self) -> u32 {
        self.immediate.saturating_add(self.medium).saturating_add(self.long)
    }

    /// Whether one that is so loud takes the place of one that is as loud as the other.
    fn displaces(self, other: Self) -> bool {
        self.immediate >= other.immediate.saturating_add(MARGIN)
            && self.medium >= other.medium.saturating_add(MARGIN)
            && self.long.saturating_mul(100) >= other.long.saturating_mul(LONG_PERCENT)
    }
}

/// Who is in the slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Speakers {
    pub(crate) slots: [Option<TrackId>; SLOTS],
    /// The one who leads the conversation, or did so last.
    pub(crate) major: Option<TrackId>,
}

impl Speakers {
    fn has(&self, track: &TrackId) -> bool {
        self.slots.iter().flatten().any(|speaker| speaker == track)
    }

    /// Frees the slot of one who is gone. Returns whether it had one.
    pub(crate) fn remove(&mut self, track: &TrackId) -> bool {
        self.major.take_if(|major| major == track);
        let slot = self.slots.iter_mut().find(|slot| slot.as_ref() == Some(track));
        slot.is_some_and(|slot| slot.take().is_some())
    }
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    loudness: Loudness,
    told: Instant,
    /// When it was last not silent.
    spoke: Instant,
}

/// What is known of how loud publications are.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    heard: BTreeMap<TrackId, Heard>,
}

impl Judge {
    /// A publication is that loud now.
    pub(crate) fn hear(&mut self, now: Instant, track: TrackId, loudness: Loudness) {
        let heard = self.heard.entry(track).or_insert(Heard { loudness, told: now, spoke: now });
        (heard.loudness, heard.told) = (loudness, now);
        if !loudness.is_silent() {
            heard.spoke = now;
        }
    }

    /// The publication is gone.
    pub(crate) fn forget(&mut self, track: &TrackId) {
        self.heard.remove(track);
    }

    /// Decides anew who is heard. Those who stay keep their slots.
    pub(crate) fn judge(&mut self, now: Instant, speakers: &mut Speakers) {
        self.heard.retain(|track, heard| {
            let speaks = !heard.loudness.is_silent() && now < heard.told + STALE;
            speaks || speakers.has(track)
        });
        let mut candidates: Vec<(&TrackId, Loudness)> = self
            .heard
            .keys()
            .filter(|track| !speakers.has(track))
            .map(|track| (track, self.loudness(now, track)))
            .filter(|(_, loudness)| loudness.immediate >= BEGINS)
            .collect();
        candidates.sort_by_key(|(_, loudness)| Reverse(loudness.sum()));
        for (track, loudness) in candidates.into_iter().take(SLOTS) {
            if let Some(slot) = self.slot_for(now, speakers, loudness) {
                speakers.slots[slot] = Some(track.clone());
            }
        }
        speakers.major = self.major(now, speakers);
    }

    /// The place of one who is so loud: an empty slot, one of somebody silent, or one of somebody who is displaced.
    fn slot_for(&self, now: Instant, speakers: &Speakers, loudness: Loudness) -> Option<usize> {
        if let Some(empty) = speakers.slots.iter().position(Option::is_none) {
            return Some(empty);
        }
        let of = |slot: usize| speakers.slots[slot].as_ref();
        let level = |slot: usize| of(slot).map(|track| self.loudness(now, track)).unwrap_or_default();
        let spoke = |slot: usize| of(slot).and_then(|track| self.heard.get(track)).map(|heard| heard.spoke);
        let weakest = (0..SLOTS).min_by_key(|slot| (level(*slot).sum(), spoke(*slot)))?;
        (level(weakest).is_silent() || loudness.displaces(level(weakest))).then_some(weakest)
    }

    /// Who leads. While nobody speaks it is whoever led last.
    fn major(&self, now: Instant, speakers: &Speakers) -> Option<TrackId> {
        let level = |track: &TrackId| self.loudness(now, track);
        let current = speakers.major.as_ref().filter(|major| speakers.has(major));
        let loudest = speakers.slots.iter().flatten().rev().max_by_key(|track| level(track).sum());
        let major = match (current, loudest) {
            (Some(current), Some(loudest)) => {
                let silent = level(current).is_silent() && !level(loudest).is_silent();
                if silent || level(loudest).displaces(level(current)) { loudest } else { current }
            }
            (current, loudest) => current.or(loudest)?,
        };
        Some(major.clone())
    }

    fn loudness(&self, now: Instant, track: &TrackId) -> Loudness {
        let heard = self.heard.get(track).filter(|heard| now < heard.told + STALE);
        heard.map(|heard| heard.loudness).unwrap_or_default()
    }
}

/// Each slot's publication, and whether it leads.
pub(crate) fn told(speakers: &Speakers) -> [Option<(TrackId, bool)>; SLOTS] {
    array::from_fn(|slot| {
        let track = speakers.slots[slot].clone()?;
        let leads = speakers.major.as_ref() == Some(&track);
        Some((track, leads))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publications that send tones and pause, and the time.
    struct Conversation {
        judge: Judge,
        speakers: Speakers,
        now: Instant,
        /// Loudness in tenths of a decibel, over the last intervals, the newest last.
        past: BTreeMap<&'static str, Vec<u32>>,
    }

    fn track(name: &str) -> TrackId {
        TrackId::new(name).unwrap()
    }

    impl Conversation {
        fn new() -> Self {
            let (judge, speakers) = (Judge::default(), Speakers::default());
            Self { judge, speakers, now: Instant::now(), past: BTreeMap::new() }
        }

        /// So many intervals of 0.2 s in which these are so loud, and all others silent.
        fn hear(&mut self, intervals: usize, loud: &[(&'static str, u32)]) {
            for _ in 0..intervals {
                self.now += Duration::from_millis(200);
                for (name, _) in loud {
                    self.past.entry(name).or_default();
                }
                for (name, past) in &mut self.past {
                    past.push(loud.iter().find(|(other, _)| other == name).map_or(0, |(_, loud)| *loud));
                    let mean = |n: usize| past.iter().rev().take(n).sum::<u32>() / n as u32;
                    let loudness = Loudness { immediate: mean(1), medium: mean(2), long: mean(5) };
                    self.judge.hear(self.now, track(name), loudness);
                }
                self.judge.judge(self.now, &mut self.speakers);
            }
        }

        /// The slots, the one that leads in capitals.
        fn slots(&self) -> [String; SLOTS] {
            told(&self.speakers).map(|slot| match slot {
                None => "-".to_owned(),
                Some((track, true)) => track.to_string().to_uppercase(),
                Some((track, false)) => track.to_string(),
            })
        }
    }

    #[test]
    fn whoever_speaks_takes_an_empty_slot_at_once() {
        let mut room = Conversation::new();
        assert_eq!(room.slots(), ["-", "-", "-"]);
        room.hear(1, &[("a", 300)]);
        assert_eq!(room.slots(), ["A", "-", "-"]);
        room.hear(1, &[("a", 300), ("b", 250), ("c", 200)]);
        assert_eq!(room.slots(), ["A", "b", "c"]);
    }

    #[test]
    fn a_click_is_not_speech() {
        let mut room = Conversation::new();
        room.hear(1, &[("a", 50)]);
        assert_eq!(room.slots(), ["-", "-", "-"]);
    }

    #[test]
    fn of_many_the_three_loudest_are_heard() {
        let mut room = Conversation::new();
        room.hear(3, &[("a", 100), ("b", 200), ("c", 300), ("d", 400), ("e", 500)]);
        assert_eq!(room.slots(), ["E", "d", "c"]);
    }

    #[test]
    fn who_falls_silent_keeps_the_slot_until_somebody_needs_it() {
        let mut room = Conversation::new();
        room.hear(5, &[("a", 300), ("b", 300), ("c", 300)]);
        let before = room.slots();
        room.hear(50, &[]);
        assert_eq!(room.slots(), before, "nobody else speaks");
        room.hear(5, &[("a", 300), ("c", 300)]);
        room.hear(1, &[("a", 300), ("c", 300), ("d", 200)]);
        assert_eq!(room.slots(), ["A", "d", "c"], "it was b who spoke longest ago");
    }

    #[test]
    fn who_gets_louder_than_one_of_three_takes_that_place_within_a_second_and_no_other_moves() {
        let mut room = Conversation::new();
        room.hear(10, &[("a", 400), ("b", 300), ("c", 350), ("d", 200)]);
        assert_eq!(room.slots(), ["A", "c", "b"]);
        room.hear(4, &[("a", 400), ("b", 300), ("c", 350), ("d", 500)]);
        assert_eq!(room.slots(), ["a", "c", "D"]);
    }

    #[test]
    fn equals_do_not_take_turns() {
        let mut room = Conversation::new();
        room.hear(5, &[("a", 300), ("b", 300), ("c", 300)]);
        let before = room.slots();
        for n in 0..100 {
            let swing = |k: u32| 290 + (n * k * 7) % 30;
            room.hear(
                1,
                &[("a", swing(1)), ("b", swing(2)), ("c", swing(3)), ("d", swing(5)), ("e", swing(9))],
            );
            assert_eq!(room.slots(), before);
        }
    }

    #[test]
    fn neither_a_cough_nor_a_pause_for_breath_changes_who_leads() {
        let mut room = Conversation::new();
        room.hear(5, &[("a", 300)]);
        room.hear(1, &[("a", 300), ("b", 400)]);
        room.hear(1, &[("a", 300)]);
        assert_eq!(room.slots(), ["A", "b", "-"]);
        room.hear(1, &[("b", 100)]);
        room.hear(1, &[]);
        room.hear(2, &[("a", 300)]);
        assert_eq!(room.slots(), ["A", "b", "-"]);
        room.hear(4, &[("b", 300)]);
        assert_eq!(room.slots(), ["a", "B", "-"], "b has the word");
    }

    #[test]
    fn who_is_gone_frees_the_slot() {
        let mut room = Conversation::new();
        room.hear(5, &[("a", 300), ("b", 200), ("c", 200), ("d", 200)]);
        assert!(room.speakers.remove(&track("a")));
        room.judge.forget(&track("a"));
        assert!(!room.speakers.remove(&track("a")));
        room.judge.judge(room.now, &mut room.speakers);
        assert_eq!(room.slots().map(|slot| slot.to_lowercase()), ["d", "b", "c"]);
    }

    #[test]
    fn what_is_not_told_of_any_more_is_silent() {
        let mut room = Conversation::new();
        room.hear(5, &[("a", 300), ("b", 300), ("c", 300)]);
        room.now += STALE;
        room.past.clear();
        room.hear(1, &[("d", 100)]);
        assert!(room.slots().contains(&"D".to_owned()), "{:?}", room.slots());
    }
}
