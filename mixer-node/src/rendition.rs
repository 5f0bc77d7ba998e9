//! Renditions: what outputs are described to be, beside a view's own two, and the tracks that they get.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{IdError, ParticipantId, TrackId},
    v1,
};

use crate::{
    audio::{self, AudioEncoding, AudioFormatError, Mix, PlannedMix, PlannedOutput},
    description::{BITRATES, DescriptionError, MAX_KEY_FRAME_INTERVAL, RATES, SIDES, bounded},
    link::{Audience, MediaClock, OutputTrack, Outputs, TrackDescription},
    video::{Content, PlannedPicture, Size, TargetBitrate, VideoEncoding},
};

/// Renditions of one view or transcoder at most. Each video one costs an encoder while it is watched, which is far dearer.
const MAX_VIDEO: usize = 16;
const MAX_AUDIO: usize = 64;

/// Why a rendition can't be; the others are.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum RenditionError {
    /// No encoder for it.
    #[error("video codec {codec:?} {profile:?} is not made here")]
    VideoCodec {
        /// The codec.
        codec: String,
        /// Of H.264.
        profile: String,
    },
    /// No encoder for it.
    #[error(transparent)]
    AudioFormat(#[from] AudioFormatError),
    /// A number beyond what this node makes.
    #[error("{what} {value} is not within {from}..={to}")]
    Range {
        /// What number.
        what: &'static str,
        /// What was given.
        value: u32,
        /// Least.
        from: u32,
        /// Most.
        to: u32,
    },
    /// Pictures have chroma of half their width and height.
    #[error("width and height must be even")]
    Odd,
    /// Not a positive number.
    #[error("bitrate factor {0} is none")]
    Factor(f64),
    /// More than the view has.
    #[error("{what} {value} is beyond the view's {most}")]
    Beyond {
        /// What number.
        what: &'static str,
        /// What was given.
        value: u32,
        /// The view's.
        most: u32,
    },
    /// An audio-only view.
    #[error("the view has no picture")]
    NoPicture,
    /// There is but one who could be left out.
    #[error("a transcoder leaves nobody out")]
    Minus,
    /// No format.
    #[error("format is missing")]
    NoFormat,
    /// Nobody has configured that algorithm here.
    #[error("algorithm {0:?} is not made here")]
    Algorithm(String),
    /// It works on as many pictures as it may.
    #[error("algorithm {0:?} works on as many pictures as it may")]
    AlgorithmFull(String),
    /// Names no participant.
    #[error(transparent)]
    Participant(#[from] IdError),
}

/// A rendition's id, its agent's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RenditionId(TrackId);

impl RenditionId {
    /// Takes a text for an id.
    ///
    /// # Errors
    /// If it could not be part of a track's id.
    pub fn new(text: &str) -> Result<Self, IdError> {
        TrackId::new(text).map(Self)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// What a video rendition is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSpec {
    /// As it came.
    pub format: v1::MediaFormat,
    /// What it says.
    pub encoding: VideoEncoding,
    /// None = the source's.
    pub size: Option<Size>,
    /// None = the source's.
    pub framerate: Option<u32>,
    /// How many bits.
    pub bitrate: TargetBitrate,
    /// Longest time from one key frame to the next; none = only on request.
    pub key_frame_interval: Option<Duration>,
}

/// What an audio rendition is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioSpec {
    /// As it came.
    pub format: v1::MediaFormat,
    /// What is heard, and what the format says.
    pub mix: PlannedMix,
}

/// All of a view or transcoder.
#[derive(Clone, Debug, Default)]
pub struct RenditionSpecs {
    /// Those with pictures.
    pub video: BTreeMap<RenditionId, VideoSpec>,
    /// Those with sound.
    pub audio: BTreeMap<RenditionId, AudioSpec>,
    /// Those that can't be.
    pub failures: BTreeMap<RenditionId, RenditionError>,
}

impl RenditionSpecs {
    /// Checks what came. `motion_factor` is in the default bitrates.
    ///
    /// # Errors
    /// If ids are none or given twice, or there are too many; what is wrong with a single one is among the
    /// [`failures`](Self::failures).
    pub fn parse(
        video: Vec<v1::VideoOutput>,
        audio: Vec<v1::AudioOutput>,
        motion_factor: f64,
    ) -> Result<Self, DescriptionError> {
        bounded("video outputs", video.len(), MAX_VIDEO)?;
        bounded("audio outputs", audio.len(), MAX_AUDIO)?;
        let mut specs = Self::default();
        specs.add(video, motion_factor)?;
        for output in audio {
            let id = specs.new_id(&output.id)?;
            match audio_spec(output) {
                Ok(spec) => drop(specs.audio.insert(id, spec)),
                Err(error) => drop(specs.failures.insert(id, error)),
            }
        }
        Ok(specs)
    }

    /// Checks further ones with pictures, however many.
    ///
    /// # Errors
    /// As of [`Self::parse`].
    pub fn add(&mut self, video: Vec<v1::VideoOutput>, motion_factor: f64) -> Result<(), DescriptionError> {
        for output in video {
            let id = self.new_id(&output.id)?;
            match video_spec(output, motion_factor) {
                Ok(spec) => drop(self.video.insert(id, spec)),
                Err(error) => drop(self.failures.insert(id, error)),
            }
        }
        Ok(())
    }

    fn new_id(&self, text: &str) -> Result<RenditionId, DescriptionError> {
        let id = RenditionId::new(text)?;
        if self.ids().any(|present| *present == id) {
            return Err(DescriptionError::OutputTwice(text.to_owned()));
        }
        Ok(id)
    }

    /// Of all, those that can't be among them.
    pub fn ids(&self) -> impl Iterator<Item = &RenditionId> {
        self.video.keys().chain(self.audio.keys()).chain(self.failures.keys())
    }

    /// Moves the video renditions that `check` refuses to the failures.
    pub fn refuse_video(&mut self, check: impl Fn(&VideoSpec) -> Result<(), RenditionError>) {
        let failures = &mut self.failures;
        self.video.retain(|id, spec| match check(spec) {
            Ok(()) => true,
            Err(error) => {
                failures.insert(id.clone(), error);
                false
            }
        });
    }

    /// Moves the audio renditions that leave somebody out to the failures.
    pub fn refuse_minus(&mut self) {
        let failures = &mut self.failures;
        self.audio.retain(|id, spec| {
            let common = spec.mix.mix == Mix::Common;
            if !common {
                failures.insert(id.clone(), RenditionError::Minus);
            }
            common
        });
    }

    /// As the agent is told.
    pub fn failures(&self) -> Vec<v1::OutputFailure> {
        let failure = |(id, error): (&RenditionId, &RenditionError)| v1::OutputFailure {
            id: id.as_str().to_owned(),
            reason: error.to_string(),
        };
        self.failures.iter().map(failure).collect()
    }
}

fn video_spec(output: v1::VideoOutput, motion_factor: f64) -> Result<VideoSpec, RenditionError> {
    let format = output.format.ok_or(RenditionError::NoFormat)?;
    let encoding = VideoEncoding::from_names(&format.codec, &format.profile).ok_or_else(|| {
        RenditionError::VideoCodec { codec: format.codec.clone(), profile: format.profile.clone() }
    })?;
    let size = |resolution: v1::Resolution| {
        let v1::Resolution { width, height } = resolution;
        let size = Size { width: within("width", width, SIDES)?, height: within("height", height, SIDES)? };
        if width % 2 + height % 2 > 0 { Err(RenditionError::Odd) } else { Ok(size) }
    };
    // 0 stands for what is usual.
    let given = |what, value, range| (value != 0).then(|| within(what, value, range)).transpose();
    let factor = match output.bitrate_factor {
        0.0 => 1.0,
        factor if factor.is_finite() && factor > 0.0 => factor,
        factor => return Err(RenditionError::Factor(factor)),
    };
    let interval = given("key_frame_interval", output.key_frame_interval, 1..=MAX_KEY_FRAME_INTERVAL)?;
    let bitrate = given("bitrate", output.bitrate, BITRATES)?;
    Ok(VideoSpec {
        encoding,
        size: output.resolution.map(size).transpose()?,
        framerate: given("framerate", output.framerate, RATES)?,
        bitrate: bitrate.map_or(TargetBitrate::Fitting(factor * motion_factor), TargetBitrate::Fixed),
        key_frame_interval: interval.map(|seconds| Duration::from_secs(seconds.into())),
        format,
    })
}

fn audio_spec(output: v1::AudioOutput) -> Result<AudioSpec, RenditionError> {
    let format = output.format.ok_or(RenditionError::NoFormat)?;
    let mix = match output.minus_participant.as_str() {
        "" => Mix::Common,
        participant => Mix::Minus(ParticipantId::new(participant)?),
    };
    Ok(AudioSpec { mix: PlannedMix { mix, encoding: AudioEncoding::of(&format)? }, format })
}

fn within(
    what: &'static str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, RenditionError> {
    let (from, to) = (*range.start(), *range.end());
    if range.contains(&value) { Ok(value) } else { Err(RenditionError::Range { what, value, from, to }) }
}

/// Hz of video RTP timestamps.
const VIDEO_RATE: u32 = 90_000;
/// A picture waits for half of the time between two of a view's, and takes some milliseconds to be decoded.
const VIDEO_AGE: Duration = Duration::from_millis(20);

/// Who takes what a view or transcoder makes.
#[derive(Clone, Debug, Default)]
pub struct Audiences {
    /// Its pictures.
    pub video: Arc<Audience>,
    /// Its sound.
    pub audio: Arc<Audience>,
}

/// A track of pictures whose time is zero at `origin`.
#[must_use]
pub fn video_track(
    id: TrackId,
    format: &v1::MediaFormat,
    encoding: VideoEncoding,
    origin: Instant,
    audiences: &Audiences,
) -> TrackDescription {
    TrackDescription {
        id,
        kind: v1::MediaKind::Video,
        format: format.clone(),
        payload_type: encoding.codec().payload_type(),
        clock: MediaClock::new(origin, VIDEO_RATE).aged(VIDEO_AGE),
        audience: Arc::clone(&audiences.video),
    }
}

/// A track of sound whose time is zero at `origin`.
#[must_use]
pub fn audio_track(
    id: TrackId,
    format: &v1::MediaFormat,
    encoding: AudioEncoding,
    origin: Instant,
    audiences: &Audiences,
) -> TrackDescription {
    TrackDescription {
        id,
        kind: v1::MediaKind::Audio,
        format: format.clone(),
        payload_type: encoding.payload_type(),
        clock: MediaClock::new(origin, encoding.clock_rate()).aged(audio::AGE),
        audience: Arc::clone(&audiences.audio),
    }
}

/// The tracks of all renditions of a view or transcoder.
#[derive(Debug)]
pub struct Renditions {
    origin: Instant,
    audiences: Audiences,
    video: Tracks,
    audio: Tracks,
}

type Tracks = BTreeMap<RenditionId, Arc<OutputTrack>>;

impl Renditions {
    /// None yet; the time of all of them is zero at `origin`.
    #[must_use]
    pub fn new(origin: Instant, audiences: Audiences) -> Self {
        Self { origin, audiences, video: Tracks::new(), audio: Tracks::new() }
    }

    /// Makes the tracks those described. One whose format is as it was goes on.
    ///
    /// # Errors
    /// If a track's id, as `name` makes it, is none.
    pub fn follow(
        &mut self,
        specs: &RenditionSpecs,
        outputs: &Outputs,
        name: impl Fn(&RenditionId) -> Result<TrackId, IdError>,
    ) -> Result<(), IdError> {
        let (origin, audiences) = (self.origin, &self.audiences);
        retain(&mut self.video, outputs, |id| specs.video.get(id).map(|spec| &spec.format));
        retain(&mut self.audio, outputs, |id| specs.audio.get(id).map(|spec| &spec.format));
        for (id, spec) in &specs.video {
            if !self.video.contains_key(id) {
                let track =
                    outputs.add(video_track(name(id)?, &spec.format, spec.encoding, origin, audiences));
                self.video.insert(id.clone(), track);
            }
        }
        for (id, spec) in &specs.audio {
            if !self.audio.contains_key(id) {
                let track =
                    outputs.add(audio_track(name(id)?, &spec.format, spec.mix.encoding, origin, audiences));
                self.audio.insert(id.clone(), track);
            }
        }
        Ok(())
    }

    /// All, with their ids.
    pub fn tracks(&self) -> impl Iterator<Item = (&RenditionId, &Arc<OutputTrack>)> {
        self.video.iter().chain(&self.audio)
    }

    /// That of a picture, if it is made.
    #[must_use]
    pub fn picture(&self, id: &RenditionId) -> Option<&Arc<OutputTrack>> {
        self.video.get(id)
    }

    /// What is to be encoded for them, of pictures that show `content`.
    pub fn pictures(&self, specs: &RenditionSpecs, content: Content) -> Vec<PlannedPicture> {
        let planned = |(id, track): (&RenditionId, &Arc<OutputTrack>)| {
            let spec = specs.video.get(id)?;
            Some(PlannedPicture {
                encoding: spec.encoding,
                size: spec.size,
                framerate: spec.framerate,
                content,
                bitrate: spec.bitrate,
                key_frame_interval: spec.key_frame_interval,
                track: Arc::clone(track),
            })
        };
        self.video.iter().filter_map(planned).collect()
    }

    /// What is to be encoded for them.
    pub fn mixes(&self, specs: &RenditionSpecs) -> Vec<PlannedOutput> {
        let planned = |(id, track): (&RenditionId, &Arc<OutputTrack>)| {
            Some(PlannedOutput { mix: specs.audio.get(id)?.mix.clone(), track: Arc::clone(track) })
        };
        self.audio.iter().filter_map(planned).collect()
    }

    /// Ends all.
    pub fn remove(&mut self, outputs: &Outputs) {
        retain(&mut self.video, outputs, |_| None);
        retain(&mut self.audio, outputs, |_| None);
    }
}

/// Ends the tracks whose format is not that which is described, if any is.
fn retain<'a>(
    tracks: &mut Tracks,
    outputs: &Outputs,
    described: impl Fn(&RenditionId) -> Option<&'a v1::MediaFormat>,
) {
    tracks.retain(|id, track| {
        let stays = described(id) == Some(&track.description().format);
        if !stays {
            outputs.remove(track);
        }
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(id: &str, codec: &str) -> v1::VideoOutput {
        gstreamer::init().unwrap();
        v1::VideoOutput {
            id: id.into(),
            format: Some(v1::MediaFormat { codec: codec.into(), ..Default::default() }),
            ..Default::default()
        }
    }
    fn audio(id: &str, codec: &str) -> v1::AudioOutput {
        v1::AudioOutput {
            id: id.into(),
            format: Some(v1::MediaFormat { codec: codec.into(), ..Default::default() }),
            minus_participant: String::new(),
        }
    }
    fn id(text: &str) -> RenditionId {
        RenditionId::new(text).unwrap()
    }
    fn refused(change: impl FnOnce(&mut v1::VideoOutput)) -> RenditionError {
        let mut output = video("o", "vp8");
        change(&mut output);
        let mut specs = RenditionSpecs::parse(vec![output], vec![], 1.0).unwrap();
        assert!(specs.video.is_empty());
        specs.failures.remove(&id("o")).unwrap()
    }

    #[test]
    fn what_is_not_given_is_the_sources_or_what_is_usual() {
        let specs = RenditionSpecs::parse(vec![video("v", "h264")], vec![audio("a", "pcmu")], 0.8).unwrap();
        let spec = &specs.video[&id("v")];
        assert_eq!((spec.size, spec.framerate, spec.key_frame_interval), (None, None, None));
        assert_eq!(spec.bitrate, TargetBitrate::Fitting(0.8));
        assert_eq!(specs.audio[&id("a")].mix, PlannedMix { mix: Mix::Common, encoding: AudioEncoding::Pcmu });
    }

    #[test]
    fn what_is_given_is_taken() {
        let given = v1::VideoOutput {
            resolution: Some(v1::Resolution { width: 640, height: 360 }),
            framerate: 12,
            bitrate_factor: 0.4,
            key_frame_interval: 2,
            ..video("v", "vp9")
        };
        let fixed = v1::VideoOutput { bitrate: 300, id: "w".into(), ..given.clone() };
        let specs = RenditionSpecs::parse(vec![given, fixed], vec![], 0.5).unwrap();
        let spec = &specs.video[&id("v")];
        assert_eq!(spec.size, Some(Size { width: 640, height: 360 }));
        assert_eq!((spec.framerate, spec.key_frame_interval), (Some(12), Some(Duration::from_secs(2))));
        assert_eq!(spec.bitrate, TargetBitrate::Fitting(0.2));
        assert_eq!(specs.video[&id("w")].bitrate, TargetBitrate::Fixed(300));
    }

    #[test]
    fn one_that_cannot_be_costs_the_others_nothing() {
        let videos = vec![video("v1", "h265"), video("v2", "vp8")];
        let specs =
            RenditionSpecs::parse(videos, vec![audio("a1", "isac"), audio("a2", "g722")], 1.0).unwrap();
        let failed: Vec<String> = specs.failures().into_iter().map(|failure| failure.id).collect();
        assert_eq!(failed, ["a1", "v1"]);
        assert_eq!((specs.video.len(), specs.audio.len()), (1, 1));
    }

    #[test]
    fn numbers_beyond_what_is_made_are_refused() {
        let size = |width, height| Some(v1::Resolution { width, height });
        assert!(matches!(refused(|o| o.resolution = size(0, 360)), RenditionError::Range { .. }));
        assert!(matches!(refused(|o| o.resolution = size(9000, 360)), RenditionError::Range { .. }));
        assert_eq!(refused(|o| o.resolution = size(641, 360)), RenditionError::Odd);
        assert!(matches!(refused(|o| o.framerate = 1000), RenditionError::Range { .. }));
        assert!(matches!(refused(|o| o.bitrate = u32::MAX), RenditionError::Range { .. }));
        assert!(matches!(refused(|o| o.key_frame_interval = u32::MAX), RenditionError::Range { .. }));
        assert!(matches!(refused(|o| o.bitrate_factor = -1.0), RenditionError::Factor(_)));
        assert!(matches!(refused(|o| o.bitrate_factor = f64::NAN), RenditionError::Factor(_)));
        assert!(matches!(refused(|o| o.format = None), RenditionError::NoFormat));
        let profile = |o: &mut v1::VideoOutput| o.format.as_mut().unwrap().profile = "H".into();
        assert!(matches!(refused(profile), RenditionError::VideoCodec { .. }), "VP8 has no such profile");
    }

    #[test]
    fn ids_are_checked_and_numbers_bounded() {
        let parse = |videos| RenditionSpecs::parse(videos, vec![audio("a", "opus")], 1.0).unwrap_err();
        assert!(matches!(parse(vec![video("a b", "vp8")]), DescriptionError::Id(_)));
        assert!(matches!(parse(vec![video("a", "vp8")]), DescriptionError::OutputTwice(_)));
        let many = (0..=MAX_VIDEO).map(|i| video(&format!("v{i}"), "vp8")).collect();
        assert!(matches!(parse(many), DescriptionError::TooMany { .. }));
    }
}
