//! The descriptions of views and transcoders, checked and typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kaigi_filters::{Filter, FilterError};
use kaigi_proto::{
    ids::{IdError, ParticipantId, RoomId, StreamId, TrackId, WorkerId},
    v1,
};

use crate::{
    audio::{AudioEncoding, AudioFormatError},
    link::LayeredTrack,
    rendition::{RenditionError, RenditionId, RenditionSpecs},
    video::{
        ActiveInput, Area, Colour, Content, Corner, Decoration, GeometryError, Rect, Size, VideoEncoding,
    },
};

/// Inputs of one view at most. Each decoded one takes some threads and memory.
pub const MAX_INPUTS: usize = 200;
/// Characters of a name that are taken; no caption has room for more.
const MAX_NAME: usize = 200;
/// Milliseconds.
const MAX_ANIMATION: u32 = 2000;
/// Hundredths of the picture's height; a larger one hides what it is over.
const LOGO_HEIGHTS: std::ops::RangeInclusive<u32> = 1..=50;
/// Layers of one picture at most; WebRTC's publishers send three.
const MAX_LAYERS: usize = 16;
/// Smaller sizes of a view that are chosen among.
const MAX_VIEW_LAYERS: usize = 4;
/// Regions of one layout at most.
const MAX_REGIONS: usize = 200;
/// Participants with a mix of their own in one view at most. Each costs an encoder while it is listened to.
const MAX_MINUS: usize = 500;
/// Pixels of a side, and pictures a second.
pub(crate) const SIDES: std::ops::RangeInclusive<u32> = 16..=4096;
pub(crate) const RATES: std::ops::RangeInclusive<u32> = 1..=60;
/// kbit/s.
pub(crate) const BITRATES: std::ops::RangeInclusive<u32> = 1..=100_000;
/// Seconds between key frames at most; an hour is as good as never.
pub(crate) const MAX_KEY_FRAME_INTERVAL: u32 = 3600;

/// Why a description is refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum DescriptionError {
    /// An id is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A region is none.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// A part that must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A number beyond what this node makes.
    #[error("{what} {value} is not within {from}..={to}")]
    Range {
        /// What number.
        what: &'static str,
        /// What was given.
        value: u64,
        /// Least.
        from: u64,
        /// Most.
        to: u64,
    },
    /// Pictures have chroma of half their width and height.
    #[error("width and height must be even")]
    Odd,
    /// No encoder for it.
    #[error("output codec {0:?} is not made here")]
    Codec(String),
    /// No encoder for it.
    #[error(transparent)]
    AudioFormat(#[from] AudioFormatError),
    /// More than one view or transcoder may have.
    #[error("{given} {what}, no more than {most} are made")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many were given.
        given: usize,
        /// Bound.
        most: usize,
    },
    /// The same output twice.
    #[error("output {0} is named twice")]
    OutputTwice(String),
    /// A transcoder's outputs are of its source's kind.
    #[error("outputs are not of the source's kind")]
    Kind,
    /// Not a positive number.
    #[error("motion factor {0} is none")]
    MotionFactor(f64),
    /// No such filter, or one with other parameters.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The same stream twice.
    #[error("input {0} is named twice")]
    Twice(StreamId),
}

/// Which view.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewKey {
    /// Its room.
    pub room: RoomId,
    /// Its label.
    pub label: String,
}

/// Order of descriptions: the agent's epoch, then its count of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Of the room's lease.
    pub epoch: u64,
    /// Within the epoch.
    pub revision: u64,
}

/// What a view is to be.
#[derive(Clone, Debug)]
pub struct ViewSpec {
    /// Which view.
    pub key: ViewKey,
    /// Whose it is.
    pub agent: String,
    /// Of this description.
    pub version: Version,
    /// Absent: audio only.
    pub video: Option<VideoSpec>,
    /// Format of the view's own mixes.
    pub audio_format: v1::MediaFormat,
    /// What it says.
    pub audio_encoding: AudioEncoding,
    /// Whether the loudest input is reported.
    pub voice_activity: bool,
    /// By stream.
    pub inputs: BTreeMap<StreamId, InputSpec>,
    /// Who gets a mix of his own.
    pub minus: BTreeSet<ParticipantId>,
    /// Other formats and sizes.
    pub renditions: RenditionSpecs,
    /// Which of them are layers.
    pub layers: Vec<RenditionId>,
}

/// What a view's picture is to be.
#[derive(Clone, Debug)]
pub struct VideoSpec {
    /// As it came.
    pub format: v1::MediaFormat,
    /// What it says.
    pub encoding: VideoEncoding,
    /// Of the picture.
    pub size: Size,
    /// Pictures a second.
    pub framerate: u32,
    /// kbit/s.
    pub bitrate: u32,
    /// Longest time from one key frame to the next; none = only on request.
    pub key_frame_interval: Option<Duration>,
    /// Where nothing else is.
    pub background: Colour,
    /// Whether frames are cut to fill their regions.
    pub crop: bool,
    /// In drawing order, with the stream that each shows.
    pub regions: Vec<(Area, Option<StreamId>)>,
    /// What is done to the composed picture.
    pub filter: Option<Filter>,
    /// Whether avatars are shown where there are no pictures.
    pub avatars: bool,
    /// Name of the picture that they are.
    pub avatar_picture: Option<String>,
    /// Shown over everything.
    pub logo: Option<LogoSpec>,
    /// What is drawn besides.
    pub decoration: Decoration,
}

/// A logo.
#[derive(Clone, Debug, PartialEq)]
pub struct LogoSpec {
    /// Name of the picture.
    pub picture: String,
    /// Where.
    pub corner: Corner,
    /// Hundredths of the whole picture's height.
    pub height: u32,
}

/// An input.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// Who publishes it.
    pub owner: ParticipantId,
    /// What people call whoever publishes it.
    pub name: Arc<str>,
    /// Absent also when muted.
    pub audio: Option<v1::TrackSource>,
    /// Absent also when muted.
    pub video: Option<LayeredTrack>,
    /// What is done to its picture.
    pub filter: Option<Filter>,
    /// Whether its picture is a screen that is shared.
    pub screen: bool,
}

impl ViewSpec {
    /// What the view shows, for its encoders: a screen where that is its only picture, or larger than every other.
    #[must_use]
    pub fn content(&self) -> Content {
        let Some(video) = &self.video else { return Content::Camera };
        let shown = video.regions.iter().filter_map(|(area, stream)| {
            let input = self.inputs.get(stream.as_ref()?).filter(|input| input.video.is_some())?;
            let Rect { size, .. } = area.place(video.size)?;
            Some((size.width * size.height, input.screen))
        });
        let (mut largest, mut content) = (0, Content::Camera);
        for (pixels, screen) in shown {
            if pixels > largest {
                (largest, content) = (pixels, if screen { Content::Screen } else { Content::Camera });
            } else if pixels == largest && !screen {
                content = Content::Camera;
            }
        }
        content
    }
}

impl TryFrom<v1::ViewDescription> for ViewSpec {
    type Error = DescriptionError;

    fn try_from(view: v1::ViewDescription) -> Result<Self, DescriptionError> {
        let key = ViewKey { room: RoomId::new(&view.room_id)?, label: view.label.clone() };
        // A label is part of the ids of the view's tracks.
        TrackId::new(&key.label)?;
        at_most("number of inputs", view.inputs.len(), MAX_INPUTS)?;
        at_most("number of minus participants", view.minus_participants.len(), MAX_MINUS)?;
        let audio_format = view.audio_format.ok_or(DescriptionError::Missing("audio_format"))?;
        let audio_encoding = AudioEncoding::of(&audio_format)?;
        let motion_factor = motion_factor(view.video.as_ref())?;
        at_most("number of layers", view.video_layers.len(), MAX_VIEW_LAYERS)?;
        let (outputs, layers) = (view.video_outputs, view.video_layers);
        let ids: Vec<String> = layers.iter().map(|layer| layer.id.clone()).collect();
        let is_new = |layer: &v1::VideoOutput| outputs.iter().all(|output| output.id != layer.id);
        let others: Vec<_> = layers.into_iter().filter(is_new).collect();
        let mut renditions = RenditionSpecs::parse(outputs, view.audio_outputs, motion_factor)?;
        renditions.add(others, motion_factor)?;
        let video = view.video.map(VideoSpec::try_from).transpose()?;
        fit_renditions(&mut renditions, video.as_ref());
        let mut inputs = BTreeMap::new();
        for input in view.inputs {
            let stream = StreamId::new(&input.stream_id)?;
            let spec = InputSpec {
                owner: ParticipantId::new(&input.owner)?,
                name: input.name.chars().take(MAX_NAME).collect::<String>().into(),
                audio: input.audio.filter(|_| !input.audio_muted),
                video: picture(input.video, input.video_layers)?.filter(|_| !input.video_muted),
                filter: filter(&input.filter, &input.filter_parameters)?,
                screen: input.screen,
            };
            if inputs.insert(stream.clone(), spec).is_some() {
                return Err(DescriptionError::Twice(stream));
            }
        }
        let minus = view.minus_participants.iter().map(ParticipantId::new).collect::<Result<_, _>>()?;
        Ok(Self {
            key,
            agent: WorkerId::new(view.agent_id)?.to_string(),
            version: Version { epoch: view.epoch, revision: view.revision },
            video,
            audio_format,
            audio_encoding,
            voice_activity: view.voice_activity,
            inputs,
            minus,
            renditions,
            layers: ids.iter().map(|id| RenditionId::new(id)).collect::<Result<_, _>>()?,
        })
    }
}

/// A picture's layers, or else its only track.
fn picture(
    track: Option<v1::TrackSource>,
    layers: Vec<v1::VideoLayer>,
) -> Result<Option<LayeredTrack>, DescriptionError> {
    at_most("number of layers", layers.len(), MAX_LAYERS)?;
    let layer = |layer: v1::VideoLayer| {
        let source = layer.source.ok_or(DescriptionError::Missing("source of a layer"))?;
        let size = layer.resolution.map(|v1::Resolution { width, height }| Size { width, height });
        Ok((source, size.filter(|size| size.width > 0 && size.height > 0)))
    };
    let layers = layers.into_iter().map(layer).collect::<Result<_, DescriptionError>>()?;
    Ok(LayeredTrack::new(layers).or_else(|| track.map(LayeredTrack::single)))
}

impl TryFrom<v1::ViewVideo> for VideoSpec {
    type Error = DescriptionError;

    fn try_from(video: v1::ViewVideo) -> Result<Self, DescriptionError> {
        let format = video.format.ok_or(DescriptionError::Missing("video format"))?;
        let encoding = VideoEncoding::from_names(&format.codec, &format.profile)
            .ok_or_else(|| DescriptionError::Codec(format!("{} {}", format.codec, format.profile)))?;
        let resolution = video.resolution.ok_or(DescriptionError::Missing("resolution"))?;
        let size = Size {
            width: within("width", resolution.width, SIDES)?,
            height: within("height", resolution.height, SIDES)?,
        };
        if size.width % 2 + size.height % 2 > 0 {
            return Err(DescriptionError::Odd);
        }
        let framerate = within("framerate", video.framerate, RATES)?;
        let interval = within("key_frame_interval", video.key_frame_interval, 0..=MAX_KEY_FRAME_INTERVAL)?;
        let layout = video.layout.unwrap_or_default();
        at_most("number of regions", layout.regions.len(), MAX_REGIONS)?;
        let filter = filter(&video.filter, &video.filter_parameters)?;
        Ok(Self {
            format,
            encoding,
            size,
            framerate,
            key_frame_interval: (interval > 0).then(|| Duration::from_secs(interval.into())),
            bitrate: within("bitrate", video.bitrate, BITRATES)?,
            background: Colour::from_rgb(video.background_rgb),
            crop: video.crop,
            regions: layout.regions.iter().map(region).collect::<Result<_, _>>()?,
            filter,
            avatars: video.avatars,
            avatar_picture: Some(video.avatar_picture).filter(|name| !name.is_empty()),
            logo: video.logo.map(LogoSpec::try_from).transpose()?,
            decoration: Decoration {
                captions: video.captions,
                border: video.active_border_rgb.map(Colour::from_rgb),
                active: ActiveInput::default(),
                clock: video.clock,
                // Looked up by the view.
                logo: None,
                animation: Duration::from_millis(
                    within("animation_ms", video.animation_ms, 0..=MAX_ANIMATION)?.into(),
                ),
            },
        })
    }
}

impl TryFrom<v1::Logo> for LogoSpec {
    type Error = DescriptionError;

    fn try_from(logo: v1::Logo) -> Result<Self, DescriptionError> {
        let corner = match logo.corner() {
            v1::Corner::Unspecified => return Err(DescriptionError::Missing("corner of the logo")),
            v1::Corner::TopLeft => Corner::TopLeft,
            v1::Corner::TopRight => Corner::TopRight,
            v1::Corner::BottomLeft => Corner::BottomLeft,
            v1::Corner::BottomRight => Corner::BottomRight,
        };
        Ok(Self {
            picture: logo.picture,
            corner,
            height: within("logo height", logo.height_percent, LOGO_HEIGHTS)?,
        })
    }
}

fn filter(name: &str, parameters: &str) -> Result<Option<Filter>, FilterError> {
    if matches!(name, "" | "none") { Ok(None) } else { Filter::parse(name, parameters).map(Some) }
}

fn motion_factor(video: Option<&v1::ViewVideo>) -> Result<f64, DescriptionError> {
    match video.map_or(1.0, |video| video.motion_factor) {
        0.0 => Ok(1.0),
        factor if factor.is_finite() && factor > 0.0 => Ok(factor),
        factor => Err(DescriptionError::MotionFactor(factor)),
    }
}

/// Video renditions have what the view has where they name nothing else, and never more.
fn fit_renditions(renditions: &mut RenditionSpecs, video: Option<&VideoSpec>) {
    let Some(VideoSpec { size: whole, framerate, .. }) = video else {
        renditions.refuse_video(|_| Err(RenditionError::NoPicture));
        return;
    };
    renditions.refuse_video(|spec| {
        let size = spec.size.unwrap_or(*whole);
        let given = [
            ("width", size.width, whole.width),
            ("height", size.height, whole.height),
            ("framerate", spec.framerate.unwrap_or(*framerate), *framerate),
        ];
        let beyond = given.into_iter().find(|(_, value, most)| value > most);
        beyond.map_or(Ok(()), |(what, value, most)| Err(RenditionError::Beyond { what, value, most }))
    });
    for spec in renditions.video.values_mut() {
        spec.size.get_or_insert(*whole);
        spec.framerate.get_or_insert(*framerate);
    }
}

/// Which transcoder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TranscoderKey {
    /// Its room.
    pub room: RoomId,
    /// Its agent's name for it.
    pub id: String,
}

/// What a transcoder is to be.
#[derive(Clone, Debug)]
pub struct TranscoderSpec {
    /// Which transcoder.
    pub key: TranscoderKey,
    /// Whose it is.
    pub agent: String,
    /// Of this description.
    pub version: Version,
    /// What is transcoded.
    pub source: TranscodedTrack,
    /// Into what; all of the source's kind.
    pub renditions: RenditionSpecs,
    /// What is done to the picture before.
    pub analysis: Option<AnalysisSpec>,
    /// What is made, for encoders.
    pub content: Content,
}

/// What is done to a picture that becomes a stream of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalysisSpec {
    /// By what.
    pub algorithm: AlgorithmSpec,
    /// Nothing flows.
    pub paused: bool,
}

/// What pictures are analysed by.
#[derive(Clone, Debug, PartialEq)]
pub enum AlgorithmSpec {
    /// A filter.
    Filter(Filter),
    /// What the operator has configured by that name, or has not.
    Configured(String),
}

impl AnalysisSpec {
    /// Whether width and height of the picture change places.
    #[must_use]
    pub fn swaps_sides(&self) -> bool {
        matches!(&self.algorithm, AlgorithmSpec::Filter(filter) if filter.swaps_sides())
    }
}

impl TryFrom<v1::Analysis> for AnalysisSpec {
    type Error = DescriptionError;

    fn try_from(analysis: v1::Analysis) -> Result<Self, DescriptionError> {
        let v1::Analysis { algorithm, parameters, paused } = analysis;
        let algorithm = if Filter::NAMES.contains(&algorithm.as_str()) {
            AlgorithmSpec::Filter(Filter::parse(&algorithm, &parameters)?)
        } else {
            AlgorithmSpec::Configured(algorithm)
        };
        Ok(Self { algorithm, paused })
    }
}

/// A transcoder's source.
#[derive(Clone, Debug)]
pub enum TranscodedTrack {
    /// Sound.
    Audio(v1::TrackSource),
    /// Pictures.
    Video(LayeredTrack),
}

impl TryFrom<v1::TranscoderDescription> for TranscoderSpec {
    type Error = DescriptionError;

    fn try_from(transcoder: v1::TranscoderDescription) -> Result<Self, DescriptionError> {
        let key = TranscoderKey { room: RoomId::new(&transcoder.room_id)?, id: transcoder.id };
        // The id is part of the ids of the transcoder's tracks.
        TrackId::new(&key.id)?;
        let source = transcoder.source.ok_or(DescriptionError::Missing("source"))?;
        let (video, audio) = (transcoder.video_outputs, transcoder.audio_outputs);
        match source.kind() {
            v1::MediaKind::Unspecified => return Err(DescriptionError::Missing("kind of the source")),
            v1::MediaKind::Video if !audio.is_empty() => return Err(DescriptionError::Kind),
            v1::MediaKind::Audio if !video.is_empty() => return Err(DescriptionError::Kind),
            v1::MediaKind::Video | v1::MediaKind::Audio => {}
        }
        let missing = DescriptionError::Missing("source");
        let source = match source.kind() {
            v1::MediaKind::Video => {
                TranscodedTrack::Video(picture(Some(source), transcoder.layers)?.ok_or(missing)?)
            }
            v1::MediaKind::Audio | v1::MediaKind::Unspecified => TranscodedTrack::Audio(source),
        };
        let mut renditions = RenditionSpecs::parse(video, audio, 1.0)?;
        renditions.refuse_minus();
        let analysis = transcoder.analysis.map(AnalysisSpec::try_from).transpose()?;
        if analysis.is_some() && matches!(source, TranscodedTrack::Audio(_)) {
            return Err(DescriptionError::Kind);
        }
        Ok(Self {
            key,
            // What finds edges or faces in a screen makes another picture of it.
            content: if transcoder.screen && analysis.is_none() { Content::Screen } else { Content::Camera },
            analysis,
            agent: WorkerId::new(transcoder.agent_id)?.to_string(),
            version: Version { epoch: transcoder.epoch, revision: transcoder.revision },
            source,
            renditions,
        })
    }
}

fn region(region: &v1::LayoutRegion) -> Result<(Area, Option<StreamId>), DescriptionError> {
    let area = Area {
        left: region.left.parse()?,
        top: region.top.parse()?,
        width: region.width.parse()?,
        height: region.height.parse()?,
    };
    let stream = Some(&region.stream_id).filter(|id| !id.is_empty()).map(StreamId::new).transpose()?;
    Ok((area, stream))
}

fn within(
    what: &'static str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, DescriptionError> {
    let (from, to) = (u64::from(*range.start()), u64::from(*range.end()));
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(DescriptionError::Range { what, value: value.into(), from, to })
    }
}

/// What there may be only so many of.
pub(crate) fn bounded(what: &'static str, given: usize, most: usize) -> Result<(), DescriptionError> {
    if given <= most { Ok(()) } else { Err(DescriptionError::TooMany { what, given, most }) }
}

fn at_most(what: &'static str, value: usize, most: usize) -> Result<(), DescriptionError> {
    if value <= most {
        Ok(())
    } else {
        Err(DescriptionError::Range { what, value: value as u64, from: 0, to: most as u64 })
    }
}

#[cfg(test)]
mod tests;
