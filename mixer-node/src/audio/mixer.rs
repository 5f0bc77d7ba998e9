//! The mixer: each input that is to be heard is decoded once, the sum is made once, and each participant who has a mix of his own gets the sum
//! without his own inputs, as long as he is heard: all who are silent share the encoding of the sum. No I/O and no clock: packets and times
//! in, packets out.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, time::Instant};

use kaigi_proto::ids::{ParticipantId, StreamId, TrackId};

use super::{
    AudioCodec, AudioEncoding, AudioInput, AudioOutput, AudioStart, FRAME_VALUES, VoiceActivity,
    codec::DecodeError,
    floor::{self, Bid},
    output::EncodedMix,
};

/// Mean power up to which an input is silent: −60 dBFS. Nobody hears as little of himself among others.
const SILENCE: f32 = 1e-6;
/// Ticks that somebody who falls silent keeps his own encoding: 2 s. Another encoder's frames are a tiny break for a decoder, so it
/// does not change in the pauses of speech.
const HANGOVER: u32 = 100;
/// Ticks for which an input is left out that can't be decoded because of a defect in this program: 1 s, each time twice as long.
const PAUSE: (u32, u32) = (50, 3000);

/// What is heard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mix {
    /// All inputs.
    Common,
    /// All but those of one participant.
    Minus(ParticipantId),
}

/// What an output is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMix {
    /// What is heard.
    pub mix: Mix,
    /// In which format.
    pub encoding: AudioEncoding,
}

/// One view's sound.
pub struct AudioMixer {
    inputs: BTreeMap<StreamId, Input>,
    outputs: BTreeMap<TrackId, Output>,
    activity: VoiceActivity,
    /// The sum of all, in each encoding that somebody takes it in.
    shared: Vec<Shared>,
    encodings: usize,
    bids: Vec<Bid>,
    ranks: Vec<f32>,
    sum: Vec<f32>,
    own: Vec<f32>,
    tick: u64,
}

struct Output {
    mix: Mix,
    audio: AudioOutput,
    /// Of a mix without somebody, while that makes a difference.
    own: Option<EncodedMix>,
}

struct Shared {
    encoding: AudioEncoding,
    mix: EncodedMix,
    /// The last tick that it was encoded for, and whether that went well.
    made: Option<(u64, bool)>,
}

struct Input {
    owner: ParticipantId,
    audio: AudioInput,
    speaking: bool,
    /// Ticks for which it still counts as heard.
    heard: u32,
    /// What it takes to begin anew.
    stream: (AudioCodec, Option<u8>),
    /// Ticks for which it is left out, and how many it was the last time.
    left_out: u32,
    pause: u32,
}

impl Input {
    fn bid(&self, now: Instant) -> Bid {
        let loudness = self.audio.loudness();
        Bid::new(self.audio.is_open(), loudness.is_silent(now), loudness)
    }

    /// Does something with the stream; a defect ends nothing but this input, for a while.
    fn guard(&mut self, work: impl FnOnce(&mut AudioInput)) {
        if self.left_out > 0 || std::panic::catch_unwind(AssertUnwindSafe(|| work(&mut self.audio))).is_ok() {
            return;
        }
        tracing::error!("an input's sound can't be decoded, it is left out for a while");
        metrics::counter!("kaigi_mixer_rebuilt_total", "what" => "decoder").increment(1);
        self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        (self.left_out, self.speaking) = (self.pause, false);
        if let Ok(audio) = AudioInput::new(self.stream.0, self.stream.1) {
            self.audio = audio;
        }
    }

    fn tick(&mut self, now: Instant, open: bool) {
        if self.left_out > 0 {
            (self.left_out, self.speaking) = (self.left_out - 1, false);
        } else {
            let mut speaking = false;
            self.guard(|audio| speaking = audio.tick(now, open));
            self.speaking = speaking;
        }
        let loud = self.speaking && self.audio.power() > SILENCE;
        self.heard = if loud { HANGOVER } else { self.heard.saturating_sub(1) };
    }

    /// Mean power, measured or told.
    fn power(&self, now: Instant) -> f32 {
        match self.audio.is_open() {
            true => self.audio.power(),
            false => self.audio.loudness().last(now),
        }
    }
}

impl AudioMixer {
    /// No inputs, no outputs. `tick` is the number of the first tick.
    #[must_use]
    pub fn new(tick: u64) -> Self {
        Self {
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            activity: VoiceActivity::default(),
            shared: Vec::new(),
            encodings: 0,
            bids: Vec::new(),
            ranks: Vec::new(),
            sum: vec![0.0; FRAME_VALUES],
            own: vec![0.0; FRAME_VALUES],
            tick,
        }
    }

    /// Adds an input, or replaces it by a new stream under the same name. Packets have the sender's audio level in the header extension
    /// of that id.
    ///
    /// # Errors
    /// If no decoder can be made.
    pub fn set_input(
        &mut self,
        stream: &StreamId,
        owner: &ParticipantId,
        codec: AudioCodec,
        level_id: Option<u8>,
    ) -> Result<(), DecodeError> {
        let audio = AudioInput::new(codec, level_id)?;
        let input = Input {
            owner: owner.clone(),
            audio,
            speaking: false,
            heard: 0,
            stream: (codec, level_id),
            left_out: 0,
            pause: 0,
        };
        self.inputs.insert(stream.clone(), input);
        Ok(())
    }

    /// Drops all inputs that `keep` does not name.
    pub fn retain_inputs(&mut self, keep: impl Fn(&StreamId) -> bool) {
        self.inputs.retain(|stream, _| keep(stream));
    }

    /// Drops all outputs that `keep` does not name.
    pub fn retain_outputs(&mut self, keep: impl Fn(&TrackId) -> bool) {
        self.outputs.retain(|id, _| keep(id));
    }

    /// Makes the outputs those planned, by their tracks; new ones and those in another format begin where `start` tells.
    pub fn set_outputs(
        &mut self,
        outputs: &BTreeMap<TrackId, PlannedMix>,
        start: impl Fn(&TrackId) -> AudioStart,
    ) {
        self.outputs.retain(|id, output| {
            outputs.get(id).is_some_and(|planned| planned.encoding == output.audio.encoding())
        });
        for (id, PlannedMix { mix, encoding }) in outputs {
            match self.outputs.get_mut(id) {
                Some(present) => present.mix.clone_from(mix),
                None => {
                    let audio = AudioOutput::new(*encoding, start(id));
                    self.outputs.insert(id.clone(), Output { mix: mix.clone(), audio, own: None });
                }
            }
        }
    }

    /// Forgets who spoke, so that the next who does is reported.
    pub fn reset_activity(&mut self) {
        self.activity = VoiceActivity::default();
    }

    /// Takes an RTP packet for an input; ignored if there is no such input.
    pub fn packet(&mut self, stream: &StreamId, packet: &[u8], now: Instant) {
        if let Some(input) = self.inputs.get_mut(stream) {
            input.guard(|audio| audio.packet(packet, now));
        }
    }

    /// Leaves out ticks for which it is too late.
    pub fn skip(&mut self, ticks: u32) {
        self.tick += u64::from(ticks);
    }

    /// Forgets what has come and who listened, after a while in which nothing was mixed.
    pub fn rest(&mut self) {
        self.inputs.values_mut().for_each(|input| input.audio.rest());
        for output in self.outputs.values_mut() {
            output.audio.rest();
            output.own = None;
        }
        self.shared.clear();
    }

    /// Mixes 20 ms and hands an RTP packet to `send` for each output that `wanted` says somebody listens to. The loudest
    /// input, if it has changed.
    pub fn tick(
        &mut self,
        now: Instant,
        wanted: impl Fn(&TrackId) -> bool,
        mut send: impl FnMut(&TrackId, &[u8]),
    ) -> Option<StreamId> {
        self.sum.fill(0.0);
        let listened = self.outputs.keys().any(&wanted);
        self.bids.clear();
        self.bids.extend(self.inputs.values().map(|input| input.bid(now)));
        let mut has_floor = floor::give(&self.bids, &mut self.ranks);
        for ((stream, input), bid) in self.inputs.iter_mut().zip(&self.bids) {
            // Where nobody listens it is still to be known who speaks.
            let decode = listened || bid.power.is_none();
            input.tick(now, decode && has_floor(bid));
            if input.speaking {
                add(&mut self.sum, input.audio.frame());
            }
            self.activity.add(stream, input.power(now));
        }
        self.encodings = 0;
        let Self { inputs, outputs, shared, sum, own: left_out, tick, encodings, .. } = self;
        let heard: Vec<&Input> = inputs.values().filter(|input| input.heard > 0).collect();
        for (id, Output { mix, audio: output, own }) in outputs {
            if !wanted(id) {
                output.rest();
                *own = None;
                continue;
            }
            let of = match &*mix {
                Mix::Common => None,
                Mix::Minus(participant) => Some(participant),
            };
            // Of many hardly anybody is.
            if !heard.iter().any(|input| of == Some(&input.owner)) {
                *own = None;
                if let Some(payload) = share(shared, output.encoding(), sum, *tick, encodings) {
                    send(id, output.packet(payload, *tick));
                }
                continue;
            }
            left_out.fill(0.0);
            let his = inputs.values().filter(|input| input.speaking && of == Some(&input.owner));
            his.for_each(|input| add(left_out, input.audio.frame()));
            let mix = sum.iter().zip(left_out.iter()).map(|(sum, own)| sum - own);
            *encodings += 1;
            match own.get_or_insert_with(|| EncodedMix::new(output.encoding())).encode(mix) {
                Ok(payload) => send(id, output.packet(payload, *tick)),
                Err(error) => tracing::warn!(%error, "audio frame not encoded"),
            }
        }
        // An encoding that nobody took would go on from an old state.
        shared.retain(|shared| shared.made.is_some_and(|(at, _)| at == *tick));
        self.tick += 1;
        self.activity.tick()
    }

    /// How many packets of the present inputs were decoded.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        self.inputs.values().map(|input| input.audio.decoded()).sum()
    }

    /// How many encodings the last tick took.
    #[must_use]
    pub fn encodings(&self) -> usize {
        self.encodings
    }
}

/// The sum in that encoding, encoded once in a tick; none if the encoder refuses.
fn share<'a>(
    shared: &'a mut Vec<Shared>,
    encoding: AudioEncoding,
    sum: &[f32],
    tick: u64,
    encodings: &mut usize,
) -> Option<&'a [u8]> {
    let index = shared.iter().position(|shared| shared.encoding == encoding).unwrap_or_else(|| {
        shared.push(Shared { encoding, mix: EncodedMix::new(encoding), made: None });
        shared.len() - 1
    });
    let shared = shared.get_mut(index)?;
    if shared.made.is_none_or(|(at, _)| at != tick) {
        *encodings += 1;
        let made = shared.mix.encode(sum.iter().copied()).map(drop);
        if let Err(error) = &made {
            tracing::warn!(%error, "audio frame not encoded");
        }
        shared.made = Some((tick, made.is_ok()));
    }
    shared.made.is_some_and(|(_, made)| made).then(|| shared.mix.payload())
}

fn add(sum: &mut [f32], frame: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(frame) {
        *sum += value;
    }
}

#[cfg(test)]
mod tests;
