//! Media vocabulary inside a room, and its way to and from the wire.

use kaigi_proto::{
    ids::{TrackId, WorkerId},
    v1,
};
use kaigi_room_config::{AudioFormat, Resolution, VideoFormat};
use serde::{Deserialize, Serialize};

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    Audio,
    Video,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Audio, Kind::Video];

    /// As client texts name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Audio => "audio",
            Kind::Video => "video",
        }
    }

    /// `None` for the unspecified and for kinds this version does not know.
    pub(crate) fn from_wire(kind: i32) -> Option<Self> {
        match v1::MediaKind::try_from(kind).ok()? {
            v1::MediaKind::Unspecified => None,
            v1::MediaKind::Audio => Some(Kind::Audio),
            v1::MediaKind::Video => Some(Kind::Video),
        }
    }

    pub(crate) fn to_wire(self) -> i32 {
        match self {
            Kind::Audio => v1::MediaKind::Audio.into(),
            Kind::Video => v1::MediaKind::Video.into(),
        }
    }
}

/// Audio and video, each yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kinds {
    pub(crate) audio: bool,
    pub(crate) video: bool,
}

impl Kinds {
    pub(crate) fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Audio => self.audio,
            Kind::Video => self.video,
        }
    }

    pub(crate) fn any(self) -> bool {
        self.audio || self.video
    }

    pub(crate) fn set(&mut self, kind: Kind, to: bool) {
        match kind {
            Kind::Audio => self.audio = to,
            Kind::Video => self.video = to,
        }
    }

    pub(crate) fn to_wire(self) -> v1::KindFlags {
        v1::KindFlags { audio: self.audio, video: self.video }
    }
}

impl From<kaigi_room_config::KindFlags> for Kinds {
    fn from(flags: kaigi_room_config::KindFlags) -> Self {
        Self { audio: flags.audio, video: flags.video }
    }
}

impl From<v1::KindFlags> for Kinds {
    fn from(flags: v1::KindFlags) -> Self {
        Self { audio: flags.audio, video: flags.video }
    }
}

/// A codec with what distinguishes its variants; a number that is 0 and a text that is empty are "as the codec has it".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    pub(crate) codec: String,
    /// Hz; audio only.
    pub(crate) sample_rate: u32,
    /// Audio only.
    pub(crate) channels: u32,
    /// H.264 only.
    pub(crate) profile: String,
}

impl Format {
    pub(crate) fn from_wire(format: v1::MediaFormat) -> Self {
        Self {
            codec: format.codec.to_ascii_lowercase(),
            sample_rate: format.sample_rate,
            channels: format.channels,
            profile: format.profile,
        }
    }

    pub(crate) fn to_wire(&self) -> v1::MediaFormat {
        v1::MediaFormat {
            codec: self.codec.clone(),
            sample_rate: self.sample_rate,
            channels: self.channels,
            profile: self.profile.clone(),
        }
    }

    /// Whether a publication of this format satisfies `accepted`, an entry of the room's `mediaIn`: same codec, members that
    /// the entry names equal, and an H.264 profile not above the entry's.
    pub(crate) fn is_within(&self, accepted: &Format) -> bool {
        self.codec == accepted.codec
            && (accepted.sample_rate == 0
                || self.sample_rate == 0
                || self.sample_rate == accepted.sample_rate)
            && (accepted.channels == 0 || self.channels == 0 || self.channels == accepted.channels)
            && profile_fits(&self.profile, &accepted.profile)
    }

    /// Whether this format, wanted by a subscriber, is what `offered` stands for: members that the wish leaves out match all.
    pub(crate) fn is_met_by(&self, offered: &Format) -> bool {
        self.codec == offered.codec
            && (self.sample_rate == 0 || self.sample_rate == offered.sample_rate)
            && (self.channels == 0 || self.channels == offered.channels)
            && profile_fits(&offered.profile, &self.profile)
    }
}

/// Whether an H.264 profile is not above another: CB < B < M < E < H; a missing one matches all.
fn profile_fits(profile: &str, at_most: &str) -> bool {
    let rank = |p: &str| ["CB", "B", "M", "E", "H"].iter().position(|&known| known == p);
    profile.is_empty()
        || at_most.is_empty()
        || profile == at_most
        || matches!((rank(profile), rank(at_most)), (Some(a), Some(b)) if a <= b)
}

impl From<&AudioFormat> for Format {
    fn from(format: &AudioFormat) -> Self {
        Self {
            codec: format.codec.to_ascii_lowercase(),
            sample_rate: format.sample_rate.unwrap_or(0),
            channels: format.channel_num.unwrap_or(0),
            profile: String::new(),
        }
    }
}

impl From<&VideoFormat> for Format {
    fn from(format: &VideoFormat) -> Self {
        Self {
            codec: format.codec.to_ascii_lowercase(),
            profile: format.profile.clone().unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// A process that the room calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) worker: WorkerId,
    /// gRPC endpoint, "http://host:port".
    pub(crate) endpoint: String,
}

/// Where a consumer finds a track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) track: TrackId,
    pub(crate) node: Node,
    pub(crate) kind: Kind,
    pub(crate) format: Format,
}

impl Source {
    pub(crate) fn to_wire(&self) -> v1::TrackSource {
        v1::TrackSource {
            track_id: self.track.to_string(),
            worker_id: self.node.worker.to_string(),
            endpoint: self.node.endpoint.clone(),
            kind: self.kind.to_wire(),
            format: Some(self.format.to_wire()),
        }
    }

    /// `None` if a member is missing or is no identifier.
    pub(crate) fn from_wire(source: v1::TrackSource) -> Option<Self> {
        Some(Self {
            track: TrackId::new(source.track_id).ok()?,
            node: Node { worker: WorkerId::new(source.worker_id).ok()?, endpoint: source.endpoint },
            kind: Kind::from_wire(source.kind)?,
            format: Format::from_wire(source.format?),
        })
    }
}

/// What a subscriber wants of a picture that there are several layers of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerWish {
    /// `None` = the largest.
    pub(crate) resolution: Option<Resolution>,
    /// Frames per second, at most; `None` = all there are.
    pub(crate) framerate: Option<u32>,
    /// kbit/s, at most; `None` = all there are.
    pub(crate) bitrate: Option<u32>,
    /// Among the subscriptions of one client, higher ones get their share of what its way carries first.
    pub(crate) priority: u32,
}

impl LayerWish {
    fn to_wire(self) -> v1::LayerWish {
        v1::LayerWish {
            resolution: self.resolution.map(resolution_to_wire),
            framerate: self.framerate.unwrap_or(0),
            bitrate: u64::from(self.bitrate.unwrap_or(0)) * 1000,
            priority: self.priority,
        }
    }
}

/// Where an access node takes what it sends to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Feed {
    Track(Source),
    /// One of these at a time, as it sees fit.
    Layers(Vec<Source>, LayerWish),
    /// Whoever is in that slot of the room's selection.
    Selected(usize, Format),
}

/// A feed as calls have it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FeedOnWire {
    pub(crate) source: Option<v1::TrackSource>,
    pub(crate) layers: Vec<v1::TrackSource>,
    pub(crate) wanted: Option<v1::LayerWish>,
    pub(crate) selected: Option<v1::SelectedTrack>,
}

impl Feed {
    /// The tracks that it may be.
    #[cfg(test)]
    pub(crate) fn sources(&self) -> &[Source] {
        match self {
            Self::Track(source) => std::slice::from_ref(source),
            Self::Layers(layers, _) => layers,
            Self::Selected(..) => &[],
        }
    }

    pub(crate) fn to_wire(&self) -> FeedOnWire {
        let nothing = FeedOnWire::default();
        match self {
            Self::Track(source) => FeedOnWire { source: Some(source.to_wire()), ..nothing },
            Self::Layers(layers, wish) => FeedOnWire {
                layers: layers.iter().map(Source::to_wire).collect(),
                wanted: Some(wish.to_wire()),
                ..nothing
            },
            Self::Selected(slot, format) => {
                let slot = u32::try_from(*slot).unwrap_or(u32::MAX);
                let selected = v1::SelectedTrack { slot, format: Some(format.to_wire()) };
                FeedOnWire { selected: Some(selected), ..nothing }
            }
        }
    }
}

pub(crate) fn resolution_to_wire(resolution: Resolution) -> v1::Resolution {
    v1::Resolution { width: resolution.width, height: resolution.height }
}

pub(crate) fn resolution_from_wire(resolution: v1::Resolution) -> Option<Resolution> {
    (resolution.width > 0 && resolution.height > 0)
        .then_some(Resolution { width: resolution.width, height: resolution.height })
}

/// Parameters of a video track; `None` = unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VideoParameters {
    pub(crate) resolution: Option<Resolution>,
    /// Frames per second.
    pub(crate) framerate: Option<u32>,
    /// kbit/s
    pub(crate) bitrate: Option<u32>,
    /// Seconds.
    pub(crate) key_frame_interval: Option<u32>,
}

impl VideoParameters {
    pub(crate) fn from_wire(parameters: v1::VideoParameters) -> Self {
        let known = |n: u32| (n > 0).then_some(n);
        Self {
            resolution: parameters.resolution.and_then(resolution_from_wire),
            framerate: known(parameters.framerate),
            bitrate: known(parameters.bitrate),
            key_frame_interval: known(parameters.key_frame_interval),
        }
    }

    /// Absent when nothing is known.
    pub(crate) fn to_wire(self) -> Option<v1::VideoParameters> {
        (self != Self::default()).then(|| v1::VideoParameters {
            resolution: self.resolution.map(resolution_to_wire),
            framerate: self.framerate.unwrap_or(0),
            bitrate: self.bitrate.unwrap_or(0),
            key_frame_interval: self.key_frame_interval.unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(profile: &str) -> Format {
        Format { codec: "h264".into(), profile: profile.into(), ..Format::default() }
    }

    #[test]
    fn a_publications_profile_is_not_above_the_accepted_one() {
        assert!(h264("CB").is_within(&h264("B")));
        assert!(h264("CB").is_within(&h264("")));
        assert!(!h264("H").is_within(&h264("CB")));
        assert!(!h264("CB").is_within(&Format { codec: "vp8".into(), ..Format::default() }));
    }

    #[test]
    fn a_wish_is_met_by_a_profile_not_above_it() {
        assert!(h264("B").is_met_by(&h264("CB")));
        assert!(!h264("CB").is_met_by(&h264("H")));
        assert!(h264("").is_met_by(&h264("H")));
    }
}
