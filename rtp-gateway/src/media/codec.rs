//! The formats that devices may send and get.

use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};

/// A codec. Packets go through as they are: nothing is transcoded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Vp8,
    Vp9,
    H264,
    Opus,
    Pcmu,
    Pcma,
}

/// Why a codec and its parameters can't be had; each names the member of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("video codecs are VP8, VP9 and H264; audio codecs are OPUS, PCMU and PCMA")]
    Codec,
    #[error("a payload type is 0 to 63 or 96 to 127")]
    PayloadType,
    #[error("the codec has another sampling rate")]
    SamplingRate,
    #[error("a bandwidth is 0 to 1000000 kbit/s")]
    BandWidth,
}

impl FormatError {
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::PayloadType => "payload_type",
            Self::SamplingRate => "sampling_rate",
            Self::BandWidth => "band_width",
        }
    }
}

impl Codec {
    /// The codec that the API calls so, of that kind.
    pub(crate) fn named(name: &str, is_video: bool) -> Result<Self, FormatError> {
        let codec = match name.to_ascii_uppercase().as_str() {
            "VP8" => Self::Vp8,
            "VP9" => Self::Vp9,
            "H264" => Self::H264,
            "OPUS" => Self::Opus,
            "PCMU" => Self::Pcmu,
            "PCMA" => Self::Pcma,
            _ => return Err(FormatError::Codec),
        };
        if codec.is_video() == is_video { Ok(codec) } else { Err(FormatError::Codec) }
    }

    pub(crate) fn is_video(self) -> bool {
        match self {
            Self::Vp8 | Self::Vp9 | Self::H264 => true,
            Self::Opus | Self::Pcmu | Self::Pcma => false,
        }
    }

    /// Ticks of its RTP clock a second.
    pub(crate) fn clock_rate(self) -> u32 {
        match self {
            Self::Vp8 | Self::Vp9 | Self::H264 => 90_000,
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
        }
    }

    fn default_payload_type(self) -> u8 {
        match self {
            Self::Vp8 => 96,
            Self::Vp9 => 98,
            Self::H264 => 102,
            Self::Opus => 111,
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    fn kind(self) -> RtpCodecKind {
        if self.is_video() { RtpCodecKind::Video } else { RtpCodecKind::Audio }
    }
}

/// A codec as it is on the device's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) codec: Codec,
    /// What the device's packets have, and those for it get.
    pub(crate) payload_type: u8,
    /// What the far side is asked not to exceed, kbit/s; 0 = nothing is asked.
    pub(crate) band_width: u32,
}

impl Format {
    /// Checks what a client gave.
    pub(crate) fn new(
        codec: Codec,
        payload_type: Option<i64>,
        sampling_rate: Option<i64>,
        band_width: i64,
    ) -> Result<Self, FormatError> {
        let payload_type = match payload_type {
            None => codec.default_payload_type(),
            // 64 to 95 would look like RTCP where both share a port (RFC 5761 §4).
            Some(number) => u8::try_from(number)
                .ok()
                .filter(|number| matches!(number, 0..=63 | 96..=127))
                .ok_or(FormatError::PayloadType)?,
        };
        if sampling_rate.is_some_and(|rate| rate != i64::from(codec.clock_rate())) {
            return Err(FormatError::SamplingRate);
        }
        let band_width = u32::try_from(band_width).ok().filter(|kbits| *kbits <= 1_000_000);
        Ok(Self { codec, payload_type, band_width: band_width.ok_or(FormatError::BandWidth)? })
    }

    /// What is received of a kind of which nothing is said.
    pub(crate) fn usual(is_video: bool) -> Self {
        let codec = if is_video { Codec::Vp8 } else { Codec::Opus };
        Self { codec, payload_type: codec.default_payload_type(), band_width: 0 }
    }

    pub(crate) fn kind(self) -> RtpCodecKind {
        self.codec.kind()
    }

    /// As it is negotiated.
    pub(crate) fn rtc(self) -> RTCRtpCodec {
        let (mime_type, channels, fmtp) = match self.codec {
            Codec::Vp8 => ("video/VP8", 0, ""),
            Codec::Vp9 => ("video/VP9", 0, "profile-id=0"),
            Codec::H264 => {
                ("video/H264", 0, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
            }
            Codec::Opus => ("audio/opus", 2, "minptime=10;useinbandfec=1"),
            Codec::Pcmu => ("audio/PCMU", 1, ""),
            Codec::Pcma => ("audio/PCMA", 1, ""),
        };
        RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate: self.codec.clock_rate(),
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: Vec::new(),
        }
    }

    /// The same with its payload type.
    pub(crate) fn parameters(self) -> RTCRtpCodecParameters {
        RTCRtpCodecParameters { rtp_codec: self.rtc(), payload_type: self.payload_type }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_is_of_its_kind_and_has_its_clock() {
        assert_eq!(Codec::named("vp8", true), Ok(Codec::Vp8));
        assert_eq!(Codec::named("OPUS", true), Err(FormatError::Codec));
        assert_eq!(Codec::named("AV1", true), Err(FormatError::Codec));
        let format = Format::new(Codec::Opus, None, Some(48_000), 64).unwrap();
        assert_eq!((format.payload_type, format.band_width), (111, 64));
        let refused = |payload_type, rate, band_width| {
            Format::new(Codec::H264, payload_type, rate, band_width).unwrap_err()
        };
        assert_eq!(refused(Some(72), None, 0), FormatError::PayloadType);
        assert_eq!(refused(Some(300), None, 0), FormatError::PayloadType);
        assert_eq!(refused(None, Some(48_000), 0), FormatError::SamplingRate);
        assert_eq!(refused(None, None, -1), FormatError::BandWidth);
    }
}
