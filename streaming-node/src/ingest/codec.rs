//! In what an input is sent: as it comes where browsers take that and the room does, otherwise transcoded.

use gstreamer as gst;
use kaigi_proto::v1;

use crate::lanes::Kind;

/// Codecs that browsers take, the best choice for transcoding first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IngestCodec {
    /// RFC 6716
    Opus,
    /// G.722
    G722,
    /// G.711 µ-law
    Pcmu,
    /// G.711 A-law
    Pcma,
    /// ITU-T H.264
    H264,
    /// RFC 6386
    Vp8,
    /// VP9
    Vp9,
}

/// Profiles of H.264 that all browsers decode (4:2:0, 8 bits), by their names in caps, and OWT's names of them.
const PROFILES: [(&str, &str); 7] = [
    ("constrained-baseline", "CB"),
    ("baseline", "B"),
    ("main", "M"),
    ("extended", "E"),
    ("constrained-high", "H"),
    ("progressive-high", "H"),
    ("high", "H"),
];

impl IngestCodec {
    const ALL: [Self; 7] = [Self::Opus, Self::G722, Self::Pcmu, Self::Pcma, Self::H264, Self::Vp8, Self::Vp9];

    /// The name that OWT gives it.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::G722 => "g722",
            Self::Pcmu => "pcmu",
            Self::Pcma => "pcma",
            Self::H264 => "h264",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
        }
    }

    /// By that name.
    #[must_use]
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Sound or picture.
    #[must_use]
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Opus | Self::G722 | Self::Pcmu | Self::Pcma => Kind::Audio,
            Self::H264 | Self::Vp8 | Self::Vp9 => Kind::Video,
        }
    }

    /// Hz of RTP timestamps.
    #[must_use]
    pub(super) fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            // RFC 3551 §4.5.2: half of what is sampled.
            Self::G722 | Self::Pcmu | Self::Pcma => 8_000,
            Self::H264 | Self::Vp8 | Self::Vp9 => 90_000,
        }
    }

    /// On the link.
    #[must_use]
    pub(super) fn payload_type(self) -> u8 {
        match self {
            Self::Opus => 111,
            Self::G722 => 9,
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::H264 | Self::Vp8 | Self::Vp9 => 96,
        }
    }

    /// As rooms know it.
    #[must_use]
    pub(super) fn format(self, profile: &str) -> v1::MediaFormat {
        let (sample_rate, channels) = if self == Self::Opus { (48_000, 2) } else { (0, 0) };
        v1::MediaFormat { codec: self.name().to_owned(), sample_rate, channels, profile: profile.to_owned() }
    }

    /// How many units of the clock a packet of sound stands for; `None` of pictures, and of what is no sound.
    #[must_use]
    pub(super) fn samples(self, payload: &[u8]) -> Option<u32> {
        match self {
            Self::Opus => opus_samples(payload),
            Self::G722 | Self::Pcmu | Self::Pcma => u32::try_from(payload.len()).ok(),
            Self::H264 | Self::Vp8 | Self::Vp9 => None,
        }
    }
}

/// RFC 6716 §3.1, 3.2: at 48 kHz.
fn opus_samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match (toc >> 3, u32::from(toc >> 3 & 3)) {
        (0..=11, 3) => 2880,
        (0..=11, size) => 480 << size,
        (12..=15, size) => 480 << (size & 1),
        (_, size) => 120 << size,
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    // 120 ms at most.
    Some(frame * count).filter(|samples| (1..=5760).contains(samples))
}

/// OWT's name of a profile of H.264, if it is one of those that pass.
#[must_use]
pub(super) fn profile_named(name: &str) -> &'static str {
    PROFILES.into_iter().map(|(_, known)| known).find(|known| *known == name).unwrap_or_default()
}

/// What is done with a stream of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// In what it is sent.
    pub(super) codec: IngestCodec,
    /// Whether it is sent as it comes.
    pub(super) passes: bool,
    /// Of H.264.
    pub(super) profile: &'static str,
}

/// What an input may be sent in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted<'a> {
    /// What the room takes.
    pub(super) formats: &'a [v1::MediaFormat],
    /// In what it was sent before, which it stays in.
    pub(super) established: Option<IngestCodec>,
    /// Whether pictures must not pass: they come in another order than they are shown in, for example, which RTP to browsers has no way to say.
    pub(super) transcodes: bool,
}

/// Sound or picture, if it is one of these.
#[must_use]
pub(super) fn kind_of(caps: &gst::CapsRef) -> Option<Kind> {
    let name = caps.structure(0)?.name();
    match name.split_once('/')?.0 {
        "audio" => Some(Kind::Audio),
        "video" => Some(Kind::Video),
        _ => None,
    }
}

impl Accepted<'_> {
    /// What is done with a stream of such caps; `None` if the room takes nothing that it could be made.
    #[must_use]
    pub(super) fn choose(&self, kind: Kind, caps: &gst::CapsRef) -> Option<Choice> {
        let own = caps.structure(0).and_then(own_codec);
        let own = own.filter(|(codec, _)| codec.kind() == kind && !(self.transcodes && kind == Kind::Video));
        let fits = |codec: IngestCodec| match self.established {
            Some(established) => codec == established,
            None => self.formats.iter().any(|format| format.codec.eq_ignore_ascii_case(codec.name())),
        };
        if let Some((codec, profile)) = own.filter(|(codec, _)| fits(*codec)) {
            return Some(Choice { codec, passes: true, profile });
        }
        let codec = IngestCodec::ALL.into_iter().find(|codec| codec.kind() == kind && fits(*codec))?;
        let profile = if codec == IngestCodec::H264 { "CB" } else { "" };
        Some(Choice { codec, passes: false, profile })
    }
}

/// The codec of a stream that browsers could be sent as it is, with its profile.
pub(super) fn own_codec(structure: &gst::StructureRef) -> Option<(IngestCodec, &'static str)> {
    let number = |name: &str| structure.get::<i32>(name).ok();
    let telephone = number("rate") == Some(8_000) && number("channels").is_none_or(|channels| channels == 1);
    let codec = match structure.name().as_str() {
        // Of more than two channels it is another format (RFC 7845 §5.1.1).
        "audio/x-opus" if number("channels").is_none_or(|channels| channels <= 2) => IngestCodec::Opus,
        "audio/x-mulaw" if telephone => IngestCodec::Pcmu,
        "audio/x-alaw" if telephone => IngestCodec::Pcma,
        "audio/G722" => IngestCodec::G722,
        "video/x-vp8" => IngestCodec::Vp8,
        "video/x-vp9" if structure.get::<&str>("profile").is_ok_and(|profile| profile != "0") => return None,
        "video/x-vp9" => IngestCodec::Vp9,
        "video/x-h264" => {
            let interlaced = structure.get::<&str>("interlace-mode").is_ok_and(|mode| mode != "progressive");
            if interlaced {
                return None;
            }
            // Some streams are found before their parameter sets are: who looks at the pictures looks at this again.
            let Ok(profile) = structure.get::<&str>("profile") else { return Some((IngestCodec::H264, "")) };
            let (_, profile) = PROFILES.into_iter().find(|(name, _)| *name == profile)?;
            return Some((IngestCodec::H264, profile));
        }
        _ => return None,
    };
    Some((codec, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats(names: &[&str]) -> Vec<v1::MediaFormat> {
        names.iter().map(|name| v1::MediaFormat { codec: (*name).into(), ..Default::default() }).collect()
    }
    fn choose(accepted: &Accepted<'_>, kind: Kind, caps: &str) -> Option<(&'static str, bool)> {
        gst::init().unwrap();
        let caps: gst::Caps = caps.parse().unwrap();
        accepted.choose(kind, &caps).map(|choice| (choice.codec.name(), choice.passes))
    }

    #[test]
    fn what_browsers_take_passes() {
        let (audio, video) =
            (formats(&["opus", "g722", "pcma", "pcmu", "aac"]), formats(&["h264", "vp8", "vp9"]));
        let audio = |caps: &str| {
            let accepted = Accepted { formats: &audio, established: None, transcodes: false };
            choose(&accepted, Kind::Audio, caps)
        };
        let video = |caps: &str, transcodes| {
            let accepted = Accepted { formats: &video, established: None, transcodes };
            choose(&accepted, Kind::Video, caps)
        };
        assert_eq!(audio("audio/x-opus, channels=2"), Some(("opus", true)));
        assert_eq!(audio("audio/x-opus, channels=6"), Some(("opus", false)));
        assert_eq!(audio("audio/x-mulaw, rate=8000, channels=1"), Some(("pcmu", true)));
        assert_eq!(audio("audio/x-mulaw, rate=16000, channels=1"), Some(("opus", false)));
        assert_eq!(audio("audio/mpeg, mpegversion=4"), Some(("opus", false)));
        assert_eq!(video("video/x-h264, profile=main", false), Some(("h264", true)));
        assert_eq!(video("video/x-h264, profile=main", true), Some(("h264", false)));
        assert_eq!(video("video/x-h264, profile=high-4:2:2", false), Some(("h264", false)));
        assert_eq!(video("video/x-h264, profile=main, interlace-mode=mixed", false), Some(("h264", false)));
        assert_eq!(video("video/x-vp9, profile=(string)0", false), Some(("vp9", true)));
        assert_eq!(video("video/x-vp9, profile=(string)2", false), Some(("h264", false)));
        assert_eq!(video("video/x-h265", false), Some(("h264", false)));
    }

    #[test]
    fn a_room_says_what_it_takes_and_a_track_stays_what_it_was() {
        let vp8 = formats(&["vp8"]);
        let accepted = Accepted { formats: &vp8, established: None, transcodes: false };
        assert_eq!(choose(&accepted, Kind::Video, "video/x-h264, profile=main"), Some(("vp8", false)));
        let none = Accepted { formats: &formats(&["aac"]), ..accepted };
        assert_eq!(choose(&none, Kind::Audio, "audio/mpeg, mpegversion=4"), None);
        let established = Accepted { established: Some(IngestCodec::Vp9), ..accepted };
        assert_eq!(choose(&established, Kind::Video, "video/x-vp8"), Some(("vp9", false)));
    }

    #[test]
    fn opus_says_how_long_it_is() {
        for (packet, samples) in [
            (&[0xfc, 0xff][..], Some(960)),
            (&[0x78], Some(960)),
            (&[0x00], Some(480)),
            (&[0x18], Some(2880)),
            (&[0xfd, 1, 2], Some(1920)),
            (&[0xff, 0x03], Some(2880)),
            (&[0xff, 0x3f], None),
            (&[0xff], None),
            (&[], None),
        ] {
            assert_eq!(opus_samples(packet), samples, "{packet:?}");
        }
    }
}
