//! One encoded mix as an RTP stream.

use bytes::BytesMut;
use kaigi_media::rtp::write_header;

use super::{FRAME, Limiter, SAMPLE_RATE};

/// Payload type of this node's audio; the consumer maps it to what it negotiated.
pub const OPUS_PAYLOAD_TYPE: u8 = 111;
/// bit/s, stereo. Speech and music of several sources at once sound clean from here.
const BITRATE: i32 = 64_000;
/// 0..=10; 5 costs half of 10 and is not told from it in speech.
const COMPLEXITY: i32 = 5;
/// Per cent of packets that the redundancy is made for.
const EXPECTED_LOSS: i32 = 5;
/// Bytes of the largest packet.
const MAX_PACKET: usize = 1200;

/// Limits, encodes and packetises one mix.
pub struct AudioOutput {
    limiter: Limiter,
    /// Absent while nobody listens.
    encoder: Option<opus::Encoder>,
    mix: Vec<f32>,
    payload: Vec<u8>,
    packet: BytesMut,
    sequence: u16,
}

impl AudioOutput {
    /// Begins at that RTP sequence number.
    #[must_use]
    pub fn new(sequence: u16) -> Self {
        Self {
            limiter: Limiter::default(),
            encoder: None,
            mix: Vec::new(),
            payload: vec![0; MAX_PACKET],
            packet: BytesMut::with_capacity(MAX_PACKET + 12),
            sequence,
        }
    }

    /// Encodes a frame. The RTP packet, with SSRC 0; the first after a pause has the marker bit.
    ///
    /// # Errors
    /// If the encoder refuses; it is made anew for the next frame.
    pub fn encode(&mut self, mix: impl Iterator<Item = f32>, timestamp: u32) -> Result<&[u8], opus::Error> {
        let first = self.encoder.is_none();
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => new_encoder()?,
        };
        self.mix.clear();
        self.mix.extend(mix);
        self.limiter.apply(&mut self.mix);
        let length = encoder.encode_float(&self.mix, &mut self.payload)?;
        self.encoder = Some(encoder);
        self.packet.clear();
        write_header(&mut self.packet, first, OPUS_PAYLOAD_TYPE, self.sequence, timestamp, 0);
        self.packet.extend_from_slice(&self.payload[..length]);
        self.sequence = self.sequence.wrapping_add(1);
        Ok(&self.packet)
    }

    /// Nobody listens: forgets the encoder's state.
    pub fn rest(&mut self) {
        self.encoder = None;
    }
}

fn new_encoder() -> Result<opus::Encoder, opus::Error> {
    let mut encoder = opus::Encoder::new(SAMPLE_RATE, opus::Channels::Stereo, opus::Application::Voip)?;
    encoder.set_bitrate(opus::Bitrate::Bits(BITRATE))?;
    encoder.set_complexity(COMPLEXITY)?;
    encoder.set_inband_fec(true)?;
    encoder.set_packet_loss_perc(EXPECTED_LOSS)?;
    Ok(encoder)
}

/// RTP timestamp units of one frame.
pub(super) const FRAME_TIMESTAMP: u32 = FRAME as u32;
