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
mod tests {
    use super::super::{TICK, testing::*};
    use super::*;

    fn stream(name: &str) -> StreamId {
        StreamId::new(name).unwrap()
    }
    fn participant(name: &str) -> ParticipantId {
        ParticipantId::new(name).unwrap()
    }
    fn common() -> TrackId {
        TrackId::new("common").unwrap()
    }
    fn minus(name: &str) -> TrackId {
        TrackId::new(format!("minus:{name}")).unwrap()
    }
    fn planned(mix: Mix) -> PlannedMix {
        PlannedMix { mix, encoding: AudioEncoding::Opus { stereo: true } }
    }
    const START: AudioStart = AudioStart { sequence: 65_500, timestamp: 0xffff_fff0 };

    struct Room {
        mixer: AudioMixer,
        sources: BTreeMap<StreamId, ToneSource>,
        ears: BTreeMap<TrackId, Ear>,
        now: Instant,
        active: Vec<String>,
        /// Which ticks' packets get lost.
        lost: fn(u32) -> bool,
        ticks: u32,
    }

    impl Room {
        /// Streams as (name, owner, Hz, amplitude).
        fn new(streams: &[(&str, &str, f32, f32)]) -> Self {
            let mut mixer = AudioMixer::new(0);
            let mut sources = BTreeMap::new();
            let mut outputs = BTreeMap::from([(common(), planned(Mix::Common))]);
            for (name, owner, hz, amplitude) in streams {
                mixer
                    .set_input(&stream(name), &participant(owner), AudioCodec::Opus, Some(LEVEL_ID))
                    .unwrap();
                sources.insert(stream(name), ToneSource::new(*hz, *amplitude));
                outputs.insert(minus(owner), planned(Mix::Minus(participant(owner))));
            }
            mixer.set_outputs(&outputs, |_| START);
            let ears = outputs.into_keys().map(|id| (id, Ear::default())).collect();
            Self { mixer, sources, ears, now: Instant::now(), active: vec![], lost: |_| false, ticks: 0 }
        }

        fn run(&mut self, ticks: u32) {
            for _ in 0..ticks {
                for (name, source) in &mut self.sources {
                    let packet = source.packet();
                    if !(self.lost)(self.ticks) {
                        self.mixer.packet(name, &packet, self.now);
                    }
                }
                let listening: std::collections::BTreeSet<TrackId> = self.ears.keys().cloned().collect();
                let hear = |id: &TrackId, packet: &[u8]| self.ears.get_mut(id).unwrap().hear(packet);
                let active = self.mixer.tick(self.now, |id| listening.contains(id), hear);
                self.active.extend(active.map(|id| id.to_string()));
                self.now += TICK;
                self.ticks += 1;
            }
        }

        /// Amplitudes of the frequencies in what was heard of an output during the last `ticks`.
        fn hears<const N: usize>(&self, id: &TrackId, ticks: usize, frequencies: [f32; N]) -> [f32; N] {
            let heard = &self.ears[id].heard;
            let last = &heard[heard.len() - ticks * FRAME_VALUES..];
            frequencies.map(|hz| tone(last, hz))
        }
    }

    const THREE: [(&str, &str, f32, f32); 3] =
        [("a", "pa", 400.0, 0.2), ("b", "pb", 700.0, 0.2), ("c", "pc", 1100.0, 0.2)];
    const TONES: [f32; 3] = [400.0, 700.0, 1100.0];

    #[test]
    fn everybody_hears_all_but_himself() {
        let mut room = Room::new(&THREE);
        room.run(100);
        let audible = |id: &TrackId| room.hears(id, 50, TONES).map(|amplitude| amplitude > 0.1);
        assert_eq!(audible(&common()), [true, true, true]);
        assert_eq!(audible(&minus("pa")), [false, true, true]);
        assert_eq!(audible(&minus("pb")), [true, false, true]);
        assert_eq!(audible(&minus("pc")), [true, true, false]);
        let own = room.hears(&minus("pa"), 50, TONES)[0];
        assert!(own < 0.01, "hears himself at {own}");
    }

    #[test]
    fn an_input_that_is_a_defect_is_left_out_for_a_while_and_the_others_are_heard() {
        let mut room = Room::new(&THREE);
        room.run(100);
        room.mixer.inputs.get_mut(&stream("a")).unwrap().audio.panics = true;
        let audible = |room: &Room| room.hears(&common(), 20, TONES).map(|amplitude| amplitude > 0.1);
        room.run(40);
        assert_eq!(audible(&room), [false, true, true]);
        room.run(60);
        assert_eq!(audible(&room), [true, true, true], "decoded anew");
        assert_eq!(room.ears[&common()].packets, 200, "without a gap");
    }

    #[test]
    fn all_who_are_silent_share_one_encoding() {
        let mut room =
            Room::new(&[("a", "pa", 400.0, 0.2), ("b", "pb", 700.0, 0.0), ("c", "pc", 1100.0, 0.0)]);
        room.run(100);
        assert_eq!(room.mixer.encodings(), 2, "one for all, and one for who speaks");
        let audible = |room: &Room, id: &TrackId| room.hears(id, 50, TONES).map(|amplitude| amplitude > 0.1);
        assert_eq!(audible(&room, &minus("pb")), [true, false, false]);
        assert_eq!(audible(&room, &minus("pa")), [false, false, false]);
        // Another one begins to speak and the first stops.
        room.sources.insert(stream("b"), ToneSource::new(700.0, 0.2));
        room.sources.insert(stream("a"), ToneSource::new(400.0, 0.0));
        room.mixer.set_input(&stream("a"), &participant("pa"), AudioCodec::Opus, None).unwrap();
        room.mixer.set_input(&stream("b"), &participant("pb"), AudioCodec::Opus, None).unwrap();
        room.run(200);
        assert_eq!(room.mixer.encodings(), 2);
        assert_eq!(audible(&room, &minus("pb")), [false, false, false]);
        assert_eq!(audible(&room, &minus("pa")), [false, true, false]);
        assert_eq!(audible(&room, &common()), [false, true, false]);
        assert_eq!(room.ears[&minus("pa")].packets, 300, "without a gap");
    }

    /// Two who hear the common mix, of which `a` tells its level; it begins to speak after 200 ticks.
    fn begins(tells: bool) -> (u64, Vec<f32>) {
        let mut room = Room::new(&[("a", "pa", 400.0, 0.0)]);
        room.sources.get_mut(&stream("a")).unwrap().level = tells.then_some(90);
        room.run(200);
        let decoded = room.mixer.decoded();
        let speaks = room.sources.get_mut(&stream("a")).unwrap();
        (speaks.amplitude, speaks.level) = (0.3, tells.then_some(15));
        room.run(100);
        let heard = &room.ears[&common()].heard;
        (decoded, heard[200 * FRAME_VALUES..].to_vec())
    }

    #[test]
    fn who_is_silent_is_not_decoded_and_is_heard_from_his_first_sound_on() {
        let ((all, always), (few, seldom)) = (begins(false), begins(true));
        assert!(all > 180 && few == 0, "{all} and {few} decoded");
        for (number, (always, seldom)) in
            always.chunks(FRAME_VALUES).zip(seldom.chunks(FRAME_VALUES)).enumerate()
        {
            let (always, seldom) = (tone(always, 400.0), tone(seldom, 400.0));
            assert!((always - seldom).abs() < 0.03, "{seldom} instead of {always} in frame {number}");
        }
    }

    #[test]
    fn of_many_who_speak_the_loudest_are_decoded() {
        let names: Vec<(String, String)> = (0..30).map(|i| (format!("s{i}"), format!("p{i}"))).collect();
        let streams: Vec<(&str, &str, f32, f32)> =
            names.iter().map(|(s, p)| (s.as_str(), p.as_str(), 400.0, 0.01)).collect();
        let mut room = Room::new(&streams);
        for (index, (name, _)) in names.iter().enumerate() {
            room.sources.get_mut(&stream(name)).unwrap().level = Some(if index == 7 { 30 } else { 45 });
        }
        room.sources.insert(stream("s7"), ToneSource::telling(700.0, 0.2, 20));
        room.run(50);
        let before = room.mixer.decoded();
        room.run(50);
        assert!(room.mixer.decoded() - before <= 50 * 16, "{}", room.mixer.decoded() - before);
        assert!(room.hears(&common(), 40, [700.0])[0] > 0.1);
    }

    #[test]
    fn where_nobody_listens_it_is_known_who_speaks_without_decoding() {
        let mut room = Room::new(&THREE);
        for source in room.sources.values_mut() {
            source.level = Some(40);
        }
        room.sources.get_mut(&stream("b")).unwrap().level = Some(10);
        room.ears.clear();
        room.run(110);
        assert_eq!((room.mixer.decoded(), room.active.as_slice()), (0, ["b".to_owned()].as_slice()));
        for source in room.sources.values_mut() {
            source.level = None;
        }
        room.run(110);
        assert!(room.mixer.decoded() > 0, "who does not tell has to be decoded");
    }

    #[test]
    fn after_a_rest_nothing_old_is_heard() {
        let mut room = Room::new(&THREE);
        room.run(60);
        room.mixer.rest();
        room.sources.clear();
        for ear in room.ears.values_mut() {
            *ear = Ear::default();
        }
        room.run(20);
        assert!(room.hears(&common(), 20, TONES).iter().all(|amplitude| *amplitude < 0.001));
    }

    #[test]
    fn pauses_of_speech_change_no_encoding() {
        let mut room = Room::new(&THREE);
        room.run(60);
        assert_eq!(room.mixer.encodings(), 4);
        room.lost = |_| true;
        room.run(HANGOVER - 10);
        assert_eq!(room.mixer.encodings(), 4);
        room.run(60);
        assert_eq!(room.mixer.encodings(), 1);
    }

    #[test]
    fn all_streams_of_one_participant_are_left_out() {
        let mut room =
            Room::new(&[("a", "pa", 400.0, 0.2), ("b", "pa", 700.0, 0.2), ("c", "pc", 1100.0, 0.2)]);
        room.run(100);
        let heard = room.hears(&minus("pa"), 50, TONES);
        assert!(heard[0] < 0.01 && heard[1] < 0.01 && heard[2] > 0.1, "{heard:?}");
    }

    #[test]
    fn inputs_come_and_go_without_a_break() {
        let mut room = Room::new(&THREE);
        room.run(60);
        room.mixer.retain_inputs(|id| id.as_str() != "b");
        room.run(60);
        let heard = room.hears(&common(), 40, TONES);
        assert!(heard[0] > 0.1 && heard[1] < 0.01 && heard[2] > 0.1, "{heard:?}");
        room.mixer.set_input(&stream("b"), &participant("pb"), AudioCodec::Opus, None).unwrap();
        room.run(60);
        assert!(room.hears(&common(), 40, TONES)[1] > 0.1);
        assert_eq!(room.ears[&common()].packets, 180);
    }

    #[test]
    fn lost_packets_leave_no_holes() {
        let mut room = Room::new(&THREE);
        room.lost = |tick| tick > 20 && tick % 8 == 0;
        room.run(150);
        let heard = &room.ears[&common()].heard;
        for (number, frame) in heard.chunks(FRAME_VALUES).enumerate().skip(30) {
            assert!(tone(frame, 400.0) > 0.03, "hole in frame {number}: {}", tone(frame, 400.0));
        }
    }

    #[test]
    fn many_loud_voices_are_turned_down_and_not_distorted() {
        let loud: Vec<(String, f32)> =
            (0..8u8).map(|i| (format!("s{i}"), 300.0 + 150.0 * f32::from(i))).collect();
        let streams: Vec<_> =
            loud.iter().map(|(name, hz)| (name.as_str(), name.as_str(), *hz, 0.8)).collect();
        let mut room = Room::new(&streams);
        room.run(100);
        let heard = &room.ears[&common()].heard;
        assert!(heard.iter().all(|value| value.abs() <= 1.1));
        let voices = room.hears(&common(), 50, [300.0, 1350.0]);
        assert!(voices.iter().all(|amplitude| *amplitude > 0.05), "{voices:?}");
    }

    #[test]
    fn the_loudest_is_reported_once() {
        let mut room = Room::new(&[("a", "pa", 400.0, 0.05), ("b", "pb", 700.0, 0.4)]);
        room.run(160);
        assert_eq!(room.active, ["b"]);
    }

    #[test]
    fn outputs_without_listeners_are_not_encoded() {
        let mut room = Room::new(&THREE);
        let listened = room.ears.remove(&minus("pa"));
        room.run(30);
        assert_eq!(room.ears[&common()].packets, 30);
        room.ears.insert(minus("pa"), listened.unwrap());
        room.run(30);
        assert_eq!(room.ears[&minus("pa")].packets, 30);
    }

    #[test]
    fn a_room_without_inputs_is_silent_but_goes_on() {
        let mut room = Room::new(&[]);
        room.run(50);
        let ear = &room.ears[&common()];
        assert_eq!(ear.packets, 50);
        assert!(ear.heard.iter().all(|value| value.abs() < 0.001));
    }
}
