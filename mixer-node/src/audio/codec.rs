//! The audio codecs that inputs may have: Opus (RFC 6716), PCMU and PCMA (ITU-T G.711), G.722.

use super::{CHANNELS, FRAME, SAMPLE_RATE, g711, g722::G722Decoder};

/// Samples per channel of the longest Opus packet, 120 ms.
const LONGEST: usize = 5760;
/// Output samples per sample of a G.711 stream (8 kHz).
const G711_FACTOR: usize = SAMPLE_RATE as usize / 8000;
/// The same of a G.722 stream (16 kHz), whose bytes are two samples.
const G722_FACTOR: usize = SAMPLE_RATE as usize / 16_000;

/// An audio codec, by OWT's lower-case name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioCodec {
    /// RFC 6716.
    Opus,
    /// µ-law.
    Pcmu,
    /// A-law.
    Pcma,
    /// ITU-T G.722 at 64 kbit/s.
    G722,
}

impl AudioCodec {
    /// By name; none if it can't be decoded here.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "opus" => Some(Self::Opus),
            "pcmu" => Some(Self::Pcmu),
            "pcma" => Some(Self::Pcma),
            "g722" => Some(Self::G722),
            _ => None,
        }
    }

    /// Hz of RTP timestamps. Of G.722 it is not that of its samples (RFC 3551 §4.5.2).
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma | Self::G722 => 8000,
        }
    }
}

/// What can't be decoded.
#[derive(Debug, thiserror::Error)]
#[error("packet not decodable: {0}")]
pub struct DecodeError(#[from] opus::Error);

/// Decodes one stream to 48 kHz stereo.
pub(super) enum Decoder {
    /// With the length of the last packet in samples per channel, which is what a lost one is taken to have had.
    Opus { decoder: opus::Decoder, last: usize, buffer: Vec<f32> },
    /// With the last sample, from which the next is interpolated.
    G711 { expand: fn(u8) -> i16, last: f32, length: usize },
    /// The same.
    G722 { decoder: Box<G722Decoder>, last: f32, length: usize },
}

impl Decoder {
    pub(super) fn new(codec: AudioCodec) -> Result<Self, DecodeError> {
        let g711 = |expand| Self::G711 { expand, last: 0.0, length: FRAME };
        Ok(match codec {
            AudioCodec::Opus => Self::Opus {
                decoder: opus::Decoder::new(SAMPLE_RATE, opus::Channels::Stereo)?,
                last: FRAME,
                buffer: vec![0.0; LONGEST * CHANNELS],
            },
            AudioCodec::Pcmu => g711(g711::expand_ulaw),
            AudioCodec::Pcma => g711(g711::expand_alaw),
            AudioCodec::G722 => {
                Self::G722 { decoder: Box::new(G722Decoder::new()), last: 0.0, length: FRAME }
            }
        })
    }

    /// Appends what the packet holds.
    pub(super) fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<(), DecodeError> {
        match self {
            Self::Opus { decoder, last, buffer } => {
                if packet.is_empty() {
                    return Ok(());
                }
                *last = decoder.decode_float(packet, buffer, false)?;
                out.extend_from_slice(&buffer[..*last * CHANNELS]);
            }
            Self::G711 { expand, last, length } => {
                *length = packet.len() * G711_FACTOR;
                for byte in packet.iter().take(LONGEST / G711_FACTOR) {
                    interpolate::<G711_FACTOR>(last, expand(*byte), out);
                }
            }
            Self::G722 { decoder, last, length } => {
                *length = packet.len() * 2 * G722_FACTOR;
                for byte in packet.iter().take(LONGEST / G722_FACTOR / 2) {
                    for sample in decoder.decode(*byte) {
                        interpolate::<G722_FACTOR>(last, sample, out);
                    }
                }
            }
        }
        Ok(())
    }

    /// Samples per channel that the packet stands for, without decoding it; 0 if it is none.
    pub(super) fn length(&self, packet: &[u8]) -> usize {
        let length = match self {
            Self::Opus { decoder, .. } if !packet.is_empty() => decoder.get_nb_samples(packet).unwrap_or(0),
            Self::Opus { .. } => 0,
            Self::G711 { .. } => packet.len() * G711_FACTOR,
            Self::G722 { .. } => packet.len() * 2 * G722_FACTOR,
        };
        length.min(LONGEST)
    }

    /// The same of a packet that is missing.
    pub(super) fn usual_length(&self) -> usize {
        match self {
            Self::Opus { last, .. } => *last,
            Self::G711 { length, .. } | Self::G722 { length, .. } => (*length).min(LONGEST),
        }
    }

    /// Forgets what was before.
    pub(super) fn reset(&mut self) {
        match self {
            // It has nothing to refuse.
            Self::Opus { decoder, .. } => drop(decoder.reset_state()),
            Self::G711 { last, .. } => *last = 0.0,
            Self::G722 { decoder, last, .. } => (**decoder, *last) = (G722Decoder::new(), 0.0),
        }
    }

    /// Appends something in place of a lost packet: from the redundancy in the `following` one if it has any (Opus in-band
    /// FEC), else a continuation of what was before, else silence.
    pub(super) fn conceal(
        &mut self,
        following: Option<&[u8]>,
        out: &mut Vec<f32>,
    ) -> Result<(), DecodeError> {
        match self {
            Self::Opus { decoder, last, buffer } => {
                let missing = &mut buffer[..*last * CHANNELS];
                let redundancy = following.filter(|packet| !packet.is_empty());
                let made =
                    decoder.decode_float(redundancy.unwrap_or_default(), missing, redundancy.is_some())?;
                out.extend_from_slice(&missing[..made * CHANNELS]);
            }
            Self::G711 { last, length, .. } | Self::G722 { last, length, .. } => {
                *last = 0.0;
                out.resize(out.len() + (*length).min(LONGEST) * CHANNELS, 0.0);
            }
        }
        Ok(())
    }
}

/// Appends `FACTOR` samples on the line from the last one to the next.
fn interpolate<const FACTOR: usize>(last: &mut f32, sample: i16, out: &mut Vec<f32>) {
    let sample = f32::from(sample) / 32768.0;
    for step in 1..=FACTOR {
        let value = *last + (sample - *last) * step as f32 / FACTOR as f32;
        out.extend([value; CHANNELS]);
    }
    *last = sample;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_becomes_48_khz_stereo() {
        let mut decoder = Decoder::new(AudioCodec::Pcmu).unwrap();
        let mut out = Vec::new();
        decoder.decode(&[0xff; 160], &mut out).unwrap();
        assert_eq!(out, vec![0.0; FRAME * CHANNELS]);
        decoder.conceal(None, &mut out).unwrap();
        assert_eq!(out.len(), 2 * FRAME * CHANNELS);
    }

    #[test]
    fn rubbish_is_an_error_and_no_panic() {
        let mut decoder = Decoder::new(AudioCodec::Opus).unwrap();
        let mut out = Vec::new();
        for length in 1..60u8 {
            for first in 0..=255u8 {
                let packet: Vec<u8> = (0..length).map(|i| first.wrapping_add(i.wrapping_mul(29))).collect();
                let _ = decoder.decode(&packet, &mut out);
                let _ = decoder.conceal(Some(&packet), &mut out);
                out.clear();
            }
        }
    }
}
