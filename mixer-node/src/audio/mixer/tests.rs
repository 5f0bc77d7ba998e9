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
            mixer.set_input(&stream(name), &participant(owner), AudioCodec::Opus, Some(LEVEL_ID)).unwrap();
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
    let mut room = Room::new(&[("a", "pa", 400.0, 0.2), ("b", "pb", 700.0, 0.0), ("c", "pc", 1100.0, 0.0)]);
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
    for (number, (always, seldom)) in always.chunks(FRAME_VALUES).zip(seldom.chunks(FRAME_VALUES)).enumerate()
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
    let mut room = Room::new(&[("a", "pa", 400.0, 0.2), ("b", "pa", 700.0, 0.2), ("c", "pc", 1100.0, 0.2)]);
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
    let streams: Vec<_> = loud.iter().map(|(name, hz)| (name.as_str(), name.as_str(), *hz, 0.8)).collect();
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
