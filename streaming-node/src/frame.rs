//! Encoded frames, as they are muxed.

use std::time::Duration;

use bytes::Bytes;

/// What a track is encoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// RFC 6716
    Opus,
    /// G.711 µ-law
    Pcmu,
    /// G.711 A-law
    Pcma,
    /// AAC-LC
    Aac,
    /// RFC 6386
    Vp8,
    /// VP9
    Vp9,
    /// ITU-T H.264
    H264,
}

impl Codec {
    /// By the name that OWT gives it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "opus" => Self::Opus,
            "pcmu" => Self::Pcmu,
            "pcma" => Self::Pcma,
            "aac" => Self::Aac,
            "vp8" => Self::Vp8,
            "vp9" => Self::Vp9,
            "h264" => Self::H264,
            _ => return None,
        })
    }

    /// The name that OWT gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Pcmu => "pcmu",
            Self::Pcma => "pcma",
            Self::Aac => "aac",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::H264 => "h264",
        }
    }

    /// Hz of RTP timestamps.
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus | Self::Aac => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
            Self::Vp8 | Self::Vp9 | Self::H264 => 90_000,
        }
    }

    /// A time in units of [`Self::clock_rate`].
    #[must_use]
    pub fn ticks(self, time: Duration) -> u64 {
        let rate = u128::from(self.clock_rate());
        u64::try_from((time.as_nanos() * rate + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX)
    }

    /// Whether it is one of pictures.
    #[must_use]
    pub fn is_video(self) -> bool {
        matches!(self, Self::Vp8 | Self::Vp9 | Self::H264)
    }
}

/// What has to be known before frames can be decoded. When it changes, what was written so far can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The codec.
    pub codec: Codec,
    /// Pixels; (0, 0) for sound.
    pub size: (u32, u32),
    /// H.264: AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1). AAC: AudioSpecificConfig. Otherwise empty.
    pub config: Bytes,
}

impl Format {
    /// Sound needs no more than its codec.
    #[must_use]
    pub fn audio(codec: Codec) -> Self {
        Self { codec, size: (0, 0), config: Bytes::new() }
    }
}

/// A frame without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// RTP timestamp.
    pub timestamp: u32,
    /// Whether decoding can begin here.
    pub key: bool,
    /// H.264: NAL units, each after its length in four bytes, without parameter sets.
    pub data: Bytes,
    /// Of pictures, given with key frames.
    pub format: Option<Format>,
}

/// A frame at its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Since the beginning of the output.
    pub time: Duration,
    /// See [`Unit::key`].
    pub key: bool,
    /// See [`Unit::data`].
    pub data: Bytes,
}
