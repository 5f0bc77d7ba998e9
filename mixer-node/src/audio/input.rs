//! One participant's sound: packets in, a frame of samples at each tick. One that is not listened to is not decoded; its last packets are
//! kept, so that the decoder has found its way into the sound when it is.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use kaigi_media::rtp::RtpHeader;

use super::{
    AudioCodec, CHANNELS, FRAME, FRAME_VALUES, JitterBuffer, Next,
    codec::{DecodeError, Decoder},
    loudness::Loudness,
};

/// Packets taken in one tick at most; the shortest Opus packets have 2.5 ms.
const MAX_PACKETS_A_TICK: usize = 10;
/// Samples that hang over from tick to tick at most: the longest packet and a frame.
const MAX_PENDING: usize = 8 * FRAME_VALUES;
/// Packets kept of a stream that is not decoded: 100 ms, in which a decoder's state becomes the sender's.
const KEPT: usize = 5;
/// Samples per channel in which sound begins that was not listened to: 5 ms, less than a consonant.
const BEGIN: usize = 240;

/// Decodes one stream in time with the mixer.
pub struct AudioInput {
    jitter: JitterBuffer,
    decoder: Decoder,
    loudness: Loudness,
    /// Of the header extension with the level.
    level_id: Option<u8>,
    /// Whether it was listened to at the last tick.
    open: bool,
    pending: Vec<f32>,
    /// Values of silence after those: what was not decoded.
    silent: usize,
    kept: VecDeque<Bytes>,
    /// Values of sound that is yet to begin softly.
    begins: bool,
    frame: Vec<f32>,
    power: f32,
    /// How many packets were decoded.
    decoded: u64,
    /// A defect to be had at the next tick.
    #[cfg(test)]
    pub(super) panics: bool,
}

impl AudioInput {
    /// For a stream of that codec, whose packets have the sender's audio level in the header extension of that id.
    ///
    /// # Errors
    /// If no decoder can be made.
    pub fn new(codec: AudioCodec, level_id: Option<u8>) -> Result<Self, DecodeError> {
        Ok(Self {
            jitter: JitterBuffer::default(),
            decoder: Decoder::new(codec)?,
            loudness: Loudness::default(),
            level_id,
            open: true,
            pending: Vec::with_capacity(MAX_PENDING),
            silent: 0,
            kept: VecDeque::with_capacity(KEPT),
            begins: false,
            frame: vec![0.0; FRAME_VALUES],
            power: 0.0,
            decoded: 0,
            #[cfg(test)]
            panics: false,
        })
    }

    /// Takes an RTP packet; what is none is ignored.
    pub fn packet(&mut self, packet: &[u8], now: Instant) {
        let Ok(header) = RtpHeader::parse(packet) else { return };
        let payload = header.payload(packet);
        let level = self.level_id.and_then(|id| header.extension(packet, id)?.first().copied());
        self.loudness.packet(level, payload.len(), now);
        self.jitter.insert(header.sequence, Bytes::copy_from_slice(payload), now);
    }

    /// How loud its packets say that it is.
    pub(super) fn loudness(&self) -> &Loudness {
        &self.loudness
    }

    /// Whether it was listened to at the last tick.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// How many packets were decoded.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        self.decoded
    }

    /// Forgets what came, for it is too old when it is listened to again.
    pub(super) fn rest(&mut self) {
        self.jitter = JitterBuffer::default();
        self.pending.clear();
        self.kept.clear();
        (self.silent, self.open, self.power) = (0, false, 0.0);
    }

    /// Makes the next frame, of silence if it is not listened to; false if the input has nothing to say.
    pub fn tick(&mut self, now: Instant, open: bool) -> bool {
        #[cfg(test)]
        assert!(!self.panics, "a defect, as asked for");
        let was_open = std::mem::replace(&mut self.open, open);
        if open && !was_open {
            self.warm_up();
        }
        // The last frame fades out.
        let decode = open || was_open;
        for _ in 0..MAX_PACKETS_A_TICK {
            if self.pending.len() + self.silent >= FRAME_VALUES || !self.advance(now, decode) {
                break;
            }
        }
        let taken = self.pending.len().min(FRAME_VALUES);
        self.silent -= self.silent.min(FRAME_VALUES - taken);
        if taken == 0 {
            self.power = 0.0;
            return false;
        }
        self.frame[..taken].copy_from_slice(&self.pending[..taken]);
        self.frame[taken..].fill(0.0);
        self.pending.drain(..taken);
        if std::mem::take(&mut self.begins) {
            ramp(&mut self.frame, BEGIN, |part| part);
        }
        if !open {
            ramp(&mut self.frame, FRAME, |part| 1.0 - part);
            self.silent += self.pending.len();
            self.pending.clear();
        }
        self.pending.truncate(MAX_PENDING);
        self.silent = self.silent.min(MAX_PENDING);
        self.power = self.frame.iter().map(|value| value * value).sum::<f32>() / FRAME_VALUES as f32;
        true
    }

    /// Takes the next packet or what stands for it. Whether there is any.
    fn advance(&mut self, now: Instant, decode: bool) -> bool {
        let next = self.jitter.take(now);
        if !decode {
            let length = match next {
                Next::Packet(packet) => {
                    let length = self.decoder.length(&packet);
                    if self.kept.len() >= KEPT {
                        self.kept.pop_front();
                    }
                    self.kept.push_back(packet);
                    length
                }
                Next::Lost(_) | Next::Dry => self.decoder.usual_length(),
                Next::Idle => return false,
            };
            self.silent += length * CHANNELS;
            return true;
        }
        let before = self.pending.len() + std::mem::take(&mut self.silent);
        self.pending.resize(before, 0.0);
        let done = match next {
            Next::Packet(packet) => {
                self.decoded += 1;
                self.decoder.decode(&packet, &mut self.pending)
            }
            Next::Lost(following) => self.decoder.conceal(following.as_deref(), &mut self.pending),
            Next::Dry => self.decoder.conceal(None, &mut self.pending),
            Next::Idle => return false,
        };
        if let Err(error) = done {
            tracing::trace!(%error, "audio packet left out");
        }
        true
    }

    /// Decodes the packets before the next one, unheard.
    fn warm_up(&mut self) {
        self.begins = true;
        self.decoder.reset();
        let played = self.pending.len();
        for packet in self.kept.drain(..) {
            self.decoded += 1;
            // What can't be decoded is no beginning.
            let _unheard = self.decoder.decode(&packet, &mut self.pending);
            self.pending.truncate(played);
        }
    }

    /// The samples of the last tick that had any.
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

/// Multiplies the first `length` samples per channel by what `gain` says of how far they are.
fn ramp(frame: &mut [f32], length: usize, gain: impl Fn(f32) -> f32) {
    for (index, both) in frame.chunks_exact_mut(CHANNELS).take(length).enumerate() {
        let gain = gain(index as f32 / length as f32);
        both.iter_mut().for_each(|value| *value *= gain);
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
        let mut input = AudioInput::new(AudioCodec::Opus, None).unwrap();
        let mut heard = Vec::new();
        for tick in 0..100 {
            let now = start + TICK * tick;
            let packet = source.packet();
            if !lost(tick as usize) {
                input.packet(&packet, now);
            }
            hear(&mut input, now, true, &mut heard);
        }
        heard
    }
    fn hear(input: &mut AudioInput, now: Instant, open: bool, heard: &mut Vec<f32>) {
        match input.tick(now, open) {
            true => heard.extend_from_slice(input.frame()),
            false => heard.resize(heard.len() + FRAME_VALUES, 0.0),
        }
    }

    #[test]
    fn what_is_not_listened_to_is_not_decoded_and_goes_on_where_it_is() {
        let (start, mut source) = (Instant::now(), ToneSource::new(440.0, 0.5));
        let mut inputs = [
            AudioInput::new(AudioCodec::Opus, None).unwrap(),
            AudioInput::new(AudioCodec::Opus, None).unwrap(),
        ];
        let mut heard = [Vec::new(), Vec::new()];
        for tick in 0..100 {
            let (now, packet) = (start + TICK * tick, source.packet());
            for (index, (input, heard)) in inputs.iter_mut().zip(&mut heard).enumerate() {
                input.packet(&packet, now);
                hear(input, now, index == 0 || !(20..60).contains(&tick), heard);
            }
        }
        let [all, some] = heard;
        assert!(some[21 * FRAME_VALUES..60 * FRAME_VALUES].iter().all(|value| *value == 0.0));
        // One frame fades out, five packets are decoded unheard.
        assert_eq!(inputs[0].decoded() - inputs[1].decoded(), 39 - 5);
        // From the first millisecond after its soft beginning on it is the same sound at the same time.
        let from = 60 * FRAME_VALUES + BEGIN * CHANNELS;
        for (frame, (one, other)) in
            all[from..].chunks(FRAME_VALUES).zip(some[from..].chunks(FRAME_VALUES)).enumerate()
        {
            let off = one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
            assert!(off < 0.02, "{off} in frame {frame}");
        }
    }

    #[test]
    fn sound_that_is_not_listened_to_any_more_fades() {
        let (start, mut source) = (Instant::now(), ToneSource::new(440.0, 0.5));
        let mut input = AudioInput::new(AudioCodec::Opus, None).unwrap();
        let mut heard = Vec::new();
        for tick in 0..40 {
            let now = start + TICK * tick;
            input.packet(&source.packet(), now);
            hear(&mut input, now, tick < 20, &mut heard);
        }
        let step = |at: usize| (heard[at] - heard[at - CHANNELS]).abs();
        let largest = (19 * FRAME_VALUES..22 * FRAME_VALUES).step_by(CHANNELS).map(step).fold(0.0, f32::max);
        // Of a sine of 440 Hz and an amplitude of 0.5 neighbouring samples differ by 0.029 at most.
        assert!(largest < 0.035, "a click of {largest}");
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
        let mut input = AudioInput::new(AudioCodec::Opus, None).unwrap();
        for length in 0..40 {
            input.packet(&vec![0x80; length], now);
            input.packet(&vec![0xff; length], now);
        }
        for tick in 0..20 {
            input.tick(now + TICK * tick, tick % 3 > 0);
        }
    }
}
