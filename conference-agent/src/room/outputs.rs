//! Other encodings of a stream than its own: what they are, and what a mixer made of them. Whoever wants the same shares one.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use kaigi_proto::{ids::ParticipantId, v1};
use kaigi_room_config::Resolution;
use serde::{Deserialize, Serialize};

use super::media::{Format, Kind, Source, resolution_to_wire};

/// Mixers refuse descriptions with more outputs of one view or transcoder. An encoder of pictures takes a good part of a core.
const MAX_VIDEO: usize = 16;
/// See [`MAX_VIDEO`]; encoders of sound are cheap.
const MAX_AUDIO: usize = 64;
/// kbit/s; mixers make no more.
const MAX_BITRATE: u32 = 100_000;

/// A factor of a bitrate, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Factor(u32);

impl Factor {
    pub(crate) const ONE: Self = Self(1000);

    /// "x0.8"; `None` for what is no factor between 0.001 and 100.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let factor: f64 = text.strip_prefix('x')?.parse().ok()?;
        let thousandths = (factor * 1000.0).round();
        // The range also leaves out what is no number.
        (1.0..=100_000.0).contains(&thousandths).then_some(Self(thousandths as u32))
    }

    /// What mixers can make, in kbit/s; casts from floats saturate.
    pub(crate) fn of(self, kbps: f64) -> u32 {
        ((kbps * self.to_f64()).round() as u32).clamp(1, MAX_BITRATE)
    }

    fn to_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// One encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutputSpec {
    Video(VideoSpec),
    Audio(AudioSpec),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VideoSpec {
    pub(crate) format: Format,
    /// `None` = the source's, whatever it becomes.
    pub(crate) resolution: Option<Resolution>,
    /// Frames per second; `None` = the source's, whatever it becomes.
    pub(crate) framerate: Option<u32>,
    /// kbit/s; `None` = what fits format, size and rate, times `factor`.
    pub(crate) bitrate: Option<u32>,
    pub(crate) factor: Factor,
    /// Seconds.
    pub(crate) key_frame_interval: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AudioSpec {
    pub(crate) format: Format,
    /// Whose voice is left out of a mix.
    pub(crate) minus: Option<ParticipantId>,
}

impl OutputSpec {
    /// The same for the same encoding, different for different ones, and short: it becomes part of the ids of tracks.
    pub(crate) fn id(&self) -> String {
        let (codec, text) = match self {
            Self::Video(spec) => (&spec.format.codec, format!("{spec:?}")),
            Self::Audio(spec) => (&spec.format.codec, format!("{spec:?}")),
        };
        let codec: String = codec.chars().filter(char::is_ascii_alphanumeric).take(10).collect();
        format!("{codec}-{:016x}", digest(&text))
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Video(_) => Kind::Video,
            Self::Audio(_) => Kind::Audio,
        }
    }
}

/// Stays the same as long as a process runs; it need not be the same in the next, whose descriptions replace all that there is.
pub(crate) fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Leaves out what is more than a mixer takes of each kind, the made ones last: those who wait for others go on waiting.
pub(crate) fn limit(specs: &mut OutputSpecs, made: Option<&MadeOutputs>) {
    for kind in Kind::ALL {
        let is_made = |id: &str| made.is_some_and(|made| made.sources.contains_key(id));
        let of_kind = specs.iter().filter(|(_, spec)| spec.kind() == kind);
        let mut ids: Vec<(bool, String)> = of_kind.map(|(id, _)| (!is_made(id), id.clone())).collect();
        ids.sort();
        for (_, id) in ids.into_iter().skip(most(kind)) {
            specs.remove(&id);
        }
    }
}

/// Most outputs of a kind that one view or transcoder has.
pub(crate) fn most(kind: Kind) -> usize {
    match kind {
        Kind::Video => MAX_VIDEO,
        Kind::Audio => MAX_AUDIO,
    }
}

/// The encodings wanted of one view or track, by their ids.
pub(crate) type OutputSpecs = BTreeMap<String, OutputSpec>;

pub(crate) fn video_outputs_to_wire(specs: &OutputSpecs) -> Vec<v1::VideoOutput> {
    let video = |(id, spec): (&String, &OutputSpec)| match spec {
        OutputSpec::Audio(_) => None,
        OutputSpec::Video(spec) => Some(v1::VideoOutput {
            id: id.clone(),
            format: Some(spec.format.to_wire()),
            resolution: spec.resolution.map(resolution_to_wire),
            framerate: spec.framerate.unwrap_or(0),
            bitrate: spec.bitrate.unwrap_or(0),
            bitrate_factor: spec.factor.to_f64(),
            key_frame_interval: spec.key_frame_interval,
        }),
    };
    specs.iter().filter_map(video).collect()
}

pub(crate) fn audio_outputs_to_wire(specs: &OutputSpecs) -> Vec<v1::AudioOutput> {
    let audio = |(id, spec): (&String, &OutputSpec)| match spec {
        OutputSpec::Video(_) => None,
        OutputSpec::Audio(spec) => Some(v1::AudioOutput {
            id: id.clone(),
            format: Some(spec.format.to_wire()),
            minus_participant: spec.minus.as_ref().map(ToString::to_string).unwrap_or_default(),
        }),
    };
    specs.iter().filter_map(audio).collect()
}

/// What a mixer made of the encodings that it was asked for, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MadeOutputs {
    pub(crate) sources: BTreeMap<String, Source>,
    /// Why others can't be.
    pub(crate) failures: BTreeMap<String, String>,
}

impl MadeOutputs {
    pub(crate) fn from_wire(outputs: Vec<v1::OutputSource>, failures: Vec<v1::OutputFailure>) -> Self {
        let sources = outputs.into_iter().filter_map(|o| Some((o.id, o.source.and_then(Source::from_wire)?)));
        let failures = failures.into_iter().map(|failure| (failure.id, failure.reason));
        Self { sources: sources.collect(), failures: failures.collect() }
    }
}

#[cfg(test)]
mod tests {
    use kaigi_proto::ids::TrackId;

    use super::*;

    #[test]
    fn a_factor_is_an_x_and_a_number() {
        assert_eq!(Factor::parse("x0.8"), Some(Factor(800)));
        assert_eq!(Factor::parse("x1"), Some(Factor::ONE));
        for bad in ["0.8", "x", "x0", "x-1", "xNaN", "xinf", "x101", "x0.0001", "y1"] {
            assert_eq!(Factor::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_factor_never_makes_nothing_of_a_bitrate() {
        assert_eq!(Factor::parse("x0.6").unwrap().of(666.0), 400);
        assert_eq!(Factor::parse("x0.001").unwrap().of(1.0), 1);
        assert_eq!(Factor::ONE.of(f64::INFINITY), MAX_BITRATE);
    }

    #[test]
    fn what_is_made_goes_before_what_is_not() {
        let spec = |rate| {
            OutputSpec::Audio(AudioSpec {
                format: Format { codec: "pcmu".into(), sample_rate: rate, ..Format::default() },
                minus: None,
            })
        };
        let mut specs: OutputSpecs = (1..=70).map(|rate| (spec(rate).id(), spec(rate))).collect();
        let ids: Vec<String> = specs.keys().cloned().collect();
        let last = ids.last().unwrap();
        limit(&mut specs, None);
        assert_eq!(specs.len(), MAX_AUDIO);
        assert!(!specs.contains_key(last));
        let mut specs: OutputSpecs = (1..=70).map(|rate| (spec(rate).id(), spec(rate))).collect();
        let source = Source {
            track: TrackId::new("t").unwrap(),
            node: super::super::media::Node {
                worker: kaigi_proto::ids::WorkerId::new("w").unwrap(),
                endpoint: String::new(),
            },
            kind: Kind::Audio,
            format: Format::default(),
        };
        let made = MadeOutputs { sources: [(last.clone(), source)].into(), ..MadeOutputs::default() };
        limit(&mut specs, Some(&made));
        assert!(specs.len() == MAX_AUDIO && specs.contains_key(last));
    }

    #[test]
    fn different_encodings_have_different_ids() {
        let format = |codec: &str, profile: &str| Format {
            codec: codec.into(),
            profile: profile.into(),
            ..Format::default()
        };
        let plain = VideoSpec {
            format: format("h264", "CB"),
            resolution: None,
            framerate: None,
            bitrate: None,
            factor: Factor::ONE,
            key_frame_interval: 100,
        };
        let audio = AudioSpec { format: format("pcmu", ""), minus: None };
        let minus = |name: &str| Some(ParticipantId::new(name).unwrap());
        let all = [
            OutputSpec::Video(plain.clone()),
            OutputSpec::Video(VideoSpec { format: format("h264", "B"), ..plain.clone() }),
            OutputSpec::Video(VideoSpec {
                resolution: Some(Resolution { width: 320, height: 240 }),
                ..plain.clone()
            }),
            OutputSpec::Video(VideoSpec { framerate: Some(15), ..plain.clone() }),
            OutputSpec::Video(VideoSpec { bitrate: Some(15), ..plain.clone() }),
            OutputSpec::Video(VideoSpec { factor: Factor(15), ..plain.clone() }),
            OutputSpec::Video(VideoSpec { key_frame_interval: 15, ..plain.clone() }),
            OutputSpec::Audio(audio.clone()),
            OutputSpec::Audio(AudioSpec { minus: minus("ann"), ..audio.clone() }),
            OutputSpec::Audio(AudioSpec { minus: minus("bob"), ..audio }),
        ];
        let ids: std::collections::BTreeSet<String> = all.iter().map(OutputSpec::id).collect();
        assert_eq!(ids.len(), all.len());
        assert_eq!(OutputSpec::Video(plain.clone()).id(), OutputSpec::Video(plain).id());
    }
}
