//! One encoded mix as an RTP stream.

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

/// Limits, encodes and packetises one mix.
pub struct AudioOutput {
    encoding: AudioEncoding,
    limiter: Limiter,
    /// Absent while nobody listens.
    encoder: Option<Encoder>,
    mix: Vec<f32>,
    payload: Vec<u8>,
    packet: BytesMut,
    next: AudioStart,
}

impl AudioOutput {
    /// Begins there.
    #[must_use]
    pub fn new(encoding: AudioEncoding, start: AudioStart) -> Self {
        Self {
            encoding,
            limiter: Limiter::default(),
            encoder: None,
            mix: Vec::new(),
            payload: Vec::with_capacity(MAX_PACKET),
            packet: BytesMut::with_capacity(MAX_PACKET + 12),
            next: start,
        }
    }

    /// How it is encoded.
    #[must_use]
    pub fn encoding(&self) -> AudioEncoding {
        self.encoding
    }

    /// Encodes a tick. The RTP packet, with SSRC 0; the first after a pause has the marker bit.
    ///
    /// # Errors
    /// If the encoder refuses; it is made anew for the next tick.
    pub fn encode(&mut self, mix: impl Iterator<Item = f32>, tick: u64) -> Result<&[u8], opus::Error> {
        let first = self.encoder.is_none();
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(self.encoding)?,
        };
        self.mix.clear();
        self.mix.extend(mix);
        self.limiter.apply(&mut self.mix);
        encoder.encode(&self.mix, &mut self.payload)?;
        self.encoder = Some(encoder);
        let AudioStart { sequence, timestamp } = self.next;
        // Timestamps wrap.
        let timestamp =
            timestamp.wrapping_add(tick.wrapping_mul(self.encoding.frame_timestamp().into()) as u32);
        self.packet.clear();
        write_header(&mut self.packet, first, self.encoding.payload_type(), sequence, timestamp, 0);
        self.packet.extend_from_slice(&self.payload);
        self.next.sequence = sequence.wrapping_add(1);
        Ok(&self.packet)
    }

    /// Nobody listens: forgets the encoder's state.
    pub fn rest(&mut self) {
        self.encoder = None;
    }
}
