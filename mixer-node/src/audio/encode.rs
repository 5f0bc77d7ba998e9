//! The audio codecs that outputs may have.

use kaigi_proto::v1;

use super::{CHANNELS, FRAME, SAMPLE_RATE, decimate::Decimator, g711, g722::G722Encoder};

/// bit/s. Speech and music of several sources at once sound clean from here.
const STEREO_BITRATE: i32 = 64_000;
const MONO_BITRATE: i32 = 40_000;
/// 0..=10; 5 costs half of 10 and is not told from it in speech.
const COMPLEXITY: i32 = 5;
/// Per cent of packets that the redundancy is made for.
const EXPECTED_LOSS: i32 = 5;
/// Bytes of the largest packet.
pub(super) const MAX_PACKET: usize = 1200;

/// A codec with what distinguishes its encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioEncoding {
    /// RFC 6716, 48 kHz.
    Opus {
        /// Two channels or one.
        stereo: bool,
    },
    /// ITU-T G.711, µ-law.
    Pcmu,
    /// ITU-T G.711, A-law.
    Pcma,
    /// ITU-T G.722 at 64 kbit/s.
    G722,
}

/// Why a format can't be made.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AudioFormatError {
    /// No encoder.
    #[error("audio codec {0:?} is not made here")]
    Codec(String),
    /// Not with that rate or number of channels.
    #[error("{codec} is not made with {sample_rate} Hz and {channels} channels")]
    Variant {
        /// The codec.
        codec: String,
        /// Hz.
        sample_rate: u32,
        /// How many.
        channels: u32,
    },
}

impl AudioEncoding {
    /// What makes that format. A rate or number of channels of 0 is the codec's usual one.
    ///
    /// # Errors
    /// See [`AudioFormatError`].
    pub fn of(format: &v1::MediaFormat) -> Result<Self, AudioFormatError> {
        let v1::MediaFormat { codec, sample_rate, channels, .. } = format;
        let (made, rates, most): (_, &[u32], _) = match codec.as_str() {
            "opus" => (Self::Opus { stereo: *channels != 1 }, &[SAMPLE_RATE], 2),
            "pcmu" => (Self::Pcmu, &[8000], 1),
            "pcma" => (Self::Pcma, &[8000], 1),
            // 8,000 is what SDP says of it, by an old mistake (RFC 3551 §4.5.2).
            "g722" => (Self::G722, &[16_000, 8000], 1),
            _ => return Err(AudioFormatError::Codec(codec.clone())),
        };
        if (*sample_rate != 0 && !rates.contains(sample_rate)) || *channels > most {
            let (sample_rate, channels) = (*sample_rate, *channels);
            return Err(AudioFormatError::Variant { codec: codec.clone(), sample_rate, channels });
        }
        Ok(made)
    }

    /// Payload type of this node's outputs; the consumer maps it to what it negotiated.
    #[must_use]
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Opus { .. } => 111,
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::G722 => 9,
        }
    }

    /// Hz of RTP timestamps.
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus { .. } => SAMPLE_RATE,
            Self::Pcmu | Self::Pcma | Self::G722 => 8000,
        }
    }

    /// RTP timestamp units of a tick.
    #[must_use]
    pub(super) fn frame_timestamp(self) -> u32 {
        FRAME as u32 / (SAMPLE_RATE / self.clock_rate())
    }
}

/// Encodes one output.
pub(super) enum Encoder {
    Opus { encoder: opus::Encoder, mono: Option<Vec<f32>> },
    G711 { compress: fn(i16) -> u8, decimator: Decimator },
    G722 { encoder: Box<G722Encoder>, decimator: Decimator },
}

impl Encoder {
    pub(super) fn new(encoding: AudioEncoding) -> Result<Self, opus::Error> {
        let g711 = |compress| Self::G711 { compress, decimator: Decimator::new(SAMPLE_RATE as usize / 8000) };
        Ok(match encoding {
            AudioEncoding::Opus { stereo } => {
                Self::Opus { encoder: new_opus(stereo)?, mono: (!stereo).then(Vec::new) }
            }
            AudioEncoding::Pcmu => g711(g711::compress_ulaw),
            AudioEncoding::Pcma => g711(g711::compress_alaw),
            AudioEncoding::G722 => Self::G722 {
                encoder: Box::new(G722Encoder::new()),
                decimator: Decimator::new(SAMPLE_RATE as usize / 16_000),
            },
        })
    }

    /// Makes `payload` what stands for a tick's samples, interleaved stereo.
    pub(super) fn encode(&mut self, samples: &[f32], payload: &mut Vec<u8>) -> Result<(), opus::Error> {
        payload.clear();
        match self {
            Self::Opus { encoder, mono } => {
                payload.resize(MAX_PACKET, 0);
                let length = match mono {
                    None => encoder.encode_float(samples, payload)?,
                    Some(mono) => {
                        mono.clear();
                        let both = samples.chunks_exact(CHANNELS);
                        mono.extend(both.map(|both| both.iter().sum::<f32>() / CHANNELS as f32));
                        encoder.encode_float(mono, payload)?
                    }
                };
                payload.truncate(length);
            }
            Self::G711 { compress, decimator } => {
                payload.extend(decimator.take(samples).into_iter().map(*compress));
            }
            Self::G722 { encoder, decimator } => {
                let samples = decimator.take(samples);
                payload.extend(samples.chunks_exact(2).map(|pair| encoder.encode([pair[0], pair[1]])));
            }
        }
        Ok(())
    }
}

fn new_opus(stereo: bool) -> Result<opus::Encoder, opus::Error> {
    let (channels, bitrate) = match stereo {
        true => (opus::Channels::Stereo, STEREO_BITRATE),
        false => (opus::Channels::Mono, MONO_BITRATE),
    };
    let mut encoder = opus::Encoder::new(SAMPLE_RATE, channels, opus::Application::Voip)?;
    encoder.set_bitrate(opus::Bitrate::Bits(bitrate))?;
    encoder.set_complexity(COMPLEXITY)?;
    encoder.set_inband_fec(true)?;
    encoder.set_packet_loss_perc(EXPECTED_LOSS)?;
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::super::{AudioCodec, codec::Decoder, testing::*};
    use super::*;

    fn format(codec: &str, sample_rate: u32, channels: u32) -> v1::MediaFormat {
        v1::MediaFormat { codec: codec.into(), sample_rate, channels, ..Default::default() }
    }

    #[test]
    fn formats_are_taken_as_they_are_known() {
        let stereo = Ok(AudioEncoding::Opus { stereo: true });
        assert_eq!(AudioEncoding::of(&format("opus", 0, 0)), stereo);
        assert_eq!(AudioEncoding::of(&format("opus", 48_000, 2)), stereo);
        assert_eq!(AudioEncoding::of(&format("opus", 48_000, 1)), Ok(AudioEncoding::Opus { stereo: false }));
        assert_eq!(AudioEncoding::of(&format("pcmu", 8000, 1)), Ok(AudioEncoding::Pcmu));
        assert_eq!(AudioEncoding::of(&format("pcma", 0, 0)), Ok(AudioEncoding::Pcma));
        assert_eq!(AudioEncoding::of(&format("g722", 16_000, 1)), Ok(AudioEncoding::G722));
        for codec in ["isac", "ilbc", "aac", "ac3", "nellymoser", ""] {
            assert_eq!(AudioEncoding::of(&format(codec, 0, 0)), Err(AudioFormatError::Codec(codec.into())));
        }
        for (codec, rate, channels) in
            [("opus", 44_100, 2), ("opus", 48_000, 3), ("pcmu", 16_000, 1), ("g722", 16_000, 2)]
        {
            let refused = AudioEncoding::of(&format(codec, rate, channels)).unwrap_err();
            assert!(matches!(refused, AudioFormatError::Variant { .. }), "{codec}");
        }
    }

    #[test]
    fn tones_come_through_every_codec() {
        for (encoding, codec, bytes) in [
            (AudioEncoding::Opus { stereo: true }, AudioCodec::Opus, None),
            (AudioEncoding::Opus { stereo: false }, AudioCodec::Opus, None),
            (AudioEncoding::Pcmu, AudioCodec::Pcmu, Some(160)),
            (AudioEncoding::Pcma, AudioCodec::Pcma, Some(160)),
            (AudioEncoding::G722, AudioCodec::G722, Some(160)),
        ] {
            let (mut encoder, mut decoder) = (Encoder::new(encoding).unwrap(), Decoder::new(codec).unwrap());
            let (mut payload, mut heard) = (Vec::new(), Vec::new());
            for number in 0..50 {
                encoder.encode(&sine(1000.0, 0.5, number), &mut payload).unwrap();
                assert!(bytes.is_none_or(|bytes| bytes == payload.len()), "{encoding:?}: {}", payload.len());
                decoder.decode(&payload, &mut heard).unwrap();
            }
            let (hz, other) = (tone(&heard[48_000..], 1000.0), tone(&heard[48_000..], 1700.0));
            assert!(hz > 0.4 && other < 0.01, "{encoding:?}: {hz} {other}");
        }
    }
}
