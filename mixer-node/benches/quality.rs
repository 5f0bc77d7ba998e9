//! What the VP8 encoder's speed (`cpu-used`) costs in quality, and its leaving out blocks that hardly change (`static-threshold`): CPU,
//! bitrate, PSNR and SSIM (luma) of the mix of nine people who talk; and the same as a view encodes it. `DECODED=1`: of people who were encoded
//! and decoded before, as a view has them.

mod material;

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use kaigi_media::rtp::RtpHeader;
use kaigi_mixer_node::{
    init_gstreamer,
    video::{
        Canvas, Colour, Composer, Content, Continuity, Decoration, EncoderSettings, Frame, FrameSlot, Fresh,
        PacketSink, Rect, Region, Scene, Sheets, Size, VideoCodec, VideoDecoder, VideoEncoder, VideoEncoding,
    },
};
use material::{RATE, cpu, material, renumbered, talker};

const VIEW: Size = Size { width: 1280, height: 720 };
const FRAMES: u32 = 120;
/// `cpu-used` and `static-threshold`.
const SETTINGS: [(i32, i32); 10] = [
    (-4, 1),
    (-6, 1),
    (-8, 1),
    (-10, 1),
    (-12, 1),
    (-14, 1),
    (-16, 1),
    (-12, 500),
    (-12, VideoEncoder::STATIC),
    (-12, 1000),
];

fn main() -> anyhow::Result<()> {
    init_gstreamer()?;
    let frames = frames()?;
    let mut out = std::io::stdout();
    for kbps in [1500u32, 800] {
        writeln!(
            out,
            "\n{kbps} kbit/s\n\n| cpu-used | static-threshold | cores at 30 frames a second | kbit/s | PSNR, dB | SSIM |\n|---|---|---|---|---|---|"
        )?;
        for (speed, threshold) in SETTINGS {
            let (cores, encoded) = encode(&frames, (speed, threshold), kbps)?;
            let bytes: usize = encoded.iter().map(|picture| picture.size()).sum();
            let made = bytes as f64 * 8.0 / 1000.0 / (f64::from(FRAMES) / f64::from(RATE));
            let (psnr, ssim) = compare(&frames, &encoded)?;
            writeln!(out, "| {speed} | {threshold} | {cores:.3} | {made:.0} | {psnr:.2} | {ssim:.4} |")?;
        }
        let (cores, encoded) = as_views_do(&frames, kbps)?;
        let bytes: usize = encoded.iter().map(|picture| picture.size()).sum();
        let made = bytes as f64 * 8.0 / 1000.0 / (f64::from(FRAMES) / f64::from(RATE));
        let (psnr, ssim) = compare(&frames, &encoded)?;
        writeln!(out, "| as views have it | | {cores:.3} | {made:.0} | {psnr:.2} | {ssim:.4} |")?;
    }
    Ok(())
}

/// A grid of nine, nobody in step with anybody else.
fn frames() -> anyhow::Result<Vec<Canvas>> {
    let size = Size { width: 426, height: 240 };
    let talking = talking(size)?;
    let slots: Vec<Arc<FrameSlot>> = (0..9).map(|_| Default::default()).collect();
    let region = |(i, slot): (u32, &Arc<FrameSlot>)| Region {
        rect: Rect { x: i % 3 * size.width, y: i / 3 * size.height, size },
        source: Some(slot.clone()),
        badge: None,
    };
    let mut composer = Composer::new(Scene {
        size: VIEW,
        background: Colour::from_rgb(0),
        crop: false,
        regions: (0..).zip(&slots).map(region).collect(),
        decoration: Decoration::default(),
    });
    let frame = |number: usize| {
        for (person, slot) in slots.iter().enumerate() {
            slot.put(talking[(number + person * 13) % talking.len()].clone(), Instant::now());
        }
        composer.compose().clone()
    };
    Ok((0..FRAMES as usize).map(frame).collect())
}

/// Somebody who talks, as he was drawn or, with `DECODED=1`, as he was sent.
fn talking(size: Size) -> anyhow::Result<Vec<Arc<dyn Frame>>> {
    let drawn = (0..FRAMES).map(|number| Arc::new(talker(size, number)) as Arc<dyn Frame>);
    if std::env::var_os("DECODED").is_none() {
        return Ok(drawn.collect());
    }
    let (tell, told) = std::sync::mpsc::channel();
    let show = move |fresh: Fresh<'_>| drop(tell.send(fresh.keep()));
    let decoder = VideoDecoder::start(VideoCodec::Vp8, 96, show, |_| {})?;
    let mut sequence = 0u16;
    let sent = material(size, 250)?.into_iter().take(FRAMES as usize);
    let seen = (0..).zip(sent).map(|(number, packets)| {
        for packet in packets {
            decoder.push(renumbered(&packet, sequence, number), Instant::now());
            sequence = sequence.wrapping_add(1);
        }
        Ok(told.recv_timeout(Duration::from_secs(10))?)
    });
    seen.collect()
}

fn raw_caps() -> String {
    format!("video/x-raw,format=I420,width={},height={},framerate={RATE}/1", VIEW.width, VIEW.height)
}

fn encode(
    frames: &[Canvas],
    (speed, threshold): (i32, i32),
    kbps: u32,
) -> anyhow::Result<(f64, Vec<gst::Buffer>)> {
    let settings = EncoderSettings {
        encoding: VideoEncoding::Vp8,
        size: VIEW,
        framerate: Some(RATE),
        content: Content::Camera,
    };
    let encoder = VideoEncoder::element(&settings)?;
    encoder.set_property("cpu-used", speed);
    encoder.set_property("static-threshold", threshold);
    encoder.set_property("target-bitrate", i32::try_from(kbps * 1000)?);
    let source = AppSrc::builder().caps(&raw_caps().parse()?).format(gst::Format::Time).build();
    let sink = AppSink::builder().sync(false).build();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([source.upcast_ref(), &encoder, sink.upcast_ref()])?;
    gst::Element::link_many([source.upcast_ref(), &encoder, sink.upcast_ref()])?;
    pipeline.set_state(gst::State::Playing)?;
    let (mut encoded, mut begun) = (Vec::new(), 0.0);
    for (number, frame) in (0u64..).zip(frames) {
        // The first is a key frame and costs what a view has once in a while.
        if number == 1 {
            begun = cpu()?;
        }
        let mut buffer = gst::Buffer::from_slice(frame.bytes().to_vec());
        buffer
            .get_mut()
            .context("its only owner")?
            .set_pts(gst::ClockTime::from_nseconds(number * 1_000_000_000 / u64::from(RATE)));
        source.push_buffer(buffer)?;
        encoded.push(sink.pull_sample()?.buffer_owned().context("a picture")?);
    }
    let cores = (cpu()? - begun) / (f64::from(FRAMES - 1) / f64::from(RATE));
    pipeline.set_state(gst::State::Null)?;
    Ok((cores, encoded))
}

/// By the encoder of this node, whose packets are put together again.
fn as_views_do(frames: &[Canvas], kbps: u32) -> anyhow::Result<(f64, Vec<gst::Buffer>)> {
    let settings = EncoderSettings {
        encoding: VideoEncoding::Vp8,
        size: VIEW,
        framerate: Some(RATE),
        content: Content::Camera,
    };
    let (tell, told) = std::sync::mpsc::channel();
    let sink = PacketSink {
        packet: Box::new(move |packet: &[u8]| drop(tell.send(packet.to_vec()))),
        key_frame: Box::new(|| {}),
    };
    let from = Continuity { sequence: 0, timestamp_offset: 0 };
    let encoder = VideoEncoder::start(&settings, kbps, from, sink, |reason| panic!("{reason}"))?;
    let mut sheets = Sheets::new(Colour::from_rgb(0));
    let (mut encoded, mut begun) = (Vec::new(), 0.0);
    for (number, frame) in (0u32..).zip(frames) {
        if number == 1 {
            begun = cpu()?;
        }
        let picture = frame.picture().context("a canvas is a picture")?;
        let sheet = sheets.get(&picture, number.into(), VIEW).context("memory")?;
        let at = Duration::from_secs(1) * number / RATE;
        encoder.push(&sheet, at);
        let mut whole = Vec::new();
        loop {
            let packet = told.recv_timeout(Duration::from_secs(10))?;
            // Behind the header and a descriptor with an id of fifteen bits (RFC 7741 §4.2).
            whole.extend_from_slice(&packet[16..]);
            if RtpHeader::parse(&packet)?.marker {
                break;
            }
        }
        let mut buffer = gst::Buffer::from_slice(whole);
        buffer.get_mut().context("its only owner")?.set_pts(gst::ClockTime::try_from(at)?);
        encoded.push(buffer);
    }
    Ok(((cpu()? - begun) / (f64::from(FRAMES - 1) / f64::from(RATE)), encoded))
}

/// Mean PSNR and SSIM of the luma.
fn compare(frames: &[Canvas], encoded: &[gst::Buffer]) -> anyhow::Result<(f64, f64)> {
    let launch = format!(
        "appsrc name=in format=time caps=video/x-vp8,width={},height={},framerate={RATE}/1 ! vp8dec threads=1 ! appsink name=out sync=false",
        VIEW.width, VIEW.height
    );
    let pipeline = gst::parse::launch(&launch)?.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
    let source = pipeline.by_name("in").and_then(|e| e.downcast::<AppSrc>().ok()).context("a source")?;
    let sink = pipeline.by_name("out").and_then(|e| e.downcast::<AppSink>().ok()).context("a sink")?;
    pipeline.set_state(gst::State::Playing)?;
    let (mut psnr, mut ssim) = (0.0, 0.0);
    for (frame, picture) in frames.iter().zip(encoded) {
        source.push_buffer(picture.clone())?;
        let sample = sink.pull_sample()?;
        let shown = sample.buffer().context("a picture")?.map_readable()?;
        let pixels = (VIEW.width * VIEW.height) as usize;
        let (one, other) = (&frame.bytes()[..pixels], &shown[..pixels]);
        let error: u64 = one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
        psnr += 10.0 * (255.0f64.powi(2) * pixels as f64 / error.max(1) as f64).log10();
        ssim += similarity(one, other);
    }
    pipeline.set_state(gst::State::Null)?;
    Ok((psnr / frames.len() as f64, ssim / frames.len() as f64))
}

/// Structural similarity (Wang et al. 2004) by blocks of 8×8.
fn similarity(one: &[u8], other: &[u8]) -> f64 {
    let (width, height) = (VIEW.width as usize, VIEW.height as usize);
    let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
    let block = |x: usize, y: usize| {
        let (mut a, mut b, mut aa, mut bb, mut ab) = (0u32, 0u32, 0u32, 0u32, 0u32);
        for row in y..y + 8 {
            for (p, q) in one[row * width + x..][..8].iter().zip(&other[row * width + x..][..8]) {
                let (p, q) = (u32::from(*p), u32::from(*q));
                (a, b, aa, bb, ab) = (a + p, b + q, aa + p * p, bb + q * q, ab + p * q);
            }
        }
        let [a, b, aa, bb, ab] = [a, b, aa, bb, ab].map(|sum| f64::from(sum) / 64.0);
        let (va, vb, cov) = (aa - a * a, bb - b * b, ab - a * b);
        (2.0 * a * b + c1) * (2.0 * cov + c2) / ((a * a + b * b + c1) * (va + vb + c2))
    };
    let places = (0..height / 8).flat_map(|y| (0..width / 8).map(move |x| (x * 8, y * 8)));
    let (sum, count) = places.fold((0.0, 0usize), |(sum, count), (x, y)| (sum + block(x, y), count + 1));
    sum / count as f64
}
