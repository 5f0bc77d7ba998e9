//! What a mixer-node adds to the way of a picture: nine people send pictures with a number in them; of each number's first appearance in the
//! mix the time is told from the last packet of the picture that had it to the last packet of the mixed picture. By a whole node, over
//! gRPC, the media link and its encryption. And how far apart sound and picture are of somebody whose tone begins and ends with certain pictures, by
//! the node's sender reports.

#![allow(clippy::unwrap_used, reason = "a bench")]

mod material;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    io::Write as _,
    sync::{Arc, mpsc::channel},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use kaigi_mixer_node::{
    link::OutputTrack,
    video::{Canvas, Colour, Fresh, Picture, Rect, Size, VideoCodec, VideoDecoder},
};
use kaigi_proto::v1;
use material::{FRAMES, Material, RATE, painted, renumbered};
use support::{
    MixerNode, Publisher,
    tap::{Packet, Tap},
    view,
};

const PEOPLE: usize = 9;
const SIDE: u32 = 3;
const SENT: Size = Size { width: 640, height: 360 };
const VIEW: Size = Size { width: 1280, height: 720 };
const SECONDS: u32 = 20;
/// Pictures of the beginning that do not count.
const WARM_UP: usize = 90;
/// Pixels of a bit's side in the pictures that are sent.
const BIT: u32 = 40;
const BITS: u32 = 8;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kaigi_mixer_node::init_gstreamer()?;
    let material = painted(SENT, 500, number)?;
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let (mut tracks, mut inputs) = (Vec::new(), Vec::new());
    let (sound, heard) = publisher.track("sound", v1::MediaKind::Audio, "opus", 48_000);
    for person in 0..PEOPLE {
        let (track, source) = publisher.track(&format!("v{person}"), v1::MediaKind::Video, "vp8", 90_000);
        tracks.push(track);
        inputs.push(v1::ViewInput {
            stream_id: format!("s{person}"),
            owner: format!("p{person}"),
            video: Some(source),
            audio: (person == 0).then(|| heard.clone()),
            ..Default::default()
        });
    }
    let mut described = view(1, inputs, SIDE);
    let video = described.video.as_mut().context("a picture")?;
    video.resolution = Some(v1::Resolution { width: VIEW.width, height: VIEW.height });
    (video.framerate, video.bitrate) = (RATE, 2500);
    let reply = node.control.set_view(described).await?.into_inner();
    let tap = Tap::attach(&reply.video.context("a picture")?).await;
    let ear = Tap::attach(&reply.audio.context("sound")?).await;
    let start = Instant::now() + Duration::from_millis(100);
    let humming = std::thread::spawn(move || hum(&sound, start));
    let sent = tokio::task::spawn_blocking(move || send(&material, &tracks, start)).await?;
    humming.join().map_err(|_| anyhow::anyhow!("no sound was sent"))??;
    let packets = tap.packets();
    let (mut latencies, changes) = latencies(&packets, &sent)?;
    let pictures = captures(&tap, changes)?;
    let sounds = captures(&ear, tones(&ear.packets())?)?;
    anyhow::ensure!(
        latencies.len() > PEOPLE * (RATE * SECONDS) as usize * 3 / 4,
        "only {} pictures were seen: the machine is too busy",
        latencies.len()
    );
    latencies.sort();
    let part = |hundredths: usize| latencies[latencies.len() * hundredths / 100].as_secs_f64() * 1000.0;
    let mut out = std::io::stdout();
    writeln!(out, "| pictures | median, ms | 90th percentile | 99th percentile |\n|---|---|---|---|")?;
    writeln!(out, "| {} | {:.1} | {:.1} | {:.1} |", latencies.len(), part(50), part(90), part(99))?;
    let mut apart: Vec<f64> = pictures
        .iter()
        .filter_map(|picture| {
            sounds.iter().map(|sound| sound - picture).min_by(|a, b| a.abs().total_cmp(&b.abs()))
        })
        .map(|apart| apart * 1000.0)
        .collect();
    apart.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    anyhow::ensure!(apart.len() >= SECONDS as usize, "only {} changes were seen and heard", apart.len());
    let mean = apart.iter().sum::<f64>() / apart.len() as f64;
    writeln!(out, "\n| changes | sound after picture, mean, ms | farthest apart of 95 % |\n|---|---|---|")?;
    writeln!(out, "| {} | {mean:.1} | {:.1} |", apart.len(), apart[apart.len() * 95 / 100].abs())?;
    Ok(())
}

/// Pictures between the beginning of a tone and its end: half a second.
const HALF: u32 = RATE / 2;

/// Hums in every other half of a second, each 20 ms sent when they are over.
fn hum(track: &OutputTrack, start: Instant) -> anyhow::Result<()> {
    let mut encoder = opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip)?;
    for number in 0..(SECONDS + 3) * 50 {
        let hums = number / 25 % 2 > 0;
        let sample = |i: u32| {
            let time = f64::from(number * 960 + i) / 48_000.0;
            if hums { (std::f64::consts::TAU * 500.0 * time).sin() as f32 * 0.3 } else { 0.0 }
        };
        let frame: Vec<f32> = (0..960).map(sample).collect();
        let mut packet = Vec::new();
        kaigi_media::rtp::write_header(&mut packet, number == 0, 100, number as u16, number * 960, 0);
        packet.extend(encoder.encode_vec_float(&frame, 1000)?);
        let due = start + Duration::from_millis(20) * (number + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        track.send(&packet, Instant::now());
    }
    Ok(())
}

/// RTP timestamps at which the tone begins or ends.
fn tones(packets: &[Packet]) -> anyhow::Result<Vec<u32>> {
    let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo)?;
    let (mut frame, mut changes, mut hums) = ([0.0f32; 1920], Vec::new(), false);
    for packet in packets {
        decoder.decode_float(&packet.payload, &mut frame, false)?;
        // By 2.5 ms.
        for (part, samples) in (0..).zip(frame.chunks(240)) {
            let loud = samples.iter().map(|value| value * value).sum::<f32>() / 240.0 > 0.01;
            if loud != hums {
                hums = loud;
                changes.push(packet.header.timestamp.wrapping_add(part * 120));
            }
        }
    }
    Ok(changes)
}

/// Seconds (NTP) of what has these RTP timestamps, by the track's newest sender report.
fn captures(tap: &Tap, timestamps: Vec<u32>) -> anyhow::Result<Vec<f64>> {
    let (ntp, rtp) = tap.report().context("no sender report came")?;
    let now = ntp as f64 / 2f64.powi(32);
    let rate = f64::from(tap.reply.clock_rate);
    Ok(timestamps
        .iter()
        .map(|timestamp| now + f64::from(timestamp.wrapping_sub(rtp) as i32) / rate)
        .collect())
}

/// Paints a number as bits, and its complement below, so that what is in between is told from both.
fn number(canvas: &mut Canvas, number: u32) {
    let colours = [Colour([16, 128, 128]), Colour([235, 128, 128])];
    for bit in 0..BITS {
        let is_set = number >> bit & 1;
        for (row, set) in [(0, is_set), (1, 1 - is_set)] {
            let size = Size { width: BIT, height: BIT };
            canvas.fill(Rect { x: BIT * (bit + 1), y: BIT * row, size }, colours[set as usize]);
        }
    }
}

/// The number in a region of the mix; none if it can't be read.
fn read(picture: &Picture<'_>, person: usize) -> Option<u32> {
    let region = Size { width: VIEW.width / SIDE, height: VIEW.height / SIDE };
    let (column, row) = (person as u32 % SIDE, person as u32 / SIDE);
    let at = |x: u32, y: u32| {
        let (x, y) = (x * region.width / SENT.width, y * region.height / SENT.height);
        picture.planes[0].row(column * region.width + x, row * region.height + y, 1)[0]
    };
    (0..BITS).try_fold(0, |number, bit| {
        let x = BIT * (bit + 1) + BIT / 2;
        match (at(x, BIT / 2), at(x, BIT + BIT / 2)) {
            (high, low) if high > low + 100 => Some(number | 1 << bit),
            (low, high) if high > low + 100 => Some(number),
            _ => None,
        }
    })
}

/// Sends for the whole time; when each number of each person was sent last, and all before.
fn send(material: &Material, tracks: &[Arc<OutputTrack>], start: Instant) -> Vec<Vec<(u32, Instant)>> {
    let mut sent = vec![Vec::new(); tracks.len()];
    let mut sequences = vec![0u16; tracks.len()];
    for frame in 0..RATE * SECONDS + WARM_UP as u32 {
        for (person, track) in tracks.iter().enumerate() {
            let due = start
                + Duration::from_secs(1) * frame / RATE
                + Duration::from_secs(1) * person as u32 / (RATE * PEOPLE as u32);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // A key frame is asked for at the beginning: the material begins with one.
            let number = frame % FRAMES;
            for packet in &material[number as usize] {
                track.send(&renumbered(packet, sequences[person], frame), Instant::now());
                sequences[person] = sequences[person].wrapping_add(1);
            }
            sent[person].push((number, Instant::now()));
        }
    }
    sent
}

/// Of each number's first appearance; and the RTP timestamps of pictures with which the first person's tone begins or ends.
fn latencies(packets: &[Packet], sent: &[Vec<(u32, Instant)>]) -> anyhow::Result<(Vec<Duration>, Vec<u32>)> {
    let (tell, told) = channel();
    let decoder = VideoDecoder::start(
        VideoCodec::Vp8,
        96,
        move |frame: Fresh<'_>| drop(tell.send(frame.keep())),
        |_| {},
    )?;
    let (mut latencies, mut changes, mut shown, mut pictures) =
        (Vec::new(), Vec::new(), vec![None; PEOPLE], 0);
    for packet in packets {
        decoder.push(packet.bytes.clone(), Instant::now());
        if !packet.header.marker {
            continue;
        }
        let Ok(frame) = told.recv_timeout(Duration::from_secs(2)) else { continue };
        let picture = frame.picture().context("a picture")?;
        pictures += 1;
        for (person, shown) in shown.iter_mut().enumerate() {
            let Some(number) = read(&picture, person) else { continue };
            if shown.replace(number) == Some(number) || pictures < WARM_UP {
                continue;
            }
            let before = sent[person].iter().rev().find(|(other, at)| *other == number && *at <= packet.at);
            latencies.extend(before.map(|(_, at)| packet.at - *at));
            if person == 0 && number % HALF == 0 {
                changes.push(packet.header.timestamp);
            }
        }
    }
    Ok((latencies, changes))
}
