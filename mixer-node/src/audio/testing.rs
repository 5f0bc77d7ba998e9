//! Tones to speak and ears to hear them, for tests.

use kaigi_media::rtp::{RtpHeader, write_header};

use super::{CHANNELS, FRAME, FRAME_VALUES, SAMPLE_RATE};

/// Frame `number` of a sine, the same on both channels.
pub(super) fn sine(hz: f32, amplitude: f32, number: usize) -> Vec<f32> {
    (0..FRAME)
        .flat_map(|i| {
            let time = (number * FRAME + i) as f64 / f64::from(SAMPLE_RATE);
            let value = (std::f64::consts::TAU * f64::from(hz) * time).sin() as f32 * amplitude;
            [value; CHANNELS]
        })
        .collect()
}

/// Amplitude of a frequency in the left channel (Goertzel's algorithm, with a Hann window).
pub(super) fn tone(interleaved: &[f32], hz: f32) -> f32 {
    let samples: Vec<f64> = interleaved.iter().step_by(CHANNELS).map(|value| f64::from(*value)).collect();
    let step = std::f64::consts::TAU / samples.len() as f64;
    let turn = 2.0 * (std::f64::consts::TAU * f64::from(hz) / f64::from(SAMPLE_RATE)).cos();
    let (mut a, mut b) = (0.0, 0.0);
    for (i, sample) in samples.iter().enumerate() {
        let window = 0.5 - 0.5 * (step * i as f64).cos();
        (a, b) = (sample * window + turn * a - b, a);
    }
    let power = (a * a + b * b - turn * a * b).max(0.0);
    (4.0 * power.sqrt() / samples.len() as f64) as f32
}

/// Id of the header extension with the audio level.
pub(super) const LEVEL_ID: u8 = 3;

/// Someone who hums.
pub(super) struct ToneSource {
    hz: f32,
    pub(super) amplitude: f32,
    /// What its packets say, if they say it; −dBov.
    pub(super) level: Option<u8>,
    encoder: opus::Encoder,
    number: usize,
}

impl ToneSource {
    pub(super) fn new(hz: f32, amplitude: f32) -> Self {
        let mut encoder =
            opus::Encoder::new(SAMPLE_RATE, opus::Channels::Stereo, opus::Application::Voip).unwrap();
        encoder.set_inband_fec(true).unwrap();
        encoder.set_packet_loss_perc(10).unwrap();
        Self { hz, amplitude, level: None, encoder, number: 0 }
    }

    /// One whose packets tell that level.
    pub(super) fn telling(hz: f32, amplitude: f32, level: u8) -> Self {
        Self { level: Some(level), ..Self::new(hz, amplitude) }
    }

    /// The next 20 ms as an RTP packet.
    pub(super) fn packet(&mut self) -> Vec<u8> {
        let frame = sine(self.hz, self.amplitude, self.number);
        let mut packet = Vec::new();
        write_header(&mut packet, false, 111, self.number as u16, (self.number * FRAME) as u32, 1);
        if let Some(level) = self.level {
            packet[0] |= 0x10;
            packet.extend([0xbe, 0xde, 0, 1, LEVEL_ID << 4, level, 0, 0]);
        }
        packet.extend(self.encoder.encode_vec_float(&frame, 1000).unwrap());
        self.number += 1;
        packet
    }
}

/// Someone who listens.
pub(super) struct Ear {
    decoder: opus::Decoder,
    last: Option<RtpHeader>,
    pub(super) heard: Vec<f32>,
    pub(super) packets: usize,
}

impl Default for Ear {
    fn default() -> Self {
        let decoder = opus::Decoder::new(SAMPLE_RATE, opus::Channels::Stereo).unwrap();
        Self { decoder, last: None, heard: Vec::new(), packets: 0 }
    }
}

impl Ear {
    /// Decodes a packet and asserts that it follows the one before.
    pub(super) fn hear(&mut self, packet: &[u8]) {
        let header = RtpHeader::parse(packet).unwrap();
        if let Some(last) = self.last {
            assert_eq!(header.sequence, last.sequence.wrapping_add(1));
            assert_eq!(header.timestamp, last.timestamp.wrapping_add(FRAME as u32));
        }
        let start = self.heard.len();
        self.heard.resize(start + FRAME_VALUES, 0.0);
        let samples =
            self.decoder.decode_float(header.payload(packet), &mut self.heard[start..], false).unwrap();
        assert_eq!(samples, FRAME);
        self.last = Some(header);
        self.packets += 1;
    }
}
