//! The video codecs that inputs may have and outputs may get.

use gstreamer as gst;

/// A video codec, by OWT's lower-case name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
}

impl VideoCodec {
    /// By name; none if it is neither vp8, vp9 nor h264.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "vp8" => Some(Self::Vp8),
            "vp9" => Some(Self::Vp9),
            "h264" => Some(Self::H264),
            _ => None,
        }
    }

    /// As in SDP's rtpmap.
    #[must_use]
    pub fn encoding_name(self) -> &'static str {
        match self {
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::H264 => "H264",
        }
    }

    /// Payload type of this node's outputs; the consumer maps it to what it negotiated.
    #[must_use]
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Vp8 => 96,
            Self::Vp9 => 98,
            Self::H264 => 102,
        }
    }

    /// What takes frames out of RTP packets.
    #[must_use]
    pub(crate) fn depayloader(self) -> &'static str {
        match self {
            Self::Vp8 => "rtpvp8depay",
            Self::Vp9 => "rtpvp9depay",
            Self::H264 => "rtph264depay",
        }
    }

    /// What puts frames into RTP packets.
    #[must_use]
    pub(crate) fn payloader(self) -> &'static str {
        match self {
            Self::Vp8 => "rtpvp8pay",
            Self::Vp9 => "rtpvp9pay",
            Self::H264 => "rtph264pay",
        }
    }

    /// Decoders in the order of preference.
    #[must_use]
    pub(crate) fn decoders(self) -> &'static [&'static str] {
        match self {
            Self::Vp8 => &["vp8dec"],
            Self::Vp9 => &["vp9dec"],
            Self::H264 => &["avdec_h264", "openh264dec"],
        }
    }

    /// The encoder.
    #[must_use]
    pub(crate) fn encoder(self) -> &'static str {
        match self {
            Self::Vp8 => "vp8enc",
            Self::Vp9 => "vp9enc",
            Self::H264 => "x264enc",
        }
    }

    /// OWT's lower-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::H264 => "h264",
        }
    }

    /// RTP caps of a stream of this codec.
    #[must_use]
    pub(crate) fn rtp_caps(self, payload_type: u8) -> gst::Caps {
        gst::Caps::builder("application/x-rtp")
            .field("media", "video")
            .field("clock-rate", 90_000)
            .field("encoding-name", self.encoding_name())
            .field("payload", i32::from(payload_type))
            .build()
    }
}

/// An H.264 profile (ITU-T H.264 Annex A), as far as it can be encoded here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum H264Profile {
    /// What browsers decode without negotiation of anything higher (RFC 6184 §8.1, RFC 7742 §6.2).
    #[default]
    ConstrainedBaseline,
    /// What it has beyond the constrained one (slices in any order) is not made use of.
    Baseline,
    /// With arithmetic coding.
    Main,
    /// With transforms of 8×8 besides.
    High,
}

impl H264Profile {
    /// By OWT's name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "" | "CB" => Some(Self::ConstrainedBaseline),
            "B" => Some(Self::Baseline),
            "M" => Some(Self::Main),
            "H" => Some(Self::High),
            _ => None,
        }
    }

    /// As in caps of what the encoder makes.
    #[must_use]
    pub(crate) fn caps_name(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline | Self::Baseline => "constrained-baseline",
            Self::Main => "main",
            Self::High => "high",
        }
    }
}

/// A codec with what distinguishes its encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoEncoding {
    /// RFC 7741.
    Vp8,
    /// RFC 9628, profile 0.
    Vp9,
    /// RFC 6184.
    H264(H264Profile),
}

impl VideoEncoding {
    /// None if outputs of this codec and (H.264) profile can't be made here.
    #[must_use]
    pub fn from_names(codec: &str, profile: &str) -> Option<Self> {
        let encoding = match VideoCodec::from_name(codec)? {
            VideoCodec::Vp8 if profile.is_empty() => Self::Vp8,
            VideoCodec::Vp9 if profile.is_empty() => Self::Vp9,
            VideoCodec::H264 => Self::H264(H264Profile::from_name(profile)?),
            VideoCodec::Vp8 | VideoCodec::Vp9 => return None,
        };
        gst::ElementFactory::find(encoding.codec().encoder()).map(|_| encoding)
    }

    /// Its codec.
    #[must_use]
    pub fn codec(self) -> VideoCodec {
        match self {
            Self::Vp8 => VideoCodec::Vp8,
            Self::Vp9 => VideoCodec::Vp9,
            Self::H264(_) => VideoCodec::H264,
        }
    }
}
