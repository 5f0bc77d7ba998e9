//! CPU of mixing the sound of a room, on virtual time: of so many participants, some of whom speak, and all of whom hear all but themselves.
//! From their RTP packets to those of the mixes, without sockets. Beside it what decoding everybody would cost alone.

use std::{collections::BTreeMap, hint::black_box, io::Write as _, time::Instant};

use anyhow::Context as _;
use kaigi_media::rtp::write_header;
use kaigi_mixer_node::audio::{
    AudioCodec, AudioEncoding, AudioMixer, AudioStart, FRAME, Mix, PlannedMix, SAMPLE_RATE, TICK,
};
use kaigi_proto::ids::{ParticipantId, StreamId, TrackId};

/// Ticks of the material, sent again and again.
const MATERIAL: usize = 250;
/// Ticks that are measured: a minute.
const MEASURED: usize = 3000;
const WARM_UP: usize = 200;
const LEVEL_ID: u8 = 1;

fn main() -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| participants | speaking | cores | encodings a tick | decoding everybody alone, cores |\n|---|---|---|---|---|"
    )?;
    for (people, speaking) in [(3usize, 3usize), (10, 3), (50, 3), (200, 3), (200, 10)] {
        let material = Material::new(speaking)?;
        let (cores, encodings) = mixed(people, &material)?;
        let decoding = decoded(people, &material)?;
        writeln!(out, "| {people} | {speaking} | {cores:.3} | {encodings:.1} | {decoding:.3} |")?;
    }
    Ok(())
}

/// User and system time of this process, in seconds.
fn cpu() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("no fields")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// A packet's level and payload.
type Sound = (u8, Vec<u8>);

/// What people send.
struct Material {
    voices: Vec<Vec<Sound>>,
    /// A quiet room.
    room: Vec<Sound>,
}

impl Material {
    fn new(speaking: usize) -> anyhow::Result<Self> {
        let voices = (0..speaking).map(|voice| sound(|time| speech(voice as f32, time)));
        let mut noise = 1u32;
        let hiss = move |_: f32| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 8) as f32 / 8_388_608.0 * 0.0003 - 0.000_15
        };
        Ok(Self { voices: voices.collect::<anyhow::Result<_>>()?, room: sound(hiss)? })
    }

    /// What a participant sends at a tick.
    fn at(&self, person: usize, tick: usize) -> &Sound {
        let sounds = self.voices.get(person).unwrap_or(&self.room);
        &sounds[(tick + person * 17) % sounds.len()]
    }
}

/// Syllables of a voice: harmonics of a gliding pitch, with two formants.
fn speech(voice: f32, time: f32) -> f32 {
    let pitch = 105.0 + 23.0 * voice + 12.0 * (time * (2.1 + voice * 0.1)).sin();
    let syllable = (std::f32::consts::PI * time * (3.3 + 0.2 * voice)).sin().powi(2);
    let formants = [450.0 + 200.0 * (time * 5.0 + voice).sin(), 1600.0 + 500.0 * (time * 3.7 + voice).cos()];
    let harmonic = |number: i32| {
        let hz = pitch * number as f32;
        let gain: f32 = formants.iter().map(|formant| 1.0 / (1.0 + ((hz - formant) / 150.0).powi(2))).sum();
        gain * (std::f32::consts::TAU * hz * time).sin()
    };
    0.12 * syllable * (1..30).map(harmonic).sum::<f32>()
}

/// As a browser sends it: mono, 32 kbit/s, with redundancy.
fn sound(mut sample: impl FnMut(f32) -> f32) -> anyhow::Result<Vec<Sound>> {
    let mut encoder = opus::Encoder::new(SAMPLE_RATE, opus::Channels::Mono, opus::Application::Voip)?;
    encoder.set_bitrate(opus::Bitrate::Bits(32_000))?;
    encoder.set_inband_fec(true)?;
    encoder.set_packet_loss_perc(5)?;
    let packet = |tick: usize| {
        let frame: Vec<f32> =
            (0..FRAME).map(|i| sample((tick * FRAME + i) as f32 / SAMPLE_RATE as f32)).collect();
        let power = frame.iter().map(|value| value * value).sum::<f32>() / FRAME as f32;
        let level = (-10.0 * power.max(1e-13).log10()).clamp(0.0, 127.0) as u8;
        Ok((level, encoder.encode_vec_float(&frame, 1000)?))
    };
    (0..MATERIAL).map(packet).collect()
}

fn mixed(people: usize, material: &Material) -> anyhow::Result<(f64, f64)> {
    let mut mixer = AudioMixer::new(0);
    let encoding = AudioEncoding::Opus { stereo: true };
    let mut outputs = BTreeMap::new();
    let streams: Vec<StreamId> =
        (0..people).map(|person| StreamId::new(format!("s{person}"))).collect::<Result<_, _>>()?;
    for (person, stream) in streams.iter().enumerate() {
        let owner = ParticipantId::new(format!("p{person}"))?;
        mixer.set_input(stream, &owner, AudioCodec::Opus, Some(LEVEL_ID))?;
        outputs.insert(TrackId::new(format!("t{person}"))?, PlannedMix { mix: Mix::Minus(owner), encoding });
    }
    mixer.set_outputs(&outputs, |_| AudioStart::default());
    let (mut now, mut packet, mut sent, mut encodings, mut before) =
        (Instant::now(), Vec::new(), 0usize, 0usize, 0.0);
    for tick in 0..WARM_UP + MEASURED {
        if tick == WARM_UP {
            (before, sent, encodings) = (cpu()?, 0, 0);
        }
        for (person, stream) in streams.iter().enumerate() {
            let (level, payload) = material.at(person, tick);
            packet.clear();
            write_header(&mut packet, false, 111, tick as u16, (tick * FRAME) as u32, 1);
            packet[0] |= 0x10;
            packet.extend_from_slice(&[0xbe, 0xde, 0, 1, LEVEL_ID << 4, *level, 0, 0]);
            packet.extend_from_slice(payload);
            mixer.packet(stream, &packet, now);
        }
        mixer.tick(now, |_| true, |_, packet| sent += black_box(packet).len().min(1));
        encodings += mixer.encodings();
        now += TICK;
    }
    anyhow::ensure!(sent == people * MEASURED, "{sent} packets were sent");
    let seconds = TICK.as_secs_f64() * MEASURED as f64;
    Ok(((cpu()? - before) / seconds, encodings as f64 / MEASURED as f64))
}

/// Nothing but a decoder for each.
fn decoded(people: usize, material: &Material) -> anyhow::Result<f64> {
    let decoder = |_| opus::Decoder::new(SAMPLE_RATE, opus::Channels::Stereo);
    let mut decoders = (0..people).map(decoder).collect::<Result<Vec<_>, _>>()?;
    let mut samples = vec![0.0; FRAME * 2];
    let ticks = MEASURED / 10;
    let before = cpu()?;
    for tick in 0..ticks {
        for (person, decoder) in decoders.iter_mut().enumerate() {
            black_box(decoder.decode_float(&material.at(person, tick).1, &mut samples, false)?);
        }
    }
    Ok((cpu()? - before) / (TICK.as_secs_f64() * ticks as f64))
}
