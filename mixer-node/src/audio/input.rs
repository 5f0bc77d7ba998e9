//! One participant's sound: packets in, a frame of samples at each tick.

use std::time::Instant;

use bytes::Bytes;
use kaigi_media::rtp::RtpHeader;

use super::{
    AudioCodec, FRAME_VALUES, JitterBuffer, Next,
    codec::{DecodeError, Decoder},
};

/// Packets taken in one tick at most; the shortest Opus packets have 2.5 ms.
const MAX_PACKETS_A_TICK: usize = 10;
/// Samples that hang over from tick to tick at most: the longest packet and a frame.
const MAX_PENDING: usize = 8 * FRAME_VALUES;

/// Decodes one stream in time with the mixer.
pub struct AudioInput {
    jitter: JitterBuffer,
    decoder: Decoder,
    pending: Vec<f32>,
    frame: Vec<f32>,
    power: f32,
}

impl AudioInput {
    /// For a stream of that codec.
    ///
    /// # Errors
    /// If no decoder can be made.
    pub fn new(codec: AudioCodec) -> Result<Self, DecodeError> {
        Ok(Self {
            jitter: JitterBuffer::default(),
            decoder: Decoder::new(codec)?,
            pending: Vec::with_capacity(MAX_PENDING),
            frame: vec![0.0; FRAME_VALUES],
            power: 0.0,
        })
    }

    /// Takes an RTP packet; what is none is ignored.
    pub fn packet(&mut self, packet: &[u8], now: Instant) {
        if let Ok(header) = RtpHeader::parse(packet) {
            self.jitter.insert(header.sequence, Bytes::copy_from_slice(header.payload(packet)), now);
        }
    }

    /// Makes the next frame; false if the input has nothing to say.
    pub fn tick(&mut self, now: Instant) -> bool {
        for _ in 0..MAX_PACKETS_A_TICK {
            if self.pending.len() >= FRAME_VALUES {
                break;
            }
            let done = match self.jitter.take(now) {
                Next::Packet(packet) => self.decoder.decode(&packet, &mut self.pending),
                Next::Lost(following) => self.decoder.conceal(following.as_deref(), &mut self.pending),
                Next::Dry => self.decoder.conceal(None, &mut self.pending),
                Next::Idle => break,
            };
            if let Err(error) = done {
                tracing::trace!(%error, "audio packet left out");
            }
        }
        let taken = self.pending.len().min(FRAME_VALUES);
        self.frame[..taken].copy_from_slice(&self.pending[..taken]);
        self.frame[taken..].fill(0.0);
        self.pending.drain(..taken);
        self.pending.truncate(MAX_PENDING);
        self.power = self.frame.iter().map(|value| value * value).sum::<f32>() / FRAME_VALUES as f32;
        taken > 0
    }

    /// The samples of the last tick.
    #[must_use]
    pub fn frame(&self) -> &[f32] {
        &self.frame
    }

    /// Mean square of the last tick's samples, 0..=1.
    #[must_use]
    pub fn power(&self) -> f32 {
        self.power
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TICK, testing::*};
    use super::*;

    /// What is heard of a 440 Hz tone of which the packets `lost` don't come.
    fn heard(lost: impl Fn(usize) -> bool) -> Vec<f32> {
        let start = Instant::now();
        let mut source = ToneSource::new(440.0, 0.5);
        let mut input = AudioInput::new(AudioCodec::Opus).unwrap();
        let mut heard = Vec::new();
        for tick in 0..100 {
            let now = start + TICK * tick;
            let packet = source.packet();
            if !lost(tick as usize) {
                input.packet(&packet, now);
            }
            input.tick(now);
            heard.extend_from_slice(input.frame());
        }
        heard
    }

    #[test]
    fn a_tone_comes_through_after_the_buffers_delay() {
        let heard = heard(|_| false);
        assert!(tone(&heard[..FRAME_VALUES], 440.0) < 0.01);
        let rest = &heard[20 * FRAME_VALUES..];
        assert!(tone(rest, 440.0) > 0.4, "{}", tone(rest, 440.0));
        assert!(tone(rest, 1000.0) < 0.01);
    }

    #[test]
    fn lost_packets_are_concealed() {
        let heard = heard(|tick| tick % 10 == 5);
        for (number, frame) in heard.chunks(FRAME_VALUES).enumerate().skip(20) {
            assert!(tone(frame, 440.0) > 0.2, "hole in frame {number}: {}", tone(frame, 440.0));
        }
    }

    #[test]
    fn silence_follows_when_nothing_comes_any_more() {
        let heard = heard(|tick| tick >= 50);
        assert!(tone(&heard[45 * FRAME_VALUES..50 * FRAME_VALUES], 440.0) > 0.4);
        assert!(heard[70 * FRAME_VALUES..].iter().all(|value| *value == 0.0));
    }

    #[test]
    fn what_is_no_packet_is_ignored() {
        let now = Instant::now();
        let mut input = AudioInput::new(AudioCodec::Opus).unwrap();
        for length in 0..40 {
            input.packet(&vec![0x80; length], now);
            input.packet(&vec![0xff; length], now);
        }
        for tick in 0..20 {
            input.tick(now + TICK * tick);
        }
    }
}
