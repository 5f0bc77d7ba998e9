//! Codecs as rooms name them, and which payloads of an offer they are.

use kaigi_proto::v1::MediaFormat;

use super::offer::{OfferedMedia, Payload};

/// A codec that can be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Codec {
    Opus,
    Pcmu,
    Pcma,
    G722,
    Isac,
    Ilbc,
    Vp8,
    Vp9,
    H264,
    H265,
    Av1,
}

impl Codec {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Opus, "opus"),
        (Self::Pcmu, "pcmu"),
        (Self::Pcma, "pcma"),
        (Self::G722, "g722"),
        (Self::Isac, "isac"),
        (Self::Ilbc, "ilbc"),
        (Self::Vp8, "vp8"),
        (Self::Vp9, "vp9"),
        (Self::H264, "h264"),
        (Self::H265, "h265"),
        (Self::Av1, "av1"),
    ];

    /// The codec of that name, in whatever case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| name.eq_ignore_ascii_case(known)).map(|(codec, _)| codec)
    }

    /// The lower-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(codec, _)| *codec == self).map_or("", |(_, name)| name)
    }

    /// Whether it is a video codec.
    #[must_use]
    pub fn is_video(self) -> bool {
        matches!(self, Self::Vp8 | Self::Vp9 | Self::H264 | Self::H265 | Self::Av1)
    }
}

/// Profile of an H.264 stream; a decoder of one decodes those before it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    High,
}

impl H264Profile {
    /// From OWT's letters; `None` for others.
    #[must_use]
    pub fn from_letters(letters: &str) -> Option<Self> {
        match letters {
            "CB" => Some(Self::ConstrainedBaseline),
            "B" => Some(Self::Baseline),
            "M" => Some(Self::Main),
            "H" => Some(Self::High),
            _ => None,
        }
    }

    /// OWT's letters.
    #[must_use]
    pub fn letters(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline => "CB",
            Self::Baseline => "B",
            Self::Main => "M",
            Self::High => "H",
        }
    }

    /// From an fmtp's profile-level-id (RFC 6184 §8.1); absent means Baseline there.
    fn from_level_id(id: Option<&str>) -> Option<Self> {
        let Some(id) = id else { return Some(Self::Baseline) };
        let id = u32::from_str_radix(id.trim(), 16).ok().filter(|_| id.trim().len() == 6)?;
        let constraint_set1 = id & 0x4000 != 0;
        match id >> 16 {
            0x42 if constraint_set1 => Some(Self::ConstrainedBaseline),
            0x42 => Some(Self::Baseline),
            0x4d => Some(Self::Main),
            0x64 => Some(Self::High),
            _ => None,
        }
    }
}

/// A codec with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// Which codec.
    pub codec: Codec,
    /// Hz; 0 where the codec fixes it or it does not matter.
    pub sample_rate: u32,
    /// 0 where the codec fixes it or it does not matter.
    pub channels: u32,
    /// H.264 only; absent = any.
    pub profile: Option<H264Profile>,
}

impl Format {
    /// From the message; `None` for a codec that can't be forwarded.
    #[must_use]
    pub fn from_message(message: &MediaFormat) -> Option<Self> {
        Some(Self {
            codec: Codec::from_name(&message.codec)?,
            sample_rate: message.sample_rate,
            channels: message.channels,
            profile: H264Profile::from_letters(&message.profile),
        })
    }

    /// As the message.
    #[must_use]
    pub fn to_message(self) -> MediaFormat {
        MediaFormat {
            codec: self.codec.name().to_owned(),
            sample_rate: self.sample_rate,
            channels: self.channels,
            profile: self.profile.map_or_else(String::new, |p| p.letters().to_owned()),
        }
    }

    /// Hz of the RTP timestamps.
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self.codec {
            Codec::Opus => 48_000,
            Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::Ilbc => 8_000,
            Codec::Isac if self.sample_rate != 0 => self.sample_rate,
            Codec::Isac => 16_000,
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::H265 | Codec::Av1 => 90_000,
        }
    }

    /// Whether a stream of `other` may be sent where this format was agreed on: the same codec with the same parameters, as far as they
    /// are known, and no higher H.264 profile.
    #[must_use]
    pub fn carries(self, other: Self) -> bool {
        let same = |a: u32, b: u32| a == 0 || b == 0 || a == b;
        self.codec == other.codec
            && same(self.sample_rate, other.sample_rate)
            && same(self.channels, other.channels)
            && self.profile.zip(other.profile).is_none_or(|(most, profile)| profile <= most)
    }

    /// Whether a stream of this format can be sent with an offered payload; one of a lower H.264 profile than the payload's is fine.
    fn can_be_sent_with(self, payload: &Payload) -> bool {
        self.is_codec_of(payload)
            && (self.codec != Codec::H264
                || h264_profile(payload)
                    .is_some_and(|offered| self.profile.is_none_or(|profile| profile <= offered)))
    }

    /// With the payload's H.264 profile if it is to be any.
    fn as_sent_with(self, payload: &Payload) -> Self {
        let offered = h264_profile(payload).filter(|_| self.codec == Codec::H264);
        Self { profile: self.profile.or(offered), ..self }
    }

    /// Whether an offered payload is of this codec and of parameters that a peer on this node can be given or asked for,
    /// the H.264 profile left aside.
    fn is_codec_of(self, payload: &Payload) -> bool {
        if Codec::from_name(&payload.name) != Some(self.codec) {
            return false;
        }
        match self.codec {
            Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Isac | Codec::Ilbc => {
                (self.sample_rate == 0 || self.sample_rate == payload.clock_rate)
                    && (self.channels == 0 || self.channels == payload.channels)
            }
            // RFC 3551 §4.5.2: the clock rate of G.722 is said to be 8,000 whatever it is.
            Codec::G722 => true,
            Codec::Vp9 => matches!(payload.parameter("profile-id").map(str::trim), None | Some("0")),
            Codec::H264 => payload.parameter("packetization-mode").map(str::trim) == Some("1"),
            Codec::Vp8 | Codec::H265 | Codec::Av1 => true,
        }
    }
}

/// The first payload in the client's order that is one of `accepted`, with the format it then has.
/// A stream of a lower H.264 profile than the accepted one is fine.
pub(super) fn choose_to_receive<'o>(
    media: &'o OfferedMedia,
    accepted: &[Format],
) -> Option<(&'o Payload, Format)> {
    media.payloads.iter().find_map(|payload| {
        let offered = h264_profile(payload);
        accepted.iter().filter(|format| format.is_codec_of(payload)).find_map(|format| {
            match (format.codec, format.profile, offered) {
                (Codec::H264, Some(most), Some(offered)) if offered <= most => {
                    Some((payload, Format { profile: Some(offered), ..*format }))
                }
                (Codec::H264, None, Some(_)) => Some((payload, Format { profile: offered, ..*format })),
                (Codec::H264, ..) => None,
                _ => Some((payload, *format)),
            }
        })
    })
}

/// The payload for sending one of `formats`, with the format that is agreed on by it: in the client's order, the first payload that is
/// of one of them; without `client_order`, the first format goes before all others.
pub(super) fn choose_to_send<'o>(
    media: &'o OfferedMedia,
    formats: &[Format],
    client_order: bool,
) -> Option<(&'o Payload, Format)> {
    if let Some(first) = formats.first().filter(|_| !client_order)
        && let Some(payload) = payload_for(media, *first)
    {
        return Some((payload, first.as_sent_with(payload)));
    }
    media.payloads.iter().find_map(|payload| {
        let fitting = || formats.iter().filter(|format| format.can_be_sent_with(payload));
        let profile = h264_profile(payload);
        let format = fitting().find(|format| format.profile == profile).or_else(|| fitting().next())?;
        Some((payload, format.as_sent_with(payload)))
    })
}

/// The payload for sending `format`: the same H.264 profile if it is offered, else the first of a higher one.
fn payload_for(media: &OfferedMedia, format: Format) -> Option<&Payload> {
    let candidates = || media.payloads.iter().filter(|payload| format.can_be_sent_with(payload));
    candidates().find(|payload| h264_profile(payload) == format.profile).or_else(|| candidates().next())
}

fn h264_profile(payload: &Payload) -> Option<H264Profile> {
    H264Profile::from_level_id(payload.parameter("profile-level-id"))
}
