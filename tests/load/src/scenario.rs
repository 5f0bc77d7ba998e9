//! What a run does: read from a TOML file, or one of those that come along.

use std::time::Duration;

use serde::Deserialize;

use crate::recording::{Codec, LayerSpec};

/// Scenarios that come along, by name.
pub const SHIPPED: [(&str, &str); 6] = [
    ("smoke", include_str!("../scenarios/smoke.toml")),
    ("one-to-100", include_str!("../scenarios/one-to-100.toml")),
    ("one-to-1000", include_str!("../scenarios/one-to-1000.toml")),
    ("meeting-50", include_str!("../scenarios/meeting-50.toml")),
    ("churn", include_str!("../scenarios/churn.toml")),
    ("crowd-leaves", include_str!("../scenarios/crowd-leaves.toml")),
];

/// Most clients of a scenario.
const MAX_CLIENTS: usize = 20_000;
/// Longest part of a scenario.
const MAX_SECONDS: f64 = 3600.0;

/// Why a scenario can't be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// No such file, and no scenario of that name.
    #[error("{name}: {source}; scenarios that come along: {}", SHIPPED.map(|(name, _)| name).join(", "))]
    Missing {
        /// What was asked for.
        name: String,
        /// What happened.
        source: std::io::Error,
    },
    /// Not understood.
    #[error("{name}: {source}")]
    Syntax {
        /// Of which scenario.
        name: String,
        /// Where.
        source: Box<toml::de::Error>,
    },
    /// It makes no sense.
    #[error("{name}: {reason}")]
    Senseless {
        /// Which scenario.
        name: String,
        /// Why.
        reason: &'static str,
    },
}

/// See the module's description. Counts are those of one room.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, as it is in the report.
    #[serde(skip)]
    pub name: String,
    /// What it shows.
    pub description: String,
    /// Rooms that are the same.
    #[serde(default = "one")]
    pub rooms: usize,
    /// Those who publish.
    pub publishers: usize,
    /// Those who only receive: everything that is published in their room.
    #[serde(default)]
    pub subscribers: usize,
    /// Publishers receive each other as well.
    #[serde(default)]
    pub meeting: bool,
    /// Clients that join a second.
    #[serde(default = "join_rate")]
    pub join_rate: f64,
    /// Seconds from the last one's first picture until counting begins.
    #[serde(default = "warm_up")]
    pub warm_up: f64,
    /// Seconds that are counted.
    pub duration: f64,
    /// What is published.
    pub media: Media,
    /// The ways to the clients.
    #[serde(default)]
    pub way: Way,
    /// Who leaves while it is counted.
    #[serde(default)]
    pub leave: Leave,
    /// Clients that come and go.
    pub churn: Option<Churn>,
}

fn one() -> usize {
    1
}

fn join_rate() -> f64 {
    50.0
}

fn warm_up() -> f64 {
    2.0
}

/// What each publisher sends, and how much of it is received.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// Of the picture.
    #[serde(default = "vp8")]
    pub codec: Codec,
    /// Frames a second.
    #[serde(default = "framerate")]
    pub framerate: u32,
    /// From the smallest; none: no picture; several: simulcast.
    #[serde(default)]
    pub layers: Vec<LayerSpec>,
    /// Whether there is sound.
    #[serde(default = "yes")]
    pub audio: bool,
    /// Publishers in a room whose sound is no silence; all others say that they are silent.
    pub speaking: Option<usize>,
    /// Of how many streams each client receives the largest layer; of all others it asks for the smallest. All, if not given.
    pub large: Option<usize>,
}

fn vp8() -> Codec {
    Codec::Vp8
}

fn framerate() -> u32 {
    30
}

fn yes() -> bool {
    true
}

/// What happens to what clients are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// Percent that are lost.
    #[serde(default)]
    pub loss: f64,
    /// Milliseconds that it takes longer.
    #[serde(default)]
    pub delay: u32,
}

/// Who leaves in the middle of what is counted, in the first room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// Subscribers, all at once.
    #[serde(default)]
    pub subscribers: usize,
    /// Publishers, without a word.
    #[serde(default)]
    pub publishers: usize,
}

/// Clients that join, publish, subscribe the first publisher, see its picture and leave, again and again, in the first room.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// How often in all.
    pub cycles: usize,
    /// How many at a time.
    pub parallel: usize,
    /// Cycles before memory is looked at the first time: what is needed once is there by then.
    pub warm_up: usize,
}

impl Scenario {
    /// A scenario that comes along, or of a file.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn load(name: &str) -> Result<Self, ScenarioError> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(name, text);
        }
        let text = std::fs::read_to_string(name)
            .map_err(|source| ScenarioError::Missing { name: name.to_owned(), source })?;
        let stem = std::path::Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Self::parse(&stem.unwrap_or_else(|| name.to_owned()), &text)
    }

    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self = toml::from_str(text)
            .map_err(|source| ScenarioError::Syntax { name: name.to_owned(), source: Box::new(source) })?;
        name.clone_into(&mut scenario.name);
        match scenario.nonsense() {
            Some(reason) => Err(ScenarioError::Senseless { name: name.to_owned(), reason }),
            None => Ok(scenario),
        }
    }

    fn nonsense(&self) -> Option<&'static str> {
        let media = &self.media;
        let counts = [self.rooms, self.publishers, self.subscribers];
        let clients = self.rooms.saturating_mul(self.publishers.saturating_add(self.subscribers));
        let times = [self.warm_up, self.duration];
        let checks = [
            (self.rooms == 0, "there has to be a room"),
            (counts.iter().any(|count| *count > MAX_CLIENTS) || clients > MAX_CLIENTS, "too many clients"),
            (media.layers.is_empty() && !media.audio, "there is nothing to publish"),
            (media.layers.len() > 3, "at most three layers"),
            (media.codec.is_audio(), "a picture is no sound"),
            (!(1..=60).contains(&media.framerate), "1 to 60 frames a second"),
            (media.layers.iter().any(|layer| layer.kbps < 30 || layer.kbps > 20_000), "30 to 20,000 kbit/s"),
            (
                media
                    .layers
                    .iter()
                    .any(|l| !(32..=3840).contains(&l.width) || !(32..=2160).contains(&l.height)),
                "layers of 32×32 to 3840×2160",
            ),
            (!times.iter().all(|time| (0.0..=MAX_SECONDS).contains(time)), "times of up to an hour"),
            (!(0.01..=1000.0).contains(&self.join_rate), "0.01 to 1,000 clients a second"),
            (!(0.0..=90.0).contains(&self.way.loss), "0 to 90 percent of loss"),
            (self.way.delay > 5000, "at most 5,000 ms of delay"),
            (self.leave.subscribers > self.subscribers, "more leave than there are"),
            (
                self.leave.publishers >= self.publishers && self.publishers > 0 && self.leave.publishers > 0,
                "nobody is left to publish",
            ),
            (
                self.churn.is_some_and(|c| {
                    c.parallel == 0 || c.parallel > 500 || c.cycles > 1_000_000 || c.warm_up >= c.cycles
                }),
                "churn has 1 to 500 at a time, and at most 1,000,000 cycles, more than to warm up",
            ),
            (
                self.churn.is_some() && (self.publishers == 0 || media.layers.is_empty()),
                "churn needs a picture",
            ),
        ];
        checks.iter().find(|(wrong, _)| *wrong).map(|(_, reason)| *reason)
    }

    /// How long is counted.
    #[must_use]
    pub fn counted(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_come_along_make_sense() {
        for (name, _) in SHIPPED {
            let scenario = Scenario::load(name).unwrap();
            assert_eq!(scenario.name, name);
            assert!(!scenario.description.is_empty());
        }
    }

    #[test]
    fn nonsense_is_told_apart_from_bad_syntax() {
        let least = "description = \"x\"\npublishers = 1\nduration = 1.0\n[media]\n";
        assert_eq!(Scenario::parse("x", least).unwrap().rooms, 1);
        for (text, expected) in [
            (format!("rooms = 0\n{least}"), "x: there has to be a room"),
            (format!("{least}audio = false\n"), "x: there is nothing to publish"),
            (least.replace("1.0", "nan"), "x: times of up to an hour"),
            (format!("{least}[leave]\npublishers = 1\n"), "x: nobody is left to publish"),
        ] {
            assert_eq!(Scenario::parse("x", &text).unwrap_err().to_string(), expected);
        }
        assert!(matches!(Scenario::parse("x", "publisher = 1"), Err(ScenarioError::Syntax { .. })));
        let missing = Scenario::load("one-to-many").unwrap_err().to_string();
        assert!(missing.contains("one-to-100, one-to-1000"), "{missing}");
    }
}
