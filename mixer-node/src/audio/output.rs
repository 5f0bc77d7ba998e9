//! Encoded mixes, and RTP streams of them.

use bytes::BytesMut;
use kaigi_media::rtp::write_header;

use super::{
    AudioEncoding, Limiter,
    encode::{Encoder, MAX_PACKET},
};

/// Where an output's packets stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct AudioStart {
    /// RTP sequence number of the first packet.
    pub sequence: u16,
    /// RTP timestamp that stands for tick zero.
    pub timestamp: u32,
}

/// Limits and encodes one mix.
pub(super) struct EncodedMix {
    encoding: AudioEncoding,
    limiter: Limiter,
    /// Absent before the first tick, and after one that failed.
    encoder: Option<Encoder>,
    mix: Vec<f32>,
    payload: Vec<u8>,
}

impl EncodedMix {
    pub(super) fn new(encoding: AudioEncoding) -> Self {
        let payload = Vec::with_capacity(MAX_PACKET);
        Self { encoding, limiter: Limiter::default(), encoder: None, mix: Vec::new(), payload }
    }

    /// Encodes a tick.
    ///
    /// # Errors
    /// If the encoder refuses; it is made anew for the next tick.
    pub(super) fn encode(&mut self, mix: impl Iterator<Item = f32>) -> Result<&[u8], opus::Error> {
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(self.encoding)?,
        };
        self.mix.clear();
        self.mix.extend(mix);
        self.limiter.apply(&mut self.mix);
        encoder.encode(&self.mix, &mut self.payload)?;
        self.encoder = Some(encoder);
        Ok(&self.payload)
    }

    /// What was encoded last.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// One RTP stream of a mix.
pub struct AudioOutput {
    encoding: AudioEncoding,
    /// Whether nobody listened at the last tick.
    rests: bool,
    packet: BytesMut,
    next: AudioStart,
}

impl AudioOutput {
    /// Begins there.
    #[must_use]
    pub fn new(encoding: AudioEncoding, start: AudioStart) -> Self {
        Self { encoding, rests: true, packet: BytesMut::with_capacity(MAX_PACKET + 12), next: start }
    }

    /// How it is encoded.
    #[must_use]
    pub fn encoding(&self) -> AudioEncoding {
        self.encoding
    }

    /// Packetises a tick. The RTP packet, with SSRC 0; the first after a pause has the marker bit.
    pub fn packet(&mut self, payload: &[u8], tick: u64) -> &[u8] {
        let first = std::mem::take(&mut self.rests);
        let AudioStart { sequence, timestamp } = self.next;
        // Timestamps wrap.
        let timestamp =
            timestamp.wrapping_add(tick.wrapping_mul(self.encoding.frame_timestamp().into()) as u32);
        self.packet.clear();
        write_header(&mut self.packet, first, self.encoding.payload_type(), sequence, timestamp, 0);
        self.packet.extend_from_slice(payload);
        self.next.sequence = sequence.wrapping_add(1);
        &self.packet
    }

    /// Nobody listens.
    pub fn rest(&mut self) {
        self.rests = true;
    }
}
