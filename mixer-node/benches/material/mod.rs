//! What participants send: somebody who talks before a still background, in several sizes, as RTP packets.

#![allow(dead_code, reason = "each bench uses a part")]

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use anyhow::Context as _;
use kaigi_media::rtp::RtpHeader;
use kaigi_mixer_node::video::{
    Canvas, Colour, Content, Continuity, EncoderSettings, Frame, PacketSink, Picture, Plane, Rect, Sheets,
    Size, VideoEncoder, VideoEncoding,
};

/// Frames of the material, sent again and again.
pub(crate) const FRAMES: u32 = 150;
pub(crate) const RATE: u32 = 30;

/// User and system time of this process, in seconds.
pub(crate) fn cpu() -> anyhow::Result<f64> {
    ticks("/proc/self/stat")
}

pub(crate) fn ticks(file: &str) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(file)?;
    let (_, fields) = stat.rsplit_once(')').context("no fields")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let [user, system] = [fields[11].parse::<f64>()?, fields[12].parse::<f64>()?];
    // Linux tells them in hundredths, whatever the kernel's own tick.
    Ok((user + system) / 100.0)
}

/// A packet of the material as one of its repetition.
pub(crate) fn renumbered(packet: &[u8], sequence: u16, frame: u32) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(frame * (90_000 / RATE)).to_be_bytes());
    packet
}

/// The packets of each frame.
pub(crate) type Material = Vec<Vec<Vec<u8>>>;

/// Somebody who talks before a still background; the first frame is a key frame.
pub(crate) fn material(size: Size, kbps: u32) -> anyhow::Result<Material> {
    painted(size, kbps, |_, _| {})
}

/// The same with something painted on each frame.
pub(crate) fn painted(size: Size, kbps: u32, paint: impl Fn(&mut Canvas, u32)) -> anyhow::Result<Material> {
    let settings = EncoderSettings {
        encoding: VideoEncoding::Vp8,
        size,
        framerate: Some(RATE),
        content: Content::Camera,
    };
    let (tell, told) = channel();
    let sink = PacketSink {
        packet: Box::new(move |packet: &[u8]| drop(tell.send(packet.to_vec()))),
        key_frame: Box::new(|| {}),
    };
    let from = Continuity { sequence: 0, timestamp_offset: 0 };
    let encoder = VideoEncoder::start(&settings, kbps, from, sink, |reason| panic!("{reason}"))?;
    let mut sheets = Sheets::new(Colour::from_rgb(0));
    let mut frames = Vec::new();
    for number in 0..FRAMES {
        let mut canvas = talker(size, number);
        paint(&mut canvas, number);
        let picture = canvas.picture().context("a canvas is a picture")?;
        let sheet = sheets.get(&picture, u64::from(number), size).context("memory")?;
        encoder.push(&sheet, Duration::from_secs(1) * number / RATE);
        frames.push(frame(&told)?);
    }
    Ok(frames)
}

fn frame(packets: &Receiver<Vec<u8>>) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut frame = Vec::new();
    loop {
        let packet = packets.recv_timeout(Duration::from_secs(10))?;
        let last = RtpHeader::parse(&packet)?.marker;
        frame.push(packet);
        if last {
            return Ok(frame);
        }
    }
}

/// A textured room, a head that sways and a mouth that opens and closes, and the noise of a camera.
pub(crate) fn talker(size: Size, number: u32) -> Canvas {
    let mut canvas = Canvas::new(size, Colour([90, 120, 136]));
    let time = f64::from(number) / f64::from(RATE);
    let mut noise = number.wrapping_mul(747_796_405) | 1;
    let centre = (0.5 + 0.04 * (time * 1.3).sin(), 0.45 + 0.02 * (time * 2.1).cos());
    let mouth = 0.012 + 0.012 * (time * 9.0).sin();
    let mut rows = Vec::with_capacity((size.width * size.height) as usize);
    for y in 0..size.height {
        for x in 0..size.width {
            let (fx, fy) = (f64::from(x) / f64::from(size.width), f64::from(y) / f64::from(size.height));
            let (dx, dy) = (fx - centre.0, fy - centre.1);
            let head = (dx / 0.13).powi(2) + (dy / 0.28).powi(2);
            let lips = (dx / 0.05).powi(2) + ((dy - 0.14) / mouth).powi(2);
            let luma = if lips < 1.0 {
                60.0
            } else if head < 1.0 {
                150.0 + 20.0 * (dx * 40.0).sin() * (dy * 30.0).cos() - 30.0 * head
            } else {
                90.0 + 25.0 * (fx * 31.0).sin() * (fy * 23.0).sin() + 15.0 * (fx * 97.0 + fy * 71.0).sin()
            };
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            rows.push((luma + f64::from(noise >> 30) - 1.5).clamp(16.0, 235.0) as u8);
        }
    }
    let grey = vec![128; (size.width * size.height / 4) as usize];
    let half = Size { width: size.width / 2, height: size.height / 2 };
    let plane = |data, size: Size| Plane::new(data, size.width as usize, size);
    let planes = [plane(&rows, size), plane(&grey, half), plane(&grey, half)];
    if let [Some(luma), Some(u), Some(v)] = planes {
        let whole = Rect { x: 0, y: 0, size };
        canvas.blit(&Picture { planes: [luma, u, v] }, whole, 0, 0);
    }
    canvas
}
